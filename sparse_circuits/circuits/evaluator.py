"""The task loss of any choice of nodes on fixed examples, under whatever becomes of the others.

Few nodes are evaluated folded (`folded`, `folded_resampled`), which takes a fraction of the time; anything else by the
model's forward pass.
"""

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sparse_circuits.circuits.ablation import Counterparts, Resampled
from sparse_circuits.circuits.calibration import Calibration, calibrate
from sparse_circuits.circuits.folded import Folds, folds, wanted
from sparse_circuits.circuits.folded_resampled import resampled_folds
from sparse_circuits.circuits.logits import (
    RowTap,
    batches_of_logits,
    frozen_logits,
    gathered,
    last_logits,
    rows_by_length,
    rows_of,
)
from sparse_circuits.circuits.nearby import Nearby
from sparse_circuits.circuits.nodes import Hold, NodeSpace, keep_only
from sparse_circuits.circuits.twin import Link, without
from sparse_circuits.kernels.decode import State
from sparse_circuits.model import GPT
from sparse_circuits.sites import Tap
from sparse_circuits.tasks import Examples, task_losses

Mask = Bool[Tensor, "nodes"]

ROWS = 16
"""Of few nodes computed at a time."""
FEW_QUESTIONS = 2
"""Of resampled nodes it is not worth while to fold for no more than this: it takes as long as some forward passes."""
ROUNDING = 1e-5
"""Of a sum of losses, more than enough."""


class _Shared:
    """What evaluators of one model have in common, made when it is needed."""

    def __init__(
        self, model: GPT, held: Float[Tensor, "nodes"], examples: Examples, others: Counterparts | None = None
    ):
        self._model, self._held, self._examples, self._others = model, held, examples, others
        self._made: tuple[State, Folds | None, Nearby | None] | None = None
        self._questions = 0
        self.batches = torch.arange(len(examples.last)).split(ROWS)
        """Always of the same rows: in other company a row's logits would be other to the last bit."""
        self.hardest_first: Sequence[int] = range(len(self.batches))
        """Batches by falling loss where last all were asked: a loss above a limit shows soonest in this order."""

    def asked(self) -> tuple[Folds, Nearby] | None:
        """What answers one more question, of the model as it is now: it may be trained between two of them."""
        self._questions += 1
        if not wanted(self._model) or (self._others is not None and self._questions <= FEW_QUESTIONS):
            return None
        made = self._made
        if made is None or not made[0].is_current():
            found = self._fold()
            made = self._made = State(self._model), found, None if found is None else Nearby(found, self._examples)
        _, found, nearby = made
        return None if found is None or nearby is None else (found, nearby)

    def _fold(self) -> Folds | None:
        if self._others is None:
            return folds(self._model, self._held)
        return resampled_folds(self._model, self._held, self._others, self._examples)

    def found(self, losses: Float[Tensor, " rows"]) -> None:
        """Remember what is hard."""
        each = torch.stack([losses[rows].sum() for rows in self.batches])
        self.hardest_first = each.argsort(descending=True, stable=True).tolist()


class Evaluator:
    """The task loss of any choice of nodes on fixed examples.

    Args:
        model: what runs.
        held: what each removed node is held at.
        others: removed nodes take the values of these instead (resample ablation).
        scales: what the final norm divides by in each row; its own live scale where None.
        calibrated: measure losses after `calibrate` has fitted a scale and a shift of the logits to these examples,
            for each choice of nodes its own; `under` takes one that is given.
    """

    def __init__(
        self,
        model: GPT,
        examples: Examples,
        held: Float[Tensor, "nodes"],
        others: Counterparts | None = None,
        scales: Float[Tensor, " rows"] | None = None,
        calibrated: bool = False,
    ):
        self._whole, self.examples = model, examples
        self._twin: GPT | None = model
        self.dropped: tuple[Link, ...] = ()
        self.space = NodeSpace(model.config)
        self.space.check("ablation means", held)
        self.device = next(model.parameters()).device
        self.held = held.to(self.device)
        self.others, self.scales, self.calibrated = others, scales, calibrated
        self._calibration: Calibration | None = None
        self._shared = _Shared(model, self.held, examples, others)

    @property
    def model(self) -> GPT:
        """What runs: the model itself, or its twin in which the dropped edges are constants."""
        if self._twin is None:
            self._twin = without(self._whole, self.dropped, self.held.cpu())
        return self._twin

    def on(self, twin: GPT) -> "Evaluator":
        """The same question put to a twin of the model; counterparts and scales stay those of the first one."""
        other = copy.copy(self)
        other._whole = other._twin = twin
        other.dropped = ()
        other._shared = _Shared(twin, self.held, self.examples, self.others)
        return other

    def without(self, dropped: Iterable[Link]) -> "Evaluator":
        """The same question put to the model without these edges, which carry what their source is held at."""
        other = copy.copy(self)
        other.dropped = tuple(dropped)
        other._twin = None if other.dropped else self._whole
        return other

    def under(self, calibration: Calibration) -> "Evaluator":
        """The same question with this scale and shift of the logits for all choices: what was fitted elsewhere."""
        other = copy.copy(self)
        other.calibrated, other._calibration = True, calibration
        return other

    def __call__(self, kept: Mask, limit: float = math.inf) -> float:
        """Mean -log p(right) in nats with only `kept` alive; infinity as soon as it is sure to be above `limit`."""
        if self.calibrated:
            found = self.logits(kept)
            calibration = self._calibration or calibrate(found, self.examples)
            return float(calibration.losses(found, self.examples).mean())
        losses = torch.zeros(len(self.examples.last), device=self.device)
        for rows, part in self._batches(kept):
            losses[rows] = task_losses(part, rows_of(self.examples, rows))
            # No row's loss is negative, so what is still to come cannot make up for it.
            if float(losses.sum()) > (1 + ROUNDING) * limit * len(losses):
                return math.inf
        self._shared.found(losses)
        return float(losses.mean())

    def logits(self, kept: Mask) -> Float[Tensor, "rows V"]:
        """Logits at the last prompt tokens with only `kept` alive."""
        return gathered(self._batches(kept), self.examples, self._whole.config.vocab_size)

    def _batches(self, kept: Mask) -> Iterator[tuple[Tensor, Tensor]]:
        """Numbers of rows, and their logits at the last prompt tokens."""
        if self.scales is None and self._whole.standing_tap is None:
            found = self._shared.asked()
            if found is not None and found[0].suits(kept):
                rows = [self._shared.batches[number] for number in self._shared.hardest_first]
                streams, enter = found[1].begin(kept, frozenset(self.dropped))
                yield from found[0].batches_of_logits(kept, self.dropped, self.examples, rows, streams, enter)
                return
        yield from batches_of_logits(self.model, self.examples, self.tap(kept), self.scales)

    def tap(self, kept: Mask) -> Tap | RowTap:
        """What removes the nodes outside `kept`."""
        if self.others is not None:
            return Resampled(self.space, kept.to(self.device), self.others)
        return keep_only(self.space, kept.to(self.device), self.held)

    def attribution(self, kept: Mask) -> Float[Tensor, "nodes"]:
        """First-order estimate of how much the loss rises when a node is removed: one backward pass for all."""
        mask = kept.to(self.device, self.held.dtype).requires_grad_()
        if self.others is not None:
            tap: Tap | RowTap = Resampled(self.space, mask, self.others)
        else:
            tap = Hold(self.space, mask, self.held)
        self.slope(tap)
        assert mask.grad is not None
        return -mask.grad.cpu()

    def slope(self, tap: Tap | RowTap) -> None:
        """Add the gradient of the loss under `tap` to whatever it depends on."""
        losses, count = task_losses, len(self.examples.last)
        batches = rows_by_length(self.examples.last)
        if self.calibrated:
            # Near the best scale and shift these count for little, to first order. Its rows have to stay in order.
            calibration = self._calibration
            if calibration is None:
                calibration = calibrate(last_logits(self.model, self.examples, tap, self.scales), self.examples)
            losses = calibration.losses
            batches = (torch.arange(count, device=self.device),)
        for rows in batches:
            part = rows_of(self.examples, rows)
            at = tap.at(rows, part.tokens.shape[1]) if isinstance(tap, RowTap) else tap
            scales = None if self.scales is None else self.scales[rows]
            with torch.enable_grad():
                found = frozen_logits(self.model, part.tokens, part.last, at, scales)
                (losses(found, part).sum() / count).backward()

    def costs(self, kept: Mask, update: Callable[[int], None] = lambda done: None) -> Float[Tensor, "nodes"]:
        """How much the loss rises when each kept node alone is removed; infinity for the others."""
        base = self(kept)
        costs = torch.full((self.space.total,), torch.inf)
        for done, node in enumerate(kept.nonzero().squeeze(1).tolist()):
            fewer = kept.clone()
            fewer[node] = False
            costs[node] = self(fewer) - base
            update(done + 1)
        return costs
