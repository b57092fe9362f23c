"""`sparse-circuits export`: a model or a circuit in another program's form."""

import json
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from sparse_circuits.errors import InputError


@dataclass(frozen=True)
class Command:
    """Write a model (`--model`) or a circuit (`--circuit`) in another program's form."""

    format: Positional[str]
    """What to write; a wrong name lists the choices."""
    out: Path
    """Folder or file to write."""
    model: Path | None = None
    """Model folder of any kind, or the name of a model that ships."""
    circuit: Path | None = None
    """Circuit folder, as `prune` writes it."""
    json: bool = False
    """Print what was written as JSON."""


def run(command: Command) -> None:
    """Read, write, say what there is to know."""
    from sparse_circuits import checkpoint
    from sparse_circuits.formats.registry import get_format

    chosen = get_format(command.format)
    if chosen.holds == "model":
        if command.model is None or command.circuit is not None:
            raise InputError(f"{chosen.name} is a form of models; give the model with --model")
        notes = chosen.module.write(checkpoint.load(command.model), command.out)
    else:
        from sparse_circuits.circuits.circuit import Circuit

        if command.circuit is None:
            raise InputError(f"{chosen.name} is a form of circuits; give the circuit with --circuit")
        model = None if command.model is None else checkpoint.load(command.model)
        notes = chosen.module.write(Circuit.load(command.circuit, model), command.out)
    if command.json:
        print(json.dumps({"format": chosen.name, "out": str(command.out), "notes": notes}, indent=2))
        return
    print(f"wrote {command.out}")
    for note in notes:
        print(f"note: {note}")
