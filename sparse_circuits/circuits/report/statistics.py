"""The measures of the report card as formulas over plain tensors, and their intervals.

Intervals are of the percentile bootstrap over pairs (Efron 1979): both sides of a pair are drawn together, the same
draws serve every figure, and the seed is part of the card. A draw is a row of weights that sum to 1, so that the
bootstrap of a mean is one matrix product.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor

DRAWS = 1000
COVERAGE = 0.95

Interval = tuple[float, float]


def draw_weights(pairs: int, draws: int = DRAWS, seed: int = 0) -> Float[Tensor, "draws pairs"]:
    """How often each of `pairs` comes in each of `draws` samples of as many with replacement, over their number."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randint(pairs, (draws, pairs), generator=generator)
    counts = torch.zeros(draws, pairs, dtype=torch.float64)
    return counts.scatter_add_(1, chosen, torch.ones_like(chosen, dtype=torch.float64)) / pairs


def spread(values: Float[Tensor, "draws"], coverage: float = COVERAGE) -> Interval:
    """The central `coverage` of bootstrapped values; draws in which a value is undefined (NaN) do not count."""
    values = values[values.isfinite()].double()
    if not len(values):
        return math.nan, math.nan
    tail = (1 - coverage) / 2
    low, high = torch.quantile(values, torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return low, high


def by_pair(rows: Float[Tensor, "rows"]) -> Float[Tensor, "pairs"]:
    """The mean over both sides of each pair, in float64; rows 0..n-1 are the A sides, n..2n-1 the B sides."""
    return rows.detach().double().cpu().view(2, -1).mean(0)


def divergence(of: Float[Tensor, "*rows V"], to: Float[Tensor, "*rows V"]) -> Float[Tensor, "*rows"]:
    """KL(p || q) in nats for p and q given as log-probabilities, `of` = log p and `to` = log q; 0 log 0 is 0."""
    of, to = of.double(), to.double()
    p = of.exp()
    return torch.where(p > 0, p * (of - to), torch.zeros_like(p)).sum(-1)


def two_way(log_odds: Float[Tensor, "rows"]) -> Float[Tensor, "rows 2"]:
    """Log-probabilities of right and wrong from the log-odds of right."""
    odds = log_odds.double()
    return torch.stack([torch.nn.functional.logsigmoid(odds), torch.nn.functional.logsigmoid(-odds)], dim=-1)


class Moments:
    """Sums over positions, pair by pair, from which correlations of two series a node follow; in float64."""

    def __init__(self, pairs: int, nodes: int):
        self.sums = torch.zeros(6, pairs, nodes, dtype=torch.float64)
        """Of 1, x, y, x^2, y^2 and xy."""

    def add(
        self,
        pairs: Int64[Tensor, "positions"],
        x: Float[Tensor, "positions nodes"],
        y: Float[Tensor, "positions nodes"],
    ) -> None:
        """Count positions, each of the pair that `pairs` says."""
        x, y = x.double(), y.double()
        for total, part in zip(self.sums, (torch.ones_like(x), x, y, x * x, y * y, x * y), strict=True):
            total.index_add_(0, pairs, part)

    def correlations(self, weights: Float[Tensor, "draws pairs"] | None = None) -> Float[Tensor, "draws nodes"]:
        """Pearson's r of every node, over all pairs or for each draw; NaN where either series is constant."""
        pairs = self.sums.shape[1]
        if weights is None:
            weights = torch.full((1, pairs), 1 / pairs, dtype=torch.float64)
        n, x, y, xx, yy, xy = (weights @ part for part in self.sums)
        variances = (xx / n - (x / n) ** 2).clamp(min=0), (yy / n - (y / n) ** 2).clamp(min=0)
        # Rounding leaves a constant a variance of about 1e-16 of its mean square.
        floors = 1e-12 * xx / n, 1e-12 * yy / n
        constant = (variances[0] <= floors[0]) | (variances[1] <= floors[1])
        r = (xy / n - x * y / n**2) / (variances[0] * variances[1]).sqrt()
        return r.clamp(-1, 1).masked_fill(constant, torch.nan)


def faithfulness(
    metric: Float[Tensor, "*draws k"], empty: Float[Tensor, "*draws"], full: Float[Tensor, "*draws"]
) -> Float[Tensor, "*draws k"]:
    """f(k) = (m(C_k) - m(empty)) / (m(full) - m(empty)) (MIB, arXiv 2504.13151); NaN where full and empty agree."""
    gap = (full - empty).unsqueeze(-1)
    return ((metric - empty.unsqueeze(-1)) / gap).masked_fill(gap == 0, torch.nan)


def area(x: Float[Tensor, "k"], y: Float[Tensor, "*draws k"]) -> Float[Tensor, "*draws"]:
    """The integral of y over x by trapezoids."""
    return ((y[..., 1:] + y[..., :-1]) / 2 * x.diff()).sum(-1)


def curve_areas(sizes: Sequence[int], curve: Float[Tensor, "*draws k"]) -> dict[str, Float[Tensor, "*draws"]]:
    """CPR, the integral of f, and CMD, that of |1 - f|, over linear and over logarithmic k, each scaled to 0..1.

    Args:
        sizes: k, rising from 0 through 1 to the number of all nodes.
        curve: f at each k.
    """
    k = torch.tensor(sizes, dtype=torch.float64)
    curve = curve.double()
    linear = k / k[-1]
    logarithmic = k[1:].log() / k[-1].log() if k[-1] > 1 else k[1:]
    missing = (1 - curve).abs()
    return {
        "cpr": area(linear, curve),
        "cmd": area(linear, missing),
        "cpr_log": area(logarithmic, curve[..., 1:]),
        "cmd_log": area(logarithmic, missing[..., 1:]),
    }


def mean_distances(
    sizes: Sequence[int], curve: Float[Tensor, "*draws k"], start: int
) -> dict[str, Float[Tensor, "*draws"]]:
    """The mean of |1 - f| over linear and over logarithmic k from `start` on; what f is below does not count.

    Args:
        sizes: k, rising to the number of all nodes.
        curve: f at each k.
        start: one of `sizes`, at least 1; where it is the last, the distance there.
    """
    place = sizes.index(start)
    k = torch.tensor(sizes[place:], dtype=torch.float64)
    missing = (1 - curve[..., place:].double()).abs()
    if len(k) == 1:
        return {"linear": missing[..., 0], "logarithmic": missing[..., 0]}
    return {axis: area(x, missing) / (x[-1] - x[0]) for axis, x in (("linear", k), ("logarithmic", k.log()))}


def grid(total: int, through: int, points: int) -> list[int]:
    """Sizes 0, 1, ... `total`, evenly spaced in the logarithm from 1 on, `through` among them."""
    if total <= 1:
        return list(range(total + 1))
    steps = [round(math.exp(math.log(total) * i / (points - 1))) for i in range(points)]
    return sorted({0, 1, total, *steps, min(max(through, 0), total)})
