"""Workers do what they are told on their share of the cores, and never outlive who told them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sparse_circuits.circuits import processes
from sparse_circuits.circuits.processes import cores, together

REPOSITORY = Path(processes.__file__).parents[2]


def nothing() -> None:
    pass


def until(happened: Callable[[], bool]) -> None:
    """Wait for something another process does."""
    while not happened():
        time.sleep(0.02)


def gone(process: str) -> bool:
    return not Path(f"/proc/{process}").exists()


def test_each_is_told_and_has_its_share_of_the_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert cores() == 7
    looks: list[int] = []
    program = f"import os; open(f'{tmp_path}/{{os.getpid()}}', 'w').write(os.environ['OMP_NUM_THREADS'] + 'é')"
    assert together("builtins:exec", program, 3, lambda: looks.append(0)) == [0, 0, 0]
    assert looks
    assert [path.read_text() for path in tmp_path.iterdir()] == ["2é"] * 3


def test_without_a_wish_the_cores_are_those_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {1, 4, 5})
    assert cores() == 3


def test_how_each_ended_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    assert together("sparse_circuits.settings:read_settings", "nowhere.json", 1, nothing) == [2]
    assert capfd.readouterr().err == "sparse-circuits: cannot read nowhere.json: No such file or directory\n"
    assert together("builtins:exec", "import os; os.kill(os.getpid(), 9)", 1, nothing) == [-signal.SIGKILL]
    assert together("signal:raise_signal", int(signal.SIGINT), 1, nothing) == [130]
    assert together("builtins:exec", "import warnings; warnings.warn('one\\ntwo')", 1, nothing) == [0]
    assert capfd.readouterr().err == "warning: one two\n"


def test_when_this_process_is_interrupted_so_are_they(tmp_path: Path) -> None:
    started = tmp_path / "started"
    program = f"import os, time; open('{started}', 'w').write(str(os.getpid())); time.sleep(600)"

    def watch() -> None:
        until(lambda: started.exists() and started.read_text() != "")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        together("builtins:exec", program, 1, watch)
    assert gone(started.read_text())


def test_when_this_process_is_killed_they_end(tmp_path: Path) -> None:
    started = tmp_path / "started"
    worker = f"import os, time; open('{started}', 'w').write(str(os.getpid())); time.sleep(600)"
    program = f"from {processes.__name__} import together; together('builtins:exec', {worker!r}, 1, lambda: None)"
    with subprocess.Popen([sys.executable, "-c", program], cwd=REPOSITORY) as parent:
        until(lambda: started.exists() and started.read_text() != "")
        os.kill(parent.pid, signal.SIGKILL)
    until(lambda: gone(started.read_text()))
