"""The smallest set of edges: single weights inside a circuit are dropped while the loss holds.

1. Order the edges by a first-order estimate of what dropping each costs; drop by bisection, then one by one by measured
   cost (`search.drop_unneeded`, as for nodes). Executed as a twin of the model (`twin`).
2. In what is left, drop nodes that no path connects any more, and nodes without effect; their edges go with them.
3. Repeat until neither finds anything, or nodes went and the loss rose: there is less room than when each edge was
   found to be needed.

Of a circuit of more than `MEASURED` nodes none is measured alone. Of more edges than that the most promising `MOST` are
at a time: dropping those that harm makes room, which the next round of bisection fills, until a round finds little and
no room is left, or `ROUNDS` are over. A dense model's circuits have thousands. Of more than `MANY` none is measured:
that is no small circuit, and would take the better part of an hour.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sparse_circuits.circuits.ablation import Measures
from sparse_circuits.circuits.edges import Edge, edges
from sparse_circuits.circuits.evaluator import Evaluator, Mask
from sparse_circuits.circuits.search import drop_unconnected, drop_unneeded
from sparse_circuits.circuits.twin import Link, gradients, layer_of, place, trainable, with_layers, without

MEASURED = 300
MOST = 200
MANY = 5000
ROUNDS = 4
LITTLE = 0.1
"""A round that drops no more than this part of many edges is the last, if the loss is that near the target."""


def measurements(nodes: Mask) -> int | float:
    """How many of `nodes` may be measured alone."""
    return math.inf if int(nodes.sum()) <= MEASURED else 0


class EdgeMeasures:
    """The task loss of any choice among `links`, the edges of one choice of nodes."""

    def __init__(self, whole: Evaluator, kept: Mask, links: Sequence[Edge], dropped: Sequence[Link], constants: Tensor):
        self.whole, self.kept, self.links = whole, kept, links
        self.dropped, self.constants = list(dropped), constants

    def __call__(self, kept: Bool[Tensor, "edges"], limit: float = math.inf) -> float:
        """Mean -log p(right) in nats with only the edges `kept` alive; infinity as soon as it is above `limit`."""
        return self.whole.without(self.gone(kept))(self.kept, limit)

    def gone(self, kept: Bool[Tensor, "edges"]) -> list[Link]:
        """Everything that is dropped where only `kept` of the edges are left."""
        return self.dropped + [ends(link) for link, stays in zip(self.links, kept.tolist(), strict=True) if not stays]

    def attribution(self, kept: Bool[Tensor, "edges"]) -> Float[Tensor, "edges"]:
        """First-order estimate of how much the loss rises when an edge is dropped: one backward pass for all.

        An edge brings w * (x - c) beyond what it brings when dropped, so the slope in how much of that there is,
        summed over all positions, is w * (gradient of the weight - c * gradient of the bias).
        """
        if not self.links:
            return torch.empty(0)
        model = without(self.whole.model, self.gone(kept), self.constants)
        homes = [place(model, link.target) for link in self.links]
        layers = {name: trainable(layer_of(model, name)) for name, _ in homes}
        evaluate = self.whole.on(with_layers(model, layers))
        evaluate.slope(evaluate.tap(self.kept))
        found = {name: gradients(layer) for name, layer in layers.items()}
        costs = torch.empty(len(self.links))
        for number, (link, (name, row)) in enumerate(zip(self.links, homes, strict=True)):
            weight, bias = found[name]
            source = self.whole.space.slices[link.source[0]].start + link.source[1]
            slope = weight[row, link.source[1]] - self.constants[source].to(bias.device) * bias[row]
            costs[number] = -link.weight * float(slope)
        return costs


def ends(edge: Edge) -> Link:
    """The two nodes of an edge."""
    return edge.source, edge.target


def drop_edges(
    evaluate: Evaluator, kept: Mask, constants: Float[Tensor, "nodes"], target: float, progress: bool = False
) -> tuple[Mask, list[Link]]:
    """The nodes that stay and the edges between them that go, with the loss at most `target` all the while.

    Args:
        evaluate: losses in the model itself.
        kept: the nodes to start from.
        constants: of every node, what a dropped edge takes its source to be.
    """
    model = evaluate.model
    dropped: list[Link] = []
    large = 0
    while True:
        present = edges(without(model, dropped, constants), evaluate.space.by_site(kept))
        measures = EdgeMeasures(evaluate, kept, present, dropped, constants)
        left = needed(measures, len(present), target, progress)
        dropped = measures.gone(left)
        twin = evaluate.without(dropped)
        loss = twin(kept)
        fewer = drop_unconnected(twin, kept, target)
        fewer = drop_unneeded(twin, fewer, target, progress, measurements(fewer))
        inside = {ends(edge) for edge in edges(model, evaluate.space.by_site(fewer))}
        # Of a node that is gone no edge is left to drop. (With a sink that changes what comes from a v channel.)
        still = [link for link in dropped if link in inside]
        loss_left = evaluate.without(still)(fewer)
        if torch.equal(fewer, kept) or loss_left > target:
            return kept, dropped
        kept, dropped = fewer, still
        large += ROUNDS if int(left.sum()) > MANY else len(present) > MEASURED
        # What was needed just before still is where there is no more room than there was.
        if large >= ROUNDS or loss_left >= loss:
            return kept, dropped


def needed(measures: Measures, count: int, target: float, progress: bool) -> Bool[Tensor, "edges"]:
    """Which of the `count` edges stay."""
    left = torch.ones(count, dtype=torch.bool)
    for _ in range(ROUNDS):
        most = math.inf if int(left.sum()) <= MEASURED else MOST if int(left.sum()) <= MANY else 0
        fewer = drop_unneeded(measures, left, target, progress, most, "edges")
        found = int(left.sum()) - int(fewer.sum())
        if most == math.inf or not found or int(fewer.sum()) > MANY:
            return fewer
        many = int(fewer.sum()) > MEASURED
        if many and found <= LITTLE * int(left.sum()) and measures(fewer) >= (1 - LITTLE) * target:
            return fewer
        left = fewer
    return left
