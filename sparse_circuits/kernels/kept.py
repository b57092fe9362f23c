"""Compiled kernels, kept on disk, so that a process that finds what it needs there never imports a compiler.

1. `Loops`: the kernels of a module, by name; only compiling imports it.
2. `compiled`: the kernel for one type of job: the image that is kept, or a new one, which is kept from then on.
3. `Place`: which file that is. Its name tells the sources of all kernels and everything else that the code depends on;
   its content begins with a checksum. Whatever is wrong with it, the kernel is compiled again.

Files lie where Numba would keep them: in the folder NUMBA_CACHE_DIR, or beside the sources, or, where those cannot be
written to, among the user's caches. Where images cannot be had, on other systems for one, Numba compiles and keeps.
"""

import contextlib
import ctypes
import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import os
import shutil
import signal
import stat
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from sparse_circuits.errors import InputError
from sparse_circuits.files import atomic_write
from sparse_circuits.kernels import sources
from sparse_circuits.kernels.image import Image, check_machine, load
from sparse_circuits.kernels.threads import Work

ANNOUNCE_AFTER = 0.5
"""Seconds of compiling after which it is announced."""
FORMAT = 1
LARGEST = 1 << 24
"""Bytes. A kernel has some 30,000."""
ABANDONED = 3600
"""Seconds after which what a killed process left of a file is removed."""
NUMBA_FILE = Path(".numba_config.yaml")
"""Where Numba looks for settings: in the working directory."""


class Kernel(NamedTuple):
    """A function of a module of loops."""

    module: str
    name: str

    def function(self) -> Callable[[Any], None]:
        """The function itself; imports Numba."""
        module = importlib.import_module(f"sparse_circuits.kernels.{self.module}")
        function: Callable[[Any], None] = getattr(module, self.name)
        return function


class Loops:
    """The kernels of a module as attributes: `Loops("bits").zero`."""

    def __init__(self, module: str) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Kernel:
        if name.startswith("_"):
            raise AttributeError(name)
        kernel = Kernel(self._module, name)
        setattr(self, name, kernel)
        return kernel


def compiled(kernel: Kernel, job: Any) -> Work:
    """The kernel as a C function whose one argument is the address of a record of the NumPy dtype `job`."""
    with _interrupted_later():
        try:
            check_machine()
            place = Place.of(kernel, job)
            image = place.read()
            return _new(kernel, job, place) if image is None else load(image)
        except Exception:
            # Another system, no memory for code, an unknown Numba: it is compiled as Numba does it, and a fault of the
            # function itself is raised again there.
            return _by_numba(kernel, job)


def _new(kernel: Kernel, job: Any, place: "Place") -> Work:
    """Compile, and keep what has been compiled where there is room for it."""
    compiler, function = importlib.import_module("sparse_circuits.kernels.compiler"), kernel.function()
    with _announced():
        image = compiler.image_of(function, job)
    work = load(image)
    place.write(image)
    return work


def _by_numba(kernel: Kernel, job: Any) -> Work:
    fallback, function = importlib.import_module("sparse_circuits.kernels.fallback"), kernel.function()
    with _announced():
        callback = fallback.callback_of(function, job)
    return Work(callback.address, ctypes.CFUNCTYPE(None, ctypes.c_void_p)(callback.address), callback)


class Place(NamedTuple):
    """The file of a kernel for one type of job."""

    kernel: Kernel
    sources: str
    """Which sources it is made of."""
    rest: str
    """What else it depends on."""

    @classmethod
    def of(cls, kernel: Kernel, job: Any) -> "Place":
        if sources.IMPORTED is None:
            raise FileNotFoundError(f"no sources in {sources.FOLDER}")
        return cls(kernel, sources.IMPORTED, _digest(repr((FORMAT, kernel, job, _settings(), *_machine()))))

    @property
    def name(self) -> str:
        return f"{self.kernel.module}.{self.kernel.name}.{self.sources[:12]}.{self.rest[:20]}.kernel"

    def read(self) -> Image | None:
        """What is kept, if it is whole."""
        for folder in _folders():
            # What is not as it was written, or cannot be read, is as good as nothing.
            with contextlib.suppress(OSError, ValueError):
                path = folder / self.name
                found = path.stat()
                if not stat.S_ISREG(found.st_mode) or found.st_size > LARGEST:
                    continue
                content = path.read_bytes()
                if content[:32] == self._checksum(content[32:]):
                    return Image.decode(content[32:])
        return None

    def write(self, image: Image) -> None:
        """Keep it in the first folder that takes it; nowhere, if sources have changed since they were imported."""
        if sources.digest() != self.sources:
            return
        content = image.encode()
        for folder in _folders():
            try:
                folder.mkdir(parents=True, exist_ok=True)
                atomic_write(folder / self.name, self._checksum(content) + content)
            except (OSError, InputError):
                continue
            self._sweep(folder)
            return

    def _checksum(self, content: bytes) -> bytes:
        return hashlib.sha256(f"{self.sources} {self.rest} ".encode() + content).digest()

    def _sweep(self, folder: Path) -> None:
        """Remove what was made of other sources, and what killed processes left, as far as that is possible."""
        stem = f"{self.kernel.module}.{self.kernel.name}."
        for old in folder.glob(f"{stem}*.kernel"):
            if not old.name.startswith(f"{stem}{self.sources[:12]}."):
                with contextlib.suppress(OSError):
                    old.unlink()
        for left in folder.glob(f".{stem}*.kernel.*.tmp"):
            with contextlib.suppress(OSError):
                if left.stat().st_mtime < time.time() - ABANDONED:
                    shutil.rmtree(left, ignore_errors=True)


def _folders() -> list[Path]:
    """Where kernels may be kept, the best place first. A folder serves one copy of the sources."""
    copy = _digest(str(sources.FOLDER))[:16]
    if chosen := os.environ.get("NUMBA_CACHE_DIR"):
        return [Path(chosen) / f"sparse_circuits_{copy}"]
    caches = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    others = [caches / "sparse_circuits" / f"kernels_{copy}"] if caches.is_absolute() else []
    return [sources.FOLDER / "__pycache__", *others]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _settings() -> list[object]:
    """The compiler's: of the environment, of its file, and what has been set in the compiler itself, if it is loaded.

    Numba looks at the first two again whenever it compiles.
    """
    found = sorted(
        (name, value) for name, value in os.environ.items() if name.startswith("NUMBA_") and name != "NUMBA_CACHE_DIR"
    )
    return [found, NUMBA_FILE.read_bytes() if NUMBA_FILE.is_file() else None, _set_by_hand()]


def _set_by_hand() -> list[tuple[str, str]]:
    """The values in `numba.config` that it did not read from environment or file."""
    loaded = sys.modules.get("numba.core.config")
    if loaded is None or loaded.__spec__ is None:
        return []
    # The same module once more, nobody else's: processes with and without Numba must come to the same.
    fresh = importlib.util.module_from_spec(loaded.__spec__)
    assert loaded.__spec__.loader is not None
    with warnings.catch_warnings(action="ignore"):  # Numba itself has said what is wrong with a setting
        loaded.__spec__.loader.exec_module(fresh)
    names = sorted(name for name in vars(fresh) if name.isupper() and name != "CACHE_DIR")
    values = [(name, repr(getattr(loaded, name, None)), repr(getattr(fresh, name))) for name in names]
    return [(name, now) for name, now, read in values if now != read]


@functools.cache
def _machine() -> tuple[object, ...]:
    """What else but sources and settings compiled code depends on: compiler, interpreter, processor."""
    versions = [importlib.metadata.version(package) for package in ("numba", "llvmlite", "numpy")]
    return (*versions, sys.version, sys.platform, _processor())


def _processor() -> list[str]:
    """What Linux says of the first processor's kind."""
    wanted = ("vendor_id", "cpu family", "model", "stepping", "flags")
    found = []
    with open("/proc/cpuinfo") as lines:
        for line in lines:
            if not line.strip():
                break
            if line.split(":")[0].strip() in wanted:
                found.append(line)
    return found


@contextlib.contextmanager
def _announced() -> Iterator[None]:
    """Tell whoever waits at a terminal why, once a process, if the block takes longer than reading a cache would."""
    timer = threading.Timer(ANNOUNCE_AFTER, _announce)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@functools.cache
def _announce() -> None:
    if sys.stderr is not None and sys.stderr.isatty():
        print("compiling kernels for this machine: once, they are kept on disk", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _interrupted_later() -> Iterator[None]:
    """Put off Ctrl-C until the block ends: inside the compiler's callbacks Python prints and then forgets it."""
    previous = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(previous):
        yield
        return
    pressed = threading.Event()
    signal.signal(signal.SIGINT, lambda number, frame: pressed.set())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
        if pressed.is_set():
            signal.raise_signal(signal.SIGINT)
