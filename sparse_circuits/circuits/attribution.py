"""Scores for every node by other means than learned masks: the baselines that learned masks are compared with.

All are about the same nodes and the same ablation as pruning, over pairs of the `prune` split; high means needed:
1. `attribution`: minus the slope of the loss in the node's mask with every node kept, which is the gradient at the node
   times (what it would become - x), summed over positions: what its removal costs to first order (attribution
   patching);
2. `integrated`: the mean of those slopes on the way from all nodes removed to all kept, every mask growing alike
   (integrated gradients, Sundararajan et al., 2017); the scores add up to what removing all nodes costs;
3. `patching`: what removing the node alone costs, exactly (activation patching);
4. `magnitude`: the root of the summed squares of the weights at the node, to and from other nodes;
5. `random`: drawn by the seed and the task's name.

`baseline` takes such scores the way of learned ones: discretise, clean, drop edges, calibrate, measure. Only their
order counts: discretising grows from one node by doubling, where learned masks begin with as many as they keep, and no
learned set is completed.
"""

import zlib
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from sparse_circuits.circuits import edges as graph
from sparse_circuits.circuits.ablation import Counterparts, Resampled
from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.circuits.config import PruneConfig, ScoreConfig
from sparse_circuits.circuits.evaluator import Evaluator
from sparse_circuits.circuits.logits import final_scales, frozen_logits, pairs_for
from sparse_circuits.circuits.means import Means
from sparse_circuits.circuits.nodes import Hold, NodeSpace
from sparse_circuits.circuits.prune import prune
from sparse_circuits.corpus.packed import PackedCorpus
from sparse_circuits.errors import InputError
from sparse_circuits.fields import nearest, to_json
from sparse_circuits.model import GPT
from sparse_circuits.progress import Bar
from sparse_circuits.sites import Tap
from sparse_circuits.tasks import Examples, Task, get_task, task_losses

Method = Literal["attribution", "integrated", "patching", "magnitude", "random"]
METHODS: tuple[Method, ...] = get_args(Method)
POSITIONS_PER_BATCH = 16_384
"""Of activation patching: copies of all prompts, each copy without one node."""


def baseline(
    model: GPT,
    task: Task | str,
    method: Method,
    target_loss: float | None = None,
    *,
    config: PruneConfig | None = None,
    scoring: ScoreConfig | None = None,
    text: PackedCorpus | Path | None = None,
    means: Means | None = None,
    scores: Tensor | None = None,
    progress: bool = False,
) -> Circuit:
    """The circuit of `task` that the scores of `method` lead to: `prune` without learning masks, all else the same.

    Args:
        config: as for `prune`; what concerns learning masks does not matter.
        scoring: how scores are computed.
        scores: what `scoring` led to before, for another target say.
        others: as for `prune`.

    Raises:
        InputError: as `prune`, or an unknown method.
    """
    if method not in METHODS:
        raise InputError(f"no method {method!r} to score nodes by; {nearest(method, METHODS)}")
    task = get_task(task) if isinstance(task, str) else task
    scoring = scoring or ScoreConfig()

    def rank(evaluate: Evaluator) -> Tensor:
        if scores is not None:
            return scores
        size = min(scoring.score_pairs, task.size("prune"))
        examples = pairs_for(model, task, "prune", size, scoring.score_seed)
        return score(_asked(evaluate, examples, scoring.score_seed), method, scoring, progress, task.name)

    circuit = prune(model, task, target_loss, config=config, text=text, means=means, rank=rank, progress=progress)
    circuit.found["scores"] = {"method": method, **to_json(scoring)}
    return circuit


def score(
    evaluate: Evaluator, method: Method, config: ScoreConfig | None = None, progress: bool = False, task: str = ""
) -> Float[Tensor, "nodes"]:
    """A number for every node, high where it is needed: nats of loss, but for `magnitude` and `random`.

    Args:
        evaluate: the model, the pairs to look at, and what removed nodes become.
        task: its name, so that what is `random` is another draw for each task.
    """
    config = config or ScoreConfig()
    if method == "attribution":
        return slopes(evaluate, torch.ones(evaluate.space.total))
    if method == "integrated":
        return integrated(evaluate, config.score_steps, progress)
    if method == "patching":
        return patched(evaluate, progress)
    if method == "magnitude":
        return magnitude(evaluate.model)
    # One lucky draw would be lucky for all tasks alike. A checksum, since Python's own hash differs by process.
    generator = torch.Generator().manual_seed(zlib.crc32(f"{config.score_seed}/{task}".encode()))
    return torch.rand(evaluate.space.total, generator=generator)


def _asked(evaluate: Evaluator, examples: Examples, seed: int) -> Evaluator:
    """What measures nodes the way `evaluate` does, on other examples."""
    others = None if evaluate.others is None else Counterparts(evaluate.model, examples, seed)
    scales = None if evaluate.scales is None else final_scales(evaluate.model, examples)
    return Evaluator(evaluate.model, examples, evaluate.held, others, scales)


def slopes(evaluate: Evaluator, mask: Float[Tensor, "nodes"]) -> Float[Tensor, "nodes"]:
    """Minus the derivative of the loss in each node's mask, every node x being mask * x + (1 - mask) * its stand-in."""
    mask = mask.to(evaluate.held).requires_grad_()
    if evaluate.others is not None:
        evaluate.slope(Resampled(evaluate.space, mask, evaluate.others))
    else:
        evaluate.slope(Hold(evaluate.space, mask, evaluate.held))
    assert mask.grad is not None
    return -mask.grad.cpu()


def integrated(evaluate: Evaluator, steps: int, progress: bool = False) -> Float[Tensor, "nodes"]:
    """The mean of `slopes` with all masks alike, at the middles of `steps` equal parts of 0..1."""
    scores = torch.zeros(evaluate.space.total)
    with Bar("gradients", steps, progress) as bar:
        for step in range(steps):
            mask = torch.full((evaluate.space.total,), (step + 0.5) / steps)
            scores = scores + slopes(evaluate, mask) / steps
            bar.update(step + 1)
    return scores


@torch.no_grad()
def patched(evaluate: Evaluator, progress: bool = False) -> Float[Tensor, "nodes"]:
    """How much the loss rises when each node alone is removed.

    Many copies of the prompts go through the model at once, each without another node. Nodes that are everywhere what
    they would become cost nothing and are not tried.
    """
    examples, space = evaluate.examples, evaluate.space
    stand_ins = _stand_ins(evaluate)
    base = float(task_losses(_logits(evaluate, 1, None), examples).mean())
    costs = torch.zeros(space.total)
    nodes = _moving(evaluate, stand_ins).nonzero().squeeze(1)
    done = 0
    with Bar("nodes", len(nodes), progress) as bar:
        for batch in nodes.split(max(1, POSITIONS_PER_BATCH // examples.tokens.numel())):
            logits = _logits(evaluate, len(batch), _EachWithout(space, batch, stand_ins))
            for node, part in zip(batch.tolist(), logits.chunk(len(batch)), strict=True):
                costs[node] = float(task_losses(part, examples).mean()) - base
            done += len(batch)
            bar.update(done)
    return costs


def _logits(evaluate: Evaluator, copies: int, tap: Tap | None) -> Float[Tensor, "rows V"]:
    """Logits at the last prompt tokens of so many copies of all prompts."""
    examples = evaluate.examples
    scales = None if evaluate.scales is None else evaluate.scales.repeat(copies)
    return frozen_logits(evaluate.model, examples.tokens.repeat(copies, 1), examples.last.repeat(copies), tap, scales)


def _stand_ins(evaluate: Evaluator) -> dict[str, Tensor]:
    """What removed nodes become, by site: constants [C], or activations [rows, T, C]."""
    if evaluate.others is None:
        return {site: evaluate.held[part] for site, part in evaluate.space.slices.items()}
    rows = torch.arange(len(evaluate.examples.last), device=evaluate.device)
    return evaluate.others.at(rows, evaluate.examples.tokens.shape[1])


class _EachWithout:
    """A tap over equal shares of the rows: in share i node i of `nodes` is replaced."""

    def __init__(self, space: NodeSpace, nodes: Int64[Tensor, "shares"], stand_ins: Mapping[str, Tensor]):
        self._shares = len(nodes)
        self._parts: dict[str, list[tuple[int, int, Tensor]]] = defaultdict(list)
        for share, node in enumerate(nodes.tolist()):
            site, channel = space.name(node)
            self._parts[site].append((share, channel, stand_ins[site][..., channel]))

    def __call__(self, site: str, activation: Tensor) -> Tensor:
        if site not in self._parts:
            return activation
        changed = activation.clone()
        by_share = changed.unflatten(0, (self._shares, -1))
        for share, channel, value in self._parts[site]:
            by_share[share, ..., channel] = value.to(activation.dtype)
        return changed


@torch.no_grad()
def _moving(evaluate: Evaluator, stand_ins: Mapping[str, Tensor]) -> Bool[Tensor, "nodes"]:
    """The nodes that anywhere in the prompts differ from what stands in for them."""
    examples, space = evaluate.examples, evaluate.space
    moving = torch.zeros(space.total, dtype=torch.bool)
    inside = torch.arange(examples.tokens.shape[1], device=examples.last.device) <= examples.last.unsqueeze(1)

    def look(site: str, activation: Tensor) -> Tensor:
        part = space.slices.get(site)
        if part is not None:
            moving[part] = (activation != stand_ins[site])[inside].any(0).cpu()
        return activation

    evaluate.model(examples.tokens, tap=look, at=examples.last)
    return moving


def magnitude(model: GPT) -> Float[Tensor, "nodes"]:
    """The root of the summed squares of each node's weights, to and from other nodes."""
    space = NodeSpace(model.config)
    squares = torch.zeros(space.total)
    for source, target, weight in graph.matrices(model):
        square = weight.float().square().cpu()
        squares[space.slices[source]] += square.sum(0)
        squares[space.slices[target]] += square.sum(1)
    return squares.sqrt()
