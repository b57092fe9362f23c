"""How far steering moves the dense model's answers: curves over strengths, beside controls and the most there could be.

Each prompt of a pair is steered towards the other side; what is measured is the probability, over the whole vocabulary,
of the other side's right answer. With the nodes' differences delta between the two prompts, at all tokens:
- nodes: delta times their directions (`steering.directions`);
- random nodes: other channels of the same reads, with their own differences and directions;
- random rows: the nodes' differences times other channels' directions, made as long as the nodes' own;
- random directions: the same with directions drawn from a normal distribution;
- the whole read: the dense model's own difference, in all channels: all that it knows at this place.

Above all of them stands the probability of the same answer on the other side's own prompt, which a model that is not
sure of its answers need not be near 1. So the choice between the two answers alone is measured too.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sparse_circuits.bridges.bridge import Bridge
from sparse_circuits.bridges.steering import Edits, Node, Nodes, differences, directions, is_read, read_channels
from sparse_circuits.circuits.intervals import Measured, mean_interval
from sparse_circuits.circuits.logits import last_logits
from sparse_circuits.errors import InputError
from sparse_circuits.fields import require
from sparse_circuits.progress import Bar
from sparse_circuits.tasks import ANY, Examples, Task, log_odds

STRENGTHS = (0.0, 0.05, 0.15, 0.5, 1.0, 1.5)
Deltas = dict[str, Float[Tensor, "rows T D"]]


@dataclass(frozen=True)
class SteeringCurve:
    """The probability of the other side's answer by strength, one number a strength each."""

    name: str
    both: list[Measured]
    """Mean over both sides of all pairs."""
    a: list[Measured]
    """Prompts of side A, steered towards B's answer."""
    b: list[Measured]
    """Prompts of side B, steered towards A's."""
    choice: list[Measured]
    """The probability of the other side's answer among the two alone, mean over both sides."""
    largest: list[float]
    """Of the draws of a control, the largest mean over both sides; without draws, that mean."""


@dataclass(frozen=True)
class Steered:
    """What steering does on one task."""

    task: str
    split: str
    pairs: int
    nodes: list[Node]
    strengths: list[float]
    samples: int
    ceiling: Measured
    """The probability of the same answers on the prompts where they are right."""
    curves: list[SteeringCurve]

    def curve(self, name: str) -> SteeringCurve:
        """The curve of that name."""
        return next(curve for curve in self.curves if curve.name == name)


def steering_curves(
    bridge: Bridge,
    task: Task,
    nodes: Nodes,
    strengths: Sequence[float] = STRENGTHS,
    split: str = "report",
    pairs: int = 200,
    samples: int = 4,
    seed: int = 0,
    progress: bool = False,
) -> Steered:
    """Steer the dense model by `nodes` of the sparse one, with controls.

    Args:
        pairs: how many of the split, as far as there are so many.
        samples: draws of each control.

    Raises:
        InputError: nodes that cannot be steered or are most of a read's channels, no strength, fewer than one sample or
            pair.
    """
    chosen = read_channels(bridge, nodes)
    require(bool(strengths), "no strengths to steer with; give at least one")
    for strength in strengths:
        require(abs(strength) < float("inf"), f"strength is {strength}; it must be a finite number")
    require(samples >= 1, f"{samples} draws of each control asked for; compare with at least 1")
    width = bridge.sparse.config.d_model
    for site, count in Counter(site for site, _ in chosen).items():
        require(
            2 * count <= width,
            f"{count} of the {width} channels of {site} are to be steered, and there are not as many others to compare "
            "with; name fewer",
        )
    examples = pair_examples(bridge, task, split, pairs)
    edits = _Edits(bridge, examples, chosen, torch.Generator().manual_seed(seed))
    kinds: dict[str, list[Callable[[], Deltas]]] = {
        "nodes": [edits.own],
        "random nodes": [edits.random_nodes] * samples,
        "random rows": [edits.random_rows] * samples,
        "random directions": [edits.random_directions] * samples,
        "the whole read": [edits.whole],
    }
    ceiling = mean_interval(right_answer(last_logits(bridge.dense, examples), examples).unflatten(0, (2, -1)).mean(0))
    curves, done = [], 0
    with Bar("steer", len(strengths) * sum(map(len, kinds.values())), progress) as bar:
        for name, makers in kinds.items():
            draws = []
            for make in makers:
                deltas = make()
                draws.append(torch.stack([answers(bridge, examples, deltas, strength) for strength in strengths]))
                done += len(strengths)
                bar.update(done, name)
            curves.append(_curve(name, torch.stack(draws)))
    return Steered(task.name, split, len(examples), chosen, list(map(float, strengths)), samples, ceiling, curves)


def pair_examples(bridge: Bridge, task: Task, split: str, pairs: int) -> Examples:
    """The pairs as both models read them; InputError where the dense one has no tokenizer."""
    require(pairs >= 1, f"{pairs} pairs asked for; ask for at least 1")
    tokenizer = bridge.sparse.tokenizer or bridge.dense.tokenizer
    if tokenizer is None:
        raise InputError("neither model has a tokenizer, so a task cannot be put to them; set model.tokenizer")
    examples = task.examples(tokenizer, split, pairs, seed=0, block_size=bridge.sparse.config.block_size)
    return examples.to(next(bridge.maps.parameters()).device)


def reached(bridge: Bridge, examples: Examples, deltas: Deltas, strength: float) -> Float[Tensor, "rows"]:
    """The probability of the other side's right answer at each row, under an edit of the dense model."""
    return answers(bridge, examples, deltas, strength)[0]


def answers(bridge: Bridge, examples: Examples, deltas: Deltas, strength: float) -> Float[Tensor, "2 rows"]:
    """The same, and below it that probability among the two answers alone."""
    tap = Edits(deltas, strength) if strength else None
    logits = last_logits(bridge.dense, examples, tap)
    return torch.stack([other_answer(logits, examples), (-log_odds(logits, examples)).sigmoid()])


def right_answer(logits: Float[Tensor, "rows V"], examples: Examples) -> Float[Tensor, "rows"]:
    """The probability, over the whole vocabulary, of what is right at each row."""
    exchanged = Examples(examples.tokens, examples.last, examples.others, examples.targets, examples.loss)
    return other_answer(logits, exchanged)


def other_answer(logits: Float[Tensor, "rows V"], examples: Examples) -> Float[Tensor, "rows"]:
    """The probability, over the whole vocabulary, of what is right on the pair's other side (and wrong here)."""
    p = logits.softmax(1)
    wrong = p.gather(1, examples.others.clamp(min=0).unsqueeze(1)).squeeze(1)
    right = p.gather(1, examples.targets.clamp(min=0).unsqueeze(1)).squeeze(1)
    return torch.where(examples.others == ANY, 1 - right, wrong)


def node_deltas(bridge: Bridge, examples: Examples, nodes: Sequence[Node]) -> Deltas:
    """The edit that `nodes` stand for: their differences times their directions, by site."""
    return _Edits(bridge, examples, nodes, torch.Generator()).own()


def best_nodes(
    bridge: Bridge, task: Task, nodes: Sequence[Node], split: str = "prune", pairs: int = 64, progress: bool = False
) -> list[tuple[Node, float]]:
    """The nodes by how far each alone moves the dense model's answers at strength 1, the best first.

    Raises:
        InputError: none of them is a channel that a sublayer reads.
    """
    reads = [node for node in nodes if is_read(node, bridge)]
    require(bool(reads), "none of the circuit's nodes is a channel that a sublayer reads from the stream")
    examples = pair_examples(bridge, task, split, pairs)
    edits = _Edits(bridge, examples, reads, torch.Generator())
    found = []
    with Bar("nodes", len(reads), progress) as bar:
        for number, node in enumerate(reads):
            found.append((node, float(reached(bridge, examples, edits.of(node), 1.0).mean())))
            bar.update(number + 1)
    return sorted(found, key=lambda item: -item[1])


class _Edits:
    """The edits of each kind for some nodes on some pairs."""

    def __init__(self, bridge: Bridge, examples: Examples, nodes: Sequence[Node], generator: torch.Generator):
        self._bridge, self._examples, self._generator = bridge, examples, generator
        self._channels: dict[str, list[int]] = {}
        for site, channel in nodes:
            self._channels.setdefault(site, []).append(channel)
        self._sparse = differences(bridge.sparse, examples, list(self._channels))

    def own(self) -> Deltas:
        return self._edit(self._channels, self._channels)

    def of(self, node: Node) -> Deltas:
        """The edit that one of the nodes stands for."""
        alone = {node[0]: [node[1]]}
        return self._edit(alone, alone)

    def random_nodes(self) -> Deltas:
        drawn = self._others()
        return self._edit(drawn, drawn)

    def random_rows(self) -> Deltas:
        return self._edit(self._channels, self._others(), self._lengths())

    def random_directions(self) -> Deltas:
        made = {}
        for site, length in self._lengths().items():
            shape = (len(length), self._bridge.dense.config.d_model)
            drawn = torch.randn(shape, generator=self._generator).to(length)
            made[site] = self._sparse[site][..., self._channels[site]] @ _as_long(drawn, length)
        return made

    def whole(self) -> Deltas:
        return differences(self._bridge.dense, self._examples, list(self._channels))

    def _edit(
        self, moved: dict[str, list[int]], directed: dict[str, list[int]], lengths: dict[str, Tensor] | None = None
    ) -> Deltas:
        """The differences of some channels along the directions of others, which may be given a length."""
        made = {}
        for site, channels in moved.items():
            along = directions(self._bridge, site, directed[site])
            along = along if lengths is None else _as_long(along, lengths[site])
            made[site] = self._sparse[site][..., channels] @ along
        return made

    def _lengths(self) -> dict[str, Tensor]:
        return {site: directions(self._bridge, site, of).norm(dim=1) for site, of in self._channels.items()}

    def _others(self) -> dict[str, list[int]]:
        """As many other channels of each site, first of those that differ between the sides at all."""
        drawn = {}
        for site, own in self._channels.items():
            live = self._sparse[site].abs().amax((0, 1)) > 0
            order = torch.randperm(len(live), generator=self._generator).tolist()
            pool = sorted((c for c in order if c not in own), key=lambda c: not bool(live[c]))
            drawn[site] = pool[: len(own)]
        return drawn


def _as_long(vectors: Tensor, lengths: Tensor) -> Tensor:
    norms = vectors.norm(dim=1, keepdim=True)
    return torch.where(norms > 0, vectors / norms.clamp(min=torch.finfo(vectors.dtype).tiny), 0) * lengths.unsqueeze(1)


def _curve(name: str, draws: Float[Tensor, "draws strengths 2 rows"]) -> SteeringCurve:
    sides = draws.mean(0).unflatten(2, (2, -1))
    (a, b), choice = sides[:, 0].unbind(1), sides[:, 1].mean(1)
    return SteeringCurve(
        name,
        [mean_interval(one) for one in (a + b) / 2],
        [mean_interval(one) for one in a],
        [mean_interval(one) for one in b],
        [mean_interval(one) for one in choice],
        draws[:, :, 0].mean(2).amax(0).tolist(),
    )
