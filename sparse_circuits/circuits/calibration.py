"""Calibration: a circuit often ranks the answers rightly with too little or too much confidence (paper, appendix B).

Sixteen LBFGS steps on a scale and a shift of the logits: for two-token tasks a scale and an offset of the difference
between the completions (a shift common to both cancels in the softmax), for full-vocabulary tasks a scale and a vector.
"""

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

    def losses(self, logits_last: Float[Tensor, "rows V"], examples: Examples) -> Float[Tensor, "rows"]:
        """-log p(right) of each row with calibrated logits, in nats."""
        shift = self.shift.to(logits_last.device)
        return -F.logsigmoid(_odds(torch.tensor(self.scale), shift, logits_last, examples))


def calibrate(logits_last: Float[Tensor, "rows V"], examples: Examples) -> Calibration:
    """Fit scale and shift to `examples`, starting from no change."""
    logits = logits_last.detach().float()
    scale = torch.ones((), device=logits.device, requires_grad=True)
    shape = () if examples.loss == "two_token" else (logits.shape[1],)
    shift = torch.zeros(shape, device=logits.device, requires_grad=True)
    # A step's line search needs a few evaluations; PyTorch's own limit would stop before the last step.
    optimizer = torch.optim.LBFGS([scale, shift], max_iter=STEPS, max_eval=8 * STEPS, line_search_fn="strong_wolfe")

    def closure() -> float:
        optimizer.zero_grad()
        loss = -F.logsigmoid(_odds(scale, shift, logits, examples)).mean()
        loss.backward()
        return float(loss.detach())

    with torch.enable_grad():
        optimizer.step(closure)
    if not (scale.isfinite() and shift.isfinite().all()):
        return Calibration(1.0, torch.zeros(shape, device=logits.device))
    return Calibration(float(scale.detach()), shift.detach())


def _odds(scale: Tensor, shift: Tensor, logits: Tensor, examples: Examples) -> Tensor:
    if examples.loss == "two_token":
        side = torch.ones(len(logits), device=logits.device)
        side[len(examples) :] = -1
        return scale * log_odds(logits, examples) + shift * side
    return log_odds(scale * logits + shift, examples)
