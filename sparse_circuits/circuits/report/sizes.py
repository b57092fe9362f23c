"""Point 8: MIB's faithfulness at every size (arXiv 2504.13151), and its integrals over linear and logarithmic size.

f(k) = (m(C_k) - m(empty)) / (m(full) - m(empty)), C_k the k first nodes in the circuit's own order: its kept nodes come
first, by falling score, then all others by falling score. Where there are no scores (nodes chosen by hand), the order
is that of attribution, a first-order estimate of what removing each node from the whole model costs.

The metric m is minus the loss, which is what circuits are asked to keep: f is the share of it that is recovered. Beside
it stands f in log-odds of the right answer, MIB's logit difference. There a circuit that is pruned to a target stops
short of a confident model by design, so it is compared with what the target itself allows.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sparse_circuits.circuits.calibration import odds_under
from sparse_circuits.circuits.report.rows import Row
from sparse_circuits.circuits.report.statistics import (
    by_pair,
    curve_areas,
    faithfulness,
    grid,
    mean_distances,
    spread,
)
from sparse_circuits.circuits.report.subject import Subject
from sparse_circuits.circuits.report.thresholds import CMD, FAITHFUL
from sparse_circuits.circuits.search import first, ranked


@dataclass(frozen=True)
class _Curve:
    """f at each size, and in each bootstrap draw."""

    sizes: list[int]
    f: Tensor
    draws: Tensor

    @classmethod
    def of(cls, sizes: list[int], metric: Tensor, weights: Tensor) -> "_Curve":
        """From the metric of each pair [pairs, sizes]."""
        curves = [
            faithfulness(each, each[..., 0], each[..., -1]) for each in (metric.mean(0, keepdim=True), weights @ metric)
        ]
        return cls(sizes, curves[0][0], curves[1])

    def data(self, size: int) -> dict[str, object]:
        """For the plot."""
        bands = [spread(self.draws[:, place]) for place in range(len(self.sizes))]
        return {
            "sizes": self.sizes,
            "f": self.f.tolist(),
            "low": [low for low, _ in bands],
            "high": [high for _, high in bands],
            "size": size,
        }


def rows(subject: Subject) -> list[Row]:
    """A row for f at the circuit's size, one for each axis's integrals, one for f in log-odds."""
    sizes = grid(subject.space.total, subject.circuit.size, subject.budget.sizes)
    order = node_order(subject)
    odds = torch.stack([_odds(subject, order, k) for k in sizes], dim=-1)  # [rows, sizes]
    losses = torch.nn.functional.softplus(-odds)
    weights = subject.weights("report")
    recovered, confident = (
        _Curve.of(sizes, torch.stack([by_pair(column) for column in metric.T], dim=1), weights)
        for metric in (-losses, odds)
    )
    if not recovered.f.isfinite().all():
        sentence = "The empty circuit is as good as the model, so there is nothing to be faithful to."
        return [Row(8, "faithfulness", "faithfulness at its size", sentence, "fails", unit="f")]
    return [_at_size(subject, recovered), *_areas(subject, recovered), _confidence(subject, confident, odds)]


def node_order(subject: Subject) -> Tensor:
    """All node numbers, the kept ones first, each part by falling score."""
    scores = subject.circuit.scores
    if scores is None:
        scores = subject.evaluator().attribution(torch.ones_like(subject.kept))
    order = ranked(scores.float())
    kept = subject.kept[order]
    return torch.cat([order[kept], order[~kept]])


def _odds(subject: Subject, order: Tensor, k: int) -> Tensor:
    """Log-odds of each row as C_k is judged: where the circuit is calibrated, by a fit to each size of its own."""
    if k in (0, len(order), subject.circuit.size):
        odds = subject.odds("report", "model" if k == len(order) else "circuit" if k else "empty")
    else:
        kept = first(order, k)
        odds = odds_under(subject.fitted(kept), subject.measure(kept), subject.examples("report"))
    return odds.double()


def _at_size(subject: Subject, curve: _Curve) -> Row:
    size = subject.circuit.size
    place = curve.sizes.index(size)
    value, interval = float(curve.f[place]), spread(curve.draws[:, place])
    distance = sorted(abs(1 - end) for end in interval)
    by = "its mask scores" if subject.circuit.scores is not None else "attribution"
    sentence = (
        f"The circuit recovers {value:.0%} of what the model's loss is below the empty circuit's"
        f"{', more than the model itself' if value > 1 else ''} (on the curve, nodes in the order of {by})."
    )
    return Row(
        8,
        "faithfulness",
        "faithfulness at its size",
        sentence,
        FAITHFUL.judge(abs(1 - value), (distance[0], distance[1])),
        value,
        interval,
        "f",
        data={**curve.data(size), "order": by},
    )


def _areas(subject: Subject, curve: _Curve) -> list[Row]:
    """MIB's integrals; the verdict is on the mean of |1 - f| from the circuit's size on."""
    total, size = curve.sizes[-1], max(1, subject.circuit.size)
    values = {name: float(area) for name, area in curve_areas(curve.sizes, curve.f).items()}
    spreads = {name: spread(area) for name, area in curve_areas(curve.sizes, curve.draws).items()}
    beyond = {axis: float(mean) for axis, mean in mean_distances(curve.sizes, curve.f, size).items()}
    ends = {axis: spread(mean) for axis, mean in mean_distances(curve.sizes, curve.draws, size).items()}
    found = []
    for suffix, axis in (("", "linear"), ("_log", "logarithmic")):
        value, interval = values[f"cmd{suffix}"], spreads[f"cmd{suffix}"]
        sentence = (
            f"Over {axis} size f is {value:.2f} from 1 on average (CMD), and its mean is "
            f"{values[f'cpr{suffix}']:.2f} (CPR); from the circuit's {size:,} of {total:,} nodes on, which the verdict "
            f"is about, f is {beyond[axis]:.2f} from 1 on average."
        )
        found.append(
            Row(
                8,
                f"cmd{suffix}",
                f"CMD over {axis} size",
                sentence,
                CMD.judge(beyond[axis], ends[axis]),
                value,
                interval,
                "area",
                data={
                    "cpr": values[f"cpr{suffix}"],
                    "cpr_interval": list(spreads[f"cpr{suffix}"]),
                    "beyond": beyond[axis],
                    "beyond_interval": list(ends[axis]),
                },
            )
        )
    return found


def _confidence(subject: Subject, curve: _Curve, odds: Tensor) -> Row:
    """f in log-odds, beside the f of a circuit whose every row has exactly the target loss."""
    place = curve.sizes.index(subject.circuit.size)
    value, interval = float(curve.f[place]), spread(curve.draws[:, place])
    empty, full = float(odds[:, 0].mean()), float(odds[:, -1].mean())
    allowed = -math.log(math.expm1(subject.config.target_loss))
    asked = min(1.0, (allowed - empty) / (full - empty)) if full > empty else math.nan
    # Anything from what was asked to what the model has is right.
    distances = [max(0.0, 1 - end / asked, end - 1) if asked > 0 else math.inf for end in (value, *interval)]
    areas = {name: float(area) for name, area in curve_areas(curve.sizes, curve.f).items()}
    sentence = (
        f"In log-odds of the right answer (MIB's logit difference) f is {value:.2f}; a circuit exactly at the target "
        f"has {asked:.2f}. There CPR is {areas['cpr']:.2f} and CMD {areas['cmd']:.2f} over linear size, "
        f"{areas['cpr_log']:.2f} and {areas['cmd_log']:.2f} over logarithmic size."
    )
    return Row(
        8,
        "faithfulness_odds",
        "faithfulness in log-odds",
        sentence,
        FAITHFUL.judge(distances[0], (min(distances), max(distances))),
        value,
        interval,
        "f",
        data={**curve.data(subject.circuit.size), "asked": asked, **areas},
    )
