"""Sparse products mean what dense ones do: on any shape and strides, with NaN and infinities, in both directions."""

import copy
import pickle
import threading
from collections.abc import Iterator
from multiprocessing.reduction import ForkingPickler
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import linear

from sparse_circuits.errors import InputError
from sparse_circuits.kernels import products as module
from sparse_circuits.kernels.products import SparseMatrix, multiply, sparse_linear, trained_linear, worthwhile

SPECIAL = torch.tensor([float("nan"), float("inf"), float("-inf"), -0.0])


def sparse(generator: torch.Generator, rows: int, columns: int, density: float) -> Tensor:
    kept = torch.rand(rows, columns, generator=generator) < density
    return torch.where(kept, torch.randn(rows, columns, generator=generator), 0.0)


@st.composite
def products(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor | None]:
    """Weight, x and bias: small and odd sizes, every kind of strides."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    rows, columns = draw(st.integers(0, 70)), draw(st.integers(0, 70))
    positions = draw(st.sampled_from([0, 1, 2, 5, 15, 16, 17, 40, 63, 64, 65, 130, 200]))
    weight = sparse(generator, rows, columns, draw(st.sampled_from([0.0, 1 / 50, 1 / 4, 1.0])))
    x = sparse(generator, positions, 2 * columns, draw(st.sampled_from([0.0, 0.1, 0.3, 1.0])))
    layouts = [x[:, :columns], x[:, ::2], x[:, :columns].T.contiguous().T, x[:1, :columns].expand(positions, columns)]
    x = draw(st.sampled_from(layouts if positions else layouts[:3]))
    return weight, x, torch.randn(rows, generator=generator) if draw(st.booleans()) else None


def assert_close(y: Tensor, weight: Tensor, x: Tensor, bias: Tensor | None) -> None:
    """Within 1e-6 of the sum of the magnitudes that were added up."""
    exact = linear(x.double(), weight.double(), bias.double() if bias is not None else None)
    size = linear(x.double().abs(), weight.double().abs(), bias.double().abs() if bias is not None else None)
    assert y.shape == exact.shape
    assert y.dtype == torch.float32
    assert ((y - exact).abs() <= 1e-6 * size).all()


@pytest.fixture(params=["tiles", "tiles on 3 threads", "tiles past the cache", "scatter"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Every way to multiply, whatever the sizes."""
    monkeypatch.setattr(module, "_prefers_scatter", lambda matrix, x: request.param == "scatter")
    monkeypatch.setattr(module, "PAST_CACHE", 0 if "cache" in request.param else 1 << 60)
    monkeypatch.setattr(module, "ALONE", 0 if "threads" in request.param else 1e18)
    threads = torch.get_num_threads()
    torch.set_num_threads(3 if "threads" in request.param else 1)
    yield request.param
    torch.set_num_threads(threads)


every_way = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


class TestSparseMatrix:
    @settings(max_examples=60, deadline=None)
    @given(products())
    def test_there_and_back(self, product: tuple[Tensor, Tensor, Tensor | None]) -> None:
        weight = product[0]
        for dense in (weight, weight.T, weight[:, ::2], weight[::3]):
            matrix = SparseMatrix.from_dense(dense)
            assert matrix.nnz == dense.count_nonzero()
            assert torch.equal(matrix.dense(), dense)
            assert torch.equal(matrix.transposed().dense(), dense.T)
            assert matrix.finite

    def test_is_sorted_by_row_then_column(self) -> None:
        matrix = SparseMatrix.from_dense(torch.tensor([[0.0, 2.0, 3.0], [0.0, 0.0, 0.0], [4.0, -0.0, 5.0]]))
        assert matrix.start.tolist() == [0, 2, 2, 4]
        assert matrix.column.tolist() == [1, 2, 0, 2]
        assert matrix.value.tolist() == [2.0, 3.0, 4.0, 5.0]
        assert matrix.density == 4 / 9
        other = matrix.transposed()
        assert other.start.tolist() == [0, 1, 2, 4]
        assert other.column.tolist() == [2, 0, 0, 2]
        assert other.value.tolist() == [4.0, 2.0, 3.0, 5.0]

    def test_nan_is_an_entry_and_no_zero_is(self) -> None:
        matrix = SparseMatrix.from_dense(torch.tensor([[0.0, -0.0, float("nan"), 1e-45]]))
        assert matrix.column.tolist() == [2, 3]
        assert not matrix.finite

    def test_copies_stand_on_their_own(self) -> None:
        matrix, x = SparseMatrix.from_dense(torch.eye(3)), torch.randn(40, 3)
        multiply(matrix, x)
        for twin in (copy.deepcopy(matrix), pickle.loads(pickle.dumps(matrix)), copy.copy(matrix)):
            assert twin.__dict__.keys() == {"shape", "start", "column", "value", "finite"}
            assert torch.equal(multiply(twin, x), x)
            assert torch.equal(twin.dense(), torch.eye(3))

    def test_parts_that_compiled_code_would_misread(self, unannotated: None) -> None:
        start, column, value = torch.tensor([0, 1], dtype=torch.int32), torch.zeros(1, dtype=torch.int32), torch.ones(1)
        assert SparseMatrix((1, 3), start, column, value, True).nnz == 1
        for parts in ((start.long(), column, value), (start, column[:0], value), (start, column, value.double())):
            with pytest.raises(InputError, match=r"SparseMatrix: expected \d contiguous numbers of torch"):
                SparseMatrix((1, 3), *parts, True)

    @pytest.mark.parametrize(
        ("shape", "start", "column", "finite", "message"),
        [
            ((2, 3), [0, 1, 2], [0, 3], True, "column must be from 0 to 2, got 0 to 3"),
            ((2, 3), [0, 1, 2], [-1, 2], True, "column must be from 0 to 2, got -1 to 2"),
            ((2, 3), [0, 1, 3], [0, 1], True, "start must rise from 0 to 2, the number of entries"),
            ((2, 3), [1, 1, 2], [0, 1], True, "start must rise from 0 to 2"),
            ((3, 3), [0, 5, 1, 2], [0, 1], True, "start must rise from 0 to 2"),
            ((2, 3), [0, 2, 2], [1, 0], True, "column must rise within each row"),
            ((2, 3), [0, 2, 2], [1, 1], True, "column must rise within each row"),
            ((2, 3), [0, 1, 2], [0, 1], True, "finite must be False"),
            ((6, 3), [0, 2**31 - 1, -(2**31), -1, 0, 1, 2], [0, 1], True, "start must rise from 0 to 2"),
            ((-1, 3), [], [], True, "shape"),
            ((2.0, 3), [0, 1, 2], [0, 1], True, r"shape \(2.0, 3\) on cpu; expected two sizes"),
            ((2, 3, 1), [0, 1, 2], [0, 1], True, r"shape \(2, 3, 1\) on cpu; expected two sizes"),
        ],
    )
    def test_parts_that_do_not_fit_together(
        self,
        shape: Any,
        start: list[int],
        column: list[int],
        finite: bool,
        message: str,
        unannotated: None,
    ) -> None:
        value = torch.tensor([1.0, float("inf") if message.startswith("finite") else 2.0])[: len(column)]
        start, column = (torch.tensor(numbers, dtype=torch.int32) for numbers in (start, column))
        with pytest.raises(InputError, match=f"^SparseMatrix: {message}"):
            SparseMatrix(shape, start, column, value, finite)

    @pytest.mark.parametrize(
        ("weight", "message"),
        [
            (torch.ones(3), r"expected a weight \[rows, columns\], got one of shape \(3,\)"),
            (torch.ones(2, 2, 2), r"expected a weight \[rows, columns\], got one of shape \(2, 2, 2\)"),
            (torch.eye(3).to_sparse(), "expected a dense tensor, got one of torch.sparse_coo"),
            (torch.eye(3).to_mkldnn(), "expected a dense tensor, got one of torch._mkldnn"),
        ],
        ids=["vector", "three dimensions", "sparse", "mkldnn"],
    )
    def test_what_is_no_dense_matrix(self, weight: Tensor, message: str, unannotated: None) -> None:
        with pytest.raises(InputError, match=f"^SparseMatrix.from_dense: {message}"):
            SparseMatrix.from_dense(weight)

    @pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64], ids=str)
    def test_rows_by_integers_of_any_width(self, dtype: torch.dtype) -> None:
        weight = torch.arange(12.0).view(4, 3)
        numbers = torch.tensor([[3, 0], [0, 1]], dtype=dtype)
        assert torch.equal(SparseMatrix.from_dense(weight).rows(numbers), weight[numbers.long()])

    def test_rows_by_what_is_no_integer(self, unannotated: None) -> None:
        matrix, numbers = SparseMatrix.from_dense(torch.eye(4)), torch.tensor([0, 1])
        for wrong in (numbers.float(), numbers.bool(), numbers.to(torch.complex64), numbers.to_sparse()):
            with pytest.raises(InputError, match=f"expected integers in plain memory, got a Tensor of {wrong.dtype}"):
                matrix.rows(wrong)
        with pytest.raises(InputError, match="expected numbers from 0 to 3"):
            matrix.rows(torch.tensor([0, 4], dtype=torch.int32))

    def test_parts_that_fit_together(self) -> None:
        for rows, columns in [(0, 3), (3, 0), (1, 1), (5, 4)]:
            matrix = SparseMatrix.from_dense(torch.ones(rows, columns).tril())
            again = SparseMatrix(matrix.shape, matrix.start, matrix.column, matrix.value, True)
            assert torch.equal(again.dense(), matrix.dense())

    def test_sending_it_to_another_process_moves_it(self) -> None:
        """Its memory then is another: what was noted of the old one would be read after it is gone."""
        matrix, x = SparseMatrix.from_dense(torch.eye(3)), torch.randn(40, 3)
        multiply(matrix, x)
        before = matrix.value.data_ptr()
        sent = ForkingPickler.dumps(matrix)
        assert matrix.value.data_ptr() != before
        assert torch.equal(multiply(matrix, x), x)
        assert torch.equal(multiply(ForkingPickler.loads(sent), x), x)

    def test_a_large_matrix(self) -> None:
        dense = sparse(torch.Generator().manual_seed(0), 700, 1030, 1 / 64)
        matrix = SparseMatrix.from_dense(dense)
        assert torch.equal(matrix.dense(), dense)
        assert torch.equal(matrix.transposed().transposed().dense(), dense)


class TestMultiply:
    @every_way
    @given(products())
    def test_equals_the_dense_product(self, way: str, product: tuple[Tensor, Tensor, Tensor | None]) -> None:
        weight, x, bias = product
        y = multiply(SparseMatrix.from_dense(weight), x, bias)
        assert y.is_contiguous()
        assert_close(y, weight, x, bias)

    @pytest.mark.parametrize("positions", [1, 3, 300])
    @pytest.mark.parametrize("zeros", [0.0, 0.75, 0.97])
    def test_equals_the_dense_product_on_larger_matrices(self, positions: int, zeros: float) -> None:
        generator = torch.Generator().manual_seed(positions)
        for rows, columns, density in [(700, 2080, 1 / 256), (330, 1000, 1 / 64), (384, 128, 1 / 16), (9, 8200, 0.01)]:
            weight, x = sparse(generator, rows, columns, density), sparse(generator, positions, columns, 1 - zeros)
            assert_close(multiply(SparseMatrix.from_dense(weight), x), weight, x, None)

    @every_way
    @given(products(), st.data())
    def test_nan_and_infinity_mean_what_they_mean_densely(
        self, way: str, product: tuple[Tensor, Tensor, Tensor | None], data: st.DataObject
    ) -> None:
        weight, x, bias = product
        x = x.clone()
        for tensor in (weight, x):
            for _ in range(data.draw(st.integers(0, 2)) if tensor.numel() else 0):
                place = [data.draw(st.integers(0, size - 1)) for size in tensor.shape]
                tensor[*place] = SPECIAL[data.draw(st.integers(0, len(SPECIAL) - 1))]
        y = multiply(SparseMatrix.from_dense(weight), x, bias)
        exact = (weight[None] * x[:, None]).sum(-1) + (bias if bias is not None else 0.0)
        assert torch.equal(y.isnan(), exact.isnan())
        assert torch.equal(y.isinf(), exact.isinf())
        assert torch.equal(y[y.isinf()], exact[y.isinf()])

    def test_the_number_of_threads_changes_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "ALONE", 0)
        generator = torch.Generator().manual_seed(0)
        weight = sparse(generator, 300, 200, 0.1)
        matrix, threads = SparseMatrix.from_dense(weight), torch.get_num_threads()
        for positions in (20, 700):
            x, y = torch.randn(positions, 200, generator=generator), torch.randn(positions, 300, generator=generator)
            results = []
            for number in (1, 3):
                torch.set_num_threads(number)
                results.append((multiply(matrix, x), module._sampled(matrix, y, x)))
            torch.set_num_threads(threads)
            assert all(torch.equal(a, b) for result in results[1:] for a, b in zip(result, results[0], strict=True))

    def test_scatters_few_positions_with_many_zeros(self) -> None:
        matrix = SparseMatrix.from_dense(sparse(torch.Generator().manual_seed(0), 1024, 1024, 1 / 64))
        x = torch.randn(8, 1024)
        assert not module._prefers_scatter(matrix, x)
        assert module._prefers_scatter(matrix, x * (torch.rand(8, 1024) < 0.1))
        assert module._prefers_scatter(matrix, x[:1])
        assert not module._prefers_scatter(matrix, torch.zeros(17, 1024))

    def test_converts_bfloat16(self) -> None:
        weight, x = sparse(torch.Generator().manual_seed(0), 30, 40, 0.2), torch.randn(5, 40).to(torch.bfloat16)
        assert_close(multiply(SparseMatrix.from_dense(weight), x), weight, x, None)

    def test_several_threads_at_once(self) -> None:
        weight = sparse(torch.Generator().manual_seed(0), 300, 200, 0.1)
        matrix = SparseMatrix.from_dense(weight)
        results: dict[int, bool] = {}

        def work(number: int) -> None:
            x = torch.randn(500, 200, generator=torch.Generator().manual_seed(number))
            expected = multiply(matrix, x)
            results[number] = all(torch.equal(multiply(matrix, x), expected) for _ in range(20))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == dict.fromkeys(range(4), True)

    def test_other_than_real_floats(self, unannotated: None) -> None:
        matrix = SparseMatrix.from_dense(torch.eye(3))
        for dtype in (torch.complex64, torch.int64, torch.bool):
            with pytest.raises(InputError, match=f"multiply: expected a floating dtype, got {dtype}"):
                multiply(matrix, torch.ones(2, 3, dtype=dtype))
            with pytest.raises(InputError, match=f"from_dense: expected a floating dtype, got {dtype}"):
                SparseMatrix.from_dense(torch.ones(2, 3, dtype=dtype))

    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    def test_under_torch_compile(self, unannotated: None) -> None:
        weight = sparse(torch.Generator().manual_seed(0), 30, 40, 0.2)
        matrix = SparseMatrix.from_dense(weight)
        compiled = torch.compile(lambda x: multiply(matrix, 2 * x) + matrix.dense().sum(), backend="eager")
        for positions in (3, 50):
            x = torch.randn(positions, 40)
            assert torch.equal(compiled(x), multiply(matrix, 2 * x) + matrix.dense().sum())

    def test_sizes_that_do_not_fit(self, unannotated: None) -> None:
        matrix = SparseMatrix.from_dense(torch.eye(3, 4))
        with pytest.raises(InputError, match=r"expected x \[positions, 4\] and bias \[3\], got x \(2, 3\)"):
            multiply(matrix, torch.zeros(2, 3))
        with pytest.raises(InputError, match=r"got x \(4,\)"):
            multiply(matrix, torch.zeros(4))
        for product in (lambda x: multiply(matrix, x), lambda x: sparse_linear(x, matrix)):
            with pytest.raises(InputError, match=r"got x \(\)"):
                product(torch.tensor(1.0))
            with pytest.raises(InputError, match=r"expected a dense tensor, got one of torch\.sparse_coo"):
                product(torch.ones(2, 4).to_sparse())
        with pytest.raises(InputError, match=r"and bias \(4,\)"):
            multiply(matrix, torch.zeros(2, 4), torch.zeros(4))
        with pytest.raises(InputError, match="on the CPU, got one on meta"):
            multiply(matrix, torch.zeros(2, 4, device="meta"))


class TestGradients:
    @settings(max_examples=60, deadline=None)
    @given(products(), st.booleans(), st.booleans())
    def test_equal_those_of_the_dense_product(
        self, product: tuple[Tensor, Tensor, Tensor | None], trained: bool, live: bool
    ) -> None:
        weight, x, bias = product
        matrix = SparseMatrix.from_dense(weight)
        x = x.detach().requires_grad_()
        dense = weight.clone().requires_grad_()
        bias = bias.requires_grad_() if bias is not None else None
        kind = "live" if live else "dense"
        y = trained_linear(x, dense, bias, matrix, weight_gradient=kind) if trained else sparse_linear(x, matrix, bias)
        upstream = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).relu()
        y.backward(upstream)
        assert x.grad is not None
        assert_close(x.grad, weight.T, upstream, None)
        if bias is not None:
            assert bias.grad is not None
            torch.testing.assert_close(bias.grad, upstream.double().sum(0).float())
        if trained:
            assert dense.grad is not None
            exact = upstream.double().T @ x.detach().double()
            size = upstream.double().T @ x.detach().double().abs()
            wanted = weight != 0 if live else torch.ones_like(weight, dtype=torch.bool)
            assert ((dense.grad - exact * wanted).abs() <= 1e-6 * size * wanted).all()
        else:
            assert dense.grad is None

    def test_leading_dimensions_and_bfloat16(self) -> None:
        weight = sparse(torch.Generator().manual_seed(0), 30, 40, 0.2)
        matrix = SparseMatrix.from_dense(weight)
        x = torch.randn(2, 3, 40).to(torch.bfloat16).requires_grad_()
        dense = weight.clone().requires_grad_()
        y = trained_linear(x, dense, None, matrix, precision="bf16")
        assert y.shape == (2, 3, 30)
        upstream = torch.randn(2, 3, 30).to(torch.bfloat16).float()
        y.backward(upstream)
        assert x.grad is not None
        assert dense.grad is not None
        assert x.grad.dtype == torch.bfloat16
        torch.testing.assert_close(x.grad, (upstream @ weight).to(torch.bfloat16), rtol=0.01, atol=1e-6)
        exact = upstream.view(6, 30).double().T @ x.detach().view(6, 40).double()
        assert dense.grad.dtype == torch.float32
        torch.testing.assert_close(dense.grad.double(), exact, rtol=0.01, atol=1e-6)

    def test_without_gradients(self) -> None:
        weight = torch.eye(3, requires_grad=True)
        with torch.no_grad():
            y = trained_linear(torch.eye(3), weight, None, SparseMatrix.from_dense(weight), "bf16")
        assert torch.equal(y, torch.eye(3))
        assert not y.requires_grad

    def test_only_what_is_asked_for(self) -> None:
        matrix = SparseMatrix.from_dense(torch.eye(3))
        x, bias = torch.randn(4, 3), torch.zeros(3, requires_grad=True)
        assert not sparse_linear(x, matrix).requires_grad
        sparse_linear(x, matrix, bias).sum().backward()
        assert bias.grad is not None
        assert bias.grad.tolist() == [4.0, 4.0, 4.0]

    def test_a_second_derivative_is_refused(self) -> None:
        x = torch.randn(4, 3, requires_grad=True)
        y = sparse_linear(x, SparseMatrix.from_dense(torch.eye(3))).square().sum()
        (gradient,) = torch.autograd.grad(y, x, create_graph=True)
        with pytest.raises(RuntimeError, match="once_differentiable"):
            gradient.sum().backward()

    def test_unknown_choices(self, unannotated: None) -> None:
        weight = torch.eye(3)
        matrix = SparseMatrix.from_dense(weight)
        with pytest.raises(InputError, match="precision 'fp8' is unknown; choose one of bf16, fp32"):
            trained_linear(weight, weight, None, matrix, precision="fp8")  # type: ignore[arg-type]
        with pytest.raises(InputError, match="weight_gradient 'all' is unknown; choose one of dense, live"):
            trained_linear(weight, weight, None, matrix, weight_gradient="all")  # type: ignore[arg-type]
        with pytest.raises(InputError, match=r"the weight is \(3, 4\), its nonzeros are of a matrix \(3, 3\)"):
            trained_linear(weight, torch.eye(3, 4), None, matrix)


class TestWorthwhile:
    """Measured on one core; far from where the two sides take the same time."""

    @pytest.mark.parametrize("positions", [1, 16, 256, 4096])
    @pytest.mark.parametrize("shape", [(384, 128), (1024, 1024), (6144, 2080), (2048, 8192)])
    def test_between_dense_and_very_sparse(self, shape: tuple[int, int], positions: int) -> None:
        for dense in module._DENSE:
            assert worthwhile(*shape, 1 / 64, positions, dense)  # type: ignore[arg-type]
            assert positions == 1 or not worthwhile(*shape, 1.0, positions, dense)  # type: ignore[arg-type]

    def test_dense_bfloat16_is_harder_to_beat(self) -> None:
        assert worthwhile(1024, 1024, 1 / 3, 2048, "fp32")
        assert not worthwhile(1024, 1024, 1 / 3, 2048, "bf16")

    def test_unknown_choice(self, unannotated: None) -> None:
        with pytest.raises(InputError, match="dense 'fp8' is unknown; choose one of bf16, fp32"):
            worthwhile(8, 8, 0.5, 8, "fp8")  # type: ignore[arg-type]
