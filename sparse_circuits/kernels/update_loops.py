"""The compiled side of the optimiser: AdamW and the first pass of the projection, as `update_cpu` describes them.

1. `squares`: sums of squares of blocks of gradients.
2. `sample`: keys of the new values of some lines, before anything changes.
3. `ranks`: the keys of given ranks in a sample or a list.
4. `move`: AdamW; new values that are surely too small for the projection become zero at once, those that may stay or
   not are listed, and so are zeroed ones that could not be computed again.
5. `settle`: once the threshold is known, what is zeroed and what is counted of the list.
6. `rows_again`, `columns_again`: values as they were before they became zero.
"""

from typing import no_type_check

import numpy as np
from numba import carray, njit

from sparse_circuits.kernels.bits import threshold_of
from sparse_circuits.kernels.claims import fetch_add, first_turn, narrow, pointer, share
from sparse_circuits.kernels.sizes import CEILING, LANES, MAGNITUDE
from sparse_circuits.kernels.sizes import SQUARES as BLOCK
from sparse_circuits.kernels.update_vectors import change, count_bits, first_bit, step

_ZERO, _MARK, _CEILING, _STRIDE = np.float32(0), np.float32(-0.0), np.int32(CEILING), 1 << 18
_MASK, _LISTED = (1 << LANES) - 1, (1 << 2 * LANES) - 1


@njit(fastmath={"reassoc", "contract"})
@no_type_check
def _sum_of_squares(x, first, size):
    """In float64, so that no finite entry is too large or too small."""
    total = 0.0
    for j in range(size):
        value = np.float64(x[first + j])
        total += value * value
    return total


@no_type_check
def squares(job_at):
    """y[block] = the sum of squares of a block; tensor i begins at block begin[i] and has sizes[i] entries at x[i]."""
    job = carray(job_at, 1)[0]
    y, begin = pointer(job.y, 0.0), pointer(job.begin, np.int64(0))
    places, sizes = pointer(job.x, np.int64(0)), pointer(job.sizes, np.int64(0))
    turn = first_turn(job)
    while True:
        start, stop, turn = share(job, turn)
        if start == stop:
            break
        i = 0
        for block in range(start, stop):
            while begin[i + 1] <= block:
                i += 1
            first = (block - begin[i]) * BLOCK
            y[block] = _sum_of_squares(pointer(places[i], _ZERO), first, min(BLOCK, sizes[i] - first))


@njit
@no_type_check
def _rates(job):
    """AdamW's numbers in float32."""
    return (
        np.float32(job.scale),
        np.float32(job.decay),
        np.float32(job.part),
        np.float32(job.part_of_square),
        np.float32(job.rate),
        np.float32(job.root),
        np.float32(job.epsilon),
    )


@njit
@no_type_check
def _copy(source, target, size):
    """`size` floats from address to address."""
    x, y = pointer(source, _ZERO), pointer(target, _ZERO)
    for j in range(size):
        y[j] = x[j]


@njit
@no_type_check
def _step_of_few(job, place, size, copies, new, rates, low, high):
    """`step` of fewer than LANES entries, `place` bytes after the first."""
    at, row = copies.ctypes.data, 4 * LANES
    copies[:] = _ZERO
    for i, array in enumerate((job.p, job.m, job.v, job.g)):
        _copy(array + place, at + i * row, size)
    bits = step(at, at + row, at + 2 * row, at + 3 * row, at, at + row, at + 2 * row, new, rates, job.live, low, high)
    for i, array in enumerate((job.p, job.m, job.v)):
        _copy(at + i * row, array + place, size)
    few = (1 << size) - 1
    return bits & (few | few << LANES | few << 2 * LANES)


@no_type_check
def sample(job_at):
    """y = the keys of the new values of every `room`-th line of LANES entries; `total` lines."""
    job = carray(job_at, 1)[0]
    p, m, v, g, rates, zero = job.p, job.m, job.v, job.g, _rates(job), np.int32(0)
    y, new = pointer(job.y, np.int32(0)), np.empty((4, LANES), np.int32)
    to = new.ctypes.data
    turn = first_turn(job)
    while True:
        start, stop, turn = share(job, turn)
        if start == stop:
            break
        for line in range(start, stop):
            place = 4 * LANES * job.room * line
            a, b, c, d = p + place, m + place, v + place, g + place
            step(a, b, c, d, to + 4 * LANES, to + 8 * LANES, to + 12 * LANES, to, rates, job.live, zero, zero)
            for j in range(LANES):
                y[LANES * line + j] = min(new[0, j] & np.int32(MAGNITUDE), _CEILING)


@no_type_check
def ranks(job_at):
    """For each of n ranks at x: y = the largest key that so many of the `room` window_keys reach.

    y[n + i] = how many of those equal to it are needed, 0 for all. Ranks are from 1 to below `room`. In one claim.
    """
    job = carray(job_at, 1)[0]
    keys, wanted = carray(pointer(job.window_keys, np.int32(0)), job.room), pointer(job.x, np.int64(0))
    y, guess = pointer(job.y, np.int64(0)), 1
    for i in range(job.n):
        guess, needed = threshold_of(keys, job.room, wanted[i], guess, _STRIDE, _CEILING)
        y[i], y[job.n + i] = guess, needed


@njit
@no_type_check
def _list(job, place, bits, new):
    """Note down the entries whose bits are set: those of the window with their keys, dropped ones with their values.

    Where there is no room the value of a dropped entry stays, as -0.0 if it is zero.
    """
    first, values, keys = place >> 2, pointer(new, _ZERO), pointer(new, np.int32(0))
    window, window_keys = pointer(job.window, np.int64(0)), pointer(job.window_keys, np.int32(0))
    dropped, dropped_values = pointer(job.dropped, np.int64(0)), pointer(job.dropped_values, _ZERO)
    within, below = bits & _MASK, (bits >> LANES) & _MASK
    if within != 0:
        to = fetch_add(job.counters, count_bits(within))
        while within != 0 and to < job.room:
            j = first_bit(within)
            window[to], window_keys[to] = first + j, min(keys[j] & np.int32(MAGNITUDE), _CEILING)
            within, to = within & (within - 1), to + 1
    if below != 0:
        to, p = fetch_add(job.counters + 8, count_bits(below)), pointer(job.p + place, _ZERO)
        while below != 0:
            j = first_bit(below)
            if to < job.room:
                dropped[to], dropped_values[to] = first + j, values[j]
            else:
                p[j] = _MARK if values[j] == _ZERO else values[j]
            below, to = below & (below - 1), to + 1


@njit
@no_type_check
def _move_row(job, place, size, copies, new, rates, low, high):
    """Entries that lie side by side, `place` bytes after the first; returns how many keys are from high on."""
    live, above, end = job.live, 0, place + 4 * (size - size % LANES)
    p, m, v, g = job.p, job.m, job.v, job.g
    while place < end:
        a, b, c = p + place, m + place, v + place
        bits = step(a, b, c, g + place, a, b, c, new, rates, live, low, high)
        above += count_bits(bits >> 2 * LANES)
        if bits & _LISTED != 0:
            _list(job, place, bits, new)
        place += 4 * LANES
    size %= LANES
    if size > 0:
        bits = _step_of_few(job, place, size, copies, new, rates, low, high)
        above += count_bits(bits >> 2 * LANES)
        _list(job, place, bits, new)
    return above


@njit
@no_type_check
def _count_columns(job, row, high, above):
    """Count the keys from high on, column by column."""
    p = pointer(job.p + 4 * row * job.n, np.int32(0))
    for j in range(above.size):
        above[j] += min(p[j] & np.int32(MAGNITUDE), _CEILING) >= high


@no_type_check
def move(job_at):
    """AdamW of `size` entries as `total` rows of n, then +0.0 for those whose key is below low.

    counters: how long the lists of window and dropped would have to be.
    """
    job = carray(job_at, 1)[0]
    n, rates, low, high = job.n, _rates(job), narrow(job.low, _CEILING), narrow(job.high, _CEILING)
    copies, new = np.empty(4 * LANES, np.float32), np.empty(LANES, np.float32)
    row_counts = pointer(job.row_counts, np.int64(0))
    above = np.zeros(n if job.column_counts != 0 else 0, np.int32)
    turn = first_turn(job)
    while True:
        start, stop, turn = share(job, turn)
        if start == stop:
            break
        for row in range(start, stop):
            size = min(n, job.size - row * n)
            found = _move_row(job, 4 * row * n, size, copies, new.ctypes.data, rates, low, high)
            if job.row_counts != 0:
                row_counts[row] = found
            if job.column_counts != 0:
                _count_columns(job, row, high, above)
    for j in range(above.size):
        if above[j] != 0:
            fetch_add(job.column_counts + 8 * j, above[j])


@no_type_check
def settle(job_at):
    """Zero those of `total` entries listed in window whose key is below low, or equal to it and their place after high.

    The others are counted in row_counts.
    """
    job = carray(job_at, 1)[0]
    p, n = pointer(job.p, _ZERO), job.n
    window, window_keys = pointer(job.window, np.int64(0)), pointer(job.window_keys, np.int32(0))
    turn = first_turn(job)
    while True:
        start, stop, turn = share(job, turn)
        if start == stop:
            break
        for i in range(start, stop):
            place = window[i]
            if window_keys[i] < job.low or (window_keys[i] == job.low and place > job.high):
                p[place] = _ZERO
            else:
                fetch_add(job.row_counts + 8 * (place // n), 1)


@njit
@no_type_check
def _again(job, value, average, square):
    """The value of an entry before it became zero, had it been zero before the update too, or marked as zero."""
    lost = change(average, square, np.float32(job.rate), np.float32(job.root), np.float32(job.epsilon))
    known = value != _ZERO or job.live != 0 or np.signbit(value)
    return value + _ZERO if known else _ZERO - lost


@no_type_check
def rows_again(job_at):
    """y = the values of the `total` rows named in x, of n entries each, as they were before some became zero."""
    job = carray(job_at, 1)[0]
    p, m, v, y = pointer(job.p, _ZERO), pointer(job.m, _ZERO), pointer(job.v, _ZERO), pointer(job.y, _ZERO)
    names, n = pointer(job.x, np.int64(0)), job.n
    turn = first_turn(job)
    while True:
        start, stop, turn = share(job, turn)
        if start == stop:
            break
        for i in range(start, stop):
            first = names[i] * n
            for j in range(n):
                y[i * n + j] = _again(job, p[first + j], m[first + j], v[first + j])


@no_type_check
def columns_again(job_at):
    """y = the same of the `room` columns named in x, of `total` rows of n entries."""
    job = carray(job_at, 1)[0]
    p, m, v, y = pointer(job.p, _ZERO), pointer(job.m, _ZERO), pointer(job.v, _ZERO), pointer(job.y, _ZERO)
    names, n, count = pointer(job.x, np.int64(0)), job.n, job.room
    turn = first_turn(job)
    while True:
        start, stop, turn = share(job, turn)
        if start == stop:
            break
        for row in range(start, stop):
            for i in range(count):
                place = row * n + names[i]
                y[row * count + i] = _again(job, p[place], m[place], v[place])
