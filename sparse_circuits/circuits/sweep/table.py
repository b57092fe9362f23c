"""The results of a sweep as tables (geometric means by target, then every task) and as plain JSON values."""

import math
from typing import Any

from rich.console import Console
from rich.table import Table

from sparse_circuits.circuits.experiment_tables import new_table, plain, show
from sparse_circuits.circuits.intervals import Measured
from sparse_circuits.circuits.sweep.config import exact
from sparse_circuits.circuits.sweep.summary import Series, Sweep, short

STRICTER = "*"
SIGNS = {"not reached": "-", "skipped": "skipped", "failed": "failed"}


def print_sweep(found: Sweep, console: Console | None = None) -> None:
    """Print tables, reasons and comparisons on standard output."""
    show([_sizes(found), _tasks(found)], console)
    reasons = {
        f"{row.status} {row.model}, {row.task}: {row.reason}"
        for row in found.rows
        if row.status in ("skipped", "failed")
    }
    for line in [*sorted(reasons), *map(str, found.left_out), *map(str, found.ratios)]:
        print(line)


def to_json(found: Sweep) -> dict[str, Any]:
    """Comparisons, sizes, what is left out and all results; null for what is not a number."""
    values = {"ratios": found.ratios, "sizes": found.sizes, "left_out": found.left_out, "results": found.rows}
    return {name: plain(each) for name, each in values.items()}


def measured_text(measured: Measured) -> str:
    """A size and its interval."""
    if math.isnan(measured.value):
        return "-"
    if math.isnan(measured.low):
        return short(measured.value)
    return f"{short(measured.value)} [{short(measured.low)}, {short(measured.high)}]"


def _sizes(found: Sweep) -> Table:
    names = [str(each) for each in found.series]
    caption = (
        "geometric means of max(1, edges) over the tasks that all reach, 95% intervals over tasks; in parentheses how "
        "many tasks each reaches"
    )
    columns = ("target loss", "tasks", *names)
    table = new_table("edges of the circuit by target loss", columns, caption)
    for target in found.targets:
        sizes = [found.size(series, target) for series in found.series]
        cells = (f"{measured_text(size.edges)} ({size.reached})" for size in sizes)
        table.add_row(exact(target), f"{sizes[0].common} of {len(found.tasks)}", *cells)
    return table


def _tasks(found: Sweep) -> Table:
    several = len(found.series) > 1
    caption = " / ".join(map(str, found.series)) if several else ""
    rows = [
        [" / ".join(_cell(found, series, task, target) for series in found.series) for target in found.targets]
        for task in found.tasks
    ]
    notes = [caption] if caption else []
    notes.append("-: the model's own loss is above the target")
    if any(STRICTER in cell for row in rows for cell in row):
        notes.append(f"{STRICTER}: found for a smaller target")
    table = new_table("edges by task", ("task", *(exact(target) for target in found.targets)), "; ".join(notes))
    for task, cells in zip(found.tasks, rows, strict=True):
        table.add_row(task, *cells)
    return table


def _cell(found: Sweep, series: Series, task: str, target: float) -> str:
    """The edges, of several seeds their mean, or why a seed led to no circuit."""
    place = (series, task, target)
    seeds = [row.seed for row in found.rows if (Series(row.model, row.method), row.task, row.target) == place]
    rows = [found.least[series, task, seed, target] for seed in seeds]
    missing = [row.status for row in rows if row.edges is None]
    if missing:
        return SIGNS[missing[0]]
    if not rows:
        return ""
    edges = f"{rows[0].edges:,}" if len(rows) == 1 else f"{found.edges(series, target)[task]:,.0f}"
    return edges + STRICTER * any(row.target != target for row in rows)
