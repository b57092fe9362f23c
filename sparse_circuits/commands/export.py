"""`sparse-circuits export`: a model, its tokenizer or a circuit in another program's form."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tyro.conf import Positional

from sparse_circuits.errors import InputError

if TYPE_CHECKING:
    from sparse_circuits.formats.registry import Format


@dataclass(frozen=True)
class Command:
    """Write a model or its tokenizer (`--model`), or a circuit (`--circuit`), in another program's form."""

    format: Positional[str]
    """What to write; `list` shows the choices."""
    out: Path = Path("export")
    """Folder or file to write."""
    model: Path | None = None
    """Model folder of any kind, or the name of a model that ships."""
    circuit: Path | None = None
    """Circuit folder, as `prune` writes it, or MODEL/TASK for one that ships."""
    task: str | None = None
    """The circuit's task, where it is one of your own: its .jsonl or .py file."""
    corpus: Path | None = None
    """Of viz: packed corpus for the pieces of text on which nodes are low or high; by default the model's own."""
    json: bool = False
    """Print what was written as JSON."""


def run(command: Command) -> None:
    """Read, write, say what there is to know."""
    from sparse_circuits.formats.registry import FORMATS, get_format

    if command.format == "list":
        print("\n".join(f"{each.name:16}{each.holds:10}{each.summary}" for each in FORMATS.values()))
        return
    chosen = get_format(command.format)
    notes = _write_circuit(command, chosen) if chosen.holds == "circuit" else _write_model(command, chosen)
    if command.json:
        print(json.dumps({"format": chosen.name, "out": str(command.out), "notes": notes}, indent=2))
        return
    print(f"wrote {command.out}")
    for note in notes:
        print(f"note: {note}")


def _write_model(command: Command, chosen: "Format") -> list[str]:
    from sparse_circuits import checkpoint
    from sparse_circuits.formats.convert import check_place

    if command.model is None or command.circuit is not None:
        raise InputError(f"{chosen.name} is a form of {chosen.holds}s; give the model with --model")
    if chosen.holds == "model":
        check_place(command.out, chosen)
    model = checkpoint.load(command.model)
    if chosen.holds == "model":
        return list(chosen.module.write(model, command.out))
    if model.tokenizer is None:
        raise InputError(f"{command.model} has no tokenizer to write")
    checkpoint.make_folder(command.out if command.out.suffix == "" else command.out.parent)
    return list(chosen.module.write(model.tokenizer, command.out))


def _write_circuit(command: Command, chosen: "Format") -> list[str]:
    from sparse_circuits import checkpoint
    from sparse_circuits.circuits.circuit import Circuit
    from sparse_circuits.tasks import get_task

    if command.circuit is None:
        raise InputError(f"{chosen.name} is a form of circuits; give the circuit with --circuit")
    if command.corpus is not None and chosen.name != "viz":
        raise InputError(f"--corpus is for viz; {chosen.name} holds no text")
    model = None if command.model is None else checkpoint.load(command.model)
    task = None if command.task is None else get_task(command.task)
    circuit = Circuit.load(command.circuit, model, task)
    more = {}
    if command.corpus is not None:
        from sparse_circuits.corpus.packed import PackedCorpus

        more["corpus"] = PackedCorpus.load(command.corpus, circuit.model.tokenizer)
    return list(chosen.module.write(circuit, command.out, **more))
