"""Sizes and choices that compiled loops share with the Python that prepares their jobs and must not import Numba.

1. Of vectors and tiles, in floats: `LANES` to a vector, `LINE` and `LONG_LINE` of positions, `TILE` of queries.
2. `CACHE_LINE`: bytes, as memory delivers them; `GROUP`: cache lines that are looked at together.
3. `KEYS`, `SQUARES`, `BLOCK_ROWS`: entries, and rows, that a loop takes together; `WORD`: entries to a word of bits.
4. What precedes AbsTopK: `PLAIN`, `NORM`, `GELU`, `RELU`.
5. Keys of float32: the bits of the `MAGNITUDE`, and the `CEILING` that makes all NaN equal.
"""

LANES = 16
LINE = 2 * LANES
LONG_LINE = 4 * LANES
TILE = 4 * LANES
CACHE_LINE = 64
GROUP = 4
# They stay in the fastest cache, and a 16-bit count of them does not overflow.
KEYS = 4096
# Their squares are summed up before they are added to those of others.
SQUARES = 1 << 14
# Their sums are float32; sums of such blocks are float64. Fixed, so that no sum depends on the threads.
BLOCK_ROWS = 64
WORD = 4 * LANES
PLAIN, NORM, GELU, RELU = range(4)
MAGNITUDE, CEILING = 0x7FFFFFFF, 0x7F800001
