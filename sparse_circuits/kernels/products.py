"""Products of sparse weights with activations on the CPU, and their gradients.

1. `SparseMatrix`: the nonzeros of a weight, row by row.
2. `multiply`: x times the transpose of the matrix, as `torch.nn.functional.linear` has it.
3. `sparse_linear`: the same with gradients of x and bias, for weights that stay.
4. `trained_linear`: the same with a gradient of the dense weight, too.
"""

import ctypes
import functools
import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from sparse_circuits.errors import InputError
from sparse_circuits.kernels import product_loops
from sparse_circuits.kernels.blocks import LINE, LONG_LINE
from sparse_circuits.kernels.threads import Work, compiled, run

FIELDS = (
    "address segments shared number total claim rows columns positions start column value found finite "
    "x x_step y y_start y_column bias parts past_cache"
)


class Job(ctypes.Structure):
    """What a kernel is told: counters, who works on what, and addresses and sizes as its docstring says."""

    _fields_ = tuple((name, ctypes.c_int64) for name in FIELDS.split())


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

    @classmethod
    def from_dense(cls, weight: Float[Tensor, "rows columns"]) -> "SparseMatrix":
        """The nonzeros of `weight` (fp32 on the CPU; other floats are converted). NaN is one, -0.0 is none.

        Raises:
            InputError: `weight` is not on the CPU, or has too many nonzeros to count in 31 bits.
        """
        rows, columns = weight.shape
        dense = _rows(_plain(weight.detach(), "SparseMatrix.from_dense"))
        start, words = (
            torch.zeros(rows + 1, dtype=torch.int32),
            torch.empty(rows * -(-columns // 64), dtype=torch.int64),
        )
        job = {"total": rows, "claim": _claim(columns), "columns": columns, "x": dense.data_ptr()}
        job |= {"x_step": dense.stride(0), "start": start.data_ptr(), "y": words.data_ptr()}
        _start(product_loops.count, **job)
        counts = start.numpy()
        nnz = int(counts.sum(dtype=np.int64))
        if nnz >= 2**31:
            raise InputError(f"SparseMatrix.from_dense: {nnz} nonzeros do not fit; below 2**31 was expected, split it")
        np.cumsum(counts, out=counts)
        column, value = torch.empty(nnz, dtype=torch.int32), torch.empty(nnz)
        odd = np.zeros(1, np.int64)
        job |= {"column": column.data_ptr(), "value": value.data_ptr(), "found": odd.ctypes.data}
        _start(product_loops.fill, **job)
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
        result = torch.empty(self.shape)
        places = {"total": self.shape[0], "claim": _claim(self.shape[1]), "y": result.data_ptr()}
        _start(product_loops.spread, **self._addresses, **places)
        return result

    def transposed(self) -> "SparseMatrix":
        """The matrix with rows and columns swapped; made once."""
        return self._transpose

    @functools.cached_property
    def _transpose(self) -> "SparseMatrix":
        rows, columns = self.shape
        place, row = torch.zeros(columns + 2, dtype=torch.int32), torch.empty_like(self.column)
        value = torch.empty_like(self.value)
        addresses = {"y": value.data_ptr(), "y_start": place.data_ptr(), "y_column": row.data_ptr()}
        _start(product_loops.transpose, total=1, claim=1, **self._addresses, **addresses)
        return SparseMatrix((columns, rows), place[:-1], row, value, self.finite)

    @functools.cached_property
    def _addresses(self) -> dict[str, int]:
        """What every job with this matrix says of it."""
        rows, columns = self.shape
        places = {"start": self.start.data_ptr(), "column": self.column.data_ptr(), "value": self.value.data_ptr()}
        return {"rows": rows, "columns": columns, "finite": self.finite} | places


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
        InputError: `x` or `bias` does not fit the matrix or is not on the CPU.
    """
    rows, columns = matrix.shape
    if x.shape[-1] != columns or (bias is not None and bias.shape != (rows,)):
        given = f"{tuple(x.shape)}" + (f" and bias {tuple(bias.shape)}" if bias is not None else "")
        raise InputError(f"multiply: expected x [positions, {columns}] and bias [{rows}], got x {given}")
    x = _rows(_plain(x, "multiply"))
    bias = _plain(bias, "multiply").contiguous() if bias is not None else None
    y = torch.empty(x.shape[0], rows)
    place = {"x": x.data_ptr(), "x_step": x.stride(0), "y": y.data_ptr(), "positions": x.shape[0]}
    place["bias"] = bias.data_ptr() if bias is not None else 0
    if x.shape[0] <= 2:
        _start(product_loops.scatter, total=1, claim=1, **matrix.transposed()._addresses, **place)
    else:
        total = -(-x.shape[0] // LINE)
        place["past_cache"] = y.nbytes >= 1 << 24 and rows % 16 == 0
        _start(product_loops.tiles, total=total, claim=1, parts=1, **matrix._addresses, **place)
    return y


def worthwhile(
    rows: int, columns: int, density: float, positions: int, dense: Literal["bf16", "fp32"] = "bf16"
) -> bool:
    """Whether `multiply` takes less time than a dense product in bf16, or fp32, of these sizes."""
    return density <= (1 / 64 if dense == "bf16" else 1 / 8)


def sparse_linear(
    x: Float[Tensor, "*leading columns"], matrix: SparseMatrix, bias: Float[Tensor, "rows"] | None = None
) -> Float[Tensor, "*leading rows"]:
    """`torch.nn.functional.linear` with a sparse weight that gets no gradient; fp32 whatever the dtype of `x`.

    Once differentiable in `x` and `bias`.

    Raises:
        InputError: `x` or `bias` does not fit the matrix or is not on the CPU.
    """
    return _Linear.apply(x, None, bias, matrix, "fp32", "dense")


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
    return _Linear.apply(x, weight, bias, matrix, precision, weight_gradient)


class _Linear(torch.autograd.Function):
    """Both linear maps; a weight that is None gets no gradient."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, matrix: SparseMatrix, precision: str, kind: str
    ) -> Tensor:
        ctx.matrix, ctx.precision, ctx.kind, ctx.dtype = matrix, precision, kind, x.dtype
        rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
        if ctx.needs_input_grad[1]:
            low = precision == "bf16" and kind == "dense"
            ctx.save_for_backward(rows.to(torch.bfloat16) if low else rows)
        return multiply(matrix, rows, bias).view(*x.shape[:-1], matrix.shape[0])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        matrix = ctx.matrix
        gradient = gradients[0].reshape(math.prod(gradients[0].shape[:-1]), matrix.shape[0])
        for_x = for_weight = for_bias = None
        if ctx.needs_input_grad[0]:
            for_x = multiply(matrix.transposed(), gradient)
            for_x = for_x.view(*gradients[0].shape[:-1], matrix.shape[1]).to(ctx.dtype)
        if ctx.needs_input_grad[1]:
            (x,) = ctx.saved_tensors
            if ctx.kind == "live":
                for_weight = _sampled(matrix, gradient, x).dense()
            else:
                for_weight = (gradient.to(x.dtype).T @ x).float()
        if ctx.needs_input_grad[2]:
            for_bias = gradient.sum(0)
        return for_x, for_weight, for_bias, None, None, None


def _sampled(matrix: SparseMatrix, y: Float[Tensor, "P rows"], x: Float[Tensor, "P columns"]) -> SparseMatrix:
    """The transpose of y times x, where `matrix` has its entries."""
    x, y = _plain(x, "trained_linear").contiguous(), _plain(y, "trained_linear").contiguous()
    row = torch.repeat_interleave(torch.arange(matrix.shape[0], dtype=torch.int32), matrix.start.diff())
    tiles = -(-x.shape[0] // LONG_LINE)
    parts = max(8, -(-tiles // 32))
    segments = max(1, -(-tiles // parts))
    value = torch.empty(segments, matrix.nnz)
    place = matrix._addresses | {"value": value.data_ptr(), "y_column": row.data_ptr(), "x": x.data_ptr()}
    place |= {"y": y.data_ptr(), "positions": x.shape[0], "parts": parts}
    _start(product_loops.sample, total=segments, claim=1, **place)
    return SparseMatrix(matrix.shape, matrix.start, matrix.column, value.sum(0) if segments > 1 else value[0], False)


def _plain(tensor: Tensor, where: str) -> Tensor:
    """`tensor` as fp32 in plain memory."""
    if tensor.device.type != "cpu":
        raise InputError(f"{where}: expected a tensor on the CPU, got one on {tensor.device}; move it with .cpu()")
    return tensor.to(torch.float32).resolve_neg()


def _rows(tensor: Tensor) -> Tensor:
    """`tensor` with the entries of each row side by side."""
    return tensor if tensor.stride(1) == 1 or tensor.shape[1] == 1 else tensor.contiguous()


def _claim(columns: int) -> int:
    return max(1, 32768 // max(1, columns))


@functools.cache
def _work(kernel: Any) -> Work:
    return compiled(kernel, np.dtype(Job))


def _start(kernel: Any, **fields: int) -> None:
    """Run a kernel with these fields of its job."""
    if fields["total"]:
        run(_work(kernel), Job(**fields))
