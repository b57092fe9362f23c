"""What a study has found: its trials, the best beside the default settings, and which knobs matter."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import optuna
import torch
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from sparse_circuits.circuits.config import PruneConfig
from sparse_circuits.circuits.intervals import Measured, geometric_interval
from sparse_circuits.circuits.tune.knobs import Knob
from sparse_circuits.circuits.tune.study import ENDED, best_of
from sparse_circuits.fields import from_json

ENOUGH = 4
"""Trials it takes to say which knobs matter."""


@dataclass(frozen=True)
class Tried:
    """One trial."""

    number: int
    default: bool
    """Whether its settings are those the study began with."""
    state: str
    """complete, stopped early, running or lost."""
    size: float | None
    """The geometric mean of circuit sizes: edges, and a thousandth of an edge for each node."""
    edges: float | None
    """The geometric mean of max(1, edges)."""
    nodes: float | None
    """The geometric mean of nodes."""
    by_case: tuple[int, ...]
    """Edges in each case."""
    knobs: Mapping[str, float]
    """The settings that are searched."""
    seconds: float


@dataclass(frozen=True)
class Tuned:
    """A study's findings."""

    cases: Sequence[str]
    """Model and task of each circuit."""
    left_out: Sequence[str]
    """Tasks that a model does not do, and why."""
    tried: Sequence[Tried]
    best: Tried
    settings: PruneConfig
    """Those of the best trial, its seed included."""
    importances: Mapping[str, float]
    """The part of the sizes' variation that each knob explains (PED-ANOVA); empty where too few trials are complete."""
    circuits: Sequence[Path]
    """Folders of the best trial's circuits."""

    @property
    def default(self) -> Tried | None:
        """The trial of the default settings, if it is done."""
        return next((trial for trial in self.tried if trial.default and trial.state == "complete"), None)

    @property
    def gain(self) -> Measured | None:
        """How many times smaller the best circuits are than those by the default settings, interval over cases."""
        if self.default is None:
            return None
        pairs = zip(self.default.by_case, self.best.by_case, strict=True)
        return geometric_interval(torch.tensor([max(1, default) / max(1, best) for default, best in pairs]))

    @property
    def ranking(self) -> list[Tried]:
        """The complete trials, the smallest circuits first."""
        complete = [trial for trial in self.tried if trial.state == "complete"]
        return sorted(complete, key=lambda trial: (trial.size or math.inf, trial.number))


STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "stopped early",
    TrialState.RUNNING: "running",
    TrialState.FAIL: "lost",
}


def tried(trial: FrozenTrial, knobs: Sequence[Knob]) -> Tried:
    """A trial of the study as it is told."""
    edges, nodes = trial.user_attrs.get("edges", ()), trial.user_attrs.get("nodes", ())
    settings = trial.user_attrs.get("settings")
    config = None if settings is None else from_json(PruneConfig, settings, f"trial {trial.number}")
    complete = trial.state == TrialState.COMPLETE
    return Tried(
        trial.number,
        bool(trial.user_attrs.get("default")),
        STATES[trial.state],
        trial.value if complete else None,
        _mean([max(1, each) for each in edges]) if complete else None,
        _mean([max(1, each) for each in nodes]) if complete else None,
        tuple(edges),
        {} if config is None else {knob.name: knob.value_in(config) for knob in knobs},
        trial.duration.total_seconds() if trial.duration else 0.0,
    )


def _mean(values: Sequence[int]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))


def settings_of(trial: FrozenTrial) -> PruneConfig:
    """The settings that a trial has tried."""
    return from_json(PruneConfig, trial.user_attrs["settings"], f"trial {trial.number}")


def best_trial(study: Study) -> FrozenTrial | None:
    """The trial with the smallest circuits."""
    return best_of(study.get_trials(deepcopy=False))


def importances(study: Study) -> dict[str, float]:
    """How much of the variation between complete trials each knob explains, the most first."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(complete) < ENOUGH or len({trial.value for trial in complete}) == 1:
        return {}
    return dict(optuna.importance.get_param_importances(study, evaluator=PedAnovaImportanceEvaluator()))


def trials_of(study: Study) -> list[FrozenTrial]:
    """All trials that have begun."""
    states = (*ENDED, TrialState.RUNNING, TrialState.FAIL)
    return list(study.get_trials(deepcopy=False, states=states))
