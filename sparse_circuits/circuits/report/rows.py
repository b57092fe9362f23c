"""The report card as data: rows, the card of all of them, and what it says in one line.

A row is one figure: a number with its interval, a plain sentence, and a verdict. Nine points group the rows; a point is
as good as its worst row. Nothing here computes.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from sparse_circuits.circuits.report.statistics import Interval
from sparse_circuits.errors import InputError
from sparse_circuits.files import atomic_write, read_json, write_json

FORMAT = 1
FILE = "report"
"""Name of the card's files beside a circuit."""
Verdict = Literal["holds", "weak", "fails", "not measured"]

POINTS = {
    1: "losses",
    2: "other ablations",
    3: "necessity",
    4: "negative controls",
    5: "seeds",
    6: "agreement with the model",
    7: "inside the model",
    8: "faithfulness by size",
    9: "all masks on",
}
"""The nine points, by the numbers under which rows refer to them."""

_WORSE = ("holds", "not measured", "weak", "fails")


@dataclass(frozen=True)
class Row:
    """One figure of the card."""

    point: int
    key: str
    """One word a figure, for programs."""
    name: str
    sentence: str
    verdict: Verdict
    value: float | None = None
    interval: Interval | None = None
    unit: str = ""
    spans: str = "95% of bootstraps over pairs"
    """What the interval is of."""
    decisive: bool = False
    """Whether the circuit is not to be believed where this fails."""
    control: bool = False
    """Whether this is a negative control, whose success speaks against the circuit."""
    data: dict[str, Any] = field(default_factory=dict)
    """What the plots show, and whatever else was measured; plain JSON values."""


@dataclass(frozen=True)
class Card:
    """How far a circuit can be trusted: rows of figures, and the overall verdict."""

    about: dict[str, Any]
    """Task, model, sizes, settings, seconds."""
    rows: tuple[Row, ...]

    @property
    def verdict(self) -> Verdict:
        """`fails` where a decisive row does, `weak` where any other fails or is weak, else `holds`."""
        if any(row.decisive and row.verdict == "fails" for row in self.rows):
            return "fails"
        return "weak" if any(row.verdict in ("weak", "fails") for row in self.rows) else "holds"

    @property
    def line(self) -> str:
        """The overall verdict in a sentence or two."""
        decisive = [row.name for row in self.rows if row.decisive and row.verdict == "fails"]
        against = [row.name for row in self.rows if row.verdict == "fails" and row.name not in decisive]
        doubtful = [row.name for row in self.rows if row.verdict == "weak"]
        if decisive:
            said = f"DO NOT BELIEVE this circuit. What speaks against it: {_listed(decisive)}."
        elif against or doubtful:
            said = "Believe this circuit with care."
        else:
            said = "Nothing that was measured speaks against this circuit."
        if against:
            said += f" Fails: {_listed(against)}."
        if doubtful:
            said += f" Weak: {_listed(doubtful)}."
        missing = sorted({row.point for row in self.rows if row.verdict == "not measured"})
        if missing:
            said += f" Not all measured: {_listed(POINTS[point] for point in missing)}."
        return said

    @property
    def warnings(self) -> list[str]:
        """The sentences of the controls that succeeded, at least in part."""
        return [row.sentence for row in self.rows if row.control and row.verdict in ("weak", "fails")]

    def point_verdict(self, point: int) -> Verdict:
        """The worst verdict of the rows of `point`; `not measured` where it has none."""
        found: list[Verdict] = [row.verdict for row in self.rows if row.point == point]
        return max(found, key=_WORSE.index, default="not measured")

    def row(self, key: str) -> Row:
        """The row called `key`.

        Raises:
            KeyError: the card has none.
        """
        for row in self.rows:
            if row.key == key:
                return row
        raise KeyError(f"the card has no row {key!r}; it has {', '.join(row.key for row in self.rows)}")

    def to_json(self) -> dict[str, Any]:
        """The card as plain JSON values; numbers that are not finite become null."""
        return _plain(
            {
                "format": FORMAT,
                "verdict": self.verdict,
                "line": self.line,
                "warnings": self.warnings,
                "about": self.about,
                "points": {str(point): self.point_verdict(point) for point in POINTS},
                "rows": [{item.name: getattr(row, item.name) for item in fields(Row)} for row in self.rows],
            }
        )

    @classmethod
    def from_json(cls, values: Any, where: str = "the report") -> "Card":
        """The card that `to_json` wrote.

        Raises:
            InputError: it is none that can be shown, or of another format.
        """
        from sparse_circuits.circuits.report.page import page

        try:
            if values["format"] != FORMAT:
                raise InputError(f"{where} has format {values['format']!r}; this version reads format {FORMAT}")
            if not isinstance(values["rows"], list) or not values["rows"]:
                raise ValueError("without rows")
            card = cls(dict(values["about"]), tuple(_row(each) for each in values["rows"]))
            page(card)  # which reads all that there is to show: sooner here than where nobody expects it to fail
            return card
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{where} is no report card ({type(error).__name__} {error}); make it again") from error

    @classmethod
    def load(cls, folder: str | Path) -> "Card":
        """The card that `save` wrote beside a circuit.

        Raises:
            InputError: there is none, or it is damaged.
        """
        path = Path(folder) / f"{FILE}.json"
        return cls.from_json(read_json(path), str(path))

    def save(self, folder: str | Path) -> None:
        """Write the card beside a circuit, as data (report.json) and as a page (report.html)."""
        write_json(Path(folder) / f"{FILE}.json", self.to_json())
        self.write_html(Path(folder) / f"{FILE}.html")

    def write_html(self, path: str | Path) -> None:
        """Write the card as one HTML file that needs no other and no network."""
        from sparse_circuits.circuits.report.page import page

        atomic_write(path, page(self))

    def __str__(self) -> str:
        from sparse_circuits.circuits.report.table import as_text

        return as_text(self)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        import html

        from sparse_circuits.circuits.report.page import page

        return f'<iframe srcdoc="{html.escape(page(self))}" style="width:100%;height:760px;border:0"></iframe>'


def _row(values: dict[str, Any]) -> Row:
    known = {item.name for item in fields(Row)}
    if set(values) - known or values["verdict"] not in get_args(Verdict) or values["point"] not in POINTS:
        raise ValueError(f"of the row {values.get('key')!r}")
    interval = values.get("interval")
    # Ends that are no numbers are null on disk.
    ends = None if interval is None else tuple(math.nan if end is None else end for end in interval)
    row = Row(**{**values, "interval": ends})
    numbers = [row.value] if ends is None else [row.value, *ends]
    texts = [row.key, row.name, row.sentence, row.unit, row.spans]
    if (
        len(numbers) not in (1, 3)
        or not all(each is None or (isinstance(each, float | int) and not isinstance(each, bool)) for each in numbers)
        or not all(isinstance(each, str) for each in texts)
        or not all(isinstance(each, bool) for each in (row.decisive, row.control))
    ):
        raise ValueError(f"of the row {row.key!r}")
    return row


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
