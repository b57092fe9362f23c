"""Where mask learning begins: with the nodes kept that matter to the whole model, to first order.

A node's worth is what the task loss would move by, up or down, if it alone were removed (attribution patching over
pairs of the `prune` split). Most nodes of a sparse model matter to no one task. Beginning without them, learning takes
fewer steps to circuits of the same size; what was missed it brings back. But it brings back what helps by itself, not
what only helps together: where the nodes chosen miss the target on those pairs (and the model's own loss by a tenth),
twice as many are taken, and so on.
"""

from dataclasses import replace

import torch
from torch import Tensor

from sparse_circuits.circuits.circuit import evaluator
from sparse_circuits.circuits.config import PruneConfig
from sparse_circuits.circuits.logits import pairs_for
from sparse_circuits.circuits.masks import initial
from sparse_circuits.circuits.means import Means
from sparse_circuits.circuits.nodes import NodeSpace
from sparse_circuits.circuits.search import first, ranked
from sparse_circuits.model import GPT
from sparse_circuits.tasks import Task

PAIRS = 64
ENOUGH = 1.1
"""Times the model's own loss is good enough to begin with, where that misses the target (a control's may)."""


def screened(model: GPT, task: Task, means: Means, config: PruneConfig) -> Tensor:
    """Mask parameters to begin with."""
    space = NodeSpace(model.config)
    total = space.total
    count = max(1, round(config.screen * total))
    if count == total:
        return initial(config, total)
    pairs = pairs_for(model, task, "prune", min(PAIRS, task.size("prune")), config.loop.seed)
    everything = torch.ones(total, dtype=torch.bool)
    evaluate = evaluator(model, pairs, means, replace(config, calibrated=False))  # as masks are learned
    slopes = evaluate.attribution(everything)
    for site, k in space.slices.items() if config.tie_qk else ():
        if site.endswith(".attn.k"):  # with its parameter goes channel c of q, too
            q = space.slices[site[:-1] + "q"]
            slopes[q] = slopes[k] = slopes[q] + slopes[k]
    worth = slopes.abs().nan_to_num(torch.inf)
    order, limit = ranked(worth), max(config.target_loss, ENOUGH * evaluate(everything))
    while count < total and not evaluate(first(order, count), limit) <= limit:
        count = min(2 * count, total)
    return initial(config, total, first(order, count))
