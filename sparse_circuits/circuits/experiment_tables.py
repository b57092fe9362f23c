"""Results of experiments as tables a person can read, and as plain JSON values."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from sparse_circuits.circuits.binarise import Binarised
from sparse_circuits.circuits.exchange import Exchange
from sparse_circuits.circuits.experiments import Inverse, OutsideEdges, SetLosses, TextCost, UnderTask
from sparse_circuits.circuits.node_sets import Overlap
from sparse_circuits.circuits.table import FILE_WIDTH

CHANCE = f"chance {math.log(2):.3f}"
INTERVALS = "nats; in brackets 95% intervals over pairs"


def plain(result: Any) -> Any:
    """`result` as JSON values; null for what is not a number."""
    if isinstance(result, Binarised):
        return {"losses": plain(result.losses), "nodes": plain(result.by_node())}
    if dataclasses.is_dataclass(result) and not isinstance(result, type):
        return plain({f.name: getattr(result, f.name) for f in dataclasses.fields(result)})
    if isinstance(result, Mapping):
        return {key: plain(value) for key, value in result.items()}
    if isinstance(result, list | tuple):
        return [plain(value) for value in result]
    return None if isinstance(result, float) and not math.isfinite(result) else result


def show(tables: Table | Sequence[Table], console: Console | None = None) -> None:
    """Print on standard output."""
    console = console or Console(highlight=False)
    if not console.is_terminal:
        console.width = FILE_WIDTH
    for table in [tables] if isinstance(tables, Table) else tables:
        console.print(table, markup=False)


def losses_table(name: str, found: SetLosses) -> Table:
    """The four losses of `experiments.losses`."""
    table = new_table(f"{name}: loss", ("nodes alive", "loss"), f"{INTERVALS}; {CHANCE}")
    _add_losses(table, found)
    return table


def inverse_table(name: str, found: Inverse) -> Table:
    """The loss without the set beside those without random ones."""
    table = new_table(f"{name}: what is lost without the set", ("removed", "loss"), f"{INTERVALS}; {CHANCE}")
    table.add_row("nothing", found.model.text())
    table.add_row("the set", found.removed.text())
    drawn = sorted(found.random)
    middle = drawn[len(drawn) // 2]
    table.add_row(
        f"random sets ({len(drawn)}), as many nodes of each site",
        f"{middle:.3f} (from {drawn[0]:.3f} to {drawn[-1]:.3f})",
    )
    table.add_row("part of sets as bad as this one, itself included", f"{found.as_bad:.3f}")
    return table


def exchange_table(name: str, found: Exchange) -> Table:
    """How far the answers moved."""
    columns = ("patched", "log-odds before", "after", "fraction of the way", "right answers lost")
    caption = (
        "log-odds of the prompt's right answer in nats, with 95% intervals over pairs; 1 of the way: as the other side"
    )
    table = new_table(f"{name}: values of the pair's other side patched in", columns, caption)
    rows = {
        "the set, B into A": found.a,
        "the set, A into B": found.b,
        "the set, both": found.both,
        "all but the set, both": found.rest,
    }
    for label, moved in rows.items():
        table.add_row(label, moved.before.text(2), moved.after.text(2), moved.fraction.text(2), f"{moved.flipped:.0%}")
    if found.random:
        drawn = sorted(found.random)
        shown = f"{drawn[len(drawn) // 2]:.2f} (from {drawn[0]:.2f} to {drawn[-1]:.2f})"
        table.add_row(f"random sets ({len(drawn)}), both", "", "", shown, "")
    return table


def binarised_tables(name: str, found: Binarised) -> list[Table]:
    """Losses by split, then every node's levels."""
    columns = ("split", "circuit", "two levels, fitted", "two levels, learned")
    losses = new_table(f"{name}: each node on or off", columns, f"{INTERVALS}; {CHANCE}")
    for split, each in found.losses.items():
        losses.add_row(split, *(each[key].text() for key in ("circuit", "fitted", "binarised")))
    levels = new_table("levels", ("node", "low", "threshold", "high"), "high from the threshold upwards")
    for row in found.by_node():
        values = (f"{row[key]:+.3f}" for key in ("low", "threshold", "high"))
        levels.add_row(f"{row['site']}:{row['channel']}", *values)
    return [losses, levels]


def edges_table(name: str, found: Sequence[OutsideEdges]) -> Table:
    """Edges by matrix."""
    columns = ("from", "to", "within the set", "into it", "out of it", "of all")
    table = new_table(
        f"{name}: nonzero weights by which ends are in the set",
        columns,
        "edges that the circuit dropped count in the last column alone; residual stream and q·k not counted",
    )
    for row in found:
        counts = (f"{count:,}" for count in (row.inside, row.entering, row.leaving, row.total))
        table.add_row(row.source, row.target, *counts, style="bold" if row.source == "all" else "")
    return table


def text_table(name: str, found: TextCost) -> Table:
    """Losses on text, and the rises."""
    caption = f"nats per token over {found.tokens:,} tokens; in brackets 95% intervals over windows"
    table = new_table(f"{name}: next-token loss on held-out text", ("nodes alive", "loss"), caption)
    _add_losses(table, found.losses)
    table.add_row("rise from keeping only the set", found.keeping.text())
    table.add_row("rise from removing the set", found.removing.text(4))
    return table


def tasks_table(name: str, found: Sequence[UnderTask]) -> Table:
    """One task a line."""
    columns = ("task", "model", "the set alone", "all but the set", "no node")
    table = new_table(f"{name}: the same nodes under other tasks", columns, f"loss in {INTERVALS}; {CHANCE}")
    for row in found:
        if row.losses is not None:
            each = row.losses
            table.add_row(row.task, *(m.text() for m in (each.model, each.kept, each.removed, each.empty)))
    skipped = [f"skipped: {row.skipped}" for row in found if row.losses is None]
    table.caption = "\n".join([str(table.caption), *skipped])
    return table


def overlap_tables(names: Sequence[str], found: Mapping[tuple[int, int], Mapping[str, Overlap]]) -> list[Table]:
    """Jaccard overlap of every two sets, then by site where there are just two."""
    table = new_table(
        "node overlap (Jaccard)", ("", *names), "nodes in both over nodes in either; below, expected by chance"
    )
    for i, name in enumerate(names):
        cells = [_cell(found, i, j) for j in range(len(names))]
        table.add_row(name, *cells)
    if len(names) != 2:
        return [table]
    sites = new_table(
        "by site", ("site", *names, "shared", "by chance", "Jaccard"), "by chance: of random sets of these sizes"
    )
    for site, each in found[0, 1].items():
        style = "bold" if site == "all" else ""
        row = (f"{each.first:,}", f"{each.second:,}", f"{each.shared:,}", f"{each.expected:.1f}", f"{each.jaccard:.3f}")
        sites.add_row(site, *row, style=style)
    return [table, sites]


def _cell(found: Mapping[tuple[int, int], Mapping[str, Overlap]], i: int, j: int) -> str:
    if i == j:
        return ""
    whole = found[min(i, j), max(i, j)]["all"]
    if i < j:
        return f"{whole.jaccard:.3f}"
    union = whole.first + whole.second - whole.expected
    return f"({whole.expected / union:.3f})" if union else ""


def _add_losses(table: Table, found: SetLosses) -> None:
    rows = {"all": found.model, "the set": found.kept, "all but the set": found.removed, "none": found.empty}
    for label, loss in rows.items():
        table.add_row(label, loss.text())


def new_table(title: str, columns: Sequence[str], caption: str) -> Table:
    table = Table(title=title, title_justify="left", caption=caption, caption_justify="left", box=box.SIMPLE_HEAD)
    for number, column in enumerate(columns):
        # Where it is narrow a name such as 0.mlp.resid_delta goes on in the next line: cut short it would say nothing.
        table.add_column(column, justify="right" if number else "left", overflow="fold")
    return table
