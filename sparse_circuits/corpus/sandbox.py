"""Running generated programs where they can do no harm, to count how many run.

Every program has a process of its own, with limits on time, memory, file size and open files, in an empty
temporary folder. An audit hook refuses the network, other processes, and writing, removing or renaming outside that
folder. Beside the program lie the files it names, each with a few numbers, and its standard input answers every
question with one.

This is a net for mistakes, not a prison: a program that means harm can leave it. Run only what this package wrote.
Needs POSIX (fork and resource limits).
"""

import ast
import importlib
import json
import os
import re
import runpy
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Sequence
from typing import Any

SECONDS = 5
"""Of processor time; ten times as long by the clock."""
MEMORY = 1 << 30
FILE_SIZE = 1 << 20
FORBIDDEN = ("socket.", "subprocess.", "os.exec", "os.fork", "os.posix_spawn", "os.system", "os.kill", "ctypes.")
CHANGING = (
    "shutil.rmtree",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.mkdir",
    "os.link",
    "os.symlink",
    "os.truncate",
    "os.chmod",
    "os.utime",
)
"""What changes the disk without opening a file; every path it is given has to be inside."""
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND
FILE_NAME = re.compile(r"\w+(\.txt|\.csv|\.json|\.log)")
PRELOADED = ("collections", "dataclasses", "enum", "heapq", "logging", "math", "random", "resource", "unittest")
"""Imported once, so that the processes of the programs start with them."""
CONTENTS = {".csv": "7,12\n3,40\n5,8\n", ".json": "[3, 14, 15]\n"}
"""What a file of this ending holds; any other holds a number a line."""


def failures(texts: Sequence[str], seconds: int = SECONDS) -> dict[int, str]:
    """Run programs, each for so many seconds at most, and say which failed: {place in `texts`: last line of its error}.

    Raises:
        RuntimeError: the programs could not be run at all.
    """
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-W", "ignore", os.path.abspath(__file__), str(seconds)],
        input=json.dumps(list(texts)),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the programs could not be run: {done.stderr.strip()}")
    return {int(place): error for place, error in json.loads(done.stdout).items()}


def inputs_of(text: str) -> dict[str, str]:
    """The files that a program names, and what to put into them; none where it is no program."""
    found: dict[str, str] = {}
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return found
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            match = FILE_NAME.fullmatch(node.value)
            if match:
                found[node.value] = CONTENTS.get(match[1], "3\n14\n15\n")
    return found


def _limit(folder: str, seconds: int) -> None:
    """Take away from this process what a generated program has no use for."""
    import resource

    signal.alarm(10 * seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    for kind, most in (
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_FSIZE, FILE_SIZE),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (most, most))

    def is_path(argument: object) -> bool:
        return isinstance(argument, str | bytes | os.PathLike)

    def inside(path: Any) -> bool:
        """Whether a path is in the folder, or is no path but an open file."""
        # Not the name's own target: what is removed or renamed is the link.
        parent, name = os.path.split(os.path.abspath(os.fsdecode(path))) if is_path(path) else (folder, "")
        real = os.path.join(os.path.realpath(parent), name)
        return real.startswith(folder + os.sep) and os.path.realpath(real).startswith(folder + os.sep)

    def refuse(event: str, arguments: tuple[object, ...]) -> None:
        if event.startswith(FORBIDDEN):
            raise PermissionError(f"{event} is not allowed here")
        if event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & WRITING and not inside(path):
                raise PermissionError(f"writing {path!s} is not allowed here")
        elif event in CHANGING and not all(map(inside, filter(is_path, arguments))):
            raise PermissionError(f"{event} outside of the folder is not allowed here")

    sys.addaudithook(refuse)


def _run(text: str, folder: str, seconds: int) -> None:
    """Run the program in this process, and leave it."""
    os.chdir(folder)
    with open("program.py", "w", encoding="utf-8") as file:
        file.write(text)
    for name, content in inputs_of(text).items():
        with open(name, "w", encoding="utf-8") as file:
            file.write(content)
    with open("answers", "w") as file:
        file.write("5\n" * 100)
    for number, name in ((0, "answers"), (1, os.devnull), (2, "errors")):
        os.dup2(os.open(name, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT), number)
    _limit(os.path.realpath(folder), seconds)
    sys.argv[:] = ["program.py"]
    status = 0
    try:
        runpy.run_path("program.py", run_name="__main__")
    except SystemExit as stop:
        status = 1 if stop.code else 0
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stderr.flush()
    os._exit(status)


def _main() -> None:
    for name in PRELOADED:
        importlib.import_module(name)
    seconds = int(sys.argv[1])
    found: dict[int, str] = {}
    for place, text in enumerate(json.load(sys.stdin)):
        with tempfile.TemporaryDirectory() as folder:
            child = os.fork()
            if child == 0:
                _run(text, folder, seconds)
            _, status = os.waitpid(child, 0)
            if status:
                with open(os.path.join(folder, "errors"), encoding="utf-8", errors="replace") as file:
                    lines = file.read().strip().split("\n")
                code = os.waitstatus_to_exitcode(status)
                stopped = f"stopped by signal {-code}" if code < 0 else f"stopped with status {code}"
                found[place] = lines[-1] or stopped
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    _main()
