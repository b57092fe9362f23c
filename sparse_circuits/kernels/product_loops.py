"""The compiled side of the sparse products: loops over rows, positions and nonzeros, as `products` describes them.

1. `count`, `fill`: a dense matrix to rows of columns and values.
2. `transpose`: the same matrix by columns.
3. `gather`: one position at a time, rows of the matrix times a row of x.
4. `sample`: the products of two activations where a matrix has its nonzeros.

Each kernel takes the address of its job (`products.Job`) and claims work until none is left; see `bits` for the style.
"""

from typing import no_type_check

import numpy as np
from numba import carray, njit

from sparse_circuits.kernels.threads import fetch_add, first_turn, pointer, share


@no_type_check
def count(job_at):
    """How many entries of each of `total` rows of x are not zero: start[row + 1]."""
    job = carray(job_at, 1)[0]
    x, start_of = pointer(job.x, np.float32(0)), pointer(job.start, np.int32(0))
    turn = first_turn(job)
    while True:
        start, stop, turn = share(job, turn)
        if start == stop:
            break
        for row in range(start, stop):
            found = 0
            for j in range(job.columns):
                found += x[row * job.x_step + j] != np.float32(0)
            start_of[row + 1] = found


@no_type_check
def fill(job_at):
    """Write the columns and values of `total` rows of x from start[row] on; `found` counts those not finite."""
    job = carray(job_at, 1)[0]
    x, start_of = pointer(job.x, np.float32(0)), pointer(job.start, np.int32(0))
    column, value = pointer(job.column, np.int32(0)), pointer(job.value, np.float32(0))
    unusual = 0
    turn = first_turn(job)
    while True:
        start, stop, turn = share(job, turn)
        if start == stop:
            break
        for row in range(start, stop):
            place = start_of[row]
            for j in range(job.columns):
                entry = x[row * job.x_step + j]
                if entry != np.float32(0):
                    column[place] = j
                    value[place] = entry
                    unusual += not np.isfinite(entry)
                    place += 1
    fetch_add(job.found, unusual)


@no_type_check
def transpose(job_at):
    """A matrix of `rows` rows by its `columns` columns: to y_start, y_column, y. In one claim."""
    job = carray(job_at, 1)[0]
    start_of, column = pointer(job.start, np.int32(0)), pointer(job.column, np.int32(0))
    value, y = pointer(job.value, np.float32(0)), pointer(job.y, np.float32(0))
    place_of, row_of = pointer(job.y_start, np.int32(0)), pointer(job.y_column, np.int32(0))
    # Counted two places on, so that the places move up to where they belong while the entries are written.
    for entry in range(start_of[job.rows]):
        place_of[column[entry] + 2] += 1
    for j in range(job.columns):
        place_of[j + 2] += place_of[j + 1]
    for row in range(job.rows):
        for entry in range(start_of[row], start_of[row + 1]):
            place = place_of[column[entry] + 1]
            place_of[column[entry] + 1] = place + 1
            row_of[place] = row
            y[place] = value[entry]


@njit
@no_type_check
def _unusual(x, first, step, size):
    """How many of `size` entries of x, `step` apart, are NaN or infinite."""
    found = 0
    for j in range(size):
        found += not np.isfinite(x[first + j * step])
    return found


@no_type_check
def gather(job_at):
    """y[p] = bias + matrix times x[p] for `total` positions."""
    job = carray(job_at, 1)[0]
    x, y, bias = pointer(job.x, np.float32(0)), pointer(job.y, np.float32(0)), pointer(job.bias, np.float32(0))
    start_of, column = pointer(job.start, np.int32(0)), pointer(job.column, np.int32(0))
    value = pointer(job.value, np.float32(0))
    turn = first_turn(job)
    while True:
        start, stop, turn = share(job, turn)
        if start == stop:
            break
        for p in range(start, stop):
            first = p * job.x_step
            unusual = _unusual(x, first, job.x_stride, job.columns)
            for row in range(job.rows):
                total = bias[row] if job.bias != 0 else np.float32(0)
                met = 0
                for entry in range(start_of[row], start_of[row + 1]):
                    factor = x[first + column[entry] * job.x_stride]
                    total += value[entry] * factor
                    met += not np.isfinite(factor)
                # A zero weight times infinity or NaN is NaN.
                y[p * job.rows + row] = total if met == unusual else np.float32(np.nan)


@no_type_check
def sample(job_at):
    """value[entry] = sum over positions of y[p, row] * x[p, column], for `total` rows of the matrix."""
    job = carray(job_at, 1)[0]
    x, y = pointer(job.x, np.float32(0)), pointer(job.y, np.float32(0))
    start_of, column = pointer(job.start, np.int32(0)), pointer(job.column, np.int32(0))
    value = pointer(job.value, np.float32(0))
    turn = first_turn(job)
    while True:
        start, stop, turn = share(job, turn)
        if start == stop:
            break
        for row in range(start, stop):
            for entry in range(start_of[row], start_of[row + 1]):
                total = np.float32(0)
                for p in range(job.positions):
                    total += y[p * job.rows + row] * x[p * job.columns + column[entry]]
                value[entry] = total
