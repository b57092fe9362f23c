"""How the tensors of a model lie in its safetensors file: exact to the bit, and small.

1. As it is: float32, or float16 where that holds all its values.
2. A matrix with less than a quarter nonzero: `NAME:values` and `NAME:gaps`, how far each is from the one before in row
   order, beside `NAME:shape`.
3. A float16 matrix most of whose entries are a number of their row plus one of their column: `NAME:row` and
   `NAME:column`, and the other entries as in 2. A smoothed bigram table is one: a transition that was never seen has
   what its first token leaves for such, times how likely its second token is anywhere.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sparse_circuits.errors import InputError
from sparse_circuits.kernels.products import SparseMatrix

SPARSE_BELOW = 0.25
"""The share of entries under which storing them alone takes less room than all, with some margin for speed."""
BACKGROUND_SIZES = 1 << 16, 1 << 26
"""Entries of a matrix for which a background is looked for: below there is nothing to gain, above it takes long."""


@dataclass(frozen=True)
class Sparse:
    """A tensor as stored sparsely."""

    values: Tensor
    positions: Tensor
    """int64, in row order."""
    shape: tuple[int, ...]

    def dense(self) -> Tensor:
        flat = torch.zeros(math.prod(self.shape), dtype=self.values.dtype)
        flat[self.positions] = self.values
        return flat.view(self.shape)

    @cached_property
    def matrix(self) -> SparseMatrix:
        """Made once, since an embedding and its unembedding may share it."""
        rows, columns = self.shape
        counts = torch.bincount(self.positions // columns, minlength=rows)
        start = torch.cat([counts.new_zeros(1), counts.cumsum(0)]).int()
        finite = bool(self.values.isfinite().all())
        return SparseMatrix((rows, columns), start, (self.positions % columns).int(), self.values, finite)


def pack(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a file that holds the float32 tensors `state`."""
    packed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        tensor = tensor.detach().cpu()
        # By bits, so that a negative zero counts as a value and survives.
        nonzero = tensor.reshape(-1).view(torch.int32) != 0
        if tensor.ndim >= 2 and int(nonzero.sum()) < SPARSE_BELOW * len(nonzero):
            packed |= _entries(name, tensor, nonzero)
            continue
        half = _halved(tensor)
        background = None if half.dtype != torch.float16 else _background(half)
        if background is None:
            packed[name] = half
            continue
        row, column = background
        packed |= {f"{name}:row": row, f"{name}:column": column}
        packed |= _entries(name, tensor, _bits(_sum(row, column)).reshape(-1) != _bits(half).reshape(-1))
    return packed


def unpack(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor | Sparse]:
    """The float32 state in the tensors of the file `path`.

    Raises:
        InputError: what is stored in parts is damaged.
    """
    for name, tensor in tensors.items():
        if not name.endswith((":gaps", ":shape")) and tensor.dtype not in (torch.float32, torch.float16):
            raise InputError(f"{path}: {name} is stored as {tensor.dtype}; expected float32 or float16")
    state: dict[str, Tensor | Sparse] = {name: tensor.float() for name, tensor in tensors.items() if ":" not in name}
    # By any of its parts, so that none can be missing unnoticed.
    for name in dict.fromkeys(key.rpartition(":")[0] for key in tensors if ":" in key):
        try:
            part = _sparse(tensors, name)
            background = f"{name}:row" in tensors or f"{name}:column" in tensors
            state[name] = _over_background(tensors, name, part) if background else part
        except (KeyError, IndexError, TypeError, RuntimeError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise InputError(f"{path}: the tensor {name!r}, stored in parts, is damaged ({reason})") from error
    return state


def _entries(name: str, tensor: Float[Tensor, "..."], where: Bool[Tensor, "entries"]) -> dict[str, Tensor]:
    positions = where.nonzero().squeeze(1)
    gaps = positions.diff(prepend=positions.new_zeros(1))
    widest = int(gaps.max()) if len(gaps) else 0
    kind = torch.uint16 if widest < 1 << 16 else torch.int32 if widest < 1 << 31 else torch.int64
    return {
        f"{name}:values": _halved(tensor.reshape(-1)[positions]),
        f"{name}:gaps": gaps.to(kind),
        f"{name}:shape": torch.tensor(tensor.shape),
    }


def _sparse(tensors: Mapping[str, Tensor], name: str) -> Sparse:
    """The entries stored for the tensor `name`, checked; IndexError and its like say what is wrong."""
    values, gaps, sizes = (tensors[f"{name}:{part}"] for part in ("values", "gaps", "shape"))
    if gaps.dtype not in (torch.uint16, torch.int32, torch.int64) or gaps.ndim != 1:
        raise IndexError("its gaps are no whole numbers in a row")
    if sizes.dtype != torch.int64:
        raise IndexError("its shape is no list of whole numbers")
    shape = tuple(sizes.tolist())
    if math.prod(shape) >= 1 << 63:
        raise IndexError(f"its shape {shape} names more entries than there are positions")
    gaps = gaps.to(torch.int64)
    positions = gaps.cumsum(0)
    if values.shape != gaps.shape or bool((gaps[1:] <= 0).any()) or bool((gaps[:1] < 0).any()):
        raise IndexError("its positions do not rise, one a value")
    # All of them: gaps of a hostile file may add up to more than an int64 holds, and then come back below zero.
    if min(shape, default=0) < 0 or bool(((positions < 0) | (positions >= math.prod(shape))).any()):
        raise IndexError(f"its positions exceed its shape {shape}")
    return Sparse(values.float(), positions, shape)


def _over_background(tensors: Mapping[str, Tensor], name: str, part: Sparse) -> Float[Tensor, "rows columns"]:
    row, column = tensors[f"{name}:row"], tensors[f"{name}:column"]
    # What is stored in a few bytes could otherwise fill the memory before anybody compares its shape.
    if math.prod(part.shape) > BACKGROUND_SIZES[1]:
        raise IndexError(f"its shape {part.shape} has more entries than a background is ever stored for")
    if part.shape != (*row.shape, *column.shape) or row.ndim != 1:
        raise IndexError(f"{tuple(row.shape)} numbers of rows and {tuple(column.shape)} of columns for {part.shape}")
    whole = _sum(row, column).float()
    whole.view(-1)[part.positions] = part.values
    return whole


def _halved(tensor: Tensor) -> Tensor:
    """In float16 where that holds every value."""
    half = tensor.half()
    # By bits again: of what is no number a half keeps only a part.
    return half if torch.equal(half.float().view(torch.int32), tensor.view(torch.int32)) else tensor


def _sum(row: Float[Tensor, "rows"], column: Float[Tensor, "columns"]) -> Float[Tensor, "rows columns"]:
    """Of two correctly rounded operations, so that every machine gets the same bits."""
    return (row[:, None] + column[None, :]).half()


def _bits(half: Tensor) -> Int[Tensor, "..."]:
    return half.view(torch.int16)


def _background(half: Tensor) -> tuple[Float[Tensor, "rows"], Float[Tensor, "columns"]] | None:
    """A number of each row and one of each column whose sums are most entries; None where there are none.

    Whatever was seen more often than its background says is above it: the lower quartile of what is left of a row or
    column is the background's where that makes up a quarter. Averages over what is near, and at last as near as
    rounding leaves it, then come close enough for the rounded sums to be right.
    """
    if half.ndim != 2 or not BACKGROUND_SIZES[0] <= half.numel() <= BACKGROUND_SIZES[1]:
        return None
    table = half.float()
    if not bool(table.isfinite().all()):
        return None
    row = table.new_zeros(len(table))
    for _ in range(4):
        column = _quartile(table - row[:, None], 0)
        row = _quartile(table - column, 1)
    for steps in (16, 4, 1):
        for dim in (1, 0):
            rest = table - row[:, None] - column
            near = rest.abs() <= steps * 2**-10 * table.abs()
            mean = ((rest * near).sum(dim, dtype=torch.float64) / near.sum(dim).clamp(min=1)).float()
            row, column = (row + mean, column) if dim == 1 else (row, column + mean)
    others = (_bits(_sum(row, column)) != _bits(half)).sum()
    return (row, column) if int(others) < SPARSE_BELOW * half.numel() else None


def _quartile(table: Float[Tensor, "rows columns"], dim: int) -> Float[Tensor, "entries"]:
    return table.kthvalue(1 + (table.shape[dim] - 1) // 4, dim).values
