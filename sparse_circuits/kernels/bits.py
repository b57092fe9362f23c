"""The compiled side of the CPU kernels: keys, counts, thresholds and cuts, as `cpu` describes them.

1. `keys_of`, `count_of`, `threshold_of`, `_cut_in`: one row or block at a time; `kept_of`: what a row keeps.
2. `force_rows`, `force_columns`, `split`, `histogram`, `cut`, `zero`: the steps of a weight projection.

Each kernel takes the address of its job (`jobs.job_type`) and claims work until none is left. An index that starts
at 0 spares Numba the test for negative ones, and pointers know no such test, so that the loops become vector code.
Run-time type checks would come between Numba and the functions: hence no_type_check.
"""

from typing import no_type_check

import numpy as np
from numba import carray, njit

from sparse_circuits.kernels.claims import fetch_add, first_turn, narrow, pointer, share
from sparse_circuits.kernels.sizes import KEYS as BLOCK


@njit
@no_type_check
def keys_of(x, first, size, magnitude, ceiling, keys):
    """The keys of `size` entries of x from `first` on."""
    for j in range(size):
        keys[j] = min(x[first + j] & magnitude, ceiling)


@njit
@no_type_check
def _count_block(keys, size, threshold):
    """How many of the first `size` keys, BLOCK at most, are at least `threshold`."""
    count = narrow(0, threshold)
    for j in range(size):
        count = narrow(count + (keys[j] >= threshold), threshold)
    return count


@njit
@no_type_check
def _count_equal(keys, size, threshold):
    """How many of the first `size` keys, BLOCK at most, are equal to `threshold`."""
    count = narrow(0, threshold)
    for j in range(size):
        count = narrow(count + (keys[j] == threshold), threshold)
    return count


@njit
@no_type_check
def count_of(keys, size, threshold):
    """How many of the first `size` keys are at least `threshold`."""
    count = 0
    for start in range(0, size, BLOCK):
        count += _count_block(keys[start:], min(BLOCK, size - start), threshold)
    return count


@njit
@no_type_check
def threshold_of(keys, size, k, guess, stride, ceiling):
    """The threshold that keeps k keys, and the count of those equal to it that it needs (0: all of them).

    1. Step out from the guess, by ever larger steps, until the threshold lies between two tried values.
    2. Interpolate between their counts; halve the interval at times, since interpolation may creep.
    """
    low, high = 0, ceiling + 1
    at_low, at_high = size, 0
    t, tries = min(max(guess, 1), ceiling), 0
    while high - low > 1:
        count = count_of(keys, size, narrow(t, ceiling))
        tries += 1
        if count == k:
            return t, 0
        if count > k:
            low, at_low = t, count
        else:
            high, at_high = t, count
        if low > 0 and high <= ceiling and tries % 4 != 0:
            part = np.float32(at_low - k) / np.float32(at_low - at_high)
            t = low + np.int64(part * np.float32(high - low))
        elif (low > 0 and high <= ceiling) or tries > 4:
            t = (low + high) >> 1
        else:
            # About as far as it is off: in most data a threshold larger by a part is reached by twice that part fewer.
            reach = min(stride * 24 * abs(count - k) // k + (stride >> 3), 4 * stride) << (2 * tries - 2)
            t = low + reach if low > 0 else high - reach
        t = min(max(t, low + 1), high - 1)
    return low, k - at_high


@njit
@no_type_check
def _cut_in(keys, size, threshold, needed):
    """The index after the key with which `needed` keys equal to `threshold` have been seen."""
    start = 0
    while True:
        equal = _count_equal(keys[start:], min(64, size - start), threshold)
        if equal >= needed:
            break
        needed -= equal
        start += 64
    while needed > 0:
        needed -= keys[start] == threshold
        start += 1
    return start


@njit
@no_type_check
def kept_of(keys, size, k, guess, stride, ceiling):
    """Which k keys stay: before the cut those from the threshold on, after it those above. Returns threshold, cut."""
    if k >= size:
        return 0, size
    threshold, needed = threshold_of(keys, size, k, guess, stride, ceiling)
    return threshold, _cut_in(keys, size, narrow(threshold, ceiling), needed) if needed > 0 else size


@no_type_check
def force_rows(job_at):
    """Set mask to 1 at the k largest of the n entries of each of `total` rows."""
    job = carray(job_at, 1)[0]
    x, mask = pointer(job.x, job.unit), pointer(job.mask, np.uint8(0))
    n, magnitude, ceiling = job.n, narrow(job.magnitude, job.unit), narrow(job.ceiling, job.unit)
    keys = np.empty_like(carray(x, n))
    threshold = 0
    turn = first_turn(job)
    while True:
        start, stop, turn = share(job, turn)
        if start == stop:
            break
        for row in range(start, stop):
            keys_of(x, row * n, n, magnitude, ceiling, keys)
            threshold, cut = kept_of(keys, n, job.k, threshold, job.stride, ceiling)
            t = narrow(threshold, ceiling)
            for j in range(cut):
                mask[row * n + j] = keys[j] >= t
            for j in range(cut, n):
                mask[row * n + j] = keys[j] > t


@no_type_check
def force_columns(job_at):
    """Set mask to 1 at the k largest of each of `total` columns, of n entries each; the ones already there stay.

    The k best of every column are kept sorted, best[0] above best[1] and so on, while the rows go by: a new key
    moves down past the larger ones and pushes the smaller ones on. Columns lie side by side, so this is vector code.
    """
    job = carray(job_at, 1)[0]
    x, mask, k = pointer(job.x, job.unit), pointer(job.mask, np.uint8(0)), job.k
    magnitude, ceiling = narrow(job.magnitude, job.unit), narrow(job.ceiling, job.unit)
    best = np.empty_like(carray(x, (k, job.claim)))
    keys, needed = np.empty_like(best[0]), np.empty(job.claim, np.int32)
    turn = first_turn(job)
    while True:
        start, stop, turn = share(job, turn)
        if start == stop:
            break
        width = stop - start
        best[:] = narrow(-1, ceiling)
        for row in range(job.n):
            keys_of(x, row * job.total + start, width, magnitude, ceiling, keys)
            for place in range(k):
                _sink(best[place], keys, width)
        needed[:] = 0
        for place in range(k):
            for i in range(width):
                needed[i] += best[place, i] == best[k - 1, i]
        for row in range(job.n):
            first = row * job.total + start
            keys_of(x, first, width, magnitude, ceiling, keys)
            for i in range(width):
                equal = keys[i] == best[k - 1, i]
                chosen = (keys[i] > best[k - 1, i]) | (equal & (needed[i] > 0))
                needed[i] -= equal & chosen
                mask[first + i] |= chosen


@njit
@no_type_check
def _sink(best, keys, size):
    """Leave the larger of each pair in `best`, the smaller in `keys`."""
    for i in range(size):
        larger, smaller = max(best[i], keys[i]), min(best[i], keys[i])
        best[i] = larger
        keys[i] = smaller


@njit
@no_type_check
def _block_keys(job, x, mask, first, size, magnitude, ceiling, keys):
    """The keys of a block of a matrix; where mask is 1 they are above all others."""
    keys_of(x, first, size, magnitude, ceiling, keys)
    if job.mask != 0:
        for j in range(size):
            keys[j] = narrow(ceiling + 1, ceiling) if mask[first + j] else keys[j]


@no_type_check
def split(job_at):
    """Count in `above` the keys of `total` entries that are at least k, and gather at y those from `threshold` to k.

    There is room for n of them; `found` counts them all.
    """
    job = carray(job_at, 1)[0]
    x, mask, y = pointer(job.x, job.unit), pointer(job.mask, np.uint8(0)), pointer(job.y, job.unit)
    magnitude, ceiling = narrow(job.magnitude, job.unit), narrow(job.ceiling, job.unit)
    low, high = narrow(job.threshold, job.unit), narrow(job.k, job.unit)
    keys = np.empty_like(carray(x, BLOCK))
    turn = first_turn(job)
    while True:
        start, stop, turn = share(job, turn)
        if start == stop:
            break
        for first in range(start, stop, BLOCK):
            size = min(BLOCK, stop - first)
            _block_keys(job, x, mask, first, size, magnitude, ceiling, keys)
            above = _count_block(keys, size, high)
            inside = _count_block(keys, size, low) - above
            fetch_add(job.address, above)
            place = fetch_add(job.address + 8, inside)
            if inside > 0 and place + inside <= job.n:
                _gather(keys, size, low, high, y, place)


@njit
@no_type_check
def _gather(keys, size, low, high, y, place):
    """Copy the keys from low to high to y[place], y[place + 1], ..."""
    for start in range(0, size, 64):
        part, length = keys[start:], min(64, size - start)
        if _count_block(part, length, low) > _count_block(part, length, high):
            for j in range(length):
                if low <= part[j] < high:
                    y[place] = part[j]
                    place += 1


@no_type_check
def histogram(job_at):
    """Add to the n counts at y how many keys of `total` entries are in which bin: 1 << step wide, from threshold on."""
    job = carray(job_at, 1)[0]
    x, mask, counts = pointer(job.x, job.unit), pointer(job.mask, np.uint8(0)), np.zeros(job.n, np.int64)
    magnitude, ceiling = narrow(job.magnitude, job.unit), narrow(job.ceiling, job.unit)
    # All but the first pass look for few keys, and most parts of a block hold none of them.
    everything = job.threshold == 0
    low, high = narrow(job.threshold, ceiling), narrow(min(job.threshold + (job.n << job.step), ceiling + 2), ceiling)
    keys = np.empty_like(carray(x, BLOCK))
    turn = first_turn(job)
    while True:
        start, stop, turn = share(job, turn)
        if start == stop:
            break
        for first in range(start, stop, BLOCK):
            size = min(BLOCK, stop - first)
            _block_keys(job, x, mask, first, size, magnitude, ceiling, keys)
            for at in range(0, size, 64):
                part, length = keys[at:], min(64, size - at)
                if everything or _count_block(part, length, low) > _count_block(part, length, high):
                    for j in range(length):
                        place = (part[j] - job.threshold) >> job.step
                        if 0 <= place < job.n:
                            counts[place] += 1
    for place in range(job.n):
        if counts[place] > 0:
            fetch_add(job.y + 8 * place, counts[place])


@no_type_check
def cut(job_at):
    """Find the flat index before which k keys are equal to `threshold`, and write it to y. In one claim."""
    job = carray(job_at, 1)[0]
    x, mask, found = pointer(job.x, job.unit), pointer(job.mask, np.uint8(0)), pointer(job.y, np.int64(0))
    magnitude, ceiling = narrow(job.magnitude, job.unit), narrow(job.ceiling, job.unit)
    keys = np.empty_like(carray(x, BLOCK))
    threshold, needed = narrow(job.threshold, job.unit), job.k
    for first in range(0, job.total, BLOCK):
        size = min(BLOCK, job.total - first)
        _block_keys(job, x, mask, first, size, magnitude, ceiling, keys)
        equal = _count_equal(keys, size, threshold)
        if equal >= needed:
            found[0] = first + _cut_in(keys, size, threshold, needed)
            break
        needed -= equal


@njit
@no_type_check
def _zero_below(x, first, keys, size, threshold):
    """Write +0.0 over the entries whose key is below `threshold`."""
    for j in range(size):
        x[first + j] = x[first + j] if keys[j] >= threshold else narrow(0, threshold)


@no_type_check
def zero(job_at):
    """Zero the entries of x below the threshold: before flat index k the keys below it, after it those equal too."""
    job = carray(job_at, 1)[0]
    x, mask = pointer(job.x, job.unit), pointer(job.mask, np.uint8(0))
    magnitude, ceiling = narrow(job.magnitude, job.unit), narrow(job.ceiling, job.unit)
    keys = np.empty_like(carray(x, BLOCK))
    threshold = narrow(job.threshold, job.unit)
    turn = first_turn(job)
    while True:
        start, stop, turn = share(job, turn)
        if start == stop:
            break
        for first in range(start, stop, BLOCK):
            size = min(BLOCK, stop - first)
            _block_keys(job, x, mask, first, size, magnitude, ceiling, keys)
            cut = min(max(job.k - first, 0), size)
            _zero_below(x, first, keys, cut, threshold)
            _zero_below(x, first + cut, keys[cut:], size - cut, narrow(threshold + 1, threshold))
