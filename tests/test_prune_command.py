"""`prune` and `demo` hold the circuit's folder before the work begins, so that minutes of it are never thrown away."""

from pathlib import Path

import pytest
import torch
from small_models import randomised, small

from sparse_circuits import checkpoint
from sparse_circuits.__main__ import main
from sparse_circuits.circuits import prune as pruning
from sparse_circuits.circuits.config import PruneConfig
from sparse_circuits.commands import demo
from sparse_circuits.errors import InputError
from sparse_circuits.files import locked
from sparse_circuits.tasks import TASKS

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    checkpoint.save(randomised(small(), dtype=torch.float32), tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture(autouse=True)
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(*arguments: object, **settings: object) -> None:
        raise AssertionError("pruning began")

    monkeypatch.setattr(pruning, "prune", work)


def test_a_folder_that_cannot_be_made_is_told_before_the_work(
    model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = model_folder / "config.json" / "circuit"
    assert main(["prune", "--model", str(model_folder), "--task", "for_while", "--out", str(out)]) == 2
    assert f"cannot make the folder {out}" in capsys.readouterr().err


def test_a_refused_task_leaves_no_folder_behind(
    model_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*given: object, **named: object) -> None:
        raise InputError("refused")

    monkeypatch.setattr(pruning, "prune", refuse)
    there = model_folder / "there"
    there.mkdir()
    for out in (model_folder / "circuits" / "for_while", there):
        assert main(["prune", "--model", str(model_folder), "--task", "for_while", "--out", str(out)]) == 2
        assert "refused" in capsys.readouterr().err
    assert not (model_folder / "circuits").exists()
    assert there.exists()  # it was before


def test_a_second_process_is_told_before_the_work(model_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = model_folder / "circuits" / "for_while"
    out.mkdir(parents=True)
    with locked(out):
        assert main(["prune", "--model", str(model_folder), "--task", "for_while"]) == 2
        assert f"another process is writing to {out}" in capsys.readouterr().err
        with pytest.raises(InputError, match="another process is writing"):
            demo._make_circuit(checkpoint.load(model_folder), TASKS["for_while"], out, PruneConfig())
