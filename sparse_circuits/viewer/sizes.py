"""Size against loss: the circuit's nodes in their order, as many as one likes, on the report split.

The order is the report card's: kept nodes first, then all others, each part by falling score (attribution where nodes
were chosen by hand).
"""

from typing import Any

import torch

from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.circuits.edges import edge_count
from sparse_circuits.circuits.search import first, ranked
from sparse_circuits.progress import Bar
from sparse_circuits.viewer.numbers import number, numbers

POINTS = 28
"""Sizes measured."""
ORDERED = 2000
"""Nodes of the order that are named."""


def curve(circuit: Circuit, split: str = "report", progress: bool = False) -> dict[str, Any]:
    """The `curve` of the schema."""
    examples = circuit.examples(split)
    evaluate = circuit.evaluator(examples)
    full = evaluate.on(circuit.full)
    scores = circuit.scores
    if scores is None:
        scores = full.attribution(torch.ones_like(circuit.kept))
    order = ranked(scores.float())
    kept = circuit.kept[order]
    order = torch.cat([order[kept], order[~kept]])
    sizes = grid(circuit.space.total, circuit.size)
    losses: list[float] = []
    counts: list[int] = []
    with Bar("sizes", len(sizes), progress) as bar:
        for done, size in enumerate(sizes, 1):
            chosen = first(order, size)
            own = size == circuit.size  # there the weights that it does without are left out too
            losses.append((evaluate if own else full)(chosen))
            counts.append(len(circuit.edges) if own else edge_count(circuit.model, circuit.space.by_site(chosen)))
            bar.update(done)
    return {
        "split": split,
        "sizes": sizes,
        "losses": numbers(losses),
        "edges": counts,
        "order": [list(circuit.space.name(node)) for node in order[:ORDERED].tolist()],
    }


def grid(total: int, size: int) -> list[int]:
    """Nothing, all, `size` itself, and sizes between: evenly up to twice `size`, then by ever larger steps."""
    near = {round(2 * size * step / (POINTS // 2)) for step in range(POINTS // 2 + 1)}
    start = max(1, 2 * size)
    far = {round(start * (total / start) ** (step / (POINTS // 2))) for step in range(POINTS // 2 + 1)}
    return sorted({0, size, total} | {each for each in near | far if each <= total})


def learning(circuit: Circuit) -> list[list[float | int]]:
    """Step, task loss and number of nodes while masks were learned, where pruning wrote them down."""
    return [[number(value) for value in row] for row in circuit.found.get("learning", [])]
