"""What a set of nodes does: kept alone, taken away, on other tasks, on plain text; and its edges to the rest.

Every experiment takes a `Circuit`, which can be one that was pruned or any nodes of your own choice
(`Circuit(model, task, nodes, means)`), runs the one forward with a tap, and returns a small dataclass:
- `losses`: the task loss of the model, of the nodes alone, of the model without them, of no nodes at all;
- `inverse` (paper, section 3): the loss without the nodes beside the loss without as many random ones of each site;
- `outside_edges`: the weights between the nodes and all others, both ways;
- `text_cost`: what keeping only the nodes, and removing them, costs on held-out pretraining text;
- `under_tasks`: the same nodes under other tasks.

Losses are in nats with 95% bootstrap intervals over pairs (or windows of text), of the logits as they are: of a circuit
that was pruned with calibrated losses, too.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sparse_circuits.circuits import edges as graph
from sparse_circuits.circuits.circuit import Circuit, fixed_examples
from sparse_circuits.circuits.circuit import evaluator as measuring
from sparse_circuits.circuits.evaluator import Evaluator
from sparse_circuits.circuits.intervals import Measured, mean_interval
from sparse_circuits.circuits.means import training_corpus
from sparse_circuits.circuits.node_sets import Mask, random_like
from sparse_circuits.circuits.nodes import keep_only
from sparse_circuits.corpus.packed import PackedCorpus
from sparse_circuits.errors import InputError
from sparse_circuits.model import GPT
from sparse_circuits.pretraining import next_token_loss
from sparse_circuits.progress import Bar
from sparse_circuits.tasks import TASKS, Task, task_losses

POSITIONS_PER_BATCH = 4096


@dataclass(frozen=True)
class SetLosses:
    """Losses in nats of four choices of nodes."""

    model: Measured
    """All nodes."""
    kept: Measured
    """The set alone, all others removed."""
    removed: Measured
    """All others, the set removed."""
    empty: Measured
    """None: every node removed."""


@dataclass(frozen=True)
class Inverse:
    """Is the set needed: losses in nats without it, and without random sets of as many nodes of each site."""

    model: Measured
    removed: Measured
    """Without the set."""
    random: list[float]
    """Without each of the random sets."""
    as_bad: float
    """The part of the random sets whose removal hurts at least as much, the set itself counted among them: small
    where the set matters more than others of its size."""


@dataclass(frozen=True)
class OutsideEdges:
    """Nonzero weights of one matrix (or of all), by which ends are in the set."""

    source: str
    target: str
    inside: int
    """From a node of the set to a node of the set: the edges of the circuit, without those it has dropped."""
    entering: int
    """From another node to a node of the set."""
    leaving: int
    """From a node of the set to another node."""
    total: int
    """All of the model, dropped ones too."""


@dataclass(frozen=True)
class TextCost:
    """Next-token losses in nats on held-out text, and what two choices of nodes cost there."""

    tokens: int
    losses: SetLosses
    keeping: Measured
    """Rise of the loss where only the set is kept."""
    removing: Measured
    """Rise of the loss where the set is removed."""


@dataclass(frozen=True)
class UnderTask:
    """The same nodes under one task."""

    task: str
    losses: SetLosses | None
    skipped: str = ""
    """Why the task could not be put to the model."""


def evaluator(circuit: Circuit, split: str = "report", task: Task | None = None) -> Evaluator:
    """Measures any nodes of the full model, removed as the circuit's are, on the fixed pairs of a task."""
    examples = fixed_examples(circuit.model, task or circuit.task, split, circuit.config)
    return measuring(circuit.full, examples, circuit.means, circuit.config)


def losses(circuit: Circuit, split: str = "report", task: Task | None = None) -> SetLosses:
    """The task loss of the model, of the circuit's nodes alone, without them, and without any.

    Args:
        task: by default the circuit's own.
    """
    evaluate = evaluator(circuit, split, task)
    everything, kept, removed, nothing = _choices(circuit.kept)
    return SetLosses(
        mean_interval(pair_losses(evaluate, everything)),
        mean_interval(pair_losses(evaluate.without(circuit.dropped), kept)),  # without the edges that were dropped
        mean_interval(pair_losses(evaluate, removed)),
        mean_interval(pair_losses(evaluate, nothing)),
    )


def pair_losses(evaluate: Evaluator, kept: Mask) -> Float[Tensor, "pairs"]:
    """The uncalibrated loss of each pair, the mean of its sides, with only `kept` alive."""
    return task_losses(evaluate.logits(kept), evaluate.examples).unflatten(0, (2, -1)).mean(0)


def _choices(kept: Mask) -> list[Mask]:
    """All nodes, the set, all but the set, none: in the order of `SetLosses`."""
    everything = torch.ones_like(kept)
    return [everything, kept, ~kept, ~everything]


def inverse(
    circuit: Circuit, split: str = "report", samples: int = 32, seed: int = 0, progress: bool = False
) -> Inverse:
    """Remove the circuit and keep the rest, beside random sets of the same size at each site.

    Raises:
        InputError: fewer than one sample.
    """
    if samples < 1:
        raise InputError(f"{samples} random sets asked for; compare with at least 1")
    evaluate = evaluator(circuit, split)

    def loss(kept: Mask) -> Measured:
        # The one way to measure all of them: by any other the same nodes could come out worse than themselves.
        return mean_interval(pair_losses(evaluate, kept))

    removed = loss(~circuit.kept)
    generator = torch.Generator().manual_seed(seed)
    random = []
    with Bar("inverse", samples, progress) as bar:
        for number in range(samples):
            random.append(loss(~random_like(circuit.space, circuit.kept, generator)).value)
            bar.update(number + 1)
    as_bad = (1 + sum(value >= removed.value for value in random)) / (1 + samples)
    return Inverse(loss(torch.ones_like(circuit.kept)), removed, random, as_bad)


def outside_edges(circuit: Circuit) -> list[OutsideEdges]:
    """The nonzero weights between nodes, counted by matrix (those without any of the set left out), the sum last."""
    rows = []
    dropped = Counter((source, target) for (source, _), (target, _) in circuit.dropped)
    for source, target, weight in graph.matrices(circuit.model):
        links = (weight != 0).cpu()
        from_set, to_set = (circuit.kept[circuit.space.slices[site]] for site in (source, target))
        inside = int(links[to_set][:, from_set].sum())
        entering, leaving = int(links[to_set].sum()) - inside, int(links[:, from_set].sum()) - inside
        inside -= dropped[source, target]
        rows.append(OutsideEdges(source, target, inside, entering, leaving, int(links.sum())))
    sums = (sum(getattr(row, name) for row in rows) for name in ("inside", "entering", "leaving", "total"))
    touched = [row for row in rows if row.inside or row.entering or row.leaving]
    return [*touched, OutsideEdges("all", "all", *sums)]


def text_cost(
    circuit: Circuit, text: PackedCorpus | Path | None = None, max_tokens: int = 65_536, progress: bool = False
) -> TextCost:
    """What keeping only the circuit, and removing it, does to the next-token loss on held-out text.

    Removed nodes are held at a constant (at their means where the circuit was pruned by resampling), and the final norm
    is live: counterparts and frozen scales belong to prompts.

    Args:
        text: a packed corpus; by default the one the model was trained on.
        max_tokens: validation tokens to predict, as far as there are so many; at least one window.

    Raises:
        InputError: no text can be found, or it was packed with another tokenizer.
    """
    size = circuit.model.config.block_size
    text = text if text is not None else training_corpus(circuit.model, "the cost on text needs")
    corpus = PackedCorpus.load(text.folder if isinstance(text, PackedCorpus) else text, circuit.model.tokenizer)
    windows = torch.from_numpy(corpus.validation_windows(size, max_tokens))
    batches = windows.split(max(1, POSITIONS_PER_BATCH // size))
    choices = _choices(circuit.kept)
    parts = []
    with Bar("text", len(batches), progress) as bar:
        for number, batch in enumerate(batches):
            models = [circuit.full, circuit.runner, circuit.full, circuit.full]
            found = [_window_losses(each, circuit, nodes, batch) for each, nodes in zip(models, choices, strict=True)]
            parts.append(torch.stack(found))
            bar.update(number + 1)
    full, kept, removed, empty = torch.cat(parts, dim=1)
    return TextCost(
        len(windows) * size,
        SetLosses(*map(mean_interval, (full, kept, removed, empty))),
        mean_interval(kept - full),
        mean_interval(removed - full),
    )


@torch.no_grad()
def _window_losses(model: GPT, circuit: Circuit, kept: Mask, windows: Int64[Tensor, "n T"]) -> Float[Tensor, "n"]:
    """The mean next-token loss of each window with only `kept` alive."""
    device = next(model.parameters()).device
    windows = windows.to(device)
    logits = model(windows[:, :-1], tap=keep_only(circuit.space, kept.to(device), circuit.held.to(device)))
    pieces = zip(logits.split(1), windows[:, 1:].split(1), strict=True)
    return torch.stack([next_token_loss(one, targets) for one, targets in pieces]).cpu()


def under_tasks(
    circuit: Circuit,
    tasks: Iterable[Task] | None = None,
    split: str = "report",
    progress: bool = False,
) -> list[UnderTask]:
    """The circuit's nodes under each of `tasks`, by default all registered ones.

    Where the model does another task without these nodes but not with them alone, the circuit is the task's own; where
    it does another task with them alone, it is not.
    """
    chosen: Sequence[Task] = list(TASKS.values()) if tasks is None else list(tasks)
    rows = []
    with Bar("tasks", len(chosen), progress) as bar:
        for number, task in enumerate(chosen):
            try:
                rows.append(UnderTask(task.name, losses(circuit, split, task)))
            except InputError as error:  # the model's tokenizer lacks a completion, say
                rows.append(UnderTask(task.name, None, str(error)))
            bar.update(number + 1, task.name)
    return rows
