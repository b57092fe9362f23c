"""How sure a measured mean is: 95% bootstrap intervals over pairs (or windows of text, or tasks).

What is measured on the same pairs is drawn together, so that a difference or a ratio is as sure as its pairs allow.
Whether nodes, prompts or seeds were drawn again is the caller's question; here only pairs are.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

DRAWS = 2000
LEVEL = 0.95


@dataclass(frozen=True)
class Measured:
    """A number with its 95% interval; NaN where it has no meaning."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return self.text()

    def text(self, digits: int = 3) -> str:
        """The number and, in brackets, its interval."""
        return f"{self.value:.{digits}f} [{self.low:.{digits}f}, {self.high:.{digits}f}]"


def mean_interval(values: Float[Tensor, "n"], seed: int = 0) -> Measured:
    """The mean of `values`, one number a pair."""
    return ratio_interval(values, torch.ones_like(values), seed)


def geometric_interval(values: Float[Tensor, "n"], seed: int = 0) -> Measured:
    """The geometric mean of `values`, all above 0, drawn again as `mean_interval` draws them.

    No interval (NaN) for a single value: it says nothing about others.
    """
    mean = mean_interval(values.double().log(), seed)
    low, high = (mean.low, mean.high) if len(values) > 1 else (torch.nan, torch.nan)
    return Measured(*(math.exp(end) for end in (mean.value, low, high)))


def ratio_interval(above: Float[Tensor, "n"], below: Float[Tensor, "n"], seed: int = 0) -> Measured:
    """sum(above) / sum(below), one number of each a pair; NaN where the sum below is not positive.

    Draws whose sum below is not positive have no ratio and are left out of the interval.
    """
    above, below = above.double().cpu(), below.double().cpu()
    n = len(above)
    if n == 0 or not float(below.sum()) > 0:
        return Measured(torch.nan, torch.nan, torch.nan)
    drawn = torch.randint(n, (DRAWS, n), generator=torch.Generator().manual_seed(seed))
    sums = below[drawn].sum(1)
    ratios = (above[drawn].sum(1) / sums)[sums > 0]
    tail = (1 - LEVEL) / 2
    low, high = ratios.quantile(torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return Measured(float(above.sum() / below.sum()), low, high)
