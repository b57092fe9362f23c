"""A circuit as a thing: it carries all that is needed to execute it again and get the same loss.

On disk it is a folder: `circuit.json` (readable: which model and task, kept nodes, scores, settings) and
`circuit.safetensors` (every node's mean with its standard error, its mask parameter, the calibration's shift).
"""

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxtyping import Float
from torch import Tensor

from sparse_circuits import checkpoint, shipped
from sparse_circuits.circuits import edges as graph
from sparse_circuits.circuits.ablation import Counterparts, held
from sparse_circuits.circuits.calibration import Calibration
from sparse_circuits.circuits.config import PruneConfig
from sparse_circuits.circuits.evaluator import Evaluator
from sparse_circuits.circuits.logits import final_scales, pairs_for
from sparse_circuits.circuits.logits import last_logits as last_logits
from sparse_circuits.circuits.means import FILE as MEANS_FILE
from sparse_circuits.circuits.means import Means, read_means
from sparse_circuits.circuits.nodes import NodeSpace, keep_only
from sparse_circuits.circuits.twin import Link, without
from sparse_circuits.errors import InputError
from sparse_circuits.fields import to_json
from sparse_circuits.files import changed_together, read_json, write_json
from sparse_circuits.inference import fastest
from sparse_circuits.model import GPT
from sparse_circuits.settings import recorded
from sparse_circuits.sites import Tap
from sparse_circuits.tasks import TASKS, Examples, Task, get_task, task_losses

if TYPE_CHECKING:
    from sparse_circuits.circuits.report import Card
    from sparse_circuits.viewer.show import Shown

FORMAT = 2


@dataclass
class Circuit:
    """The kept nodes of one task in one model, with everything that makes them executable.

    Made by `prune`, or from any choice of nodes by hand. Losses are in nats, means over both sides of all pairs.
    """

    model: GPT
    task: Task
    nodes: dict[str, tuple[int, ...]]
    """Kept channels by site, ascending."""
    means: Means
    """Of every node of the model."""
    config: PruneConfig = field(default_factory=PruneConfig)
    scores: Float[Tensor, "nodes"] | None = None
    """Every node's mask parameter after training, by which they were ranked."""
    calibration: Calibration | None = None
    found: dict[str, Any] = field(default_factory=dict)
    """What pruning recorded: sizes before and after cleaning, losses, seconds."""
    dropped: Sequence[Link] = ()
    """Edges between kept nodes that are left out, each (source, target): they carry what a removed source would."""

    def __post_init__(self) -> None:
        self.folder: Path | None = None
        """Where it was read from or written to."""
        self._full: tuple[tuple[tuple[int, int], ...], GPT] | None = None
        self._runner: GPT | None = None
        self.space = NodeSpace(self.model.config)
        self.kept = self.space.flat(self.nodes)
        self.nodes = self.space.by_site(self.kept)
        self.space.check("ablation means", self.means.values)
        self.space.check("standard errors", self.means.standard_error)
        if self.scores is not None:
            self.space.check("scores", self.scores)
        if self.calibration is not None:
            expected = () if self.task.loss == "two_token" else (self.model.config.vocab_size,)
            shift = self.calibration.shift
            if shift.shape != expected or not shift.is_floating_point() or not shift.isfinite().all():
                raise InputError(f"the calibration's shift is no finite tensor of shape {expected}")
        between = {(edge.source, edge.target) for edge in self.node_edges}
        for link in self.dropped:
            if link not in between:
                raise InputError(f"{_arrow(link)} is no edge between kept nodes, so it cannot be left out")
        self.dropped = tuple(sorted(self.dropped))

    def __repr__(self) -> str:
        return f"Circuit({self.task.name}: {self.size} nodes, {len(self.edges)} edges)"

    @property
    def held(self) -> Float[Tensor, "nodes"]:
        """What removed nodes are held at, and dropped edges take their sources to be (when resampling, the means)."""
        return held(self.means, "zero" if self.config.ablation == "zero" else "mean")

    @property
    def size(self) -> int:
        """Number of kept nodes."""
        return int(self.kept.sum())

    @property
    def full(self) -> GPT:
        """The full model, in the form that runs fastest; made anew when its weights have changed or moved."""
        state = tuple((p.data_ptr(), p._version) for p in self.model.parameters())
        if self._full is None or self._full[0] != state:
            self._full, self._runner = (state, fastest(self.model)), None
        return self._full[1]

    @property
    def runner(self) -> GPT:
        """What the circuit's tap runs on: the full model, or its twin in which the dropped edges are constants."""
        full = self.full
        if self._runner is None:
            self._runner = without(full, self.dropped, self.held)
        return self._runner

    @cached_property
    def node_edges(self) -> list[graph.Edge]:
        """All nonzero weights between kept nodes."""
        return graph.edges(self.model, self.nodes)

    @cached_property
    def edges(self) -> list[graph.Edge]:
        """The nonzero weights between kept nodes that the circuit uses: all but the dropped ones."""
        gone = set(self.dropped)
        return [edge for edge in self.node_edges if (edge.source, edge.target) not in gone]

    def tap(self) -> Tap:
        """The tap that turns its model into this circuit: `circuit.runner(tokens, tap=circuit.tap())`.

        It holds removed nodes at `held`. Resampling and a frozen final norm need the prompts too: see `evaluator`.
        """
        device = next(self.model.parameters()).device
        return keep_only(self.space, self.kept.to(device), self.held.to(device))

    def evaluator(self, examples: Examples) -> Evaluator:
        """Losses of this circuit's `kept`, or any other nodes, on `examples`, the way its config says."""
        return evaluator(self.full, examples, self.means, self.config).without(self.dropped)

    def on_its_scale(self, evaluate: Evaluator) -> Evaluator:
        """What `evaluate` asks, with the circuit's scale and shift where calibrated logits are to meet its target."""
        return evaluate if self.calibration is None or not self.config.calibrated else evaluate.under(self.calibration)

    def examples(self, split: str = "report") -> Examples:
        """The fixed pairs its losses are measured on."""
        return fixed_examples(self.model, self.task, split, self.config)

    def loss(self, split: str = "report", calibrated: bool = False) -> float:
        """The circuit's task loss in nats on the fixed pairs of `split`."""
        examples = self.examples(split)
        logits = self.evaluator(examples).logits(self.kept)
        if not calibrated:
            return float(task_losses(logits, examples).mean())
        if self.calibration is None:
            raise InputError("this circuit has no calibration; ask for the uncalibrated loss")
        return float(self.calibration.losses(logits, examples).mean())

    def save(self, folder: str | Path, with_means: bool = True) -> None:
        """Write the circuit to `folder`, which is made if it does not exist.

        Args:
            with_means: False leaves them to the model's folder, where `folder` is circuits/TASK in that. Most of a
                circuit's bytes are means.
        """
        folder = Path(folder)
        checkpoint.make_folder(folder)
        tensors = {"means": self.means.values, "standard_error": self.means.standard_error} if with_means else {}
        if self.scores is not None:
            tensors["scores"] = self.scores
        if self.calibration is not None:
            tensors["shift"] = self.calibration.shift
        # A full disk leaves the circuit that was there, a kill between the two files none rather than half of each.
        with changed_together(folder, "circuit.json") as made:
            checkpoint.write_tensors(made / "circuit.safetensors", tensors)
            write_json(made / "circuit.json", self.description())
        self.folder = folder

    def show(self, *others: "Circuit", card: "Card | None" = None) -> "Shown":
        """The page of this circuit (and others beside it): inside a notebook, else in the browser.

        Args:
            card: its report card, to be shown with it; by default the one beside it in its folder.
        """
        from sparse_circuits.viewer.bundle import card_beside
        from sparse_circuits.viewer.show import show

        return show([self, *others], [card or card_beside(self), *map(card_beside, others)])

    def description(self) -> dict[str, Any]:
        """What `circuit.json` holds."""
        outside = graph.embedding_edges(self.model, self.nodes)
        folder = self.model.folder
        return {
            "format": FORMAT,
            "task": {
                "name": self.task.name,
                "version": self.task.version,
                "fingerprint": self.task.fingerprint,
            },
            "model": {
                "hash": checkpoint.model_hash(self.model),
                "folder": None if folder is None else shipped.name_of(folder) or str(folder.resolve()),
            },
            "sizes": {
                "nodes": self.size,
                "edges": len(self.edges),
                "node_edges": len(self.node_edges),
                "embedding_edges": outside[0],
                "unembedding_edges": outside[1],
            },
            "nodes": {site: list(channels) for site, channels in self.nodes.items()},
            "edges": [[*edge.source, *edge.target] for edge in self.edges],
            "calibration_scale": None if self.calibration is None else self.calibration.scale,
            "mean_tokens": self.means.tokens,
            "found": self.found,
            "config": to_json(self.config),
        }

    @classmethod
    def load(cls, folder: str | Path, model: GPT | None = None, task: Task | str | Path | None = None) -> "Circuit":
        """Read a circuit folder, or a circuit that ships, by its name MODEL/TASK.

        Args:
            model: its model; by default the model folder it was pruned from.
            task: its task, or the name or file of it as `get_task` takes it; by default the registered one of the
                name in the folder.

        Raises:
            InputError: damaged files, or a model or task that is not its own.
        """
        if isinstance(task, str | Path):
            task = get_task(task)
        path = shipped.circuit_file(folder)
        folder = path.parent
        described = read_json(path)
        tensors, _ = checkpoint.read_tensors(folder / "circuit.safetensors")
        try:
            if described["format"] != FORMAT:
                raise InputError(f"format {described['format']!r}; this version reads format {FORMAT}")
            owner, nodes = _own_model(described["model"], model), _channels(described["nodes"])
            found = cls(
                owner,
                _own_task(described["task"], task),
                nodes,
                _means(tensors, described, folder),
                recorded(described["config"], str(path)),
                tensors.get("scores"),
                _calibration(described["calibration_scale"], tensors),
                dict(described["found"]),
                _dropped(owner, nodes, described["edges"]),
            )
            found.folder = folder
            return found
        except InputError as error:
            raise InputError(str(error) if str(path) in str(error) else f"{path}: {error}") from error
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{path} is damaged: {_first_line(error)}; prune again") from error


def evaluator(model: GPT, examples: Examples, means: Means, config: PruneConfig) -> Evaluator:
    """Losses of choices of nodes of `model` on `examples`, with removed nodes and final norm as `config` says."""
    return Evaluator(
        model,
        examples,
        held(means, "zero" if config.ablation == "zero" else "mean"),
        Counterparts(model, examples, config.loop.seed) if config.ablation == "resample" else None,
        final_scales(model, examples) if config.final_norm == "frozen" else None,
        config.calibrated,
    )


def fixed_examples(model: GPT, task: Task, split: str, config: PruneConfig) -> Examples:
    """The pairs of `split` on which circuits are compared: the same for the same task, tokenizer and count."""
    return pairs_for(model, task, split, config.eval_pairs, seed=0)


def own_task(folder: str | Path, task: Task | None) -> Task | None:
    """`task`, if the circuit in a folder, or one that ships, was pruned for one of its name: what `load` then takes.

    Raises:
        InputError: no circuit there, or a damaged one.
    """
    if task is None:
        return None
    path = shipped.circuit_file(folder)
    described = read_json(path)
    own = described.get("task") if isinstance(described, dict) else None
    if not isinstance(own, dict) or not isinstance(own.get("name"), str):
        raise InputError(f"{path} is damaged: it does not name its task; prune again")
    return task if task.name == own["name"] else None


def _own_model(described: Mapping[str, Any], model: GPT | None) -> GPT:
    if model is None:
        if described["folder"] is None:
            raise InputError("it names no model folder; pass the model it was pruned from")
        model = checkpoint.load(described["folder"])
    given = checkpoint.model_hash(model)
    if given != described["hash"]:
        raise InputError(
            f"it belongs to the model {described['hash'][:12]}, the one given is {given[:12]}; "
            "a circuit runs only on the model it was pruned from"
        )
    return model


def _means(tensors: Mapping[str, Tensor], described: Mapping[str, Any], folder: Path) -> Means:
    """The circuit's own means, or those in the folder of the model that it lies in."""
    if "means" in tensors:
        return Means(tensors["means"], tensors["standard_error"], operator.index(described["mean_tokens"]))
    path = folder.resolve().parent.parent / MEANS_FILE
    found = read_means(path, described["model"]["hash"])
    if found is None:
        raise InputError(f"it leaves its means to its model's folder, and {path} does not hold them")
    return found


def _own_task(described: Mapping[str, Any], task: Task | None) -> Task:
    if task is None and described["name"] not in TASKS:
        raise InputError(
            f"it was pruned for a task of your own, {described['name']!r}: name its .jsonl or .py file with --task, "
            "in Python with task="
        )
    task = task if task is not None else get_task(described["name"])
    if (task.fingerprint, task.version) != (described["fingerprint"], described["version"]):
        raise InputError(
            f"it was pruned for {described['name']} version {described['version']}; the task given is "
            f"{task.name} version {task.version} with other pairs: pass the task it was made with"
        )
    return task


def _channels(described: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {site: tuple(map(operator.index, channels)) for site, channels in described.items()}


def _dropped(model: GPT, nodes: graph.Nodes, described: Any) -> list[Link]:
    """The edges between `nodes` that are not among the described ones."""
    NodeSpace(model.config).flat(nodes)  # refuses what is no node
    kept: set[Link] = {((a, operator.index(b)), (c, operator.index(d))) for a, b, c, d in described}
    between = [(edge.source, edge.target) for edge in graph.edges(model, nodes)]
    for link in kept - set(between):
        raise InputError(f"{_arrow(link)} is no edge between its nodes")
    return [link for link in between if link not in kept]


def _arrow(link: Link) -> str:
    return " -> ".join(f"{site}:{channel}" for site, channel in link)


def _calibration(scale: Any, tensors: Mapping[str, Tensor]) -> Calibration | None:
    return None if scale is None else Calibration(float(scale), tensors["shift"])


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__} {str(error).partition(chr(10))[0]}".strip()
