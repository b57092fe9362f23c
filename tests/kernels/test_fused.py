"""The fused activations: what they mean in plain PyTorch, exactly or within rounding, forward and backward."""

from collections.abc import Callable, Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from sparse_circuits import kernels
from sparse_circuits.errors import InputError
from sparse_circuits.kernels import fused, fused_cpu
from sparse_circuits.sparsity import abs_topk

DTYPES = (torch.float32, torch.bfloat16)
NAN, INF = float("nan"), float("inf")

Function = Callable[[Tensor, int, Tensor, Tensor, Tensor], Tensor]
"""Of x, k, a weight, a mask and the held values."""

PLAIN: dict[str, Function] = {
    "norm": lambda x, k, weight, mask, held: fused.keep_norm(x, weight, k),
    "gelu": lambda x, k, weight, mask, held: fused.keep_gelu(x, k),
    "relu": lambda x, k, weight, mask, held: fused.keep_relu(x, k),
}
MASKED: dict[str, Function] = {
    "norm": lambda x, k, weight, mask, held: fused.keep_norm(x, weight, k, None, mask, held),
    "gelu": lambda x, k, weight, mask, held: fused.keep_gelu(x, k, mask, held),
    "relu": lambda x, k, weight, mask, held: fused.keep_relu(x, k, mask, held),
    "plain": lambda x, k, weight, mask, held: fused.keep_hold(x, k, mask, held),
}
ALL = {**PLAIN, **{f"{name} with a mask": function for name, function in MASKED.items()}}


class Case:
    """One call: its inputs, and what it gives, forward and backward."""

    def __init__(self, rows: int, n: int, dtype: torch.dtype, seed: int = 0, few_values: bool = False):
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(rows, n, generator=generator)
        self.x = (x.round() if few_values else x).to(dtype)
        self.weight = torch.rand(n, generator=generator) + 0.5
        self.mask = torch.rand(n, generator=generator).round()
        self.held = torch.randn(n, generator=generator).to(dtype).float()
        self.gradient = torch.randn(rows, n, generator=generator).to(dtype)

    def run(self, function: Function, k: int) -> list[Tensor | None]:
        """The result and the gradients of x, weight and mask."""
        inputs = [t.detach().clone().requires_grad_() for t in (self.x, self.weight, self.mask)]
        y = function(inputs[0], k, inputs[1], inputs[2], self.held)
        y.backward(self.gradient.to(y.dtype))
        return [y.detach(), *(t.grad for t in inputs)]

    def both(self, function: Function, k: int) -> zip:
        """Pairs: compiled and reference."""
        with kernels.use("cpu"):
            fast = self.run(function, k)
        with kernels.use("reference"):
            plain = self.run(function, k)
        return zip(fast, plain, strict=True)


def assert_close(fast: Tensor | None, plain: Tensor | None, steps: float) -> None:
    """Equal but for some float32 steps of the largest entry, and one rounding of the dtype."""
    assert (fast is None) == (plain is None)
    if fast is None or plain is None:
        return
    assert fast.dtype == plain.dtype
    assert fast.shape == plain.shape
    scale = float(plain.float().abs().max()) if plain.numel() else 0.0
    step = torch.finfo(torch.float32).eps * scale * steps
    rounding = torch.finfo(plain.dtype).eps * plain.float().abs() if plain.dtype != torch.float32 else 0.0
    assert ((fast.float() - plain.float()).abs() <= step + rounding).all()


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ALL)
class TestEqualsItsMeaning:
    def test_on_many_rows(self, name: str, dtype: torch.dtype) -> None:
        case = Case(150, 72, dtype)
        for k in (18, 72):
            for fast, plain in case.both(ALL[name], k):
                assert_close(fast, plain, 64)

    def test_with_many_ties(self, name: str, dtype: torch.dtype) -> None:
        for fast, plain in Case(40, 33, dtype, few_values=True).both(ALL[name], 9):
            assert_close(fast, plain, 64)

    def test_for_strided_rows_and_gradients(self, name: str, dtype: torch.dtype) -> None:
        case = Case(30, 96, dtype)
        case.x, case.gradient = case.x[:, 16:64], case.gradient[::, ::2]
        case.weight, case.mask, case.held = case.weight[::2], case.mask[:48], case.held[48:]
        for fast, plain in case.both(ALL[name], 12):
            assert_close(fast, plain, 64)

    def test_for_any_number_of_threads_bit_for_bit(
        self, name: str, dtype: torch.dtype, threads: Callable[[int], None]
    ) -> None:
        case, results = Case(700, 64, dtype), []
        for count in (1, 2, 3):
            threads(count)
            results.append(case.run(ALL[name], 16))
        for one, two, three in zip(*results, strict=True):
            for other in (two, three):
                assert (one is None) == (other is None)
                assert one is None or other is None or torch.equal(one, other)

    def test_for_no_rows(self, name: str, dtype: torch.dtype) -> None:
        y, of_x, *_ = Case(0, 8, dtype).run(ALL[name], 2)
        assert y is not None
        assert of_x is not None
        assert y.shape == of_x.shape == (0, 8)


class TestWhatIsKept:
    @settings(max_examples=60, deadline=None)
    @given(st.integers(1, 40), st.integers(1, 40), st.booleans(), st.sampled_from(DTYPES), st.integers(0, 1 << 30))
    def test_is_what_abs_topk_keeps_of_the_values(
        self, n: int, k: int, few_values: bool, dtype: torch.dtype, seed: int
    ) -> None:
        case = Case(3, n, dtype, seed, few_values)
        for function in PLAIN.values():
            values = function(case.x, n, case.weight, case.mask, case.held)
            kept = function(case.x, k, case.weight, case.mask, case.held)
            assert torch.equal(kept, abs_topk(values, k))

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("name", PLAIN)
    def test_passes_the_gradient_on_kept_zeros_too(self, name: str, dtype: torch.dtype) -> None:
        case = Case(2, 6, dtype)
        case.x = torch.tensor([[0.0, 3.0, 0.0, -0.0, 0.0, 0.0], [0.0] * 6], dtype=dtype)
        case.gradient = torch.ones(2, 6, dtype=dtype)
        of_x = case.run(PLAIN[name], 3)[1]
        assert of_x is not None
        assert (of_x[:, 3:] == 0).all()
        if name != "relu":  # its slope at zero is zero
            assert (of_x[:, [0, 2]] != 0).all()

    def test_has_nan_first(self) -> None:
        x = torch.tensor([[5.0, NAN, 1.0, INF]])
        assert fused.keep_relu(x, 2).isnan().tolist() == [[False, True, False, False]]
        assert fused.keep_relu(x, 2)[0, [0, 2, 3]].tolist() == [0.0, 0.0, INF]
        assert fused.keep_gelu(x, 2)[0, [0, 2, 3]].tolist() == [0.0, 0.0, INF]
        assert fused.keep_norm(x, torch.ones(4), 2).isnan().tolist() == [[True, True, False, False]]


class TestAccuracy:
    def test_of_gelu_and_its_slope(self) -> None:
        x = torch.cat([torch.linspace(-12, 12, 40_001), torch.tensor([0.0, -0.0, 1e-30, -40.0, 40.0, 1e30, -1e30])])
        exact = x.double().requires_grad_()
        F.gelu(exact).sum().backward()
        ours = x.requires_grad_()
        y = fused.keep_gelu(ours, x.numel())
        y.sum().backward()
        assert exact.grad is not None
        assert ours.grad is not None
        expected = F.gelu(exact).detach()
        assert ((y.detach() - expected).abs() <= 2e-7 * (1 + expected.abs())).all()
        assert ((ours.grad - exact.grad).abs() <= 3e-7).all()
        tail = (x > -6) & (x < -2)
        expected = (exact * torch.erfc(-exact * 0.5**0.5) / 2).detach()  # PyTorch's own GELU cancels here
        assert torch.allclose(y.detach()[tail].double(), expected[tail], rtol=3e-5, atol=0)

    def test_of_the_norm_is_that_of_torch(self) -> None:
        x = 1e-3 * torch.randn(20, 300)
        norm = nn.RMSNorm(300)
        for epsilon in (None, 1e-5):
            norm.eps = epsilon
            expected = norm(x).detach()
            assert torch.allclose(fused.keep_norm(x, norm.weight, 300, epsilon), expected, rtol=1e-6, atol=0)

    @pytest.mark.parametrize("name", ALL)
    def test_of_gradients_by_finite_differences(self, name: str) -> None:
        case = Case(3, 5, torch.float32)
        case.x, case.mask = case.x.double(), case.mask.double()
        case.weight, case.held = case.weight.double(), case.held.double()

        def function(x: Tensor, weight: Tensor, mask: Tensor) -> Tensor:
            return ALL[name](x, 3, weight, mask, case.held)

        assert torch.autograd.gradcheck(
            function, [t.requires_grad_() for t in (case.x, case.weight, case.mask)], eps=1e-6
        )

    def test_of_what_a_mask_gets_over_very_many_rows(self) -> None:
        x, mask = torch.full((40_000, 2), 0.1), torch.ones(2, requires_grad=True)
        fused.hold(x, mask, torch.zeros(2)).sum().backward()
        assert mask.grad is not None
        assert torch.allclose(mask.grad, torch.full((2,), 4000.0), rtol=1e-6)


class _Own(Tensor):
    """A kind of tensor that compiled code does not read."""


UNREAD: dict[str, Callable[[Tensor], Tensor]] = {
    "negated view": lambda g: torch._neg_view(-g),
    "subclass": lambda g: g.as_subclass(_Own),
    "float64": lambda g: g.double(),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("kind", UNREAD)
def test_gradients_of_other_memory(name: str, kind: str, dtype: torch.dtype) -> None:
    case = Case(5, 40, dtype)
    for k in (5, 40):
        found = []
        for upstream in (UNREAD[kind](case.gradient), case.gradient):
            inputs = [t.detach().clone().requires_grad_() for t in (case.x, case.weight, case.mask)]
            with kernels.use("cpu"):
                y = ALL[name](inputs[0], k, inputs[1], inputs[2], case.held)
                y.backward(upstream)
            found.append([t.grad for t in inputs])
        for other, usual in zip(*found, strict=True):
            assert_close(other, usual, 64)


class TestHold:
    def test_is_worked_out_by_hand(self) -> None:
        x = torch.tensor([[1.0, -4.0, 2.0]], requires_grad=True)
        mask = torch.tensor([1.0, 1.0, 0.25], requires_grad=True)
        held = torch.tensor([9.0, 9.0, 8.0])
        y = fused.keep_hold(x, 2, mask, held)
        assert y.tolist() == [[0.0, -4.0, 6.5]]  # 0.25 * 2 + 0.75 * 8
        y.backward(torch.tensor([[1.0, 2.0, 4.0]]))
        assert x.grad is not None
        assert mask.grad is not None
        assert x.grad.tolist() == [[0.0, 2.0, 1.0]]
        assert mask.grad.tolist() == [-9.0, -26.0, -24.0]  # g * (kept - held)

    def test_with_all_kept_changes_no_value(self) -> None:
        x = torch.randn(5, 7)
        assert torch.equal(fused.hold(x, torch.ones(7), torch.randn(7)), x)

    def test_needs_both_or_neither(self) -> None:
        with pytest.raises(InputError, match="give both or neither"):
            fused.keep_gelu(torch.zeros(1, 2), 1, torch.ones(2))


def test_k_is_at_least_one() -> None:
    with pytest.raises(InputError, match="must be 1 or more, got 0"):
        fused.keep_relu(torch.zeros(1, 2), 0)


def test_an_input_changed_in_place_is_noticed() -> None:
    x = torch.randn(2, 4, requires_grad=True)
    inner = x + 0
    y = fused.keep_gelu(inner, 2)
    inner.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ALL)
def test_large_results_that_go_around_the_cache_are_the_same(
    name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case(70, 64, dtype)
    usual = case.run(ALL[name], 16)
    monkeypatch.setattr(fused_cpu, "PAST_CACHE", 1)
    for one, other in zip(usual, case.run(ALL[name], 16), strict=True):
        assert (one is None) == (other is None)
        assert one is None or other is None or torch.equal(one, other)


@pytest.mark.usefixtures("unannotated")
def test_shapes_that_do_not_fit_are_told() -> None:
    x, eight, four, one = torch.randn(2, 8), torch.ones(8), torch.ones(4), torch.zeros(1, dtype=torch.int64)
    calls: list[tuple[str, Callable[[], object]]] = [
        ("mask has shape", lambda: fused.keep_hold(x, 3, four, eight)),
        ("held has shape", lambda: fused.hold(x, eight, torch.ones(1))),
        ("weight has shape", lambda: fused.keep_norm(x, four, 3)),
        ("table has shape", lambda: fused.add_rows(x, torch.randn(5, 4), torch.tensor([0, 1]))),
        ("bias has shape", lambda: fused.add_rows(x, torch.randn(5, 8), torch.tensor([0, 1]), four)),
        ("expected int64 of shape", lambda: fused.add_rows(x, torch.randn(5, 8), one)),
        ("expected int64 of shape", lambda: fused.cross_entropy(x, one)),
        ("expected int64 of shape", lambda: fused.cross_entropy(x, torch.zeros(2, dtype=torch.int32))),
    ]
    for message, call in calls:
        with pytest.raises(InputError, match=message):
            call()
