"""The compiled side of the fused activations: row by row, as `fused` describes them.

1. `_values`: what AbsTopK sees of a row, RMSNorm, GELU or ReLU of it; otherwise it sees the row itself.
2. `forward`: values, which of them stay (`bits.kept_of`), the kept ones, or held ones where a mask says so, on top of
   the residual stream if there is one.
3. `slope`: the gradient through AbsTopK and GELU or ReLU, from what was kept.
4. `backward`: the gradient through AbsTopK and all others, from the row itself: values and kept ones are computed
   again, which costs less than to store and to read them. It also sums over rows what a norm's weight and a mask get.
5. `combine`: the sums of blocks of rows become sums over all rows.

A row fits into the fastest caches, so however many loops go over it, memory is read and written once. A loop that
writes to two places and reads from many is no vector code, since LLVM would have to tell all of them apart.
"""

from typing import no_type_check

import numpy as np
from numba import carray, njit

from sparse_circuits.kernels.bits import kept_of, keys_of
from sparse_circuits.kernels.floats import converted, gelu, gelu_and_slope, gelu_slope, rounded, widened
from sparse_circuits.kernels.threads import first_turn, narrow, pointer, share

# Rows whose sums are float32; sums of such blocks are float64. Fixed, so that no sum depends on the threads.
BLOCK_ROWS = 64
PLAIN, NORM, GELU, RELU = range(4)
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
def _write(values, at, keys, size, threshold, out, y, first):
    """The values whose key is at least `threshold`, +0.0 for the others."""
    zero = narrow(0, threshold)
    for j in range(size):
        y[first + j] = converted(values[at + j] if keys[j] >= threshold else zero, out)


@njit
@no_type_check
def _write_held(values, at, keys, size, threshold, mask, base, out, y, first):
    """mask * kept + base."""
    for j in range(size):
        kept = widened(values[at + j]) if keys[j] >= threshold else _ZERO
        y[first + j] = converted(rounded(mask[j] * kept + base[j], threshold), out)


@njit
@no_type_check
def _write_added(values, at, keys, size, threshold, mask, base, stream, y, first):
    """stream + (mask * kept + base), all but the values float32."""
    for j in range(size):
        kept = widened(values[at + j]) if keys[j] >= threshold else _ZERO
        y[first + j] = stream[first + j] + widened(rounded(mask[j] * kept + base[j], threshold))


@njit
@no_type_check
def _write_row(job, values, at, keys, cut, threshold, mask, base, y, first):
    """Write what is kept of a row: from the threshold on before the cut, above it after that."""
    for after in range(2):
        start, stop = (cut, keys.size) if after else (0, cut)
        if start < stop:
            part, size, t = slice(start, stop), stop - start, narrow(threshold + after, job.unit)
            here, there = at + start, first + start
            if job.stream != 0:
                stream, sums = pointer(job.stream, _ZERO), pointer(job.y, _ZERO)
                _write_added(values, here, keys[part], size, t, mask[part], base[part], stream, sums, there)
            elif job.mask != 0:
                _write_held(values, here, keys[part], size, t, mask[part], base[part], job.out, y, there)
            else:
                _write(values, here, keys[part], size, t, job.out, y, there)


@no_type_check
def forward(job_at):
    """`total` rows x -> y, and what `backward` needs of a row: the threshold, the cut, the root of a norm."""
    job = carray(job_at, 1)[0]
    n, unit = job.n, job.unit
    x, y, weight = pointer(job.x, unit), pointer(job.y, job.out), pointer(job.weight, _ZERO)
    kept, roots = pointer(job.kept, np.int32(0)), pointer(job.roots, _ZERO)
    magnitude, ceiling = narrow(job.magnitude, unit), narrow(job.ceiling, unit)
    keys, room = np.zeros_like(carray(x, n)), np.empty_like(carray(x, n))
    values, at = pointer(room.ctypes.data, unit), 0
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
            first, cut = row * job.x_step, n
            if job.kind == NORM:
                root = _root(x, first, n, job.epsilon)
                roots[row] = root
            if job.kind == PLAIN:
                values, at = x, first
            _values(job.kind, x, first, n, root, weight, unit, values)
            if job.k < n:
                keys_of(values, at, n, magnitude, ceiling, keys)
                threshold, cut = kept_of(keys, n, job.k, threshold, job.stride, ceiling)
            kept[2 * row] = threshold
            kept[2 * row + 1] = cut
            _write_row(job, values, at, keys, cut, threshold, mask, base, y, row * n)


@no_type_check
def slope(job_at):
    """`total` rows: g -> gx, through GELU of x or ReLU and AbsTopK, whose result is y.

    A kept value is not zero, or it is one of the zeros before the cut of a row whose threshold is 0.
    """
    job = carray(job_at, 1)[0]
    n, unit = job.n, job.unit
    x, y, g, gx = pointer(job.x, unit), pointer(job.y, unit), pointer(job.g, unit), pointer(job.gx, unit)
    kept, magnitude, zero = pointer(job.kept, np.int32(0)), narrow(job.magnitude, unit), narrow(0, unit)
    turn = first_turn(job)
    while True:
        start, stop, turn = share(job, turn)
        if start == stop:
            break
        for row in range(start, stop):
            here = row * n
            if job.kind == RELU:
                for j in range(n):
                    gx[here + j] = zero if widened(y[here + j]) <= _ZERO else g[here + j]
                continue
            first = row * job.x_step
            cut = kept[2 * row + 1] if kept[2 * row] == 0 else 0
            for j in range(cut):
                gx[here + j] = rounded(widened(g[here + j]) * gelu_slope(widened(x[first + j])), unit)
            for j in range(n - cut):
                gradient = rounded(widened(g[here + cut + j]) * gelu_slope(widened(x[first + cut + j])), unit)
                gx[here + cut + j] = gradient if (y[here + cut + j] & magnitude) != zero else zero


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
    n, first, root = job.n, row * job.x_step, pointer(job.roots, _ZERO)[row]
    kept, magnitude, ceiling = pointer(job.kept, np.int32(0)), narrow(job.magnitude, job.unit), job.ceiling
    threshold, cut, product = kept[2 * row], kept[2 * row + 1], _ZERO
    gradient = room[0]
    for after in range(2):
        start, stop = (cut, n) if after else (0, cut)
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
        _write_norm(x, first, n, root, product, gradient, job.unit, gx, here)


@no_type_check
def backward(job_at):
    """`total` blocks of BLOCK_ROWS of `rows` rows: g -> gx, and the sums of each block for weight and mask."""
    job = carray(job_at, 1)[0]
    n, unit, kind = job.n, job.unit, job.kind
    x, g, gx, kept = (
        pointer(job.x, unit),
        pointer(job.g, job.out),
        pointer(job.gx, unit),
        pointer(job.kept, np.int32(0)),
    )
    weight, held = carray(pointer(job.weight, _ZERO), n), carray(pointer(job.held, _ZERO), n)
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
            sums = 4 * n * (row // BLOCK_ROWS)
            of_mask = carray(pointer(job.of_mask + sums, _ZERO), n)
            of_weight = carray(pointer(job.of_weight + sums, _ZERO), n) if job.of_weight != 0 else slopes
            first, here, threshold, cut = row * job.x_step, row * n, kept[2 * row], kept[2 * row + 1]
            if kind == PLAIN:
                values, at = x, first
            elif kind != NORM:
                _values_and_slopes(kind, x, first, n, unit, values, slopes)
            elif job.of_mask != 0:
                _values(kind, x, first, n, pointer(job.roots, _ZERO)[row], pointer(job.weight, _ZERO), unit, values)
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
