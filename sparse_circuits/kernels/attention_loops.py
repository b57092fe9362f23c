"""The compiled side of attention: a tile of queries of one head at a time, over the keys in chunks.

Queries lie side by side in vectors, so that everything about a softmax is vector code: a tile of scores is
[keys, queries]. Its products, d_head wide, keep their sums in registers (`vectors.product`).

Forward:
1. scores = keys (scaled queries)^T, with -inf where a query does not see a key; chunks that no query sees are left out.
2. The running maximum and total of each query: when the maximum grows, what is summed already is scaled down.
3. weights = 2^(score - maximum), scores being in units of log 2; output += weights^T values.

Backward, with the maximum and the total of the forward pass:
4. weights as before; their gradient is values (gradient of output)^T; that of the scores is
   weights * (it - inner), where inner = sum of output * its gradient.
5. Three products add to the gradients of the values, the keys and the queries.

A job is an `attention_cpu.Job`; a row with more keys before its queries than there are is left out, and job.bad is 1.
"""

import math
from typing import NamedTuple, no_type_check

import numpy as np
from numba import carray, njit

from sparse_circuits.kernels.claims import first_turn, pointer, share
from sparse_circuits.kernels.sizes import TILE
from sparse_circuits.kernels.vectors import (
    HALF,
    LANES,
    hide,
    load,
    maximum,
    power_of_two,
    product,
    splat,
    store,
    transpose,
)

# Keys in a chunk of the forward and of the backward pass: their scores fit into the fastest cache.
CHUNK, BACK = 64, 32
# Rows of a product whose sums are in registers at the same time.
ROWS = 16
FLOAT = 4
LOG2E, LN2 = math.log2(math.e), np.float32(math.log(2))
ZERO, ONE, LOWEST = np.float32(0), np.float32(1), np.float32(np.finfo(np.float32).min)

_four, _one = product(4, 4), product(8, 1)
_along_wide, _along_half = product(ROWS, 1), product(ROWS, 1, HALF)


class Room(NamedTuple):
    """Where a thread keeps what it works on: addresses of [rows, columns] floats, the last five for gradients only."""

    width: int
    """d_head, filled up with zeros to a multiple of HALF."""
    keys: int
    """[capacity, width]"""
    values: int
    """[capacity, width]"""
    queries: int
    """[TILE, width], scaled."""
    turned: int
    """[width, TILE], the same."""
    out: int
    """[TILE, width]: the output, or the gradient of the queries."""
    tile: int
    """[chunk, TILE]: scores, then weights."""
    top: int
    """[TILE]: the largest score of each query."""
    total: int
    """[TILE]: the sum of its weights, in the end the reciprocal."""
    factor: int
    """[TILE]: by how much a new maximum scales down; for gradients `inner`."""
    change: int
    """[chunk, TILE]: gradients of weights, then of scores."""
    upstream: int
    """[TILE, width]: the gradient of the output."""
    upstream_turned: int
    """[width, TILE], the same."""
    keys_gradient: int
    """[capacity, width]"""
    values_gradient: int
    """[capacity, width]"""


@njit
@no_type_check
def _room(space, width, capacity, chunk):
    """Divide `space`, of at least `_size` floats."""
    rows, tile, scores, line = width * (capacity + 2 * ROWS), TILE * width, chunk * TILE, TILE
    # In the order of `Room`, each beginning where the one before ends.
    start = (space.ctypes.data + 63) & ~63
    values = start + FLOAT * rows
    queries = values + FLOAT * rows
    turned, out, weights = queries + FLOAT * tile, queries + 2 * FLOAT * tile, queries + 3 * FLOAT * tile
    top = weights + FLOAT * scores
    total, factor, change = top + FLOAT * line, top + 2 * FLOAT * line, top + 3 * FLOAT * line
    upstream = change + FLOAT * scores
    upstream_turned, of_keys = upstream + FLOAT * tile, upstream + 2 * FLOAT * tile
    of_values = of_keys + FLOAT * rows
    place = (start, values, queries, turned, out, weights, top, total, factor)
    return Room(width, *place, change, upstream, upstream_turned, of_keys, of_values)


@njit
@no_type_check
def _size(width, capacity, chunk):
    """Floats for all of a room: a little more than the forward pass needs."""
    return 4 * width * (capacity + 2 * ROWS) + TILE * (5 * width + 2 * chunk + 3) + 16


@njit
@no_type_check
def _across(a, width, b, c, rows, vectors):
    """c[rows, queries] = a[rows, width] b[width, queries]."""
    if vectors == TILE // LANES:
        for row in range(0, rows, 4):
            _four(a + FLOAT * row * width, width, 1, b, TILE, c + FLOAT * row * TILE, TILE, width, 0)
    else:
        for row in range(0, rows, 8):
            for at in range(0, FLOAT * LANES * vectors, FLOAT * LANES):
                _one(a + FLOAT * row * width, width, 1, b + at, TILE, c + FLOAT * row * TILE + at, TILE, width, 0)


@njit
@no_type_check
def _along(a, a_row, a_step, b, c, rows, steps, width):
    """c[rows, width] += a[rows, steps] b[steps, width]."""
    for row in range(0, rows, ROWS):
        left, result = a + FLOAT * row * a_row, c + FLOAT * row * width
        if width % LANES == 0:
            for at in range(0, FLOAT * width, FLOAT * LANES):
                _along_wide(left, a_row, a_step, b + at, width, result + at, width, steps, 1)
        else:
            for at in range(0, FLOAT * width, FLOAT * HALF):
                _along_half(left, a_row, a_step, b + at, width, result + at, width, steps, 1)


@njit
@no_type_check
def _fill(address, count, value):
    """`count` times the value; a multiple of HALF."""
    values = splat(value, HALF)
    for at in range(address, address + FLOAT * count, FLOAT * HALF):
        store(at, values)


@njit
@no_type_check
def _copy(source, source_row, target, target_row, rows, channels, scale):
    """Copy rows of `channels` floats, times a scale."""
    factors, whole = splat(scale, HALF), channels // HALF * HALF
    for row in range(rows):
        x, y = source + FLOAT * row * source_row, target + FLOAT * row * target_row
        for at in range(0, FLOAT * whole, FLOAT * HALF):
            store(y + at, load(x + at, HALF) * factors)
        if whole < channels:
            from_x, to_y = pointer(x, ZERO), pointer(y, ZERO)
            for channel in range(whole, channels):
                to_y[channel] = from_x[channel] * scale


@njit
@no_type_check
def _turn(source, target, width):
    """target[width, TILE] = source[TILE, width] transposed."""
    for row in range(0, TILE, HALF):
        for channel in range(0, width, HALF):
            x, y = source + FLOAT * (row * width + channel), target + FLOAT * (channel * TILE + row)
            transpose(x, width, y, TILE)


@njit
@no_type_check
def _read(job, room, head):
    """Bring the keys and values of a head together; returns its row, its first channel in bytes, the keys before.

    -1 keys before is a row that cannot be done.
    """
    row, at = head // job.heads, FLOAT * (head % job.heads) * job.d_head
    before = pointer(job.first, np.int64(0))[row] if job.first != 0 else 0
    if before < 0 or before + job.queries > job.capacity:
        pointer(job.address, np.int64(0))[0] = 1
        return row, at, -1
    keys, values = job.k + FLOAT * row * job.k_batch + at, job.v + FLOAT * row * job.v_batch + at
    _copy(keys, job.k_row, room.keys, room.width, before + job.queries, job.d_head, ONE)
    _copy(values, job.v_row, room.values, room.width, before + job.queries, job.d_head, ONE)
    return row, at, before


@njit
@no_type_check
def _hide(tile, start, count, diagonal):
    """-inf where the first LANES queries of the tile do not see a key. The first sees those up to `diagonal`."""
    for key in range(max(start, diagonal + 1), start + count):
        line = tile + FLOAT * (key - start) * TILE
        store(line, hide(load(line, LANES), key - diagonal))


@njit
@no_type_check
def _weigh(tile, count, top_at, total_at, factor_at):
    """Steps 2 and 3 for LANES queries: the scores at the tile become weights."""
    before = load(top_at, LANES)
    top, total = before, splat(ZERO, LANES)
    for line in range(tile, tile + FLOAT * count * TILE, FLOAT * TILE):
        top = maximum(load(line, LANES), top)
    for line in range(tile, tile + FLOAT * count * TILE, FLOAT * TILE):
        weight = power_of_two(load(line, LANES) - top)
        total = total + weight
        store(line, weight)
    factor = power_of_two(before - top)
    store(top_at, top)
    store(total_at, load(total_at, LANES) * factor + total)
    store(factor_at, factor)


@njit
@no_type_check
def _multiply(x, rows, width, factor_at):
    """Multiply each of the rows by its factor."""
    factors = pointer(factor_at, ZERO)
    for row in range(rows):
        factor = splat(factors[row], HALF)
        for at in range(x + FLOAT * row * width, x + FLOAT * (row + 1) * width, FLOAT * HALF):
            store(at, load(at, HALF) * factor)


@njit(error_model="numpy")
@no_type_check
def _invert(x_at):
    """1 / x for the floats of a tile."""
    x = pointer(x_at, ZERO)
    for query in range(TILE):
        x[query] = ONE / x[query]


@njit
@no_type_check
def _attend(room, start, count, skip, rows, diagonal):
    """Steps 1 to 3 for the keys from `start` on and the queries from `skip` on."""
    width, at, here = room.width, FLOAT * skip, FLOAT * start * room.width
    _across(room.keys + here, width, room.turned + at, room.tile + at, count, (rows - skip + LANES - 1) // LANES)
    _hide(room.tile + at, start, count, diagonal + skip)
    for lane in range(at, FLOAT * rows, FLOAT * LANES):
        _weigh(room.tile + lane, count, room.top + lane, room.total + lane, room.factor + lane)
    out = room.out + at * width
    _multiply(out, rows - skip, width, room.factor + at)
    _along(room.tile + at, 1, TILE, room.values + here, out, rows - skip, count, width)


@no_type_check
def forward(job_at):
    """Attention of `total` tiles, and its statistics where there is room for them: [2, TILE] a tile."""
    job = carray(job_at, 1)[0]
    width, sink = (job.d_head + HALF - 1) // HALF * HALF, pointer(job.sink, ZERO)
    space = np.zeros(_size(width, job.capacity, CHUNK), np.float32)
    room = _room(space, width, job.capacity, CHUNK)
    scale, channels = np.float32(LOG2E / math.sqrt(job.d_head)), job.heads * job.d_head
    read, row, at, before = -1, 0, 0, -1
    turn = first_turn(job)
    while True:
        start, stop, turn = share(job, turn)
        if start == stop:
            break
        for number in range(start, stop):
            head, begin = number // job.tiles, number % job.tiles * TILE
            if head != read:
                row, at, before = _read(job, room, head)
                read = head
            if before < 0:
                continue
            rows, diagonal = min(TILE, job.queries - begin), before + begin
            queries = job.q + FLOAT * (row * job.q_batch + begin * job.q_row) + at
            _copy(queries, job.q_row, room.queries, width, rows, job.d_head, scale)
            _turn(room.queries, room.turned, width)
            _fill(room.out, TILE * width, ZERO)
            # Not -inf, from which -inf could not be subtracted.
            sunk = sink[head % job.heads] * np.float32(LOG2E) if job.sink != 0 else np.float32(-np.inf)
            _fill(room.top, TILE, max(sunk, LOWEST))
            _fill(room.total, TILE, np.float32(2 ** (sunk - max(sunk, LOWEST))))
            key = 0
            for skip in range(0, rows, LANES):
                # Of the keys after the diagonal, those that queries before `skip` do not see.
                while key < diagonal + min(skip + LANES, rows):
                    count = min(CHUNK, diagonal + min(skip + LANES, rows) - key)
                    _attend(room, key, count, skip, rows, diagonal)
                    key += count
            _invert(room.total)
            _multiply(room.out, rows, width, room.total)
            out = job.out + FLOAT * (row * job.queries + begin) * channels + at
            _copy(room.out, width, out, channels, rows, job.d_head, ONE)
            if job.statistics != 0:
                _copy(room.top, TILE, job.statistics + FLOAT * 2 * TILE * number, TILE, 2, TILE, ONE)
    # Memory is freed after the last line that names it.
    space[0] = ZERO


@njit
@no_type_check
def _differentiate(tile, change, count, padded, top_at, inverse_at, inner_at):
    """Step 4 for LANES queries: scores become weights, gradients of weights become gradients of scores."""
    top, inverse, inner = load(top_at, LANES), load(inverse_at, LANES), load(inner_at, LANES)
    for at in range(0, FLOAT * count * TILE, FLOAT * TILE):
        weight = power_of_two(load(tile + at, LANES) - top) * inverse
        store(tile + at, weight)
        store(change + at, weight * (load(change + at, LANES) - inner))
    for at in range(FLOAT * count * TILE, FLOAT * padded * TILE, FLOAT * TILE):
        store(tile + at, splat(ZERO, LANES))
        store(change + at, splat(ZERO, LANES))


@njit
@no_type_check
def _attend_back(room, start, count, skip, rows, diagonal):
    """Steps 4 and 5 for the keys from `start` on and the queries from `skip` on."""
    width, at, here = room.width, FLOAT * skip, FLOAT * start * room.width
    tile, change, vectors = room.tile + at, room.change + at, (rows - skip + LANES - 1) // LANES
    _across(room.keys + here, width, room.turned + at, tile, count, vectors)
    _hide(tile, start, count, diagonal + skip)
    _across(room.values + here, width, room.upstream_turned + at, change, count, vectors)
    # The products work on ROWS keys at a time; what they add for keys of the next chunk is zero.
    padded = (count + ROWS - 1) // ROWS * ROWS
    for lane in range(at, FLOAT * rows, FLOAT * LANES):
        top, inverse, inner = room.top + lane, room.total + lane, room.factor + lane
        _differentiate(room.tile + lane, room.change + lane, count, padded, top, inverse, inner)
    _along(tile, TILE, 1, room.upstream + at * width, room.values_gradient + here, count, rows - skip, width)
    _along(change, TILE, 1, room.queries + at * width, room.keys_gradient + here, count, rows - skip, width)
    _along(change, 1, TILE, room.keys + here, room.out + at * width, rows - skip, count, width)


@njit
@no_type_check
def _read_upstream(job, room, row, at, begin, rows, number):
    """Bring together what the gradients of a tile of queries start from."""
    channels, width, scale = job.heads * job.d_head, room.width, np.float32(LOG2E / math.sqrt(job.d_head))
    queries = job.q + FLOAT * (row * job.q_batch + begin * job.q_row) + at
    upstream = job.upstream + FLOAT * (row * job.upstream_batch + begin * job.upstream_row) + at
    _copy(queries, job.q_row, room.queries, width, rows, job.d_head, scale)
    _copy(upstream, job.upstream_row, room.upstream, width, rows, job.d_head, ONE)
    _turn(room.queries, room.turned, width)
    _turn(room.upstream, room.upstream_turned, width)
    _fill(room.out, TILE * width, ZERO)
    _copy(job.statistics + FLOAT * 2 * TILE * number, TILE, room.top, TILE, 2, TILE, ONE)
    inner = pointer(room.factor, ZERO)
    for query in range(rows):
        out = pointer(job.out + FLOAT * (row * job.queries + begin + query) * channels + at, ZERO)
        change, total = pointer(room.upstream + FLOAT * query * width, ZERO), ZERO
        for channel in range(job.d_head):
            total += out[channel] * change[channel]
        inner[query] = total


@njit
@no_type_check
def _of_sink(room, rows, sink):
    """What a tile of queries adds to the gradient of the sink."""
    top, inverse, inner = pointer(room.top, ZERO), pointer(room.total, ZERO), pointer(room.factor, ZERO)
    change = ZERO
    for query in range(rows):
        change -= np.float32(2 ** (sink * np.float32(LOG2E) - top[query])) * inverse[query] * inner[query]
    return change


@no_type_check
def backward(job_at):
    """The gradients of q, k, v and, row by row, of the sink, for `total` pairs of row and head."""
    job = carray(job_at, 1)[0]
    width, sink, of_sink = (job.d_head + HALF - 1) // HALF * HALF, pointer(job.sink, ZERO), pointer(job.grad_sink, ZERO)
    space = np.zeros(_size(width, job.capacity, BACK), np.float32)
    room = _room(space, width, job.capacity, BACK)
    channels = job.heads * job.d_head
    turn = first_turn(job)
    while True:
        start, stop, turn = share(job, turn)
        if start == stop:
            break
        for head in range(start, stop):
            row, at, before = _read(job, room, head)
            _fill(room.keys_gradient, job.capacity * width, ZERO)
            _fill(room.values_gradient, job.capacity * width, ZERO)
            change = ZERO
            for begin in range(0, job.queries, TILE):
                rows, diagonal = min(TILE, job.queries - begin), before + begin
                _read_upstream(job, room, row, at, begin, rows, head * job.tiles + begin // TILE)
                if job.sink != 0:
                    change += _of_sink(room, rows, sink[head % job.heads])
                key = 0
                for skip in range(0, rows, LANES):
                    while key < diagonal + min(skip + LANES, rows):
                        count = min(BACK, diagonal + min(skip + LANES, rows) - key)
                        _attend_back(room, key, count, skip, rows, diagonal)
                        key += count
                queries = job.grad_q + FLOAT * (row * job.queries + begin) * channels + at
                scale = np.float32(1 / math.sqrt(job.d_head))
                _copy(room.out, width, queries, channels, rows, job.d_head, scale)
            place = FLOAT * row * job.capacity * channels + at
            _copy(room.keys_gradient, width, job.grad_k + place, channels, job.capacity, job.d_head, LN2)
            _copy(room.values_gradient, width, job.grad_v + place, channels, job.capacity, job.d_head, ONE)
            if job.sink != 0:
                of_sink[head] = change
    # Memory is freed after the last line that names it.
    space[0] = ZERO
