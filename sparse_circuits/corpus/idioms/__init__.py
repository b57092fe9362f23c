"""Endless Python programs, a "TinyStories for Python", for a small sparse model to learn idioms from.

`program(seed, index, level)` is document `index` of the stream `seed`, by random access, the same in every
process and on every platform. There are two levels:
- simple: scripts and functions of few, frequent constructs, learnt in minutes;
- full: what Python programs are made of, with classes, files, tests and some two hundred well-known algorithms.

One `Author` (author.py) writes a program:
1. layout.py (simple) or stories.py (full) draws a shape (a script, functions and a script, a class, a main
   function) and fills it with
2. constructs from the weighted lists of registry.py or repertoire.py: one function each, which appends lines, and
   of sketches/ (full): algorithms and classes written as texts with slots; both built on
3. the variables in scope (author.py, names.py), literals, expressions and the work of loops (bodies.py),
4. in the words of one theme (themes.py, words.py).
"""

from collections.abc import Callable, Iterator
from itertools import count

from sparse_circuits.corpus.config import Level
from sparse_circuits.corpus.idioms import layout, stories
from sparse_circuits.corpus.idioms.author import Author
from sparse_circuits.errors import InputError

__all__ = ["Level", "program", "programs"]

DRAFTS: dict[str, Callable[[Author], list[str]]] = {"simple": layout.draft, "full": stories.draft}
LONGEST_LINE = 100


def program(seed: int, index: int, level: Level = "simple") -> str:
    """Document `index` of the stream `seed`: a short valid Python program that ends with a newline.

    Raises InputError when a number is negative or does not fit in 64 bits, or when there is no such level.
    """
    for label, value in (("seed", seed), ("index", index)):
        if not 0 <= value < 1 << 64:
            raise InputError(f"idioms: {label} is {value}, expected 0 to 2**64 - 1; pass a whole number in that range")
    if level not in DRAFTS:
        raise InputError(f"idioms: level is {level!r}; choose among {', '.join(DRAFTS)}")
    # The first draft without a line that is too long.
    for number in count():
        lines = DRAFTS[level](Author(seed, index, number, level == "full"))
        if max(map(len, lines)) <= LONGEST_LINE:
            break
    return "\n".join(lines) + "\n"


def programs(seed: int, start: int = 0, level: Level = "simple") -> Iterator[str]:
    """The documents of the stream `seed` from `start` on, without end."""
    for index in count(start):
        yield program(seed, index, level)
