"""The compiled side of what follows the unembedding: the bigram table's rows, and the loss, as `fused` describes them.

1. `add_rows`: logits plus a row of a table each.
2. `sum_rows`: the gradient of the table: the sum of those rows of the gradient that belong to each of its own.
3. `cross_entropy`: the loss of each row, and the gradient of their mean.
"""

import math
from typing import no_type_check

import numpy as np
from numba import carray, njit

from sparse_circuits.kernels.claims import first_turn, narrow, pointer, share
from sparse_circuits.kernels.exponential import exponential
from sparse_circuits.kernels.floats import rounded, widened

_ZERO, _ONE = np.float32(0), np.float32(1)


@no_type_check
def add_rows(job_at):
    """y = x + bias (where there is one) + the row of the table that tokens name, for `total` rows; y is float32."""
    job = carray(job_at, 1)[0]
    x, y, n = pointer(job.x, job.unit), pointer(job.y, _ZERO), job.n
    table, bias, tokens = pointer(job.table, _ZERO), pointer(job.bias, _ZERO), pointer(job.tokens, np.int64(0))
    turn = first_turn(job)
    while True:
        start, stop, turn = share(job, turn)
        if start == stop:
            break
        for row in range(start, stop):
            first, here, there = row * job.x_step, row * n, tokens[row] * n
            if job.bias != 0:
                for j in range(n):
                    y[here + j] = (widened(x[first + j]) + bias[j]) + table[there + j]
            else:
                for j in range(n):
                    y[here + j] = widened(x[first + j]) + table[there + j]


@no_type_check
def sum_rows(job_at):
    """y[row] = the sum of x[order[i]] for i from begin[row] to begin[row + 1], for `total` rows of float32."""
    job = carray(job_at, 1)[0]
    x, y, n = pointer(job.x, _ZERO), pointer(job.y, _ZERO), job.n
    order, begin = pointer(job.order, np.int64(0)), pointer(job.begin, np.int64(0))
    turn = first_turn(job)
    while True:
        start, stop, turn = share(job, turn)
        if start == stop:
            break
        for row in range(start, stop):
            here, one, end = row * n, begin[row], begin[row + 1]
            if one == end:
                for j in range(n):
                    y[here + j] = _ZERO
            else:
                first = order[one] * job.x_step
                for j in range(n):
                    y[here + j] = x[first + j]
            for i in range(one + 1, end):
                first = order[i] * job.x_step
                for j in range(n):
                    y[here + j] += x[first + j]


@njit
@no_type_check
def _largest(x, first, n, magnitude):
    """The largest of a row, as bits; a NaN where one is above everything, else perhaps none of the NaN.

    With the other bits turned over where the sign is set, floats order as integers do.
    """
    largest = narrow(-magnitude - 1, magnitude)
    for j in range(n):
        bits = x[first + j]
        largest = max(largest, narrow(bits ^ magnitude if bits < 0 else bits, magnitude))
    return narrow(largest ^ magnitude if largest < 0 else largest, magnitude)


@njit(fastmath={"reassoc"})
@no_type_check
def _powers(x, first, n, top, powers):
    """exp(x - top) of a row, and their sum."""
    total = _ZERO
    for j in range(n):
        powers[j] = exponential(widened(x[first + j]) - top)
        total += powers[j]
    return total


@njit(error_model="numpy")
@no_type_check
def _loss(x, first, n, target, magnitude, powers):
    """The loss of a row; `powers` becomes e^x but for a factor, which is returned too: it makes them sum up to 1."""
    top = widened(_largest(x, first, n, magnitude))
    total = _powers(x, first, n, top, powers)
    return np.float32(math.log(total)) + (top - widened(x[first + target])), _ONE / total


@no_type_check
def cross_entropy(job_at):
    """losses, one for each of `total` rows of x, and the gradient y of `part` times their sum if there is room."""
    job = carray(job_at, 1)[0]
    n, unit = job.n, job.unit
    x, y, magnitude = pointer(job.x, unit), pointer(job.y, unit), narrow(job.magnitude, unit)
    losses, targets = pointer(job.losses, _ZERO), pointer(job.tokens, np.int64(0))
    powers = np.empty(n, np.float32)
    part = np.float32(job.part)
    turn = first_turn(job)
    while True:
        start, stop, turn = share(job, turn)
        if start == stop:
            break
        for row in range(start, stop):
            here, target = row * n, targets[row]
            losses[row], factor = _loss(x, row * job.x_step, n, target, magnitude, powers)
            if job.y != 0:
                factor *= part
                for j in range(n):
                    y[here + j] = rounded(powers[j] * factor, unit)
                y[here + target] = rounded(powers[target] * factor - part, unit)
