"""Our own model folder as a format among the others; all it does is in `checkpoint`."""

from pathlib import Path

from sparse_circuits import checkpoint
from sparse_circuits.model import GPT


def read(folder: Path) -> GPT:
    """The model in `folder`."""
    return checkpoint.load(folder)


def write(model: GPT, out: Path) -> list[str]:
    """Write `model` to the folder `out`."""
    checkpoint.save(model, out)
    return []
