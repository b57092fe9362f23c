"""The compiled side of `folded`: a model of which few nodes are alive, row by row up to the last prompt token.

Everything that is held is a constant and has been added up beforehand, so that what is left per position is
1. the stream: the embedding, what held nodes bring, and the few channels that are written;
2. of a sublayer that matters: the norm; AbsTopK for the kept channels only (`_stay`); the columns of the kept ones that
   are not zero added to what the rest brings; the same again for what it computes from that;
3. attention for heads with a kept q, k or v channel only.
In the last layer only the last token asks.

What is held may differ from place to place (a position of a prompt), as where removed nodes take the values of another
prompt. Then the constants are lines of one for each place, what the kept nodes would be there is part of them, and
channels bring what they are beyond that.

Where the streams of another choice of nodes are kept, one that differs from it only after some sublayer begins there.

A kept channel stays if fewer than k others are larger, or as large and before it: for a few channels counting is
quicker than searching for the threshold.
"""

from typing import no_type_check

import numpy as np
from numba import carray, njit

from sparse_circuits.kernels.claims import first_turn, pointer, share
from sparse_circuits.kernels.decode_table import (
    ATTN_IN,
    ATTN_OUT,
    LEARNED,
    MLP_IN,
    MLP_OUT,
    PLACES,
    POST_ATTN,
    POST_MLP,
)
from sparse_circuits.kernels.decode_table import NEURON as NEURON_PLACE
from sparse_circuits.kernels.decode_table import Q as Q_PLACE
from sparse_circuits.kernels.folded_table import (
    ACTS,
    AT_REST,
    BASE,
    COLUMNS,
    HEAD,
    HEAD_BRINGS,
    HEADS,
    HELD,
    IN_CUTS,
    MIXED,
    MIXES,
    MLP,
    MLP_REST,
    NEURON,
    NEURON_BRINGS,
    NEURONS,
    NORM,
    NORM_BIAS,
    OUT_CUTS,
    OUT_THERE,
    POSITIONS,
    Q_HELD,
    READ,
    READ_THERE,
    READS,
    REST,
    SINK,
    SPREAD,
    VALUE_BRINGS,
    WRITES,
    WRITTEN,
    Q,
)
from sparse_circuits.kernels.position_loops import activate, keep_largest, norm_row, weigh

FLOAT = 4
_ZERO = np.float32(0)
# So many channels of a row are looked at one by one.
FEW = 8


@njit
@no_type_check
def _stays(x, n, i, k):
    """Whether AbsTopK with k of n keeps entry i of x."""
    size, before = abs(x[i]), 0
    for j in range(n):
        before += abs(x[j]) > size
    if before >= k:
        return False
    for j in range(i):
        before += abs(x[j]) == size
    return before < k


@njit
@no_type_check
def _stay(x, n, k, channels, count, guesses, place, keys, found):
    """What AbsTopK leaves of the `count` channels at `channels`, of a row x of n."""
    which = pointer(channels, np.int32(0))
    if k < n and count > FEW:
        keep_largest(x, n, k, guesses, place, keys)
    for i in range(count):
        value = x[which[i]]
        found[i] = value if k >= n or count > FEW or value == _ZERO or _stays(x, n, which[i], k) else _ZERO


@njit(fastmath={"contract"})
@no_type_check
def _add(lines, number, n, factor, y):
    """y += factor * the line of that number, of lines [.., n]."""
    line = pointer(lines + FLOAT * number * n, _ZERO)
    for j in range(n):
        y[j] += factor * line[j]


@njit
@no_type_check
def _copy(source, n, y):
    x = pointer(source, _ZERO)
    for j in range(n):
        y[j] = x[j]


@njit
@no_type_check
def _less(there, p, n, channels, count, found):
    """found -= what the channels would be at place p, where that is told apart."""
    if there != 0:
        x, which = pointer(there + FLOAT * p * n, _ZERO), pointer(channels, np.int32(0))
        for i in range(count):
            found[i] -= x[which[i]]


@njit
@no_type_check
def _cut(line, cuts, there, p, n, y):
    """Let cut edges carry what they are to, instead of what their source would be at place p."""
    if line[cuts] != 0:
        x, ends, values = (
            pointer(there + FLOAT * p * n, _ZERO),
            pointer(line[cuts + 1], np.int32(0)),
            pointer(line[cuts + 2], _ZERO),
        )
        for i in range(line[cuts]):
            y[ends[2 * i]] += values[2 * i] * (values[2 * i + 1] - x[ends[2 * i + 1]])


@njit
@no_type_check
def _read(job, line, stream, t, p, k, guesses, place, row, keys, found):
    """The kept channels that a sublayer reads at position t, place p."""
    d_model, read = job.d_model, job.d_model + job.d_position
    norm_row(line[NORM], line[NORM_BIAS], job.centred, job.epsilon, stream, d_model, row)
    if job.d_position != 0:
        positions = pointer(line[POSITIONS] + FLOAT * t * job.d_position, _ZERO)
        for j in range(job.d_position):
            row[d_model + j] = positions[j]
    _stay(row, read, k, line[READ], line[READS], guesses, place, keys, found)
    _less(line[READ_THERE], p, read, line[READ], line[READS], found)


@njit
@no_type_check
def _write(job, line, row, p, k, k_stream, guesses, place, place_stream, keys, found, stream):
    """Add what a sublayer writes at place p, of which `row` is all before AbsTopK, to the stream."""
    d_model, channel = job.d_model, pointer(line[WRITTEN], np.int32(0))
    held = pointer(line[HELD] + FLOAT * p * d_model, _ZERO)
    if line[ACTS]:
        _stay(row, d_model, k, line[WRITTEN], line[WRITES], guesses, place, keys, found)
        _less(line[HELD] if job.starts != 0 else 0, p, d_model, line[WRITTEN], line[WRITES], found)
    for j in range(d_model):
        stream[j] += held[j]
    if line[ACTS]:
        for i in range(line[WRITES]):
            stream[channel[i]] += found[i]
    if job.relu_stream:
        activate(stream, d_model, False)
    keep_largest(stream, d_model, k_stream, guesses, place_stream, keys)


@njit
@no_type_check
def _project(job, line, stream, t, p, asks, kept, guesses, space, slots, heads):
    """q (where it asks), k and v of the heads that are not constant, at position t, place p."""
    row, keys, found, computed = space
    _read(job, line, stream, t, p, kept[ATTN_IN], guesses, ATTN_IN, row, keys, found)
    width = job.heads * job.d_head
    _copy(line[BASE] + FLOAT * p * 3 * width, 3 * width, computed)
    for i in range(line[READS]):
        if found[i] != _ZERO:
            _add(line[SPREAD], i, 3 * width, found[i], computed)
    _cut(line, IN_CUTS, line[READ_THERE], p, job.d_model + job.d_position, computed)
    for part in range(0 if asks else 1, 3):
        count, channel = line[Q + 2 * part], pointer(line[Q + 2 * part + 1], np.int32(0))
        if count == 0:
            continue
        values, place = computed[part * width : (part + 1) * width], Q_PLACE + part
        _stay(values, width, kept[place], line[Q + 2 * part + 1], count, guesses, place, keys, found)
        for i in range(count):
            heads[part, slots[channel[i] // job.d_head], t, channel[i] % job.d_head] = found[i]


@njit
@no_type_check
def _attend(job, line, t, first, heads, scores, row):
    """Everything that attention writes at position t, before AbsTopK, to `row`; `first` is the prompt's first place."""
    d_model, d_head, scale = job.d_model, job.d_head, np.float32(1 / np.sqrt(job.d_head))
    head, sink = pointer(line[HEAD], np.int32(0)), pointer(line[SINK], _ZERO)
    count, channel, width = line[MIXES], pointer(line[MIXED], np.int32(0)), job.heads * job.d_head
    there = pointer(line[OUT_THERE] + FLOAT * (first + t) * width, _ZERO)
    _copy(line[REST] + FLOAT * (first + t) * d_model, d_model, row)
    value = 0
    for i in range(line[HEADS]):
        for s in range(t + 1):
            score = _ZERO
            for c in range(d_head):
                score += heads[0, i, t, c] * heads[1, i, s, c]
            scores[s] = score * scale
        weigh(scores, t + 1, sink[head[i]] if line[SINK] != 0 else np.float32(-np.inf))
        total = _ZERO
        for s in range(t + 1):
            total += scores[s]
        if line[HEAD_BRINGS] != 0:
            _add(line[HEAD_BRINGS], i, d_model, total, row)
        while value < count and channel[value] // d_head == head[i]:
            mixed, c = _ZERO, channel[value] % d_head
            for s in range(t + 1):
                mixed += scores[s] * heads[2, i, s, c]
            if line[OUT_THERE] != 0:
                mixed -= there[channel[value]]
            _add(line[VALUE_BRINGS], value, d_model, mixed, row)
            value += 1
    _cut(line, OUT_CUTS, line[OUT_THERE], first + t, width, row)


@njit
@no_type_check
def _attention(job, line, stream, length, asking, first, kept, guesses, space, slots, heads, scores):
    """The attention sublayer, of which positions from `asking` on ask."""
    row, keys, found, _ = space
    each = job.starts != 0
    if line[ACTS]:
        head = pointer(line[HEAD], np.int32(0))
        for i in range(line[HEADS]):
            slots[head[i]] = i
            for part in range(3):
                for t in range(length):
                    place = each * (first + t) * job.heads + head[i]
                    held = pointer(line[Q_HELD + part] + FLOAT * place * job.d_head, _ZERO)
                    for c in range(job.d_head):
                        heads[part, i, t, c] = held[c]
        for t in range(length):
            _project(job, line, stream[t], t, each * (first + t), t >= asking, kept, guesses, space, slots, heads)
    for t in range(asking, length):
        if line[ACTS]:
            _attend(job, line, t, first, heads, scores, row)
        k, k_stream, p = kept[ATTN_OUT], kept[POST_ATTN], each * (first + t)
        _write(job, line, row, p, k, k_stream, guesses, ATTN_OUT, POST_ATTN, keys, found, stream[t])


@njit
@no_type_check
def _mlp(job, line, stream, length, asking, first, kept, guesses, space):
    """The MLP sublayer, at positions from `asking` on."""
    row, keys, found, computed = space
    for t in range(asking, length):
        p = (job.starts != 0) * (first + t)
        if line[ACTS]:
            _read(job, line, stream[t], t, p, kept[MLP_IN], guesses, MLP_IN, row, keys, found)
            at_rest = line[AT_REST - MLP] != 0
            if not at_rest:
                _copy(line[BASE] + FLOAT * p * job.mlp, job.mlp, computed)
                _cut(line, IN_CUTS, line[READ_THERE], p, job.d_model + job.d_position, computed)
            for i in range(line[READS]):
                if found[i] != _ZERO:
                    if at_rest:
                        _copy(line[BASE], job.mlp, computed)
                    _add(line[SPREAD], i, job.mlp, found[i], computed)
                    at_rest = False
            if at_rest:
                _copy(line[AT_REST - MLP], job.mlp, computed)
            else:
                activate(computed, job.mlp, job.gelu)
            count = line[NEURONS - MLP]
            _stay(computed, job.mlp, kept[NEURON_PLACE], line[NEURON - MLP], count, guesses, NEURON_PLACE, keys, found)
            _less(line[OUT_THERE], p, job.mlp, line[NEURON - MLP], count, found)
            _copy(line[MLP_REST - MLP] + FLOAT * p * job.d_model, job.d_model, row)
            for i in range(count):
                if found[i] != _ZERO:
                    _add(line[NEURON_BRINGS - MLP], i, job.d_model, found[i], row)
            _cut(line, OUT_CUTS, line[OUT_THERE], p, job.mlp, row)
        k, k_stream = kept[MLP_OUT], kept[POST_MLP]
        _write(job, line, row, p, k, k_stream, guesses, MLP_OUT, POST_MLP, keys, found, stream[t])


@njit
@no_type_check
def _streams(job, place, row):
    """Where the stream of a row lies among those kept for one sublayer."""
    return pointer(job.streams + FLOAT * (place * job.all_rows + row) * job.longest * job.d_model, _ZERO)


@njit
@no_type_check
def _fetch(job, place, row, length, stream):
    # Not as a slice: Numba would want more of its runtime for that than an image can have (`kept`).
    kept = _streams(job, place, row)
    for t in range(length):
        for j in range(job.d_model):
            stream[t, j] = kept[t * job.d_model + j]


@njit
@no_type_check
def _store(job, place, row, length, stream):
    kept = _streams(job, place, row)
    for t in range(length):
        for j in range(job.d_model):
            kept[t * job.d_model + j] = stream[t, j]


@no_type_check
def last_residuals(job_at):
    """The residual stream before the final norm at the last token of each of `total` rows."""
    job = carray(job_at, 1)[0]
    d_model, longest = job.d_model, job.longest
    table = carray(pointer(job.table, np.int64(0)), (job.layers, COLUMNS))
    kept = carray(pointer(job.kept, np.int64(0)), PLACES)
    tokens, last = pointer(job.tokens, np.int64(0)), pointer(job.last, np.int64(0))
    wte, wpe = pointer(job.wte, _ZERO), pointer(job.wpe, _ZERO)
    places, rows = pointer(job.places, np.int64(0)), pointer(job.rows, np.int64(0))
    starts = pointer(job.starts, np.int64(0))
    widest = max(d_model + job.d_position, 3 * job.heads * job.d_head, job.mlp) + 64
    row, computed = np.empty(widest, np.float32), np.empty(widest, np.float32)
    space = row, np.empty(widest, np.int32), np.empty(widest, np.float32), computed
    stream, scores = np.empty((longest, d_model), np.float32), np.empty(longest + 64, np.float32)
    heads = np.empty((3, job.most_heads, longest, job.d_head), np.float32)
    slots, guesses = np.empty(job.heads, np.int64), np.zeros((job.layers, PLACES), np.int32)
    turn = first_turn(job)
    while True:
        start, stop, turn = share(job, turn)
        if start == stop:
            break
        for number in range(start, stop):
            length = last[number] + 1
            first = starts[rows[number]] if job.starts != 0 else 0
            if job.enter != 0:
                _fetch(job, places[job.enter], rows[number], length, stream)
            for t in range(length if job.enter == 0 else 0):
                token = tokens[number * job.width + t]
                for j in range(d_model):
                    stream[t, j] = wte[token * d_model + j]
                if job.scheme == LEARNED:
                    for j in range(d_model):
                        stream[t, j] += wpe[t * d_model + j]
            for sublayer in range(job.enter, 2 * job.layers):
                layer = sublayer // 2
                asking = length - 1 if layer == job.layers - 1 else 0
                line = table[layer]
                if job.store != 0 and places[sublayer] >= 0:
                    _store(job, places[sublayer], rows[number], length, stream)
                if sublayer % 2 == 0:
                    _attention(
                        *(job, line, stream, length, asking, first, kept, guesses[layer], space, slots, heads, scores)
                    )
                else:
                    _mlp(job, line[MLP:], stream, length, asking, first, kept, guesses[layer], space)
            y = pointer(job.residuals + FLOAT * number * d_model, _ZERO)
            for j in range(d_model):
                y[j] = stream[length - 1, j]
