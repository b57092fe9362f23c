"""`SparseMatrix`: the nonzeros of a weight, row by row, on the CPU or CUDA; and what its products are made with.

Made of a dense matrix, spread out again and transposed: on the CPU by compiled loops (`product_loops`), elsewhere in
plain PyTorch (`csr`), as `kernels.choose` says of its values.
"""

import ctypes
import functools
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Integer
from torch import Tensor

from sparse_circuits import kernels
from sparse_circuits.errors import InputError
from sparse_circuits.fields import shown
from sparse_circuits.kernels import csr, gpu
from sparse_circuits.kernels.kept import Loops, compiled
from sparse_circuits.kernels.sizes import WORD
from sparse_circuits.kernels.threads import Work, run

product_loops = Loops("product_loops")

# Entries of a dense matrix that a thread claims at a time.
CLAIM = 32768
PLAIN = (Tensor, torch.nn.Parameter)
INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
DEVICES = ("cpu", "cuda")


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
        sizes = [size for size in self.shape if isinstance(size, int) and size >= 0]
        if not len(sizes) == len(self.shape) == 2 or self.start.device.type not in DEVICES:
            raise InputError(
                f"SparseMatrix: shape {self.shape} on {self.start.device}; expected two sizes on CPU or CUDA"
            )
        kinds = [(self.start, torch.int32, sizes[0] + 1), (self.column, torch.int32, self.value.numel())]
        for tensor, dtype, size in [*kinds, (self.value, torch.float32, self.value.numel())]:
            fits = tensor.dtype == dtype and tensor.shape == (size,) and tensor.device == self.start.device
            if not (fits and _is_plain(tensor) and tensor.is_contiguous()):
                raise InputError(
                    f"SparseMatrix: expected {size} contiguous numbers of {dtype} on one device, got {tensor.dtype} of "
                    f"shape {tuple(tensor.shape)} on {tensor.device}; make the matrix with SparseMatrix.from_dense"
                )
        wrong = csr.fault(self.shape, self.start, self.column, self.value, self.finite)
        if wrong:
            raise InputError(f"SparseMatrix: {wrong}; make the matrix with SparseMatrix.from_dense")

    @classmethod
    def made(cls, shape: tuple[int, int], *parts: Any) -> "SparseMatrix":
        """One whose parts are known to be right: looking at them would cost as much as making them."""
        matrix = object.__new__(cls)
        matrix.__dict__.update(zip((field.name for field in fields(cls)), (shape, *parts), strict=True))
        return matrix

    @classmethod
    def from_dense(cls, weight: Float[Tensor, "rows columns"]) -> "SparseMatrix":
        """The nonzeros of `weight` (fp32 on the CPU or CUDA; other floats are converted). NaN is one, -0.0 is none.

        Raises:
            InputError: `weight` is no matrix in plain memory on the CPU or CUDA, or has too many nonzeros to count in
                31 bits.
        """
        dense = floats(weight.detach(), "SparseMatrix.from_dense")
        if dense.ndim != 2:
            raise InputError(
                f"SparseMatrix.from_dense: expected a weight [rows, columns], got one of shape {tuple(dense.shape)}"
            )
        shape = rows, columns = dense.shape[0], dense.shape[1]
        if kernels.choose(dense).name != "cpu":
            if dense.device.type not in DEVICES:
                raise InputError(
                    f"SparseMatrix.from_dense: the weight is on {dense.device}; move it to the CPU or CUDA"
                )
            parts = csr.nonzeros(dense)
            _check_count(parts[1].numel())
            return cls.made(shape, *parts, bool(parts[2].isfinite().all()))
        dense = rows_of(dense, "SparseMatrix.from_dense")
        start = dense.new_zeros(rows + 1, dtype=torch.int32)
        words = dense.new_empty(rows * -(-columns // WORD), dtype=torch.int64)
        job = Job(rows=rows, columns=columns, total=rows, claim=_claim(columns))
        job.x, job.x_step, job.start, job.y = dense.data_ptr(), dense.stride(0), start.data_ptr(), words.data_ptr()
        launch(product_loops.count, job)
        counts = start.numpy()
        nnz = int(counts.sum(dtype=np.int64))
        _check_count(nnz)
        np.cumsum(counts, out=counts)
        column, value = dense.new_empty(nnz, dtype=torch.int32), dense.new_empty(nnz)
        odd = np.zeros(1, np.int64)
        job.column, job.value, job.found = column.data_ptr(), value.data_ptr(), odd.ctypes.data
        launch(product_loops.fill, job)
        return cls.made(shape, start, column, value, not odd[0])

    @property
    def nnz(self) -> int:
        """How many entries are stored."""
        return self.value.numel()

    @property
    def density(self) -> float:
        """The part of all entries that is stored."""
        return self.nnz / max(1, self.shape[0] * self.shape[1])

    def to(self, device: str | torch.device) -> "SparseMatrix":
        """The matrix on a device, the CPU or CUDA; itself where it lies there already.

        Raises:
            InputError: another kind of device.
        """
        if torch.device(device).type not in DEVICES:
            raise InputError(f"a sparse matrix cannot lie on {device}; choose the CPU or CUDA")
        value = self.value.to(device)
        if value is self.value:
            return self
        return SparseMatrix.made(self.shape, self.start.to(device), self.column.to(device), value, self.finite)

    def dense(self) -> Float[Tensor, "rows columns"]:
        """The matrix with its zeros."""
        if torch.compiler.is_compiling():
            return _dense_untraced(self)
        if self.chosen() != "cpu":
            return csr.dense(self.shape, self.start, self.column, self.value)
        return self._spread(self.value.new_empty(self.shape))

    def rows(self, numbers: Integer[Tensor, "*leading"]) -> Float[Tensor, "*leading columns"]:
        """The rows of these numbers, with their zeros.

        Raises:
            InputError: a number is no row's, they are no integers in plain memory, or on another device.
        """
        if torch.compiler.is_compiling():
            return _rows_untraced(self, numbers)
        if numbers.dtype not in INTEGERS or not _is_plain(numbers):
            kind = f"{type(numbers).__name__} of {numbers.dtype} and {numbers.layout}"
            raise InputError(f"SparseMatrix.rows: expected integers in plain memory, got a {kind}; see .long()")
        numbers, last = numbers.long().contiguous(), self.shape[0] - 1
        device = self.value.device
        if numbers.device != device or (numbers.numel() and not 0 <= int(numbers.min()) <= int(numbers.max()) <= last):
            raise InputError(f"SparseMatrix.rows: expected numbers from 0 to {last} on {device}, got {shown(numbers)}")
        if self.chosen() != "cpu":
            found = csr.rows(self.shape[1], self.start, self.column, self.value, numbers.flatten())
            return found.view(*numbers.shape, self.shape[1])
        return self._spread(self.value.new_empty(*numbers.shape, self.shape[1]), numbers.data_ptr())

    def _spread(self, result: Tensor, numbers: int = 0) -> Tensor:
        job = self.job()
        job.total, job.claim = result.shape[:-1].numel(), _claim(self.shape[1])
        job.x, job.y = numbers, result.data_ptr()
        launch(product_loops.spread, job)
        return result

    def transposed(self) -> "SparseMatrix":
        """The matrix with rows and columns swapped; made once."""
        return self._transpose

    @functools.cached_property
    def _transpose(self) -> "SparseMatrix":
        rows, columns = self.shape
        if self.chosen() != "cpu":
            turned = gpu.transpose(self.start, self.column, self.value, columns)
            return SparseMatrix.made((columns, rows), *turned, self.finite)
        place, row = self.start.new_zeros(columns + 2), torch.empty_like(self.column)
        value = torch.empty_like(self.value)
        job = self.job()
        job.total, job.claim = 1, 1
        job.y, job.y_start, job.y_column = value.data_ptr(), place.data_ptr(), row.data_ptr()
        launch(product_loops.transpose, job)
        return SparseMatrix.made((columns, rows), place[:-1], row, value, self.finite)

    def chosen(self) -> str:
        """The name of the kernels for it."""
        return self._usual if kernels.is_free() else kernels.choose(self.value).name

    @functools.cached_property
    def _usual(self) -> str:
        # Found once: to ask again for each product would take as long as a small one.
        return kernels.choose(self.value).name

    def job(self) -> Any:
        """A new job that says what every job with this matrix says."""
        return Job.from_buffer_copy(self._template)

    @functools.cached_property
    def _template(self) -> bytes:
        rows, columns = self.shape
        places = {"start": self.start.data_ptr(), "column": self.column.data_ptr(), "value": self.value.data_ptr()}
        return bytes(Job(rows=rows, columns=columns, finite=self.finite, **places))

    def __getstate__(self) -> dict[str, Any]:
        # A copy lies elsewhere in memory: it finds out its own addresses. So does what is copied, since sending it to
        # another process moves it into memory that both share.
        self.__dict__.pop("_template", None)
        return {field.name: getattr(self, field.name) for field in fields(self)}


_dense_untraced = kernels.untraced(SparseMatrix.dense)
_rows_untraced = kernels.untraced(SparseMatrix.rows)


def _is_plain(tensor: Tensor) -> bool:
    """Whether compiled code finds the entries where the strides say, as they are."""
    return type(tensor) in PLAIN and tensor.layout is torch.strided and not tensor.is_neg()


def plain(tensor: Tensor, where: str) -> Tensor:
    """`tensor` as fp32 in memory that compiled code can read."""
    if tensor.dtype is torch.float32 and tensor.is_cpu and _is_plain(tensor):
        return tensor
    return floats(tensor, where, torch.device("cpu"))


def floats(tensor: Tensor, where: str, device: torch.device | None = None) -> Tensor:
    """`tensor` as fp32 in plain memory, which must lie on `device` where that is given."""
    if device is not None and tensor.device != device:
        name = "the CPU" if device.type == "cpu" else str(device)
        raise InputError(f"{where}: expected a tensor on {name}, got one on {tensor.device}; move it with .to()")
    if type(tensor) not in PLAIN:
        raise InputError(f"{where}: expected a plain tensor, got a {type(tensor).__name__}, whose memory is its own")
    if tensor.layout is not torch.strided:
        raise InputError(f"{where}: expected a dense tensor, got one of {tensor.layout}; convert it with .to_dense()")
    if not tensor.is_floating_point():
        raise InputError(
            f"{where}: expected a floating dtype, got {tensor.dtype}; convert it first, e.g. with .float()"
        )
    return tensor.to(torch.float32).resolve_neg()


def rows_of(tensor: Tensor, where: str) -> Tensor:
    """`tensor` as `plain` has it, with the entries of each row side by side."""
    tensor = plain(tensor, where)
    return tensor if tensor.stride(1) == 1 or tensor.shape[1] == 1 else tensor.contiguous()


def _check_count(nnz: int) -> None:
    if nnz >= 2**31:
        raise InputError(f"SparseMatrix.from_dense: {nnz} nonzeros do not fit; below 2**31 was expected, split it")


def _claim(columns: int) -> int:
    return max(1, CLAIM // max(1, columns))


@functools.cache
def work(kernel: Any) -> Work:
    """A kernel of `product_loops`, compiled."""
    return compiled(kernel, np.dtype(Job))


def launch(kernel: Any, job: Any) -> None:
    """Run a kernel of `product_loops` on `job`, of which a thread claims `claim` of `total` pieces at a time."""
    if job.total:
        run(work(kernel), job)
