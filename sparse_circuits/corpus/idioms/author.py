"""One program in the making: its random choices, habits, names in use, and the lines written so far.

All randomness comes from `random.Random.random`, whose values Python guarantees, so that a document is the
same on every platform and version.
"""

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from sparse_circuits.corpus.idioms.themes import THEMES

if TYPE_CHECKING:
    from sparse_circuits.corpus.idioms.sketches import Written

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
        "calls",
        "capital",
        "comments",
        "constants",
        "ending",
        "functions",
        "imports",
        "lines",
        "makers",
        "notes",
        "pairers",
        "random",
        "reserved",
        "roomy",
        "scope",
        "shares",
        "single",
        "sketches",
        "speakers",
        "theme",
        "typed",
    )

    def __init__(self, seed: int, index: int, draft: int = 0, full: bool = False) -> None:
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
        self.notes = self.comments + (0.35 if full else 0.1)
        """How often a function has a docstring."""
        self.typed = full and draw() < 0.15
        """Whether arguments and results are annotated."""
        self.calls: list[str] = []
        """Statements that call what is defined, to be written later."""
        self.ending = ""
        """What stands behind `if __name__ == "__main__":` at the very end."""
        self.sketches: list[Written] = []
        """The sketches the program has taken in."""
        self.shares = {"comment": self.comments, "docstring": self.notes, "perhaps": 0.5}
        """How often an optional line of a sketch is there."""

    # Python 3.11 calls a local variable faster than it calls what a slot holds.

    def chance(self, probability: float) -> bool:
        draw = self.random
        return draw() < probability

    def pick(self, items: Sequence[Item]) -> Item:
        draw = self.random
        return items[int(draw() * len(items))]

    def between(self, low: int, high: int) -> int:
        """A whole number, both ends included."""
        draw = self.random
        return low + int(draw() * (high - low + 1))

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
