"""Where mask learning begins: with the nodes kept that matter to the whole model, to first order.

A node's worth is what the task loss would move by, up or down, if it alone were removed (attribution patching over
pairs of the `prune` split). Most nodes of a sparse model matter to no one task. Beginning without them, learning takes
fewer steps to circuits of the same size; what was missed it brings back.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from sparse_circuits.circuits.circuit import evaluator
from sparse_circuits.circuits.masks import initial
from sparse_circuits.circuits.means import Means
from sparse_circuits.circuits.nodes import NodeSpace
from sparse_circuits.circuits.search import ranked
from sparse_circuits.config import PruneConfig
from sparse_circuits.errors import InputError
from sparse_circuits.model import GPT
from sparse_circuits.tasks import Task

PAIRS = 64


def screened(model: GPT, task: Task, means: Means, runs: Sequence[PruneConfig]) -> list[Tensor]:
    """Mask parameters to begin with, for each of `runs` what they would be if it were alone."""
    return [_screened(model, task, means, run) for run in runs]


def _screened(model: GPT, task: Task, means: Means, config: PruneConfig) -> Tensor:
    space = NodeSpace(model.config)
    total = space.total
    count = max(1, round(config.screen * total))
    if count == total:
        return initial(config, total)
    if model.tokenizer is None:
        raise InputError("the model has no tokenizer, so a task cannot be put to it; set model.tokenizer")
    size, device = min(PAIRS, task.size("prune")), next(model.parameters()).device
    pairs = task.examples(model.tokenizer, "prune", size, config.loop.seed, model.config.block_size).to(device)
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
