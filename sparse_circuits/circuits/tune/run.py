"""Tune the settings of pruning.

1. Load the models, compute their ablation means, and leave out the tasks that they do not do.
2. Take trials until the budget is spent, in this process or in several; as many more, on any machines, may do the same
   on the same storage.
3. Write the best settings (`settings.json`, for `--settings`) and the best circuits.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.circuits.processes import together
from sparse_circuits.circuits.prune import prune
from sparse_circuits.circuits.tune.config import TuneConfig
from sparse_circuits.circuits.tune.knobs import knobs
from sparse_circuits.errors import InputError
from sparse_circuits.fields import from_json, require, to_json
from sparse_circuits.files import write_json
from sparse_circuits.progress import Bar

try:
    from optuna.study import Study
    from optuna.trial import FrozenTrial

    from sparse_circuits.circuits.tune import study as shared
    from sparse_circuits.circuits.tune import trials
    from sparse_circuits.circuits.tune.result import Tuned, importances, settings_of, trials_of, tried
except ModuleNotFoundError as error:
    if error.name != "optuna":
        raise
    raise InputError("tuning needs Optuna, which is not installed: pip install 'sparse-circuits[tune]'") from error

SETTINGS = "settings.json"
SHOWN_EVERY = 2.0
"""Seconds between looks at what the workers have done."""


def tune(config: TuneConfig, workers: int = 1, progress: bool = False) -> Tuned:
    """Search for the settings with which circuits are smallest, until the budget is spent.

    Args:
        workers: processes at once on this machine; 1 works in this one.
        progress: show progress on standard error.

    Raises:
        InputError: an unknown model or task, no task that is done at the target loss, no text for the means, a folder
            or storage with a study of something else, no Optuna, or workers that died before the budget was spent.
    """
    require(workers >= 1, f"workers is {workers}; it must be at least 1")
    cases, left_out = trials.cases_of(config, progress)
    study = shared.open_study(config, trials.about(config, cases))
    total = config.budget if config.budget is not None else round(60 * (config.minutes or 0))
    with Bar("tune" if config.budget is not None else "tune, seconds", total, progress) as bar:
        if workers > 1:
            _work_together(study, config, workers, bar)
        else:
            _work(study, cases, config, bar)
    return _findings(study, cases, left_out, config)


def work(told: Any) -> None:
    """What a worker process does: trials of the `TuneConfig` in JSON until the budget is spent."""
    config = from_json(TuneConfig, told, "the study's settings")
    cases, _ = trials.cases_of(config)
    with Bar("tune", 1, show=False) as bar:
        _work(shared.open_study(config, trials.about(config, cases)), cases, config, bar)


def _work(study: "Study", cases: "Sequence[trials.Case]", config: TuneConfig, bar: Bar) -> None:
    while (trial := shared.take(study, config)) is not None:
        trials.work_on(study, trial, cases, config)
        _show(study, config, bar)


def _work_together(study: "Study", config: TuneConfig, workers: int, bar: Bar) -> None:
    shown = 0.0

    def watch() -> None:
        nonlocal shown
        if time.monotonic() - shown >= SHOWN_EVERY:
            shown = time.monotonic()
            _show(study, config, bar)

    statuses = together(f"{__name__}:work", to_json(config), workers, watch)
    if all(status != 0 for status in statuses):
        raise InputError(
            f"the workers ended with status {', '.join(map(str, statuses))} before the budget was spent; run the same "
            "command again to go on"
        )


def _show(study: "Study", config: TuneConfig, bar: Bar) -> None:
    begun = study.get_trials(deepcopy=False)
    ended = sum(trial.state in shared.ENDED for trial in begun)
    best = shared.best_of(begun)
    text = f"{ended} trials" + ("" if best is None else f", smallest {best.value:.1f}")
    bar.update(ended if config.budget is not None else round(shared.seconds_spent(begun)), text)


def _findings(study: "Study", cases: "Sequence[trials.Case]", left_out: Sequence[str], config: TuneConfig) -> "Tuned":
    """The study's findings, its best settings and circuits written out."""
    best = shared.best_of(study.get_trials(deepcopy=False))
    if best is None:
        raise InputError("no trial is complete; run the same command again with more --trials or --minutes")
    chosen = knobs(config.knobs)
    write_json(config.out / SETTINGS, to_json(settings_of(best)))
    return Tuned(
        cases=[str(case) for case in cases],
        left_out=left_out,
        tried=[tried(trial, chosen) for trial in trials_of(study)],
        best=tried(best, chosen),
        settings=settings_of(best),
        importances=importances(study),
        circuits=[_circuit(best, case, config) for case in cases],
    )


def _circuit(best: "FrozenTrial", case: "trials.Case", config: TuneConfig) -> Path:
    """The folder of the best trial's circuit, in which it is put unless it is there."""
    folder = config.out / "circuits" / case.place
    settings = settings_of(best)
    found = shared.folder_of(config, best.number) / "circuits" / case.place
    for place in (folder, found):
        try:
            circuit = Circuit.load(place, case.subject.model, case.task)
        except InputError:
            continue
        if circuit.config == settings:
            break
    else:  # a worker on another machine, whose disk this is not, has found it
        circuit = prune(case.subject.model, case.task, config=settings, means=case.subject.means)
        place = None
    if place != folder:
        circuit.save(folder)
    return folder
