"""The compiled side of AbsTopK: rows kept and their gradient, as `cpu` describes them, a line of 64 bytes at a time.

Which entries stay is kept as a bit an entry, a word a line, each row beginning a new word.
"""

from typing import no_type_check

import numpy as np
from numba import carray, njit

from sparse_circuits.kernels.bits import kept_of, keys_of
from sparse_circuits.kernels.lines import LINE, keep_line, prefetch, select_line
from sparse_circuits.kernels.threads import first_turn, narrow, pointer, share


@njit
@no_type_check
def _put_bit(bits, place, value):
    """Set or clear a bit of those at the address."""
    byte = pointer(bits + (place >> 3), np.uint8(0))
    byte[0] = (byte[0] & ~(1 << (place & 7))) | (value << (place & 7))


@no_type_check
def rows(job_at):
    """AbsTopK of `total` rows of `n` entries: x -> y and, where there is room for it, bits, `step` bytes a row."""
    job = carray(job_at, 1)[0]
    x, y = pointer(job.x, job.unit), pointer(job.y, job.unit)
    n, k, past = job.n, job.k, job.past_cache
    magnitude, ceiling = narrow(job.magnitude, job.unit), narrow(job.ceiling, job.unit)
    keys = np.empty_like(carray(x, n))
    size = keys.itemsize
    lanes = LINE // size
    whole, threshold = n - n % lanes, 0
    turn = first_turn(job)
    while True:
        start, stop, turn = share(job, turn)
        if start == stop:
            break
        for row in range(start, stop):
            keys_of(x, row * n, n, magnitude, ceiling, keys)
            threshold, cut = kept_of(keys, n, k, threshold, job.stride, ceiling)
            t, first = narrow(threshold, ceiling), row * n
            bits = job.bits + row * job.step if job.bits != 0 else 0
            for j in range(0, whole, lanes):
                if past != 0:  # memory would have nothing to do while the next threshold is searched for
                    prefetch(job.x + (first + n + j) * size)
                here, word = (first + j) * size, bits + (j >> 3) if bits != 0 else 0
                before = min(max(cut - j, 0), lanes)
                keep_line(job.x + here, job.y + here, word, t, before, magnitude, ceiling, past)
            for j in range(whole, n):
                stays = keys[j] > t or (keys[j] == t and j < cut)
                y[first + j] = x[first + j] if stays else narrow(0, ceiling)
                if bits != 0:
                    _put_bit(bits, j, stays)


@no_type_check
def masked(job_at):
    """x -> y where the bit is set, +0.0 elsewhere; `total` rows of n entries, with `step` bytes of bits."""
    job = carray(job_at, 1)[0]
    x, y, n = pointer(job.x, job.unit), pointer(job.y, job.unit), job.n
    size = np.empty_like(carray(x, 1)).itemsize
    lanes = LINE // size
    whole = n - n % lanes
    turn = first_turn(job)
    while True:
        start, stop, turn = share(job, turn)
        if start == stop:
            break
        for row in range(start, stop):
            first, bits = row * n, job.bits + row * job.step
            for j in range(0, whole, lanes):
                here = (first + j) * size
                select_line(job.x + here, job.y + here, bits + (j >> 3), job.unit, job.past_cache)
            for j in range(whole, n):
                stays = pointer(bits + (j >> 3), np.uint8(0))[0] >> (j & 7) & 1
                y[first + j] = x[first + j] if stays else narrow(0, job.unit)
