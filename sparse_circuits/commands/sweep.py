"""`sparse-circuits sweep`: circuit size against target loss, as tables, data and a plot."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from sparse_circuits.circuits.sweep.config import SweepConfig
from sparse_circuits.fields import part_of

REFUSED = {"--target-loss": "--target-loss is for one circuit; a sweep's targets are given by --targets"}
"""Flags of pruning that mean nothing here, and what to say of them."""


@dataclass(frozen=True)
class Command(SweepConfig):
    """Measure circuit size against target loss, for any models, tasks and methods.

    Run the same command again to go on where it was stopped, or elsewhere on the same folder to help.
    """

    workers: int = 1
    """Processes at once on this machine; they share its cores."""
    settings: Path | None = None
    """Settings of pruning as a JSON file, as `tune` writes them; flags change them."""
    json: bool = False
    """Print as JSON."""


def run(command: Command) -> None:
    """Do what is missing, compare, save and print."""
    from sparse_circuits.circuits.sweep.plot import plot
    from sparse_circuits.circuits.sweep.run import sweep
    from sparse_circuits.circuits.sweep.table import print_sweep, to_json
    from sparse_circuits.files import atomic_write, write_json

    config = part_of(command, SweepConfig)
    try:
        found = sweep(config, command.workers, progress=True)
    except KeyboardInterrupt:
        print("what is done stays; run the same command again to go on", file=sys.stderr)
        raise
    write_json(command.out / "sweep.json", to_json(found))
    drawn = plot(found)
    if drawn:
        atomic_write(command.out / "sweep.svg", drawn)
    if command.json:
        print(json.dumps(to_json(found), indent=2))
        return
    print_sweep(found)
    print(f"saved to {command.out}: sweep.json{', sweep.svg' if drawn else ''}, a folder for each model")
