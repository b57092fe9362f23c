"""The CPU kernels: a threshold search over the bits of the magnitudes, compiled by Numba.

Without its sign bit a float's bits, read as an integer (its *key*), order as its magnitude does; a ceiling just above
infinity makes all NaN equal. So "the k largest" needs no sort, only the largest integer t such that at least k keys
are t or more, and counting is what vector units do best. Of the keys equal to t the first few stay: before a certain
index, the *cut*, keys stay from t on, after it from t + 1 on.

1. `abs_topk`, row by row: start from the threshold of the row before, close in by interpolating the counts, write.
2. `masked`: the gradient of `abs_topk`, by a bit an entry. Large results are written around the cache.
3. `project_topk_`, over a whole matrix. Few entries that may stay are taken out in one pass, all is cleared, and those
   that do stay are put back (`candidates`). Otherwise: two keys from a sample, one pass that gathers what lies between
   them, a histogram search (of the leading bits, then of the next bits inside the bin of the k-th key) in what was
   gathered, and one pass that writes. What a row's or column's minimum keeps gets a key above NaN, and so comes first.

fp32 has 32-bit keys, bf16 and fp16 have 16-bit keys: the type of a job's field `unit` is the type of its keys.
The paper's authors, too, found that a search for a threshold beats a sort.
"""

import ctypes
import math
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from sparse_circuits.kernels import reference
from sparse_circuits.kernels.jobs import at, empty, empty_like, job_type, refuses, rows_of, start
from sparse_circuits.kernels.kept import Loops
from sparse_circuits.kernels.sizes import CACHE_LINE as LINE
from sparse_circuits.kernels.sizes import GROUP, KEYS

__all__ = ["abs_topk", "as_bools", "force_columns", "force_rows", "masked", "name", "project_topk_", "refuses"]
name = "cpu"

bits, candidates, row_loops = Loops("bits"), Loops("candidates"), Loops("row_loops")


class Format(NamedTuple):
    """How a float dtype looks as integers."""

    job: type[ctypes.Structure]
    """The jobs of kernels for integers of its size."""
    magnitude: int
    """The bits that are not the sign."""
    infinity: int
    """The bits of infinity."""
    stride: int
    """1/32 of a doubling: the first step from a guessed threshold."""
    shifts: tuple[int, ...]
    """The passes of the histogram search: how many low bits of a key a bin leaves out."""


_FIELDS = "above found x x_step y mask bits keys places n k threshold step magnitude ceiling stride past_cache"
_JOB_32, _JOB_16 = job_type(_FIELDS, unit=ctypes.c_int32), job_type(_FIELDS, unit=ctypes.c_int16)
FORMATS = {
    torch.float32: Format(_JOB_32, 0x7FFFFFFF, 0x7F800000, 1 << 18, (20, 10, 0)),
    torch.bfloat16: Format(_JOB_16, 0x7FFF, 0x7F80, 1 << 2, (4, 0)),
    torch.float16: Format(_JOB_16, 0x7FFF, 0x7C00, 1 << 5, (4, 0)),
}
BINS = 2048
# Entries, and columns, that a thread claims at a time.
CLAIM = 8 * KEYS
COLUMNS = 128
# Results from this size on are written around the cache. Smaller ones may still be there when they are read.
PAST_CACHE = 1 << 24
# A sample of this size tells about where the threshold of a much larger matrix is.
SAMPLE = 16384
# A list of what may stay takes less time than a second pass where one entry in so many stays; listed ones a claim.
FEW, LISTED = 32, 2048
_INTEGERS = {4: torch.int32, 2: torch.int16}


def abs_topk(
    x: Float[Tensor, "rows n"], k: int, with_mask: bool
) -> tuple[Float[Tensor, "rows n"], UInt8[Tensor, "rows bytes"] | None]:
    """The kept entries, and on request where they are: a bit an entry, the first lowest. Rows may lie apart."""
    x = rows_of(x)
    rows, n = x.shape
    kept = empty_like(x)
    words = -(-n * x.element_size() // LINE)
    mask = torch.empty(rows, words * LINE // x.element_size() // 8, dtype=torch.uint8) if with_mask else None
    _start_rows(row_loops.rows, x, kept, mask, k=k)
    return kept, mask


def masked(gradient: Float[Tensor, "rows n"], mask: UInt8[Tensor, "rows bytes"]) -> Float[Tensor, "rows n"]:
    """The gradient where the bit is set, +0.0 elsewhere."""
    if refuses(gradient):  # the kernels took what this is the gradient of, but its memory may be of another kind
        return reference.masked(gradient, as_bools(mask, gradient.shape[1]))
    gradient = gradient.contiguous()
    kept = empty_like(gradient)
    _start_rows(row_loops.masked, gradient, kept, mask)
    return kept


def as_bools(mask: UInt8[Tensor, "rows bytes"], n: int) -> Bool[Tensor, "rows n"]:
    """The bits as what `reference.abs_topk` gives."""
    return (mask[..., None] >> torch.arange(8, dtype=torch.uint8) & 1).bool().flatten(1)[:, :n]


def _start_rows(kernel: Any, x: Tensor, y: Tensor, mask: Tensor | None, **fields: int) -> None:
    rows, n = x.shape
    aligned = at(y) % LINE == 0 and n * y.element_size() % LINE == 0
    fields |= {"y": at(y), "bits": at(mask), "step": 0 if mask is None else mask.shape[1]}
    past_cache = aligned and y.nbytes >= PAST_CACHE
    claim, x_step = max(1, CLAIM // n), x.stride(0)
    _start(kernel, x, total=rows, claim=claim, n=n, x_step=x_step, past_cache=past_cache, **fields)


def project_topk_(weight: Float[Tensor, "rows columns"], k: int, min_per_row: int, min_per_column: int) -> int:
    """Zero all but k entries of `weight`, in place. The caller has made sure that the minimums fit into k.

    Returns:
        the threshold: the smallest key that stays without a minimum.
    """
    matrix = weight.contiguous()
    size = matrix.numel()
    forced = torch.zeros_like(matrix, dtype=torch.bool) if min_per_row or min_per_column else None
    if forced is not None and min_per_row:
        force_rows(matrix, min_per_row, forced)
    if forced is not None and min_per_column:
        force_columns(matrix, min_per_column, forced)
    flat, forced = matrix.view(-1), forced.view(-1) if forced is not None else None
    threshold = _read_once(flat, k, forced)
    if threshold is None:
        threshold, needed, equal = _near_sample(flat, k, forced) or _search(flat, k, forced)
        cut, marks = np.array([size]), at(forced)
        if needed < equal:
            there = {"k": needed, "threshold": threshold, "y": cut.ctypes.data}
            _start(bits.cut, matrix, total=size, claim=size, mask=marks, **there)
        _start(bits.zero, matrix, total=size, claim=CLAIM, k=int(cut[0]), threshold=threshold, mask=marks)
    if matrix is not weight:
        weight.copy_(matrix)
    elif not weight.is_inference():
        torch.autograd.graph.increment_version(weight)
    return threshold


def force_rows(matrix: Float[Tensor, "rows columns"], k: int, mask: Bool[Tensor, "rows columns"]) -> None:
    """Set the mask at the k largest entries of each row; both are contiguous, and k is at most the columns."""
    rows, columns = matrix.shape
    _start(bits.force_rows, matrix, total=rows, claim=max(1, CLAIM // columns), n=columns, k=k, mask=at(mask))


def force_columns(matrix: Float[Tensor, "rows columns"], k: int, mask: Bool[Tensor, "rows columns"]) -> None:
    """Set the mask at the k largest entries of each column; both are contiguous, and k is at most the rows."""
    rows, columns = matrix.shape
    _start(bits.force_columns, matrix, total=columns, claim=COLUMNS, n=rows, k=k, mask=at(mask))


class _Sample(NamedTuple):
    """What a sample tells of the threshold of a matrix."""

    low: int
    """A key that the threshold reaches, all but surely: by four standard deviations."""
    high: int
    """A key above it, as surely."""
    reach_low: int
    """About how many keys of the matrix reach `low`."""
    between: int
    """About how many reach `low` and not `high`."""


def _sample(x: Float[Tensor, "n"], k: int, forced: Bool[Tensor, "n"] | None) -> _Sample | None:
    """A sample of x, or None where x is small."""
    size = x.numel()
    if size < 64 * SAMPLE:
        return None
    # An odd stride meets every column of a matrix whose width is a power of two.
    stride = size // SAMPLE | 1
    count = -(-size // stride)
    keys = empty([count], _INTEGERS[x.element_size()])
    _start(candidates.sample, x, total=count, claim=LISTED, step=stride, keys=at(keys), mask=at(forced))
    rank = k * count / size
    margin = 4 * math.sqrt(rank) + 8
    low = _settle(x, keys, min(round(rank + margin), count), 1)[0]
    ceiling, fewer = FORMATS[x.dtype].infinity + 1, round(rank - margin)
    high = min(_settle(x, keys, fewer, low)[0] + 1, ceiling) if fewer > 0 else ceiling
    part = size / count
    return _Sample(low, high, int((rank + margin) * part), int(2 * margin * part))


def _settle(x: Tensor, keys: Int[Tensor, "n"], k: int, guess: int) -> tuple[int, int]:
    """The threshold that keeps k of the keys of some entries of x, and how many equal to it are needed (0: all)."""
    answer = np.zeros(2, np.int64)
    there = {"keys": at(keys), "n": len(keys), "k": k, "threshold": guess, "y": answer.ctypes.data}
    _start(candidates.settle, x, total=1, claim=1, **there)
    return int(answer[0]), int(answer[1])


def _read_once(x: Float[Tensor, "n"], k: int, forced: Bool[Tensor, "n"] | None) -> int | None:
    """Zero all but k entries of x and return the threshold; or None: x, as it was, suits this way badly.

    1. A bound that a few more than k entries reach, from a sample; in one pass, take out what reaches it.
    2. The threshold is among these, if there are k of them. What stays is written back to a matrix of zeros.
    """
    size, width = x.numel(), x.element_size()
    if k * FEW > size or size * width % (GROUP * LINE) or (sample := _sample(x, k, forced)) is None:
        return None
    room, group = 2 * sample.reach_low, GROUP * LINE // width
    keys, values, places = empty([room], _INTEGERS[width]), empty([room], x.dtype), empty([room], torch.int64)
    lists: dict[str, int] = {"keys": at(keys), "y": at(values), "places": at(places)}
    groups = {"total": size // group, "claim": CLAIM // group}
    found = _start(candidates.gather, x, **groups, n=room, threshold=sample.low, mask=at(forced), **lists).found
    if not k <= found <= room:
        return None
    threshold, needed = _settle(x, keys[:found], k, sample.low)
    cut = size
    if needed:
        equal = places[:found][keys[:found] == threshold].numpy()
        cut = int(np.partition(equal, needed - 1)[needed - 1]) + 1
    _start(candidates.clear, x, **groups, past_cache=at(x) % LINE == 0 and x.nbytes >= PAST_CACHE)
    _start(candidates.put, x, total=found, claim=LISTED, threshold=threshold, k=cut, **lists)
    return threshold


def _near_sample(x: Float[Tensor, "n"], k: int, forced: Bool[Tensor, "n"] | None) -> tuple[int, int, int] | None:
    """What `_search` finds, with a single pass over x, or None where x is small or its sample misleads.

    In one pass, count what is above the two keys of the sample, and gather what is between: little to search in.
    """
    sample = _sample(x, k, forced)
    if sample is None:
        return None
    size, low = x.numel(), sample.low
    # Half as much again as the sample foretells; for many equal keys, a sixteenth of x.
    between = torch.empty(max(size // 16, 3 * sample.between // 2), dtype=x.dtype)
    room = {"n": between.numel(), "y": at(between)}
    job = _start(bits.split, x, total=size, claim=CLAIM, mask=at(forced), threshold=low, k=sample.high, **room)
    if not job.above < k <= job.above + job.found or job.found > between.numel():
        return None
    threshold, needed, equal = _search(between[: job.found], k - job.above, None)
    # A bin may begin below what was gathered.
    return max(threshold, low), needed, equal


def _search(x: Float[Tensor, "n"], k: int, forced: Bool[Tensor, "n"] | None) -> tuple[int, int, int]:
    """The threshold t that keeps k entries of x, how many keys equal to t it needs, and how many there are."""
    low, above, bins = 0, 0, BINS
    shifts = FORMATS[x.dtype].shifts
    for shift, next_shift in zip(shifts, (*shifts[1:], 0), strict=True):
        counts = np.zeros(bins, np.int64)
        place = {"threshold": low, "step": shift, "n": bins, "y": counts.ctypes.data}
        _start(bits.histogram, x, total=x.numel(), claim=CLAIM, mask=at(forced), **place)
        from_bin_on = above + np.cumsum(counts[::-1])[::-1]
        last = int(np.flatnonzero(from_bin_on >= k)[-1])
        low += last << shift
        above = int(from_bin_on[last] - counts[last])
        if from_bin_on[last] == k:
            break
        bins = 1 << (shift - next_shift)
    return low, k - above, int(counts[last])


def _start(kernel: Any, x: Tensor, *, total: int, claim: int, **fields: int) -> Any:
    """Run a kernel on `x`: `total` rows, columns or entries, of which a thread claims `claim` at a time.

    Returns:
        The job, with what the kernel counted.
    """
    form = FORMATS[x.dtype]
    job = form.job(x=x.data_ptr(), total=total, claim=claim, **fields)
    job.magnitude, job.ceiling, job.stride = form.magnitude, form.infinity + 1, form.stride
    start(kernel, job)
    return job
