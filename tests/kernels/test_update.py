"""The optimiser's update: what torch.optim.AdamW does, and after it what the projection keeps, to the last bit."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sparse_circuits import kernels, sparsity
from sparse_circuits.errors import InputError
from sparse_circuits.kernels import update, update_cpu

RATES: dict[str, Any] = {
    "learning_rate": 2e-2,
    "beta1": 0.9,
    "beta2": 0.95,
    "epsilon": 0.1,
    "weight_decay": 0.1,
    "scale": 3.0,
}


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture
def one_pass_always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small matrices too are updated and projected in one pass."""
    monkeypatch.setattr(update_cpu, "SMALLEST", 1)


def assert_same_bits(left: Tensor, right: Tensor) -> None:
    assert left.dtype == right.dtype == torch.float32
    assert torch.equal(left.contiguous().view(torch.int32), right.contiguous().view(torch.int32))


class Training:
    """A parameter, its moments, and gradients that depend on the step alone."""

    def __init__(self, shape: tuple[int, ...], seed: int = 0, dtype: torch.dtype = torch.float32):
        self.generator = torch.Generator().manual_seed(seed)
        self.parameter = 0.1 * torch.randn(shape, generator=self.generator, dtype=dtype)
        self.moments = [torch.zeros(shape, dtype=dtype), torch.zeros(shape, dtype=dtype)]
        # Rows of different scales, so that some fall short of any minimum.
        self.scales = torch.rand(shape[0], *[1] * (len(shape) - 1), generator=self.generator, dtype=dtype) ** 3

    def gradient(self, step: int) -> Tensor:
        generator = torch.Generator().manual_seed(step)
        return self.scales * torch.randn(self.parameter.shape, generator=generator, dtype=self.parameter.dtype)

    def adamw(self, step: int, **rates: Any) -> None:
        update.adamw_(self.parameter, self.gradient(step), *self.moments, step=step, **{**RATES, **rates})

    def adamw_project(self, step: int, k: int, **settings: Any) -> update.Projected:
        gradient = self.gradient(step)
        return update.adamw_project_(self.parameter, gradient, *self.moments, step=step, k=k, **{**RATES, **settings})

    def state(self) -> list[Tensor]:
        return [self.parameter, *self.moments]


class TestTotalSquare:
    def test_is_worked_out_by_hand(self) -> None:
        assert update.total_square([torch.tensor([3.0, 4.0]), torch.tensor([[1.0], [2.0]])]) == 30.0
        assert update.total_square([]) == 0.0
        assert update.total_square([torch.zeros(0), torch.full((2,), 2.0)]) == 8.0

    def test_neither_overflows_nor_underflows(self) -> None:
        assert update.total_square([torch.tensor([1e30, 1e-30])]) == pytest.approx(1e60)
        assert update.total_square([torch.tensor([1e-30])]) == pytest.approx(1e-60)

    @pytest.mark.parametrize("odd", [math.nan, math.inf])
    def test_is_not_finite_where_an_entry_is_not(self, odd: float) -> None:
        x = torch.ones(100_000)
        x[77_777] = odd
        assert not math.isfinite(update.total_square([torch.ones(3), x]))

    def test_takes_any_size_stride_and_dtype(self) -> None:
        tensors = [
            torch.randn(3, 50_000),
            torch.randn(70, 30).T,
            torch.randn(9).bfloat16(),
            torch.randn(5, dtype=torch.float64),
        ]
        expected = sum(float(t.double().square().sum()) for t in tensors)
        assert update.total_square(tensors) == pytest.approx(expected, rel=1e-12)

    def test_is_the_same_for_any_number_of_threads(self, threads: Callable[[int], None]) -> None:
        tensors, results = [torch.randn(300_000), torch.randn(77)], set()
        for count in (1, 2, 3):
            threads(count)
            results.add(update.total_square(tensors))
        assert len(results) == 1


class TestAdamW:
    @pytest.mark.parametrize("kernel", ["cpu", "reference"])
    @pytest.mark.parametrize("shape", [(1,), (15,), (16,), (9, 37), (300, 130)])
    def test_is_pytorchs(self, shape: tuple[int, ...], kernel: str) -> None:
        ours = Training(shape)
        theirs = torch.nn.Parameter(ours.parameter.clone())
        optimizer = torch.optim.AdamW([theirs], lr=2e-2, betas=(0.9, 0.95), eps=0.1, weight_decay=0.1)
        with kernels.use(kernel):
            for step in range(1, 8):
                ours.adamw(step)
                theirs.grad = 3.0 * ours.gradient(step)
                optimizer.step()
                assert torch.allclose(ours.parameter, theirs.detach(), rtol=1e-5, atol=1e-7)

    def test_takes_strided_gradients_and_parameters(self) -> None:
        plain, strided = Training((40, 30)), Training((40, 30))
        strided.parameter = strided.parameter.T.contiguous().T
        gradient = plain.gradient(1)
        update.adamw_(plain.parameter, gradient, *plain.moments, step=1, **RATES)
        update.adamw_(strided.parameter, gradient.T.contiguous().T, *strided.moments, step=1, **RATES)
        assert torch.allclose(plain.parameter, strided.parameter, rtol=1e-6)

    @pytest.mark.parametrize("kernel", ["cpu", "reference"])
    def test_live_leaves_zeros_and_their_moments(self, kernel: str) -> None:
        training, other = Training((5, 40)), Training((5, 40))
        dead = torch.rand(5, 40) < 0.5
        training.parameter[dead] = 0.0
        other.parameter[dead] = 0.0
        with kernels.use(kernel):
            for step in (1, 2):
                training.adamw(step, live=True)
                other.adamw(step)
        for mine, its in zip(training.state(), other.state(), strict=True):
            assert not mine[dead].any()
            assert_same_bits(mine[~dead], its[~dead])

    def test_is_the_same_for_any_number_of_threads(self, threads: Callable[[int], None]) -> None:
        results = []
        for count in (1, 2, 3):
            threads(count)
            training = Training((300, 333))
            training.adamw(1)
            results.append(training.parameter)
        assert_same_bits(results[0], results[1])
        assert_same_bits(results[0], results[2])

    def test_tells_autograd(self) -> None:
        training = Training((4, 4))
        before = training.parameter._version
        training.adamw(1)
        assert training.parameter._version > before

    def test_takes_double_precision(self) -> None:
        double, single = Training((6, 7), dtype=torch.float64), Training((6, 7))
        single.parameter, single.scales = double.parameter.float(), double.scales.float()
        update.adamw_(double.parameter, torch.ones(6, 7).double(), *double.moments, step=1, **RATES)
        update.adamw_(single.parameter, torch.ones(6, 7), *single.moments, step=1, **RATES)
        assert torch.allclose(double.parameter.float(), single.parameter)


def both(
    shape: tuple[int, int], ks: list[int], steps: int = 4, seed: int = 0, **settings: Any
) -> tuple[Training, Training]:
    """The same training in one pass, and in two; they are compared at every step."""
    one, two = Training(shape, seed), Training(shape, seed)
    minimums = settings.get("min_per_row", 0), settings.get("min_per_column", 0)
    forced = 0
    for step in range(1, steps + 1):
        k = ks[min(step, len(ks)) - 1]
        projected = one.adamw_project(step, k, forced=forced, count_rows=True, **settings)
        forced = projected.forced
        two.adamw(step, live=settings.get("live", False))
        sparsity.project_topk_(two.parameter, k, *minimums)
        for mine, its in zip(one.state(), two.state(), strict=True):
            # A zero that stays may have had a sign.
            assert_same_bits(mine + 0.0, its + 0.0)
        assert projected.row_counts is not None
        assert projected.row_counts.tolist() == (one.parameter != 0).sum(1).tolist()
    return one, two


@pytest.mark.usefixtures("one_pass_always")
class TestAdamWAndProjection:
    @settings(max_examples=80, deadline=None)
    @given(st.data(), st.integers(1, 30), st.integers(2, 90), st.booleans(), st.integers(0, 1 << 30))
    @pytest.mark.filterwarnings("ignore:a .* matrix with .* nonzeros has no room")
    def test_together_are_one_after_the_other(
        self, data: st.DataObject, rows: int, columns: int, live: bool, seed: int
    ) -> None:
        size = rows * columns
        ks = sorted(data.draw(st.lists(st.integers(1, size), min_size=1, max_size=4)), reverse=True)
        minimums = {
            "min_per_row": data.draw(st.sampled_from([0, 0, 1, 4])),
            "min_per_column": data.draw(st.sampled_from([0, 0, 1, 4])),
        }
        both((rows, columns), ks, seed=seed, live=live, **minimums)

    @pytest.mark.parametrize("live", [False, True])
    @pytest.mark.parametrize("minimums", [(0, 0), (4, 0), (0, 4), (2, 1)])
    @pytest.mark.parametrize("density", [0.02, 0.06, 0.5])
    def test_of_large_matrices(self, density: float, minimums: tuple[int, int], live: bool) -> None:
        k = round(density * 480 * 300)
        both((480, 300), [k + k // 10, k], live=live, min_per_row=minimums[0], min_per_column=minimums[1])

    def test_normally_take_one_pass(self, monkeypatch: pytest.MonkeyPatch) -> None:
        training = Training((400, 500))
        sparsity.project_topk_(training.parameter, 10_000)
        monkeypatch.setattr(update_cpu, "_restore", lambda *_: pytest.fail("the sample misled"))
        forced = 0
        for step in range(1, 6):
            forced = training.adamw_project(step, 10_000 - 50 * step, min_per_row=2, forced=forced).forced

    @pytest.mark.parametrize("live", [False, True])
    @pytest.mark.parametrize("minimums", [(0, 0), (2, 0), (0, 2)])
    @pytest.mark.parametrize("window", [(0.3, 0.4), (1e-6, 1e-5), (0.05, 0.0500001)])
    def test_recover_when_the_sample_misleads(
        self, window: tuple[float, float], minimums: tuple[int, int], live: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        keys = tuple(torch.tensor(window).view(torch.int32).tolist())
        monkeypatch.setattr(update_cpu, "_bounds", lambda *_: keys)
        both((40, 70), [900, 700], live=live, min_per_row=minimums[0], min_per_column=minimums[1])

    def test_recover_values_that_became_zero_by_themselves(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A decay of all there was leaves minus the change; where nothing changes that is zero, and must stay so."""
        above_all = int(torch.tensor(1e30).view(torch.int32))
        monkeypatch.setattr(update_cpu, "_bounds", lambda *_: (above_all, above_all + 1))
        p, m, v = torch.randn(9, 40), torch.zeros(9, 40), torch.zeros(9, 40)
        rates = {**RATES, "learning_rate": 1.0, "weight_decay": 1.0}
        gradient = torch.randn(9, 40).relu()
        update.adamw_project_(p, gradient, m, v, step=1, k=300, **rates)
        q, m, v = torch.zeros(9, 40), torch.zeros(9, 40), torch.zeros(9, 40)
        update.adamw_(q, gradient, m, v, step=1, **rates)
        assert_same_bits(p, q)

    def test_the_guess_of_how_many_are_forced_changes_no_result(self) -> None:
        results = []
        for forced in (0, 100, 700, 5000):
            training = Training((100, 64))
            training.adamw_project(1, 800, min_per_row=7, forced=forced)
            results.append(training.parameter)
        for other in results[1:]:
            assert_same_bits(results[0], other)

    def test_learn_how_many_are_forced(self, monkeypatch: pytest.MonkeyPatch) -> None:
        restored, forced = [], 0
        restore = update_cpu._restore
        monkeypatch.setattr(update_cpu, "_restore", lambda *a: (restored.append(1), restore(*a)))
        for step in range(1, 9):
            training = Training((256, 300))
            training.parameter.zero_()
            forced = training.adamw_project(step, 1100, min_per_row=4, forced=forced).forced
        assert forced > 100
        assert len(restored) <= 3

    def test_are_the_same_for_any_number_of_threads(self, threads: Callable[[int], None]) -> None:
        results = []
        for count in (1, 2, 3):
            threads(count)
            training = Training((300, 333))
            for step in (1, 2, 3):
                training.adamw_project(step, 9000, min_per_column=4)
            results.append(training.parameter)
        assert_same_bits(results[0], results[1])
        assert_same_bits(results[0], results[2])

    def test_keep_nan_in_sight(self) -> None:
        training = Training((20, 50))
        training.parameter[3, 7] = math.nan
        training.adamw_project(1, 100)
        assert training.parameter.isnan().sum() == 1
        assert (training.parameter != 0).sum() == 100

    def test_of_vectors_and_of_all_entries(self) -> None:
        vector, matrix = Training((50,)), Training((4, 5))
        assert vector.adamw_project(1, 20, count_rows=True).row_counts == torch.tensor([20])
        assert (vector.parameter != 0).sum() == 20
        assert matrix.adamw_project(1, 20).row_counts is None
        assert (matrix.parameter != 0).all()

    def test_refuse_what_the_projection_refuses(self) -> None:
        with pytest.raises(InputError, match="must be 1 or more, got 0"):
            Training((4, 5)).adamw_project(1, 0)
        with pytest.raises(InputError, match="they must be 0 or more"):
            Training((4, 5)).adamw_project(1, 3, min_per_row=-1)


@pytest.mark.usefixtures("unannotated")
def test_what_does_not_fit_is_told() -> None:
    four, five = torch.zeros(4), torch.zeros(5)
    for tensors in ((four, five, four, four), (four, four, four, five)):
        with pytest.raises(InputError, match="they must be the same"):
            update.adamw_(*tensors, step=1, **RATES)
        with pytest.raises(InputError, match="they must be the same"):
            update.adamw_project_(*tensors, step=1, k=2, **RATES)
    with pytest.raises(InputError, match="the step is 0; updates are counted from 1"):
        update.adamw_(four, four, four, four, step=0, **RATES)
