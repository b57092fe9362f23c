"""`sparse-circuits steer`: the dense model moved by nodes of the sparse one, one subcommand a question."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from sparse_circuits.errors import InputError
from sparse_circuits.fields import require

if TYPE_CHECKING:
    from sparse_circuits.bridges.bridge import Bridge
    from sparse_circuits.circuits.circuit import Circuit
    from sparse_circuits.corpus.packed import PackedCorpus


@dataclass(frozen=True)
class Subject:
    """Which bridge, and which nodes of its sparse model."""

    bridge: Path
    """The folder that `sparse-circuits bridge` wrote, or the name of a shipped bridged model."""
    nodes: tuple[str, ...] = ()
    """Channels that sublayers of the sparse model read, as in 0.attn.act_in:17,204; several are moved together."""
    circuit: Path | None = None
    """The folder of a circuit of the sparse model, or MODEL/TASK for one that ships, instead of --nodes."""
    task: str | None = None
    """A task's name, or a .jsonl or .py file with one of your own; a circuit knows its own, but not your file."""
    corpus: Path | None = None
    """Packed corpus for what is measured on plain text; the one the sparse model was trained on if not given."""

    def load(self) -> "tuple[Bridge, Circuit | None]":
        """The bridge, and the circuit where one is given."""
        from sparse_circuits.bridges.bridge import Bridge
        from sparse_circuits.circuits.circuit import Circuit, own_task
        from sparse_circuits.tasks import get_task

        if bool(self.nodes) == (self.circuit is not None):
            raise InputError("which nodes? give --nodes 0.attn.act_in:17, or --circuit FOLDER")
        bridge = Bridge.load(self.bridge)
        if self.circuit is None:
            return bridge, None
        task = None if self.task is None else get_task(self.task)
        return bridge, Circuit.load(self.circuit, bridge.sparse, own_task(self.circuit, task))

    def asked(self, circuit: "Circuit | None") -> Any:
        """The task."""
        from sparse_circuits.tasks import get_task

        if self.task is None and circuit is None:
            raise InputError("which task? give --task single_double_quote, say")
        return circuit.task if self.task is None and circuit is not None else get_task(str(self.task))

    def text(self, bridge: "Bridge") -> "PackedCorpus":
        """Plain text."""
        from sparse_circuits.circuits.means import training_corpus
        from sparse_circuits.corpus.packed import PackedCorpus

        folder = self.corpus or training_corpus(bridge.sparse, "what steering does to text needs")
        return PackedCorpus.load(folder, bridge.sparse.tokenizer)


@dataclass(frozen=True)
class Curve:
    """How far the dense model's answers move with the strength, beside controls; and what else is moved."""

    subject: Subject
    strengths: tuple[float, ...] = (0.0, 0.05, 0.15, 0.5, 1.0, 1.5)
    """What the nodes' differences are multiplied by; 1 is the whole difference."""
    split: str = "report"
    """Which split's pairs."""
    pairs: int = 200
    """Pairs, as far as there are so many."""
    samples: int = 4
    """Draws of each control."""
    seed: int = 0
    """Seeds them."""
    side_effects: bool = True
    """Measure other tasks and plain text too, at strength 1."""
    text: bool = True
    """Whether plain text is measured among the side effects; it needs a corpus."""
    picture: Path | None = None
    """Where to draw the curves, a .svg file."""

    def measure(self) -> "tuple[Any, list[Any]]":
        from sparse_circuits.bridges.curves import best_nodes, steering_curves
        from sparse_circuits.bridges.pictures import steering_picture
        from sparse_circuits.bridges.side_effects import side_effects
        from sparse_circuits.bridges.tables import side_effect_tables, steered_table
        from sparse_circuits.circuits.node_sets import read_nodes
        from sparse_circuits.files import atomic_write

        _check_strengths(self.strengths)
        if self.picture is not None:
            require(self.picture.suffix == ".svg", f"--picture is {self.picture}; expected a file that ends in .svg")
        bridge, circuit = self.subject.load()
        task = self.subject.asked(circuit)
        ranked: list[tuple[tuple[str, int], float]] = []
        if circuit is None:
            nodes: Any = read_nodes(circuit_space(bridge), list(self.subject.nodes))
        else:
            every = [(site, channel) for site, channels in circuit.nodes.items() for channel in channels]
            ranked = best_nodes(bridge, task, every, progress=True)
            nodes = {ranked[0][0][0]: (ranked[0][0][1],)}
        found = steering_curves(
            bridge, task, nodes, self.strengths, self.split, self.pairs, self.samples, self.seed, progress=True
        )
        tables = [steered_table(found)]
        result: dict[str, Any] = {"curves": found, "ranked": ranked}
        if self.side_effects:
            text = self.subject.text(bridge) if self.text else None
            effects = side_effects(bridge, task, nodes, corpus=text, seed=self.seed, progress=True)
            result["side_effects"] = effects
            tables += side_effect_tables(effects)
        if self.picture is not None:
            atomic_write(self.picture, steering_picture(found))
        return result, tables


@dataclass(frozen=True)
class Ablate:
    """Take the directions that a circuit's nodes stand for out of the dense model: does its behaviour break?"""

    subject: Subject
    split: str = "report"
    """Which split's pairs."""
    pairs: int = 64
    """Pairs of each task."""
    samples: int = 4
    """Draws of random directions to compare with."""
    seed: int = 0
    """Seeds them."""
    directions: Path | None = None
    """Where to write the directions, a .safetensors file: one matrix [nodes, channels] a read."""

    def measure(self) -> "tuple[Any, list[Any]]":
        from sparse_circuits.bridges.ablations import ablate_circuit, circuit_directions
        from sparse_circuits.bridges.tables import ablated_table
        from sparse_circuits.checkpoint import write_tensors
        from sparse_circuits.circuits.means import means_for
        from sparse_circuits.circuits.node_sets import read_nodes
        from sparse_circuits.inference import fastest

        bridge, circuit = self.subject.load()
        task = self.subject.asked(circuit)
        nodes = read_nodes(circuit_space(bridge), list(self.subject.nodes)) if circuit is None else circuit.nodes
        along = circuit_directions(bridge, nodes)
        if self.directions is not None:
            write_tensors(self.directions, along, {"nodes": json.dumps({s: list(nodes[s]) for s in along})})
        means = means_for(fastest(bridge.dense), self.subject.corpus, 65_536, progress=True)
        found = ablate_circuit(
            bridge, task, nodes, means, None, self.split, self.pairs, self.samples, self.seed, progress=True
        )
        return found, [ablated_table(found)]


@dataclass(frozen=True)
class Generate:
    """Continue a prompt with the dense model, plainly and steered."""

    subject: Subject
    prompt: str = ""
    """The text to continue."""
    change: Literal["add", "set", "scale"] = "add"
    """What happens to the nodes at every token: a number is added, they are set to it, or multiplied by it."""
    by: float = 1.0
    """That number, in units of what the sublayer reads."""
    strength: float = 1.0
    """How much of the change is made."""
    max_new_tokens: int = 64
    """Most tokens to add."""
    temperature: float = 0.0
    """0 takes the likeliest token."""
    seed: int = 0
    """Seeds the sampling, the same for both."""

    def measure(self) -> "tuple[Any, list[Any]]":
        from sparse_circuits.bridges.steering import Change

        _check_strengths((self.strength, self.by))
        bridge, circuit = self.subject.load()
        tokenizer = bridge.sparse.tokenizer
        if tokenizer is None:
            raise InputError("the models have no tokenizer, and the prompt is text")
        prompt = tokenizer.encode(self.prompt) or [tokenizer.end_of_text]
        nodes: Any = list(self.subject.nodes) if circuit is None else circuit.nodes
        steering = bridge.steer(nodes, Change(self.change, self.by), self.strength)
        settings: dict[str, Any] = {
            "max_new_tokens": self.max_new_tokens,
            "temperature": self.temperature,
            "seed": self.seed,
            "stop": [tokenizer.end_of_text],
        }
        plain = bridge.dense.generate([prompt], **settings)[0]
        with steering.on() as dense:
            steered = dense.generate([prompt], **settings)[0]
        texts = {"plain": tokenizer.decode(plain), "steered": tokenizer.decode(steered)}
        return texts, [f"--- {name}\n{text}" for name, text in texts.items()]


@dataclass(frozen=True)
class Command:
    """Steer a dense model through its bridge to a sparse one."""

    question: tyro.conf.OmitSubcommandPrefixes[Curve | Ablate | Generate]
    json: bool = False
    """Print as JSON."""


def run(command: Command) -> None:
    """Answer the question and print what was found."""
    from sparse_circuits.circuits.experiment_tables import plain, show

    found, shown = command.question.measure()
    if command.json:
        print(json.dumps(plain(found), indent=2))
    elif isinstance(command.question, Generate):
        print("\n".join(shown))
    else:
        show(shown)


def circuit_space(bridge: "Bridge") -> Any:
    """The sparse model's nodes."""
    from sparse_circuits.circuits.nodes import NodeSpace

    return NodeSpace(bridge.sparse.config)


def _check_strengths(values: tuple[float, ...]) -> None:
    for value in values:
        require(math.isfinite(value), f"{value} is no strength: expected a finite number")
