"""Scores for every node by other means than learned masks: the baselines that learned masks are compared with.

All are about the same nodes and the same ablation as pruning, over pairs of the `prune` split; high means needed:
1. `attribution`: minus the slope of the loss in the node's mask with every node kept, which is the gradient at the node
   times (held - x), summed over positions: what removing it costs to first order (attribution patching);
2. `integrated`: the mean of those slopes on the way from all nodes removed to all kept, every mask growing alike
   (integrated gradients, Sundararajan et al., 2017); the scores add up to what removing all nodes costs;
3. `patching`: what removing the node alone costs, exactly (activation patching);
4. `magnitude`: the root of the summed squares of the weights at the node, to and from other nodes;
5. `random`.

`baseline` takes such scores the way of learned ones: discretise, clean, calibrate, measure.
"""

import dataclasses
from collections import defaultdict
from pathlib import Path
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from sparse_circuits.circuits import edges as graph
from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.circuits.means import Means
from sparse_circuits.circuits.nodes import Hold, NodeSpace
from sparse_circuits.circuits.prune import prune
from sparse_circuits.circuits.search import Evaluator
from sparse_circuits.config import PruneConfig, ScoreConfig
from sparse_circuits.corpus.packed import PackedCorpus
from sparse_circuits.errors import InputError
from sparse_circuits.fields import nearest, to_json
from sparse_circuits.model import GPT
from sparse_circuits.progress import Bar
from sparse_circuits.tasks import Examples, Task, get_task, task_losses

Method = Literal["attribution", "integrated", "patching", "magnitude", "random"]
METHODS: tuple[Method, ...] = get_args(Method)
ROWS_PER_BATCH = 128
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
    progress: bool = False,
) -> Circuit:
    """The circuit of `task` that the scores of `method` lead to: `prune` without learning, all else the same.

    Args:
        config: as for `prune`; what concerns learning masks does not matter.
        scoring: how scores are computed.
        others: as for `prune`.

    Raises:
        InputError: as `prune`, or an unknown method.
    """
    if method not in METHODS:
        raise InputError(f"no method {method!r} to score nodes by; {nearest(method, METHODS)}")
    task = get_task(task) if isinstance(task, str) else task
    scoring = scoring or ScoreConfig()

    def rank(evaluate: Evaluator) -> Tensor:
        assert model.tokenizer is not None  # `prune` has asked it before
        size = min(scoring.score_pairs, task.size("prune"))
        examples = task.examples(model.tokenizer, "prune", size, scoring.score_seed, model.config.block_size)
        return score(Evaluator(evaluate.model, examples.to(evaluate.device), evaluate.held), method, scoring, progress)

    circuit = prune(model, task, target_loss, config=config, text=text, means=means, rank=rank, progress=progress)
    circuit.found["scores"] = {"method": method, **to_json(scoring)}
    return circuit


def score(
    evaluate: Evaluator, method: Method, config: ScoreConfig | None = None, progress: bool = False
) -> Float[Tensor, "nodes"]:
    """A number for every node, high where it is needed: nats of loss, but for `magnitude` and `random`.

    Args:
        evaluate: the model, the pairs to look at, and what removed nodes become.
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
    generator = torch.Generator().manual_seed(config.score_seed)
    return torch.rand(evaluate.space.total, generator=generator)


def slopes(evaluate: Evaluator, mask: Float[Tensor, "nodes"]) -> Float[Tensor, "nodes"]:
    """Minus the derivative of the loss in each node's mask, every node x being mask * x + (1 - mask) * held."""
    examples = evaluate.examples
    mask = mask.to(evaluate.held).requires_grad_()
    total = torch.zeros_like(mask)
    for rows in examples.last.argsort(stable=True).split(ROWS_PER_BATCH):
        width = int(examples.last[rows].max()) + 1
        with torch.enable_grad():
            tap = Hold(evaluate.space, mask, evaluate.held)
            logits = evaluate.model(examples.tokens[rows, :width], tap=tap, at=examples.last[rows])
            loss = task_losses(logits, _rows(examples, rows)).sum() / len(examples.last)
            total += torch.autograd.grad(loss, mask)[0]
    return -total.cpu()


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

    Many copies of the prompts go through the model at once, each without another node. Nodes that are at their held
    value throughout cost nothing and are not tried.
    """
    examples, space = evaluate.examples, evaluate.space
    base = float(task_losses(evaluate.model(examples.tokens, at=examples.last), examples).mean())
    costs = torch.zeros(space.total)
    nodes = _moving(evaluate).nonzero().squeeze(1)
    copies = max(1, POSITIONS_PER_BATCH // examples.tokens.numel())
    done = 0
    with Bar("nodes", len(nodes), progress) as bar:
        for batch in nodes.split(copies):
            count = len(batch)
            logits = evaluate.model(
                examples.tokens.repeat(count, 1),
                tap=_EachWithout(space, batch, evaluate.held),
                at=examples.last.repeat(count),
            )
            for node, part in zip(batch.tolist(), logits.chunk(count), strict=True):
                costs[node] = float(task_losses(part, examples).mean()) - base
            done += count
            bar.update(done)
    return costs


class _EachWithout:
    """A tap over equal shares of the rows: in share i node i of `nodes` is held."""

    def __init__(self, space: NodeSpace, nodes: Int64[Tensor, "shares"], held: Float[Tensor, "nodes"]):
        self._shares = len(nodes)
        self._parts: dict[str, list[tuple[int, int, Tensor]]] = defaultdict(list)
        for share, node in enumerate(nodes.tolist()):
            site, channel = space.name(node)
            self._parts[site].append((share, channel, held[node]))

    def __call__(self, site: str, activation: Tensor) -> Tensor:
        if site not in self._parts:
            return activation
        changed = activation.clone()
        by_share = changed.unflatten(0, (self._shares, -1))
        for share, channel, value in self._parts[site]:
            by_share[share, ..., channel] = value.to(activation.dtype)
        return changed


@torch.no_grad()
def _moving(evaluate: Evaluator) -> Bool[Tensor, "nodes"]:
    """The nodes that anywhere in the prompts differ from what they are held at."""
    examples, space = evaluate.examples, evaluate.space
    moving = torch.zeros(space.total, dtype=torch.bool)
    inside = torch.arange(examples.tokens.shape[1], device=examples.last.device) <= examples.last.unsqueeze(1)

    def look(site: str, activation: Tensor) -> Tensor:
        part = space.slices.get(site)
        if part is not None:
            moving[part] = (activation[inside] != evaluate.held[part]).any(0).cpu()
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


def _rows(examples: Examples, rows: Int64[Tensor, "some"]) -> Examples:
    """Some rows, no longer pairs."""
    return dataclasses.replace(
        examples,
        tokens=examples.tokens[rows],
        last=examples.last[rows],
        targets=examples.targets[rows],
        others=examples.others[rows],
    )
