"""Sparse activations, sparse weights and the two schedules."""

import itertools
import math
import warnings
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sparse_circuits import kernels, sparsity
from sparse_circuits.errors import InputError
from sparse_circuits.sparsity import (
    abs_topk,
    density_at,
    learning_rate_at,
    nonzero_count,
    project_topk,
    project_topk_,
)

INF, NAN = float("inf"), float("nan")


@pytest.fixture(params=["cpu", "reference"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """What is said of tensors holds for every kernel; each starts with no warning given."""
    monkeypatch.setattr(sparsity, "_warned", set())
    with kernels.use(request.param):
        yield request.param


@pytest.mark.usefixtures("kernel")
class TestAbsTopK:
    def test_keeps_the_largest_magnitudes_of_each_row(self) -> None:
        x = torch.tensor([[1.0, -3.0, 2.0, 0.5], [0.0, 4.0, 0.0, -1.0]])
        assert abs_topk(x, 2).tolist() == [[0.0, -3.0, 2.0, 0.0], [0.0, 4.0, 0.0, -1.0]]

    def test_ties_go_to_the_lower_index(self) -> None:
        assert abs_topk(torch.tensor([[1.0, -2.0, 2.0, 2.0, -2.0]]), 3).tolist() == [[0.0, -2.0, 2.0, 2.0, 0.0]]

    def test_nan_counts_as_larger_than_infinity_and_stays_visible(self) -> None:
        kept = abs_topk(torch.tensor([[INF, NAN, -INF, 5.0], [INF, 2.0, -INF, NAN]]), 2)
        assert kept[0, [0, 2, 3]].tolist() == [INF, 0.0, 0.0]
        assert kept[1, :3].tolist() == [INF, 0.0, 0.0]
        assert kept.isnan().nonzero().tolist() == [[0, 1], [1, 3]]

    def test_negative_zero_has_magnitude_zero(self) -> None:
        kept = abs_topk(torch.tensor([[-0.0, 0.0, -0.0, 1.0]]), 2)
        assert kept.tolist() == [[0.0, 0.0, 0.0, 1.0]]
        assert kept.signbit().tolist() == [[True, False, False, False]]

    @settings(max_examples=60, deadline=None)
    @given(st.data())
    def test_keeps_exactly_k_also_among_equals(self, data: st.DataObject) -> None:
        values = st.sampled_from([1.0, -1.0, 2.0, 0.0, -0.0, 1e-40, INF])
        x = torch.tensor(
            [data.draw(st.lists(values, min_size=n, max_size=n)) for n in [data.draw(st.integers(1, 12))] * 3]
        )
        k = data.draw(st.integers(1, x.shape[1]))
        x.requires_grad_()
        abs_topk(x, k).sum().backward()
        # Where k entries or fewer exist, x itself comes back and all have a gradient.
        assert x.grad is not None
        assert x.grad.sum(-1).tolist() == [float(k)] * 3

    @pytest.mark.parametrize("shape", [(0, 5), (3, 0), (2, 3, 7), (7,), (2, 1, 4, 9)])
    def test_works_on_the_last_dimension_of_any_shape(self, shape: tuple[int, ...]) -> None:
        x = torch.randn(shape)
        kept = abs_topk(x, 2)
        assert kept.shape == x.shape
        if shape[-1] and x.numel():
            assert ((kept != 0).sum(-1) == 2).all()

    def test_returns_x_itself_when_all_stay(self) -> None:
        x = torch.randn(2, 3)
        assert abs_topk(x, 3) is x
        assert abs_topk(x, 7) is x

    def test_refuses_what_it_cannot_do(self) -> None:
        with pytest.raises(InputError, match="abs_topk: k counts the entries to keep and must be 1 or more, got 0"):
            abs_topk(torch.randn(2, 3), 0)

    def test_saves_nothing_without_a_gradient(self) -> None:
        x = torch.randn(2, 8, requires_grad=True)
        with torch.no_grad():
            assert abs_topk(x, 3).grad_fn is None
        assert abs_topk(x.detach(), 3).grad_fn is None
        with torch.inference_mode():
            assert torch.equal(abs_topk(x, 3), abs_topk(x.detach(), 3))


@pytest.mark.usefixtures("kernel")
class TestAbsTopKGradient:
    def test_reaches_kept_entries_only_kept_zeros_too(self) -> None:
        x = torch.tensor([[0.0, 3.0, 0.0, 0.0, -1.0]], requires_grad=True)
        abs_topk(x, 4).backward(torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0]]))
        assert x.grad is not None
        assert x.grad.tolist() == [[1.0, 2.0, 3.0, 0.0, 5.0]]

    def test_a_nan_gradient_of_a_dropped_entry_goes_nowhere(self) -> None:
        x = torch.tensor([[1.0, 2.0]], requires_grad=True)
        abs_topk(x, 1).backward(torch.tensor([[NAN, 7.0]]))
        assert x.grad is not None
        assert x.grad.tolist() == [[0.0, 7.0]]

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_equals_that_of_multiplying_by_the_mask(self, dtype: torch.dtype) -> None:
        x = torch.randn(5, 6, 40).to(dtype).requires_grad_()
        upstream = torch.randn(5, 40, 6).to(dtype).transpose(1, 2)
        kept = abs_topk(x, 9)
        (gradient,) = torch.autograd.grad(kept, x, upstream)
        assert gradient.dtype == dtype
        assert torch.equal(gradient, upstream * (kept != 0))

    def test_agrees_with_finite_differences_twice(self, kernel: str) -> None:
        if kernel == "cpu":
            pytest.skip("finite differences need fp64, which only the reference takes")
        x = torch.randn(3, 7, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda x: abs_topk(x, 3), x)
        assert torch.autograd.gradgradcheck(lambda x: abs_topk(x, 3).pow(2), x)

    def test_can_be_differentiated_twice(self) -> None:
        x = torch.tensor([[1.0, -2.0, 0.5]], requires_grad=True)
        (first,) = torch.autograd.grad(abs_topk(x, 2).pow(3).sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(first.sum(), x)
        assert first.tolist() == [[3.0, 12.0, 0.0]]
        assert second.tolist() == [[6.0, -12.0, 0.0]]

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_keeps_the_dtype_under_autocast(self, dtype: torch.dtype) -> None:
        x = torch.randn(4, 16).to(dtype).requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            kept = abs_topk(x, 3)
        assert kept.dtype == dtype
        kept.float().sum().backward()
        assert x.grad is not None
        assert x.grad.dtype == dtype


@pytest.mark.usefixtures("kernel")
class TestProjection:
    def test_keeps_the_largest_magnitudes_of_the_matrix(self) -> None:
        weight = torch.tensor([[1.0, -5.0, 2.0], [4.0, 0.5, -3.0]])
        assert project_topk(weight, 3).tolist() == [[0.0, -5.0, 0.0], [4.0, 0.0, -3.0]]
        assert weight[0, 0] == 1.0

    def test_ties_go_to_the_lower_flat_index(self) -> None:
        assert project_topk(torch.tensor([[1.0, 2.0], [-2.0, 2.0]]), 2).tolist() == [[0.0, 2.0], [-2.0, 0.0]]

    def test_a_row_minimum_comes_before_larger_entries_elsewhere(self) -> None:
        weight = torch.tensor([[9.0, 8.0, 7.0], [0.1, -0.3, 0.2]])
        assert project_topk(weight, 3, min_per_row=1).tolist() == [[9.0, 8.0, 0.0], [0.0, pytest.approx(-0.3), 0.0]]

    def test_a_column_minimum_likewise(self) -> None:
        weight = torch.tensor([[9.0, 8.0, 0.1], [7.0, 6.0, -0.2]])
        assert project_topk(weight, 4, min_per_column=1).tolist() == [[9.0, 8.0, 0.0], [7.0, 0.0, pytest.approx(-0.2)]]

    def test_an_entry_kept_by_its_row_and_its_column_counts_once(self) -> None:
        weight = torch.tensor([[5.0, 1.0], [2.0, 4.0]])
        assert project_topk(weight, 4, 1, 1).tolist() == weight.tolist()
        assert project_topk(torch.tensor([[5.0, 1.0, 3.0], [2.0, 4.0, 6.0]]), 5, 1, 1).tolist() == [
            [5.0, 0.0, 3.0],
            [2.0, 4.0, 6.0],
        ]

    @settings(max_examples=60, deadline=None)
    @given(st.data())
    def test_counts_are_exact_and_minimums_hold(self, data: st.DataObject) -> None:
        rows, columns = data.draw(st.integers(1, 8)), data.draw(st.integers(1, 8))
        size = rows * columns
        # No zeros: every kept entry shows.
        weight = torch.tensor(
            data.draw(st.lists(st.sampled_from([1.0, -1.0, 2.0, 1e-3, NAN]), min_size=size, max_size=size))
        )
        weight = weight.view(rows, columns)
        k = data.draw(st.integers(1, size))
        per_row = data.draw(st.integers(0, min(columns, k // rows)))
        per_column = data.draw(st.integers(0, min(rows, (k - rows * per_row) // columns)))
        kept = project_topk(weight, k, per_row, per_column) != 0
        assert kept.sum() == k
        assert (kept.sum(1) >= per_row).all()
        assert (kept.sum(0) >= per_column).all()

    def test_minimums_that_do_not_fit_are_lowered_with_one_warning(self) -> None:
        weight = torch.rand(4, 10) + 1
        weight[2] = 0.01
        with pytest.warns(UserWarning, match="a 4 x 10 matrix with 9 nonzeros has no room for min_per_row=3") as caught:
            kept = project_topk(weight, 9, min_per_row=3) != 0
        assert "using 2 and 0" in str(caught[0].message)
        assert kept.sum() == 9
        assert (kept.sum(1) >= 2).all()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert (project_topk(weight, 8, min_per_row=3) != 0).sum() == 8

    def test_the_lowered_minimums_are_the_largest_that_fit(self) -> None:
        weight = torch.rand(3, 5) + 1
        with pytest.warns(UserWarning, match="min_per_row=4 and min_per_column=1: using 2 and 1"):
            project_topk(weight, 11, 4, 1)
        with pytest.warns(UserWarning, match="min_per_row=1 and min_per_column=1: using 0 and 0"):
            project_topk(weight, 7, 1, 1)

    def test_keeps_everything_when_k_allows(self) -> None:
        weight = torch.tensor([[1.0, -0.0], [NAN, 2.0]])
        assert project_topk(weight, 4).isnan().sum() == 1
        assert project_topk(weight, 9, 1, 1).signbit()[0, 1]

    def test_vectors_and_parameters_and_strides(self) -> None:
        bias = torch.nn.Parameter(torch.tensor([1.0, -3.0, 2.0]))
        project_topk_(bias, 1)
        assert bias.tolist() == [0.0, -3.0, 0.0]
        assert bias.grad_fn is None
        weight = torch.tensor([[1.0, 2.0, 3.0], [6.0, 5.0, 4.0]])
        project_topk_(weight.T, 2)
        assert weight.tolist() == [[0.0, 0.0, 0.0], [6.0, 5.0, 0.0]]
        assert project_topk(torch.zeros(0, 3), 1).shape == (0, 3)

    def test_works_in_inference_mode(self) -> None:
        with torch.inference_mode():
            weight = torch.tensor([[1.0, -2.0], [3.0, 0.5]])
            project_topk_(weight, 2)
            assert weight.tolist() == [[0.0, -2.0], [3.0, 0.0]]

    def test_a_graph_that_still_needs_the_old_weight_notices(self) -> None:
        weight = torch.randn(4, 4, requires_grad=True)
        loss = weight.pow(2).sum()
        project_topk_(weight, 3)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()

    @pytest.mark.parametrize(
        ("weight", "arguments", "message"),
        [
            (torch.zeros(2, 2), (0,), "project_topk_: k counts the entries to keep and must be 1 or more, got 0"),
            (
                torch.zeros(2, 2, 2),
                (1,),
                r"expected a floating-point matrix or vector, got torch.float32 of shape \(2, 2, 2\)",
            ),
            (torch.zeros(3), (1, 1), r"min_per_row 1 and min_per_column 0 do not suit shape \(3,\)"),
            (torch.zeros(3, 3), (1, 0, -1), "they must be 0 or more"),
        ],
    )
    def test_refuses_what_it_cannot_do(self, weight: Tensor, arguments: tuple[int, ...], message: str) -> None:
        with pytest.raises(InputError, match=message):
            project_topk_(weight, *arguments)


class TestDensity:
    @pytest.mark.parametrize(
        ("progress", "linear", "exponential"),
        [
            (0.0, 1.0, 1.0),
            (0.1, 1.0, 1.0),
            (0.2, 0.7525, 0.01**0.25),
            (0.3, 0.505, 0.1),
            (0.5, 0.01, 0.01),
            (0.8, 0.01, 0.01),
            (1.0, 0.01, 0.01),
        ],
    )
    def test_falls_from_dense_to_the_target(self, progress: float, linear: float, exponential: float) -> None:
        arguments = {"target": 0.01, "start": 0.1, "end": 0.5}
        assert density_at(progress, **arguments) == pytest.approx(linear, rel=1e-12)
        assert density_at(progress, shape="exponential", **arguments) == pytest.approx(exponential, rel=1e-12)

    def test_defaults_are_one_and_fifty_percent(self) -> None:
        assert density_at(0.01, 1 / 64) == 1.0
        assert density_at(0.255, 1 / 64) == pytest.approx(0.5078125)
        assert density_at(0.5, 1 / 64) == 1 / 64

    def test_start_and_end_may_coincide(self) -> None:
        assert density_at(0.29, 0.1, 0.3, 0.3) == 1.0
        assert density_at(0.3, 0.1, 0.3, 0.3) == 0.1
        assert density_at(0.0, 0.1, 0.0, 0.0) == 0.1

    def test_an_unknown_shape_is_refused_with_the_choices(self) -> None:
        with pytest.raises(InputError, match="no shape 'cosine'; choose one of linear, exponential"):
            density_at(0.2, 0.1, shape="cosine")

    def test_impossible_numbers_are_refused(self) -> None:
        with pytest.raises(InputError, match=r"density_at: target must be in \(0, 1\]"):
            density_at(0.2, 0.0)
        with pytest.raises(InputError, match=r"expected 0 <= start <= end <= 1, got start 0\.6 and end 0\.5"):
            density_at(0.2, 0.1, start=0.6)


class TestNonzeroCount:
    @pytest.mark.parametrize(
        ("density", "numel", "count"),
        [(1.0, 7, 7), (1 / 64, 1024 * 256, 4096), (0.29, 100, 29), (0.25, 10, 2), (0.35, 10, 4), (0.001, 10, 1)],
    )
    def test_is_the_nearest_integer_and_never_zero(self, density: float, numel: int, count: int) -> None:
        assert nonzero_count(density, numel) == count

    def test_impossible_numbers_are_refused(self) -> None:
        with pytest.raises(InputError, match=r"nonzero_count: density must be in \(0, 1\]"):
            nonzero_count(1.5, 10)
        with pytest.raises(InputError, match="numel must be 1 or more, got 0"):
            nonzero_count(0.5, 0)


class TestLearningRate:
    @pytest.mark.parametrize(
        ("progress", "factor"), [(0.0, 0.0), (0.05, 0.25), (0.2, 1.0), (0.4, 0.75), (0.6, 0.5), (1.0, 0.0), (1.1, 0.0)]
    )
    def test_warms_up_and_decays_linearly(self, progress: float, factor: float) -> None:
        assert learning_rate_at(progress, warmup=0.2) == pytest.approx(factor)

    def test_is_held_down_while_the_weights_are_dense(self) -> None:
        assert learning_rate_at(0.2, 0.2, density=1.0, final_density=0.01) == pytest.approx(0.1)
        assert learning_rate_at(0.6, 0.2, density=0.04, final_density=0.01) == pytest.approx(0.25)
        assert learning_rate_at(0.6, 0.2, density=0.01, final_density=0.01) == pytest.approx(0.5)

    def test_never_exceeds_one(self) -> None:
        assert learning_rate_at(0.2, 0.2, density=0.01, final_density=0.04) == 1.0

    def test_with_the_density_schedule_it_is_a_shark_fin(self) -> None:
        """Up while the density falls, a single top where it arrives, down after it."""
        grid = [i / 400 for i in range(5, 401)]
        curve = [learning_rate_at(p, 0.01, density_at(p, 1 / 64), 1 / 64) for p in grid]
        top = max(range(len(curve)), key=curve.__getitem__)
        assert grid[top] == 0.5
        assert curve[top] == pytest.approx(0.5 / 0.99)
        late = curve[top:]
        assert all(left > right for left, right in itertools.pairwise(late))
        assert curve[0] == pytest.approx(math.sqrt(1 / 64 / density_at(grid[0], 1 / 64)) * (1 - grid[0]) / 0.99)

    def test_no_warm_up_starts_at_the_top(self) -> None:
        assert learning_rate_at(0.0, warmup=0.0) == 1.0

    def test_impossible_numbers_are_refused(self) -> None:
        with pytest.raises(InputError, match=r"warmup must be in \[0, 1\), got 1.0"):
            learning_rate_at(0.5, warmup=1.0)
        with pytest.raises(InputError, match="give both density and final_density, or neither"):
            learning_rate_at(0.5, density=0.1)
        with pytest.raises(InputError, match=r"learning_rate_at: density must be in \(0, 1\]"):
            learning_rate_at(0.5, density=0.0, final_density=0.1)
