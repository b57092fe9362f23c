"""Intervals hold the truth as often as they say, and say when there is none."""

import math

import pytest
import torch

from sparse_circuits.circuits.intervals import Measured, geometric_interval, mean_interval, ratio_interval


def test_the_mean_of_what_does_not_vary_is_sure() -> None:
    assert mean_interval(torch.full((7,), 0.25)) == Measured(0.25, 0.25, 0.25)


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    generator = torch.Generator().manual_seed(0)
    samples = torch.randn(200, 40, generator=generator)
    found = [mean_interval(sample) for sample in samples]
    assert all(each.low <= each.value <= each.high for each in found)
    covered = sum(each.low <= 0 <= each.high for each in found) / len(found)
    assert 0.88 <= covered <= 0.99
    assert sum(each.high - each.low for each in found) / 200 == pytest.approx(2 * 1.96 / math.sqrt(40), rel=0.1)


def test_a_ratio_is_that_of_the_sums_and_surer_than_its_parts() -> None:
    below = torch.tensor([1.0, 2.0, 3.0, 10.0])
    assert ratio_interval(0.5 * below, below) == Measured(0.5, 0.5, 0.5)
    assert ratio_interval(torch.tensor([1.0, 0.0]), torch.tensor([1.0, 3.0])).value == 0.25


def test_no_number_where_there_is_no_ratio() -> None:
    for above, below in ((torch.ones(2), torch.tensor([1.0, -1.0])), (torch.ones(0), torch.ones(0))):
        found = ratio_interval(above, below)
        assert all(map(math.isnan, (found.value, found.low, found.high)))


def test_geometric_means_are_those_of_the_logarithms() -> None:
    values = torch.tensor([1.0, 4.0, 16.0])
    found = geometric_interval(values)
    logs = mean_interval(values.double().log())
    assert (found.value, found.low, found.high) == pytest.approx(
        [math.exp(e) for e in (logs.value, logs.low, logs.high)]
    )
    assert found.value == pytest.approx(4)
    one, none = geometric_interval(torch.tensor([3.0])), geometric_interval(torch.ones(0))
    assert one.value == pytest.approx(3)
    assert math.isnan(one.low)
    assert math.isnan(none.value)
