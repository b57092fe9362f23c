"""From any form of model to any other, with the density and what the sparse form saves."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparse_circuits import checkpoint
from sparse_circuits.card.measure import matrices
from sparse_circuits.errors import InputError
from sparse_circuits.formats.registry import Format, get_format, recognise
from sparse_circuits.formats.tokenizers import fitting, read_tokenizer
from sparse_circuits.model import GPT


@dataclass(frozen=True)
class Converted:
    """What `convert` did."""

    source: Path
    out: Path
    source_format: str
    format: str
    parameters: int
    nonzeros: int
    """Of the matrices that `card.measure.matrices` counts."""
    entries: int
    """The same, with the zeros."""
    source_bytes: int
    bytes: int
    notes: list[str]

    def described(self) -> dict[str, Any]:
        """The same as JSON."""
        return {
            "source": str(self.source),
            "out": str(self.out),
            "from": self.source_format,
            "to": self.format,
            "parameters": self.parameters,
            "density": self.nonzeros / self.entries,
            "source_bytes": self.source_bytes,
            "bytes": self.bytes,
            "notes": self.notes,
        }

    def lines(self) -> list[str]:
        """The same for people."""
        saved = self.source_bytes - self.bytes
        change = f"{_size(saved)} saved" if saved >= 0 else f"{_size(-saved)} more"
        return [
            f"wrote {self.out}: {self.source_format} -> {self.format}, {self.parameters:,} parameters",
            f"density {self.nonzeros / self.entries:.5f}: {self.nonzeros:,} of {self.entries:,} matrix entries "
            "(bigram table and sinusoids not counted)",
            f"{_size(self.source_bytes)} -> {_size(self.bytes)} ({change})",
            *(f"note: {note}" for note in self.notes),
        ]


def convert(source: Path, to: str, out: Path, tokenizer: Path | None = None) -> Converted:
    """Read the model at `source`, whatever its form, and write it to the folder `out` in the form `to`.

    Args:
        tokenizer: folder or file of a tokenizer to give it, instead of its own if it has one.

    Raises:
        InputError: no such form, nothing to read, `out` is where the source is, or the form cannot hold the model.
    """
    target = get_format(to, "model")
    folder = checkpoint.locate(source)
    found = recognise(folder, "model")
    if out.exists() and folder.exists() and out.resolve() == folder.resolve():
        raise InputError(f"{out} is the model to read; choose another folder for the one to write")
    check_place(out, target)
    model = checkpoint.load(source)
    if tokenizer is not None:
        model.tokenizer = fitting(read_tokenizer(tokenizer), model.config.vocab_size, tokenizer)
    before = _bytes(folder)  # some forms write beside what they read
    notes = target.module.write(model, out)
    nonzeros, entries = _density(model)
    return Converted(
        folder,
        out,
        "native" if found is None else found.name,
        target.name,
        sum(tensor.numel() for tensor in model.state_dict().values()),
        nonzeros,
        entries,
        before,
        _bytes(out),
        notes,
    )


def check_place(out: Path, target: Format) -> None:
    """Refuse to write a model where it would destroy another one, or lie hidden behind it.

    Raises:
        InputError: a model of another form, or one that was trained, is in `out`.
    """
    found = recognise(out, "model")
    if found is not None and found is not target:
        raise InputError(f"{out} holds a model of the form {found.name}; choose another folder")
    if (out / "train.json").exists():
        raise InputError(f"{out} holds a model that was trained there; choose another folder")


def _density(model: GPT) -> tuple[int, int]:
    """Nonzeros and entries of the matrices, those shared counted once, the bigram table and sinusoids not."""
    counted = matrices(model)
    return sum(each["nonzeros"] for each in counted), sum(each["rows"] * each["columns"] for each in counted)


def _bytes(folder: Path) -> int:
    """What the files directly in `folder` take."""
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())


def _size(count: int) -> str:
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count} bytes"
