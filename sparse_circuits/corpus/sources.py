"""Where documents come from: folders of Python files, the running Python installation, generated idioms.

Data sets of the Hugging Face Hub are in hub.py.

A source yields whole documents as text, always in the same order, and says what it left out and why. The file
sources leave out:

- folders that hold no source of their own: hidden ones, `__pycache__`, `node_modules`, virtual environments
  (a `pyvenv.cfg` inside), `site-packages` and `dist-packages`;
- files over 1 MB, empty files, and files with a line of over 1000 characters (minified, or data);
- files that are not in the encoding they declare (PEP 263; UTF-8 where none is declared).

Line ends become "\\n" and a byte-order mark is dropped, as Python itself reads source.
"""

import contextlib
import hashlib
import os
import stat
import sys
import sysconfig
import tokenize
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from sparse_circuits.corpus.config import Level
from sparse_circuits.errors import InputError

OWN = Path(__file__).resolve().parents[1]
"""The folder of this package."""
LARGEST_FILE = 1_000_000
"""Bytes; longer files are tables and generated code."""
LONGEST_LINE = 1000
"""Characters; longer lines are data."""
_NO_SOURCE = {"__pycache__", "node_modules", "site-packages", "dist-packages"}
_TESTS = {"test", "tests", "idle_test"}


@runtime_checkable
class Source(Protocol):
    """Anything that yields documents."""

    @property
    def name(self) -> str:
        """What a person calls it, in one line."""

    @property
    def left_out(self) -> dict[str, int]:
        """Reason to number of files the last complete `documents()` left out."""

    def documents(self) -> Iterator[str]:
        """Whole documents, the same ones in the same order every time."""


@dataclass
class FolderSource:
    """The Python files below `path`, in the order of their relative paths.

    Args:
        path: a folder, or a single `.py` file.
        limit: at most about so many bytes of files, picked by a hash of their relative paths; None for all.
        tests: whether folders named `test` or `tests` count.

    Raises:
        InputError: `path` does not exist or holds no `.py` file.
    """

    path: Path
    limit: int | None = None
    tests: bool = True
    left_out: dict[str, int] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.path = Path(self.path)
        if not self.path.exists():
            raise InputError(f"no folder {self.path}; expected a folder of Python files")
        if next(_python_files(self.path, self.tests), None) is None:
            raise InputError(f"{self.path} holds no .py file; expected a folder of Python files")

    @property
    def name(self) -> str:
        return str(self.path)

    def documents(self) -> Iterator[str]:
        reader = _Reader()
        yield from reader.documents(_some(_sorted_files(self.path, self.tests), self.limit))
        self.left_out = reader.finish(self.name)


@dataclass
class InstalledSource:
    """The source of the running Python: its standard library, then its installed packages; tests and this package left
    out.

    Args:
        limit: at most about so many bytes of files, picked by a hash of their relative paths; None for all.
    """

    limit: int | None = None
    left_out: dict[str, int] = field(default_factory=dict, init=False)

    @property
    def name(self) -> str:
        return f"installed Python {sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}"

    def documents(self) -> Iterator[str]:
        files = [named for root in self.roots() for named in _sorted_files(root, tests=False)]
        # Not this package's own, which holds the templates of the tasks.
        files = [(name, file) for name, file in files if not file.is_relative_to(OWN)]
        reader = _Reader()
        yield from reader.documents(_some(files, self.limit))
        self.left_out = reader.finish(self.name)

    @staticmethod
    def roots() -> list[Path]:
        """The folders it reads: the standard library's and those that packages are installed in."""
        paths = sysconfig.get_paths()
        folders = [Path(paths[key]).resolve() for key in ("stdlib", "purelib", "platlib")]
        return [folder for folder in dict.fromkeys(folders) if folder.is_dir()]


@dataclass
class IdiomsSource:
    """Generated programs of simple, repetitive Python (see `sparse_circuits.corpus.idioms`).

    Args:
        seed: chooses the programs.
        characters: stop after the program that reaches so many.
        level: what the programs are made of.
    """

    seed: int
    characters: int
    level: Level = "simple"
    left_out: dict[str, int] = field(default_factory=dict, init=False)

    @property
    def name(self) -> str:
        return f"idioms ({'' if self.level == 'simple' else f'{self.level}, '}seed {self.seed})"

    def documents(self) -> Iterator[str]:
        from sparse_circuits.corpus.idioms import programs

        made = 0
        for text in programs(self.seed, level=self.level):
            if made >= self.characters:
                return
            made += len(text)
            yield text


def read_source(path: Path) -> str:
    """The text of a Python file, in the encoding it declares (PEP 263), line ends as "\\n".

    Raises:
        OSError: the file cannot be read.
        UnicodeError, SyntaxError, LookupError: it is not in that encoding, or declares an unknown one.
    """
    with tokenize.open(path) as file:
        text = file.read()
    text.encode()  # some encodings can spell lone surrogates, which are no text
    return text


def unwanted(text: str) -> str | None:
    """Why a text is no source to learn from, or None."""
    if not text.strip():
        return "empty"
    return "a line over 1000 characters" if max(map(len, text.split("\n"))) > LONGEST_LINE else None


class _Reader:
    """Reads files one by one and counts what it leaves out."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.undecodable: list[Path] = []

    def documents(self, files: list[Path]) -> Iterator[str]:
        for file in files:
            reason, text = self._read(file)
            if reason is None:
                yield text
            else:
                self.counts[reason] = self.counts.get(reason, 0) + 1

    def finish(self, name: str) -> dict[str, int]:
        """What was left out, by reason; warns of files that were meant as text but are not."""
        if self.undecodable:
            warnings.warn(
                f"{name}: left out {len(self.undecodable)} files that are not in the encoding they declare "
                f"(UTF-8 where none is declared), the first of them {self.undecodable[0]}",
                stacklevel=3,
            )
        return dict(sorted(self.counts.items()))

    def _read(self, file: Path) -> tuple[str | None, str]:
        """The reason to leave the file out, or None and its text."""
        try:
            status = file.stat()
            if not stat.S_ISREG(status.st_mode):
                return "not a file", ""
            if status.st_size > LARGEST_FILE:
                return "over 1 MB", ""
            text = read_source(file)
        except OSError:
            return "unreadable", ""
        except (UnicodeError, SyntaxError, LookupError):
            self.undecodable.append(file)
            return "not in the declared encoding", ""
        return unwanted(text), text


def _python_files(root: Path, tests: bool) -> Iterator[Path]:
    """The `.py` files below `root`; linked folders are followed, each real folder once."""
    if root.is_file():
        yield from [root] if root.suffix == ".py" else []
        return
    seen: set[tuple[int, int]] = set()
    for folder, names, files in os.walk(root, followlinks=True):
        try:
            status = os.stat(folder)
        except OSError:  # gone meanwhile
            continue
        if (status.st_dev, status.st_ino) in seen or (Path(folder) != root and "pyvenv.cfg" in files):
            names.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        names[:] = sorted(
            name for name in names if not (name.startswith(".") or name in _NO_SOURCE or (name in _TESTS and not tests))
        )
        yield from (Path(folder, name) for name in files if name.endswith(".py") and not name.startswith("."))


def _sorted_files(root: Path, tests: bool) -> list[tuple[str, Path]]:
    """The `.py` files below `root` with their paths relative to it, in the order of these."""
    below = sorted((file.relative_to(root).parts, file) for file in _python_files(root, tests))
    return [("/".join(parts), file) for parts, file in below]


def _some(files: list[tuple[str, Path]], limit: int | None) -> list[Path]:
    """About `limit` bytes of `files`, in their order, picked by a hash of their relative paths."""
    chosen = {name for name, _ in files}
    if limit is not None:
        chosen.clear()
        total = 0
        for name, file in sorted(files, key=lambda named: hashlib.sha256(os.fsencode(named[0])).digest()):
            if total >= limit:
                break
            with contextlib.suppress(OSError):
                size = file.stat().st_size
                if size <= LARGEST_FILE:
                    chosen.add(name)
                    total += size
    return [file for name, file in files if name in chosen]
