"""The compiled side of the projection that reads a matrix once: what may stay is taken out of it, then it is cleared.

1. `sample`: some keys, evenly spread.
2. `gather`: the entries whose key reaches a bound, with their keys and places.
3. `settle`: the threshold in a list, of a sample or of what was gathered. On one thread, as lists are short.
4. `clear`: +0.0 everywhere, around the cache: nothing of the matrix is needed any more.
5. `put`: what stays, back to its place.
"""

from typing import no_type_check

import numpy as np
from numba import carray

from sparse_circuits.kernels.bits import BLOCK, threshold_of
from sparse_circuits.kernels.claims import fetch_add, first_turn, narrow, pointer, share
from sparse_circuits.kernels.lines import (
    GROUP,
    LINE,
    any_reaching,
    bit_count,
    clear_line,
    lowest_bit,
    prefetch,
    reaching,
)

AHEAD = 2 * 4096


@no_type_check
def sample(job_at):
    """keys = the keys of every `step`-th entry of x, `total` of them, above all others where the mask is 1."""
    job = carray(job_at, 1)[0]
    x, mask, keys = pointer(job.x, job.unit), pointer(job.mask, np.uint8(0)), pointer(job.keys, job.unit)
    magnitude, ceiling = narrow(job.magnitude, job.unit), narrow(job.ceiling, job.unit)
    turn = first_turn(job)
    while True:
        start, stop, turn = share(job, turn)
        if start == stop:
            break
        for i in range(start, stop):
            keys[i] = min(x[i * job.step] & magnitude, ceiling)
        for i in range(start, stop if job.mask != 0 else start):
            if mask[i * job.step] != 0:
                keys[i] = narrow(ceiling + 1, ceiling)


@no_type_check
def gather(job_at):
    """List the entries of `total` groups of x with a key of at least `threshold`, or whose mask is 1: keys, y, places.

    There is room for n of them; `found` counts them all. A key whose mask is 1 is above all others.
    """
    job = carray(job_at, 1)[0]
    x, mask = pointer(job.x, job.unit), pointer(job.mask, np.uint8(0))
    keys, values, places = pointer(job.keys, job.unit), pointer(job.y, job.unit), pointer(job.places, np.int64(0))
    magnitude, ceiling = narrow(job.magnitude, job.unit), narrow(job.ceiling, job.unit)
    bound, size = narrow(job.threshold, job.unit), np.empty_like(carray(x, 1)).itemsize
    lanes = LINE // size
    # Of a block: where those lines begin of which something is listed, and what, as bits.
    begins, words = np.empty(BLOCK // lanes, np.int64), np.empty(BLOCK // lanes, np.int64)
    turn = first_turn(job)
    while True:
        start, stop, turn = share(job, turn)
        if start == stop:
            break
        for block in range(start * GROUP * lanes, stop * GROUP * lanes, BLOCK):
            listed, found = 0, 0
            for group in range(block, min(block + BLOCK, stop * GROUP * lanes), GROUP * lanes):
                # Further ahead than the processor looks by itself, which ends with the page.
                for line in range(GROUP):
                    prefetch(job.x + group * size + AHEAD + line * LINE)
                marks = job.mask + group if job.mask != 0 else 0
                if any_reaching(job.x + group * size, marks, bound, magnitude):
                    for line in range(group, group + GROUP * lanes, lanes):
                        marks = job.mask + line if job.mask != 0 else 0
                        word = reaching(job.x + line * size, marks, bound, magnitude, ceiling)
                        begins[listed], words[listed] = line, word
                        listed, found = listed + (word != 0), found + bit_count(word)
            to = fetch_add(job.address + 8, found)
            for i in range(listed if to + found <= job.n else 0):
                word = words[i]
                while word != 0:
                    place = begins[i] + lowest_bit(word)
                    forced = job.mask != 0 and mask[place] != 0
                    keys[to] = narrow(ceiling + 1, ceiling) if forced else min(x[place] & magnitude, ceiling)
                    values[to], places[to] = x[place], place
                    word, to = word & (word - 1), to + 1


@no_type_check
def settle(job_at):
    """y[0] = the threshold that keeps k of n listed keys, from a guess; y[1] = how many equal to it, 0 for all.

    In one claim.
    """
    job = carray(job_at, 1)[0]
    keys, ceiling = carray(pointer(job.keys, job.unit), job.n), narrow(job.ceiling + 1, job.unit)
    threshold, needed = threshold_of(keys, job.n, job.k, job.threshold, job.stride, ceiling)
    found = pointer(job.y, np.int64(0))
    found[0], found[1] = threshold, needed


@no_type_check
def clear(job_at):
    """+0.0 in `total` groups of lines of x."""
    job = carray(job_at, 1)[0]
    turn = first_turn(job)
    while True:
        start, stop, turn = share(job, turn)
        if start == stop:
            break
        for line in range(start * GROUP, stop * GROUP):
            clear_line(job.x + line * LINE, job.past_cache)


@no_type_check
def put(job_at):
    """Of `total` listed entries write those to x whose key is above `threshold`, or equal and their place before k."""
    job = carray(job_at, 1)[0]
    x, keys = pointer(job.x, job.unit), pointer(job.keys, job.unit)
    values, places = pointer(job.y, job.unit), pointer(job.places, np.int64(0))
    threshold = narrow(job.threshold, job.unit)
    turn = first_turn(job)
    while True:
        start, stop, turn = share(job, turn)
        if start == stop:
            break
        for i in range(start, stop):
            if keys[i] > threshold or (keys[i] == threshold and places[i] < job.k):
                x[places[i]] = values[i]
