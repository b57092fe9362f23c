"""`sparse-circuits demo`: to a circuit in one go, from a model that ships or all the way from Python source.

What is already made is used again.
"""

import json
import shutil
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sparse_circuits import presets
from sparse_circuits.circuits.config import PruneConfig

if TYPE_CHECKING:
    from sparse_circuits.circuits.circuit import Circuit
    from sparse_circuits.circuits.report import Card
    from sparse_circuits.model import GPT
    from sparse_circuits.tasks import Task


@dataclass(frozen=True)
class Command:
    """Prune the circuit of one task and print it, in the model that ships or, with --train, in one made here."""

    out: Path = Path("runs/demo")
    """Folder for corpus, model and circuit. A step whose result is there is skipped, an interrupted one continued."""
    task: str = "single_double_quote"
    """Which behaviour to look for: a task's name, or a .jsonl or .py file with one of your own."""
    train: bool = False
    """Go the whole way: pack a corpus, train a small sparse model on it, prune that one. So it is in any case where no
    model ships."""
    target_loss: float | None = None
    """The circuit is the smallest found whose task loss in nats is at most this (0.15 if not given, 0.1 with --train);
    the model's own loss must be below it, see `sparse-circuits tasks --model`."""
    report: bool = True
    """Judge the circuit by the quick report card, printed under its table and saved beside it."""
    json: bool = False
    """Print the circuit as JSON."""


def run(command: Command) -> None:
    """Do what is not done yet, and print the circuit."""
    from sparse_circuits import checkpoint, shipped
    from sparse_circuits.circuits.report.table import print_card
    from sparse_circuits.circuits.table import print_circuit
    from sparse_circuits.tasks import get_task

    started = time.monotonic()
    task = get_task(command.task)  # before minutes are spent on a model for a task that is not there
    if not command.train and presets.DEMO_MODEL in shipped.names():
        model = checkpoint.load(shipped.FOLDER / presets.DEMO_MODEL)
        name, circuits, step, config = presets.DEMO_MODEL, command.out / "circuits", "", presets.shipped_prune()
    else:
        _make_corpus(command.out / "corpus")
        model = _make_model(command.out / "corpus", command.out / "model")
        name, circuits, step = str(model.folder), command.out / "model" / "circuits", "3/3 "
        config = presets.demo_prune()
    if command.target_loss is not None:
        config = replace(config, target_loss=command.target_loss)
    circuit = _make_circuit(model, task, circuits / task.name, config, step)
    card = _make_card(circuit, circuits / task.name) if command.report else None
    if command.json:
        print(json.dumps(circuit.description(), indent=2))
        return
    print_circuit(circuit)
    if card is not None:
        print_card(card, sentences=False)
    seconds = time.monotonic() - started
    print(f"done in {seconds:.0f} s; the circuit is in {circuits / task.name}, the model in {name}")
    program = "sparse-circuits" if shutil.which("sparse-circuits") else f"{sys.executable} -m sparse_circuits"
    print(f"see it: {program} view {circuits / task.name}")
    print(f"next: {program} generate --model {name} --prompt 'def total('")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _make_corpus(folder: Path) -> None:
    from sparse_circuits.corpus.build import build_corpus

    if (folder / "manifest.json").exists():
        return
    _say("1/3 corpus: generating simple Python programs")
    build_corpus(presets.demo_corpus(folder), progress=True)


def _make_model(corpus: Path, folder: Path) -> "GPT":
    from sparse_circuits import checkpoint
    from sparse_circuits.train import train

    if (folder / "config.json").exists():
        return checkpoint.load(folder)
    _say("2/3 training a sparse transformer (Ctrl-C is safe: run again to continue)")
    try:
        return train(presets.demo_train(corpus, folder), resume=(folder / "train.json").exists())
    except KeyboardInterrupt:
        _say("run the demo again to continue")
        raise


def _make_circuit(model: "GPT", task: "Task", folder: Path, config: PruneConfig, step: str = "") -> "Circuit":
    from sparse_circuits import checkpoint
    from sparse_circuits.circuits.circuit import Circuit
    from sparse_circuits.circuits.prune import prune
    from sparse_circuits.errors import InputError

    if (folder / "circuit.json").exists():
        try:
            known = Circuit.load(folder, model, task)
            if known.config.target_loss == config.target_loss:
                return known
        except InputError as error:  # of a model that shipped before, or of pairs as they were
            _say(f"a circuit that is there is not used: {error}")
    _say(f"{step}pruning the circuit of {task.name}")
    with checkpoint.working_in(folder):
        circuit = prune(model, task, config=config, progress=True)
        circuit.save(folder)
    return circuit


def _make_card(circuit: "Circuit", folder: Path) -> "Card":
    from sparse_circuits.circuits.report.build import known, report

    card = known(circuit, folder)
    if card is None:
        card = report(circuit, progress=True)
        card.save(folder)
    return card
