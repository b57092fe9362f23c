"""The compiled side of decoding: one new position of each row through all layers, as `decode` describes it.

`step`: embedding, blocks, final norm, unembedding; a row at a time, each on one thread. In the cache the keys lie
channel by channel, the values position by position.

A job has a table of addresses, one line a layer and one for what follows the last; `decode_table` names its columns.
"""

from typing import no_type_check

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import carray, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from sparse_circuits.kernels.blocks import LANES, LINE, accumulate, lowest_bit, nonzero_bits
from sparse_circuits.kernels.claims import first_turn, pointer, share
from sparse_circuits.kernels.decode_table import (
    ATTN_IN,
    ATTN_OUT,
    ATTN_PROJ,
    C_ATTN,
    C_FC,
    COLUMNS,
    KEYS,
    LEARNED,
    MLP_IN,
    MLP_OUT,
    MLP_PROJ,
    NEURON,
    NORM_1,
    NORM_2,
    NORM_P1,
    NORM_P2,
    ODD,
    PLACES,
    POST_ATTN,
    POST_MLP,
    SINK,
    VALUES,
    Q,
)
from sparse_circuits.kernels.position_loops import activate, keep_largest, norm_row, weigh

FLOAT, WORD = 4, 4 * LANES
_ZERO = np.float32(0)
# Keys whose values are added up at a time: their lines stay in the fastest cache while all heads read them.
CHUNK = 8


@njit
@no_type_check
def _word(x, first, size):
    """Which of `size` entries, WORD at most, are not zero."""
    bits = 0
    if size == WORD:
        at = x.ctypes.data + FLOAT * first
        for part in range(0, WORD, LANES):
            bits |= nonzero_bits(at + FLOAT * part) << part
    else:
        for j in range(size):
            bits |= np.int64(x[first + j] != _ZERO) << j
    return bits


@njit
@no_type_check
def _multiply(table, at, x, inputs, y, outputs):
    """y = the matrix at the table's `at` times x, plus its bias: `product_loops.scatter` for one position."""
    start_of, row = pointer(table[at], np.int32(0)), pointer(table[at + 1], np.int32(0))
    value, finite, bias = pointer(table[at + 2], _ZERO), table[at + 3], pointer(table[at + 4], _ZERO)
    for i in range(outputs):
        y[i] = bias[i] if table[at + 4] != 0 else _ZERO
    odd = 0
    for word in range(0, inputs, WORD):
        size = min(WORD, inputs - word)
        bits = _word(x, word, size) if finite else ~(np.int64(-2) << size - 1)
        while bits != 0:
            j = word + lowest_bit(bits)
            bits &= bits - 1
            factor = x[j]
            odd += not np.isfinite(factor)
            for entry in range(start_of[j], start_of[j + 1]):
                y[row[entry]] += value[entry] * factor
    if odd:
        # A zero of the matrix times NaN or infinity is NaN.
        met = np.zeros(outputs, np.int64)
        for j in range(inputs):
            if not np.isfinite(x[j]):
                for entry in range(start_of[j], start_of[j + 1]):
                    met[row[entry]] += 1
        for i in range(outputs):
            if met[i] != odd:
                y[i] = np.nan


@njit
@no_type_check
def _scores(job, table, row, seen, q, number, factor, scores):
    """Inner products of the query with the `seen` first keys, from those channels where the query is not zero."""
    d_head, width, scale = job.d_head, job.heads * job.d_head, np.float32(1 / np.sqrt(job.d_head))
    # A zero of the query times NaN or infinity is NaN.
    odd, lines = pointer(table[ODD], np.int64(0))[0] != 0, job.room // LINE
    numbers, factors = number.ctypes.data, factor.ctypes.data
    keys, target = table[KEYS] + FLOAT * row * job.room * width, scores.ctypes.data
    for head in range(job.heads):
        count = 0
        for channel in range(head * d_head, (head + 1) * d_head):
            number[count] = channel * lines
            factor[count] = q[channel] * scale
            count += odd or q[channel] != _ZERO
        for key in range(0, seen, LINE):
            accumulate(keys + FLOAT * key, numbers, factors, 0, count, _ZERO, target + FLOAT * (head * job.room + key))


@intrinsic
@no_type_check
def _add_lines(context, factors, lines, step, count, target):
    """Add factors[i] * lines[i * step] to the LANES floats at the target, for i below `count`."""

    def generate(context, builder, signature, arguments):
        factors, lines, step, count, target = arguments
        number, kind, fused = ir.FloatType(), ir.VectorType(ir.FloatType(), LANES), ("contract",)
        first, place = (builder.inttoptr(at, number.as_pointer()) for at in (factors, lines))
        goal, nothing = builder.inttoptr(target, kind.as_pointer()), ir.Constant(kind, ir.Undefined)
        total = cgutils.alloca_once_value(builder, builder.load(goal, align=FLOAT))
        with cgutils.for_range(builder, count) as loop:
            factor = builder.insert_element(nothing, builder.load(builder.gep(first, [loop.index])), ir.IntType(32)(0))
            factor = builder.shuffle_vector(factor, nothing, ir.Constant(ir.VectorType(ir.IntType(32), LANES), None))
            line = builder.bitcast(builder.gep(place, [builder.mul(step, loop.index)]), kind.as_pointer())
            product = builder.fmul(factor, builder.load(line, align=FLOAT), flags=fused)
            builder.store(builder.fadd(builder.load(total), product, flags=fused), total)
        builder.store(builder.load(total), goal, align=FLOAT)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), generate


@njit
@no_type_check
def _add_values(job, values, seen, scores, y):
    """y = the sum of weights times values."""
    d_head, heads = job.d_head, job.heads
    width, whole = heads * d_head, d_head // LANES * LANES
    weights, target = scores.ctypes.data, y.ctypes.data
    y[:width] = _ZERO
    for key in range(0, seen, CHUNK):
        count, begin = min(CHUNK, seen - key), values + FLOAT * key * width
        for head in range(heads):
            for channel in range(head * d_head, head * d_head + whole, LANES):
                w, offset = weights + FLOAT * (head * job.room + key), FLOAT * channel
                _add_lines(w, begin + offset, width, count, target + offset)
    if whole < d_head:
        v = pointer(values, _ZERO)
        for key in range(seen):
            for head in range(heads):
                weight = scores[head, key]
                for channel in range(head * d_head + whole, (head + 1) * d_head):
                    y[channel] += weight * v[key * width + channel]


@njit
@no_type_check
def _attend(job, table, row, seen, q, space, y):
    """y = attention of the query over the `seen` first positions of a row."""
    number, factor, scores = space
    sink = pointer(table[SINK], _ZERO)
    _scores(job, table, row, seen, q, number, factor, scores)
    for head in range(job.heads):
        line = scores[head]
        weigh(line, seen, sink[head] if table[SINK] != 0 else np.float32(-np.inf))
    _add_values(job, table[VALUES] + FLOAT * row * job.capacity * job.heads * job.d_head, seen, scores, y)


@njit
@no_type_check
def _remember(job, table, row, position, k, v):
    """Write a key and a value into the cache; of the key only what is not zero, where nobody has written yet."""
    width = job.heads * job.d_head
    keys = pointer(table[KEYS] + FLOAT * (row * job.room * width + position), _ZERO)
    values, check = pointer(table[VALUES] + FLOAT * (row * job.capacity + position) * width, _ZERO), _ZERO
    for j in range(width):
        values[j] = v[j]
        check += k[j] * _ZERO
    fresh = position >= job.fresh
    for word in range(0, width, WORD):
        size = min(WORD, width - word)
        bits = _word(k, word, size) if fresh else ~(np.int64(-2) << size - 1)
        while bits != 0:
            j = word + lowest_bit(bits)
            bits &= bits - 1
            keys[j * job.room] = k[j]
    if check != check:
        pointer(table[ODD], np.int64(0))[0] = 1


@njit
@no_type_check
def _read(job, table, residual, norm, positions, norm_p, y):
    """A sublayer's input: the normed stream, and the normed position channels beside it."""
    norm_row(table[norm], table[norm + 1], job.centred, job.epsilon, residual, job.d_model, y)
    if job.d_position != 0:
        weight, bias = table[norm_p], table[norm_p + 1]
        norm_row(weight, bias, job.centred, job.epsilon, positions, job.d_position, y[job.d_model :])


@njit
@no_type_check
def _add(job, residual, delta, k, guesses, place, keys):
    """Add what a sublayer wrote to the stream."""
    for j in range(job.d_model):
        value = residual[j] + delta[j]
        residual[j] = _ZERO if job.relu_stream and value <= _ZERO else value
    keep_largest(residual, job.d_model, k, guesses, place, keys)


@njit
@no_type_check
def _block(job, table, kept, guesses, row, position, positions, residual, a, b, keys, space):
    """One block, for the new position of one row."""
    d_model, read, width, mlp = job.d_model, job.d_model + job.d_position, job.heads * job.d_head, job.mlp
    _read(job, table, residual, NORM_1, positions, NORM_P1, a)
    keep_largest(a, read, kept[ATTN_IN], guesses, ATTN_IN, keys)
    _multiply(table, C_ATTN, a, read, b, 3 * width)
    for part in range(3):
        keep_largest(b[part * width :], width, kept[Q + part], guesses, Q + part, keys)
    _remember(job, table, row, position, b[width:], b[2 * width :])
    _attend(job, table, row, position + 1, b, space, a)
    _multiply(table, ATTN_PROJ, a, width, b, d_model)
    keep_largest(b, d_model, kept[ATTN_OUT], guesses, ATTN_OUT, keys)
    _add(job, residual, b, kept[POST_ATTN], guesses, POST_ATTN, keys)
    _read(job, table, residual, NORM_2, positions, NORM_P2, a)
    keep_largest(a, read, kept[MLP_IN], guesses, MLP_IN, keys)
    _multiply(table, C_FC, a, read, b, mlp)
    activate(b, mlp, job.gelu)
    keep_largest(b, mlp, kept[NEURON], guesses, NEURON, keys)
    _multiply(table, MLP_PROJ, b, mlp, a, d_model)
    keep_largest(a, d_model, kept[MLP_OUT], guesses, MLP_OUT, keys)
    _add(job, residual, a, kept[POST_MLP], guesses, POST_MLP, keys)


@njit
@no_type_check
def _embed(job, token, residual):
    """The embedding's row, which is stored densely or as its nonzeros."""
    wte, start_of = pointer(job.wte, _ZERO), pointer(job.wte_start, np.int32(0))
    column = pointer(job.wte_column, np.int32(0))
    if job.wte_start == 0:
        for j in range(job.d_model):
            residual[j] = wte[token * job.d_model + j]
    else:
        residual[:] = _ZERO
        for entry in range(start_of[token], start_of[token + 1]):
            residual[column[entry]] = wte[entry]


@no_type_check
def step(job_at):
    """Read one token in each of `total` rows: its logits, and in the cache its keys and values."""
    job = carray(job_at, 1)[0]
    d_model, d_position, vocab = job.d_model, job.d_position, job.vocab
    table = carray(pointer(job.table, np.int64(0)), (job.layers + 1, COLUMNS))
    kept = carray(pointer(job.kept, np.int64(0)), PLACES)
    tokens, places = pointer(job.tokens, np.int64(0)), pointer(job.places, np.int64(0))
    wpe, bias, bigram = pointer(job.wpe, _ZERO), pointer(job.bias, _ZERO), pointer(job.bigram, _ZERO)
    largest = max(d_model + d_position, 3 * job.heads * job.d_head, job.mlp) + LANES
    residual, positions = np.empty(d_model, np.float32), np.empty(d_position, np.float32)
    a, b, keys = np.empty(largest, np.float32), np.empty(largest, np.float32), np.empty(largest, np.int32)
    scores = np.empty((job.heads, job.room), np.float32)
    space = np.empty(job.d_head + 1, np.int32), np.empty(job.d_head + 1, np.float32), scores
    turn = first_turn(job)
    while True:
        start, stop, turn = share(job, turn)
        if start == stop:
            break
        for row in range(start, stop):
            token, position = tokens[row], places[row]
            _embed(job, token, residual)
            if job.scheme == LEARNED:
                for j in range(d_model):
                    residual[j] += wpe[position * d_model + j]
            for j in range(d_position):
                positions[j] = wpe[position * d_position + j]
            for layer in range(job.layers):
                place = job.guesses + FLOAT * PLACES * (row * job.layers + layer)
                guesses = carray(pointer(place, np.int32(0)), PLACES)
                _block(job, table[layer], kept, guesses, row, position, positions, residual, a, b, keys, space)
            last = table[job.layers]
            norm_row(last[NORM_1], last[NORM_1 + 1], job.centred, job.epsilon, residual, d_model, a)
            y = carray(pointer(job.logits + FLOAT * row * vocab, _ZERO), vocab)
            _multiply(table[job.layers], C_ATTN, a, d_model, y, vocab)
            for j in range(vocab):
                y[j] += bias[j]
            if job.bigram != 0:
                for j in range(vocab):
                    y[j] += bigram[token * vocab + j]
