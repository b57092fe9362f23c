"""The compiled side of the fused activations: row by row, as `fused` describes them.

1. `_values`: what AbsTopK sees of a row, RMSNorm, GELU or ReLU of it, or the row itself.
2. `forward`: values, which of them stay (`bits.kept_of`), the kept ones, or held ones where a mask says so, on top of
   the residual stream if there is one.
3. `slope`: the gradient through AbsTopK and GELU or ReLU, from what was kept.
4. `backward`: the gradient through AbsTopK and all others, from the row itself: values and kept ones are computed
   again, which costs less than to store and to read them. It also sums over rows what a norm's weight and a mask get.
5. `combine`: the sums of blocks of rows become sums over all rows.

A row fits into the fastest caches, so however many loops go over it, memory is read and written once.
"""

from typing import no_type_check

import numpy as np
from numba import carray, njit

from sparse_circuits.kernels.bits import kept_of, keys_of
from sparse_circuits.kernels.floats import converted, gelu, gelu_slope, rounded, widened
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


@njit(fastmath={"reassoc", "contract"})
@no_type_check
def _product(gradient, x, first, n):
    """The sum of products of `gradient` and a row."""
    total = _ZERO
    for j in range(n):
        total += gradient[j] * widened(x[first + j])
    return total


@njit
@no_type_check
def _values(kind, x, first, n, root, weight, unit, values):
    """What AbsTopK sees of the row from `first` on: bits of its dtype."""
    if kind == NORM:
        for j in range(n):
            values[j] = rounded(widened(x[first + j]) * root * weight[j], unit)
    elif kind == GELU:
        for j in range(n):
            values[j] = rounded(gelu(widened(x[first + j])), unit)
    elif kind == RELU:
        for j in range(n):
            value = widened(x[first + j])
            values[j] = narrow(0, unit) if value <= _ZERO else x[first + j]
    else:
        for j in range(n):
            values[j] = x[first + j]


@njit
@no_type_check
def _write(values, keys, size, threshold, out, y, first):
    """The values whose key is at least `threshold`, +0.0 for the others."""
    zero = narrow(0, threshold)
    for j in range(size):
        y[first + j] = converted(values[j] if keys[j] >= threshold else zero, out)


@njit
@no_type_check
def _write_held(values, keys, size, threshold, mask, base, out, y, first):
    """mask * kept + base."""
    for j in range(size):
        kept = widened(values[j]) if keys[j] >= threshold else _ZERO
        y[first + j] = converted(rounded(mask[j] * kept + base[j], threshold), out)


@njit
@no_type_check
def _write_added(values, keys, size, threshold, mask, base, stream, y, first):
    """stream + (mask * kept + base), all but the values float32."""
    for j in range(size):
        kept = widened(values[j]) if keys[j] >= threshold else _ZERO
        y[first + j] = stream[first + j] + widened(rounded(mask[j] * kept + base[j], threshold))


@njit
@no_type_check
def _write_row(job, values, keys, cut, threshold, mask, base, y, first):
    """Write what is kept of a row: from the threshold on before the cut, above it after that."""
    for after in range(2):
        start, stop = (cut, values.size) if after else (0, cut)
        if start < stop:
            part, size, t = slice(start, stop), stop - start, narrow(threshold + after, job.unit)
            if job.stream != 0:
                stream, sums = pointer(job.stream, _ZERO), pointer(job.y, _ZERO)
                _write_added(values[part], keys[part], size, t, mask[part], base[part], stream, sums, first + start)
            elif job.mask != 0:
                _write_held(values[part], keys[part], size, t, mask[part], base[part], job.out, y, first + start)
            else:
                _write(values[part], keys[part], size, t, job.out, y, first + start)


@no_type_check
def forward(job_at):
    """`total` rows x -> y, and what `backward` needs of a row: the threshold, the cut, the root of a norm."""
    job = carray(job_at, 1)[0]
    n, unit = job.n, job.unit
    x, y, weight = pointer(job.x, unit), pointer(job.y, job.out), pointer(job.weight, _ZERO)
    kept, roots = pointer(job.kept, np.int32(0)), pointer(job.roots, _ZERO)
    magnitude, ceiling = narrow(job.magnitude, unit), narrow(job.ceiling, unit)
    values, keys = np.empty_like(carray(x, n)), np.zeros_like(carray(x, n))
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
            first = row * job.x_step
            if job.kind == NORM:
                root = _root(x, first, n, job.epsilon)
                roots[row] = root
            _values(job.kind, x, first, n, root, weight, unit, values)
            cut = n
            if job.k < n:
                keys_of(values, 0, n, magnitude, ceiling, keys)
                threshold, cut = kept_of(keys, n, job.k, threshold, job.stride, ceiling)
            if job.kept != 0:
                kept[2 * row] = threshold
                kept[2 * row + 1] = cut
            _write_row(job, values, keys, cut, threshold, mask, base, y, row * n)


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
            for j in range(cut, n):
                gradient = rounded(widened(g[here + j]) * gelu_slope(widened(x[first + j])), unit)
                gx[here + j] = gradient if (y[here + j] & magnitude) != zero else zero


@njit
@no_type_check
def _through(keys, size, threshold, g, here, gradient):
    """The gradient where a value was kept, in float32."""
    for j in range(size):
        gradient[j] = widened(g[here + j]) if keys[j] >= threshold else _ZERO


@njit
@no_type_check
def _through_mask(values, keys, size, threshold, g, here, held, sums):
    """Add what a mask gets of a row: g * (kept - held)."""
    for j in range(size):
        kept = widened(values[j]) if keys[j] >= threshold else _ZERO
        sums[j] += widened(g[here + j]) * (kept - held[j])


@njit
@no_type_check
def _into(kind, gradient, x, first, n, root, weight, unit, gx, here):
    """Write the gradient of a row of x, given that of its values."""
    if kind == NORM:
        for j in range(n):
            gradient[j] *= weight[j]
        shift = root * root * root * _product(gradient, x, first, n) / np.float32(n)
        for j in range(n):
            gx[here + j] = rounded(root * gradient[j] - shift * widened(x[first + j]), unit)
    elif kind == GELU:
        for j in range(n):
            gx[here + j] = rounded(gradient[j] * gelu_slope(widened(x[first + j])), unit)
    elif kind == RELU:
        for j in range(n):
            gx[here + j] = rounded(_ZERO if widened(x[first + j]) <= _ZERO else gradient[j], unit)
    else:
        for j in range(n):
            gx[here + j] = rounded(gradient[j], unit)


@no_type_check
def backward(job_at):
    """`total` blocks of BLOCK_ROWS of `rows` rows: g -> gx, and the sums of each block for weight and mask."""
    job = carray(job_at, 1)[0]
    n, unit = job.n, job.unit
    x, g, gx, weight = pointer(job.x, unit), pointer(job.g, job.out), pointer(job.gx, unit), pointer(job.weight, _ZERO)
    mask, held = pointer(job.mask, _ZERO), carray(pointer(job.held, _ZERO), n)
    kept, roots = pointer(job.kept, np.int32(0)), pointer(job.roots, _ZERO)
    magnitude, ceiling = narrow(job.magnitude, unit), narrow(job.ceiling, unit)
    values, keys, gradient = np.empty_like(carray(x, n)), np.zeros_like(carray(x, n)), np.empty(n, np.float32)
    root = _ONE
    turn = first_turn(job)
    while True:
        start, stop, turn = share(job, turn)
        if start == stop:
            break
        for block in range(start, stop):
            of_weight = pointer(job.of_weight + 4 * n * block, _ZERO)
            of_mask = carray(pointer(job.of_mask + 4 * n * block, _ZERO), n)
            for row in range(block * BLOCK_ROWS, min(job.rows, (block + 1) * BLOCK_ROWS)):
                first, here, cut = row * job.x_step, row * n, kept[2 * row + 1]
                t, after = narrow(kept[2 * row], unit), narrow(kept[2 * row] + 1, unit)
                if job.kind == NORM:
                    root = roots[row]
                _values(job.kind, x, first, n, root, weight, unit, values)
                if job.k < n:
                    keys_of(values, 0, n, magnitude, ceiling, keys)
                if job.of_mask != 0:
                    _through_mask(values, keys, cut, t, g, here, held, of_mask)
                    if cut < n:
                        rest = slice(cut, n)
                        _through_mask(
                            values[rest], keys[rest], n - cut, after, g, here + cut, held[rest], of_mask[rest]
                        )
                if job.gx == 0 and job.of_weight == 0:
                    continue
                _through(keys, cut, t, g, here, gradient)
                if cut < n:
                    _through(keys[cut:], n - cut, after, g, here + cut, gradient[cut:])
                if job.mask != 0:
                    for j in range(n):
                        gradient[j] *= mask[j]
                if job.of_weight != 0:
                    for j in range(n):
                        of_weight[j] += gradient[j] * (widened(x[first + j]) * root)
                if job.gx != 0:
                    _into(job.kind, gradient, x, first, n, root, weight, unit, gx, here)


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
