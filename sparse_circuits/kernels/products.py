"""Products of sparse weights with activations, and their gradients.

1. `SparseMatrix`: the nonzeros of a weight, row by row.
2. `multiply`: x times the transpose of the matrix, as `torch.nn.functional.linear` has it: by tiles of positions, or
   for few positions by scattering, whichever takes less time.
3. `sparse_linear`: the same with gradients of x and bias, for weights that stay.
4. `trained_linear`: the same with a gradient of the dense weight, too.
5. `worthwhile`: whether all this beats a dense product on the CPU.

On the CPU compiled loops do it (`product_loops`), and the same numbers come out whatever the number of threads. On CUDA
the kernels of `gpu` multiply, and the rest is plain PyTorch. `kernels.choose` says which, asked about the matrix; its
reference is a dense product. Graphs of torch.compile end before a product and begin again after it.
"""

import ctypes
import math
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from sparse_circuits.errors import InputError
from sparse_circuits.kernels import csr, gpu, untraced
from sparse_circuits.kernels.matrix import SparseMatrix, floats, launch, plain, product_loops, rows_of, work
from sparse_circuits.kernels.sizes import LANES, LINE, LONG_LINE
from sparse_circuits.kernels.threads import check

# Results from this size on are written around the cache. In memory not lately used that is up to a quarter faster,
# reading them back included; in a buffer that is still in the third cache it is up to a sixth slower.
PAST_CACHE = 1 << 22
# Less work than this, in nanoseconds, is not worth waking other threads for.
ALONE = 40_000
# Nor is a shorter product worth counting which of its inputs are zero.
COUNTING = 10_000
# How many pieces the sum over positions in a sampled weight gradient has at most.
SEGMENTS = 32
# Nanoseconds: what a product takes beyond its loops; the same of dense products, and of each of their products of two.
OVERHEAD = 5_000
_DENSE = {"bf16": (20_000, 2 / 200), "fp32": (4_000, 2 / 90)}


def multiply(
    matrix: SparseMatrix, x: Float[Tensor, "P columns"], bias: Float[Tensor, "rows"] | None = None
) -> Float[Tensor, "P rows"]:
    """x times the transpose of `matrix`, plus `bias`: fp32, contiguous, without a gradient.

    Zeros of the matrix count as zeros: times infinity or NaN they are NaN, as in a dense product. (The kernels of `gpu`
    make all of a position NaN where an input of it is not finite.)

    Args:
        matrix: the weight.
        x: any strides; other floats than fp32 are converted.
        bias: added to every position.

    Raises:
        InputError: `x` or `bias` does not fit the matrix or is not plain memory on the device of the matrix.
    """
    if torch.compiler.is_compiling():
        return _multiply_untraced(matrix, x, bias)
    rows, columns = matrix.shape
    if x.ndim != 2 or x.shape[1] != columns or (bias is not None and bias.shape != (rows,)):
        given = f"{tuple(x.shape)}" + (f" and bias {tuple(bias.shape)}" if bias is not None else "")
        raise InputError(f"multiply: expected x [positions, {columns}] and bias [{rows}], got x {given}")
    name = matrix.chosen()
    if name != "cpu":
        return _multiply_elsewhere(name, matrix, x, bias)
    x = rows_of(x, "multiply")
    positions = x.shape[0]
    y = x.new_empty(positions, rows)
    if not y.numel():
        return y
    few = _prefers_scatter(matrix, x)
    job = (matrix.transposed() if few else matrix).job()
    job.positions, job.x, job.x_step, job.y = positions, x.data_ptr(), x.stride(0), y.data_ptr()
    if bias is not None:
        bias = plain(bias, "multiply").contiguous()
        job.bias = bias.data_ptr()
    if few:
        work(product_loops.scatter).call(ctypes.addressof(job))
        check(job)
    else:
        _share_tiles(job, matrix.nnz)
        launch(product_loops.tiles, job)
    return y


def _multiply_elsewhere(name: str, matrix: SparseMatrix, x: Tensor, bias: Tensor | None) -> Tensor:
    """`multiply` by the kernels of that name, which are not compiled here."""
    x = floats(x.detach(), "multiply", matrix.value.device)
    bias = None if bias is None else floats(bias.detach(), "multiply", matrix.value.device)
    if name != "gpu":
        return F.linear(x, matrix.dense(), bias)
    y = gpu.multiply(matrix.start, matrix.column, matrix.value, x, matrix.shape[0], bias)
    # They leave out the zeros of the matrix, which make NaN of infinity.
    return y.add_(x.mul(0).sum(1, keepdim=True))


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

    Both on the CPU: nothing has been measured on GPUs. The times are those of `benchmarks/products.py` on one core of
    an AMD Zen 4 at 3.6 GHz, which multiplies bf16 directly. There a sparse product of many positions is the faster one
    up to a density between 1/5 and 1/3, against fp32 between 1/3 and 1/2.

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
        InputError: `x` or `bias` does not fit the matrix or is not plain memory on the device of the matrix.
    """
    if torch.compiler.is_compiling():
        return _sparse_untraced(x, matrix, bias)
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
    if torch.compiler.is_compiling():
        return _trained_untraced(x, weight, bias, matrix, precision, weight_gradient)
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
    if x.ndim in (0, 2):  # multiply refuses a single number
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
    if matrix.chosen() != "cpu":
        x, y = (floats(tensor, "trained_linear", matrix.value.device) for tensor in (x, y))
        return csr.sampled(matrix.start, matrix.column, y, x)
    x, y = rows_of(x, "trained_linear").contiguous(), rows_of(y, "trained_linear").contiguous()
    tiles = -(-x.shape[0] // LONG_LINE)
    job = matrix.job()
    job.parts = max(8, -(-tiles // SEGMENTS))
    job.total, job.claim = max(1, -(-tiles // job.parts)), 1
    value = x.new_empty(job.total, matrix.nnz)
    job.value, job.positions, job.x, job.y = value.data_ptr(), x.shape[0], x.data_ptr(), y.data_ptr()
    launch(product_loops.sample, job)
    return SparseMatrix.made(matrix.shape, matrix.start, matrix.column, value.sum(0), False).dense()


_multiply_untraced, _sparse_untraced = untraced(multiply), untraced(sparse_linear)
_trained_untraced = untraced(trained_linear)
