"""The task loss is −log p(right), over two tokens or over one token against all others."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparse_circuits.tasks import ANY, Examples, log_odds, task_loss, task_losses


def examples(targets: list[int], others: list[int]) -> Examples:
    rows = len(targets)
    loss = "one_token" if ANY in targets + others else "two_token"
    return Examples(
        tokens=torch.zeros(rows, 1, dtype=torch.int64),
        last=torch.zeros(rows, dtype=torch.int64),
        targets=torch.tensor(targets),
        others=torch.tensor(others),
        loss=loss,
    )


TWO = examples([0, 1], [1, 0])
ONE = examples([0, ANY], [ANY, 0])


def test_two_tokens_by_hand() -> None:
    # Only the two completions count: p(0 of {0, 1}) = e^1 / (e^1 + e^0); row two is certain of the wrong one.
    logits = torch.tensor([[1.0, 0.0, 50.0], [math.log(3.0), 0.0, -7.0]])
    losses = task_losses(logits, TWO)
    assert losses.tolist() == pytest.approx([math.log(1 + math.exp(-1)), math.log(4.0)])
    assert task_loss(logits, TWO).item() == pytest.approx(losses.mean().item())


def test_one_token_by_hand() -> None:
    # Probabilities 1/2, 1/4, 1/4: side A wants token 0, side B anything else.
    logits = torch.tensor([[0.5, 0.25, 0.25], [0.2, 0.4, 0.4]]).log()
    assert task_losses(logits, ONE).tolist() == pytest.approx([math.log(2.0), -math.log(0.8)])


def test_equal_logits_are_chance() -> None:
    assert task_loss(torch.zeros(2, 9), TWO).item() == pytest.approx(math.log(2.0))
    assert task_losses(torch.zeros(2, 9), ONE).tolist() == pytest.approx([math.log(9.0), -math.log(8 / 9)])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.1, 30.0), st.integers(2, 40))
def test_agrees_with_the_textbook_formula_in_float64(seed: int, scale: float, vocabulary: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(2, vocabulary, generator=generator)
    p = logits.double().softmax(1)
    one_token = torch.stack([p[0, 0], p[1, 1:].sum()])
    q = logits[:, :2].double().softmax(1)
    two_token = torch.stack([q[0, 0], q[1, 1]])
    for asked, right in ((ONE, one_token), (TWO, two_token)):
        torch.testing.assert_close(task_losses(logits, asked).double(), -right.log(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("asked", [TWO, ONE])
def test_no_overflow_at_extreme_logits(asked: Examples) -> None:
    right = torch.tensor([[1e4, 0.0, 0.0], [-1e4, 0.0, 0.0]], requires_grad=True)
    wrong = torch.tensor([[-1e4, 0.0, 0.0], [1e4, 0.0, 0.0]], requires_grad=True)
    assert task_loss(right, asked).item() == 0.0
    assert task_loss(wrong, asked).item() == pytest.approx(1e4, rel=1e-3)
    for logits in (right, wrong):
        (gradient,) = torch.autograd.grad(task_loss(logits, asked), logits)
        assert gradient.isfinite().all()


def test_small_probability_of_error_keeps_its_digits() -> None:
    # 1 - p(t) with p(t) = e^-40: in float32 the naive form gives exactly zero, loss and gradient alike.
    logits = torch.tensor([[40.0, 0.0], [-40.0, 0.0]], requires_grad=True)
    losses = task_losses(logits, ONE)
    assert losses.tolist() == pytest.approx([math.exp(-40.0)] * 2, rel=1e-5)


@pytest.mark.parametrize("asked", [TWO, ONE])
def test_gradient(asked: Examples) -> None:
    logits = torch.randn(2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: task_losses(z, asked), logits)


def test_exchanging_the_columns_exchanges_right_and_wrong() -> None:
    logits = torch.randn(2, 5, generator=torch.Generator().manual_seed(0))
    for asked in (TWO, ONE):
        exchanged = Examples(asked.tokens, asked.last, asked.others, asked.targets, asked.loss)
        assert torch.allclose(log_odds(logits, asked), -log_odds(logits, exchanged))


def test_half_precision_is_computed_in_float32() -> None:
    logits = torch.tensor([[3.0, 0.5, 1.0], [0.25, 2.0, 1.0]])
    for asked in (TWO, ONE):
        assert torch.equal(task_losses(logits.bfloat16(), asked), task_losses(logits, asked))
