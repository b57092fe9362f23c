"""From learned masks to the smallest circuit that meets a target loss (paper, section 3 and appendix B).

`discretise`: rank nodes by tau and find by bisection the smallest k whose k best nodes meet the target. The loss is not
monotone in k, so the neighbours below are tried too.
`clean`: remove what no path connects, then what the task does not miss, instead of by hand as the paper did.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from sparse_circuits.circuits.circuit import last_logits
from sparse_circuits.circuits.edges import connected
from sparse_circuits.circuits.nodes import Hold, NodeSpace, keep_only
from sparse_circuits.model import GPT
from sparse_circuits.progress import Bar
from sparse_circuits.tasks import Examples, task_loss, task_losses

NEIGHBOURS = 8
Mask = Bool[Tensor, "nodes"]


class Evaluator:
    """The task loss of any choice of nodes on fixed examples."""

    def __init__(self, model: GPT, examples: Examples, held: Float[Tensor, "nodes"]):
        self.model, self.examples = model, examples
        self.space = NodeSpace(model.config)
        self.space.check("ablation means", held)
        self.device = next(model.parameters()).device
        self.held = held.to(self.device)

    def __call__(self, kept: Mask) -> float:
        """Mean -log p(right) in nats with only `kept` alive."""
        return float(task_losses(self.logits(kept), self.examples).mean())

    def logits(self, kept: Mask) -> Float[Tensor, "rows V"]:
        """Logits at the last prompt tokens with only `kept` alive."""
        return last_logits(self.model, self.examples, keep_only(self.space, kept.to(self.device), self.held))

    def attribution(self, kept: Mask) -> Float[Tensor, "nodes"]:
        """First-order estimate of how much the loss rises when a node is removed: one backward pass for all."""
        mask = kept.to(self.device, torch.float32).requires_grad_()
        tap = Hold(self.space, mask, self.held)
        with torch.enable_grad():
            logits = self.model(self.examples.tokens, tap=tap, at=self.examples.last)
            (gradient,) = torch.autograd.grad(task_loss(logits, self.examples), mask)
        return -gradient.cpu()

    def costs(self, kept: Mask, update: Callable[[int], None] = lambda done: None) -> Float[Tensor, "nodes"]:
        """How much the loss rises when each kept node alone is removed; infinity for the others."""
        base = self(kept)
        costs = torch.full((self.space.total,), torch.inf)
        for done, node in enumerate(kept.nonzero().squeeze(1).tolist()):
            costs[node] = self(_without(kept, torch.tensor([node]))) - base
            update(done + 1)
        return costs


def ranked(scores: Float[Tensor, "nodes"]) -> Int64[Tensor, "nodes"]:
    """Node numbers by falling score; among equals the lower number first."""
    return scores.sort(descending=True, stable=True).indices


def discretise(evaluate: Evaluator, scores: Float[Tensor, "nodes"], target: float) -> Mask | None:
    """The smallest found set of best-scored nodes whose loss is at most `target`; None if all nodes miss it."""
    order = ranked(scores)
    losses: dict[int, float] = {}

    def meets(k: int) -> bool:
        if k not in losses:
            losses[k] = evaluate(_first(order, k))
        return losses[k] <= target

    total = len(order)
    if not meets(total):
        return None
    low, high = 0, total
    # Trained sizes are far below the total; doubling finds them without paying for huge circuits.
    probe = min(total, max(1, int((scores >= 0).sum())))
    while probe < high:
        if meets(probe):
            high = probe
            break
        low, probe = probe, probe * 2
    while high - low > 1:
        middle = (low + high) // 2
        if meets(middle):
            high = middle
        else:
            low = middle
    below = high - 1
    while below >= max(0, high - NEIGHBOURS):
        if meets(below):
            high = below
        below -= 1
    return _first(order, high)


def drop_unconnected(evaluate: Evaluator, kept: Mask, target: float) -> Mask:
    """`kept` without the nodes that no path connects, unless the loss would then miss `target`.

    Such a node still adds a constant, so removing it can move the loss.
    """
    joined = evaluate.space.flat(connected(evaluate.model, evaluate.space.by_site(kept)))
    return joined if evaluate(joined) <= max(target, evaluate(kept)) else kept


def drop_unneeded(evaluate: Evaluator, kept: Mask, target: float, progress: bool = False) -> Mask:
    """Remove nodes, the least missed first, while the loss stays at most `target`.

    1. Order the nodes by a first-order estimate of their cost, later by the measured cost of each.
    2. Find by bisection the longest start of that order whose joint removal keeps the target; remove it.
    3. Repeat; stop when no single node can go.
    """
    costs = evaluate.attribution(kept)
    exact = False
    with Bar("clean", int(kept.sum()), progress) as bar:
        while True:
            order = ranked(-costs)
            candidates = order[kept[order]]
            count = _removable(evaluate, kept, candidates, target)
            if count:
                kept = _without(kept, candidates[:count])
            elif exact:
                return kept
            bar.say(f"cleaning: {int(kept.sum())} nodes left")
            costs = evaluate.costs(kept, bar.update)
            exact = True


def _removable(evaluate: Evaluator, kept: Mask, candidates: Tensor, target: float) -> int:
    """How many of the first `candidates` can go together, by bisection; whether even one can is always checked."""
    low, high = 0, len(candidates) + 1
    probe = 1
    while high - low > 1:
        if evaluate(_without(kept, candidates[:probe])) <= target:
            low = probe
        else:
            high = probe
        # Grow fast while it goes well, then close in.
        probe = min(low * 2 or 1, high - 1) if high > len(candidates) else (low + high) // 2
    return low


def _first(order: Tensor, k: int) -> Mask:
    kept = torch.zeros(len(order), dtype=torch.bool)
    kept[order[:k]] = True
    return kept


def _without(kept: Mask, nodes: Tensor) -> Mask:
    fewer = kept.clone()
    fewer[nodes] = False
    return fewer
