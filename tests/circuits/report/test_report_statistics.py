"""The measures have their hand-computed values, and the bootstrap is that of the mean."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparse_circuits.circuits.node_sets import jaccard
from sparse_circuits.circuits.report.internals import log_pattern
from sparse_circuits.circuits.report.statistics import (
    Moments,
    by_pair,
    curve_areas,
    divergence,
    draw_weights,
    faithfulness,
    grid,
    mean_distances,
    spread,
    two_way,
)
from sparse_circuits.circuits.report.thresholds import Threshold
from sparse_circuits.kernels.attention import attention_reference


def test_jaccard_by_hand() -> None:
    a, b = torch.zeros(6, dtype=torch.bool), torch.zeros(6, dtype=torch.bool)
    assert jaccard(a, b) == 1.0
    a[[0, 1, 2]] = True
    assert jaccard(a, b) == 0.0
    b[[1, 2, 3]] = True
    assert jaccard(a, b) == 2 / 4


def test_divergence_by_hand() -> None:
    p, q = torch.tensor([0.5, 0.5, 0.0]).log(), torch.tensor([0.25, 0.5, 0.25]).log()
    assert float(divergence(p, q)) == pytest.approx(0.5 * math.log(2))
    assert float(divergence(p, p)) == 0.0
    assert float(divergence(q, p)) == math.inf
    odds = torch.tensor([0.0, math.log(3)])
    assert two_way(odds).exp().flatten().tolist() == pytest.approx([0.5, 0.5, 0.75, 0.25])


def test_pairs_are_means_of_both_sides() -> None:
    assert by_pair(torch.tensor([1.0, 2.0, 3.0, 6.0])).tolist() == [2.0, 4.0]


def test_correlations_are_numpys_also_when_pairs_weigh_differently() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(30, 3, generator=generator, dtype=torch.float64) + 100
    y = 0.5 * x + torch.randn(30, 3, generator=generator, dtype=torch.float64)
    y[:, 2] = 7.0
    pairs = torch.arange(30) % 5
    moments = Moments(5, 3)
    moments.add(pairs[:13], x[:13], y[:13])
    moments.add(pairs[13:], x[13:], y[13:])
    found = moments.correlations()[0]
    for node in (0, 1):
        assert float(found[node]) == pytest.approx(np.corrcoef(x[:, node], y[:, node])[0, 1], rel=1e-9)
    assert found[2].isnan()
    # Pair 0 three times, pair 3 twice.
    weights = torch.tensor([[0.6, 0, 0, 0.4, 0]], dtype=torch.float64)
    chosen = torch.cat([torch.cat([x[pairs == p]] * n) for p, n in ((0, 3), (3, 2))])
    other = torch.cat([torch.cat([y[pairs == p]] * n) for p, n in ((0, 3), (3, 2))])
    weighted = moments.correlations(weights)[0]
    assert float(weighted[0]) == pytest.approx(np.corrcoef(chosen[:, 0], other[:, 0])[0, 1], rel=1e-9)


def test_faithfulness_and_its_areas_by_hand() -> None:
    """Losses 3, 2, 1, 1 at 0, 1, 2 and 4 nodes: f is 0, 0.5, 1, 1."""
    metric = -torch.tensor([3.0, 2.0, 1.0, 1.0])
    curve = faithfulness(metric, metric[0], metric[-1])
    assert curve.tolist() == [0.0, 0.5, 1.0, 1.0]
    areas = {name: float(area) for name, area in curve_areas([0, 1, 2, 4], curve).items()}
    # Linear: quarters of width 1/4, 1/4 and 1/2. Logarithmic: ln 2 is half of ln 4.
    assert areas == pytest.approx({"cpr": 0.75, "cmd": 0.25, "cpr_log": 0.875, "cmd_log": 0.125})


def test_too_much_is_as_unfaithful_as_too_little() -> None:
    areas = curve_areas([0, 1, 4], torch.tensor([0.0, 1.5, 1.5]))
    assert float(areas["cpr_log"]) == pytest.approx(1.5)
    assert float(areas["cmd_log"]) == pytest.approx(0.5)
    assert faithfulness(torch.tensor([1.0, 1.0]), torch.tensor(1.0), torch.tensor(1.0)).isnan().all()


def test_distances_from_a_size_on_by_hand() -> None:
    """f is 0, 0.8, 1.4, 1 at 0, 1, 2 and 4 nodes: 1, 0.2, 0.4, 0 from 1."""
    sizes, curve = [0, 1, 2, 4], torch.tensor([0.0, 0.8, 1.4, 1.0], dtype=torch.float64)
    found = [{axis: float(mean) for axis, mean in mean_distances(sizes, curve, start).items()} for start in (1, 2, 4)]
    # From 1: 0.3 over 1 node and 0.2 over 2 more, each half of the logarithm. From 2: 0.2. At 4: nothing is left.
    assert found[0] == pytest.approx({"linear": 0.7 / 3, "logarithmic": 0.25})
    assert found[1] == pytest.approx({"linear": 0.2, "logarithmic": 0.2})
    assert found[2] == pytest.approx({"linear": 0, "logarithmic": 0})
    draws = mean_distances(sizes, torch.stack([curve, torch.zeros(4, dtype=torch.float64)]), 2)
    assert draws["linear"].tolist() == pytest.approx([0.2, 1.0])


@given(st.integers(1, 9000), st.integers(0, 9000), st.integers(2, 40))
def test_grids_rise_from_nothing_to_everything_through_the_circuit(total: int, through: int, points: int) -> None:
    through = min(through, total)
    sizes = grid(total, through, points)
    assert sizes[0] == 0
    assert sizes[-1] == total
    assert {1, through} <= set(sizes)
    assert sizes == sorted(set(sizes))
    assert len(sizes) <= points + 3


def test_the_bootstrap_is_that_of_the_mean() -> None:
    weights = draw_weights(50, seed=3)
    assert torch.equal(weights, draw_weights(50, seed=3))
    assert torch.allclose(weights.sum(1), torch.ones(1000, dtype=torch.float64))
    values = torch.arange(50, dtype=torch.float64)
    low, high = spread(weights @ values)
    error = 1.96 * float(values.std(correction=0)) / math.sqrt(50)
    assert low == pytest.approx(24.5 - error, abs=0.5)
    assert high == pytest.approx(24.5 + error, abs=0.5)
    assert spread(torch.tensor([math.nan, 2.0, 2.0])) == (2.0, 2.0)
    assert all(math.isnan(end) for end in spread(torch.tensor([math.nan])))


@pytest.mark.parametrize("sink", [True, False])
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), length=st.integers(1, 6))
def test_patterns_are_those_of_attention(sink: bool, seed: int, length: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(3, length, 4, generator=generator, dtype=torch.float64) for _ in "qkv")
    logit = torch.randn(1, generator=generator, dtype=torch.float64) if sink else None
    last = torch.randint(length, (3,), generator=generator)
    rows = torch.arange(3)
    pattern = log_pattern(q[rows, last], k, last, logit[0] if logit is not None else None).exp()
    assert torch.allclose(pattern.sum(1), torch.ones(3, dtype=torch.float64))
    expected = attention_reference(q, k, v, 1, logit)[rows, last]
    torch.testing.assert_close(torch.einsum("bt,btc->bc", pattern[:, :length], v), expected)


def test_lines_are_drawn_on_either_side() -> None:
    less, more = Threshold(1.0, 2.0, ""), Threshold(0.8, 0.5, "")
    assert [less.judge(value) for value in (0.5, 1.0, 1.5, 2.0, 2.1, math.nan)] == [
        "holds", "holds", "weak", "weak", "fails", "fails",
    ]  # fmt: skip
    assert [more.judge(value) for value in (1.0, 0.8, 0.6, 0.5, 0.4)] == ["holds", "holds", "weak", "weak", "fails"]
    # A good value whose interval reaches where it would fail is not good enough.
    assert less.judge(0.9, (0.1, 1.9)) == "holds"
    assert less.judge(0.9, (0.1, 2.1)) == "weak"
    assert more.judge(0.9, (0.4, 1.1)) == "weak"


@pytest.mark.parametrize("interval", [(math.nan, math.nan), (0.9, math.nan), (math.nan, 0.9)])
@pytest.mark.parametrize("threshold", [Threshold(1.0, 2.0, ""), Threshold(0.8, 0.5, "")])
def test_an_interval_that_is_not_known_shows_nothing(threshold: Threshold, interval: tuple[float, float]) -> None:
    assert threshold.judge(0.9, interval) == "weak"
    assert threshold.judge(0.9, (0.9, 0.9)) == threshold.judge(0.9) == "holds"
    assert threshold.judge(threshold.bad * 2 - threshold.good, interval) == "fails"
