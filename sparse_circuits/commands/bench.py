"""`sparse-circuits bench`: how fast and how small, beside what one would run instead."""

import dataclasses
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sparse_circuits.errors import InputError
from sparse_circuits.fields import nearest

if TYPE_CHECKING:
    from sparse_circuits.bench.timing import Row


@dataclass(frozen=True)
class Command:
    """Measure this library beside dense PyTorch, at the released shapes."""

    only: tuple[str, ...] = ()
    """Cases to measure; all if not given."""
    quick: bool = False
    """A small model in place of the released shapes, in a minute: to see that all works. No targets."""
    list: bool = False
    """List the cases and measure nothing."""
    json: bool = False
    """Print as JSON."""


def run(command: Command) -> None:
    """Measure and print."""
    from sparse_circuits.bench.cases import CASES, measure
    from sparse_circuits.bench.plan import Plan
    from sparse_circuits.bench.timing import machine

    for name in command.only:
        if name not in CASES:
            raise InputError(f"--only: there is no case {name!r}; {nearest(name, list(CASES))}")
    chosen = [name for name in CASES if name in command.only or not command.only]
    about = {name: CASES[name].about for name in chosen}
    if command.list:
        print(json.dumps(about, indent=2) if command.json else "\n".join(f"{n:17s}{a}" for n, a in about.items()))
        return
    described = machine()
    rows = measure(chosen, Plan(quick=command.quick))
    if command.json:
        found = [dataclasses.asdict(row) | {"ratio": row.ratio, "met": row.met} for row in rows]
        print(json.dumps({"machine": described, "cases": about, "rows": found}, indent=2))
        return
    _print(rows, about, described)


def _print(rows: "list[Row]", about: dict[str, str], described: dict[str, object]) -> None:
    import sys

    from rich.console import Console
    from rich.table import Table

    table = Table("case", "what", "against", "theirs", "ours", "times better", "at least", "results")
    for row in rows:
        if row.ratio is None:
            table.add_row(row.case, row.what, row.against, "", "", "", _number(row.target), row.results)
            continue
        verdict = _number(row.target) + ("" if row.met is not False else ", MISSED")
        sizes = (amount(row.theirs, row.unit), amount(row.ours, row.unit))
        table.add_row(row.case, row.what, row.against, *sizes, _number(row.ratio), verdict, row.results)
    console = Console(width=None if sys.stdout.isatty() else 180, highlight=False)
    console.print(table)
    compiled = {row.case: row.first for row in rows if row.first is not None and row.first > 0.5}
    for case, seconds in compiled.items():
        console.print(f"{case}: compile, once: {seconds:.1f} s")
    for case, text in about.items():
        console.print(f"{case}: {text}")
    console.print("machine: " + ", ".join(f"{key} {value}" for key, value in described.items()))
    unequal = [f"{row.case} ({row.what})" for row in rows if not row.agree]
    if unequal:
        console.print(f"RESULTS DIFFER: {'; '.join(unequal)}")
    if all(row.target is None for row in rows):
        console.print("no targets apply")
        return
    missed = [f"{row.case} ({row.what}, against {row.against})" for row in rows if row.met is False]
    console.print(f"missed: {'; '.join(missed)}" if missed else "no target missed among those measured")


def amount(value: float | None, unit: str) -> str:
    """Seconds or bytes in three digits with a fitting unit."""
    if value is None:
        return ""
    if unit == "B":
        return f"{value / 1e6:,.0f} MB"
    return f"{value:.3g} s" if value >= 1 else f"{value * 1e3:.3g} ms"


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"
