"""The compiled side of AbsTopK: rows kept and their gradient, as `cpu` describes them, a line of 64 bytes at a time.

Which entries stay is kept as a bit an entry, a word a line, each row beginning a new word.
"""

from typing import no_type_check

import numpy as np
from numba import carray, njit

from sparse_circuits.kernels.bits import kept_of, keys_of
from sparse_circuits.kernels.claims import first_turn, narrow, pointer, share
from sparse_circuits.kernels.lines import LINE, keep_line, prefetch, select_line


@njit
@no_type_check
def _put_bit(bits, place, value):
    """Set or clear a bit of those at the address."""
    byte = pointer(bits + (place >> 3), np.uint8(0))
    byte[0] = (byte[0] & ~(1 << (place & 7))) | (value << (place & 7))


@njit
@no_type_check
def keep_row(x, y, bits, n, size, threshold, cut, magnitude, ceiling, past, ahead):
    """What stays of the row at x, of n entries of `size` bytes, goes to y: keys from the threshold on, from the cut on
    those above it. A bit an entry goes to `bits`, where that is an address; meanwhile `ahead` is brought near.
    """
    lanes = LINE // size
    whole = n - n % lanes
    for j in range(0, whole, lanes):
        if ahead != 0:
            prefetch(ahead + j * size)
        before, word = min(max(cut - j, 0), lanes), bits + (j >> 3) if bits != 0 else 0
        keep_line(x + j * size, y + j * size, word, threshold, before, magnitude, ceiling, past)
    source, target = pointer(x, threshold), pointer(y, threshold)
    for j in range(whole, n):
        key = narrow(min(source[j] & magnitude, ceiling), threshold)
        stays = key > threshold or (key == threshold and j < cut)
        target[j] = source[j] if stays else narrow(0, threshold)
        if bits != 0:
            _put_bit(bits, j, stays)


@njit
@no_type_check
def select_row(x, y, bits, n, size, unit, past):
    """The entries of the row at x whose bit is set go to y, +0.0 for the others."""
    lanes = LINE // size
    whole = n - n % lanes
    for j in range(0, whole, lanes):
        select_line(x + j * size, y + j * size, bits + (j >> 3), unit, past)
    source, target = pointer(x, unit), pointer(y, unit)
    for j in range(whole, n):
        stays = pointer(bits + (j >> 3), np.uint8(0))[0] >> (j & 7) & 1
        target[j] = source[j] if stays else narrow(0, unit)


@no_type_check
def rows(job_at):
    """AbsTopK of `total` rows of `n` entries: x -> y and, where there is room for it, bits, `step` bytes a row.

    Rows of x lie `x_step` entries apart.
    """
    job = carray(job_at, 1)[0]
    x, n, k, past = pointer(job.x, job.unit), job.n, job.k, job.past_cache
    magnitude, ceiling = narrow(job.magnitude, job.unit), narrow(job.ceiling, job.unit)
    keys = np.empty_like(carray(x, n))
    size, threshold = keys.itemsize, 0
    turn = first_turn(job)
    while True:
        start, stop, turn = share(job, turn)
        if start == stop:
            break
        for row in range(start, stop):
            first = row * job.x_step
            keys_of(x, first, n, magnitude, ceiling, keys)
            threshold, cut = kept_of(keys, n, k, threshold, job.stride, ceiling)
            t, here = narrow(threshold, ceiling), job.x + first * size
            bits = job.bits + row * job.step if job.bits != 0 else 0
            # Memory would have nothing to do while the next threshold is searched for.
            ahead = here + job.x_step * size if past != 0 else 0
            keep_row(here, job.y + row * n * size, bits, n, size, t, cut, magnitude, ceiling, past, ahead)


@no_type_check
def masked(job_at):
    """x -> y where the bit is set, +0.0 elsewhere; `total` rows of n entries, with `step` bytes of bits."""
    job = carray(job_at, 1)[0]
    n, size = job.n, np.empty_like(carray(pointer(job.x, job.unit), 1)).itemsize
    turn = first_turn(job)
    while True:
        start, stop, turn = share(job, turn)
        if start == stop:
            break
        for row in range(start, stop):
            here, bits = row * n * size, job.bits + row * job.step
            select_row(job.x + here, job.y + here, bits, n, size, job.unit, job.past_cache)
