"""What a removed node becomes, and what happens when some come back (paper, section 3).

Every kind is a tap over the one forward:
- mean, zero: a constant for all prompts and positions (`held`, `nodes.keep_only`);
- resample: the node's value in another pair's prompt (`Counterparts`, `Replace`), so that what stands in its place is a
  value the model really computes;
- a frozen final norm: `logits.frozen_logits`.
Part of what was removed can be restored, at random or so as to hurt most (`restored`, `worst_restored`).
"""

import math
from collections.abc import Mapping
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from sparse_circuits.circuits.logits import RowTap
from sparse_circuits.circuits.logits import final_scales as final_scales
from sparse_circuits.circuits.logits import frozen_logits as frozen_logits
from sparse_circuits.circuits.means import Means
from sparse_circuits.circuits.nodes import NodeSpace
from sparse_circuits.errors import InputError
from sparse_circuits.model import GPT
from sparse_circuits.sites import Record, Tap
from sparse_circuits.tasks import Examples

REMEMBERED_BYTES = 256 * 2**20
"""Counterparts of no more than this are computed once and kept; larger ones anew for each evaluation."""
WORST_ROUNDS = 16


def held(means: Means, kind: Literal["mean", "zero"]) -> Float[Tensor, "nodes"]:
    """The constant that each node is held at when it is removed."""
    return means.values if kind == "mean" else torch.zeros_like(means.values)


class Replace:
    """A tap that turns each node x into m * x + (1 - m) * other, where `others` are activations [B, T, C] by site.

    With a boolean choice of nodes kept values pass untouched, bit for bit; with float masks m it is differentiable in
    them. Sites that `others` lacks pass as they are.
    """

    def __init__(
        self, space: NodeSpace, kept: Bool[Tensor, "nodes"] | Float[Tensor, "nodes"], others: Mapping[str, Tensor]
    ):
        widths = list(space.widths.values())
        self._parts = dict(zip(space.widths, kept.split(widths), strict=True))
        self._others = others

    def __call__(self, site: str, activation: Tensor) -> Tensor:
        mask, other = self._parts.get(site), self._others.get(site)
        if mask is None or other is None:
            return activation
        if other.shape != activation.shape:
            raise InputError(
                f"{site} has activations of shape {tuple(activation.shape)}, their counterparts "
                f"{tuple(other.shape)}: they are of other prompts"
            )
        other = other.to(activation.dtype)
        if mask.dtype == torch.bool:
            return torch.where(mask, activation, other)
        mask = mask.to(activation.dtype)
        return mask * activation + (1 - mask) * other


def donors(examples: Examples, seed: int) -> Int64[Tensor, " rows"]:
    """For each row the row whose prompt it gets: another pair's, the side at random, and each row given once.

    Raises:
        InputError: there is only one pair.
    """
    pairs = len(examples)
    if pairs < 2:
        raise InputError("resampling takes activations from other pairs, and there is only one; use more pairs")
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(pairs, generator=generator)
    # Each pair of a random circle gets the next one, so none gets itself.
    given = torch.empty_like(order)
    given[order] = order.roll(-1)
    flipped = torch.randint(2, (pairs,), generator=generator)
    rows = torch.cat([given + pairs * flipped, given + pairs * (1 - flipped)])
    return rows.to(examples.last.device)


class Counterparts:
    """For rows of `examples`, the activations of other pairs' prompts in the same model, aligned at the last token.

    Prompts differ in length: what a row's first tokens have no counterpart for gets the other prompt's first token.
    """

    def __init__(self, model: GPT, examples: Examples, seed: int):
        self.model, self.examples = model, examples
        self.space = NodeSpace(model.config)
        self.donors = donors(examples, seed)
        bytes_needed = 4 * examples.tokens.numel() * self.space.total
        self._remembered: dict[tuple[int, ...], dict[str, Tensor]] | None = (
            {} if bytes_needed <= REMEMBERED_BYTES else None
        )

    @torch.no_grad()
    def at(self, rows: Int64[Tensor, " some"], width: int) -> dict[str, Tensor]:
        """Activations [rows, width, channels] by node site."""
        key = (width, *rows.tolist())
        if self._remembered is not None and key in self._remembered:
            return self._remembered[key]
        chosen = self.donors[rows]
        tokens, last = self.examples.tokens[chosen], self.examples.last[chosen]
        recorder = Record(list(self.space.widths))
        self.model(tokens[:, : int(last.max()) + 1], tap=recorder, at=last)
        positions = torch.arange(width, device=rows.device) + (last - self.examples.last[rows]).unsqueeze(1)
        # Nothing is asked after the last token; there any value serves.
        positions = torch.minimum(positions.clamp(min=0), last.unsqueeze(1)).unsqueeze(2)
        found = {
            site: activation.gather(1, positions.expand(-1, -1, activation.shape[2]))
            for site, activation in recorder.sites.items()
        }
        if self._remembered is not None:
            self._remembered[key] = found
        return found


def counterparts(model: GPT, examples: Examples, seed: int) -> dict[str, Tensor]:
    """Activations [rows, T, channels] by node site that each row of `examples` gets from another pair's prompt."""
    rows = torch.arange(len(examples.last), device=examples.last.device)
    return Counterparts(model, examples, seed).at(rows, examples.tokens.shape[1])


class Resampled(RowTap):
    """The tap of resample ablation, for `last_logits`: kept nodes pass, the others take their counterparts' values."""

    def __init__(self, space: NodeSpace, kept: Bool[Tensor, "nodes"] | Float[Tensor, "nodes"], others: Counterparts):
        self._space, self._kept, self._others = space, kept, others

    def at(self, rows: Int64[Tensor, " some"], width: int) -> Tap:
        return Replace(self._space, self._kept, self._others.at(rows, width))


def restored(
    kept: Bool[Tensor, "nodes"], fraction: float, generator: torch.Generator | None = None
) -> Bool[Tensor, "nodes"]:
    """`kept` and, drawn at random, the nearest whole number to `fraction` of the removed nodes.

    Raises:
        InputError: a fraction outside 0..1.
    """
    if not 0 <= fraction <= 1:
        raise InputError(f"the fraction of removed nodes to restore is {fraction}; it must be from 0 to 1")
    removed = (~kept).nonzero().squeeze(1)
    drawn = torch.randperm(len(removed), generator=generator)[: round(fraction * len(removed))]
    more = kept.clone()
    more[removed[drawn.to(kept.device)]] = True
    return more


@runtime_checkable
class Measures(Protocol):
    """What `search.Evaluator` offers: losses of choices of nodes, and their slopes."""

    def __call__(self, kept: Bool[Tensor, "nodes"], limit: float = math.inf) -> float:
        """The task loss with only `kept` alive; it may be infinity where it is above `limit`."""

    def attribution(self, kept: Bool[Tensor, "nodes"]) -> Float[Tensor, "nodes"]:
        """Minus the slope of the loss in each node's mask."""


def worst_restored(evaluate: Measures, kept: Bool[Tensor, "nodes"], count: int) -> Bool[Tensor, "nodes"]:
    """`kept` and at most `count` removed nodes, chosen so that the loss rises as far as a greedy search finds.

    1. One backward pass at the present choice says how much restoring each removed node raises the loss to first order.
    2. Of the 1, 2, 4, ... most harmful, together no more than may still come, those are restored that raise the
       measured loss most.
    3. Repeat until `count` are restored or the loss rises no further.

    What it finds is a lower bound of the worst case, and never a loss below that of `kept`.

    Raises:
        InputError: a negative count.
    """
    if count < 0:
        raise InputError(f"{count} nodes to restore; it must not be negative")
    now, loss, left = kept, evaluate(kept), count
    for _ in range(WORST_ROUNDS):
        rises = (-evaluate.attribution(now)).masked_fill(now, -torch.inf)
        order = rises.sort(descending=True, stable=True).indices
        harmful = min(left, int((rises > 0).sum()))
        best = None
        for size in _doubling(harmful):
            more = now.clone()
            more[order[:size]] = True
            value = evaluate(more)
            if value > loss:
                best, loss, taken = more, value, size
        if best is None:
            break
        now, left = best, left - taken
    return now


def _doubling(most: int) -> list[int]:
    """1, 2, 4, ... below `most`, and `most` itself; nothing for 0."""
    sizes = [2**power for power in range(most.bit_length()) if 2**power < most]
    return [*sizes, most] if most else []
