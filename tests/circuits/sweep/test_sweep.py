"""A sweep finds what `prune` finds, once, whoever works on it and whatever dies meanwhile."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import planted
import planted_files
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparse_circuits import checkpoint, files, kernels
from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.circuits.config import ScoreConfig
from sparse_circuits.circuits.prune import prune
from sparse_circuits.circuits.subjects import Subject, subjects
from sparse_circuits.circuits.sweep import run
from sparse_circuits.circuits.sweep.cells import Cell, cells_of
from sparse_circuits.circuits.sweep.config import SweepConfig, exact
from sparse_circuits.circuits.sweep.summary import Sweep
from sparse_circuits.corpus.packed import PackedCorpus
from sparse_circuits.errors import Diverged, InputError
from sparse_circuits.fields import to_json
from sparse_circuits.tasks import get_task

pytestmark = pytest.mark.filterwarnings("ignore:task .* has . distinct pairs")
REPOSITORY = Path(run.__file__).parents[3]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, letter_corpus: PackedCorpus) -> SweepConfig:
    """A model, a task it does and one it does not, two targets, by three methods."""
    parent = tmp_path_factory.mktemp("sweep")
    return SweepConfig(
        out=parent / "out",
        models=(str(planted_files.model_folder(parent)),),
        tasks=(str(planted_files.task_file(parent, "quotes")), str(planted_files.task_file(parent, "hopeless", "[<"))),
        targets=(0.1, 0.3),
        methods=("learned", "warm", "magnitude"),
        corpus=letter_corpus.folder,
        config=planted_files.PRUNE,
    )


@pytest.fixture(scope="module")
def done(config: SweepConfig) -> Sweep:
    with kernels.use("reference"):
        return run.sweep(config)


@pytest.fixture
def planted_subject() -> Subject:
    model = planted.model()
    return Subject("model", model, checkpoint.model_hash(model), Path("model"), planted.means(model))


def results(out: Path) -> dict[str, dict]:
    """All results by their place, without what differs from run to run."""
    found = {}
    for path in out.glob("*/*/*/result.json"):
        result = json.loads(path.read_text())
        result.pop("seconds")
        found[str(path.relative_to(out))] = result
    return found


def test_each_result_is_what_prune_finds(config: SweepConfig, done: Sweep) -> None:
    assert [(str(series), len(done.edges(series, 0.3))) for series in done.series] == [
        ("planted", 1),
        ("planted (warm)", 1),
        ("planted (magnitude)", 1),
    ]
    row = next(row for row in done.rows if (row.method, row.target, row.status) == ("learned", 0.1, "found"))
    folder = next(config.out.glob("planted-*"))
    saved = Circuit.load(folder / "quotes" / "learned-0.1-seed0", task=get_task(config.tasks[0]))
    again = prune(
        checkpoint.load(config.models[0]),
        get_task(config.tasks[0]),
        0.1,
        config=planted_files.PRUNE,
        means=saved.means,
    )
    assert again.nodes == saved.nodes
    assert (len(again.edges), again.size) == (row.edges, row.nodes)
    assert again.loss("report") == row.report_loss
    hopeless = [row for row in done.rows if row.task == "hopeless"]
    assert {row.status for row in hopeless} == {"not reached"}
    assert all(row.model_loss is not None and row.model_loss > row.target for row in hopeless)


def test_masks_are_learned_on_from_the_next_larger_target(config: SweepConfig, done: Sweep) -> None:
    found = {place: result for place, result in results(config.out).items() if "quotes/warm" in place}
    assert {Path(place).parent.name: result.get("warm_from") for place, result in found.items()} == {
        "warm-0.3-seed0": None,
        "warm-0.1-seed0": 0.3,
    }


def test_what_is_there_is_not_done_again_and_not_taken_for_something_else(
    config: SweepConfig, done: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find(cell: Cell) -> None:
        raise AssertionError(f"{cell} was done again")

    monkeypatch.setattr(run, "_find", find)
    assert run.sweep(config).rows == done.rows
    assert run.sweep(replace(config, methods=("warm",), targets=(0.3, 0.1))).series == done.series[1:2]
    other = replace(config, config=replace(config.config, price=0.2))
    with pytest.raises(InputError, match=r"made with other settings \(price 0.1, now 0.2\).*choose another --out"):
        run.sweep(other)


def test_what_cannot_be_asked_and_what_diverges_is_recorded(
    config: SweepConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge(*arguments: object, **settings: object) -> Circuit:
        raise Diverged("went to NaN in step 3")

    monkeypatch.setattr(run, "prune", diverge)
    # The model reads 32 bytes: of a prompt of the registered task the evidence is cut off.
    tasks = (config.tasks[0], "set_or_string")
    found = run.sweep(replace(config, out=tmp_path, tasks=tasks, methods=("learned",)))
    said = {(row.task, row.status, str(row.reason)[:20]) for row in found.rows}
    assert said == {
        ("quotes", "failed", "went to NaN in step "),
        ("set_or_string", "skipped", "task 'set_or_string'"),
    }


def test_two_at_once_do_everything_once(
    config: SweepConfig, done: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finders = Counter[str]()

    def find(cell: Cell) -> None:
        finders[str(cell)] += 1
        time.sleep(0.01)
        result = (config.out / cell.folder.relative_to(tmp_path) / "result.json").read_text()
        files.atomic_write(cell.folder / "result.json", result)

    monkeypatch.setattr(run, "_find", find)
    shared = replace(config, out=tmp_path)
    other = threading.Thread(target=run.work, args=(to_json(shared),))
    other.start()
    assert run.sweep(shared).rows == done.rows
    other.join()
    assert set(finders.values()) == {1}
    assert len(finders) == len(done.rows)


def test_killed_and_run_again_it_ends_as_if_it_had_never_stopped(
    config: SweepConfig, done: Sweep, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    flags = ["sweep", "--out", out, "--models", *config.models, "--tasks", *config.tasks, "--targets", 0.1, 0.3]
    flags += ["--methods", *config.methods, "--corpus", config.corpus, "--settings", tmp_path / "settings.json"]
    files.write_json(tmp_path / "settings.json", to_json(config.config))
    command = [sys.executable, "-m", "sparse_circuits", *map(str, flags), "--workers", "2"]
    environment = {**os.environ, "SPARSE_CIRCUITS_KERNELS": "reference", "OMP_NUM_THREADS": "1"}
    said = tmp_path / "said"
    with (
        open(said, "w") as file,
        subprocess.Popen(command, env=environment, cwd=REPOSITORY, stdout=file, stderr=file) as killed,
    ):
        while not results(out):
            assert killed.poll() is None, said.read_text()
            time.sleep(0.02)
        workers = children(killed.pid)
        os.kill(killed.pid, signal.SIGKILL)
    assert len(workers) == 2
    while any(Path(f"/proc/{worker}").exists() for worker in workers):  # they see that their parent is gone
        time.sleep(0.02)
    before = {place: (out / place).stat().st_mtime_ns for place in results(out)}
    assert 0 < len(before) < len(done.rows)
    assert len(run.sweep(replace(config, out=out)).rows) == len(done.rows)
    assert all((out / place).stat().st_mtime_ns == time for place, time in before.items())
    assert results(out) == results(config.out)


def children(parent: int) -> list[int]:
    """The processes that `parent` has started."""
    listed = Path(f"/proc/{parent}/task/{parent}/children").read_text()
    return [int(child) for child in listed.split()]


def test_a_worker_that_dies_is_told(config: SweepConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def together(target: str, told: object, count: int, watch: object) -> list[int]:
        assert target == "sparse_circuits.circuits.sweep.run:work"
        assert count == 3
        return [0, -9, 0]

    monkeypatch.setattr(run, "together", together)
    with pytest.raises(InputError, match=r"12 of 12 results are missing: .* status 0, -9, 0; run the same command"):
        run.sweep(replace(config, out=tmp_path), workers=3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models": ()}, "no models given"),
        ({"targets": (0.1, 0.1)}, "targets has 0.1 twice"),
        ({"targets": (0.1, 0.0)}, "a target loss is 0.0; each must be above 0"),
        ({"methods": ("lerned",)}, "no method 'lerned' to find circuits by; did you mean 'learned'"),
        ({"seeds": 0}, "seeds is 0; it must be at least 1"),
    ],
)
@pytest.mark.usefixtures("unannotated")
def test_wrong_settings(changes: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        SweepConfig(**{"out": tmp_path, "models": ("x",), **changes})


@pytest.mark.parametrize(
    ("target", "name"),
    [
        *((0.5, "0.5"), (0.15, "0.15"), (0.05, "0.05"), (0.02, "0.02"), (0.01, "0.01"), (1.0, "1")),
        *((10.0, "10"), (1e4, "10000"), (1e-5, "1e-05"), (0.1 + 0.2, "0.30000000000000004")),
        *((0.1234561, "0.1234561"), (0.1234562, "0.1234562"), (1234.5678, "1234.5678")),
    ],
)
def test_a_folder_says_the_target_exactly(
    target: float, name: str, config: SweepConfig, planted_subject: Subject
) -> None:
    (cell,) = cells_of(
        replace(config, tasks=config.tasks[:1], targets=(target,), methods=("learned",)), [planted_subject]
    )
    assert cell.folder == Path("model/quotes") / f"learned-{name}-seed0"


@given(st.floats(min_value=0, max_value=1e4, exclude_min=True))
def test_no_two_targets_share_a_name(target: float) -> None:
    assert float(exact(target)) == target
    assert exact(target) in (f"{target:g}", repr(target))


def test_each_seed_scores_and_draws_anew(config: SweepConfig, planted_subject: Subject, tmp_path: Path) -> None:
    """And the first as if it were the only one: `--seeds` can be raised later."""
    scoring = ScoreConfig(score_seed=5)
    loop = replace(config.config.loop, seed=2)
    asked = replace(
        config,
        out=tmp_path,
        tasks=config.tasks[:1],
        targets=(0.3,),
        methods=("random", "attribution"),
        seeds=2,
        config=replace(config.config, loop=loop),
        scoring=scoring,
    )
    cells = cells_of(asked, [planted_subject])
    assert {(cell.method, cell.seed, cell.scoring.score_seed) for cell in cells} == {
        *(("random", 2, 5), ("random", 3, 6), ("attribution", 2, 5), ("attribution", 3, 6)),
    }
    assert cells_of(replace(asked, seeds=1), [planted_subject])[0].settings == cells[0].settings
    run.sweep(replace(asked, methods=("random",)))
    first, second = (
        Circuit.load(next(tmp_path.glob(f"*/quotes/random-0.3-seed{seed}")), task=get_task(config.tasks[0])).scores
        for seed in (2, 3)
    )
    assert not torch.equal(first, second)


def test_models_are_told_apart(config: SweepConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    another = planted_files.model_folder(tmp_path, "planted", extra=0.3)
    models = (*config.models, str(another))
    tasks = config.tasks[1:]
    found = run.sweep(replace(config, out=tmp_path / "out", models=models, tasks=tasks, methods=("learned",)))
    assert [series.model for series in found.series] == list(models)
    assert len(list((tmp_path / "out").glob("planted-*/hopeless"))) == 2
    copy = planted_files.model_folder(tmp_path, "copy")
    with pytest.raises(InputError, match=r"planted and .*copy are the same model; give it once"):
        run.sweep(replace(config, out=tmp_path, models=(config.models[0], str(copy))))


def test_means_over_fewer_tokens_are_other_means(config: SweepConfig, tmp_path: Path) -> None:
    many, few = (subjects(config.models, tmp_path / str(n), config.corpus, n)[0] for n in (2000, 200))
    assert few.means.tokens < many.means.tokens
    with pytest.raises(InputError, match="has results with ablation means of planted over other text"):
        subjects(config.models, tmp_path / "2000", config.corpus, 200)
