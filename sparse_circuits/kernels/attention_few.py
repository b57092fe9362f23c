"""The compiled side of attention for a few queries, as decoding has them: keys and values are read where they lie.

For each query, some heads at a time, since of every key they read one piece of memory:
1. scores: inner products of the query with HALF keys at a time, in units of log 2.
2. weights: 2^(score - maximum), over the sum of them (and of the sink's).
3. output: the sum of weights times values.

Channels beyond a multiple of HALF are dealt with one by one: the floats after them belong to other heads.
"""

import math
from typing import no_type_check

import numpy as np
from numba import carray, njit

from sparse_circuits.kernels.attention_loops import FLOAT, LOG2E, LOWEST, ONE, ZERO
from sparse_circuits.kernels.claims import first_turn, pointer, share
from sparse_circuits.kernels.vectors import (
    HALF,
    LANES,
    inner_products,
    load,
    maximum,
    power_of_two,
    product,
    splat,
    store,
)

_wide, _narrow = product(1, 1), product(1, 1, HALF)


@njit
@no_type_check
def _score(query, keys, row, count, d_head, scores):
    """Step 1 for one head and at most HALF keys."""
    whole = d_head // HALF * HALF
    if count == HALF:
        store(scores, inner_products(query, keys, row, whole))
    else:
        for key in range(count):
            # HALF times the same one: behind the last there may be no memory.
            store(scores + FLOAT * key, inner_products(query, keys + FLOAT * key * row, 0, whole))
    if whole < d_head:
        q, k, s = pointer(query, ZERO), pointer(keys, ZERO), pointer(scores, ZERO)
        for key in range(count):
            for channel in range(whole, d_head):
                s[key] += q[channel] * k[key * row + channel]


@njit(error_model="numpy")
@no_type_check
def _weigh(scores, seen, sink):
    """Step 2 for one head: scores become weights, whose sum's reciprocal is returned. `sink` is -inf for none."""
    s, end = pointer(scores, ZERO), (seen + LANES - 1) // LANES * LANES
    for key in range(seen, end):
        s[key] = -np.inf
    tops, totals = splat(max(sink, LOWEST), LANES), splat(ZERO, LANES)
    for at in range(scores, scores + FLOAT * end, FLOAT * LANES):
        tops = maximum(load(at, LANES), tops)
    store(scores + FLOAT * end, tops)
    top = s[end]
    for lane in range(1, LANES):
        top = s[end + lane] if s[end + lane] > top else top
    for at in range(scores, scores + FLOAT * end, FLOAT * LANES):
        weight = power_of_two(load(at, LANES) - splat(top, LANES))
        totals = totals + weight
        store(at, weight)
    store(scores + FLOAT * end, totals)
    total = np.float32(2 ** (sink - top))
    for lane in range(LANES):
        total += s[end + lane]
    return ONE / total


@njit
@no_type_check
def _add(weights, values, row, count, d_head, out):
    """Step 3 for one head and `count` keys."""
    channel = 0
    while channel + LANES <= d_head:
        _wide(weights, 0, 1, values + FLOAT * channel, row, out + FLOAT * channel, 0, count, 1)
        channel += LANES
    while channel + HALF <= d_head:
        _narrow(weights, 0, 1, values + FLOAT * channel, row, out + FLOAT * channel, 0, count, 1)
        channel += HALF
    if channel < d_head:
        w, v, y = pointer(weights, ZERO), pointer(values, ZERO), pointer(out, ZERO)
        for key in range(count):
            for rest in range(channel, d_head):
                y[rest] += w[key] * v[key * row + rest]


@njit
@no_type_check
def _attend(job, row, query, begin, heads, scaled):
    """One query, for `heads` heads from `begin` on."""
    d_head, room = job.d_head, job.capacity + 2 * LANES + HALF
    at, scores = FLOAT * begin * d_head, scaled + FLOAT * job.group * d_head
    seen = query + 1 + (pointer(job.first, np.int64(0))[row] if job.first != 0 else 0)
    if seen < query + 1 or seen + job.queries - query - 1 > job.capacity:
        pointer(job.address, np.int64(0))[0] = 1
        return
    sink, q = pointer(job.sink, ZERO), pointer(job.q + FLOAT * (row * job.q_batch + query * job.q_row) + at, ZERO)
    out = job.out + FLOAT * (row * job.queries + query) * job.heads * d_head + at
    x, y, scale = pointer(scaled, ZERO), pointer(out, ZERO), np.float32(LOG2E / math.sqrt(d_head))
    for channel in range(heads * d_head):
        x[channel] = q[channel] * scale
        y[channel] = ZERO
    keys, values = job.k + FLOAT * row * job.k_batch + at, job.v + FLOAT * row * job.v_batch + at
    for key in range(0, seen, HALF):
        for head in range(heads):
            place, to = FLOAT * head * d_head, scores + FLOAT * (head * room + key)
            line = keys + FLOAT * key * job.k_row + place
            _score(scaled + place, line, job.k_row, min(HALF, seen - key), d_head, to)
    # The queries have served their turn.
    inverses = x
    for head in range(heads):
        of_sink = sink[begin + head] * np.float32(LOG2E) if job.sink != 0 else np.float32(-np.inf)
        inverses[head] = _weigh(scores + FLOAT * head * room, seen, of_sink)
    for key in range(0, seen, HALF):
        for head in range(heads):
            place, weights = FLOAT * head * d_head, scores + FLOAT * (head * room + key)
            line = values + FLOAT * key * job.v_row + place
            _add(weights, line, job.v_row, min(HALF, seen - key), d_head, out + place)
    for head in range(heads):
        for channel in range(head * d_head, (head + 1) * d_head):
            y[channel] *= inverses[head]


@no_type_check
def few(job_at):
    """Attention for `total` groups of `group` heads, row by row."""
    job = carray(job_at, 1)[0]
    space = np.empty(job.group * (job.d_head + job.capacity + 2 * LANES + HALF), np.float32)
    groups, turn = (job.heads + job.group - 1) // job.group, first_turn(job)
    while True:
        start, stop, turn = share(job, turn)
        if start == stop:
            break
        for number in range(start, stop):
            row, begin = number // groups, number % groups * job.group
            for query in range(job.queries):
                _attend(job, row, query, begin, min(job.group, job.heads - begin), space.ctypes.data)
