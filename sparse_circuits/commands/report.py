"""`sparse-circuits report`: how far a circuit can be trusted, as a table, as data and as a page."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tyro.conf import Positional

from sparse_circuits.circuits.config import PruneConfig
from sparse_circuits.errors import InputError

if TYPE_CHECKING:
    from sparse_circuits.circuits.circuit import Circuit


@dataclass(frozen=True)
class Command:
    """Judge a circuit by nine points: losses, other ablations, necessity, controls, seeds, agreement, and more."""

    circuit: Positional[Path]
    """A circuit folder as `prune` writes it, MODEL/TASK for one that ships, or a .json file of somebody else's nodes,
    {"0.attn.q": [3, 17], ...}."""
    full: bool = False
    """Also prune with other seeds and run the controls that learn masks: some five times as long as pruning."""
    html: Path | None = None
    """Write the page there too; it is always written beside a circuit folder's circuit, as report.html."""
    model: Path | None = None
    """Model folder, or the name of a model that ships; needed for a .json file."""
    task: str | None = None
    """A task's name, or a file with one of your own; needed for a .json file, and for a circuit of a task of your
    own."""
    corpus: Path | None = None
    """Packed corpus for the ablation means of a .json file's model; the one it was trained on if not given."""
    seed: int = 0
    """Of random sets, of resampling and of the bootstrap."""
    target_loss: float | None = None
    """What the nodes of a .json file are judged by, in nats; 0.15 if not given. A circuit folder has its own."""
    ablation: Literal["mean", "zero"] | None = None
    """What removed nodes are held at, for a .json file; their means if not given. A circuit folder has its own."""
    json: bool = False
    """Print the card as JSON."""


def run(command: Command) -> None:
    """Measure, save beside the circuit, print."""
    from sparse_circuits import checkpoint, shipped
    from sparse_circuits.circuits.report.build import known, report
    from sparse_circuits.circuits.report.table import print_card
    from sparse_circuits.files import locked

    folder = shipped.locate_circuit(command.circuit) if command.circuit.suffix != ".json" else None
    if command.html is not None and not command.html.absolute().parent.is_dir():
        raise InputError(f"--html is {command.html}, in a folder that does not exist; choose another")
    circuit = _circuit(command, folder)
    card = report(circuit, full=command.full, seed=command.seed, progress=True)
    if folder is not None:
        before = known(circuit, folder)
        folder = shipped.writable(folder)
        before = known(circuit, folder) or before
        if command.full or before is None or not before.about.get("full"):  # what took long is not replaced by less
            checkpoint.make_folder(folder)
            with locked(folder):
                card.save(folder)
    if command.html is not None:
        card.write_html(command.html)
    if command.json:
        print(json.dumps(card.to_json(), indent=2))
        return
    print_card(card)
    for path in [*([folder / "report.html"] if folder is not None else []), *([command.html] if command.html else [])]:
        print(f"page: {path}")


def _circuit(command: Command, folder: Path | None) -> "Circuit":
    from sparse_circuits import checkpoint
    from sparse_circuits.circuits.circuit import Circuit
    from sparse_circuits.circuits.report.nodeset import circuit_of
    from sparse_circuits.tasks import get_task

    task = None if command.task is None else get_task(command.task)
    model = None if command.model is None else checkpoint.load(command.model)
    settings = {"target_loss": command.target_loss, "ablation": command.ablation}
    given = {name: value for name, value in settings.items() if value is not None}
    if folder is not None:
        if given or command.corpus is not None:
            name = next(iter(given), "corpus").replace("_", "-")
            raise InputError(f"--{name} is for a .json file of nodes; {folder} holds a circuit, which has its own")
        return Circuit.load(folder, model, task)
    if model is None or task is None:
        raise InputError(f"{command.circuit} holds nodes only: say of which --model, and for which --task")
    config = replace(PruneConfig(), **given)  # type: ignore[arg-type]
    return circuit_of(command.circuit, model, task, config, command.corpus, progress=True)
