"""Where mask learning begins: with the nodes kept that matter to the whole model, to first order.

A node's worth is what the task loss would move by, up or down, if it alone were removed (attribution patching over
pairs of the `prune` split). Most nodes of a sparse model matter to no one task. Beginning without them, learning takes
fewer steps to circuits of the same size; what was missed it brings back.
"""

import torch
from torch import Tensor

from sparse_circuits.circuits.circuit import evaluator
from sparse_circuits.circuits.logits import pairs_for
from sparse_circuits.circuits.masks import initial
from sparse_circuits.circuits.means import Means
from sparse_circuits.circuits.nodes import NodeSpace
from sparse_circuits.circuits.search import ranked
from sparse_circuits.config import PruneConfig
from sparse_circuits.model import GPT
from sparse_circuits.tasks import Task

PAIRS = 64


def screened(model: GPT, task: Task, means: Means, config: PruneConfig) -> Tensor:
    """Mask parameters to begin with."""
    space = NodeSpace(model.config)
    total = space.total
    count = max(1, round(config.screen * total))
    if count == total:
        return initial(config, total)
    pairs = pairs_for(model, task, "prune", min(PAIRS, task.size("prune")), config.loop.seed)
    everything = torch.ones(total, dtype=torch.bool)
    slopes = evaluator(model, pairs, means, config).attribution(everything)
    for site, k in space.slices.items() if config.tie_qk else ():
        if site.endswith(".attn.k"):  # with its parameter goes channel c of q, too
            q = space.slices[site[:-1] + "q"]
            slopes[q] = slopes[k] = slopes[q] + slopes[k]
    worth = slopes.abs().nan_to_num(torch.inf)
    chosen = torch.zeros(total, dtype=torch.bool)
    chosen[ranked(worth)[:count]] = True
    return initial(config, total, chosen)
