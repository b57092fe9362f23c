"""The compiled side of the fused activations: row by row, as `fused` describes them.

1. `_row_values`: what AbsTopK sees of a row, RMSNorm, GELU or ReLU of it; otherwise it sees the row itself. Of `n`
   entries the first `width` are computed; where that is not all, the others are those beside them, `period` rows of
   which serve all rows in turn.
2. `forward`: values, which of them stay (`bits.kept_of`), the kept ones, or held ones where a mask says so.
3. `by_bits`: the gradient through AbsTopK and GELU or ReLU, by a bit an entry that says what stayed.
4. `backward`: the gradient where there is a norm or a mask, from the row itself: values and what stayed are computed
   again. It also sums over rows what a norm's weight and a mask get, and tells what each row gives the entries beside.
5. `combine`: the sums of blocks of rows become sums over all rows.

A row fits into the fastest caches, so however many loops go over it, memory is read and written once. A loop that
writes to two places and reads from many is no vector code, since LLVM would have to tell all of them apart.
"""

from typing import no_type_check

import numpy as np
from numba import carray, njit

from sparse_circuits.kernels.bits import kept_of, keys_of
from sparse_circuits.kernels.claims import first_turn, narrow, pointer, share
from sparse_circuits.kernels.floats import gelu, gelu_and_slope, gelu_slope, rounded, widened
from sparse_circuits.kernels.row_loops import keep_row, select_row
from sparse_circuits.kernels.sizes import BLOCK_ROWS, GELU, NORM, PLAIN, RELU

_ZERO, _ONE = np.float32(0), np.float32(1)


@njit(fastmath={"reassoc", "contract"}, error_model="numpy")
@no_type_check
def _root(x, first, n, epsilon):
    """1 / RMS of a row."""
    total = _ZERO
    for j in range(n):
        value = widened(x[first + j])
        total += value * value
    return _ONE / np.sqrt(total / np.float32(n) + np.float32(epsilon))


@njit
@no_type_check
def _normed(x, root, weight, unit):
    """An entry after RMSNorm: bits of its dtype."""
    return rounded(widened(x) * root * weight, unit)


@njit
@no_type_check
def _values(kind, x, first, n, root, weight, unit, values):
    """What AbsTopK sees of the row from `first` on: bits of its dtype."""
    if kind == NORM:
        for j in range(n):
            values[j] = _normed(x[first + j], root, weight[j], unit)
    elif kind == GELU:
        for j in range(n):
            values[j] = rounded(gelu(widened(x[first + j])), unit)
    elif kind == RELU:
        for j in range(n):
            value = widened(x[first + j])
            values[j] = narrow(0, unit) if value <= _ZERO else x[first + j]


@njit
@no_type_check
def _row_values(job, row, x, root, weight, unit, values):
    """`_values` of a row, and the entries beside them."""
    width, more = job.width, job.n - job.width
    _values(job.kind, x, row * job.x_step, width, root, weight, unit, values)
    if more > 0:
        beside, first = pointer(job.beside, unit), (row % job.period) * more
        for j in range(more):
            values[width + j] = beside[first + j]


@njit
@no_type_check
def _hold_part(values, keys, threshold, mask, base, y, first):
    """mask * kept + base, from the entry `first` on; kept are those whose key is at least the threshold."""
    for j in range(keys.size):
        kept = widened(values[first + j]) if keys[j] >= threshold else _ZERO
        y[first + j] = rounded(mask[j] * kept + base[j], threshold)


@njit
@no_type_check
def _hold_row(values, keys, cut, threshold, mask, base, unit, y):
    """What is kept of a row, or held: before the cut keys from the threshold on, after it those above."""
    for after in range(2):
        start, stop = (cut, keys.size) if after else (0, cut)
        if start < stop:
            part = slice(start, stop)
            _hold_part(values, keys[part], narrow(threshold + after, unit), mask[part], base[part], y, start)


@njit
@no_type_check
def _finish_row(job, row, values, keys, threshold, cut, mask, base, result):
    """Write the row of the result: what stays of the values, or is held.

    Where it goes around the cache, what is held is put together in `result` first.
    """
    n, unit, past, size = job.n, job.unit, job.past_cache, keys.itemsize
    magnitude, ceiling, t = narrow(job.magnitude, unit), narrow(job.ceiling, unit), narrow(threshold, unit)
    bits = job.bits + row * job.step if job.bits != 0 else 0
    # Memory would have nothing to do while the next row is looked at.
    ahead = job.x + (row + 1) * job.x_step * size if past != 0 else 0
    if job.kind == RELU and threshold == 0:
        t, cut = narrow(1, unit), n  # zeros that stay have no slope, and get no bit
    there, zero = job.y + row * n * size, narrow(0, unit)
    if job.mask == 0:
        keep_row(values, there, bits, n, size, t, cut, magnitude, ceiling, past, ahead)
        return
    target = result.ctypes.data if past != 0 else there
    _hold_row(pointer(values, unit), keys, cut, threshold, mask, base, unit, pointer(target, unit))
    if past != 0:  # all of the row
        keep_row(target, there, 0, n, size, zero, n, zero, zero, past, ahead)


@no_type_check
def forward(job_at):
    """`total` rows x -> y, and of each row what the gradient needs: threshold and cut, the root of a norm, or bits."""
    job = carray(job_at, 1)[0]
    n, unit = job.n, job.unit
    x, weight = pointer(job.x, unit), pointer(job.weight, _ZERO)
    rows, roots = pointer(job.kept, np.int32(0)), pointer(job.roots, _ZERO)
    magnitude, ceiling = narrow(job.magnitude, unit), narrow(job.ceiling, unit)
    keys, room, result = np.zeros_like(carray(x, n)), np.empty_like(carray(x, n)), np.empty_like(carray(x, n))
    values = pointer(room.ctypes.data, unit)
    mask, base = np.ones(n, np.float32), np.zeros(n, np.float32)
    if job.mask != 0:
        mask = carray(pointer(job.mask, _ZERO), n)
        base = (_ONE - mask) * carray(pointer(job.held, _ZERO), n)
    threshold, root = 0, _ONE
    turn = first_turn(job)
    while True:
        start, stop, turn = share(job, turn)
        if start == stop:
            break
        for row in range(start, stop):
            first, cut, seen = row * job.x_step, n, room.ctypes.data
            if job.kind == NORM:
                root = _root(x, first, job.width, job.epsilon)
                roots[row] = root
            if job.kind == PLAIN:
                seen = job.x + first * room.itemsize
            _row_values(job, row, x, root, weight, unit, values)
            if job.k < n:
                keys_of(pointer(seen, unit), 0, n, magnitude, ceiling, keys)
                threshold, cut = kept_of(keys, n, job.k, threshold, job.stride, ceiling)
            rows[2 * row], rows[2 * row + 1] = threshold, cut
            _finish_row(job, row, seen, keys, threshold, cut, mask, base, result)


@no_type_check
def by_bits(job_at):
    """`total` rows: g -> gx where the bits are set, times the slope of GELU of x if it is that."""
    job = carray(job_at, 1)[0]
    n, unit, past = job.n, job.unit, job.past_cache
    x, g, gradient = pointer(job.x, unit), pointer(job.g, unit), np.empty_like(carray(pointer(job.gx, unit), n))
    size = gradient.itemsize
    turn = first_turn(job)
    while True:
        start, stop, turn = share(job, turn)
        if start == stop:
            break
        for row in range(start, stop):
            here = row * n
            given = job.g + here * size
            if job.kind == GELU:
                first, given = row * job.x_step, gradient.ctypes.data
                for j in range(n):
                    gradient[j] = rounded(widened(g[here + j]) * gelu_slope(widened(x[first + j])), unit)
            select_row(given, job.gx + here * size, job.bits + row * job.step, n, size, unit, past)


@njit
@no_type_check
def _is_kept(value, magnitude, ceiling, threshold):
    return narrow(min(value & magnitude, ceiling), threshold) >= threshold


@njit
@no_type_check
def _values_and_slopes(kind, x, first, n, unit, values, slopes):
    """The same as `_values` for GELU and ReLU, and the slopes."""
    if kind == GELU:
        for j in range(n):
            value, slope_here = gelu_and_slope(widened(x[first + j]))
            values[j] = rounded(value, unit)
            slopes[j] = slope_here
    else:
        _values(kind, x, first, n, _ONE, slopes, unit, values)
        for j in range(n):
            slopes[j] = _ZERO if widened(x[first + j]) <= _ZERO else _ONE


@njit
@no_type_check
def _add_to_mask(values, at, size, magnitude, ceiling, threshold, g, here, held, sums):
    """Add what a mask gets of a row: g * (kept - held)."""
    for j in range(size):
        value = values[at + j]
        kept = widened(value) if _is_kept(value, magnitude, ceiling, threshold) else _ZERO
        sums[j] += widened(g[here + j]) * (kept - held[j])


@njit
@no_type_check
def _write_gradient(values, at, size, magnitude, ceiling, threshold, g, here, mask, gx):
    """g * mask where a value was kept."""
    for j in range(size):
        gradient = widened(g[here + j]) * mask[j]
        gradient = gradient if _is_kept(values[at + j], magnitude, ceiling, threshold) else _ZERO
        gx[here + j] = rounded(gradient, threshold)


@njit
@no_type_check
def _write_sloped(values, at, size, magnitude, ceiling, threshold, g, here, mask, slopes, gx):
    """g * mask * slope where a value was kept."""
    for j in range(size):
        gradient = widened(g[here + j]) * mask[j] * slopes[j]
        gradient = gradient if _is_kept(values[at + j], magnitude, ceiling, threshold) else _ZERO
        gx[here + j] = rounded(gradient, threshold)


@njit(fastmath={"reassoc"})
@no_type_check
def _through_norm(x, at, size, root, weight, magnitude, ceiling, threshold, g, here, gradient, of_weight):
    """The gradient of x / RMS for a part of a row; adds up that of the weight, and returns the sum of the products."""
    total = _ZERO
    for j in range(size):
        entry = widened(x[at + j])
        kept = _is_kept(_normed(x[at + j], root, weight[j], threshold), magnitude, ceiling, threshold)
        outer = widened(g[here + j]) if kept else _ZERO
        inner = outer * weight[j]
        of_weight[j] += outer * (entry * root)
        gradient[j] = inner
        total += inner * entry
    return total


@njit(error_model="numpy")
@no_type_check
def _write_norm(x, first, n, root, product, gradient, unit, gx, here):
    """The gradient of x, given that of x / RMS and the sum of its products with x."""
    shift = root * root * root * product / np.float32(n)
    for j in range(n):
        gx[here + j] = rounded(root * gradient[j] - shift * widened(x[first + j]), unit)


@njit
@no_type_check
def _masked(g, here, n, mask, result):
    for j in range(n):
        result[j] = widened(g[here + j]) * mask[j]


@njit
@no_type_check
def _norm_back(job, x, row, g, here, weight, mask, room, gx, of_weight):
    """The gradient of a row of x through RMSNorm and AbsTopK."""
    width, first, root = job.width, row * job.x_step, pointer(job.roots, _ZERO)[row]
    kept, magnitude, ceiling = pointer(job.kept, np.int32(0)), narrow(job.magnitude, job.unit), job.ceiling
    threshold, cut, product = kept[2 * row], kept[2 * row + 1], _ZERO
    gradient = room[0]
    for after in range(2):
        start, stop = (cut, width) if after else (0, min(cut, width))
        if start < stop:
            t, part, at, size = narrow(threshold + after, job.unit), slice(start, stop), first + start, stop - start
            given = (magnitude, narrow(ceiling, job.unit), t)
            if job.mask != 0:
                _masked(g, here + start, size, mask[part], room[1])
                masked = pointer(room[1].ctypes.data, np.int32(0))
                product += _through_norm(
                    x, at, size, root, weight[part], *given, masked, 0, gradient[part], of_weight[part]
                )
            else:
                product += _through_norm(
                    x, at, size, root, weight[part], *given, g, here + start, gradient[part], of_weight[part]
                )
    if job.gx != 0:
        _write_norm(x, first, width, root, product, gradient, job.unit, gx, row * width)


@njit
@no_type_check
def _write_wide(values, at, size, magnitude, ceiling, threshold, g, here, mask, result):
    """g * mask where a value was kept, in float32."""
    for j in range(size):
        gradient = widened(g[here + j]) * mask[j]
        result[j] = gradient if _is_kept(values[at + j], magnitude, ceiling, threshold) else _ZERO


@njit
@no_type_check
def _beside_back(job, row, g, here, mask):
    """What a row gives the entries beside."""
    n, width, unit, kept = job.n, job.width, job.unit, pointer(job.kept, np.int32(0))
    more, threshold, cut = n - width, kept[2 * row], kept[2 * row + 1]
    beside = pointer(job.beside, unit)
    first, result = (row % job.period) * more, carray(pointer(job.of_beside + 4 * row * more, _ZERO), more)
    for after in range(2):
        start, stop = (max(cut, width), n) if after else (width, cut)
        if start < stop:
            given = (narrow(job.magnitude, unit), narrow(job.ceiling, unit), narrow(threshold + after, unit))
            part, size = slice(start - width, stop - width), stop - start
            _write_wide(beside, first + start - width, size, *given, g, here + start, mask[start:stop], result[part])


@no_type_check
def backward(job_at):
    """`total` blocks of BLOCK_ROWS of `rows` rows: g -> gx, and the sums of each block for weight and mask."""
    job = carray(job_at, 1)[0]
    n, unit, kind = job.n, job.unit, job.kind
    x, g, gx, kept = (
        pointer(job.x, unit),
        pointer(job.g, unit),
        pointer(job.gx, unit),
        pointer(job.kept, np.int32(0)),
    )
    width = job.width
    weight, held = carray(pointer(job.weight, _ZERO), width), carray(pointer(job.held, _ZERO), n)
    mask = carray(pointer(job.mask, _ZERO), n) if job.mask != 0 else np.ones(n, np.float32)
    magnitude, ceiling = narrow(job.magnitude, unit), narrow(job.ceiling, unit)
    row_values, slopes, room = np.empty_like(carray(x, n)), np.empty(n, np.float32), np.empty((2, n), np.float32)
    values, at = pointer(row_values.ctypes.data, unit), 0
    turn = first_turn(job)
    while True:
        start, stop, turn = share(job, turn)
        if start == stop:
            break
        for row in range(start * BLOCK_ROWS, min(job.rows, stop * BLOCK_ROWS)):
            block = 4 * (row // BLOCK_ROWS)
            of_mask = carray(pointer(job.of_mask + block * n, _ZERO), n)
            of_weight = carray(pointer(job.of_weight + block * width, _ZERO), width) if job.of_weight != 0 else slopes
            first, here, threshold, cut = row * job.x_step, row * n, kept[2 * row], kept[2 * row + 1]
            if kind == PLAIN:
                values, at = x, first
            elif kind != NORM:
                _values_and_slopes(kind, x, first, n, unit, values, slopes)
            elif job.of_mask != 0:
                _row_values(job, row, x, pointer(job.roots, _ZERO)[row], pointer(job.weight, _ZERO), unit, values)
            if job.of_beside != 0:
                _beside_back(job, row, g, here, mask)
            if kind == NORM and (job.gx != 0 or job.of_weight != 0):
                _norm_back(job, x, row, g, here, weight, mask, room, gx, of_weight)
            for after in range(2):
                begin, end = (cut, n) if after else (0, cut)
                if begin < end:
                    t, part, size = narrow(threshold + after, unit), slice(begin, end), end - begin
                    what = (values, at + begin, size, magnitude, ceiling, t, g, here + begin)
                    if job.of_mask != 0:
                        _add_to_mask(*what, held[part], of_mask[part])
                    if kind == PLAIN and job.gx != 0:
                        _write_gradient(*what, mask[part], gx)
                    elif kind != NORM and job.gx != 0:
                        _write_sloped(*what, mask[part], slopes[part], gx)
    # Memory is freed after the last line that names it.
    row_values[0] = narrow(0, unit)


@no_type_check
def combine(job_at):
    """The sums of x, `rows` rows of n float32, in float64: the columns claimed of the `total` n."""
    job = carray(job_at, 1)[0]
    x, y = pointer(job.x, _ZERO), pointer(job.y, _ZERO)
    sums = np.empty(job.claim, np.float64)
    turn = first_turn(job)
    while True:
        start, stop, turn = share(job, turn)
        if start == stop:
            break
        sums[:] = 0.0
        for row in range(job.rows):
            first = row * job.total + start
            for j in range(stop - start):
                sums[j] += x[first + j]
        for j in range(stop - start):
            y[start + j] = sums[j]
