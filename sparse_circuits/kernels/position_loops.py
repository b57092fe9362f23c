"""The compiled parts of a forward pass that goes position by position: norm, AbsTopK, softmax, of one row of floats."""

from typing import no_type_check

import numpy as np
from numba import njit

from sparse_circuits.kernels.bits import kept_of, keys_of
from sparse_circuits.kernels.claims import pointer
from sparse_circuits.kernels.exponential import exponential
from sparse_circuits.kernels.floats import gelu, widened

_MAGNITUDE, _CEILING, _STRIDE = np.int32(0x7FFFFFFF), np.int32(0x7F800001), 1 << 18
_ZERO, _ONE = np.float32(0), np.float32(1)


@njit(fastmath={"reassoc", "contract"}, error_model="numpy")
@no_type_check
def _moments(x, n, mean):
    """The sum of a row, and of its squared differences from `mean`."""
    total, squares = _ZERO, _ZERO
    for j in range(n):
        difference = x[j] - mean
        total += x[j]
        squares += difference * difference
    return total, squares


@njit(error_model="numpy")
@no_type_check
def norm_row(weight_at, bias_at, centred, epsilon, x, n, y):
    """y = RMSNorm or, `centred`, LayerNorm of x, with the weight and, where there is one, the bias at the addresses."""
    weight, bias, mean = pointer(weight_at, _ZERO), pointer(bias_at, _ZERO), _ZERO
    if centred:
        total, _ = _moments(x, n, _ZERO)
        mean = total / np.float32(n)
    _, squares = _moments(x, n, mean)
    root = _ONE / np.sqrt(squares / np.float32(n) + np.float32(epsilon))
    for j in range(n):
        y[j] = (x[j] - mean) * root * weight[j]
    if bias_at != 0:
        for j in range(n):
            y[j] += bias[j]


@njit
@no_type_check
def activate(x, n, is_gelu):
    """GELU or else ReLU of the first n entries of x, in place."""
    if is_gelu:
        for j in range(n):
            x[j] = gelu(x[j])
    else:
        for j in range(n):
            x[j] = _ZERO if x[j] <= _ZERO else x[j]


@njit
@no_type_check
def _clear(x, keys, first, size, threshold):
    """+0.0 for the entries whose key is below `threshold`."""
    for j in range(size):
        x[first + j] = x[first + j] if keys[first + j] >= threshold else np.int32(0)


@njit
@no_type_check
def keep_largest(x, n, k, guesses, place, keys):
    """AbsTopK of the first n entries of x, in place. `guesses` remembers the threshold for the next token."""
    if k < n:
        bits = x.view(np.int32)
        keys_of(bits, 0, n, _MAGNITUDE, _CEILING, keys)
        threshold, cut = kept_of(keys, n, k, guesses[place], _STRIDE, np.int64(_CEILING))
        guesses[place] = threshold
        _clear(bits, keys, 0, cut, np.int32(threshold))
        _clear(bits, keys, cut, n - cut, np.int32(threshold + 1))


@njit
@no_type_check
def _largest(scores, count):
    """The largest score; with the other bits turned over where the sign is set, floats order as integers do."""
    bits, largest = scores.view(np.int32), np.int32(-0x80000000)
    for j in range(count):
        largest = max(largest, np.int32(bits[j] ^ _MAGNITUDE if bits[j] < 0 else bits[j]))
    return widened(np.int32(largest ^ _MAGNITUDE if largest < 0 else largest))


@njit(fastmath={"reassoc"})
@no_type_check
def _powers(scores, count, top):
    """Scores become exp(score - top); returns their sum."""
    total = _ZERO
    for j in range(count):
        scores[j] = exponential(scores[j] - top)
        total += scores[j]
    return total


@njit(error_model="numpy")
@no_type_check
def weigh(line, seen, sink):
    """The `seen` first scores become weights; the sink's score is -inf where there is none."""
    top = _largest(line, seen)
    top = sink if sink > top else top
    factor = _ONE / (_powers(line, seen, top) + exponential(sink - top))
    for j in range(seen):
        line[j] *= factor
