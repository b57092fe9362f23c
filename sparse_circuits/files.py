"""Writing files so that a reader never sees half of one.

Everything goes to a temporary folder beside it, is flushed to the disk and then renamed, so that a kill, a
crash or a full disk leaves the old file (or none) and never a truncated one.
"""

import contextlib
import glob
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from sparse_circuits.errors import InputError


def atomic_write(path: str | Path, content: bytes | str | Callable[[Path], object]) -> None:
    """Write `content` to `path` all at once.

    Args:
        path: where; its folder must exist.
        content: the bytes, the text (UTF-8), or a function that writes the file at the temporary path it is given.

    Raises:
        InputError: the folder is missing, or the disk refused the file (full, read-only); `path` is then unchanged.
    """
    path = Path(path)
    if path.exists() and not path.is_file() and not path.is_dir():
        # Renaming would replace a device or a pipe, /dev/null for one, by a file.
        raise InputError(f"cannot write {path}: it is no ordinary file; choose another name")
    # In a folder of its own, so that what a library leaves beside the file when it is killed can be swept too.
    with (
        _refused(path),
        tempfile.TemporaryDirectory(
            dir=path.parent, prefix=f".{path.name}.", suffix=".tmp", ignore_cleanup_errors=True
        ) as folder,
    ):
        temporary = Path(folder) / path.name
        if callable(content):
            content(temporary)
        else:
            temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)


@contextlib.contextmanager
def written_together(out: Path, last: str, stale: Collection[str] = ()) -> Iterator[Path]:
    """An empty temporary folder; what is in it when the block ends well gets its places in the folder `out`.

    Until then nothing is changed, so a full disk or Ctrl-C leaves what was there (or nothing). A kill leaves the
    temporary folder, which the next one who writes `out` sweeps away; while the files get their places, it leaves `out`
    without `last`, which is what others know it by.

    Args:
        out: made, with its parents, if it does not exist.
        last: the file that makes the folder what it is.
        stale: files of an earlier folder that go where the new one has none of that name.

    Raises:
        InputError: `out` is a file, another process is writing it, or the disk refused.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"cannot write {out}: it is a file; choose another folder")
    whole = out.absolute()
    with _refused(out):
        whole.parent.mkdir(parents=True, exist_ok=True)
        with alone(whole, "being written"):
            sweep(whole)
            with _placed(whole, out, last, stale) as folder:
                yield folder


@contextlib.contextmanager
def changed_together(out: Path, last: str) -> Iterator[Path]:
    """As `written_together`, in a folder that is there and may hold other files, too; the temporary one lies in it.

    Raises:
        InputError: the disk refused.
    """
    with _refused(out), _placed(out / last, out, last) as folder:
        yield folder


@contextlib.contextmanager
def _refused(path: Path) -> Iterator[None]:
    """Tells what the disk refuses as that `path` cannot be written."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"cannot write {path}: {reason}; free space or choose another folder") from error


@contextlib.contextmanager
def _placed(beside: Path, out: Path, last: str, stale: Collection[str] = ()) -> Iterator[Path]:
    """A temporary folder `beside` a path, of which `sweep` knows it; its files get their places in `out` in the end."""
    with tempfile.TemporaryDirectory(
        dir=beside.parent, prefix=f".{beside.name}.", suffix=".tmp", ignore_cleanup_errors=True
    ) as folder:
        try:
            yield Path(folder)
        except InputError as error:  # which names a file in a folder that is nobody's business
            raise InputError(str(error).replace(folder, str(out))) from error
        _take_places(Path(folder), out, last, stale)


def _take_places(folder: Path, out: Path, last: str, stale: Collection[str]) -> None:
    out.mkdir(exist_ok=True)
    (out / last).unlink(missing_ok=True)
    made = sorted(folder.iterdir(), key=lambda path: path.name == last)
    for name in set(stale) - {path.name for path in made}:
        (out / name).unlink(missing_ok=True)
    for path in made:
        os.replace(path, out / path.name)


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON to `path` all at once."""
    atomic_write(path, json.dumps(value, indent=2) + "\n")


def read_json(path: str | Path) -> Any:
    """Read the JSON file at `path`.

    Raises:
        InputError: the file is missing, unreadable, not UTF-8 or not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON ({error}); it may be cut short: write it again") from error


def _umask() -> int:
    """The process's file-creation mask; libraries may ignore it, and files meant for sharing must not."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold `folder` for this process; a process that dies, even by SIGKILL, lets go of it.

    Raises:
        InputError: another process holds it, or the folder is missing or cannot be written to.
    """
    with claimed(folder) as ours:
        if not ours:
            raise InputError(f"another process is writing to {folder}; wait for it or choose another folder")
        yield


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[bool]:
    """Hold `folder` as `locked` does if nobody else does; yields whether it is ours now.

    Raises:
        InputError: the folder is missing or cannot be written to.
    """
    lock = folder / ".lock"
    while True:
        try:
            handle = open(lock, "w")  # noqa: SIM115 (closed below)
        except OSError as error:
            raise InputError(f"cannot write to {folder}: {error.strerror}; choose another folder") from error
        with handle:
            try:
                lock_handle(handle.fileno())
            except BlockingIOError:
                yield False
                return
            if _is_still(handle.fileno(), lock):
                yield True
                return


@contextlib.contextmanager
def alone(path: Path, doing: str) -> Iterator[None]:
    """Keep other processes from making `path`, by a lock file beside it that goes when the block ends.

    Args:
        doing: what another process would be told of it, such as "being built".

    Raises:
        InputError: another process holds it.
        OSError: the folder is missing or cannot be written to.
    """
    lock = path.with_name(f".{path.name}.lock")
    while True:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            lock_handle(handle)
        except BlockingIOError as error:
            os.close(handle)
            raise InputError(f"{path} is {doing} by another process; wait for it, or choose another folder") from error
        if _is_still(handle, lock):
            break
        os.close(handle)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows does not remove a file that is open
            lock.unlink()
        os.close(handle)


def _is_still(handle: int, lock: Path) -> bool:
    """Whether an open file is what lies at `lock`: its last holder may have removed it before we locked it."""
    try:
        return os.fstat(handle).st_ino == os.stat(lock).st_ino
    except FileNotFoundError:
        return False


if sys.platform == "win32":
    import msvcrt

    def lock_handle(handle: int) -> None:
        """Take an exclusive lock on an open file that ends with the process, or raise BlockingIOError."""
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except PermissionError as error:
            raise BlockingIOError from error

else:
    import fcntl

    def lock_handle(handle: int) -> None:
        """Take an exclusive lock on an open file that ends with the process, or raise BlockingIOError."""
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:
            # Some cluster file systems have no locks; writing without one beats not writing.
            pass


def sweep(path: Path) -> None:
    """Remove what `atomic_write` left of `path` when its process was killed; for one who holds the folder."""
    for temporary in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        if "." not in temporary.name.removeprefix(f".{path.name}.").removesuffix(".tmp"):  # not of NAME.else
            shutil.rmtree(temporary, ignore_errors=True)
