"""Attention with a sink means exp(score) / (exp(sink) + sum of exp(score)): values, gradients, dtypes, odd shapes."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sparse_circuits.kernels.attention import attention, attention_reference

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPES = [(1, 1, 1, 1), (2, 3, 1, 4), (1, 2, 5, 3), (2, 2, 17, 8)]


def by_the_formula(q: Tensor, k: Tensor, v: Tensor, sink: Tensor | None) -> Tensor:
    """One query at a time, straight from the definition."""
    y = torch.zeros_like(v)
    batches, heads, positions, width = q.shape
    for b in range(batches):
        for h in range(heads):
            for t in range(positions):
                scores = torch.stack([(q[b, h, t] * k[b, h, s]).sum() / math.sqrt(width) for s in range(t + 1)])
                total = scores.exp().sum() + (0 if sink is None else sink[h].exp())
                y[b, h, t] = sum(scores[s].exp() / total * v[b, h, s] for s in range(t + 1))
    return y


def inputs(shape: tuple[int, ...], seed: int = 0, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    made = [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(3)]
    made.append(torch.randn(shape[1], generator=generator, dtype=torch.float64))
    return [tensor.to(dtype).requires_grad_() for tensor in made]


def value_and_gradients(function: object, tensors: list[Tensor], sink: bool) -> list[Tensor]:
    used = tensors if sink else tensors[:3]
    y = function(*used, *([] if sink else [None]))  # type: ignore[operator]
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64).to(y.dtype)
    return [y.detach(), *torch.autograd.grad((y * weights).sum(), used)]


@pytest.mark.parametrize("sink", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_values_and_gradients_of_both_are_the_formulas(shape: tuple[int, ...], sink: bool) -> None:
    tensors = inputs(shape)
    expected = value_and_gradients(by_the_formula, tensors, sink)
    for function in (attention, attention_reference):
        for found, wanted in zip(value_and_gradients(function, tensors, sink), expected, strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-11)


@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 40), st.integers(1, 9)),
    scale=st.sampled_from([0.0, 1.0, 30.0]),
    sink=st.booleans(),
    seed=st.integers(0, 1000),
)
@settings(max_examples=30, deadline=None)
def test_the_fused_path_agrees_with_the_reference(shape: tuple[int, ...], scale: float, sink: bool, seed: int) -> None:
    tensors = [(tensor * scale).detach().requires_grad_() for tensor in inputs(shape, seed)]
    found = value_and_gradients(attention, tensors, sink)
    for mine, wanted in zip(found, value_and_gradients(attention_reference, tensors, sink), strict=True):
        torch.testing.assert_close(mine, wanted, rtol=1e-8, atol=1e-8)


def test_gradients_pass_the_numerical_check() -> None:
    assert torch.autograd.gradcheck(attention, inputs((1, 2, 4, 3)))


def test_one_position_by_hand() -> None:
    """Score 2 * 3 / 1, sink ln 2: the value's weight is e^6 / (e^6 + 2)."""
    q, k, v = (torch.full((1, 1, 1, 1), value, dtype=torch.float64) for value in (2.0, 3.0, 5.0))
    y = attention(q, k, v, torch.tensor([math.log(2)], dtype=torch.float64))
    assert y.item() == pytest.approx(5 * math.exp(6) / (math.exp(6) + 2), rel=1e-12)
    assert attention(q, k, v).item() == pytest.approx(5)


def test_a_very_low_sink_is_none_and_a_very_high_one_takes_all() -> None:
    q, k, v, _ = inputs((2, 3, 6, 4), dtype=torch.float32)
    low, high = (torch.full((3,), value) for value in (-1e4, 1e4))
    torch.testing.assert_close(attention(q, k, v, low), attention(q, k, v))
    assert torch.equal(attention(q, k, v, high), torch.zeros_like(v))


def test_each_head_has_its_own_sink() -> None:
    q, k, v, _ = inputs((1, 2, 4, 3))
    y = attention(q, k, v, torch.tensor([-1e4, 1e4], dtype=torch.float64))
    torch.testing.assert_close(y[:, 0], attention(q, k, v)[:, 0])
    assert not y[:, 1].any()


def test_large_scores_stay_finite() -> None:
    tensors = [(tensor * 1e4).detach().requires_grad_() for tensor in inputs((1, 2, 8, 4), dtype=torch.float32)]
    for tensor in value_and_gradients(attention, tensors, sink=True):
        assert tensor.isfinite().all()


def test_strided_inputs_as_the_model_gives_them() -> None:
    tensors = inputs((2, 6, 3, 4))  # [B, T, H, d], transposed to [B, H, T, d]
    q, k, v = (tensor.transpose(1, 2) for tensor in tensors[:3])
    sink = tensors[3][:3]
    torch.testing.assert_close(attention(q, k, v, sink), by_the_formula(q, k, v, sink))


@pytest.mark.parametrize("sink", [True, False])
def test_bfloat16_comes_back_as_bfloat16_and_loses_only_rounding(sink: bool) -> None:
    low = inputs((2, 2, 9, 8), dtype=torch.bfloat16)
    exact = [tensor.detach().double().requires_grad_() for tensor in low]
    found = value_and_gradients(attention, low, sink)
    for mine, wanted in zip(found, value_and_gradients(by_the_formula, exact, sink), strict=True):
        assert mine.dtype == torch.bfloat16
        torch.testing.assert_close(mine.double(), wanted, rtol=2**-6, atol=2**-6)


@pytest.mark.parametrize("wide", [0, 1, 2])
def test_one_input_may_be_wider_than_the_others(wide: int) -> None:
    tensors = inputs((1, 2, 5, 4), dtype=torch.bfloat16)
    mixed = [tensor.float() if place == wide else tensor for place, tensor in enumerate(tensors)]
    y = attention(*mixed)
    assert y.dtype == mixed[2].dtype
    torch.testing.assert_close(y.double(), by_the_formula(*(t.double() for t in tensors)), rtol=2**-6, atol=2**-6)


def test_no_sequences_give_none() -> None:
    q = torch.zeros(0, 2, 4, 3)
    assert attention(q, q, q, torch.zeros(2)).shape == (0, 2, 4, 3)


def test_a_frozen_sink_or_frozen_values_need_no_gradient() -> None:
    q, k, v, sink = inputs((1, 2, 5, 4))
    expected = value_and_gradients(attention, [q, k, v, sink], sink=True)
    y = attention(q, k, v.detach(), sink.detach())
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    found = torch.autograd.grad((y * weights).sum(), [q, k])
    torch.testing.assert_close(list(found), expected[1:3])
