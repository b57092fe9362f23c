"""Several processes on this machine that work on one thing together.

Each is a Python interpreter of its own that is told what to do in JSON on its standard input, calls one function and
ends. Its standard input stays open as long as its parent lives: when that dies, even by SIGKILL, the worker sees the
end of it and dies too, so that nothing goes on unseen. How the workers share the work is theirs to settle, by
`files.claimed` for one.
"""

import contextlib
import importlib
import json
import os
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sparse_circuits.errors import Diverged, InputError
from sparse_circuits.process import tune

POLL_SECONDS = 0.25
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


def cores() -> int:
    """The cores this process may use, or what OMP_NUM_THREADS says."""
    with contextlib.suppress(KeyError, ValueError):
        return max(1, int(os.environ["OMP_NUM_THREADS"]))
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def together(target: str, told: Any, count: int, watch: Callable[[], None]) -> list[int]:
    """Call a function in `count` processes at once, which share the cores, and wait for them.

    Args:
        target: "module:function"; the function takes what is told.
        told: anything JSON can say.
        watch: called every now and then while they work.

    Returns:
        the exit statuses, 0 where all went well, negative for a signal. When this process is interrupted, so are they.
    """
    with _workers(target, told, count) as started:
        while any(worker.poll() is None for worker in started):
            watch()
            time.sleep(POLL_SECONDS)
        watch()
        return [worker.returncode for worker in started]


@contextlib.contextmanager
def _workers(target: str, told: Any, count: int) -> Iterator[list["subprocess.Popen[bytes]"]]:
    package = str(Path(__file__).resolve().parents[2])
    paths = os.environ.get("PYTHONPATH", "")
    environment = {
        **os.environ,
        **{name: str(max(1, cores() // count)) for name in THREADS},
        "PYTHONPATH": f"{package}{os.pathsep}{paths}" if paths else package,
    }
    command = [sys.executable, "-m", __name__, target]
    started: list[subprocess.Popen[bytes]] = []
    try:
        for _ in range(count):
            worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment)
            started.append(worker)
            assert worker.stdin is not None
            with contextlib.suppress(BrokenPipeError):  # it has ended already, which its status will tell
                worker.stdin.write(json.dumps(told).encode() + b"\n")
                worker.stdin.flush()
        yield started
    finally:
        for worker in started:
            worker.kill()  # what has ended is left alone
            worker.wait()
            assert worker.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                worker.stdin.close()


def _told() -> Any:
    """The parent's line. Read byte by byte, so that nothing but the thread below holds standard input at exit."""
    line = bytearray()
    while (byte := os.read(0, 1)) not in (b"", b"\n"):
        line += byte
    return json.loads(line)


def _end_with_parent() -> None:
    while os.read(0, 1):
        pass
    os._exit(1)


def _main(target: str) -> int:
    tune()
    warnings.showwarning = _one_line
    try:
        told = _told()
        threading.Thread(target=_end_with_parent, daemon=True).start()
        module, _, function = target.partition(":")
        getattr(importlib.import_module(module), function)(told)
    except (InputError, Diverged) as error:
        print(f"sparse-circuits: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _one_line(message: Warning | str, *rest: Any, **more: Any) -> None:
    print(f"warning: {' '.join(str(message).split())}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1]))
