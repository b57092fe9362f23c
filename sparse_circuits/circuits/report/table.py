"""The card as a table for the terminal."""

import io
import math

from rich import box
from rich.console import Console
from rich.table import Table

from sparse_circuits.circuits.report.rows import POINTS, Card, Row, Verdict

FILE_WIDTH = 140
"""Columns where the output is no terminal."""
SENTENCES_BESIDE = 110
"""Columns from which sentences stand in the table; on a narrower terminal they come below it."""
MARKS: dict[Verdict, str] = {"holds": "+", "weak": "~", "fails": "X", "not measured": "-"}
_STYLES: dict[Verdict, str] = {"holds": "blue", "weak": "yellow", "fails": "bold red", "not measured": "dim"}


def print_card(card: Card, console: Console | None = None, sentences: bool = True) -> None:
    """Print `card` on standard output; without `sentences` only those of rows that are weak or fail."""
    console = console or Console(highlight=False)
    if not console.is_terminal:
        console.width = FILE_WIDTH
    about = card.about
    title = (
        f"report card, {'full' if about.get('full') else 'quick'}: {about.get('task')}, {about.get('nodes'):,} nodes, "
        f"{about.get('edges'):,} edges, {about.get('pairs')} pairs"
    )
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("", justify="right")
    table.add_column("figure")
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("interval", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    beside = console.width >= SENTENCES_BESIDE
    if beside:
        table.add_column("in words", ratio=1)
    below = []
    for point in POINTS:
        for place, row in enumerate(row for row in card.rows if row.point == point):
            said = row.sentence if sentences or row.verdict in ("weak", "fails") else ""
            verdict = f"{MARKS[row.verdict]} {row.verdict}"
            number = str(point) if place == 0 else ""
            cells = [number, row.name, value_text(row), interval_text(row), verdict, *([said] if beside else [])]
            table.add_row(*cells, style=None if row.verdict == "holds" else _STYLES[row.verdict])
            if said and not beside:
                below.append(f"{point} {row.name}: {said}")
        table.add_section()
    console.print(table, markup=False)
    for line in below:
        console.print(line, markup=False)
    console.print(f"verdict: {card.verdict.upper()}. {card.line}", markup=False, soft_wrap=True)
    for warning in card.warnings:
        console.print(f"control: {warning}", markup=False, soft_wrap=True)


def as_text(card: Card) -> str:
    """The table as text without colours."""
    written = io.StringIO()
    print_card(card, Console(file=written, highlight=False, width=FILE_WIDTH))
    return written.getvalue()


def value_text(row: Row) -> str:
    """The value with its unit, as tables show it."""
    return "" if row.value is None else f"{figure(row.value)} {row.unit}"


def interval_text(row: Row) -> str:
    """The interval in brackets."""
    return "" if row.interval is None else "[{}, {}]".format(*map(figure, row.interval))


def figure(value: float) -> str:
    """A number in three decimals, or in powers of ten where those would show nothing of it."""
    if not math.isfinite(value):
        return "?"
    if value != 0 and (abs(value) < 5e-4 or abs(value) >= 1e4):
        return f"{value:.1e}"
    return f"{value:.3f}"
