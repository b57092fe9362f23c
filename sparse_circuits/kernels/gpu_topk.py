"""The compiled side of the GPU kernels of sparsity: Triton programs for what `gpu` describes.

1. `rows`, `masked`: AbsTopK, one row a program with its keys in registers, and its gradient.
2. `columns`: the best few of each column, a strip of columns a program.
3. `count`, `cut`: the counting passes of the search over a matrix, and the pass that writes.

Floats arrive as integers of their size, so that one source serves fp32, bf16 and fp16, told apart by the bits of
infinity. A key is a magnitude's bits; that of every NaN is INFINITY + 1, that of a forced entry INFINITY + 2, and -1
stands where nothing is. Program numbers become 64-bit before they meet a size. Run-time type checks would come between
Triton and the functions: hence no_type_check.
"""

from typing import no_type_check

import triton
import triton.language as tl


@triton.jit
@no_type_check
def as_keys(bits, INFINITY: tl.constexpr):
    """The keys of floats that are given as integers."""
    magnitude: tl.constexpr = INFINITY | ((INFINITY & -INFINITY) - 1)
    return tl.minimum(bits.to(tl.int32) & magnitude, INFINITY + 1)


@triton.jit
@no_type_check
def _piece(row, start, n, BLOCK: tl.constexpr, INFINITY: tl.constexpr):
    """BLOCK entries of a row from `start` on, and their keys."""
    at = start + tl.arange(0, BLOCK)
    bits = tl.load(row + at, mask=at < n, other=0)
    return bits, tl.where(at < n, as_keys(bits, INFINITY), -1)


@triton.jit
@no_type_check
def _count_from(row, keys, t, n, BLOCK: tl.constexpr, LONG: tl.constexpr, INFINITY: tl.constexpr):
    """How many keys of a row are at least t; a long row is read again."""
    found = tl.sum((keys >= t).to(tl.int32), 0)
    if LONG:
        for start in range(BLOCK, n, BLOCK):
            more = _piece(row, start, n, BLOCK, INFINITY)[1]
            found += tl.sum((more >= t).to(tl.int32), 0)
    return found


@triton.jit
@no_type_check
def _probe(low, high, at_low, at_high, k, tries, INFINITY: tl.constexpr):
    """Where to count next between `low` and `high`: further and further from the top, then by interpolating the counts.

    Interpolation may creep: every third step halves the interval instead.
    """
    part = (at_low - k).to(tl.float32) / (at_low - at_high).to(tl.float32)
    between = low + (part * (high - low).to(tl.float32)).to(tl.int32)
    between = tl.where(tries % 3 == 2, low + ((high - low) >> 1), between)
    octave: tl.constexpr = INFINITY & -INFINITY
    below = high - (octave << tl.minimum(tries, 7))
    t = tl.where(low == 0, below, between)
    return tl.minimum(tl.maximum(t, low + 1), high - 1)


@triton.jit
@no_type_check
def _threshold(row, keys, n, k, BLOCK: tl.constexpr, LONG: tl.constexpr, INFINITY: tl.constexpr):
    """The largest t such that k keys of the row or more are at least t; how many are; how many are above t.

    Where exactly k keys are at least t the search stops early: t may then be smaller, and the last number is not final.
    """
    largest = tl.max(keys, 0)
    if LONG:
        for start in range(BLOCK, n, BLOCK):
            largest = tl.maximum(largest, tl.max(_piece(row, start, n, BLOCK, INFINITY)[1], 0))
    low, high = largest * 0, largest + 1
    at_low, at_high = low + n, low
    tries = low
    while high - low > 1:
        t = _probe(low, high, at_low, at_high, k, tries, INFINITY)
        found = _count_from(row, keys, t, n, BLOCK, LONG, INFINITY)
        enough = found >= k
        high = tl.where(found == k, t + 1, tl.where(enough, high, t))
        at_high = tl.where(enough, at_high, found)
        low = tl.where(enough, t, low)
        at_low = tl.where(enough, found, at_low)
        tries += 1
    return low, at_low, at_high


@triton.jit
@no_type_check
def _keep_piece(
    kept, mask, counts, start, n, bits, keys, t, tied, needed, seen, BLOCK: tl.constexpr, SHIFT: tl.constexpr
):
    """Write what is kept of a piece of a row, and where; `needed` of the keys equal to t stay if there are more.

    Returns:
        `seen` and how many keys of this piece are equal to t.
    """
    keep = keys >= t
    if tied:
        equal = (keys == t).to(tl.int32)
        keep = (keys > t) | ((equal == 1) & (seen + tl.cumsum(equal, 0) <= needed))
        seen += tl.sum(equal, 0)
    at = start + tl.arange(0, BLOCK)
    if kept is not None:
        tl.store(kept + at, tl.where(keep, bits, 0), mask=at < n)
    if mask is not None:
        tl.store(mask + at, keep.to(tl.uint8), mask=at < n)
    if counts is not None:
        tl.atomic_add(counts + (keys >> SHIFT), tl.full((BLOCK,), -1, tl.int64), mask=keep, sem="relaxed")
    return seen


@triton.jit(do_not_specialize=["k"])
@no_type_check
def rows(
    x,
    kept,
    mask,
    counts,
    stride,
    n,
    k,
    BLOCK: tl.constexpr,
    LONG: tl.constexpr,
    INFINITY: tl.constexpr,
    SHIFT: tl.constexpr,
):
    """The k first entries of a row, of n, whose beginning is `stride` after that of the one before: to kept and mask.

    With `counts` they move to the bin of forced keys: `counts` are those that `count` or `adamw` made without them.
    """
    program = tl.program_id(0).to(tl.int64)
    row = x + program * stride
    if kept is not None:
        kept += program * n
    if mask is not None:
        mask += program * n
    bits, keys = _piece(row, 0, n, BLOCK, INFINITY)
    t, at_least, above = _threshold(row, keys, n, k, BLOCK, LONG, INFINITY)
    tied, needed = at_least > k, k - above
    seen = _keep_piece(kept, mask, counts, 0, n, bits, keys, t, tied, needed, t * 0, BLOCK, SHIFT)
    if LONG:
        for start in range(BLOCK, n, BLOCK):
            bits, keys = _piece(row, start, n, BLOCK, INFINITY)
            seen = _keep_piece(kept, mask, counts, start, n, bits, keys, t, tied, needed, seen, BLOCK, SHIFT)
    if counts is not None:
        forced = tl.num_programs(0).to(tl.int64) * k
        tl.atomic_add(counts + ((INFINITY + 2) >> SHIFT), forced, mask=program == 0, sem="relaxed")


@triton.jit
@no_type_check
def masked(x, mask, kept, size, TILE: tl.constexpr):
    """x where the mask is 1, +0.0 elsewhere."""
    first = tl.program_id(0).to(tl.int64) * TILE
    at = tl.arange(0, TILE)
    inside = at < size - first
    bits = tl.load(x + first + at, mask=inside, other=0)
    keep = tl.load(mask + first + at, mask=inside, other=0)
    tl.store(kept + first + at, tl.where(keep != 0, bits, 0), mask=inside)


@triton.jit
@no_type_check
def _strip(x, start, rows, columns, ROWS: tl.constexpr, WIDTH: tl.constexpr, INFINITY: tl.constexpr):
    """The keys of ROWS rows from `start` on of the program's columns."""
    row = start + tl.arange(0, ROWS)[:, None]
    column = tl.program_id(0).to(tl.int64) * WIDTH + tl.arange(0, WIDTH)[None, :]
    inside = (row < rows) & (column < columns)
    bits = tl.load(x + row.to(tl.int64) * columns + column, mask=inside, other=0)
    return tl.where(inside, as_keys(bits, INFINITY), -1)


@triton.jit(do_not_specialize=["picks"])
@no_type_check
def columns(
    x,
    forced,
    counts,
    rows,
    columns,
    picks,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
    LONG: tl.constexpr,
    INFINITY: tl.constexpr,
    SHIFT: tl.constexpr,
):
    """Set `forced` to 1 at the `picks` first entries of each column, and move them to the bin of forced keys.

    One at a time: the first in order among those that come after the one before. The keys of a strip of WIDTH columns
    stay in registers, or (LONG) are read again for each.
    """
    column = tl.program_id(0).to(tl.int64) * WIDTH + tl.arange(0, WIDTH)
    row = tl.arange(0, ROWS)[:, None]
    keys = _strip(x, 0, rows, columns, ROWS, WIDTH, INFINITY)
    last_key = tl.full((WIDTH,), INFINITY + 2, tl.int32)
    last_row = tl.full((WIDTH,), -1, tl.int32)
    for _ in range(picks):
        best_key = tl.full((WIDTH,), -1, tl.int32)
        best_row = tl.full((WIDTH,), 0, tl.int32)
        for start in range(0, rows, ROWS):
            if LONG:
                keys = _strip(x, start, rows, columns, ROWS, WIDTH, INFINITY)
            later = (keys < last_key[None, :]) | ((keys == last_key[None, :]) & (start + row > last_row[None, :]))
            rest = tl.where(later, keys, -1)
            top = tl.max(rest, 0)
            first = start + tl.min(tl.where(rest == top[None, :], row, ROWS), 0)
            best_row = tl.where(top > best_key, first, best_row)
            best_key = tl.maximum(top, best_key)
        at = best_row.to(tl.int64) * columns + column
        fresh = (column < columns) & (tl.load(forced + at, mask=column < columns, other=1) == 0)
        tl.store(forced + at, tl.full((WIDTH,), 1, tl.uint8), mask=fresh)
        tl.atomic_add(counts + (best_key >> SHIFT), tl.full((WIDTH,), -1, tl.int64), mask=fresh, sem="relaxed")
        tl.atomic_add(counts + ((INFINITY + 2) >> SHIFT), tl.sum(fresh.to(tl.int64), 0), sem="relaxed")
        last_key, last_row = best_key, best_row


@triton.jit
@no_type_check
def tally(
    found,
    counts,
    partial,
    keys,
    low,
    used: tl.constexpr,
    SHIFT: tl.constexpr,
    TILE: tl.constexpr,
    BINS: tl.constexpr,
    FEW: tl.constexpr,
):
    """Count a tile's keys in `used` bins from `low` on, each 2 ** SHIFT keys wide; keys elsewhere are not counted.

    Many at once: into the program's own `found`, which is returned. At most FEW: into memory straight away.
    """
    place = (keys - low) >> SHIFT
    inside = (keys >= low) & (place < used)
    many = tl.sum(inside.to(tl.int32), 0)
    if many > FEW:
        # What is not inside is counted in the first bin and taken off again.
        others = tl.where(tl.arange(0, BINS) == 0, TILE - many, 0)
        found += tl.histogram(tl.where(inside, place, 0), BINS) - others
    else:
        tl.atomic_add(counts + place, tl.full((TILE,), 1, tl.int64), mask=inside, sem="relaxed")
        if partial is not None:
            tl.atomic_add(partial + place, tl.full((TILE,), 1, tl.int32), mask=inside, sem="relaxed")
    return found


@triton.jit
@no_type_check
def flush(found, counts, partial, BINS: tl.constexpr):
    """Add what the program found to everybody's counts, and to its own where they are asked for."""
    bins = tl.arange(0, BINS)
    tl.atomic_add(counts + bins, found.to(tl.int64), mask=found != 0, sem="relaxed")
    if partial is not None:
        tl.atomic_add(partial + bins, found, mask=found != 0, sem="relaxed")


@triton.jit
@no_type_check
def _descend(counts, state, k, LEVEL: tl.constexpr, SHIFT: tl.constexpr, BINS: tl.constexpr):
    """The bin of the k-th key among the counts of a level.

    Returns:
        The key it begins with, its place, how many keys are above it, and how many are in it.
    """
    bins = tl.arange(0, BINS)
    level = tl.load(counts + LEVEL * BINS + bins)
    low, above = tl.load(state + 2 * LEVEL), tl.load(state + 2 * LEVEL + 1)
    from_bin_on = above + tl.sum(level, 0) - tl.cumsum(level, 0) + level
    place = tl.max(tl.where(from_bin_on >= k, bins, 0), 0)
    above += tl.sum(tl.where(bins > place, level, 0), 0)
    inside = tl.sum(tl.where(bins == place, level, 0), 0)
    return low.to(tl.int32) + (place << SHIFT), place, above, inside


@triton.jit
@no_type_check
def _tile(x, forced, tile, size, TILE: tl.constexpr, INFINITY: tl.constexpr):
    """A tile of a matrix and its keys, with those of forced entries above all others."""
    first = tl.cast(tile, tl.int64) * TILE
    at = tl.arange(0, TILE)
    inside = at < size - first
    bits = tl.load(x + first + at, mask=inside, other=0)
    keys = tl.where(inside, as_keys(bits, INFINITY), -1)
    if forced is not None:
        held = tl.load(forced + first + at, mask=inside, other=0)
        keys = tl.where(held != 0, INFINITY + 2, keys)
    return bits, keys


@triton.jit(do_not_specialize=["share", "tiles"])
@no_type_check
def count(
    x,
    forced,
    counts,
    state,
    partial,
    size,
    k,
    share,
    tiles,
    LEVEL: tl.constexpr,
    WIDER: tl.constexpr,
    SHIFT: tl.constexpr,
    TILE: tl.constexpr,
    BINS: tl.constexpr,
    FEW: tl.constexpr,
    INFINITY: tl.constexpr,
):
    """A level of the search: the keys in the bin that the level before leads to, counted in narrower bins.

    k is read from memory, since a recorded launch is the same every time. A program has `share` tiles in a row. Every
    program descends by itself; the first writes down where to: no kernel waits for another, and the host for none.
    WIDER is the shift of the level before.
    """
    program = tl.program_id(0)
    if partial is not None:
        partial += program * BINS
    low = program * 0
    if LEVEL > 0:
        low, _, above, _ = _descend(counts, state, tl.load(k), LEVEL - 1, WIDER, BINS)
        if program == 0:
            tl.store(state + 2 * LEVEL, low.to(tl.int64))
            tl.store(state + 2 * LEVEL + 1, above)
    counts += LEVEL * BINS
    used: tl.constexpr = 1 << (WIDER - SHIFT) if LEVEL > 0 else BINS
    found = tl.zeros((BINS,), tl.int32)
    for tile in range(program * share, tl.minimum((program + 1) * share, tiles)):
        keys = _tile(x, forced, tile, size, TILE, INFINITY)[1]
        found = tally(found, counts, partial, keys, low, used, SHIFT, TILE, BINS, FEW)
    flush(found, counts, partial, BINS)


@triton.jit(do_not_specialize=["share", "tiles"])
@no_type_check
def cut(
    x,
    forced,
    counts,
    state,
    partial,
    size,
    k,
    share,
    tiles,
    LEVEL: tl.constexpr,
    PROGRAMS: tl.constexpr,
    TILE: tl.constexpr,
    BINS: tl.constexpr,
    INFINITY: tl.constexpr,
):
    """Zero all but the k first entries of x; LEVEL is the last level, whose bins are single keys.

    Of the keys equal to the threshold those before this program are in the `partial` counts of the programs before it.
    """
    program = tl.program_id(0)
    wanted = tl.load(k)
    t, place, above, equal = _descend(counts, state, wanted, LEVEL, 0, BINS)
    needed = wanted - above
    others = tl.arange(0, PROGRAMS)
    before = tl.load(partial + others * BINS + place, mask=others < program, other=0)
    seen = tl.sum(before.to(tl.int64), 0)
    for tile in range(program * share, tl.minimum((program + 1) * share, tiles)):
        bits, keys = _tile(x, forced, tile, size, TILE, INFINITY)
        keep = keys >= t
        if equal > needed:
            same = (keys == t).to(tl.int32)
            keep = (keys > t) | ((same == 1) & (seen + tl.cumsum(same, 0) <= needed))
            seen += tl.sum(same, 0)
        first = tl.cast(tile, tl.int64) * TILE
        at = tl.arange(0, TILE)
        tl.store(x + first + at, tl.where(keep, bits, 0), mask=at < size - first)
