"""The pieces of a sweep, one circuit each, and what is on disk of them.

A cell is a folder `OUT/MODEL-HASH/TASK/METHOD-TARGET-SEED/`: a circuit folder, if one was found, and `result.json`,
written last. The result says what it was measured with, so that other settings never pass for these.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from sparse_circuits.circuits.config import PruneConfig, ScoreConfig
from sparse_circuits.circuits.subjects import Subject, described, difference, file_name, tasks
from sparse_circuits.circuits.sweep.config import SweepConfig, exact
from sparse_circuits.errors import InputError
from sparse_circuits.fields import to_json
from sparse_circuits.files import read_json
from sparse_circuits.tasks import Task

FORMAT = 1
FILE = "result.json"


@dataclass(frozen=True, eq=False)
class Cell:
    """One circuit to be found."""

    subject: Subject
    task: Task
    method: str
    config: PruneConfig
    """With the cell's own target and seed."""
    scoring: ScoreConfig
    """With a seed as far from the first one's as the cell's own is."""
    larger: tuple["Cell", ...]
    """The cells of larger targets whose results help: masks to learn on from, or scores. The nearest target last."""

    def __str__(self) -> str:
        return f"{self.subject.name} {self.task.name} {self.method} {exact(self.target)}"

    @property
    def target(self) -> float:
        """In nats."""
        return self.config.target_loss

    @property
    def seed(self) -> int:
        """Of its mask learning."""
        return self.config.loop.seed

    @property
    def folder(self) -> Path:
        """Where its circuit and its result are kept."""
        name = f"{self.method}-{exact(self.target)}-seed{self.seed}"
        return self.subject.folder / file_name(self.task.name) / name

    @property
    def needs(self) -> "Cell | None":
        """The cell to be finished before this one."""
        return self.larger[-1] if self.method == "warm" and self.larger else None

    @cached_property
    def settings(self) -> dict[str, Any]:
        """All that its result depends on, as JSON."""
        settings = described(self.subject, self.task) | {"method": self.method, "config": to_json(self.config)}
        if self.method == "warm":
            settings["larger targets"] = [cell.target for cell in self.larger]
        elif self.method != "learned":
            settings["scoring"] = to_json(self.scoring)
        return settings

    def result(self) -> dict[str, Any] | None:
        """What was found, if that is on disk; InputError where it was found with other settings."""
        path = self.folder / FILE
        if not path.is_file():
            return None
        result = read_json(path)
        if not isinstance(result, dict) or result.get("format") != FORMAT:
            raise InputError(f"{path} is no result of this version's sweeps; choose another --out")
        other = difference(self.settings, result.get("settings"))
        if other is not None:
            raise InputError(f"{path} was made with other settings ({other}); repeat those, or choose another --out")
        return result


def cells_of(config: SweepConfig, subjects: list[Subject]) -> list[Cell]:
    """All cells in the order in which they are to be done: by falling target, then task by task."""
    targets = sorted(config.targets, reverse=True)
    asked = tasks(config.tasks)
    by_place: dict[tuple[str, str, str, int], tuple[Cell, ...]] = {}
    cells = []
    for target in targets:
        for task in asked:
            for number in range(config.seeds):
                loop = replace(config.config.loop, seed=config.config.loop.seed + number)
                scoring = replace(config.scoring, score_seed=config.scoring.score_seed + number)
                own = replace(config.config, target_loss=target, loop=loop)
                for method in config.methods:
                    for each in subjects:
                        place = (each.hash, task.name, method, number)
                        larger = by_place.get(place, ())
                        cell = Cell(each, task, method, own, scoring, larger)
                        by_place[place] = (*larger, cell)
                        cells.append(cell)
    return cells
