"""Size against loss: the circuit's nodes in their order, as many as one likes, on the report split.

The order is the report card's: kept nodes first, then all others, each part by falling score (attribution where nodes
were chosen by hand). So are the losses of a circuit whose target was one of calibrated loss: with its own scale and
shift, other choices of nodes with theirs, fitted on the split `calibrate`; the model's are as they are.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sparse_circuits.circuits.calibration import Calibration, calibrate
from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.circuits.edges import edge_count
from sparse_circuits.circuits.search import first, ranked
from sparse_circuits.progress import Bar
from sparse_circuits.tasks import task_losses
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
    fitted = _fitted(circuit)
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
            asked = (evaluate if own else full).logits(chosen)
            scale = None if size == circuit.space.total else fitted(chosen, own)
            each = task_losses(asked, examples) if scale is None else scale.losses(asked, examples)
            losses.append(float(each.mean()))
            counts.append(len(circuit.edges) if own else edge_count(circuit.model, circuit.space.by_site(chosen)))
            bar.update(done)
    return {
        "split": split,
        "sizes": sizes,
        "losses": numbers(losses),
        "edges": counts,
        "order": [list(circuit.space.name(node)) for node in order[:ORDERED].tolist()],
    }


def _fitted(circuit: Circuit) -> Callable[[Tensor, bool], Calibration | None]:
    """What scales the logits of a choice of nodes, the circuit's own or another; None where nothing does."""
    if not circuit.config.calibrated or "calibrate" not in circuit.task.splits:
        return lambda chosen, own: circuit.calibration if own and circuit.config.calibrated else None
    examples = circuit.examples("calibrate")
    evaluate = circuit.evaluator(examples)
    full = evaluate.on(circuit.full)

    def fit(chosen: Tensor, own: bool) -> Calibration:
        if own and circuit.calibration is not None:
            return circuit.calibration
        return calibrate((evaluate if own else full).logits(chosen), examples)

    return fit


def grid(total: int, size: int) -> list[int]:
    """Nothing, all, `size` itself, and sizes between: evenly up to twice `size`, then by ever larger steps."""
    near = {round(2 * size * step / (POINTS // 2)) for step in range(POINTS // 2 + 1)}
    start = max(1, 2 * size)
    far = {round(start * (total / start) ** (step / (POINTS // 2))) for step in range(POINTS // 2 + 1)}
    return sorted({0, size, total} | {each for each in near | far if each <= total})


def learning(circuit: Circuit) -> list[list[float | int]]:
    """Step, task loss and number of nodes while masks were learned, where pruning wrote them down."""
    return [[number(value) for value in row] for row in circuit.found.get("learning", [])]
