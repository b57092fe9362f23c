"""Building a folder so that others see all of it or nothing.

1. A lock file beside the folder keeps a second builder out; a killed builder's lock goes with its process.
2. Everything is written in `.<name>.tmp` beside it; what a killed builder left there is swept away first.
3. At the end the temporary folder is renamed. A folder that is replaced is first renamed to `.<name>.old`;
   if the process is killed between these two renames, the next builder puts it back.
"""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from sparse_circuits.errors import InputError
from sparse_circuits.files import alone


@contextlib.contextmanager
def staged_folder(out: Path, overwrite: bool, sign: str) -> Iterator[Path]:
    """An empty temporary folder that becomes `out` if the block ends well, and vanishes if it does not.

    Args:
        out: what it will be called; missing parents are made.
        overwrite: whether an earlier folder of this kind may be replaced.
        sign: the file that marks a folder as of this kind; a folder without it is never replaced.

    Raises:
        InputError: `out` exists and may not be replaced; another process is building it; the disk refused.
    """
    out = Path(out).resolve()
    if not out.name:
        raise InputError(f"{out} is the root of the disk; choose another folder")
    temporary, old = out.with_name(f".{out.name}.tmp"), out.with_name(f".{out.name}.old")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with alone(out, "being built"):
            if old.exists() and not out.exists():
                old.rename(out)
            _check_replaceable(out, overwrite, sign)
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()
            try:
                yield temporary
                shutil.rmtree(old, ignore_errors=True)
                if out.exists():
                    out.rename(old)
                temporary.rename(out)
                shutil.rmtree(old, ignore_errors=True)
            finally:
                if old.exists() and not out.exists():
                    old.rename(out)
                shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        reason = error.strerror or str(error)
        reason += f" ({error.filename})" if error.filename else ""
        raise InputError(f"cannot write {out}: {reason}; free space or choose another folder") from error


def _check_replaceable(out: Path, overwrite: bool, sign: str) -> None:
    if not out.exists():
        return
    if not out.is_dir():
        raise InputError(f"{out} is a file; choose another folder")
    if (out / sign).exists():
        if not overwrite:
            raise InputError(f"{out} exists already; choose another folder, or allow it with --overwrite")
    elif any(out.iterdir()):
        raise InputError(f"{out} holds other files (no {sign} among them); choose another folder")
