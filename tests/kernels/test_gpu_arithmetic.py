"""AdamW with a projection, and sparse products, on the GPU: PyTorch's AdamW and float64 say what is right."""

import math

import pytest
import torch
from gpu_here import DEVICE, assert_same_bits, gpu, small_pieces
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from sparse_circuits import kernels
from sparse_circuits.errors import InputError
from sparse_circuits.kernels import reference
from sparse_circuits.kernels.update import adamw_project_

__all__ = ["small_pieces"]

NAMES = ("parameter", "gradient", "exp_avg", "exp_avg_sq")


def some_state(shape: tuple[int, ...]) -> dict[str, Tensor]:
    """A parameter, its gradient, and moments that some steps might have left."""
    random = torch.Generator().manual_seed(math.prod(shape))
    state = {name: torch.randn(shape, generator=random).to(DEVICE) for name in NAMES}
    return state | {"exp_avg_sq": state["exp_avg_sq"].square()}


def rates(beta1: float = 0.9) -> dict[str, float]:
    return {"learning_rate": 0.05, "beta1": beta1, "beta2": 0.95, "epsilon": 0.1, "weight_decay": 0.1}


def update(
    state: dict[str, Tensor],
    step: int = 1,
    scale: float = 1.0,
    k: int | None = None,
    minimums: tuple[int, int] = (0, 0),
    **settings: float,
) -> None:
    """`gpu.adamw_project_` by `settings`, or those of `rates`."""
    settings = settings or rates()
    decay, learning_rate = settings.pop("weight_decay"), settings.pop("learning_rate")
    numbers = gpu.rates_of(step, learning_rate, settings["beta1"], settings["beta2"], decay, scale)
    kept = None if k is None else torch.tensor(k, device=DEVICE)
    told = gpu.Told(torch.tensor(numbers, device=DEVICE), kept)
    gpu.adamw_project_(**state, told=told, **settings, min_per_row=minimums[0], min_per_column=minimums[1])


def torch_adamw(state: dict[str, Tensor], step: int, scale: float, beta1: float) -> list[Tensor]:
    """Parameter and moments after an update by torch.optim.AdamW, in float64."""
    parameter = torch.nn.Parameter(state["parameter"].double())
    parameter.grad = state["gradient"].double() * scale
    optimizer = torch.optim.AdamW([parameter], lr=0.05, betas=(beta1, 0.95), eps=0.1, weight_decay=0.1, foreach=False)
    moments = {name: state[name].double().clone() for name in ("exp_avg", "exp_avg_sq")}
    optimizer.state[parameter] = {"step": torch.tensor(float(step - 1)), **moments}
    optimizer.step()
    return [parameter.detach(), moments["exp_avg"], moments["exp_avg_sq"]]


class TestAdamW:
    @pytest.mark.usefixtures("small_pieces")
    @pytest.mark.parametrize("shape", [(1,), (130,), (7, 60), (2, 3, 20)])
    @pytest.mark.parametrize(("step", "beta1"), [(1, 0.9), (40, 0.2)])
    def test_is_that_of_torch(self, shape: tuple[int, ...], step: int, beta1: float) -> None:
        state = some_state(shape)
        expected = torch_adamw(state, step, 0.25, beta1)
        update(state, step, 0.25, **rates(beta1))
        for name, right in zip(("parameter", "exp_avg", "exp_avg_sq"), expected, strict=True):
            torch.testing.assert_close(state[name].double(), right, rtol=1e-6, atol=1e-6)

    @pytest.mark.usefixtures("small_pieces")
    @pytest.mark.parametrize("live", [False, True])
    def test_is_what_the_optimiser_uses(self, live: bool) -> None:
        """`kernels.update` sends it here, whole updates at least, and means the same by it."""
        ours, theirs = some_state((9, 20)), some_state((9, 20))
        projection = {"k": 50, "min_per_row": 2, "min_per_column": 1, "live": live}
        for state, name in ((ours, "gpu"), (theirs, "reference")):
            state["parameter"][:, ::3] = 0
            with kernels.use(name):
                adamw_project_(*state.values(), step=3, scale=0.5, **rates(), **projection)
        for name in NAMES:
            torch.testing.assert_close(ours[name], theirs[name], rtol=1e-5, atol=1e-6)
        assert live or int(ours["parameter"].count_nonzero()) == 50

    def test_one_update_by_hand(self) -> None:
        # Decay: 2 * (1 - 0.1 * 0.5) = 1.9. Moments 0.5 * 8 and 0.25 * 64, corrected to 8 and 64: 0.1 * 8 / (8 + 2).
        state = {name: torch.zeros(1, device=DEVICE) for name in NAMES}
        state["parameter"] += 2
        state["gradient"] += 4
        settings = {"learning_rate": 0.1, "beta1": 0.5, "beta2": 0.75, "epsilon": 2.0, "weight_decay": 0.5}
        update(state, 1, 2.0, **settings)
        assert [state[name].item() for name in ("exp_avg", "exp_avg_sq")] == [4.0, 16.0]
        assert state["parameter"].item() == pytest.approx(1.9 - 0.08)

    @pytest.mark.usefixtures("small_pieces")
    @pytest.mark.parametrize(
        ("k", "minimums"), [(1, (0, 0)), (40, (0, 0)), (100, (2, 0)), (100, (1, 1)), (320, (0, 0))]
    )
    def test_projects_what_it_has_written(self, k: int, minimums: tuple[int, int]) -> None:
        state = some_state((8, 40))
        state["parameter"][:, 30:] = 0
        state["gradient"][:, 30:] = 0
        state["exp_avg"][:, 30:] = 0
        unprojected = {name: tensor.clone() for name, tensor in state.items()}
        update(unprojected, 3)
        update(state, 3, k=k, minimums=minimums)
        reference.project_topk_(unprojected["parameter"], k, *minimums)
        for name in NAMES:
            assert_same_bits(state[name], unprojected[name])

    def test_without_momentum_the_mean_is_the_gradient(self) -> None:
        state = some_state((3,))
        state["exp_avg"] += 1e8
        update(state, 2, **rates(beta1=0.0))
        assert_same_bits(state["exp_avg"], state["gradient"])

    def test_a_vector_and_a_strided_gradient(self) -> None:
        state = some_state((6, 4))
        expected = {name: tensor.clone() for name, tensor in state.items()}
        state["gradient"] = state["gradient"].T.contiguous().T
        update(state, k=5)
        update({name: tensor.view(-1) for name, tensor in expected.items()}, k=5)
        assert_same_bits(state["parameter"], expected["parameter"])

    def test_what_is_not_a_number_stays_visible(self) -> None:
        state = some_state((4, 5))
        state["gradient"][2, 3] = torch.nan
        update(state, k=2)
        assert state["parameter"].isnan().nonzero().tolist() == [[2, 3]]
        assert (state["parameter"] != 0).sum() == 2

    def test_tells_autograd(self) -> None:
        state = some_state((2, 2))
        versions = {name: state[name]._version for name in NAMES}
        update(state)
        assert [state[name]._version > versions[name] for name in NAMES] == [True, False, True, True]

    def test_refuses_what_it_cannot_do(self, unannotated: None) -> None:
        told = gpu.Told(torch.ones(4, device=DEVICE), torch.tensor(3, device=DEVICE))
        good = {**some_state((4, 5)), "told": told, "beta1": 0.9, "beta2": 0.95, "epsilon": 0.1}
        for bad, message in (
            ({"gradient": torch.zeros(5, 4, device=DEVICE)}, r"gradient is torch.float32 of shape \(5, 4\)"),
            ({"exp_avg": good["exp_avg"].bfloat16()}, "exp_avg is torch.bfloat16"),
            ({"exp_avg_sq": torch.zeros(5, 4, device=DEVICE).T}, "exp_avg_sq is changed in place and must be contig"),
            (
                {"told": told._replace(rates=torch.ones(3, device=DEVICE))},
                "the numbers of rates are 3 of torch.float32",
            ),
            ({"told": told._replace(k=torch.ones((), device=DEVICE))}, "the numbers of k are 1 of torch.float32"),
        ):
            with pytest.raises(InputError, match=f"adamw_project_: {message}"):
                gpu.adamw_project_(**good | bad)


def some_matrix(rows: int, columns: int, part: float, dtype: torch.dtype) -> tuple[Tensor, tuple[Tensor, ...]]:
    """A dense matrix and its start, column and value."""
    random = torch.Generator().manual_seed(rows * columns)
    dense = torch.randn(rows, columns, generator=random) * (torch.rand(rows, columns, generator=random) < part)
    dense = dense.to(DEVICE, dtype)
    csr = dense.to_sparse_csr()
    return dense, (csr.crow_indices().int(), csr.col_indices().int(), csr.values())


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
class TestProduct:
    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.data())
    def test_equals_the_dense_product(self, data: st.DataObject) -> None:
        rows, columns = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40))
        positions = data.draw(st.integers(1, 40))
        dtype = data.draw(st.sampled_from([torch.float32, torch.bfloat16]))
        dense, matrix = some_matrix(rows, columns, data.draw(st.sampled_from([0.0, 0.1, 0.9])), dtype)
        x = torch.randn(positions, columns, device=DEVICE).to(dtype)
        if data.draw(st.booleans()):
            x = x.T.contiguous().T
        bias = torch.randn(rows, device=DEVICE).to(dtype) if data.draw(st.booleans()) else None
        expected = x.double() @ dense.double().T + (0 if bias is None else bias.double())
        y = gpu.multiply(*matrix, x, rows, bias)
        assert y.dtype == dtype
        assert y.is_contiguous()
        # The sum is in fp32: a bf16 result is off by its own rounding alone.
        error = 1e-5 if dtype == torch.float32 else 2**-7
        torch.testing.assert_close(y.double(), expected, rtol=error, atol=1e-4)

    def test_a_matrix_of_one_dtype_times_activations_of_another(self) -> None:
        dense, matrix = some_matrix(20, 30, 0.2, torch.bfloat16)
        x = torch.randn(12, 30, device=DEVICE)
        for few in (x, x[:3]):
            torch.testing.assert_close(gpu.multiply(*matrix, few, 20), few @ dense.float().T, rtol=1e-5, atol=1e-5)

    def test_many_blocks_of_positions(self) -> None:
        dense, matrix = some_matrix(35, 10, 0.3, torch.float32)
        x = torch.randn(300, 10, device=DEVICE)
        torch.testing.assert_close(gpu.multiply(*matrix, x, 35), x @ dense.T, rtol=1e-5, atol=1e-5)

    def test_the_transpose_gives_the_gradient(self) -> None:
        dense, matrix = some_matrix(14, 23, 0.3, torch.float32)
        start, column, value = gpu.transpose(*matrix, 23)
        expected = dense.T.contiguous().to_sparse_csr()
        assert torch.equal(start, expected.crow_indices().int())
        assert torch.equal(column, expected.col_indices().int())
        assert torch.equal(value, expected.values())
        x = torch.randn(10, 23, device=DEVICE, requires_grad=True)
        upstream = torch.randn(10, 14, device=DEVICE)
        (gradient,) = torch.autograd.grad(x @ dense.T, x, upstream)
        torch.testing.assert_close(gpu.multiply(start, column, value, upstream, 23), gradient, rtol=1e-5, atol=1e-5)

    def test_nothing_to_do(self) -> None:
        _, matrix = some_matrix(4, 3, 0.5, torch.float32)
        assert gpu.multiply(*matrix, torch.empty(0, 3, device=DEVICE), 4).shape == (0, 4)
        start = torch.zeros(1, dtype=torch.int32, device=DEVICE)
        assert gpu.multiply(start, start[:0], torch.empty(0, device=DEVICE), torch.ones(2, 3), 0).shape == (2, 0)

    def test_refuses_what_does_not_fit_together(self, unannotated: None) -> None:
        start, column, value = some_matrix(4, 3, 0.5, torch.float32)[1]
        x = torch.randn(2, 3, device=DEVICE)
        for arguments, message in (
            ((start, column, value, x, 5), "5 rows need 6 starts"),
            ((start, column, value[1:], x, 4), "as many columns as values"),
            ((start.long(), column, value, x, 4), r"got 5 starts \(torch.int64\)"),
            ((start, column, value, x.double(), 4), "and x of torch.float64"),
        ):
            with pytest.raises(InputError, match=message):
                gpu.multiply(*arguments)
