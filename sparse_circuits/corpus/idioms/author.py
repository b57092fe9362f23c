"""One program in the making: its random choices, habits, names in use, and the lines written so far.

All randomness comes from `Random(seed, index).random()`, whose values Python guarantees for ever, so a document is
the same on every platform and version.
"""

import random
from collections.abc import Sequence
from typing import TypeVar

from sparse_circuits.corpus.idioms.themes import THEMES

Item = TypeVar("Item")

INDENT = "    "
LINE_LIMIT = 88


class Scope:
    """The variables that may be read here, by kind, and every name taken.

    `frozen` holds the names that the loops now open depend on: nothing may assign or grow them.
    """

    __slots__ = ("frozen", "lists", "numbers", "rows", "tables", "texts", "used", "words")

    def __init__(self) -> None:
        self.used: dict[str, str] = {}
        self.frozen: list[str] = []
        self.numbers: list[str] = []
        self.texts: list[str] = []
        self.lists: list[tuple[str, str]] = []
        """Lists of numbers: (name, name of an element)."""
        self.words: list[tuple[str, str]] = []
        """Lists of strings: (name, name of an element)."""
        self.rows: list[tuple[str, str, str]] = []
        """Lists of lists of numbers: (name, name of a row, name of an element)."""
        self.tables: list[tuple[str, str, str]] = []
        """Dictionaries from strings to numbers: (name, name of a key, name of a value)."""

    def mark(self) -> tuple[int, ...]:
        """Remember what is readable; `release` forgets what a nested block has added since."""
        return (
            len(self.numbers),
            len(self.texts),
            len(self.lists),
            len(self.words),
            len(self.rows),
            len(self.tables),
        )

    def release(self, mark: tuple[int, ...]) -> None:
        del self.numbers[mark[0] :]
        del self.texts[mark[1] :]
        del self.lists[mark[2] :]
        del self.words[mark[3] :]
        del self.rows[mark[4] :]
        del self.tables[mark[5] :]


class Author:
    """Writes one program: `lines` grows, everything else steers what comes next."""

    __slots__ = (
        "capital",
        "comments",
        "constants",
        "lines",
        "random",
        "roomy",
        "scope",
        "single",
        "speakers",
        "theme",
        "things",
    )

    def __init__(self, seed: int, index: int) -> None:
        self.random = draw = random.Random((seed << 64) | index).random
        self.lines: list[str] = []
        self.scope = Scope()
        self.theme = THEMES[int(draw() * len(THEMES))]
        # Three programs in five choose the quote of every string anew; the others have a habit.
        habit = draw()
        self.single = 0.5 if habit < 0.6 else (0.02 if habit < 0.8 else 0.98)
        self.capital = 0.1 if draw() < 0.6 else 0.8
        self.comments = 0.35 if draw() < 0.3 else 0.06
        self.roomy = draw()
        self.speakers = ["print"] * 4
        """Functions and methods in reach that take one string."""

    def chance(self, probability: float) -> bool:
        return self.random() < probability

    def pick(self, items: Sequence[Item]) -> Item:
        return items[int(self.random() * len(items))]

    def between(self, low: int, high: int) -> int:
        """A whole number, both ends included."""
        return low + int(self.random() * (high - low + 1))

    def write(self, pad: str, *lines: str) -> None:
        """Append lines, indented by `pad`."""
        for line in lines:
            self.lines.append(pad + line)

    def comment(self, pad: str, text: str) -> None:
        """Now and then, a comment line."""
        if self.random() < self.comments:
            self.lines.append(f"{pad}# {text}")

    def quote(self, text: str) -> str:
        """A string literal, its quotes chosen by the program's habit."""
        single = self.random() < self.single
        mark = "'" if single else '"'
        if mark in text:
            mark = '"' if single else "'"
            if mark in text:
                return mark + text.replace(mark, "\\" + mark) + mark
        return mark + text + mark
