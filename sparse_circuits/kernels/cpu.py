"""The CPU kernels: a threshold search over the bits of the magnitudes, compiled by Numba.

Without its sign bit a float's bits, read as an integer (its *key*), order as its magnitude does; a ceiling just above
infinity makes all NaN equal. So "the k largest" needs no sort, only the largest integer t such that at least k keys
are t or more, and counting is what vector units do best. Of the keys equal to t the first few stay: before a certain
index, the *cut*, keys stay from t on, after it from t + 1 on.

1. `abs_topk`, row by row: start from the threshold of the row before, close in by interpolating the counts, write.
2. `masked`: the gradient of `abs_topk`.
3. `project_topk_`, over a whole matrix: a histogram of the leading bits, then of the next bits inside the bin that
   holds the k-th key, then write. What a row's or column's minimum keeps gets a key above NaN, and so comes first.

fp32 has 32-bit keys, bf16 and fp16 have 16-bit keys: the type of a job's field `unit` is the type of its keys.
Source: section 3 of the paper, where a binary search for the threshold also beats the radix sort.
"""

import ctypes
import functools
import sys
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from numba.core import config
from torch import Tensor

from sparse_circuits.kernels import bits
from sparse_circuits.kernels.threads import Work, compiled, run

name = "cpu"


class Format(NamedTuple):
    """How a float dtype looks as integers."""

    unit: np.dtype[Any]
    """The integers of its size."""
    infinity: int
    """The bits of infinity."""
    stride: int
    """1/32 of a doubling: the first step from a guessed threshold."""
    shifts: tuple[int, ...]
    """The passes of the matrix search: how many low bits of a key a bin of the histogram leaves out."""


FORMATS = {
    torch.float32: Format(np.dtype(np.int32), 0x7F800000, 1 << 18, (20, 10, 0)),
    torch.bfloat16: Format(np.dtype(np.int16), 0x7F80, 1 << 2, (4, 0)),
    torch.float16: Format(np.dtype(np.int16), 0x7C00, 1 << 5, (4, 0)),
}
BINS = 2048
# Entries that a thread claims at a time.
CLAIM = 8 * bits.BLOCK
# Columns gathered together, so that a cache line read for one serves its neighbours.
COLUMNS = 16
HUGE_PAGE = 2 << 20
# What a kernel is told: addresses, the share of work, and numbers whose meaning each kernel's docstring gives.
JOB_FIELDS = "x y mask shared total claim n k threshold line step magnitude ceiling stride"


def refuses(tensor: Tensor) -> str | None:
    """Why these kernels cannot take `tensor`, or None when they can."""
    if tensor.device.type != "cpu":
        return f"they run on the CPU and the tensor is on {tensor.device}"
    if tensor.dtype not in FORMATS:
        return f"they know fp32, bf16 and fp16 and the tensor is {tensor.dtype}"
    if getattr(config, "DISABLE_JIT", False):
        return "Numba's compiler is switched off (NUMBA_DISABLE_JIT)"
    return None


def abs_topk(
    x: Float[Tensor, "rows n"], k: int, with_mask: bool
) -> tuple[Float[Tensor, "rows n"], Bool[Tensor, "rows n"] | None]:
    """The kept entries, and on request where they are."""
    x = x.contiguous()
    rows, n = x.shape
    kept = _empty_like(x)
    mask = torch.empty_like(x, dtype=torch.bool) if with_mask else None
    _start(bits.rows, x, total=rows, claim=max(1, CLAIM // n), n=n, k=k, y=_at(kept), mask=_at(mask))
    return kept, mask


def masked(gradient: Float[Tensor, "rows n"], mask: Bool[Tensor, "rows n"]) -> Float[Tensor, "rows n"]:
    """The gradient where the mask is True, +0.0 elsewhere."""
    gradient, mask = gradient.contiguous(), mask.contiguous()
    kept = _empty_like(gradient)
    _start(bits.masked, gradient, total=gradient.numel(), claim=CLAIM, y=_at(kept), mask=_at(mask))
    return kept


def project_topk_(weight: Float[Tensor, "rows columns"], k: int, min_per_row: int, min_per_column: int) -> None:
    """Zero all but k entries of `weight`, in place. The caller has made sure that the minimums fit into k."""
    matrix = weight.contiguous()
    rows, columns = matrix.shape
    size = matrix.numel()
    forced = torch.zeros_like(matrix, dtype=torch.bool) if min_per_row or min_per_column else None
    if min_per_row:
        lines = {"n": columns, "k": min_per_row, "line": columns, "step": 1}
        _start(bits.force, matrix, total=rows, claim=1, mask=_at(forced), **lines)
    if min_per_column:
        lines = {"n": rows, "k": min_per_column, "line": 1, "step": columns}
        _start(bits.force, matrix, total=columns, claim=COLUMNS, mask=_at(forced), **lines)
    threshold, needed, equal = _matrix_threshold(matrix, k, forced)
    cut = np.array([size])
    if needed < equal:
        _start(
            bits.cut, matrix, total=size, claim=size, k=needed, threshold=threshold, mask=_at(forced), y=cut.ctypes.data
        )
    _start(bits.zero, matrix, total=size, claim=CLAIM, k=int(cut[0]), threshold=threshold, mask=_at(forced))
    if matrix is weight:
        torch.autograd.graph.increment_version(weight)
    else:
        weight.copy_(matrix)


def _matrix_threshold(
    matrix: Float[Tensor, "rows columns"], k: int, forced: Bool[Tensor, "rows columns"] | None
) -> tuple[int, int, int]:
    """The threshold t that keeps k entries of a matrix, how many keys equal to t it needs, and how many there are."""
    low, above, bins = 0, 0, BINS
    shifts = FORMATS[matrix.dtype].shifts
    for shift, next_shift in zip(shifts, (*shifts[1:], 0), strict=True):
        counts = np.zeros(bins, np.int64)
        place = {"threshold": low, "step": shift, "n": bins, "y": counts.ctypes.data}
        _start(bits.histogram, matrix, total=matrix.numel(), claim=CLAIM, mask=_at(forced), **place)
        from_bin_on = above + np.cumsum(counts[::-1])[::-1]
        last = int(np.flatnonzero(from_bin_on >= k)[-1])
        low += last << shift
        above = int(from_bin_on[last] - counts[last])
        if from_bin_on[last] == k:
            break
        bins = 1 << (shift - next_shift)
    return low, k - above, int(counts[last])


def _empty_like(x: Tensor) -> Tensor:
    """Memory for a result. Very large blocks come page by page from the system; large pages make that cheap."""
    result = torch.empty_like(x)
    if result.nbytes >= 16 * HUGE_PAGE and sys.platform == "linux":
        start = -(-result.data_ptr() // HUGE_PAGE) * HUGE_PAGE
        end = (result.data_ptr() + result.nbytes) // HUGE_PAGE * HUGE_PAGE
        _libc().madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), 14)  # MADV_HUGEPAGE
    return result


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)


def _at(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


@functools.cache
def _job(unit: np.dtype[Any]) -> np.dtype[np.void]:
    """The record that a kernel is given."""
    return np.dtype([*((field, np.int64) for field in JOB_FIELDS.split()), ("unit", unit)], align=True)


@functools.cache
def _work(kernel: Any, unit: np.dtype[Any]) -> Work:
    return compiled(kernel, _job(unit))


def _start(kernel: Any, x: Tensor, *, total: int, claim: int, **fields: int) -> None:
    """Run a kernel on `x`: `total` rows, columns or entries, of which a thread claims `claim` at a time."""
    unit, infinity, stride, _ = FORMATS[x.dtype]
    claimed = np.zeros(1, np.int64)
    job = np.zeros((), _job(unit))
    fields |= {"shared": claimed.ctypes.data, "total": total, "claim": claim, "x": x.data_ptr(), "stride": stride}
    fields |= {"magnitude": int(np.iinfo(unit).max), "ceiling": infinity + 1}
    for field, value in fields.items():
        job[field] = value
    run(_work(kernel, unit), job.ctypes.data, -(-total // claim))
