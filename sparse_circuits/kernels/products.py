"""Products of sparse weights with activations on the CPU, and their gradients.

1. `SparseMatrix`: the nonzeros of a weight, row by row.
2. `multiply`: x times the transpose of the matrix, as `torch.nn.functional.linear` has it: by tiles of positions, or
   for few positions by scattering, whichever takes less time.
3. `sparse_linear`: the same with gradients of x and bias, for weights that stay.
4. `trained_linear`: the same with a gradient of the dense weight, too.
5. `worthwhile`: whether all this beats a dense product.

The same numbers come out whatever the number of threads.
"""

import ctypes
import functools
import math
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor
from torch.autograd.function import once_differentiable

from sparse_circuits.errors import InputError
from sparse_circuits.kernels.kept import Loops, compiled
from sparse_circuits.kernels.sizes import LANES, LINE, LONG_LINE, WORD
from sparse_circuits.kernels.threads import Work, check, run

product_loops = Loops("product_loops")

# Entries of a dense matrix that a thread claims at a time.
CLAIM = 32768
# Results from this size on are written around the cache. In memory not lately used that is up to a quarter faster,
# reading them back included; in a buffer that is still in the third cache it is up to a sixth slower.
PAST_CACHE = 1 << 22
# Less work than this, in nanoseconds, is not worth waking other threads for.
ALONE = 40_000
# Nor is a shorter product worth counting which of its inputs are zero.
COUNTING = 10_000
# How many pieces the sum over positions in a sampled weight gradient has at most.
SEGMENTS = 32
PLAIN = (Tensor, torch.nn.Parameter)
# Nanoseconds: what a product takes beyond its loops; the same of dense products, and of each of their products of two.
OVERHEAD = 5_000
_DENSE = {"bf16": (20_000, 2 / 200), "fp32": (4_000, 2 / 90)}


class Job(ctypes.Structure):
    """What a kernel is told: who works on what, and the addresses and sizes its docstring says."""

    _fields_ = tuple(
        (field, ctypes.c_int64)
        for field in (
            *("address", "segments", "shared", "number", "total", "claim"),
            *("rows", "columns", "start", "column", "value", "finite"),
            *("positions", "x", "x_step", "y", "y_start", "y_column", "bias", "parts", "past_cache", "found", "failed"),
        )
    )


@dataclass(frozen=True, eq=False)
class SparseMatrix:
    """The nonzeros of a matrix of shape [rows, columns], sorted by row, then column. Treat it as unchangeable."""

    shape: tuple[int, int]
    start: Int[Tensor, "rows_and_one"]
    """int32: row i has entries start[i] to start[i + 1]."""
    column: Int[Tensor, "nnz"]
    """int32"""
    value: Float[Tensor, "nnz"]
    """fp32"""
    finite: bool
    """Whether no value is NaN or infinite: only then may a product leave out the zeros of x."""

    def __post_init__(self) -> None:
        kinds = [(self.start, torch.int32, self.shape[0] + 1), (self.column, torch.int32, self.value.numel())]
        for tensor, dtype, size in [*kinds, (self.value, torch.float32, self.value.numel())]:
            if tensor.dtype != dtype or tensor.shape != (size,) or not (tensor.is_cpu and tensor.is_contiguous()):
                raise InputError(
                    f"SparseMatrix: expected {size} contiguous numbers of {dtype} on the CPU, got {tensor.dtype} of "
                    f"shape {tuple(tensor.shape)} on {tensor.device}; make the matrix with SparseMatrix.from_dense"
                )

    @classmethod
    def from_dense(cls, weight: Float[Tensor, "rows columns"]) -> "SparseMatrix":
        """The nonzeros of `weight` (fp32 on the CPU; other floats are converted). NaN is one, -0.0 is none.

        Raises:
            InputError: `weight` is not plain memory on the CPU, or has too many nonzeros to count in 31 bits.
        """
        dense = _rows(weight.detach(), "SparseMatrix.from_dense")
        rows, columns = dense.shape
        start = dense.new_zeros(rows + 1, dtype=torch.int32)
        words = dense.new_empty(rows * -(-columns // WORD), dtype=torch.int64)
        job = Job(rows=rows, columns=columns, total=rows, claim=_claim(columns))
        job.x, job.x_step, job.start, job.y = dense.data_ptr(), dense.stride(0), start.data_ptr(), words.data_ptr()
        _start(product_loops.count, job)
        counts = start.numpy()
        nnz = int(counts.sum(dtype=np.int64))
        if nnz >= 2**31:
            raise InputError(f"SparseMatrix.from_dense: {nnz} nonzeros do not fit; below 2**31 was expected, split it")
        np.cumsum(counts, out=counts)
        column, value = dense.new_empty(nnz, dtype=torch.int32), dense.new_empty(nnz)
        odd = np.zeros(1, np.int64)
        job.column, job.value, job.found = column.data_ptr(), value.data_ptr(), odd.ctypes.data
        _start(product_loops.fill, job)
        return cls((rows, columns), start, column, value, not odd[0])

    @property
    def nnz(self) -> int:
        """How many entries are stored."""
        return self.value.numel()

    @property
    def density(self) -> float:
        """The part of all entries that is stored."""
        return self.nnz / max(1, self.shape[0] * self.shape[1])

    def dense(self) -> Float[Tensor, "rows columns"]:
        """The matrix with its zeros."""
        return self._spread(self.value.new_empty(self.shape))

    def rows(self, numbers: Int64[Tensor, "*leading"]) -> Float[Tensor, "*leading columns"]:
        """The rows of these numbers, with their zeros.

        Raises:
            InputError: a number is no row's, or they are not on the CPU.
        """
        numbers, last = numbers.contiguous(), self.shape[0] - 1
        if not numbers.is_cpu or (numbers.numel() and not 0 <= int(numbers.min()) <= int(numbers.max()) <= last):
            raise InputError(f"SparseMatrix.rows: expected numbers from 0 to {last} on the CPU, got {numbers}")
        return self._spread(self.value.new_empty(*numbers.shape, self.shape[1]), numbers.data_ptr())

    def _spread(self, result: Tensor, numbers: int = 0) -> Tensor:
        job = self._job()
        job.total, job.claim = result.shape[:-1].numel(), _claim(self.shape[1])
        job.x, job.y = numbers, result.data_ptr()
        _start(product_loops.spread, job)
        return result

    def transposed(self) -> "SparseMatrix":
        """The matrix with rows and columns swapped; made once."""
        return self._transpose

    @functools.cached_property
    def _transpose(self) -> "SparseMatrix":
        rows, columns = self.shape
        place, row = self.start.new_zeros(columns + 2), torch.empty_like(self.column)
        value = torch.empty_like(self.value)
        job = self._job()
        job.total, job.claim = 1, 1
        job.y, job.y_start, job.y_column = value.data_ptr(), place.data_ptr(), row.data_ptr()
        _start(product_loops.transpose, job)
        return SparseMatrix((columns, rows), place[:-1], row, value, self.finite)

    def _job(self) -> Any:
        """A new job that says what every job with this matrix says."""
        return Job.from_buffer_copy(self._template)

    @functools.cached_property
    def _template(self) -> bytes:
        rows, columns = self.shape
        places = {"start": self.start.data_ptr(), "column": self.column.data_ptr(), "value": self.value.data_ptr()}
        return bytes(Job(rows=rows, columns=columns, finite=self.finite, **places))

    def __getstate__(self) -> dict[str, Any]:
        # A copy lies elsewhere in memory: it finds out its own addresses.
        return {field.name: getattr(self, field.name) for field in fields(self)}


def multiply(
    matrix: SparseMatrix, x: Float[Tensor, "P columns"], bias: Float[Tensor, "rows"] | None = None
) -> Float[Tensor, "P rows"]:
    """x times the transpose of `matrix`, plus `bias`: fp32, contiguous, without a gradient.

    Zeros of the matrix count as zeros: times infinity or NaN they are NaN, as in a dense product.

    Args:
        matrix: the weight.
        x: any strides; other floats than fp32 are converted.
        bias: added to every position.

    Raises:
        InputError: `x` or `bias` does not fit the matrix or is not plain memory on the CPU.
    """
    rows, columns = matrix.shape
    positions = x.shape[0]
    if x.shape[1] != columns or (bias is not None and bias.shape != (rows,)):
        given = f"{tuple(x.shape)}" + (f" and bias {tuple(bias.shape)}" if bias is not None else "")
        raise InputError(f"multiply: expected x [positions, {columns}] and bias [{rows}], got x {given}")
    x = _rows(x, "multiply")
    y = x.new_empty(positions, rows)
    if not y.numel():
        return y
    few = _prefers_scatter(matrix, x)
    job = (matrix.transposed() if few else matrix)._job()
    job.positions, job.x, job.x_step, job.y = positions, x.data_ptr(), x.stride(0), y.data_ptr()
    if bias is not None:
        bias = _plain(bias, "multiply").contiguous()
        job.bias = bias.data_ptr()
    if few:
        _work(product_loops.scatter).call(ctypes.addressof(job))
        check(job)
    else:
        _share_tiles(job, matrix.nnz)
        _start(product_loops.tiles, job)
    return y


def _share_tiles(job: Any, nnz: int) -> None:
    """How the work of a product by tiles is cut, and whether its result goes around the cache."""
    tiles, blocks = -(-job.positions // LINE), -(-job.rows // LANES)
    if _tiles_take(job.rows, job.columns, nnz, job.positions) < ALONE:
        job.parts, job.claim = 1, tiles
    else:
        job.parts, job.claim = min(-(-torch.get_num_threads() // tiles), blocks), 1
    job.total = tiles * job.parts
    aligned = job.rows % LANES == 0 and job.y % (4 * LANES) == 0
    job.past_cache = aligned and 4 * job.positions * job.rows >= PAST_CACHE


def _prefers_scatter(matrix: SparseMatrix, x: Float[Tensor, "P columns"]) -> bool:
    """Whether scattering takes less time, given how many inputs are zero; never for many positions."""
    positions = x.shape[0]
    sizes = (*matrix.shape, matrix.nnz, positions)
    if not 1 < positions <= LANES or _tiles_take(*sizes) < COUNTING:
        return positions == 1
    part = int(x.count_nonzero()) / max(1, x.numel()) if matrix.finite else 1.0
    return _scatter_takes(*sizes, part) < _tiles_take(*sizes)


def _tiles_take(rows: int, columns: int, nnz: int, positions: int) -> float:
    """Nanoseconds that a product by tiles takes on one core.

    For each vector of positions its inputs and outputs are turned. For each tile the nonzeros are gone through, which
    is slower while their 8 bytes each come from beyond the second cache.
    """
    turned = -(-positions // LANES) * LANES * (0.4 * columns + 0.3 * rows)
    return turned + -(-positions // LINE) * nnz * (0.9 + min(nnz / 2**20, 1.0))


def _scatter_takes(rows: int, columns: int, nnz: int, positions: int, part: float) -> float:
    """Nanoseconds that a product by scattering takes on one core, where `part` of the inputs are not zero."""
    return positions * (0.25 * columns + 0.15 * rows + part * (3.7 * columns + 0.5 * nnz))


def worthwhile(
    rows: int, columns: int, density: float, positions: int, dense: Literal["bf16", "fp32"] = "bf16"
) -> bool:
    """Whether `multiply` takes less time than a dense product in bf16, or fp32, of these sizes.

    The times are those of `benchmarks/products.py` on one core of an AMD Zen 4 at 3.6 GHz, which multiplies bf16
    directly. There a sparse product of many positions is the faster one up to a density between 1/5 and 1/3, against
    fp32 between 1/3 and 1/2.

    Raises:
        InputError: `dense` is neither.
    """
    if dense not in _DENSE:
        raise InputError(f"worthwhile: dense {dense!r} is unknown; choose one of {', '.join(_DENSE)}")
    nnz = round(density * rows * columns)
    ours = _tiles_take(rows, columns, nnz, positions)
    if positions <= LANES:
        ours = min(ours, _scatter_takes(rows, columns, nnz, positions, 1.0))
    overhead, per_operation = _DENSE[dense]
    theirs = overhead + rows * columns * (0.26 + per_operation * positions)
    return OVERHEAD + ours < theirs


def sparse_linear(
    x: Float[Tensor, "*leading columns"], matrix: SparseMatrix, bias: Float[Tensor, "rows"] | None = None
) -> Float[Tensor, "*leading rows"]:
    """`torch.nn.functional.linear` with a sparse weight that gets no gradient; fp32 whatever the dtype of `x`.

    Once differentiable in `x` and `bias`.

    Raises:
        InputError: `x` or `bias` does not fit the matrix or is not plain memory on the CPU.
    """
    if torch.is_grad_enabled() and (x.requires_grad or (bias is not None and bias.requires_grad)):
        return _Linear.apply(x, None, bias, matrix, "fp32", "dense")
    return _along_rows(matrix, x, bias)


def trained_linear(
    x: Float[Tensor, "*leading columns"],
    weight: Float[Tensor, "rows columns"],
    bias: Float[Tensor, "rows"] | None,
    matrix: SparseMatrix,
    precision: Literal["bf16", "fp32"] = "fp32",
    weight_gradient: Literal["dense", "live"] = "dense",
) -> Float[Tensor, "*leading rows"]:
    """`torch.nn.functional.linear` whose dense `weight` gets a gradient though only its nonzeros are multiplied.

    Args:
        x: any number of leading dimensions.
        weight: receives the gradient; its entries are not read.
        bias: added to every position.
        matrix: the nonzeros of `weight` as it is now: `SparseMatrix.from_dense(weight)` after every change.
        precision: of the dense product that is the gradient of `weight`; "bf16" rounds its factors and its result.
        weight_gradient: "dense", or "live": where `matrix` has an entry, and zero elsewhere, in fp32.

    Raises:
        InputError: an unknown choice, or sizes that do not fit.
    """
    for name, choice, choices in [
        ("precision", precision, ("bf16", "fp32")),
        ("weight_gradient", weight_gradient, ("dense", "live")),
    ]:
        if choice not in choices:
            raise InputError(f"trained_linear: {name} {choice!r} is unknown; choose one of {', '.join(choices)}")
    if weight.shape != matrix.shape:
        raise InputError(
            f"trained_linear: the weight is {tuple(weight.shape)}, its nonzeros are of a matrix {matrix.shape}; "
            "make them with SparseMatrix.from_dense(weight)"
        )
    if not torch.is_grad_enabled():
        return _along_rows(matrix, x, bias)
    return _Linear.apply(x, weight, bias, matrix, precision, weight_gradient)


def _along_rows(matrix: SparseMatrix, x: Tensor, bias: Tensor | None = None) -> Tensor:
    """`multiply` with any number of leading dimensions."""
    if x.ndim == 2:
        return multiply(matrix, x, bias)
    leading = x.shape[:-1]
    return multiply(matrix, x.reshape(math.prod(leading), x.shape[-1]), bias).view(*leading, matrix.shape[0])


class _Linear(torch.autograd.Function):
    """Both linear maps; a weight that is None gets no gradient."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, matrix: SparseMatrix, precision: str, kind: str
    ) -> Tensor:
        ctx.matrix, ctx.kind, ctx.dtype = matrix, kind, x.dtype
        if ctx.needs_input_grad[1]:
            ctx.save_for_backward(x.to(torch.bfloat16) if (precision, kind) == ("bf16", "dense") else x)
        return _along_rows(matrix, x, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        matrix, (gradient,) = ctx.matrix, gradients
        rows = gradient.reshape(math.prod(gradient.shape[:-1]), matrix.shape[0])
        for_x = for_weight = for_bias = None
        if ctx.needs_input_grad[0]:
            for_x = _along_rows(matrix.transposed(), gradient).to(ctx.dtype)
        if ctx.needs_input_grad[1]:
            (x,) = ctx.saved_tensors
            x = x.reshape(rows.shape[0], matrix.shape[1])
            for_weight = _sampled(matrix, rows, x) if ctx.kind == "live" else (rows.to(x.dtype).T @ x).float()
        if ctx.needs_input_grad[2]:
            for_bias = rows.sum(0)
        return for_x, for_weight, for_bias, None, None, None


def _sampled(
    matrix: SparseMatrix, y: Float[Tensor, "P rows"], x: Float[Tensor, "P columns"]
) -> Float[Tensor, "rows columns"]:
    """The transpose of y times x where `matrix` has its entries, zero elsewhere."""
    x, y = _rows(x, "trained_linear").contiguous(), _rows(y, "trained_linear").contiguous()
    tiles = -(-x.shape[0] // LONG_LINE)
    job = matrix._job()
    job.parts = max(8, -(-tiles // SEGMENTS))
    job.total, job.claim = max(1, -(-tiles // job.parts)), 1
    value = x.new_empty(job.total, matrix.nnz)
    job.value, job.positions, job.x, job.y = value.data_ptr(), x.shape[0], x.data_ptr(), y.data_ptr()
    _start(product_loops.sample, job)
    return SparseMatrix(matrix.shape, matrix.start, matrix.column, value.sum(0), False).dense()


def _plain(tensor: Tensor, where: str) -> Tensor:
    """`tensor` as fp32 in memory that compiled code can read."""
    if tensor.dtype is torch.float32 and tensor.is_cpu and type(tensor) in PLAIN and not tensor.is_neg():
        return tensor
    if not tensor.is_cpu:
        raise InputError(f"{where}: expected a tensor on the CPU, got one on {tensor.device}; move it with .cpu()")
    if type(tensor) not in PLAIN:
        raise InputError(f"{where}: expected a plain tensor, got a {type(tensor).__name__}, whose memory is its own")
    return tensor.to(torch.float32).resolve_neg()


def _rows(tensor: Tensor, where: str) -> Tensor:
    """`tensor` as `_plain` has it, with the entries of each row side by side."""
    tensor = _plain(tensor, where)
    return tensor if tensor.stride(1) == 1 or tensor.shape[1] == 1 else tensor.contiguous()


def _claim(columns: int) -> int:
    return max(1, CLAIM // max(1, columns))


@functools.cache
def _work(kernel: Any) -> Work:
    return compiled(kernel, np.dtype(Job))


def _start(kernel: Any, job: Any) -> None:
    if job.total:
        run(_work(kernel), job)
