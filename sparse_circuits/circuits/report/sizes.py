"""Point 8: MIB's faithfulness at every size (arXiv 2504.13151), and its integrals over linear and logarithmic size.

f(k) = (m(C_k) - m(empty)) / (m(full) - m(empty)), m the mean log-odds of the right answer (the logit difference, for
two answers), C_k the k first nodes in the circuit's own order: its kept nodes come first, by falling score, then all
others by falling score. Where there are no scores (nodes chosen by hand), the order is that of attribution, a
first-order estimate of what removing each node from the whole model costs.
"""

import math

import torch
from torch import Tensor

from sparse_circuits.circuits.report.rows import Row
from sparse_circuits.circuits.report.statistics import by_pair, curve_areas, faithfulness, grid, spread
from sparse_circuits.circuits.report.subject import Subject
from sparse_circuits.circuits.report.thresholds import CMD, FAITHFUL
from sparse_circuits.circuits.search import Evaluator, ranked
from sparse_circuits.tasks import log_odds


def rows(subject: Subject) -> list[Row]:
    """One row for f at the circuit's size, one for each integral's pair."""
    sizes = grid(subject.space.total, subject.circuit.size, subject.budget.sizes)
    order = node_order(subject)
    metric = torch.stack([_metric(subject, order, k) for k in sizes], dim=1)  # [pairs, sizes]
    weights = subject.weights("report")
    draws = _curve(weights @ metric)
    curve = _curve(metric.mean(0, keepdim=True))[0]
    if not curve.isfinite().all():
        sentence = "The empty circuit is as good as the model, so there is nothing to be faithful to."
        return [Row(8, "faithfulness", "faithfulness at its size", sentence, "fails", unit="f")]
    return [_at_size(subject, sizes, curve, draws), *_areas(subject, sizes, curve, draws)]


def node_order(subject: Subject) -> Tensor:
    """All node numbers, the kept ones first, each part by falling score."""
    scores = subject.circuit.scores
    if scores is None:
        evaluate = Evaluator(subject.runner, subject.examples("report"), subject.circuit.held)
        scores = evaluate.attribution(torch.ones_like(subject.kept))
    order = ranked(scores.float())
    kept = subject.kept[order]
    return torch.cat([order[kept], order[~kept]])


def _metric(subject: Subject, order: Tensor, k: int) -> Tensor:
    if k == len(order):
        logits = subject.logits("report", "model")
    elif k == 0:
        logits = subject.logits("report", "empty")
    else:
        kept = torch.zeros_like(subject.kept)
        kept[order[:k]] = True
        logits = subject.measure(kept)
    return by_pair(log_odds(logits, subject.examples("report")))


def _curve(metric: Tensor) -> Tensor:
    return faithfulness(metric, metric[..., 0], metric[..., -1])


def _at_size(subject: Subject, sizes: list[int], curve: Tensor, draws: Tensor) -> Row:
    place = sizes.index(subject.circuit.size)
    value, interval = float(curve[place]), spread(draws[:, place])
    distance = sorted(abs(1 - end) for end in interval)
    bands = [spread(draws[:, each]) for each in range(len(sizes))]
    by = "its mask scores" if subject.circuit.scores is not None else "attribution"
    sentence = (
        f"The circuit has {value:.0%} of the log-odds that the model adds to the empty circuit's"
        f"{', more than the model itself' if value > 1 else ''} (nodes in the order of {by})."
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
        data={
            "sizes": sizes,
            "f": curve.tolist(),
            "low": [low for low, _ in bands],
            "high": [high for _, high in bands],
            "size": subject.circuit.size,
            "order": by,
        },
    )


def _areas(subject: Subject, sizes: list[int], curve: Tensor, draws: Tensor) -> list[Row]:
    total, size = sizes[-1], max(1, subject.circuit.size)
    values = {name: float(area) for name, area in curve_areas(sizes, curve).items()}
    spreads = {name: spread(area) for name, area in curve_areas(sizes, draws).items()}
    # Below its size a circuit cannot be faithful, and on the logarithmic axis that is a good part of the way.
    unavoidable = math.log(size) / math.log(total) if total > 1 else 0.0
    found = []
    for suffix, axis, start in (("", "linear", size / total), ("_log", "logarithmic", unavoidable)):
        value, (low, high) = values[f"cmd{suffix}"], spreads[f"cmd{suffix}"]
        rest = max(1e-9, 1 - start)
        beyond = [max(0.0, end - start) / rest for end in (value, low, high)]
        sentence = (
            f"Over {axis} size f is {value:.2f} from 1 on average (CMD), and its mean is "
            f"{values[f'cpr{suffix}']:.2f} (CPR); a circuit perfect from {size:,} of {total:,} nodes on, and nothing "
            f"below, has {start:.2f} and {1 - start:.2f}."
        )
        found.append(
            Row(
                8,
                f"cmd{suffix}",
                f"CMD over {axis} size",
                sentence,
                CMD.judge(beyond[0], (beyond[1], beyond[2])),
                value,
                (low, high),
                "area",
                data={"cpr": values[f"cpr{suffix}"], "cpr_interval": list(spreads[f"cpr{suffix}"]), "start": start},
            )
        )
    return found
