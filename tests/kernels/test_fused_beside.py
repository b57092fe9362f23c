"""Channels beside those of a norm: one kernel for norm, concatenation, AbsTopK and masks means what PyTorch says."""

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_fused import DTYPES, UNREAD, assert_close
from torch import Tensor
from torch.nn import functional as F

from sparse_circuits import kernels
from sparse_circuits.errors import InputError
from sparse_circuits.kernels import fused, fused_cpu
from sparse_circuits.sparsity import abs_topk


class Case(NamedTuple):
    """Inputs of one call, for rows [batch, positions]."""

    x: Tensor
    weight: Tensor
    beside: Tensor
    mask: Tensor
    held: Tensor
    gradient: Tensor

    @classmethod
    def of(
        cls,
        shape: tuple[int, int, int],
        channels: int,
        dtype: torch.dtype = torch.float32,
        seed: int = 0,
        few_values: bool = False,
        own: bool = False,
    ) -> "Case":
        """Random ones; `own`: every row has channels of its own."""
        generator = torch.Generator().manual_seed(seed)
        batch, positions, n = shape

        def numbers(*sizes: int) -> Tensor:
            drawn = torch.randn(*sizes, generator=generator)
            return drawn.round() if few_values else drawn

        return cls(
            numbers(*shape).to(dtype),
            torch.rand(n, generator=generator) + 0.5,
            numbers(*((batch,) if own else ()), positions, channels),
            torch.rand(n + channels, generator=generator).round(),
            numbers(n + channels).to(dtype).float(),
            torch.randn(batch, positions, n + channels, generator=generator).to(dtype),
        )

    def run(self, k: int, is_masked: bool, name: str = "cpu") -> list[Tensor | None]:
        """The result and the gradients of x, weight, beside and mask, by those kernels."""
        inputs = [t.detach().clone().requires_grad_() for t in self[:4]]
        x, weight, beside, mask = inputs
        with kernels.use(name):
            y = fused.keep_norm(
                x, weight, k, 1e-5, mask if is_masked else None, self.held if is_masked else None, beside
            )
            y.backward(self.gradient)
        return [y.detach(), *(t.grad for t in inputs)]

    def double(self) -> "Case":
        return Case(*(t.double() for t in self))


@pytest.mark.parametrize("is_masked", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
class TestEqualsItsMeaning:
    @pytest.mark.parametrize("own", [False, True])
    @pytest.mark.parametrize("k", [1, 18, 72, 77])
    def test_on_many_rows(self, k: int, own: bool, is_masked: bool, dtype: torch.dtype) -> None:
        case = Case.of((3, 50, 72), 5, dtype, own=own)
        for fast, plain in zip(case.run(k, is_masked), case.run(k, is_masked, "reference"), strict=True):
            assert_close(fast, plain, 64)

    def test_with_many_ties(self, is_masked: bool, dtype: torch.dtype) -> None:
        # Ties among the channels beside, and so cuts there and before them.
        case = Case.of((4, 10, 17), 16, dtype, few_values=True)
        for fast, plain in zip(case.run(9, is_masked), case.run(9, is_masked, "reference"), strict=True):
            assert_close(fast, plain, 64)

    def test_for_strided_rows(self, is_masked: bool, dtype: torch.dtype) -> None:
        case = Case.of((3, 10, 96), 8, dtype)
        wide = torch.randn(10, 16)
        part = case._replace(x=case.x[..., 16:64], weight=case.weight[::2], beside=wide[:, ::2])
        part = part._replace(mask=case.mask[:56], held=case.held[48:], gradient=case.gradient[..., :56])
        for fast, plain in zip(part.run(14, is_masked), part.run(14, is_masked, "reference"), strict=True):
            assert_close(fast, plain, 64)

    def test_for_any_number_of_threads_bit_for_bit(self, is_masked: bool, dtype: torch.dtype) -> None:
        case, before = Case.of((7, 100, 60), 4, dtype), torch.get_num_threads()
        try:
            results = []
            for count in (1, 3):
                torch.set_num_threads(count)
                results.append(case.run(16, is_masked))
        finally:
            torch.set_num_threads(before)
        for one, other in zip(*results, strict=True):
            assert (one is None) == (other is None)
            assert one is None or other is None or torch.equal(one, other)

    def test_around_the_cache(self, is_masked: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
        case = Case.of((2, 20, 56), 8, dtype)
        usual = case.run(16, is_masked)
        monkeypatch.setattr(fused_cpu, "PAST_CACHE", 1)
        for one, other in zip(usual, case.run(16, is_masked), strict=True):
            assert one is None or other is None or torch.equal(one, other)

    @pytest.mark.parametrize("kind", UNREAD)
    def test_for_gradients_of_other_memory(self, kind: str, is_masked: bool, dtype: torch.dtype) -> None:
        case = Case.of((2, 5, 24), 4, dtype)
        other = case._replace(gradient=UNREAD[kind](case.gradient))
        for one, usual in zip(other.run(7, is_masked), case.run(7, is_masked), strict=True):
            assert_close(one, usual, 64)


class TestAccuracy:
    @pytest.mark.parametrize("is_masked", [False, True])
    def test_is_that_of_float64(self, is_masked: bool) -> None:
        case = Case.of((4, 30, 100), 12)
        for fast, exact in zip(case.run(28, is_masked), case.double().run(28, is_masked, "auto"), strict=True):
            assert_close(fast, None if exact is None else exact.float(), 32)

    def test_of_gradients_by_finite_differences(self) -> None:
        case = Case.of((2, 3, 5), 3).double()

        def function(x: Tensor, weight: Tensor, beside: Tensor, mask: Tensor) -> Tensor:
            return fused.keep_norm(x, weight, 4, 1e-5, mask, case.held, beside)

        assert torch.autograd.gradcheck(function, [t.requires_grad_() for t in case[:4]], eps=1e-6)

    def test_of_the_sum_over_very_many_rows(self) -> None:
        beside = torch.ones(1, 2, requires_grad=True)
        y = fused.keep_norm(torch.ones(40_000, 1, 3), torch.ones(3), 5, beside=beside)
        (0.1 * y).sum().backward()
        assert beside.grad is not None
        assert torch.allclose(beside.grad, torch.full((1, 2), 4000.0), rtol=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 40),
    channels=st.integers(1, 40),
    k=st.integers(1, 80),
    few_values=st.booleans(),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 1 << 30),
)
def test_what_is_kept_is_what_abs_topk_keeps_of_both(
    n: int, channels: int, k: int, few_values: bool, dtype: torch.dtype, seed: int
) -> None:
    case = Case.of((2, 3, n), channels, dtype, seed, few_values)
    normed = fused.keep_norm(case.x, case.weight, n)
    both = torch.cat([normed, case.beside.to(dtype).expand(2, -1, -1)], dim=-1)
    assert torch.equal(fused.keep_norm(case.x, case.weight, k, beside=case.beside), abs_topk(both, k))


def test_is_worked_out_by_hand() -> None:
    x = torch.tensor([[[3.0, 4.0]], [[4.0, -3.0]]], requires_grad=True)  # RMS 5 / sqrt(2)
    beside = torch.tensor([[1.0, -0.5]], requires_grad=True)
    y = fused.keep_norm(x, torch.ones(2), 2, 0.0, beside=beside)
    root = 2**0.5
    assert torch.allclose(y, torch.tensor([[[0.0, 0.8 * root, 1.0, 0.0]], [[0.8 * root, 0.0, 1.0, 0.0]]]))
    y.backward(torch.tensor([[[1.0, 0.0, 2.0, 3.0]], [[0.0, 1.0, 4.0, 5.0]]]))
    assert beside.grad is not None
    assert x.grad is not None
    assert beside.grad.tolist() == [[6.0, 0.0]]  # of both rows, where it was kept
    assert (x.grad == 0).all()


def test_all_kept_is_torchs_norm_with_the_channels_behind() -> None:
    x, weight, beside = torch.randn(2, 3, 20), torch.rand(20), torch.randn(3, 4)
    y = fused.keep_norm(x, weight, 24, beside=beside)
    assert torch.allclose(y[..., :20], F.rms_norm(x, (20,), weight), rtol=1e-6, atol=1e-7)
    assert torch.equal(y[..., 20:], beside.expand(2, 3, 4))


def test_no_channels_change_nothing() -> None:
    x, weight = torch.randn(2, 3, 20), torch.rand(20)
    assert torch.allclose(fused.keep_norm(x, weight, 5, beside=torch.zeros(3, 0)), fused.keep_norm(x, weight, 5))


@pytest.mark.usefixtures("unannotated")
def test_shapes_that_do_not_fit_are_told() -> None:
    x, eight = torch.randn(2, 3, 8), torch.ones(8)
    calls: list[tuple[str, Callable[[], object]]] = [
        (r"beside has shape \(2, 4\); expected .* each of the rows \(2, 3\)", lambda: _keep(x, torch.zeros(2, 4))),
        (r"beside has shape \(1, 2, 3, 4\)", lambda: _keep(x, torch.zeros(1, 2, 3, 4))),
        (r"beside has shape \(\)", lambda: _keep(x, torch.zeros(()))),
        (r"mask has shape \(8,\); expected \(12,\)", lambda: _keep(x, torch.zeros(3, 4), eight, eight)),
    ]
    for message, call in calls:
        with pytest.raises(InputError, match=message):
            call()


def _keep(x: Tensor, beside: Tensor, *masked: Tensor) -> Tensor:
    return fused.keep_norm(x, torch.ones(8), 3, None, *masked, beside=beside)
