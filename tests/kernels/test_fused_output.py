"""The loss and the bigram table's rows: what PyTorch gives, within rounding, forward and backward."""

import math
from collections.abc import Callable, Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from sparse_circuits import kernels
from sparse_circuits.errors import InputError
from sparse_circuits.kernels import fused

DTYPES = (torch.float32, torch.bfloat16)
NAN, INF = float("nan"), float("inf")


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def with_gradient(loss: Callable[[Tensor, Tensor], Tensor], logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    leaf = logits.detach().clone().requires_grad_()
    value = loss(leaf, targets)
    value.backward()
    assert leaf.grad is not None
    return value.detach(), leaf.grad


def pytorch_loss(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits.float(), targets)


class TestCrossEntropy:
    def test_is_worked_out_by_hand(self) -> None:
        logits = torch.tensor([[0.0, math.log(3.0)], [math.log(4.0), 0.0]], requires_grad=True)
        loss = fused.cross_entropy(logits, torch.tensor([1, 1]))
        assert loss.item() == pytest.approx((math.log(4 / 3) + math.log(5)) / 2)
        (2 * loss).backward()
        assert logits.grad is not None
        assert logits.grad.flatten().tolist() == pytest.approx([0.25, -0.25, 0.8, -0.8])

    @settings(max_examples=60, deadline=None)
    @given(
        st.integers(1, 5),
        st.integers(1, 70),
        st.sampled_from(DTYPES),
        st.sampled_from([1e-3, 1.0, 30.0]),
        st.integers(0, 1 << 30),
    )
    def test_is_pytorchs(self, rows: int, n: int, dtype: torch.dtype, scale: float, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        logits = (scale * torch.randn(rows, n, generator=generator)).to(dtype)
        targets = torch.randint(0, n, (rows,), generator=generator)
        ours, theirs = (with_gradient(loss, logits, targets) for loss in (fused.cross_entropy, pytorch_loss))
        assert torch.allclose(ours[0], theirs[0], rtol=1e-6, atol=1e-6)
        assert ours[1].dtype == dtype
        rounding = torch.finfo(dtype).eps if dtype == torch.bfloat16 else 1e-5
        assert torch.allclose(ours[1].float(), theirs[1].float(), rtol=rounding, atol=2e-7)

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_has_nan_and_infinity_where_pytorch_has_them(self, dtype: torch.dtype) -> None:
        rows = [[1.0, 2.0, NAN], [-INF, 1.0, 2.0], [INF, 1.0, 2.0], [-INF] * 3, [INF, INF, 0.0], [1e38, -1e38, 0.0]]
        negative_nan = torch.tensor([-1], dtype=torch.int32).view(torch.float32).item()
        for row in [*rows, [negative_nan, 5.0, 6.0]]:
            for target in range(3):
                logits = torch.tensor([row, [0.5, 0.0, 1.0]], dtype=dtype)
                ours, theirs = (
                    with_gradient(loss, logits, torch.tensor([target, 2]))
                    for loss in (fused.cross_entropy, pytorch_loss)
                )
                for one, other in zip(ours, theirs, strict=True):
                    assert torch.allclose(one.float(), other.float(), rtol=1e-2, atol=1e-6, equal_nan=True), row

    def test_of_no_rows_is_nan(self) -> None:
        loss, gradient = with_gradient(fused.cross_entropy, torch.zeros(0, 5), torch.zeros(0, dtype=torch.int64))
        assert loss.isnan()
        assert gradient.shape == (0, 5)

    def test_takes_leading_dimensions_and_strides(self) -> None:
        wide = torch.randn(3, 4, 40)
        targets = torch.randint(0, 20, (4, 3)).T
        for logits in (wide[..., :20], wide[..., ::2]):
            ours, theirs = (
                with_gradient(loss, logits.flatten(0, 1), targets.flatten())
                for loss in (fused.cross_entropy, pytorch_loss)
            )
            assert torch.allclose(fused.cross_entropy(logits, targets), theirs[0])
            assert torch.allclose(ours[1], theirs[1], atol=1e-7)

    def test_without_a_gradient_is_the_same(self) -> None:
        logits, targets = torch.randn(9, 30, requires_grad=True), torch.randint(0, 30, (9,))
        expected = with_gradient(fused.cross_entropy, logits, targets)[0]
        with torch.no_grad():
            assert torch.equal(fused.cross_entropy(logits, targets), expected)

    def test_may_go_backward_twice(self) -> None:
        logits = torch.randn(4, 6, requires_grad=True)
        loss = fused.cross_entropy(logits, torch.tensor([0, 1, 2, 3]))
        loss.backward(retain_graph=True)
        assert logits.grad is not None
        once = logits.grad.clone()
        loss.backward()
        assert torch.equal(logits.grad, 2 * once)

    def test_is_the_same_for_any_number_of_threads(self, threads: Callable[[int], None]) -> None:
        logits, targets = torch.randn(500, 300), torch.randint(0, 300, (500,))
        results = []
        for count in (1, 2, 3):
            threads(count)
            results.append(with_gradient(fused.cross_entropy, logits, targets))
        for other in results[1:]:
            assert torch.equal(other[0], results[0][0])
            assert torch.equal(other[1], results[0][1])

    def test_refuses_targets_outside_the_logits(self) -> None:
        for bad in (-100, 3):
            with pytest.raises(InputError, match=f"targets must be from 0 to 2, got {bad}"):
                fused.cross_entropy(torch.zeros(2, 3), torch.tensor([0, bad]))


class Added:
    """One call of `add_rows` with all its gradients."""

    def __init__(self, dtype: torch.dtype, bias: bool):
        generator = torch.Generator().manual_seed(0)
        self.logits = torch.randn(3, 20, 33, generator=generator).to(dtype)
        self.table = torch.randn(12, 33, generator=generator)
        self.tokens = torch.randint(0, 10, (3, 20), generator=generator)  # two rows of the table are never used
        self.bias = torch.randn(33, generator=generator) if bias else None
        self.gradient = torch.randn(3, 20, 33, generator=generator)

    def run(self) -> list[Tensor]:
        logits, table = (t.detach().clone().requires_grad_() for t in (self.logits, self.table))
        y = fused.add_rows(logits, table, self.tokens, self.bias)
        y.backward(self.gradient)
        assert logits.grad is not None
        assert table.grad is not None
        return [y.detach(), logits.grad, table.grad]


class TestAddRows:
    def test_is_worked_out_by_hand(self) -> None:
        logits, table = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), torch.tensor([[10.0, 20.0], [30.0, 40.0]])
        table.requires_grad_()
        y = fused.add_rows(logits, table, torch.tensor([1, 0, 1]), torch.tensor([0.5, 0.0]))
        assert y.tolist() == [[31.5, 42.0], [13.5, 24.0], [35.5, 46.0]]
        y.backward(torch.tensor([[1.0, 2.0], [4.0, 8.0], [16.0, 32.0]]))
        assert table.grad is not None
        assert table.grad.tolist() == [[4.0, 8.0], [17.0, 34.0]]

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("bias", [False, True])
    def test_equals_its_meaning(self, dtype: torch.dtype, bias: bool) -> None:
        added = Added(dtype, bias)
        with kernels.use("cpu"):
            fast = added.run()
        with kernels.use("reference"):
            plain = added.run()
        for one, other in zip(fast, plain, strict=True):
            assert one.dtype == other.dtype
            assert torch.allclose(one, other, rtol=1e-6, atol=1e-6)
        assert torch.equal(fast[0], plain[0])

    def test_is_the_same_for_any_number_of_threads(self, threads: Callable[[int], None]) -> None:
        added, results = Added(torch.float32, True), []
        for count in (1, 2, 3):
            threads(count)
            results.append(added.run())
        for other in results[1:]:
            assert all(torch.equal(one, two) for one, two in zip(results[0], other, strict=True))

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_gradients_of_other_memory(self, dtype: torch.dtype) -> None:
        class Own(Tensor):
            pass

        added = Added(dtype, False)
        usual, gradient = added.run(), added.gradient
        for other_memory in (torch._neg_view(-gradient), gradient.as_subclass(Own), gradient.double()):
            added.gradient = other_memory
            for one, other in zip(usual, added.run(), strict=True):
                torch.testing.assert_close(one, torch.Tensor(other) if type(other) is Own else other)

    def test_of_no_rows(self) -> None:
        table = torch.randn(4, 3, requires_grad=True)
        y = fused.add_rows(torch.zeros(0, 3), table, torch.zeros(0, dtype=torch.int64))
        y.sum().backward()
        assert table.grad is not None
        assert y.shape == (0, 3)
        assert not table.grad.any()

    def test_a_bias_may_learn(self) -> None:
        bias = torch.zeros(3, requires_grad=True)
        fused.add_rows(torch.zeros(2, 3), torch.zeros(4, 3), torch.tensor([0, 1]), bias).sum().backward()
        assert bias.grad is not None
        assert bias.grad.tolist() == [2.0, 2.0, 2.0]

    def test_refuses_tokens_without_a_row(self) -> None:
        with pytest.raises(InputError, match="tokens must be from 0 to 3, got 4"):
            fused.add_rows(torch.zeros(1, 3), torch.zeros(4, 3), torch.tensor([4]))
