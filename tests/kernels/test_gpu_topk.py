"""AbsTopK and the projection on the GPU mean what the reference says, bit for bit."""

import pytest
import torch
from gpu_here import DEVICE, DTYPES, assert_same_bits, gpu, matrices, small_pieces
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from sparse_circuits import kernels
from sparse_circuits.kernels import reference
from sparse_circuits.sparsity import abs_topk, project_topk

__all__ = ["small_pieces"]

few = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def check_rows(x: Tensor, k: int) -> None:
    kept, mask = gpu.abs_topk(x, k, True)
    expected, expected_mask = reference.abs_topk(x, k, True)
    assert mask is not None
    assert expected_mask is not None
    assert_same_bits(mask, expected_mask)
    assert_same_bits(kept, expected)


def check_projection(weight: Tensor, k: int, per_row: int, per_column: int) -> None:
    fast, plain = weight.clone(), weight.clone()
    gpu.project_topk_(fast, k, per_row, per_column)
    reference.project_topk_(plain, k, per_row, per_column)
    assert_same_bits(fast, plain)


class TestAbsTopK:
    @few
    @given(matrices(rows=2, columns=70), st.data())
    def test_equals_the_reference(self, x: Tensor, data: st.DataObject) -> None:
        check_rows(x, data.draw(st.integers(1, x.shape[1])))

    @pytest.mark.usefixtures("small_pieces")
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_rows_too_long_for_registers_are_read_in_pieces(self, dtype: torch.dtype) -> None:
        x = torch.randn(2, 100, device=DEVICE)
        x[1] = x[1].round()
        for k in (1, 30, 99):
            check_rows(x.to(dtype), k)

    def test_reads_rows_at_any_distance_and_transposed(self) -> None:
        x = torch.randn(3, 120, device=DEVICE)
        for view in (x[:, 40:80], x.T[:3], x[::2, 1::3], x[:1].expand(2, 120)):
            check_rows(view, 2)

    def test_leaves_out_what_is_empty(self) -> None:
        for shape in ((0, 5), (3, 0)):
            kept, mask = gpu.abs_topk(torch.empty(shape, device=DEVICE), 1, True)
            assert mask is not None
            assert kept.shape == mask.shape == shape
            assert gpu.masked(kept, mask).shape == shape

    def test_without_a_mask_makes_none(self) -> None:
        assert gpu.abs_topk(torch.randn(1, 8, device=DEVICE), 2, False)[1] is None

    @few
    @given(matrices(rows=4, columns=40), st.data())
    def test_the_gradient_goes_where_the_mask_is(self, x: Tensor, data: st.DataObject) -> None:
        mask = torch.tensor(data.draw(st.lists(st.booleans(), min_size=x.numel(), max_size=x.numel())), device=DEVICE)
        for gradient in (x, x.T):
            expected = reference.masked(gradient, mask.view(gradient.shape))
            assert_same_bits(gpu.masked(gradient, mask.view(gradient.shape)), expected)

    def test_is_what_sparsity_calls_when_forced(self) -> None:
        x = torch.randn(2, 3, 20, device=DEVICE, requires_grad=True)
        with kernels.use("gpu"):
            kept = abs_topk(x, 5)
            kept.sum().backward()
        assert_same_bits(kept.detach(), reference.abs_topk(x.detach().view(6, 20), 5, False)[0].view(2, 3, 20))
        assert x.grad is not None
        assert torch.equal(x.grad != 0, kept != 0)


class TestProjection:
    @few
    @given(matrices(rows=4, columns=60), st.data())
    def test_equals_the_reference(self, weight: Tensor, data: st.DataObject) -> None:
        rows, columns = weight.shape
        k = data.draw(st.integers(1, weight.numel()))
        per_row = data.draw(st.integers(0, min(columns, k // rows)))
        per_column = data.draw(st.integers(0, min(rows, (k - rows * per_row) // columns)))
        check_projection(weight, k, per_row, per_column)

    @pytest.mark.usefixtures("small_pieces")
    @few
    @given(matrices(rows=8, columns=60), st.data())
    def test_equals_the_reference_when_programs_share(self, weight: Tensor, data: st.DataObject) -> None:
        check_projection(weight, data.draw(st.integers(1, weight.numel())), 0, 0)

    @pytest.mark.usefixtures("small_pieces")
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("minimums", [(1, 0), (0, 3), (2, 2)])
    def test_minimums_in_pieces(self, dtype: torch.dtype, minimums: tuple[int, int]) -> None:
        weight = torch.randn(6, 40, device=DEVICE) * torch.logspace(-1, 0, 40, device=DEVICE)
        weight[3] = 0
        weight[:, 20:] = (2 * weight[:, 20:]).round()
        check_projection(weight.to(dtype), 130, *minimums)

    @pytest.mark.usefixtures("small_pieces")
    @pytest.mark.parametrize("k", [1, 63, 64, 250, 399, 400])
    def test_ties_go_to_the_programs_before(self, k: int) -> None:
        check_projection(torch.full((10, 40), -0.5, device=DEVICE), k, 0, 0)

    def test_what_a_minimum_keeps_comes_before_what_is_not_a_number(self) -> None:
        weight = torch.tensor([[torch.nan] * 4, [1.0, 3.0, 2.0, 0.0]], device=DEVICE)
        gpu.project_topk_(weight, 3, 1, 0)
        assert weight.nan_to_num(9).tolist() == [[9.0, 9.0, 0.0, 0.0], [0.0, 3.0, 0.0, 0.0]]

    def test_a_small_entry_that_both_minimums_keep_counts_once(self) -> None:
        weight = torch.zeros(8, 12, device=DEVICE)
        weight[:4, :6] = torch.randn(4, 6, device=DEVICE)
        weight[4:, 6:] = 1e-3 * torch.randn(4, 6, device=DEVICE)
        check_projection(weight, 30, 1, 1)

    def test_all_of_a_row_and_all_of_a_column(self) -> None:
        weight = torch.randn(4, 6, device=DEVICE)
        for k, per_row, per_column in ((24, 6, 0), (24, 0, 4), (24, 1, 1)):
            check_projection(weight, k, per_row, per_column)

    def test_writes_through_strides_and_tells_autograd(self) -> None:
        weight = torch.randn(7, 9, device=DEVICE)
        for matrix in (weight, weight.T, weight[:, 2:5]):
            expected, version = matrix.clone(), matrix._version
            reference.project_topk_(expected, 10, 1, 0)
            gpu.project_topk_(matrix, 10, 1, 0)
            assert_same_bits(matrix, expected)
            assert matrix._version > version

    def test_leaves_out_what_is_empty(self) -> None:
        gpu.project_topk_(torch.empty(0, 3, device=DEVICE), 1, 0, 0)

    def test_is_what_sparsity_calls_when_forced(self) -> None:
        weight = torch.nn.Parameter(torch.randn(5, 8, device=DEVICE))
        with kernels.use("gpu"):
            kept = project_topk(weight, 12, min_per_row=2)
        with kernels.use("reference"):
            assert_same_bits(kept, project_topk(weight, 12, min_per_row=2))


@pytest.mark.skipif(DEVICE == "cpu", reason="real sizes take a GPU")
class TestRealSizes:
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("n", [64, 1000, 2048, 8192, 16384, 50000])
    def test_rows(self, dtype: torch.dtype, n: int) -> None:
        x = torch.randn(300, n, device=DEVICE)
        for y in (x, x.relu(), (3 * x).round()):
            for k in (1, n // 4, n - 1):
                check_rows(y.to(dtype), k)

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("shape", [(1024, 256), (2048, 8192), (8192, 2048), (5000, 301)])
    @pytest.mark.parametrize("minimums", [(0, 0), (4, 0), (0, 4)])
    def test_matrices(self, dtype: torch.dtype, shape: tuple[int, int], minimums: tuple[int, int]) -> None:
        weight = torch.randn(shape, device=DEVICE)
        for y in (weight, (3 * weight).round(), torch.zeros_like(weight)):
            for part in (0.5, 1 / 64):
                check_projection(y.to(dtype), int(part * y.numel()), *minimums)
