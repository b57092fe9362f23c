"""Our own model folder as a format among the others; all it does is in `checkpoint`."""

from pathlib import Path

from sparse_circuits import checkpoint
from sparse_circuits.files import written_together
from sparse_circuits.model import GPT

BESIDE = ("tokenizer.json", "means.safetensors", "card.json", "card.md")
"""What may lie beside a model and belongs to that one."""


def read(folder: Path) -> GPT:
    """The model in `folder`."""
    return checkpoint.load(folder)


def write(model: GPT, out: Path) -> list[str]:
    """Write `model` to the folder `out`."""
    with written_together(out, "config.json", stale=BESIDE) as folder:
        checkpoint.save(model, folder)
    model.folder = out
    return []
