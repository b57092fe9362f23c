"""One program in the making: its random choices, habits, names in use, and the lines written so far.

All randomness comes from `random.Random.random`, whose values Python guarantees, so that a document is the
same on every platform and version.
"""

import random
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from sparse_circuits.corpus.idioms.themes import THEMES

Item = TypeVar("Item")

INDENT = "    "
LINE_LIMIT = 88
QUOTES = ('"', "'")


class Function(NamedTuple):
    """A function the program has defined."""

    name: str
    arguments: tuple[str, ...]
    """The kind of each argument: number, count (whole, above 0), text, word (a literal), list, words, rows;
    own_list, own_words or own_rows where the function drains its argument."""
    result: str
    """The kind of its result: number, text, flag, other, or none."""


class Scope:
    """The variables that may be read here, by kind, and every name taken.

    Lists of this record are never empty when the program runs: nothing that is read here is ever drained.
    """

    __slots__ = ("flags", "frozen", "lists", "numbers", "rows", "tables", "texts", "used", "words")

    def __init__(self, used: dict[str, str]) -> None:
        self.used = used
        """Every name taken and its kind."""
        self.frozen: list[str] = []
        """Names that an open loop depends on: nothing may assign or grow them."""
        self.numbers: list[str] = []
        self.texts: list[str] = []
        self.flags: list[str] = []
        self.lists: list[tuple[str, str]] = []
        """Lists of numbers: (name, name of an element)."""
        self.words: list[tuple[str, str]] = []
        """Lists of strings: (name, name of an element)."""
        self.rows: list[tuple[str, str, str]] = []
        """Lists of lists of numbers: (name, name of a row, name of an element)."""
        self.tables: list[tuple[str, str, str]] = []
        """Dictionaries from strings to numbers: (name, name of a key, name of a value)."""


class Author:
    """Writes one program: `lines` grows, everything else steers what comes next."""

    __slots__ = (
        "capital",
        "comments",
        "constants",
        "functions",
        "imports",
        "lines",
        "makers",
        "pairers",
        "random",
        "reserved",
        "roomy",
        "scope",
        "single",
        "speakers",
        "theme",
    )

    def __init__(self, seed: int, index: int, draft: int = 0) -> None:
        self.random = draw = random.Random((draft << 128) | (seed << 64) | index).random
        self.lines: list[str] = []
        self.reserved: dict[str, str] = {}
        """Names of the module that no function may hide: functions, classes and imported modules."""
        self.scope = Scope({})
        self.imports: list[str] = []
        self.constants: list[str] = []
        """Numbers in capitals: every function may read them."""
        self.functions: list[Function] = []
        self.speakers = ["print"] * 6
        """What takes one string and is in reach: print, log.info, the program's own functions."""
        self.makers: list[str] = []
        """The program's own functions that make a string of a string."""
        self.pairers: list[str] = []
        """The program's own functions of a value and a string."""
        self.theme = THEMES[int(draw() * len(THEMES))]
        # Three programs in five choose the quote of every string anew; the others have a habit.
        habit = draw()
        self.single = 0.5 if habit < 0.6 else (0.02 if habit < 0.8 else 0.98)
        self.capital = 0.05 if draw() < 0.6 else 0.7
        self.comments = 0.4 if draw() < 0.3 else 0.05
        self.roomy = 0.25 + 0.5 * draw()

    def chance(self, probability: float) -> bool:
        return self.random() < probability

    def pick(self, items: Sequence[Item]) -> Item:
        return items[int(self.random() * len(items))]

    def between(self, low: int, high: int) -> int:
        """A whole number, both ends included."""
        return low + int(self.random() * (high - low + 1))

    def write(self, pad: str, *lines: str) -> None:
        """Append lines, indented by `pad` where they are not empty."""
        for line in lines:
            self.lines.append(pad + line if line else "")

    def comment(self, pad: str, text: str) -> None:
        """Now and then, a comment line."""
        if self.random() < self.comments:
            self.lines.append(f"{pad}# {text}")

    def quote(self, text: str) -> str:
        """A string literal, its quotes chosen by the program's habit."""
        single = self.random() < self.single
        mark = QUOTES[single]
        if mark in text:
            mark = QUOTES[not single]
            if mark in text:
                return mark + text.replace(mark, "\\" + mark) + mark
        return mark + text + mark

    def reserve(self, name: str, kind: str) -> str:
        """Take a name of the module: a function, a class, an imported module."""
        self.reserved[name] = kind
        self.scope.used[name] = kind
        return name

    def need(self, module: str, name: str = "") -> bool:
        """Import a module, or a name from it, at the top; False when something else has the name."""
        bound = name or module
        kind = self.scope.used.get(bound)
        if kind is None and bound not in self.reserved:
            self.imports.append(f"from {module} import {name}" if name else f"import {module}")
            self.reserve(bound, "import")
            return True
        return kind == "import"
