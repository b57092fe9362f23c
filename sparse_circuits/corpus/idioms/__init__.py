"""Endless simple Python programs, a "TinyStories for Python", for a small sparse model to learn idioms from.

`program(seed, index)` is document `index` of the stream `seed`, by random access, the same in every process
and on every platform. One `Author` (author.py) writes it:
1. layout.py draws a shape (a script, functions and a script, a class, a main function) and fills it with
2. constructs from the weighted lists of registry.py: one function each, which appends lines, built on
3. the variables in scope (author.py, names.py), literals, expressions and the work of loops (bodies.py),
4. in the words of one theme (themes.py, words.py).
"""

from collections.abc import Iterator
from itertools import count

from sparse_circuits.corpus.idioms.layout import compose
from sparse_circuits.errors import InputError

__all__ = ["program", "programs"]


def program(seed: int, index: int) -> str:
    """Document `index` of the stream `seed`: a short valid Python program that ends with a newline.

    Raises InputError when either number is negative or does not fit in 64 bits.
    """
    for label, value in (("seed", seed), ("index", index)):
        if not 0 <= value < 1 << 64:
            raise InputError(f"idioms: {label} is {value}, expected 0 to 2**64 - 1; pass a whole number in that range")
    return compose(seed, index)


def programs(seed: int, start: int = 0) -> Iterator[str]:
    """The documents of the stream `seed` from `start` on, without end."""
    for index in count(start):
        yield program(seed, index)
