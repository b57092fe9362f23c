"""A study finds settings that are better than those it began with, and goes on where it was stopped or killed."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import optuna
import planted_files
import pytest
from optuna.trial import TrialState

from sparse_circuits import checkpoint, files, kernels
from sparse_circuits.circuits import edges as graph
from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.circuits.prune import prune
from sparse_circuits.circuits.tune import run, study, trials
from sparse_circuits.circuits.tune.config import TuneConfig
from sparse_circuits.circuits.tune.plot import plot
from sparse_circuits.circuits.tune.result import Tuned
from sparse_circuits.circuits.tune.table import comparison, print_tuned, to_json
from sparse_circuits.corpus.packed import PackedCorpus
from sparse_circuits.errors import Diverged, InputError
from sparse_circuits.fields import to_json as config_json
from sparse_circuits.settings import read_settings
from sparse_circuits.tasks import get_task

pytestmark = pytest.mark.filterwarnings("ignore:task .* has . distinct pairs")
REPOSITORY = Path(run.__file__).parents[3]
POOR = replace(
    planted_files.PRUNE,
    target_loss=0.2,
    price=0.15,
    clean=False,
    screen=1.0,
    loop=replace(planted_files.PRUNE.loop, steps=3, learning_rate=0.04),
)
"""Settings that drop what is needed before they know it, so that there is something to find."""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, letter_corpus: PackedCorpus) -> TuneConfig:
    """One model, a task it does and one it does not."""
    parent = tmp_path_factory.mktemp("tune")
    return TuneConfig(
        out=parent / "out",
        models=(str(planted_files.model_folder(parent)),),
        tasks=(str(planted_files.task_file(parent, "quotes")), str(planted_files.task_file(parent, "hopeless", "[<"))),
        knobs=("price", "learning_rate", "beta2"),
        trials=5,
        corpus=letter_corpus.folder,
        config=POOR,
    )


@pytest.fixture(scope="module")
def found(config: TuneConfig) -> Tuned:
    with kernels.use("reference"):
        return run.tune(config)


def plain(tuned: Tuned) -> list[tuple]:
    """The trials without their seconds."""
    return [(each.number, each.state, each.size, dict(each.knobs)) for each in tuned.tried if each.state != "lost"]


def test_the_first_trial_is_the_settings_given_and_the_best_beats_them(config: TuneConfig, found: Tuned) -> None:
    assert [trial.number for trial in found.tried] == list(range(5))
    assert found.tried[0] == found.default
    assert found.default is not None
    assert found.default.knobs == {"price": 0.15, "learning_rate": 0.04, "beta2": POOR.loop.beta2}
    assert found.best == found.ranking[0]
    assert found.gain is not None
    assert found.gain.value == pytest.approx(found.default.by_case[0] / found.best.by_case[0])
    assert found.gain.value > 1
    assert len(found.left_out) == 1
    assert "hopeless: the model's own loss is" in found.left_out[0]


def test_hopelessly_large_trials_are_given_up(config: TuneConfig, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(trials, "AT_LEAST", 0)
    monkeypatch.setattr(trials, "HOPELESS", 0)
    with kernels.use("reference"):
        all_given_up = run.tune(replace(config, out=tmp_path / "a", trials=3))
        none = run.tune(replace(config, out=tmp_path / "b", trials=3, stop_early=False))
    assert [each.state for each in all_given_up.tried] == ["complete", "stopped early", "stopped early"]
    assert {each.state for each in none.tried} == {"complete"}


def test_the_best_settings_and_circuit_are_kept(config: TuneConfig, found: Tuned) -> None:
    settings = read_settings(config.out / "settings.json")
    assert settings == found.settings
    assert settings.loop.seed == found.best.number
    model, task = checkpoint.load(config.models[0]), get_task(config.tasks[0])
    saved = Circuit.load(found.circuits[0], model, task)
    assert prune(model, task, config=settings, means=saved.means).nodes == saved.nodes
    assert len(saved.edges) == found.best.by_case[0]
    kept = [path.parent.name for path in (config.out / "trials").glob("*/circuits")]
    assert kept == [str(found.best.number)]


def test_where_the_best_circuit_is_on_another_disk_it_is_found_again(config: TuneConfig, found: Tuned) -> None:
    saved = json.loads((found.circuits[0] / "circuit.json").read_text())
    for path in (*found.circuits[0].iterdir(), *config.out.glob("trials/*/circuits/*/*/circuit.*")):
        path.unlink()
    assert run.tune(config).best == found.best
    again = json.loads((found.circuits[0] / "circuit.json").read_text())
    assert again["nodes"] == saved["nodes"]


def test_a_study_stopped_and_gone_on_with_is_as_one_never_stopped(
    config: TuneConfig, found: Tuned, tmp_path: Path
) -> None:
    first = run.tune(replace(config, out=tmp_path, trials=2))
    assert plain(first) == plain(found)[:2]
    assert plain(run.tune(replace(config, out=tmp_path))) == plain(found)


def test_a_killed_trial_is_tried_again(config: TuneConfig, found: Tuned, tmp_path: Path) -> None:
    """Two workers and their parent die at once; whoever comes next gives back what they were at."""
    files.write_json(tmp_path / "given.json", config_json(config.config))
    flags = ["tune", "--out", tmp_path / "out", "--models", *config.models, "--tasks", *config.tasks]
    flags += ["--knobs", *config.knobs, "--trials", 5, "--corpus", config.corpus, "--settings", tmp_path / "given.json"]
    command = [sys.executable, "-m", "sparse_circuits", *map(str, flags), "--workers", "2"]
    environment = {**os.environ, "SPARSE_CIRCUITS_KERNELS": "reference", "OMP_NUM_THREADS": "1"}
    journal = tmp_path / "out" / "study.journal"
    with subprocess.Popen(command, env=environment, cwd=REPOSITORY, stderr=subprocess.DEVNULL) as killed:
        while not (journal.exists() and b'"alive"' in journal.read_bytes()):
            assert killed.poll() is None
            time.sleep(0.02)
        os.kill(killed.pid, signal.SIGKILL)
    again = run.tune(replace(config, out=tmp_path / "out"))
    ended = [trial for trial in again.tried if trial.state != "lost"]
    assert len(ended) == 5
    assert again.default == ended[0] or again.default in ended
    opened = optuna.load_study(study_name=study.NAME, storage=study._storage(replace(config, out=tmp_path / "out")))
    lost = opened.get_trials(states=(TrialState.FAIL,))
    assert 1 <= len(lost) <= 2
    by_seed = {trial.user_attrs["settings"]["loop"]["seed"]: trial for trial in opened.get_trials() if trial.values}
    assert all(by_seed[study.seed_number(trial)].params.items() >= trial.params.items() for trial in lost)


def test_a_trial_that_lives_is_left_alone(config: TuneConfig, found: Tuned, tmp_path: Path, monkeypatch) -> None:
    own = replace(config, out=tmp_path)
    cases, _ = trials.cases_of(own)
    opened = study.open_study(own, trials.about(own, cases))
    trial = study.take(opened, own)
    assert trial is not None
    study.suggest(trial, study.knobs(own.knobs))
    running = (TrialState.RUNNING,)
    with study.held(trial, own):
        while "alive" not in opened.get_trials()[0].user_attrs:
            time.sleep(0.01)
        study.give_back_lost(opened, own)
        assert len(opened.get_trials(states=running)) == 1
        # Elsewhere its lock says nothing, but for two minutes its sign of life does.
        monkeypatch.setattr("socket.gethostname", lambda: "elsewhere")
        study.give_back_lost(opened, own)
        assert len(opened.get_trials(states=running)) == 1
        monkeypatch.setattr(study, "STALE_SECONDS", -1.0)
        study.give_back_lost(opened, own)
        assert opened.get_trials(states=running) == []
    again = study.take(opened, own)
    assert again is not None
    assert study.suggest(again, study.knobs(own.knobs)) == trial.params
    assert study.seed_number(again) == trial.number
    monkeypatch.setattr(trials, "_note", lambda *given: opened.tell(1, state=TrialState.FAIL) and 1.0)
    with pytest.warns(UserWarning, match="trial 1 was given up while this process slept"):
        trials.work_on(opened, again, cases, own)


def test_the_budget_is_not_overdrawn_by_two_at_once(config: TuneConfig, found: Tuned, tmp_path, monkeypatch) -> None:
    own = replace(config, out=tmp_path, trials=4)
    monkeypatch.setattr(trials, "prune", lambda *given, **more: time.sleep(0.01) or raise_diverged())
    other = threading.Thread(target=run.work, args=(config_json(own),))
    other.start()
    tuned = run.tune(own)
    other.join()
    assert sum(trial.state == "complete" for trial in tuned.tried) == 4
    # Where learning diverges the circuit is the whole model.
    matrices = graph.matrices(checkpoint.load(config.models[0]))
    everything = sum(int((weight != 0).sum()) for _, _, weight in matrices)
    assert tuned.best.by_case == (everything,)


def raise_diverged() -> None:
    raise Diverged("went to NaN")


def test_minutes_are_summed_and_no_trial_begins_after(config: TuneConfig, found: Tuned, tmp_path: Path) -> None:
    tuned = run.tune(replace(config, out=tmp_path, trials=None, minutes=1e-6))
    assert [trial.default for trial in tuned.tried] == [True]
    assert comparison(tuned).endswith("over 1 circuit, by the default settings")


def test_a_study_of_something_else_is_refused(config: TuneConfig, found: Tuned) -> None:
    other = replace(config, config=replace(POOR, target_loss=0.3))
    with pytest.raises(InputError, match=r"a study of something else \(target_loss 0.2, now 0.3\)"):
        run.tune(other)
    with pytest.raises(InputError, match=r"no task is done at a loss of 0.2 by any model: .*hopeless: the model's own"):
        run.tune(replace(config, tasks=config.tasks[1:]))
    with pytest.raises(InputError, match="the storage nosuch://x cannot be used"):
        run.tune(replace(config, storage="nosuch://x"))


def test_it_is_told_as_tables_json_and_a_plot(found: Tuned, capsys: pytest.CaptureFixture[str]) -> None:
    print_tuned(found)
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == comparison(found)
    (line,) = [line.split() for line in out.splitlines() if line.split()[:1] == ["price"]]
    assert float(line[1]) == 0.15
    assert float(line[2]) == pytest.approx(found.best.knobs["price"], rel=0.01)
    told = json.loads(json.dumps(to_json(found), allow_nan=False))
    assert told["settings"]["price"] == found.settings.price
    assert sum(told["importances"].values()) == pytest.approx(1)
    assert set(told["importances"]) == set(found.best.knobs)
    drawn = ElementTree.fromstring(plot(found))
    titles = [str(each.text) for each in drawn.iter("{http://www.w3.org/2000/svg}title")]
    assert len(titles) == len(found.ranking)
    assert sum("default" in title for title in titles) == 1
