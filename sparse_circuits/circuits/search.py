"""From learned masks to the smallest circuit that meets a target loss (paper, section 3 and appendix B).

`discretise`: rank nodes by tau (or any other score) and find by doubling and bisection the smallest k whose k best
nodes meet the target. The loss is not monotone in k, so the neighbours below are tried too.
`drop_unconnected`, `drop_unneeded`: remove what no path connects, then what the task does not miss, instead of by hand
as the paper did.
"""

import heapq
import math

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from sparse_circuits.circuits.ablation import Measures
from sparse_circuits.circuits.edges import connected
from sparse_circuits.circuits.evaluator import Evaluator as Evaluator
from sparse_circuits.progress import Bar

NEIGHBOURS = 8
COMPLETIONS = 8
"""Nodes that `complete` brings back before it estimates anew, and how often it does."""
EXCHANGED = 12
"""Nodes that `exchange` brings back at a time."""
LITTLE = 0.05
"""A round of `drop_unneeded` that removes no more than this part of what is left is the last of its kind."""
Mask = Bool[Tensor, "nodes"]


def ranked(scores: Float[Tensor, "nodes"]) -> Int64[Tensor, "nodes"]:
    """Node numbers by falling score; among equals the lower number first."""
    return scores.sort(descending=True, stable=True).indices


def discretise(
    evaluate: Evaluator, scores: Float[Tensor, "nodes"], target: float, fewer_than: int | None = None, start: int = 1
) -> Mask | None:
    """The smallest found set of best-scored nodes whose loss is at most `target`; None if all nodes miss it.

    Args:
        fewer_than: another set of so many nodes is known to meet the target: only smaller ones are looked for, and None
            says that none was found.
        start: so many nodes are tried first, then twice as many and so on until they meet the target. For learned masks
            that is the number they keep; other scores say nothing of how many are needed, only which first.
    """
    order = ranked(scores)
    losses: dict[int, float] = {}

    def meets(k: int) -> bool:
        if k not in losses:
            losses[k] = evaluate(first(order, k), target)
        return losses[k] <= target

    total = len(order)
    if fewer_than is None and not meets(total):
        return None
    low, high = 0, total if fewer_than is None else fewer_than
    # Sizes are far below the total; doubling finds them without paying for huge circuits.
    probe = min(total, max(1, start))
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
    return first(order, high) if losses.get(high, math.inf) <= target else None


def complete(evaluate: Evaluator, kept: Mask, target: float) -> Mask | None:
    """`kept` with as few of the removed nodes as it takes to meet `target`, the most promising first; None if it fails.

    What a removed node promises is what the loss would fall by, to first order, if it came back. Between masks that
    training has removed long ago their parameters tell little, so this finds smaller sets than going by rank where the
    trained one just misses the target.
    """
    for _ in range(COMPLETIONS):
        if evaluate(kept, target) <= target:
            return kept
        gains = evaluate.attribution(kept).masked_fill(kept, -torch.inf)
        promising = [node for node in ranked(gains)[:COMPLETIONS].tolist() if float(gains[node]) > 0]
        for count in range(1, len(promising) + 1):
            more = kept.clone()
            more[promising[:count]] = True
            if evaluate(more, target) <= target:
                return more
        if not promising:
            return None
        kept = more
    return None


def drop_unconnected(evaluate: Evaluator, kept: Mask, target: float) -> Mask:
    """`kept` without the nodes that no path connects, unless the loss would then miss `target`.

    Such a node still adds a constant, so removing it can move the loss.
    """
    joined = evaluate.space.flat(connected(evaluate.model, evaluate.space.by_site(kept)))
    return joined if evaluate(joined) <= max(target, evaluate(kept)) else kept


def drop_unneeded(
    measures: Measures,
    kept: Mask,
    target: float,
    progress: bool = False,
    most: int | float = math.inf,
    what: str = "nodes",
) -> Mask:
    """Remove what is least missed, nodes or edges, while the loss stays at most `target`.

    1. Order what is kept by a first-order estimate of its cost. Find by bisection the longest start of that order whose
       joint removal keeps the target; remove it; repeat until that finds little.
    2. Measure the cost of each alone, the least first by what is known so far, and remove whatever then costs less than
       the others are known to; a cost measured before something went serves as an estimate afterwards.
    3. Stop when each that is left has been measured since the last removal, and none can go.

    Args:
        most: measurements that the steps 2 and 3 may take; with fewer than they want they do the most promising, and
            end with a bisection of those that could go, by measured cost.
        what: of which things, for the progress bar.
    """
    with Bar(f"clean {what}", int(kept.sum()), progress) as bar:
        while True:
            costs = measures.attribution(kept)
            order = ranked(-costs)
            candidates = order[kept[order]]
            count = _removable(measures, kept, candidates, target)
            kept = _without(kept, candidates[:count])
            bar.update(0, f"{int(kept.sum())} left")
            if count <= LITTLE * len(candidates):
                break
        return _remove_one_by_one(measures, kept, costs, target, most, bar)


def exchange(evaluate: Evaluator, kept: Mask, target: float, progress: bool = False) -> Mask:
    """Bring back the removed nodes that promise most, so that more of the others can go, as long as that pays.

    Removing nodes one by one ends where each that is left is needed beside the others. The loss that a few others would
    save, to first order, may be worth more nodes than they are.
    """
    while True:
        gains = evaluate.attribution(kept).masked_fill(kept, -torch.inf)
        best = [node for node in ranked(gains)[:EXCHANGED].tolist() if float(gains[node]) > 0]
        more = kept.clone()
        more[best] = True
        fewer = drop_unneeded(evaluate, drop_unconnected(evaluate, more, target), target, progress)
        fewer = drop_unconnected(evaluate, fewer, target)
        # What comes back may do harm instead: then nodes that no path connects go from a set that misses the target.
        if not best or int(fewer.sum()) >= int(kept.sum()) or not evaluate(fewer, target) <= target:
            return kept
        kept = fewer


def _remove_one_by_one(
    measures: Measures, kept: Mask, costs: Tensor, target: float, most: int | float, bar: Bar
) -> Mask:
    """Steps 2 and 3 of `drop_unneeded`."""
    pending = [(float(costs[item].nan_to_num(torch.inf)), item) for item in kept.nonzero().squeeze(1).tolist()]
    heapq.heapify(pending)
    losses: dict[int, float] = {}  # without each, measured since the last removal
    needed: list[tuple[float, int]] = []
    base = measures(kept) if pending and most > 0 else 0.0
    measured = 0
    while pending and measured < most:
        cost, item = heapq.heappop(pending)
        if item not in losses:
            losses[item] = measures(_without(kept, torch.tensor([item])), target)
            measured += 1
            cost = losses[item] - base if losses[item] <= target else math.inf
            heapq.heappush(pending, (cost, item))
        elif losses[item] <= target:
            kept, base = _without(kept, torch.tensor([item])), losses[item]
            pending += needed
            heapq.heapify(pending)
            losses, needed = {}, []
        else:
            needed.append((cost, item))
        bar.update(len(needed), f"{int(kept.sum())} left")
    # No more may be measured: of those that were since the last removal as many go together as can.
    spare = torch.tensor([item for item in sorted(losses, key=losses.__getitem__) if losses[item] <= target])
    return _without(kept, spare[: _removable(measures, kept, spare, target)]) if pending and len(spare) else kept


def _removable(measures: Measures, kept: Mask, candidates: Tensor, target: float) -> int:
    """How many of the first `candidates` can go together, by bisection; whether even one can is always checked."""
    low, high = 0, len(candidates) + 1
    probe = 1
    while high - low > 1:
        if measures(_without(kept, candidates[:probe]), target) <= target:
            low = probe
        else:
            high = probe
        # Grow fast while it goes well, then close in.
        probe = min(low * 2 or 1, high - 1) if high > len(candidates) else (low + high) // 2
    return low


def first(order: Tensor, k: int) -> Mask:
    """The first `k` of `order`."""
    kept = torch.zeros(len(order), dtype=torch.bool)
    kept[order[:k]] = True
    return kept


def _without(kept: Mask, nodes: Tensor) -> Mask:
    fewer = kept.clone()
    fewer[nodes] = False
    return fewer
