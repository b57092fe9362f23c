"""Sparse matrices, their products and models, as on CUDA and by the reference: the same as on the CPU."""

from pathlib import Path

import pytest
import torch
from gpu_here import DEVICE
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import linear

from sparse_circuits import checkpoint, kernels
from sparse_circuits.config import GPTConfig, SparsityConfig
from sparse_circuits.errors import InputError
from sparse_circuits.kernels import gpu
from sparse_circuits.kernels.products import SparseMatrix, multiply, sparse_linear, trained_linear
from sparse_circuits.linear import Linear
from sparse_circuits.model import GPT
from sparse_circuits.pretraining import project

few = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(params=["gpu", "reference"], autouse=True)
def name(request: pytest.FixtureRequest) -> str:
    """The kernels that each test forces."""
    return request.param


def some(rows: int, columns: int, part: float, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    kept = torch.rand(rows, columns, generator=generator) < part
    return torch.where(kept, torch.randn(rows, columns, generator=generator), 0.0).to(DEVICE)


def sizes() -> st.SearchStrategy[tuple[Tensor, Tensor]]:
    """A weight and inputs, of any layout."""
    numbers = st.integers(0, 40)
    parts = st.sampled_from([0.0, 0.1, 1.0])
    return st.tuples(numbers, numbers, st.sampled_from([0, 1, 3, 40]), parts, st.booleans()).map(
        lambda drawn: (
            some(drawn[0], drawn[1], drawn[3]),
            some(drawn[2], drawn[1], 0.7, 1) if drawn[4] else some(drawn[1], drawn[2], 0.7, 1).T,
        )
    )


@few
@given(sizes(), st.lists(st.integers(0, 2**30), max_size=9))
def test_some_rows(name: str, drawn: tuple[Tensor, Tensor], numbers: list[int]) -> None:
    dense = drawn[0]
    chosen = torch.tensor([number % len(dense) for number in numbers if len(dense)], dtype=torch.int64, device=DEVICE)
    for kernel in ("cpu", name) if DEVICE == "cpu" else (name,):
        with kernels.use(kernel):
            matrix = SparseMatrix.from_dense(dense)
            assert torch.equal(matrix.rows(chosen), dense[chosen])
            assert torch.equal(matrix.rows(chosen[None, :, None]), dense[chosen[None, :, None]])
            with pytest.raises(InputError, match=r"SparseMatrix.rows: expected numbers from 0 to"):
                matrix.rows(torch.tensor([len(dense)], device=DEVICE))


@few
@given(sizes())
def test_there_and_back(name: str, drawn: tuple[Tensor, Tensor]) -> None:
    for dense in (drawn[0], drawn[0].T, drawn[0][:, ::2]):
        compiled = SparseMatrix.from_dense(dense.cpu())
        with kernels.use(name):
            matrix = SparseMatrix.from_dense(dense)
            assert torch.equal(matrix.dense(), dense)
            assert torch.equal(matrix.transposed().dense(), dense.T)
        for ours, theirs in ((matrix, compiled), (matrix.transposed(), compiled.transposed())):
            assert ours.finite
            assert ours.shape == theirs.shape
            for part in ("start", "column", "value"):
                assert torch.equal(getattr(ours, part).cpu(), getattr(theirs, part))
                assert getattr(ours, part).dtype == getattr(theirs, part).dtype
            SparseMatrix(ours.shape, ours.start, ours.column, ours.value, True)


@few
@given(sizes(), st.booleans(), st.booleans(), st.booleans())
def test_products_and_gradients_are_the_dense_ones(
    name: str, drawn: tuple[Tensor, Tensor], biased: bool, trained: bool, live: bool
) -> None:
    weight, x = drawn
    x = x.detach().requires_grad_()
    dense = weight.clone().requires_grad_()
    bias = torch.randn(len(weight), device=DEVICE, requires_grad=True) if biased else None
    kind = "live" if live else "dense"
    with kernels.use(name):
        matrix = SparseMatrix.from_dense(weight)
        y = trained_linear(x, dense, bias, matrix, weight_gradient=kind) if trained else sparse_linear(x, matrix, bias)
        upstream = torch.randn(y.shape, device=DEVICE)
        y.backward(upstream)
    exact = linear(x.double(), weight.double(), None if bias is None else bias.double())
    torch.testing.assert_close(y.double(), exact, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(x.grad, upstream @ weight, rtol=1e-5, atol=1e-4)
    if bias is not None:
        torch.testing.assert_close(bias.grad, upstream.sum(0), rtol=1e-5, atol=1e-4)
    if trained:
        product = upstream.T @ x.detach()
        expected = torch.where(weight != 0, product, 0.0) if live else product
        torch.testing.assert_close(dense.grad, expected, rtol=1e-5, atol=1e-4)


def test_bfloat16_comes_back_as_a_gradient_and_goes_on_as_float32(name: str) -> None:
    weight = some(14, 20, 0.3)
    x = torch.randn(2, 3, 20, device=DEVICE).bfloat16().requires_grad_()
    dense = weight.clone().requires_grad_()
    with kernels.use(name):
        y = trained_linear(x, dense, None, SparseMatrix.from_dense(weight), precision="bf16")
        y.sum().backward()
    assert (y.dtype, y.shape) == (torch.float32, (2, 3, 14))
    torch.testing.assert_close(y, x.detach().float() @ weight.T, rtol=1e-5, atol=1e-5)
    assert x.grad is not None
    assert dense.grad is not None
    assert (x.grad.dtype, dense.grad.dtype) == (torch.bfloat16, torch.float32)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_what_is_not_finite_stays_visible(name: str) -> None:
    weight = torch.tensor([[0.0, 2.0, 0.0], [1.0, 0.0, 0.0]], device=DEVICE)
    x = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, torch.inf], [torch.nan, 1.0, 1.0]], device=DEVICE)
    with kernels.use(name):
        y = multiply(SparseMatrix.from_dense(weight), x)
        assert y.isnan().tolist() == [[False] * 2, [True] * 2, [True] * 2]
        weight[0, 1] = torch.inf
        matrix = SparseMatrix.from_dense(weight)
        assert not matrix.finite
        assert multiply(matrix, x.new_zeros(1, 3)).isnan().tolist() == [[True, False]]


def test_which_kernels_multiply(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    called = []
    multiply_there = gpu.multiply
    monkeypatch.setattr(gpu, "multiply", lambda *given: called.append(True) or multiply_there(*given))
    matrix, x = SparseMatrix.from_dense(torch.eye(3, device=DEVICE)), torch.ones(2, 3, device=DEVICE)
    multiply(matrix, x)
    assert len(called) == (DEVICE == "cuda")
    called.clear()
    with kernels.use(name):
        assert torch.equal(multiply(matrix, x), x)
    assert bool(called) == (name == "gpu")
    with kernels.use("auto"):
        multiply(matrix, x)


def test_to_a_device(name: str) -> None:
    matrix = SparseMatrix.from_dense(torch.eye(3))
    assert matrix.to("cpu") is matrix
    with pytest.raises(InputError, match="a sparse matrix cannot lie on meta; choose the CPU or CUDA"):
        matrix.to("meta")
    there = matrix.to(DEVICE)
    assert torch.equal(there.dense(), torch.eye(3, device=DEVICE))


def test_tensors_that_do_not_fit(name: str, unannotated: None) -> None:
    with kernels.use(name):
        matrix = SparseMatrix.from_dense(torch.eye(3, device=DEVICE))
        with pytest.raises(InputError, match="got one on meta"):
            multiply(matrix, torch.zeros(2, 3, device="meta"))
        with pytest.raises(InputError, match=r"got torch\.complex64"):
            multiply(matrix, torch.zeros(2, 3, dtype=torch.complex64, device=DEVICE))
        with pytest.raises(InputError, match=r"expected x \[positions, 3\]"):
            multiply(matrix, torch.zeros(2, 4, device=DEVICE))
    with pytest.raises(InputError, match="the weight is on meta"):
        SparseMatrix.from_dense(torch.zeros(2, 3, device="meta"))


@torch.no_grad()
def test_a_whole_model(name: str, tmp_path: Path) -> None:
    model = GPT(GPTConfig(vocab_size=20, block_size=8, n_layer=1, d_model=8, n_head=2, abs_topk=None))
    for parameter in model.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)) * 0.4)
    project(model, SparsityConfig(density=0.2, min_nonzeros=1))
    checkpoint.save(model, tmp_path)
    model, tokens = model.to(DEVICE).eval(), torch.arange(6, device=DEVICE).view(1, 6)
    expected, told = model(tokens), model.generate(tokens, 2, temperature=0.0)
    moved = model.cpu().sparsify().to(DEVICE)
    model.to(DEVICE)
    with kernels.use(name):
        for fast in (model.sparsify(), checkpoint.load(tmp_path, device=DEVICE, sparse=True), moved):
            assert all(layer.is_frozen for layer in fast.modules() if isinstance(layer, Linear))
            assert fast.lm_head.weight.device.type == DEVICE
            torch.testing.assert_close(fast(tokens), expected, rtol=1e-4, atol=1e-4)
            fast.load_state_dict(model.cpu().state_dict())
            model.to(DEVICE)
        assert torch.equal(fast.generate(tokens, 2, temperature=0.0), told)
