"""Commands run in this process, a model and a task to run them on."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from command_line import Result, Run
from small_models import plainly
from small_runs import Finished

from sparse_circuits.__main__ import main
from sparse_circuits.circuits.report import build


@pytest.fixture(autouse=True)
def small_machine() -> Iterator[None]:
    """One thread and kernels that need no compiling."""
    with plainly():
        yield


@pytest.fixture(autouse=True)
def short_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cards of few figures."""
    monkeypatch.setattr(build, "QUICK", replace(build.QUICK, random_sets=2, restorations=1, sizes=3))


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in this process."""

    def run(*arguments: object) -> Result:
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        return Result(status, *capsys.readouterr())

    return run


@pytest.fixture
def model(finished: Finished, tmp_path: Path) -> Path:
    """The folder of a small trained model."""
    return Path(shutil.copytree(finished.config.out, tmp_path / "model"))


@pytest.fixture
def task_file(tmp_path: Path) -> Path:
    """A task of one's own."""
    path = tmp_path / "closing.jsonl"
    splits = ["prune"] * 4 + ["calibrate"] * 4 + ["report"] * 4
    pairs = [
        {"a": f"x{n} = [{n}", "b": f"x{n} = ({n}", "right_a": "]", "right_b": ")", "split": split}
        for n, split in enumerate(splits)
    ]
    path.write_text("\n".join(map(json.dumps, pairs)))
    return path
