"""`sparse-circuits tune`: the settings of pruning with which circuits are smallest, as a table, data and a plot."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from sparse_circuits.circuits.tune.config import TuneConfig
from sparse_circuits.fields import part_of


@dataclass(frozen=True)
class Command(TuneConfig):
    """Search for the settings of pruning with which circuits are smallest at equal loss.

    The first trial is that of the settings given. Run the same command again to go on where it was stopped, or
    elsewhere on the same storage to help.
    """

    workers: int = 1
    """Processes at once on this machine; they share its cores."""
    settings: Path | None = None
    """Settings of pruning to begin with as a JSON file, as an earlier study wrote them; flags change them."""
    json: bool = False
    """Print as JSON."""


def run(command: Command) -> None:
    """Go on until the budget is spent, then save and print what was found."""
    from sparse_circuits.circuits.tune.plot import plot
    from sparse_circuits.circuits.tune.run import SETTINGS, tune
    from sparse_circuits.circuits.tune.table import print_tuned, to_json
    from sparse_circuits.files import atomic_write, write_json

    config = part_of(command, TuneConfig)
    try:
        found = tune(config, command.workers, progress=True)
    except KeyboardInterrupt:
        print("what is done stays; run the same command again to go on", file=sys.stderr)
        raise
    write_json(command.out / "tune.json", to_json(found))
    atomic_write(command.out / "tune.svg", plot(found))
    if command.json:
        print(json.dumps(to_json(found), indent=2))
        return
    print_tuned(found)
    print(f"settings: {command.out / SETTINGS}, for --settings; circuits: {command.out / 'circuits'}")
