"""One trial: the circuits of all cases with one choice of settings, and their size as a single number.

A case is a task in a model. The size of a circuit is max(1, edges), and for each node a thousandth of an edge, so that
of two with as many edges the one with fewer nodes is smaller; the size of a trial is the geometric mean over the cases.
Where learning diverges the circuit is the whole model.
"""

import math
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from optuna.study import Study
from optuna.trial import Trial, TrialState

from sparse_circuits.circuits import edges as graph
from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.circuits.config import PruneConfig
from sparse_circuits.circuits.nodes import NodeSpace
from sparse_circuits.circuits.prune import GivenUp, prune
from sparse_circuits.circuits.subjects import Subject, described, file_name, subjects, tasks
from sparse_circuits.circuits.tune import study as shared
from sparse_circuits.circuits.tune.config import TuneConfig
from sparse_circuits.circuits.tune.knobs import knobs, turned
from sparse_circuits.errors import Diverged, InputError
from sparse_circuits.fields import to_json
from sparse_circuits.tasks import Task

NODE = 1e-3
"""What a node counts, in edges."""
HOPELESS = 8
"""A trial ends when, before cleaning, one of its circuits has so many times the edges of its task's smallest.
Cleaning halves most, and takes the longer the less hope there is."""
AT_LEAST = 100
"""Edges that are never too many."""


@dataclass(frozen=True)
class Case:
    """A task in a model."""

    subject: Subject
    task: Task

    def __str__(self) -> str:
        return f"{self.subject.name} {self.task.name}"

    @property
    def place(self) -> Path:
        """Of its circuit, within a folder of circuits."""
        return Path(self.subject.folder.name) / file_name(self.task.name)


def cases_of(config: TuneConfig, progress: bool = False) -> tuple[list[Case], list[str]]:
    """The cases whose model reaches the target, and why others are left out.

    Raises:
        InputError: none does.
    """
    found, left_out = [], []
    asked = tasks(config.tasks)
    for subject in subjects(config.models, config.out, config.corpus, config.config.mean_tokens, progress):
        for task in asked:
            try:
                loss = subject.loss(task, config.config)
            except InputError as error:
                left_out.append(str(error))
                continue
            if loss <= config.config.target_loss:
                found.append(Case(subject, task))
            else:
                left_out.append(f"{subject.name} {task.name}: the model's own loss is {loss:.3f}")
    if not found:
        target = config.config.target_loss
        raise InputError(f"no task is done at a loss of {target:g} by any model: {'; '.join(left_out)}")
    return found, left_out


def about(config: TuneConfig, cases: Sequence[Case]) -> dict[str, Any]:
    """All that the sizes depend on, as JSON."""
    return {
        "cases": {str(case.place): described(case.subject, case.task) for case in cases},
        "knobs": {knob.name: [knob.low, knob.high] for knob in knobs(config.knobs)},
        "config": to_json(config.config),
    }


def work_on(study: Study, trial: Trial, cases: Sequence[Case], config: TuneConfig) -> None:
    """Do a trial and tell the study what came of it."""
    with shared.held(trial, config):
        try:
            settings = settings_of(trial, config)
            trial.set_user_attr("settings", to_json(settings))
            circuits = _circuits(trial, cases, settings, config, _most(study, cases))
            if circuits is None:
                study.tell(trial, state=TrialState.PRUNED)
                return
            value = _note(trial, cases, circuits)
            best = shared.best_of(study.get_trials(deepcopy=False))
            if best is None or best.value is None or value < best.value:
                _save(circuits, cases, shared.folder_of(config, trial.number))
        except BaseException:
            shared.give_back(study, study.get_trials(deepcopy=False)[trial.number])
            raise
        try:
            study.tell(trial, value)
        except (ValueError, RuntimeError):
            warnings.warn(
                f"trial {trial.number} was given up while this process slept; another worker does it", stacklevel=2
            )
    _forget_worse(study, config)


def settings_of(trial: Trial, config: TuneConfig) -> PruneConfig:
    """The settings that the trial tries, with its own seed."""
    chosen = knobs(config.knobs)
    settings = turned(chosen, config.config, shared.suggest(trial, chosen))
    if trial.user_attrs.get("default"):
        settings = config.config  # also where they lie outside the ranges
    seed = (config.config.loop.seed + shared.seed_number(trial)) % 2**32
    return replace(settings, loop=replace(settings.loop, seed=seed))


def _most(study: Study, cases: Sequence[Case]) -> list[int | float]:
    """How many edges a circuit of each case may have before cleaning for its trial to go on."""
    known = [trial.user_attrs["edges"] for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))]
    smallest = [min((edges[number] for edges in known), default=math.inf) for number in range(len(cases))]
    return [max(AT_LEAST, HOPELESS * edges) for edges in smallest]


def _circuits(
    trial: Trial, cases: Sequence[Case], settings: PruneConfig, config: TuneConfig, most: Sequence[int | float]
) -> list[Circuit | None] | None:
    """The circuit of each case, None where learning diverged; None for all where the trial is not worth going on."""
    found: list[Circuit | None] = []
    logs = 0.0
    through = bool(trial.user_attrs.get("default")) or not config.stop_early
    for number, case in enumerate(cases):
        most_edges = math.inf if through else most[number]
        model, means = case.subject.model, case.subject.means
        try:
            circuit = prune(model, case.task, config=settings, means=means, most_edges=most_edges)
        except Diverged:
            circuit = None
        except GivenUp:
            return None
        found.append(circuit)
        logs += math.log(_size(*_counts(case, circuit)))
        trial.report(math.exp(logs / len(found)), number)
        if len(found) < len(cases) and not through and trial.should_prune():
            return None
    return found


def _counts(case: Case, circuit: Circuit | None) -> tuple[int, int]:
    """Edges and nodes."""
    if circuit is not None:
        return len(circuit.edges), circuit.size
    model = case.subject.model
    return sum(int(weight.count_nonzero()) for _, _, weight in graph.matrices(model)), NodeSpace(model.config).total


def _size(edges: int, nodes: int) -> float:
    return max(1, edges) + NODE * nodes


def _note(trial: Trial, cases: Sequence[Case], circuits: Sequence[Circuit | None]) -> float:
    """The trial's size; each circuit's edges and nodes are noted with it."""
    counts = [_counts(case, circuit) for case, circuit in zip(cases, circuits, strict=True)]
    trial.set_user_attr("edges", [edges for edges, _ in counts])
    trial.set_user_attr("nodes", [nodes for _, nodes in counts])
    return math.exp(sum(math.log(_size(*each)) for each in counts) / len(counts))


def _save(circuits: Sequence[Circuit | None], cases: Sequence[Case], folder: Path) -> None:
    for case, circuit in zip(cases, circuits, strict=True):
        if circuit is not None:
            circuit.save(folder / "circuits" / case.place)


def _forget_worse(study: Study, config: TuneConfig) -> None:
    """Remove the circuits of all finished trials but the best."""
    trials = study.get_trials(deepcopy=False)
    best = shared.best_of(trials)
    for trial in trials:
        if trial.state.is_finished() and best is not None and trial.number != best.number:
            shutil.rmtree(shared.folder_of(config, trial.number) / "circuits", ignore_errors=True)
