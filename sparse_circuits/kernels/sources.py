"""Which sources compiled kernels are made of, as they were when this process began to import them.

`kernels` imports this before any module that kernels or their jobs depend on, so that a file changed later is told
from what the process runs.
"""

import hashlib
from pathlib import Path

FOLDER = Path(__file__).parent


def digest() -> str | None:
    """Of the sources on disk: a change in one module changes others that it is inlined into. None without sources."""
    found = hashlib.sha256()
    try:
        paths = sorted(FOLDER.glob("*.py"))
        for path in paths:
            found.update(f"{path.name} ".encode() + hashlib.sha256(path.read_bytes()).digest())
    except OSError:
        return None
    return found.hexdigest() if paths else None


IMPORTED = digest()
