"""Calibration finds the scale and the shift that are there, and never makes the fitted examples worse."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparse_circuits.circuits.calibration import Calibration, calibrate
from sparse_circuits.tasks import ANY, Examples, task_losses

A, B = 0, 1


def examples(pairs: int, loss: str = "two_token") -> Examples:
    rows = torch.zeros(2 * pairs, 1, dtype=torch.int64)
    other = B if loss == "two_token" else ANY
    sides = torch.tensor([A] * pairs + [other] * pairs)
    return Examples(rows, rows[:, 0], sides, sides.flip(0), loss)  # type: ignore[arg-type]


def logits(differences: list[float]) -> torch.Tensor:
    """Three columns: a row's logit of A is above that of B by its difference; the third is never asked for."""
    return torch.tensor([[d + 7.0, 7.0, 99.0] for d in differences])


def test_a_known_scale_and_offset_are_recovered() -> None:
    """At difference 2 side A is right three times in four, at 0 once in four.

    A tenth of each target (8 rows and 2) goes to the other answer: 0.9 * 3/4 + 0.1 * 1/4 = 0.7, scale ln(7/3).
    """
    four = examples(4)
    given_logits = logits([2, 2, 2, 0, 2, 0, 0, 0])
    found = calibrate(given_logits, four)
    assert found.scale == pytest.approx(math.log(7 / 3), abs=1e-3)
    assert float(found.shift) == pytest.approx(-math.log(7 / 3), abs=1e-3)
    entropy = -(0.75 * math.log(0.7) + 0.25 * math.log(0.3))
    assert float(found.losses(given_logits, four).mean()) == pytest.approx(entropy, abs=1e-6)


def test_it_is_no_surer_than_so_few_rows_allow() -> None:
    """Four rows told apart without error: as sure as 5 in 6 is all that they bear out."""
    found = calibrate(logits([1.0, 1.0, -1.0, -1.0]), examples(2))
    assert found.losses(logits([1.0, -1.0]), examples(1)).tolist() == pytest.approx([-math.log(5 / 6)] * 2, abs=1e-3)


def test_answers_are_not_turned_round() -> None:
    """To what always says the other answer a scale below zero would give a loss near none."""
    wrong = logits([-3.0] * 20 + [3.0] * 20)
    found = calibrate(wrong, examples(20))
    assert found.scale == 0
    assert float(found.losses(wrong, examples(20)).mean()) == pytest.approx(math.log(2))


def test_the_offset_is_of_the_difference_and_by_hand() -> None:
    """Adding to both logits would cancel in the softmax; the offset favours side A and so costs side B."""
    losses = Calibration(2.0, torch.tensor(0.5)).losses(logits([1.0, -3.0]), examples(1))
    assert losses.tolist() == pytest.approx([math.log(1 + math.exp(-2.5)), math.log(1 + math.exp(-5.5))])
    unshifted = Calibration(2.0, torch.tensor(0.0)).losses(logits([1.0, -3.0]), examples(1))
    assert losses[0] < unshifted[0]
    assert losses[1] > unshifted[1]


@pytest.mark.parametrize("offset", [-10.0, -2.0, 3.0])
def test_a_constant_bias_is_taken_away(offset: float) -> None:
    """The evidence is +-1 on top of a bias; both sides end up equally right."""
    found = calibrate(logits([1 + offset] * 30 + [-1 + offset] * 30), examples(30))
    losses = found.losses(logits([1 + offset, -1 + offset]), examples(1))
    assert losses.max() < 0.05


def test_full_vocabulary_by_hand() -> None:
    vector = torch.tensor([0.5, 0.0, -1.0])
    rows = torch.tensor([[1.0, 2.0, 0.0], [3.0, -1.0, 2.0]])
    losses = Calibration(0.5, vector).losses(rows, examples(1, "one_token"))
    first = [math.exp(x) for x in (1.0, 1.0, -1.0)]  # scale * row + vector
    second = [math.exp(x) for x in (2.0, -0.5, 0.0)]
    expected = [-math.log(first[0] / sum(first)), -math.log(1 - second[0] / sum(second))]
    assert losses.tolist() == pytest.approx(expected, rel=1e-5)


def test_full_vocabulary_fits_a_vector() -> None:
    """Rows that say nothing about the side: the best is p(t) = 1/2, which only a shift of single tokens can reach."""
    rows = torch.tensor([[-4.0, 1.0, 2.0, 0.5]]).expand(10, 4)
    found = calibrate(rows, examples(5, "one_token"))
    assert found.shift.shape == (4,)
    assert found.losses(rows, examples(5, "one_token")).tolist() == pytest.approx([math.log(2)] * 10, abs=5e-3)


@pytest.mark.parametrize("loss", ["two_token", "one_token"])
@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([1e-3, 1.0, 30.0, 1e4]), st.integers(1, 6))
def test_the_loss_on_its_own_examples_never_rises(loss: str, seed: int, size: float, pairs: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    rows = size * torch.randn(2 * pairs, 5, generator=generator)
    asked = examples(pairs, loss)
    found = calibrate(rows, asked)
    assert math.isfinite(found.scale)
    assert found.shift.isfinite().all()
    assert not found.shift.requires_grad
    before, after = task_losses(rows, asked).mean(), found.losses(rows, asked).mean()
    assert after <= before * (1 + 1e-6) + 1e-7


@pytest.mark.parametrize("loss", ["two_token", "one_token"])
@pytest.mark.parametrize("difference", [0.0, 1.0, 40.0, 1e6])
def test_answers_without_error_leave_finite_values(loss: str, difference: float) -> None:
    """The best scale of separable examples is infinite."""
    asked = examples(3, loss)
    rows = logits([difference] * 3 + [-difference] * 3)[:, :2]
    found = calibrate(rows, asked)
    assert math.isfinite(found.scale)
    assert found.shift.isfinite().all()
    losses = found.losses(rows, asked)
    assert losses.isfinite().all()
    assert losses.mean() <= task_losses(rows, asked).mean() + 1e-7


def test_gradients_may_be_off_and_logits_short() -> None:
    with torch.no_grad():
        found = calibrate(logits([2, 2, 2, 0, 2, 0, 0, 0]).bfloat16(), examples(4))
    assert found.scale == pytest.approx(math.log(7 / 3), abs=1e-2)
