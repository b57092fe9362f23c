"""`sparse-circuits experiment`: what a set of nodes does, one subcommand an experiment."""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from sparse_circuits.circuits.config import BinariseConfig, PruneConfig
from sparse_circuits.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from sparse_circuits.circuits.circuit import Circuit


@dataclass(frozen=True)
class Subject:
    """Which nodes of which model, under which task: a circuit folder, or --model, --task and --nodes."""

    circuit: Path | None = None
    """A circuit folder, or MODEL/TASK for one that ships; --nodes and --task, if given, replace its own."""
    model: Path | None = None
    """Model folder, or the name of a model that ships; a circuit knows its own."""
    task: str | None = None
    """A task's name, or a .jsonl or .py file with one of your own."""
    nodes: tuple[str, ...] = ()
    """Sets of nodes, all taken together: site:channels as in 3.mlp.post_act:17,204 (or 4-7, or *; sites may be
    patterns), JSON files of channels by site, circuit folders."""
    corpus: Path | None = None
    """Packed corpus for ablation means and text; the one the model was trained on if not given."""
    ablation: Literal["mean", "zero", "resample"] | None = None
    """What a removed node becomes; as the circuit was pruned, or mean, if not given."""
    pairs: int | None = None
    """Pairs to measure on; as many as the circuit was pruned with, or 128, if not given."""

    def load(self) -> "Circuit":
        """The circuit described."""
        from sparse_circuits import checkpoint
        from sparse_circuits.circuits.circuit import Circuit, own_task
        from sparse_circuits.circuits.means import means_for
        from sparse_circuits.circuits.node_sets import read_nodes
        from sparse_circuits.inference import fastest
        from sparse_circuits.tasks import get_task

        task = None if self.task is None else get_task(self.task)
        model = None if self.model is None else checkpoint.load(self.model)
        if self.circuit is not None:
            circuit = Circuit.load(self.circuit, model, own_task(self.circuit, task))
        else:
            if model is None or task is None or not self.nodes:
                raise InputError("which nodes? give --circuit FOLDER, or --model, --task and --nodes together")
            if model.tokenizer is None:
                raise InputError(f"{self.model} has no tokenizer.json, and the task is text")
            means = means_for(fastest(model), self.corpus, PruneConfig().mean_tokens, progress=True)
            circuit = Circuit(model, task, {}, means)
        changes: dict[str, Any] = {}
        if self.nodes:
            changes |= {"nodes": read_nodes(circuit.space, self.nodes), "dropped": ()}
        if task is not None:
            changes["task"] = task
        return dataclasses.replace(circuit, config=self._config(circuit.config), calibration=None, **changes)

    def _config(self, config: PruneConfig) -> PruneConfig:
        changes: dict[str, Any] = {"ablation": self.ablation, "eval_pairs": self.pairs}
        return dataclasses.replace(config, **{name: value for name, value in changes.items() if value is not None})


@dataclass(frozen=True)
class Losses:
    """Keep the set alone, or remove it: the task loss of each, beside that of the model and of no nodes at all."""

    subject: Subject = field(default_factory=Subject)
    split: str = "report"
    """Which split's pairs."""

    def measure(self, circuit: "Circuit") -> "tuple[Any, Table | list[Table]]":
        from sparse_circuits.circuits import experiment_tables, experiments

        found = experiments.losses(circuit, self.split)
        return found, experiment_tables.losses_table(repr(circuit), found)


@dataclass(frozen=True)
class Inverse:
    """Inverse pruning: remove the set, keep the rest; beside random sets of as many nodes of each site."""

    subject: Subject = field(default_factory=Subject)
    split: str = "report"
    """Which split's pairs."""
    samples: int = 32
    """Random sets to compare with."""
    seed: int = 0
    """Seeds them."""

    def measure(self, circuit: "Circuit") -> "tuple[Any, Table | list[Table]]":
        from sparse_circuits.circuits import experiment_tables, experiments

        found = experiments.inverse(circuit, self.split, self.samples, self.seed, progress=True)
        return found, experiment_tables.inverse_table(repr(circuit), found)


@dataclass(frozen=True)
class Exchange:
    """Activation patching between the two sides of pairs: how far do the answers move?"""

    subject: Subject = field(default_factory=Subject)
    split: str = "report"
    """Which split's pairs."""
    within: Literal["model", "circuit"] = "model"
    """Patch in the whole model, or with all other nodes removed."""
    samples: int = 8
    """Random sets to compare with."""
    seed: int = 0
    """Seeds them."""

    def measure(self, circuit: "Circuit") -> "tuple[Any, Table | list[Table]]":
        from sparse_circuits.circuits import experiment_tables
        from sparse_circuits.circuits.exchange import exchange

        found = exchange(circuit, self.split, self.within, self.samples, self.seed, progress=True)
        return found, experiment_tables.exchange_table(repr(circuit), found)


@dataclass(frozen=True)
class Binarise:
    """Replace each node by two levels, low and high, and see what is lost."""

    subject: Subject = field(default_factory=Subject)
    config: BinariseConfig = field(default_factory=BinariseConfig)

    def measure(self, circuit: "Circuit") -> "tuple[Any, Table | list[Table]]":
        from sparse_circuits.circuits import experiment_tables
        from sparse_circuits.circuits.binarise import binarise

        found = binarise(circuit, self.config, progress=True)
        return found, experiment_tables.binarised_tables(repr(circuit), found)


@dataclass(frozen=True)
class Edges:
    """Count the weights between the set and all other nodes, both ways."""

    subject: Subject = field(default_factory=Subject)

    def measure(self, circuit: "Circuit") -> "tuple[Any, Table | list[Table]]":
        from sparse_circuits.circuits import experiment_tables, experiments

        found = experiments.outside_edges(circuit)
        return found, experiment_tables.edges_table(repr(circuit), found)


@dataclass(frozen=True)
class Text:
    """What keeping only the set, and removing it, costs on held-out pretraining text."""

    subject: Subject = field(default_factory=Subject)
    max_tokens: int = 65_536
    """Held-out tokens to predict, as far as there are so many."""

    def measure(self, circuit: "Circuit") -> "tuple[Any, Table | list[Table]]":
        from sparse_circuits.circuits import experiment_tables, experiments

        found = experiments.text_cost(circuit, self.subject.corpus, self.max_tokens, progress=True)
        return found, experiment_tables.text_table(repr(circuit), found)


@dataclass(frozen=True)
class Tasks:
    """The same nodes under other tasks."""

    subject: Subject = field(default_factory=Subject)
    tasks: tuple[str, ...] = ()
    """Tasks by name or file; all twenty if not given."""
    split: str = "report"
    """Which split's pairs."""

    def measure(self, circuit: "Circuit") -> "tuple[Any, Table | list[Table]]":
        from sparse_circuits.circuits import experiment_tables, experiments
        from sparse_circuits.tasks import get_task

        chosen = [get_task(name) for name in self.tasks] or None
        found = experiments.under_tasks(circuit, chosen, self.split, progress=True)
        return found, experiment_tables.tasks_table(repr(circuit), found)


@dataclass(frozen=True)
class Overlap:
    """Which nodes circuits of one model share."""

    circuits: tuple[Path, ...]
    """Two or more circuit folders."""


@dataclass(frozen=True)
class Command:
    """Experiment with a circuit, or with any nodes of your own choice."""

    experiment: tyro.conf.OmitSubcommandPrefixes[
        Losses | Inverse | Exchange | Binarise | Edges | Text | Tasks | Overlap
    ]
    json: bool = False
    """Print as JSON."""


def run(command: Command) -> None:
    """Do the experiment and print what was found."""
    from sparse_circuits.circuits.experiment_tables import plain, show

    chosen = command.experiment
    tables: Table | list[Table]
    if isinstance(chosen, Overlap):
        found, tables = _overlap(chosen)
    else:
        found, tables = chosen.measure(chosen.subject.load())
    if command.json:
        print(json.dumps(plain(found), indent=2))
    else:
        show(tables)


def _overlap(command: Overlap) -> "tuple[Any, list[Table]]":
    """Overlap of every two circuits; their model is loaded for its shape alone."""
    import itertools

    from sparse_circuits import checkpoint
    from sparse_circuits.circuits.experiment_tables import overlap_tables
    from sparse_circuits.circuits.node_sets import overlap, read_nodes
    from sparse_circuits.circuits.nodes import NodeSpace

    if len(command.circuits) < 2:
        raise InputError("one circuit shares nodes with itself only; give --circuits two or more folders")
    models = {str(folder): _described(folder, "model") for folder in command.circuits}
    if len({model["hash"] for model in models.values()}) > 1:
        raise InputError("the circuits are of different models, whose nodes have nothing in common but numbers")
    place = models[str(command.circuits[0])]["folder"]
    if place is None:
        raise InputError(
            f"{command.circuits[0]} does not say where its model is; save the model, and the circuit again"
        )
    space = NodeSpace(checkpoint.load(place).config)
    masks = [space.flat(read_nodes(space, str(folder))) for folder in command.circuits]
    pairs = list(itertools.combinations(range(len(masks)), 2))
    found = {pair: overlap(space, masks[pair[0]], masks[pair[1]]) for pair in pairs}
    names = list(models)
    listed = [{"first": names[i], "second": names[j], "sites": each} for (i, j), each in found.items()]
    return listed, overlap_tables(names, found)


def _described(folder: Path, what: str) -> Any:
    """One entry of a circuit's description."""
    from sparse_circuits import shipped
    from sparse_circuits.files import read_json

    path = shipped.circuit_file(folder)
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get(what), dict):
        raise InputError(f"{path} is damaged: it has no {what!r}; prune again")
    return content[what]
