"""What the circuits of a sweep say together: sizes and their ratios, over tasks.

A circuit found for one target meets every larger one, too: what counts at a target is the smallest circuit that the
sweep found for it or for a smaller target, from the same seed.
Of several seeds the geometric mean of max(1, edges) stands for a task; a task counts as reached if all its seeds led to
a circuit, since those that did may be the ones with small circuits. Over tasks: the geometric mean of that, over the
tasks that all compared models and methods reach at this target, with how many that is. Ratios are taken task by task.
Intervals are 95% bootstrap intervals over tasks.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from sparse_circuits.circuits.intervals import Measured, geometric_interval
from sparse_circuits.circuits.sweep.config import exact


def short(number: float) -> str:
    """Three digits, or all before the point."""
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"


@dataclass(frozen=True)
class Row:
    """What came of one cell."""

    model: str
    task: str
    method: str
    target: float
    seed: int
    status: str
    """found, not reached (the model's own loss is above the target), skipped or failed."""
    reason: str | None
    model_loss: float | None
    """The model's own loss on the pairs on which the target is to be met, in nats."""
    edges: int | None
    nodes: int | None
    report_loss: float | None
    """The circuit's loss on unseen templates and words, of that kind which was to meet the target."""
    seconds: float

    @classmethod
    def of(cls, model: str, result: Mapping[str, Any]) -> "Row":
        """The row of a `result.json`."""
        settings, sizes = result["settings"], result.get("sizes", {})
        meant = "calibrated" if settings["config"].get("calibrated") else "circuit"
        return cls(
            model,
            settings["task"]["name"],
            settings["method"],
            settings["config"]["target_loss"],
            settings["config"]["loop"]["seed"],
            result["status"],
            result.get("reason"),
            result.get("model_loss"),
            sizes.get("edges"),
            sizes.get("nodes"),
            result.get("losses", {}).get("report", {}).get(meant),
            result["seconds"],
        )


@dataclass(frozen=True, order=True)
class Series:
    """One curve: a model and a method."""

    model: str
    method: str

    def __str__(self) -> str:
        return self.model if self.method == "learned" else f"{self.model} ({self.method})"


@dataclass(frozen=True)
class Size:
    """The size of a series at one target: max(1, edges), geometric mean over the `common` tasks."""

    series: Series
    target: float
    edges: Measured
    common: int
    """Tasks that all series reach."""
    reached: int
    """Tasks that this one reaches, with all their seeds."""


@dataclass(frozen=True)
class Ratio:
    """How many times larger the circuits of `other` are than those of `first`, over the tasks that both reach."""

    first: Series
    other: Series
    target: float
    times: Measured
    common: int
    tasks: int

    def __str__(self) -> str:
        """The whole statement in words."""
        what = f"{self.first} vs {self.other} at {exact(self.target)} nats:"
        covered = f"{self.common} of {self.tasks} tasks"
        if self.common == 0:
            return f"{what} no task that both reach ({covered})"
        if self.times.value == 1 and not self.times.low < 1:
            return f"{what} circuits of equal size, {covered}"
        smaller = self.times.value >= 1
        shown = [self.times.value, self.times.low, self.times.high]
        if not smaller:
            shown = [1 / shown[0], 1 / shown[2], 1 / shown[1]]
        value, low, high = map(short, shown)
        between = "" if math.isnan(shown[1]) else f" [{low}, {high}]"
        return f"{what} {value} times {'smaller' if smaller else 'larger'}{between}, {covered}"


@dataclass(frozen=True)
class LeftOut:
    """A task that some seeds of a series led to a circuit for, and some did not."""

    series: Series
    target: float
    task: str
    found: int
    """Seeds that led to a circuit."""
    seeds: int
    """All of them."""

    def __str__(self) -> str:
        """Told with the reasons for other failures."""
        return (
            f"left out {self.series}, {self.task} at {exact(self.target)} nats: {self.found} of {self.seeds} seeds led "
            "to a circuit, and a task counts with all its seeds"
        )


@dataclass(frozen=True)
class Sweep:
    """The results of a sweep."""

    rows: Sequence[Row]

    @cached_property
    def series(self) -> list[Series]:
        """The curves, in the order asked for."""
        return list(dict.fromkeys(Series(row.model, row.method) for row in self.rows))

    @cached_property
    def targets(self) -> list[float]:
        """Falling."""
        return sorted({row.target for row in self.rows}, reverse=True)

    @cached_property
    def tasks(self) -> list[str]:
        """In the order asked for."""
        return list(dict.fromkeys(row.task for row in self.rows))

    @cached_property
    def least(self) -> dict[tuple[Series, str, int, float], Row]:
        """By series, task, seed and target: the row that counts there, of those for it and for smaller targets.

        The one with the fewest edges; among equals that of the largest target. Where no circuit is known, its own row.
        """
        by_place: dict[tuple[Series, str, int], list[Row]] = {}
        for row in self.rows:
            by_place.setdefault((Series(row.model, row.method), row.task, row.seed), []).append(row)
        least: dict[tuple[Series, str, int, float], Row] = {}
        for place, rows in by_place.items():
            best: Row | None = None
            for row in sorted(rows, key=lambda row: row.target):
                if row.edges is not None and (best is None or best.edges is None or row.edges <= best.edges):
                    best = row
                least[*place, row.target] = row if best is None else best
        return least

    @cached_property
    def _logs(self) -> dict[tuple[Series, float], dict[str, list[float]]]:
        """By series, target and task: the logarithm of every seed's max(1, edges), NaN where it led to no circuit."""
        logs: dict[tuple[Series, float], dict[str, list[float]]] = {}
        for (series, task, _, target), row in self.least.items():
            by_task = logs.setdefault((series, target), {})
            log = math.nan if row.edges is None else math.log(max(1, row.edges))
            by_task.setdefault(task, []).append(log)
        return logs

    @cached_property
    def _sizes(self) -> dict[tuple[Series, float], dict[str, float]]:
        """By series and target: every reached task's max(1, edges), geometric mean over seeds."""
        return {
            place: {task: math.exp(sum(each) / len(each)) for task, each in by_task.items() if _missing(each) == 0}
            for place, by_task in self._logs.items()
        }

    @cached_property
    def left_out(self) -> list[LeftOut]:
        """The tasks that are not reached because of some of their seeds alone."""
        return [
            LeftOut(*place, task, len(each) - _missing(each), len(each))
            for place, by_task in self._logs.items()
            for task, each in by_task.items()
            if 0 < _missing(each) < len(each)
        ]

    def edges(self, series: Series, target: float) -> dict[str, float]:
        """max(1, edges) of each task that `series` reaches at `target`."""
        return self._sizes.get((series, target), {})

    def size(self, series: Series, target: float) -> Size:
        """The geometric mean over the tasks that all series reach."""
        common = [task for task in self.tasks if all(task in self.edges(each, target) for each in self.series)]
        own = self.edges(series, target)
        return Size(series, target, geometric_interval(_tensor(own[task] for task in common)), len(common), len(own))

    def ratio(self, first: Series, other: Series, target: float) -> Ratio:
        """How much smaller the circuits of `first` are."""
        below, above = self.edges(first, target), self.edges(other, target)
        common = [task for task in self.tasks if task in below and task in above]
        times = geometric_interval(_tensor(above[task] / below[task] for task in common))
        return Ratio(first, other, target, times, len(common), len(self.tasks))

    @property
    def sizes(self) -> list[Size]:
        """Of all series at all targets."""
        return [self.size(series, target) for target in self.targets for series in self.series]

    @property
    def ratios(self) -> list[Ratio]:
        """At each target: the first model against the others by the same method, the first method against the others.

        The methods are compared on each model.
        """
        pairs = []
        for other in self.series:
            for first in self.series:
                leads = self.series.index(first) < self.series.index(other)
                same_method = first.method == other.method and first.model == self.series[0].model
                same_model = first.model == other.model and first.method == self.series[0].method
                if leads and (same_method or same_model):
                    pairs.append((first, other))
        return [self.ratio(first, other, target) for target in self.targets for first, other in pairs]


def _missing(logs: Iterable[float]) -> int:
    return sum(map(math.isnan, logs))


def _tensor(values: Iterable[float]) -> torch.Tensor:
    return torch.tensor(list(values), dtype=torch.float64)
