"""`sparse-circuits prune`: a model and a task in, a circuit folder and a readable table out."""

import dataclasses
import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sparse_circuits.circuits.config import PruneConfig, ScoreConfig
from sparse_circuits.errors import InputError


@dataclass(frozen=True)
class Command:
    """Find the circuit of a task in a model."""

    model: Path
    """Model folder, or the name of a model that ships (`sparse-circuits models`)."""
    task: str
    """A task's name, or a .jsonl or .py file with one of your own."""
    out: Path | None = None
    """Folder for the circuit; circuits/<task> in the model folder if not given, in runs/<name> for a model that
    ships; with a method other than learned, circuits/<task>-<method>."""
    corpus: Path | None = None
    """Packed corpus for the ablation means; the one the model was trained on if not given."""
    method: Literal["learned", "attribution", "integrated", "patching", "magnitude", "random"] = "learned"
    """Rank nodes by learned masks, or by one of the baselines that these are compared with."""
    config: PruneConfig = dataclasses.field(default_factory=PruneConfig)
    scoring: ScoreConfig = dataclasses.field(default_factory=ScoreConfig)
    settings: Path | None = None
    """Settings of pruning as a JSON file, as `tune` writes them; flags change them."""
    report: bool = True
    """Judge the circuit by the quick report card, printed under its table and saved beside it (report.json and
    report.html)."""
    json: bool = False
    """Print the circuit as JSON."""


def run(command: Command) -> None:
    """Prune, save and print the circuit."""
    from sparse_circuits import checkpoint, shipped
    from sparse_circuits.circuits.attribution import baseline
    from sparse_circuits.circuits.prune import prune
    from sparse_circuits.circuits.report import report
    from sparse_circuits.circuits.report.table import print_card
    from sparse_circuits.circuits.table import print_circuit
    from sparse_circuits.tasks import TASKS, get_task

    task = get_task(command.task)
    model = checkpoint.load(command.model)
    assert model.folder is not None
    name = task.name if command.method == "learned" else f"{task.name}-{command.method}"
    out = command.out or shipped.writable(model.folder) / "circuits" / name
    with checkpoint.working_in(out):  # a folder that cannot be written to is told now, not after minutes of pruning
        if model.tokenizer is None:
            raise InputError(f"{model.folder} has no tokenizer.json, and the task is text")
        if command.method == "learned":
            circuit = prune(model, task, config=command.config, text=command.corpus, progress=True)
        else:
            circuit = baseline(
                model,
                task,
                command.method,
                config=command.config,
                scoring=command.scoring,
                text=command.corpus,
                progress=True,
            )
        circuit.save(out)
        card = report(circuit, progress=True) if command.report else None
        if card is not None:
            card.save(out)
    if command.json:
        print(json.dumps(circuit.description(), indent=2))
        return
    print_circuit(circuit)
    if card is not None:
        print_card(card, sentences=False)
    print(f"saved to {out}")
    own = ["--task", command.task] if task.name not in TASKS else []
    print(f"see it: {shlex.join(['sparse-circuits', 'view', str(out), *own])}")
