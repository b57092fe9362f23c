"""The compiled side of the sparse products: loops over rows, positions and nonzeros, as `products` describes them.

1. `count`, `fill`: a dense matrix to its rows of nonzeros; `spread`: back; `transpose`: to its columns of nonzeros.
2. `tiles`: products for many positions. A thread takes a tile of 32 positions, turns its part of x so that a channel is
   32 floats side by side, and adds up each row of the matrix with two vectors of sums; 16 rows at a time are turned
   back into y.
3. `scatter`: products for few positions. Each input that is not zero adds its column of the matrix to y.
4. `sample`: the products of two activations where a matrix has its nonzeros, from tiles of 64 positions.

A zero of the matrix times NaN or infinity is NaN, and loops over nonzeros would never see it. So the positions with
such an input are noted, and their outputs become NaN where the row has not met all of these inputs.

Each kernel takes the address of its job (`products.Job`) and claims work until none is left; see `bits` for the style.
"""

from typing import no_type_check

import numpy as np
from numba import carray, njit

from sparse_circuits.kernels.blocks import (
    LANES,
    LINE,
    LONG_LINE,
    accumulate,
    bit_count,
    fold,
    lowest_bit,
    multiply_lines,
    nonzero_bits,
    transpose_marking,
    transpose_past_cache,
)
from sparse_circuits.kernels.blocks import transpose as transpose_block
from sparse_circuits.kernels.claims import fetch_add, first_turn, pointer, share
from sparse_circuits.kernels.sizes import WORD

FLOAT, VECTOR = 4, 4 * LANES


@njit
@no_type_check
def _word(x, first, size):
    """Which of `size` entries, WORD at most, are not zero."""
    if size == WORD:
        at = x + FLOAT * first
        low = nonzero_bits(at) | nonzero_bits(at + VECTOR) << LANES
        return low | nonzero_bits(at + 2 * VECTOR) << 2 * LANES | nonzero_bits(at + 3 * VECTOR) << 3 * LANES
    entries = pointer(x, np.float32(0))
    bits = 0
    for j in range(size):
        bits |= np.int64(entries[first + j] != np.float32(0)) << j
    return bits


@no_type_check
def count(job_at):
    """How many entries of each of `total` rows of x are not zero: start[row + 1]; which they are: y, in words."""
    job = carray(job_at, 1)[0]
    start_of, words = pointer(job.start, np.int32(0)), pointer(job.y, np.int64(0))
    in_row = (job.columns + WORD - 1) // WORD
    turn = first_turn(job)
    while True:
        start, stop, turn = share(job, turn)
        if start == stop:
            break
        for row in range(start, stop):
            found = 0
            for word in range(in_row):
                first = word * WORD
                bits = _word(job.x, row * job.x_step + first, min(WORD, job.columns - first))
                words[row * in_row + word] = bits
                found += bit_count(bits)
            start_of[row + 1] = found


@no_type_check
def fill(job_at):
    """Write the columns and values of `total` rows of x from start[row] on; `found` counts those not finite."""
    job = carray(job_at, 1)[0]
    x, start_of, words = pointer(job.x, np.float32(0)), pointer(job.start, np.int32(0)), pointer(job.y, np.int64(0))
    column, value = pointer(job.column, np.int32(0)), pointer(job.value, np.float32(0))
    in_row = (job.columns + WORD - 1) // WORD
    odd = 0
    turn = first_turn(job)
    while True:
        start, stop, turn = share(job, turn)
        if start == stop:
            break
        for row in range(start, stop):
            place = start_of[row]
            for word in range(in_row):
                bits = words[row * in_row + word]
                while bits != 0:
                    column[place] = word * WORD + lowest_bit(bits)
                    place += 1
                    bits &= bits - 1
            # Apart from the loop above, whose branches nobody can foresee, these reads do not wait for each other.
            for entry in range(start_of[row], place):
                value[entry] = x[row * job.x_step + column[entry]]
                odd += not np.isfinite(value[entry])
    fetch_add(job.found, odd)


@no_type_check
def spread(job_at):
    """Write `total` rows of a matrix to y, with their zeros: those whose numbers are at x, or else all in order."""
    job = carray(job_at, 1)[0]
    start_of, column = pointer(job.start, np.int32(0)), pointer(job.column, np.int32(0))
    value, y = pointer(job.value, np.float32(0)), pointer(job.y, np.float32(0))
    rows, turn = pointer(job.x, np.int64(0)), first_turn(job)
    while True:
        start, stop, turn = share(job, turn)
        if start == stop:
            break
        for place in range(start, stop):
            row = rows[place] if job.x != 0 else place
            for j in range(job.columns):
                y[place * job.columns + j] = np.float32(0)
            for entry in range(start_of[row], start_of[row + 1]):
                y[place * job.columns + column[entry]] = value[entry]


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
def _gather(x, step, channels, first, count, tile, width, marks):
    """Turn `count` positions of x, from `first` on, into a tile of `channels` lines of `width` floats.

    The positions missing from the last vector are copies of the last one. Positions with NaN or infinity are NaN in
    the `width` floats at `marks`.
    """
    marked = pointer(marks, np.float32(0))
    for p in range(width):
        marked[p] = np.float32(0)
    for group in range(0, count, LANES):
        source, last = x + FLOAT * (first + group) * step, min(LANES, count - group) - 1
        target, mark = tile + FLOAT * group, marks + FLOAT * group
        if channels >= LANES:
            # The last block overlaps the one before where the channels are not a multiple of its size.
            for block in range(0, channels, LANES):
                c = min(block, channels - LANES)
                transpose_marking(source + FLOAT * c, step, last, target + FLOAT * c * width, width, mark)
        else:
            inputs, outputs = pointer(source, np.float32(0)), pointer(target, np.float32(0))
            for p in range(LANES):
                for c in range(channels):
                    entry = inputs[min(p, last) * step + c]
                    outputs[c * width + p] = entry
                    marked[group + p] += entry * np.float32(0)


@njit
@no_type_check
def _mend(job, tile, row, marks, positions, out):
    """NaN in the line of a row at each position that has NaN or infinity in an input whose weight is zero."""
    start_of, column = pointer(job.start, np.int32(0)), pointer(job.column, np.int32(0))
    inputs, outputs, marked = pointer(tile, np.float32(0)), pointer(out, np.float32(0)), pointer(marks, np.float32(0))
    for p in range(positions):
        if marked[p] != marked[p]:
            missing = 0
            for c in range(job.columns):
                missing += not np.isfinite(inputs[c * LINE + p])
            for entry in range(start_of[row], start_of[row + 1]):
                missing -= not np.isfinite(inputs[column[entry] * LINE + p])
            if missing > 0:
                outputs[p] = np.float32(np.nan)


@njit
@no_type_check
def _write_part(out, rows, count, y, step, spare):
    """Turn `rows` lines of LINE floats, LANES at most, into `count` positions of y, at address y, `step` apart."""
    turned = pointer(spare, np.float32(0))
    for group in range(0, count, LANES):
        outputs = pointer(y + FLOAT * group * step, np.float32(0))
        transpose_block(out + FLOAT * group, LINE, LANES - 1, spare, LANES, 0)
        for p in range(min(LANES, count - group)):
            for row in range(rows):
                outputs[p * step + row] = turned[p * LANES + row]


@no_type_check
def tiles(job_at):
    """y = bias + x times the matrix, for `positions` positions.

    Work is claimed in units: each tile has `parts` of them, which share its rows.
    """
    job = carray(job_at, 1)[0]
    # Read once: for all the compiler knows, what is written below might be the job.
    rows, columns, column, value, all_positions = job.rows, job.columns, job.column, job.value, job.positions
    x, x_step, y, parts, past_cache = job.x, job.x_step, job.y, job.parts, job.past_cache != 0
    start_of = pointer(job.start, np.int32(0))
    scratch = np.empty((columns + LANES + LANES + 1) * LINE, np.float32)
    tile = (scratch.ctypes.data + VECTOR - 1) // VECTOR * VECTOR
    out = tile + FLOAT * LINE * columns
    spare = out + FLOAT * LINE * LANES
    marks = spare + FLOAT * LANES * LANES
    marked = pointer(marks, np.float32(0))
    zero = np.zeros(1, np.float32)
    bias, bias_step = (job.bias, 1) if job.bias != 0 else (zero.ctypes.data, 0)
    bias = pointer(bias, np.float32(0))
    blocks = (rows + LANES - 1) // LANES
    gathered, odd = -1, False
    turn = first_turn(job)
    while True:
        start, stop, turn = share(job, turn)
        if start == stop:
            break
        for unit in range(start, stop):
            number, part = unit // parts, unit % parts
            first = number * LINE
            positions = min(LINE, all_positions - first)
            if number != gathered:
                _gather(x, x_step, columns, first, positions, tile, LINE, marks)
                gathered, odd = number, False
                for p in range(positions):
                    odd |= marked[p] != marked[p]
            for block in range(blocks * part // parts, blocks * (part + 1) // parts):
                top = block * LANES
                size = min(LANES, rows - top)
                for row in range(size):
                    entry, end = start_of[top + row], start_of[top + row + 1]
                    begin = bias[(top + row) * bias_step]
                    accumulate(tile, column, value, entry, end, begin, out + FLOAT * LINE * row)
                if odd:
                    for row in range(size):
                        _mend(job, tile, top + row, marks, positions, out + FLOAT * LINE * row)
                place = y + FLOAT * (first * rows + top)
                if size < LANES or positions < LINE:
                    _write_part(out, size, positions, place, rows, spare)
                elif past_cache:
                    for group in range(0, LINE, LANES):
                        target = place + FLOAT * group * rows
                        transpose_past_cache(out + FLOAT * group, LINE, LANES - 1, target, rows, 0)
                else:
                    for group in range(0, LINE, LANES):
                        target = place + FLOAT * group * rows
                        transpose_block(out + FLOAT * group, LINE, LANES - 1, target, rows, 0)
    # Memory is freed after the last line that names it.
    scratch[0] = zero[0]


@no_type_check
def scatter(job_at):
    """y = bias + x times the matrix, whose columns are given as rows, for `positions` positions. In one claim."""
    job = carray(job_at, 1)[0]
    x, y, bias = pointer(job.x, np.float32(0)), pointer(job.y, np.float32(0)), pointer(job.bias, np.float32(0))
    start_of, column = pointer(job.start, np.int32(0)), pointer(job.column, np.int32(0))
    value = pointer(job.value, np.float32(0))
    channels, outputs = job.rows, job.columns
    for p in range(job.positions):
        inputs, result = p * job.x_step, p * outputs
        for i in range(outputs):
            y[result + i] = bias[i] if job.bias != 0 else np.float32(0)
        odd = 0
        for word in range(0, channels, WORD):
            size = min(WORD, channels - word)
            bits = _word(job.x, inputs + word, size) if job.finite else ~(np.int64(-2) << size - 1)
            while bits != 0:
                j = word + lowest_bit(bits)
                bits &= bits - 1
                factor = x[inputs + j]
                odd += not np.isfinite(factor)
                for entry in range(start_of[j], start_of[j + 1]):
                    y[result + column[entry]] += value[entry] * factor
        if odd:
            met = np.zeros(outputs, np.int64)
            for j in range(channels):
                if not np.isfinite(x[inputs + j]):
                    for entry in range(start_of[j], start_of[j + 1]):
                        met[column[entry]] += 1
            for i in range(outputs):
                if met[i] != odd:
                    y[result + i] = np.float32(np.nan)


@njit
@no_type_check
def _clear(tile, channels, first):
    """Zeros in the lanes of a long tile from `first` on."""
    entries = pointer(tile, np.float32(0))
    for c in range(channels):
        for p in range(first, LONG_LINE):
            entries[c * LONG_LINE + p] = np.float32(0)


@njit
@no_type_check
def _sample(left, right, row_of, column, first, size, parts, value):
    """Add to `size` values, LANES at most, from entry `first` on the products of their lines of two long tiles."""
    for k in range(size):
        line = left + FLOAT * LONG_LINE * np.int64(row_of[first + k])
        other = right + FLOAT * LONG_LINE * np.int64(column[first + k])
        multiply_lines(line, other, parts + VECTOR * k)
    if size == LANES:
        fold(parts, value + FLOAT * first)
    else:
        sums, values = pointer(parts + VECTOR * LANES, np.float32(0)), pointer(value, np.float32(0))
        for k in range(LANES):
            sums[k] = values[first + k] if k < size else np.float32(0)
        fold(parts, parts + VECTOR * LANES)
        for k in range(size):
            values[first + k] = sums[k]


@no_type_check
def sample(job_at):
    """value[segment, entry] = sum of y[p, row] * x[p, column] over the positions of each of `total` segments.

    A segment is `parts` long tiles.
    """
    job = carray(job_at, 1)[0]
    start_of, column = pointer(job.start, np.int32(0)), pointer(job.column, np.int32(0))
    values = pointer(job.value, np.float32(0))
    scratch = np.zeros((job.rows + job.columns + 7) * LONG_LINE, np.float32)
    left = (scratch.ctypes.data + VECTOR - 1) // VECTOR * VECTOR
    right = left + FLOAT * LONG_LINE * job.rows
    parts = right + FLOAT * LONG_LINE * job.columns
    marks = parts + VECTOR * (LANES + 1)
    entries = start_of[job.rows]
    row_of = np.empty(entries, np.int32)
    for row in range(job.rows):
        for entry in range(start_of[row], start_of[row + 1]):
            row_of[entry] = row
    turn = first_turn(job)
    while True:
        start, stop, turn = share(job, turn)
        if start == stop:
            break
        for segment in range(start, stop):
            begin = segment * entries
            for entry in range(entries):
                values[begin + entry] = np.float32(0)
            first_tile = segment * job.parts * LONG_LINE
            last_tile = min(first_tile + job.parts * LONG_LINE, job.positions)
            for first in range(first_tile, last_tile, LONG_LINE):
                positions = min(LONG_LINE, last_tile - first)
                _gather(job.y, job.rows, job.rows, first, positions, left, LONG_LINE, marks)
                _gather(job.x, job.columns, job.columns, first, positions, right, LONG_LINE, marks)
                if positions < LONG_LINE:
                    _clear(left, job.rows, positions)
                    _clear(right, job.columns, positions)
                for entry in range(0, entries, LANES):
                    size = min(LANES, entries - entry)
                    _sample(left, right, row_of, column, entry, size, parts, job.value + FLOAT * begin)
    # Memory is freed after the last line that names it.
    scratch[0] = np.float32(0)
