"""The GPU kernels: a threshold search over the bits of the magnitudes, in Triton; AdamW that counts; a sparse product.

Keys and thresholds are those of `cpu`: without its sign bit a float's bits, read as an integer, order as its magnitude
does; all NaN have one key above infinity, and what a minimum keeps has a key above that. Counting replaces sorting, and
nothing waits for the host.

1. `abs_topk`: a program a row, whose keys stay in registers while it closes in on the threshold; ties by a cumulative
   sum. `masked`: its gradient.
2. `project_topk_`: one pass counts the 8 leading bits of all keys. What the minimums keep changes bins. Each further
   pass counts the next 8 bits of the keys in the bin of the k-th, and the last pass writes. Every program finds that
   bin by itself from the counts of the pass before: the threshold stays on the device. The last count is also kept for
   each program alone, since a program must know how many ties come before it.
3. `adamw_project_`: AdamW in one pass, which counts the leading bits of what it writes: the projection's first pass.
4. `multiply`: CSR weights times dense activations, summed in fp32. `transpose` gives the matrix of its gradient.

Triton is imported with the first kernel. With TRITON_INTERPRET=1 the kernels run on CPU tensors, slowly, for tests.
"""

import contextlib
import functools
import importlib.util
import math
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int32, Int64
from torch import Tensor

from sparse_circuits.errors import InputError

name = "gpu"


class Format(NamedTuple):
    """How a float dtype looks as integers."""

    unit: torch.dtype
    """The integers of its size."""
    infinity: int
    """The bits of infinity."""
    shifts: tuple[int, ...]
    """The passes of the search over a matrix: how many low bits of a key a bin leaves out."""


FORMATS = {
    torch.float32: Format(torch.int32, 0x7F800000, (23, 15, 7, 0)),
    torch.bfloat16: Format(torch.int16, 0x7F80, (7, 0)),
    torch.float16: Format(torch.int16, 0x7C00, (7, 0)),
}
BINS = 256
# Entries that a program handles at a time.
TILE = 2048
# Tiles with at most this part of their keys inside the bins are counted in memory straight away.
FEW = 16
# The longest row, and the largest strip of columns, whose keys stay in registers; pieces of longer ones.
LONGEST_ROW, LARGEST_STRIP, PIECE = 16384, 16384, 8192
# Programs for each multiprocessor.
SHARES = 4
# Rows of the product that a program computes; up to how many positions it lays nonzeros, not positions, side by side.
ROWS, FEW_POSITIONS = 16, 8


def refuses(tensor: Tensor) -> str | None:
    """Why these kernels cannot take `tensor`, or None when they can."""
    if tensor.dtype not in FORMATS:
        return f"they know fp32, bf16 and fp16 and the tensor is {tensor.dtype}"
    if type(tensor) not in (Tensor, torch.nn.Parameter):
        return f"they read plain memory and the tensor is a {type(tensor).__name__}"
    if tensor.is_neg():
        return "they read plain memory and the tensor is a view that negates it"
    if not _installed():
        return "Triton is not installed (pip install triton)"
    if tensor.device.type == "cuda":
        return _too_old(tensor.device)
    if tensor.device.type != "cpu" or not _interpreted():
        return f"they run on CUDA and the tensor is on {tensor.device}"
    return None


@functools.cache
def _installed() -> bool:
    return importlib.util.find_spec("triton") is not None


@functools.cache
def _too_old(device: torch.device) -> str | None:
    major, minor = torch.cuda.get_device_capability(device)
    return None if major >= 8 else f"they need compute capability 8.0 and {device} has {major}.{minor}"


def _interpreted() -> bool:
    """Whether Triton's interpreter runs the kernels: decided when they are imported."""
    import triton

    from sparse_circuits.kernels import gpu_topk

    return not isinstance(gpu_topk.rows, triton.JITFunction)


def abs_topk(
    x: Float[Tensor, "rows n"], k: int, with_mask: bool
) -> tuple[Float[Tensor, "rows n"], Bool[Tensor, "rows n"] | None]:
    """The kept entries, and on request where they are."""
    kept = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    mask = torch.empty(x.shape, dtype=torch.bool, device=x.device) if with_mask else None
    _rows(x, k, kept=kept, mask=mask)
    return kept, mask


def _rows(
    x: Float[Tensor, "rows n"],
    k: int,
    kept: Float[Tensor, "rows n"] | None = None,
    mask: Bool[Tensor, "rows n"] | None = None,
    counts: Int64[Tensor, "levels bins"] | None = None,
) -> None:
    """Run `gpu_topk.rows`, which reads rows at any distance of each other."""
    from sparse_circuits.kernels import gpu_topk

    x = x.detach() if x.stride(1) == 1 else x.detach().contiguous()
    unit, infinity, shifts = FORMATS[x.dtype]
    rows, n = x.shape
    if not x.numel():
        return
    block = max(_power_of_two(n), 32) if n <= LONGEST_ROW else PIECE
    results = _view(kept, unit), _view(mask, torch.uint8), counts
    constants = {"BLOCK": block, "LONG": n > block, "INFINITY": infinity, "SHIFT": shifts[0]}
    launch(gpu_topk.rows, rows, x.view(unit), *results, x.stride(0), n, k, **constants, num_warps=_warps(block, 512))


def masked(gradient: Float[Tensor, "rows n"], mask: Bool[Tensor, "rows n"]) -> Float[Tensor, "rows n"]:
    """The gradient where the mask is True, +0.0 elsewhere."""
    from sparse_circuits.kernels import gpu_topk

    unit = FORMATS[gradient.dtype].unit
    gradient, mask = gradient.detach().contiguous(), mask.contiguous()
    kept = torch.empty_like(gradient)
    size = gradient.numel()
    if size:
        entries = gradient.view(unit), mask.view(torch.uint8), kept.view(unit)
        launch(gpu_topk.masked, _tiles(size), *entries, size, TILE=TILE, num_warps=_warps(TILE, 256))
    return kept


def project_topk_(weight: Float[Tensor, "rows columns"], k: int, min_per_row: int, min_per_column: int) -> None:
    """Zero all but k entries of `weight`, in place. The caller has made sure that the minimums fit into k."""
    if not weight.numel():
        return
    matrix = weight.detach().contiguous()
    search = _Search(matrix, torch.full((), k, dtype=torch.int64, device=matrix.device))
    search.count(0)
    search.finish(min_per_row, min_per_column)
    if matrix.data_ptr() != weight.data_ptr():
        weight.detach().copy_(matrix)
    _changed(weight)


class _Search:
    """The search for the k-th key of a contiguous matrix, and what it writes down on the device."""

    def __init__(self, matrix: Float[Tensor, "rows columns"], k: Int64[Tensor, ""]):
        self.matrix, self.k = matrix, k
        self.unit, self.infinity, self.shifts = FORMATS[matrix.dtype]
        self.programs, self.share = _shares(matrix)
        levels = len(self.shifts)
        # One piece of memory, so that one launch clears all.
        sizes = levels * BINS, 2 * levels, self.programs * BINS // 2
        counts, state, partial = torch.zeros(sum(sizes), dtype=torch.int64, device=matrix.device).split(sizes)
        self.counts = counts.view(levels, BINS)
        # Of each level the key with which its bins begin, and how many keys are above them.
        self.state = state.view(levels, 2)
        # The counts of the last level, of each program alone.
        self.partial = partial.view(torch.int32).view(self.programs, BINS)
        self.forced: Tensor | None = None

    def count(self, level: int) -> None:
        """Count one level's bits of the keys in the bin of the k-th key."""
        last = level == len(self.shifts) - 1
        constants = {"LEVEL": level, "WIDER": self.shifts[max(level - 1, 0)], "SHIFT": self.shifts[level]}
        self._launch("count", self.partial if last else None, **constants, FEW=TILE // FEW)

    def finish(self, min_per_row: int, min_per_column: int) -> None:
        """All that follows the first count, which has counted the entries that minimums keep like others."""
        if min_per_row:
            mask = torch.empty(self.matrix.shape, dtype=torch.bool, device=self.matrix.device)
            _rows(self.matrix, min_per_row, mask=mask, counts=self.counts)
            self.forced = mask.view(torch.uint8)
        if min_per_column:
            self._force_columns(min_per_column)
        last = len(self.shifts) - 1
        for level in range(1, last + 1):
            self.count(level)
        self._launch("cut", self.partial, LEVEL=last, PROGRAMS=_power_of_two(self.programs))

    def _launch(self, kernel: str, partial: Tensor | None, **constants: int) -> None:
        from sparse_circuits.kernels import gpu_topk

        size = self.matrix.numel()
        tensors = self.matrix.view(self.unit), self.forced, self.counts, self.state, partial
        constants |= {"TILE": TILE, "BINS": BINS, "INFINITY": self.infinity, "num_warps": _warps(TILE, 256)}
        run = getattr(gpu_topk, kernel)
        launch(run, self.programs, *tensors, size, self.k, self.share, _tiles(size), **constants)

    def _force_columns(self, picks: int) -> None:
        from sparse_circuits.kernels import gpu_topk

        rows, columns = self.matrix.shape
        if self.forced is None:
            self.forced = torch.zeros(rows, columns, dtype=torch.uint8, device=self.matrix.device)
        # Memory delivers 32 bytes of a row at least.
        height = _power_of_two(rows)
        width = 16 if height * 16 <= LARGEST_STRIP or height * 8 > LARGEST_STRIP else 8
        width = min(width, _power_of_two(columns))
        long = height * width > LARGEST_STRIP
        height = LARGEST_STRIP // width if long else height
        tensors = self.matrix.view(self.unit), self.forced, self.counts
        constants = {"ROWS": height, "WIDTH": width, "LONG": long, "INFINITY": self.infinity, "SHIFT": self.shifts[0]}
        warps = _warps(height * width, 1024)
        launch(gpu_topk.columns, -(-columns // width), *tensors, rows, columns, picks, **constants, num_warps=warps)


class Told(NamedTuple):
    """What an update is told anew in each step. It lies on the device, so that the launches are always the same."""

    rates: Float[Tensor, "4"]
    """fp32: see `rates_of`."""
    k: Int64[Tensor, ""] | None = None
    """How many entries stay; None for no projection."""


def rates_of(
    step: int, learning_rate: float, beta1: float, beta2: float, weight_decay: float, scale: float
) -> tuple[float, float, float, float]:
    """The numbers of update `step` (from 1): what multiplies gradient and weight, and AdamW's two corrections."""
    decay, step_size = 1 - learning_rate * weight_decay, learning_rate / (1 - beta1**step)
    return scale, decay, math.sqrt(1 - beta2**step), step_size


def adamw_project_(
    parameter: Float[Tensor, "..."],
    gradient: Float[Tensor, "..."],
    exp_avg: Float[Tensor, "..."],
    exp_avg_sq: Float[Tensor, "..."],
    told: Told,
    *,
    beta1: float,
    beta2: float,
    epsilon: float,
    min_per_row: int = 0,
    min_per_column: int = 0,
) -> None:
    """The update of `torch.optim.AdamW` on the scaled gradient, in place, and then `project_topk_` to `told.k` entries.

    Args:
        parameter: fp32, contiguous, as are both moments.
        told: on the parameter's device. The minimums must fit into its k, and k must be smaller than the parameter.

    Raises:
        InputError: a tensor has another dtype, shape, device or layout than it should.
    """
    _check_update(parameter, gradient, exp_avg, exp_avg_sq, told)
    if not parameter.numel():
        return
    from sparse_circuits.kernels import gpu_arithmetic

    matrix = parameter.detach().view(parameter.shape[0] if parameter.ndim == 2 else 1, -1)
    size = matrix.numel()
    search = None if told.k is None else _Search(matrix, told.k)
    programs, share = _shares(matrix)
    tensors = matrix, gradient.detach().contiguous(), exp_avg, exp_avg_sq, told.rates, search.counts if search else None
    rates: dict[str, Any] = {
        "first_decay": beta1,
        "first_rate": 1 - beta1,
        "second_decay": beta2,
        "second_rate": 1 - beta2,
        "epsilon": epsilon,
    }
    constants = {"SHIFT": FORMATS[torch.float32].shifts[0], "INFINITY": FORMATS[torch.float32].infinity}
    constants |= {"TILE": TILE, "BINS": BINS, "num_warps": _warps(TILE, 256)}
    # Without fusion it rounds after each operation, as PyTorch does.
    constants |= {"enable_fp_fusion": False}
    launch(gpu_arithmetic.adamw, programs, *tensors, size, share, _tiles(size), **rates, **constants)
    if search is not None:
        search.finish(min_per_row, min_per_column)
    _changed(parameter, exp_avg, exp_avg_sq)


def _check_update(parameter: Tensor, gradient: Tensor, exp_avg: Tensor, exp_avg_sq: Tensor, told: Told) -> None:
    expected = f"torch.float32 of shape {tuple(parameter.shape)} on {parameter.device}"
    tensors = {"parameter": parameter, "gradient": gradient, "exp_avg": exp_avg, "exp_avg_sq": exp_avg_sq}
    for what, tensor in tensors.items():
        found = f"{tensor.dtype} of shape {tuple(tensor.shape)} on {tensor.device}"
        if found != expected:
            raise InputError(f"adamw_project_: {what} is {found}, expected {expected}")
        if tensor is not gradient and not tensor.is_contiguous():
            raise InputError(f"adamw_project_: {what} is changed in place and must be contiguous: call .contiguous()")
    numbers = (("rates", told.rates, torch.float32, 4), ("k", told.k, torch.int64, 1))
    for what, told_numbers, dtype, count in numbers:
        if told_numbers is None:
            continue
        found = f"{told_numbers.numel()} of {told_numbers.dtype} on {told_numbers.device}"
        if found != f"{count} of {dtype} on {parameter.device}" or not told_numbers.is_contiguous():
            raise InputError(
                f"adamw_project_: the numbers of {what} are {found}, expected {count} of {dtype} on {parameter.device}"
            )


def multiply(
    start: Int32[Tensor, "rows_and_one"],
    column: Int32[Tensor, "nonzeros"],
    value: Float[Tensor, "nonzeros"],
    x: Float[Tensor, "positions columns"],
    rows: int,
    bias: Float[Tensor, "rows"] | None = None,
) -> Float[Tensor, "positions rows"]:
    """x times the transpose of a CSR matrix [rows, columns], plus `bias`: summed in fp32, in the dtype of x.

    Meant for fewer than 1 nonzero in 64. The gradient of x is the product with the matrix that `transpose` gives. Many
    positions are read as x.T, which is copied unless it is contiguous.

    Args:
        start: where each row begins in `column` and `value`, and last how long they are.
        column: of each nonzero, at least 0 and below `columns`.
        value: fp32, bf16 or fp16, as x.

    Raises:
        InputError: start, column and value do not describe `rows` rows, or a dtype is none it knows.
    """
    from sparse_circuits.kernels import gpu_arithmetic

    types = {start.dtype, column.dtype} == {torch.int32} and {value.dtype, x.dtype} <= FORMATS.keys()
    if start.numel() != rows + 1 or column.shape != value.shape or not types:
        raise InputError(
            f"multiply: {rows} rows need {rows + 1} starts and as many columns as values, int32, and fp32, bf16 or "
            f"fp16 values and x, got {start.numel()} starts ({start.dtype}), {column.numel()} columns "
            f"({column.dtype}), {value.numel()} values ({value.dtype}) and x of {x.dtype}"
        )
    positions, columns = x.shape
    y = torch.empty(positions, rows, dtype=x.dtype, device=x.device)
    if not y.numel():
        return y
    matrix = start.contiguous(), column.contiguous(), value.detach().contiguous()
    bias = None if bias is None else bias.detach().contiguous()
    blocks = -(-rows // ROWS)
    if positions <= FEW_POSITIONS:
        where = blocks * positions, *matrix, x.detach().contiguous(), bias, y
        launch(gpu_arithmetic.narrow, *where, rows, columns, ROWS=ROWS, NONZEROS=32, num_warps=4)
    else:
        width = min(_power_of_two(positions), 128)
        vectors = x.detach().T if x.stride(0) == 1 else x.detach().T.contiguous()
        where = blocks * -(-positions // width), *matrix, vectors, bias, y
        sizes = {"ROWS": ROWS, "POSITIONS": width, "num_warps": _warps(ROWS * width, 512)}
        launch(gpu_arithmetic.wide, *where, rows, positions, vectors.stride(0), **sizes)
    return y


def transpose(
    start: Int32[Tensor, "rows_and_one"],
    column: Int32[Tensor, "nonzeros"],
    value: Float[Tensor, "nonzeros"],
    columns: int,
) -> tuple[Int32[Tensor, "columns_and_one"], Int32[Tensor, "nonzeros"], Float[Tensor, "nonzeros"]]:
    """The CSR matrix [columns, rows] of the transpose: its start, column and value. Does not wait for the device."""
    by_column, order = torch.sort(column, stable=True)
    numbers = torch.arange(start.numel() - 1, dtype=torch.int32, device=start.device)
    row = numbers.repeat_interleave(start.diff(), output_size=column.numel())
    edges = torch.arange(columns + 1, dtype=torch.int32, device=start.device)
    return torch.searchsorted(by_column, edges, out_int32=True), row[order], value[order]


def launch(kernel: Any, programs: int, *arguments: Any, **constants: Any) -> None:
    """Run a Triton kernel on the device of its first argument."""
    device = arguments[0].device
    with torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext():
        kernel[(programs,)](*arguments, **{"enable_fp_fusion": True, **constants})


def _changed(*tensors: Tensor) -> None:
    """Tell autograd that they are not what they were."""
    for tensor in tensors:
        if not tensor.is_inference():
            torch.autograd.graph.increment_version(tensor)


def _view(tensor: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    return None if tensor is None else tensor.view(dtype)


def _power_of_two(size: int) -> int:
    """The smallest power of two that is at least `size`."""
    return 1 << max(size - 1, 0).bit_length()


def _tiles(size: int) -> int:
    return -(-size // TILE)


def _warps(entries: int, entries_a_warp: int) -> int:
    return min(max(entries // entries_a_warp, 1), 16)


def _shares(matrix: Tensor) -> tuple[int, int]:
    """How many programs share a matrix, and how many tiles in a row each of them has."""
    tiles = _tiles(matrix.numel())
    share = -(-tiles // (SHARES * _multiprocessors(matrix.device)))
    return -(-tiles // share), share


@functools.cache
def _multiprocessors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1
