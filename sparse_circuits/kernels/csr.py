"""Sparse matrices row by row in plain PyTorch, on any device: what compiled loops do on the CPU only.

A matrix of shape [rows, columns] is here what a `SparseMatrix` holds: `start`, `column` and `value`.

1. `fault`: why compiled code would misread parts that somebody else has made.
2. `nonzeros`: the parts of a dense matrix.
3. `places`: where the entries lie in the dense matrix; `dense`, `sampled`: filled in there. `rows`: some of its rows.
"""

import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor


def fault(
    shape: tuple[int, int],
    start: Int[Tensor, "rows_and_one"],
    column: Int[Tensor, "nnz"],
    value: Float[Tensor, "nnz"],
    finite: bool,
) -> str | None:
    """What is wrong with the parts of a matrix, whose dtypes and sizes are right; None where nothing is."""
    rows, columns = shape
    # Wider than they are stored: a difference beyond 31 bits would come out as another.
    steps = start.long().diff()
    if int(start[0]) != 0 or int(start[-1]) != len(column) or (rows and int(steps.min()) < 0):
        return f"start must rise from 0 to {len(column)}, the number of entries"
    if len(column) and not 0 <= int(column.min()) <= int(column.max()) < columns:
        return f"column must be from 0 to {columns - 1}, got {int(column.min())} to {int(column.max())}"
    if bool((places(start, column, columns).diff() <= 0).any()):
        return "column must rise within each row"
    if finite and not bool(value.isfinite().all()):
        return "finite must be False where a value is NaN or infinite"
    return None


def nonzeros(
    weight: Float[Tensor, "rows columns"],
) -> tuple[Int[Tensor, "rows_and_one"], Int[Tensor, "nnz"], Float[Tensor, "nnz"]]:
    """`start`, `column` and `value` of a dense matrix. Waits for the device."""
    row, column = weight.nonzero(as_tuple=True)
    start = torch.zeros(len(weight) + 1, dtype=torch.int32, device=weight.device)
    start[1:] = (weight != 0).sum(1).cumsum(0)
    return start, column.int(), weight[row, column]


def places(start: Int[Tensor, "rows_and_one"], column: Int[Tensor, "nnz"], columns: int) -> Int64[Tensor, "nnz"]:
    """The flat position of each entry."""
    numbers = torch.arange(len(start) - 1, device=start.device)
    return numbers.repeat_interleave(start.diff(), output_size=len(column)) * columns + column


def dense(
    shape: tuple[int, int], start: Int[Tensor, "rows_and_one"], column: Int[Tensor, "nnz"], value: Float[Tensor, "nnz"]
) -> Float[Tensor, "rows columns"]:
    """The matrix with its zeros."""
    result = value.new_zeros(shape)
    result.view(-1)[places(start, column, shape[1])] = value
    return result


def rows(
    columns: int,
    start: Int[Tensor, "rows_and_one"],
    column: Int[Tensor, "nnz"],
    value: Float[Tensor, "nnz"],
    numbers: Int64[Tensor, "count"],
) -> Float[Tensor, "count columns"]:
    """The rows of these numbers, with their zeros. Waits for the device."""
    first = start[numbers].long()
    counts = start[numbers + 1] - first
    row = torch.arange(len(numbers), device=start.device).repeat_interleave(counts)
    # An entry's place: where its row begins, and how many of its row came before.
    before = counts.cumsum(0) - counts
    place = torch.arange(len(row), device=start.device) + (first - before)[row]
    result = value.new_zeros(len(numbers), columns)
    result[row, column[place].long()] = value[place]
    return result


def sampled(
    start: Int[Tensor, "rows_and_one"],
    column: Int[Tensor, "nnz"],
    y: Float[Tensor, "P rows"],
    x: Float[Tensor, "P columns"],
) -> Float[Tensor, "rows columns"]:
    """The transpose of y times x where the matrix has its entries, zero elsewhere."""
    at = places(start, column, x.shape[1])
    # All entries at once are less work for a GPU than to gather both factors of a few.
    product = y.T @ x
    result = torch.zeros_like(product)
    result.view(-1)[at] = product.view(-1)[at]
    return result
