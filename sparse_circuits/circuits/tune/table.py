"""A study's findings as tables and as plain JSON values."""

import math
from typing import Any

from rich.console import Console
from rich.table import Table

from sparse_circuits.circuits.experiment_tables import new_table, plain, show
from sparse_circuits.circuits.sweep.summary import short
from sparse_circuits.circuits.tune.result import Tried, Tuned
from sparse_circuits.fields import to_json as config_json

SHOWN = 4
"""The best trials in the table."""


def print_tuned(found: Tuned, console: Console | None = None) -> None:
    """Print tables and the comparison with the default settings on standard output."""
    show([_trials(found), _cases(found)], console)
    for reason in found.left_out:
        print(f"left out: {reason}")
    print(comparison(found))


def to_json(found: Tuned) -> dict[str, Any]:
    """All of it; null for what is not a number."""
    return {
        "best": plain(found.best),
        "default": plain(found.default),
        "times_smaller": plain(found.gain),
        "settings": config_json(found.settings),
        "importances": plain(found.importances),
        "cases": list(found.cases),
        "left_out": list(found.left_out),
        "circuits": [str(folder) for folder in found.circuits],
        "trials": plain(found.tried),
    }


def comparison(found: Tuned) -> str:
    """The best beside the default settings, in words."""
    ended = [trial for trial in found.tried if trial.state in ("complete", "stopped early")]
    over = f"{len(found.cases)} circuit{'s' if len(found.cases) > 1 else ''}"
    said = f"best of {len(ended)} trials: {_short(found.best.edges)} edges"
    if found.default is None or found.gain is None:
        return f"{said}, over {over}; the default settings are not done yet"
    if found.default.number == found.best.number:
        return f"{said}, over {over}, by the default settings"
    gain = found.gain
    between = "" if math.isnan(gain.low) else f" [{short(gain.low)}, {short(gain.high)}]"
    times = f"{short(gain.value)} times{between} as many as the best"
    return f"{said}; by the default settings {_short(found.default.edges)}, {times}, over {over}"


def _trials(found: Tuned) -> Table:
    """The default settings and the best trials side by side, a line for each knob."""
    shown = [trial for trial in found.ranking if not trial.default][:SHOWN]
    names = [f"trial {trial.number}" for trial in shown]
    columns = [*([found.default] if found.default else []), *shown]
    states = [sum(trial.state == state for trial in found.tried) for state in ("complete", "stopped early", "lost")]
    caption = (
        f"{states[0]} trials complete, {states[1]} stopped early, {states[2]} lost and repeated; sizes are geometric "
        "means over circuits; matters: the part of the variation in size that a knob explains"
    )
    head = ("", *(["default"] if found.default else []), *names, "matters")
    table = new_table("settings by which circuits are smallest", head, caption)
    table.add_row("edges", *(_short(trial.edges) for trial in columns), "")
    table.add_row("nodes", *(_short(trial.nodes) for trial in columns), "")
    table.add_row("seconds", *(f"{trial.seconds:.0f}" for trial in columns), "")
    table.add_section()
    for name in found.best.knobs:
        matters = found.importances.get(name)
        table.add_row(
            name, *(f"{trial.knobs[name]:.3g}" for trial in columns), "" if matters is None else f"{matters:.0%}"
        )
    return table


def _cases(found: Tuned) -> Table:
    """Each case's edges, by default and at best."""
    table = new_table("edges by circuit", ("circuit", "default", f"trial {found.best.number}"), "")
    for number, case in enumerate(found.cases):
        table.add_row(case, _edges(found.default, number), _edges(found.best, number))
    return table


def _short(size: float | None) -> str:
    return "-" if size is None else short(size)


def _edges(trial: Tried | None, number: int) -> str:
    return "-" if trial is None else f"{trial.by_case[number]:,}"
