"""The compiled side of the GPU kernels that compute: Triton programs for AdamW and for a sparse product.

1. `adamw`: one optimiser step; what it writes it also counts, for the search of `gpu_topk`.
2. `wide`: a CSR matrix times dense activations at many positions. They are read with positions side by side, so that
   one nonzero meets a whole vector of them.
3. `narrow`: the same at few positions. The nonzeros of a row lie side by side instead, and are summed at the end.
"""

from typing import no_type_check

import triton
import triton.language as tl

from sparse_circuits.kernels.gpu_topk import as_keys, flush, tally


@triton.jit(do_not_specialize=["share", "tiles"])
@no_type_check
def adamw(
    parameter,
    gradient,
    exp_avg,
    exp_avg_sq,
    told,
    counts,
    size,
    share,
    tiles,
    first_decay,
    first_rate,
    second_decay,
    second_rate,
    epsilon,
    SHIFT: tl.constexpr,
    TILE: tl.constexpr,
    BINS: tl.constexpr,
    INFINITY: tl.constexpr,
):
    """AdamW on fp32, in place; with `counts` also the first level of the search among the new magnitudes.

    What changes from step to step is read from `told`: see `gpu.Told`.
    """
    program = tl.program_id(0)
    factor, decay = tl.load(told), tl.load(told + 1)
    correction, step_size = tl.load(told + 2), tl.load(told + 3)
    found = tl.zeros((BINS,), tl.int32)
    for tile in range(program * share, tl.minimum((program + 1) * share, tiles)):
        first = tl.cast(tile, tl.int64) * TILE
        at = tl.arange(0, TILE)
        inside = at < size - first
        slope = tl.load(gradient + first + at, mask=inside, other=0.0) * factor
        mean = tl.load(exp_avg + first + at, mask=inside, other=0.0)
        square = tl.load(exp_avg_sq + first + at, mask=inside, other=0.0)
        weight = tl.load(parameter + first + at, mask=inside, other=0.0) * decay
        # As torch.lerp: from the nearer end.
        change = slope - mean
        mean = tl.where(first_rate < 0.5, mean + first_rate * change, slope - first_decay * change)
        square = square * second_decay + second_rate * slope * slope
        deviation = tl.div_rn(tl.sqrt_rn(square), correction) + epsilon
        weight -= tl.div_rn(step_size * mean, deviation)
        tl.store(exp_avg + first + at, mean, mask=inside)
        tl.store(exp_avg_sq + first + at, square, mask=inside)
        tl.store(parameter + first + at, weight, mask=inside)
        if counts is not None:
            keys = tl.where(inside, as_keys(weight.to(tl.int32, bitcast=True), INFINITY), -1)
            found = tally(found, counts, None, keys, 0, BINS, SHIFT, TILE, BINS, 0)
    if counts is not None:
        flush(found, counts, None, BINS)


@triton.jit
@no_type_check
def wide(start, column, value, x, bias, y, rows, positions, stride, ROWS: tl.constexpr, POSITIONS: tl.constexpr):
    """A block of y[position, row]; `x` is [columns, positions], its rows `stride` apart.

    Each turn takes one nonzero of every row; the next ones are on their way while it is used. Programs that share
    positions follow each other, so that these columns of x stay in the cache.
    """
    blocks = tl.cdiv(rows, ROWS)
    row = tl.program_id(0) % blocks * ROWS + tl.arange(0, ROWS)
    position = (tl.program_id(0) // blocks).to(tl.int64) * POSITIONS + tl.arange(0, POSITIONS)
    present, there = row < rows, position < positions
    at = tl.load(start + row, mask=present, other=0)
    end = tl.load(start + row + 1, mask=present, other=0)
    total = tl.zeros((ROWS, POSITIONS), tl.float32)
    source = tl.load(column + at, mask=at < end, other=0)
    weight = tl.load(value + at, mask=at < end, other=0.0)
    for _ in range(tl.max(end - at, 0)):
        now, weight_now, used = source.to(tl.int64), weight.to(tl.float32), at < end
        at += 1
        source = tl.load(column + at, mask=at < end, other=0)
        weight = tl.load(value + at, mask=at < end, other=0.0)
        vectors = x + now[:, None] * stride + position[None, :]
        vectors = tl.load(vectors, mask=used[:, None] & there[None, :], other=0.0)
        total += weight_now[:, None] * vectors.to(tl.float32)
    if bias is not None:
        total += tl.load(bias + row, mask=present, other=0.0).to(tl.float32)[:, None]
    out = y + position[:, None] * rows + row[None, :]
    tl.store(out, tl.trans(total), mask=there[:, None] & present[None, :])


@triton.jit
@no_type_check
def narrow(start, column, value, x, bias, y, rows, columns, ROWS: tl.constexpr, NONZEROS: tl.constexpr):
    """A block of rows of y at one position; `x` is [positions, columns]."""
    blocks = tl.cdiv(rows, ROWS)
    row = tl.program_id(0) % blocks * ROWS + tl.arange(0, ROWS)
    position = (tl.program_id(0) // blocks).to(tl.int64)
    present = row < rows
    begin = tl.load(start + row, mask=present, other=0)
    end = tl.load(start + row + 1, mask=present, other=0)
    total = tl.zeros((ROWS, NONZEROS), tl.float32)
    for first in range(0, tl.max(end - begin, 0), NONZEROS):
        at = begin[:, None] + first + tl.arange(0, NONZEROS)[None, :]
        used = at < end[:, None]
        source = tl.load(column + at, mask=used, other=0)
        weight = tl.load(value + at, mask=used, other=0.0).to(tl.float32)
        total += weight * tl.load(x + position * columns + source, mask=used, other=0.0).to(tl.float32)
    answer = tl.sum(total, 1)
    if bias is not None:
        answer += tl.load(bias + row, mask=present, other=0.0).to(tl.float32)
    tl.store(y + position * rows + row, answer, mask=present)
