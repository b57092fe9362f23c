"""The study: trials that many workers take from one storage of Optuna's, and give back if they die.

1. Whoever comes first makes it and puts the default settings first in the queue.
2. A worker that takes a trial holds the lock of the trial's folder, and notes in the storage now and then that it
   lives. A trial whose lock is free on this machine, or whose worker was last heard of two minutes ago, has lost its
   worker: it is given up, and its settings go back into the queue with the seed they had.
3. What the sampler proposes and the seed of mask learning depend on the trial's number and on the trials before, and on
   nothing else.

Trials that end early or late count towards the budget, lost ones do not.
"""

import contextlib
import datetime
import math
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.storages import BaseStorage, JournalStorage, get_storage
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from sparse_circuits import checkpoint
from sparse_circuits.circuits.subjects import difference
from sparse_circuits.circuits.tune.config import TuneConfig
from sparse_circuits.circuits.tune.knobs import Knob, knobs, positions
from sparse_circuits.errors import InputError
from sparse_circuits.files import claimed

NAME = "sparse-circuits tune"
BEAT_SECONDS = 15.0
STALE_SECONDS = 120.0
POLL_SECONDS = 0.5
STARTUP = 5
"""Trials before any is ended early."""
ENDED = (TrialState.COMPLETE, TrialState.PRUNED)


class _ByNumber(BaseSampler):
    """Optuna's tree-structured Parzen estimator, with a random stream of its own for each trial."""

    def __init__(self, seed: int):
        self._seed = seed
        self._sampler = TPESampler(seed=seed)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._sampler = TPESampler(seed=(self._seed + trial.number) % 2**32)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)


def open_study(config: TuneConfig, about: dict[str, Any]) -> Study:
    """The study in the storage, made if there is none.

    Args:
        about: all that sizes of circuits depend on, as JSON.

    Raises:
        InputError: the storage cannot be used, or has a study of something else.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    seed = config.config.loop.seed
    pruner = optuna.pruners.MedianPruner(n_startup_trials=STARTUP, n_min_trials=STARTUP)
    study = optuna.create_study(
        storage=_storage(config), sampler=_ByNumber(seed), pruner=pruner, study_name=NAME, load_if_exists=True
    )
    known = study.user_attrs.get("about")
    if known is None:
        study.set_user_attr("about", about)
    else:
        other = difference(about, known)
        if other is not None:
            where = config.storage or config.out
            raise InputError(f"{where} has a study of something else ({other}); repeat that, or choose another folder")
    if not study.get_trials(deepcopy=False):
        start = positions(knobs(config.knobs), config.config)
        study.enqueue_trial(start, user_attrs={"default": True}, skip_if_exists=True)
    return study


def _storage(config: TuneConfig) -> BaseStorage:
    checkpoint.make_folder(config.out)
    if config.storage is None or "://" not in config.storage:
        path = Path(config.storage or config.out / "study.journal")
        if not path.parent.is_dir():
            raise InputError(f"--storage is {path}, in a folder that does not exist; choose another")
        return JournalStorage(JournalFileBackend(str(path)))
    try:
        return get_storage(config.storage)
    except Exception as error:  # whatever the database's driver raises
        first = str(error).partition("\n")[0]
        raise InputError(f"the storage {config.storage} cannot be used: {first}") from error


def folder_of(config: TuneConfig, number: int) -> Path:
    """Where a trial has its lock, and its circuits while they are the best."""
    return config.out / "trials" / str(number)


def take(study: Study, config: TuneConfig) -> Trial | None:
    """The next trial; None when the budget is spent. Waits while others work on the last ones: they may die."""
    while True:
        give_back_lost(study, config)
        trials = study.get_trials(deepcopy=False)
        running = sum(trial.state == TrialState.RUNNING for trial in trials)
        ended = sum(trial.state in ENDED for trial in trials)
        if config.minutes is not None and seconds_spent(trials) >= 60 * config.minutes:
            return None
        if config.budget is None or running + ended < config.budget:
            trial = study.ask()
            if config.budget is None or _place(study, trial) <= config.budget:
                return trial
            study.tell(trial, state=TrialState.FAIL)  # another worker has asked for the last one at the same time
        elif running == 0:
            return None
        time.sleep(POLL_SECONDS)


def _place(study: Study, trial: Trial) -> int:
    """The how-manieth the trial is, of those that count."""
    counting = (TrialState.RUNNING, *ENDED)
    return sum(each.number <= trial.number for each in study.get_trials(deepcopy=False, states=counting))


def suggest(trial: Trial, chosen: Sequence[Knob]) -> dict[str, float | int]:
    """Where the trial wants the knobs."""
    return {
        knob.name: trial.suggest_int(knob.name, int(knob.low), int(knob.high), log=knob.log)
        if knob.whole
        else trial.suggest_float(knob.name, knob.low, knob.high, log=knob.log)
        for knob in chosen
    }


def seed_number(trial: Trial | FrozenTrial) -> int:
    """What is added to the seed of mask learning: the number of the trial, or of the lost one that it repeats."""
    return int(trial.user_attrs.get("number", trial.number))


@contextlib.contextmanager
def held(trial: Trial, config: TuneConfig) -> Iterator[None]:
    """Hold the trial: lock its folder, and say now and then that its worker lives."""
    folder = folder_of(config, trial.number)
    checkpoint.make_folder(folder)
    stop = threading.Event()

    def beat() -> None:
        while True:
            # It may have been given up meanwhile, because this process slept.
            with contextlib.suppress(RuntimeError):
                trial.set_user_attr("alive", {"host": socket.gethostname(), "time": time.time()})
            if stop.wait(BEAT_SECONDS):
                return

    with claimed(folder):
        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def give_back_lost(study: Study, config: TuneConfig) -> None:
    """Put the settings of trials that have lost their worker back into the queue."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if _lost(trial, config):
            give_back(study, trial)


def give_back(study: Study, trial: FrozenTrial) -> None:
    """Give up a running trial and put its settings back into the queue, unless somebody else has."""
    try:
        study.tell(trial.number, state=TrialState.FAIL)
    except (ValueError, RuntimeError):
        return
    attributes = {"number": seed_number(trial), "default": trial.user_attrs.get("default", False)}
    study.enqueue_trial(trial.system_attrs.get("fixed_params", {}) | trial.params, user_attrs=attributes)


def _lost(trial: FrozenTrial, config: TuneConfig) -> bool:
    """Whether nobody works on a running trial any more."""
    alive = trial.user_attrs.get("alive")
    folder = folder_of(config, trial.number)
    if alive is not None and alive["host"] == socket.gethostname() and folder.is_dir() and _has_locks(config.out):
        with claimed(folder) as ours:
            return ours
    started = trial.datetime_start.timestamp() if trial.datetime_start else time.time()
    return time.time() - (alive["time"] if alive else started) > STALE_SECONDS


def _has_locks(folder: Path) -> bool:
    """Whether locks mean anything on this file system."""
    probe = folder / "trials"
    checkpoint.make_folder(probe)
    with claimed(probe) as first, claimed(probe) as second:
        return not (first and second)


def seconds_spent(trials: Sequence[FrozenTrial]) -> float:
    """Worker seconds of all trials, those that are running included."""
    now = datetime.datetime.now()
    begun = [(trial.datetime_start, trial.datetime_complete or now) for trial in trials]
    return sum(((end - start).total_seconds() for start, end in begun if start is not None), 0.0)


def best_of(trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    """The trial with the smallest circuits; the first of equals."""
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE and trial.value is not None]
    return min(complete, key=lambda trial: (trial.value or math.inf, trial.number), default=None)
