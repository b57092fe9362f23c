"""The last net of the command line: whatever it is given, one line on standard error and the right status."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sparse_circuits.__main__ import main
from sparse_circuits.commands import tasks

REPOSITORY = Path(__file__).parents[1]


def in_shell(redirection: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = f'exec "$0" -m sparse_circuits "$@" {redirection}'
    return subprocess.run(
        ["/bin/sh", "-c", command, sys.executable, *arguments], cwd=REPOSITORY, capture_output=True, text=True
    )


def test_a_closed_standard_output_is_no_error() -> None:
    done = in_shell(">&-", "--version")
    assert (done.returncode, done.stderr) == (0, "")


def overflow() -> None:
    [0] * 10**30


def numpy_memory() -> None:
    np.empty(1 << 50, dtype=np.int64)


def torch_memory() -> None:
    torch.empty(1 << 58)


@pytest.mark.parametrize("work", [overflow, numpy_memory, torch_memory])
def test_too_little_memory_is_one_line(
    work: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tasks, "run", lambda command: work())
    assert main(["tasks"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("sparse-circuits: more than this machine's memory holds")
    assert error.count("\n") == 1


def test_a_fault_of_the_program_is_not_taken_for_too_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(command: object) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(tasks, "run", fault)
    with pytest.raises(RuntimeError, match="mat1"):
        main(["tasks"])


@pytest.mark.parametrize(
    "flags",
    [
        ("--d-model", 10**25),
        ("--n-layer", 1 << 25),
        ("--block-size", 10**25),
    ],
)
def test_absurd_sizes_of_a_model_are_refused(flags: tuple[str, int], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *map(str, flags)]) == 2
    assert f"{flags[0]} is {flags[1]}; it must be at most 16777216" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flag", "value"),
    [("price", "inf"), ("price", "nan"), ("init-bias", "nan"), ("init-scale", "inf"), ("temperature", "inf")],
)
def test_settings_of_masks_that_are_no_numbers_are_refused(
    flag: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["prune", "--model", "none", "--task", "for_while", f"--{flag}", value]) == 2
    assert f"--{flag} is {value}" in capsys.readouterr().err
