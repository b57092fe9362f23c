"""Running commands, and what a good refusal looks like."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).parents[2]


class Result(NamedTuple):
    status: int
    out: str
    err: str


Run = Callable[..., Result]


def one_line(result: Result, status: int = 2) -> str:
    """The message of a command that was refused, once it is known to be in good form."""
    assert result.status == status
    assert result.out == ""
    assert result.err.startswith("sparse-circuits: ")
    assert result.err.endswith("\n")
    assert result.err.count("\n") == 1
    assert "Traceback" not in result.err
    assert "---" not in result.err
    assert "─" not in result.err
    return result.err.removeprefix("sparse-circuits: ").rstrip("\n")


def outside(*arguments: object, **changes: object) -> subprocess.CompletedProcess[bytes]:
    """Runs a command in a process of its own, whose output is buffered as usual."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    environment |= changes.pop("environment", {})  # type: ignore[arg-type, operator]
    command = [sys.executable, "-m", "sparse_circuits", *map(str, arguments)]
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "cwd": REPOSITORY, "env": environment} | changes
    return subprocess.run(command, check=False, **settings)  # type: ignore[call-overload]
