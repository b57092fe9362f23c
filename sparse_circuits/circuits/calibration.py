"""Calibration: a circuit often ranks the answers rightly with too little or too much confidence (paper, appendix B).

Sixteen LBFGS steps on a scale and a shift of the logits: for two-token tasks a scale and an offset of the difference
between the completions (a shift common to both cancels in the softmax), for full-vocabulary tasks a scale and a vector.

A scale below zero is none: the calibrated circuit would say the opposite of what the circuit says. The targets are
softened after Platt (1999, "Probabilistic outputs for support vector machines"): of N rows nothing is learnt that is
surer than 1 - 1 / (N + 2). Where the circuit tells all of them apart, no scale would be too large otherwise, and other
rows would be answered wrongly with all that confidence. A circuit that is right and surer than that by itself is left
as it is.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from sparse_circuits.tasks import Examples, log_odds

STEPS = 16


@dataclass(frozen=True)
class Calibration:
    """A scale and a shift of the logits."""

    scale: float
    shift: Float[Tensor, "..."]
    """A number added to the log-odds of side A's completion over side B's, or a vector over the vocabulary."""

    def odds(self, logits_last: Float[Tensor, "rows V"], examples: Examples) -> Float[Tensor, "rows"]:
        """Log-odds of the right answer of each row with calibrated logits; positive where that is the one chosen."""
        return _odds(torch.tensor(self.scale), self.shift.to(logits_last.device), logits_last, examples)

    def losses(self, logits_last: Float[Tensor, "rows V"], examples: Examples) -> Float[Tensor, "rows"]:
        """-log p(right) of each row with calibrated logits, in nats."""
        return -F.logsigmoid(self.odds(logits_last, examples))


def calibrate(logits_last: Float[Tensor, "rows V"], examples: Examples) -> Calibration:
    """Fit scale and shift to `examples`; no change where that is no better for these."""
    logits = logits_last.detach().float()
    found = _fitted(logits, examples, 1.0)
    if found.scale < 0:
        # Of those that are not below it zero is best, where the problem is convex: between two completions it is.
        found = _fitted(logits, examples, 0.0)
    unchanged = Calibration(1.0, torch.zeros_like(found.shift))
    better = found.losses(logits, examples).mean() <= unchanged.losses(logits, examples).mean()
    usable = math.isfinite(found.scale) and bool(found.shift.isfinite().all())
    return found if usable and better else unchanged


def odds_under(
    calibration: Calibration | None, logits_last: Float[Tensor, "rows V"], examples: Examples
) -> Float[Tensor, "rows"]:
    """Log-odds of the right answer of each row, calibrated where there is a calibration; on the CPU."""
    if calibration is None:
        return log_odds(logits_last, examples).cpu()
    return calibration.odds(logits_last.cpu(), examples.to("cpu"))


def _fitted(logits: Tensor, examples: Examples, start: float) -> Calibration:
    """Scale and shift, or the shift alone where the scale starts at 0."""
    scale = torch.full((), start, device=logits.device, requires_grad=start != 0)
    doubt = 1 / (len(logits) + 2)
    shape = () if examples.loss == "two_token" else (logits.shape[1],)
    shift = torch.zeros(shape, device=logits.device, requires_grad=True)
    free = [scale, shift] if scale.requires_grad else [shift]
    # A step's line search needs a few evaluations; PyTorch's own limit would stop before the last step.
    optimizer = torch.optim.LBFGS(free, max_iter=STEPS, max_eval=8 * STEPS, line_search_fn="strong_wolfe")

    def closure() -> float:
        optimizer.zero_grad()
        odds = _odds(scale, shift, logits, examples)
        loss = -((1 - doubt) * F.logsigmoid(odds) + doubt * F.logsigmoid(-odds)).mean()
        loss.backward()
        return float(loss.detach())

    with torch.enable_grad():
        optimizer.step(closure)
    return Calibration(float(scale.detach()), shift.detach())


def _odds(scale: Tensor, shift: Tensor, logits: Tensor, examples: Examples) -> Tensor:
    if examples.loss == "two_token":
        side = torch.ones(len(logits), device=logits.device)
        side[len(examples) :] = -1
        return scale * log_odds(logits, examples) + shift * side
    return log_odds(scale * logits + shift, examples)
