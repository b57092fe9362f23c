"""AdamW is PyTorch's, with the gradient scaled, a projection after it, and zeros that can be left alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparse_circuits.config import LoopConfig
from sparse_circuits.optimizer import AdamW, Projection
from sparse_circuits.sparsity import project_topk

pytestmark = pytest.mark.usefixtures("one_thread")
CONFIG = LoopConfig(beta1=0.9, beta2=0.95, epsilon=0.1, weight_decay=0.3)


def made(shape: tuple[int, ...], seed: int, dtype: torch.dtype) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype))


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from([torch.float32, torch.float64]), st.booleans())
def test_it_is_pytorchs_adamw_on_scaled_gradients(rows: int, columns: int, dtype: torch.dtype, decays: bool) -> None:
    ours, theirs = made((rows, columns), 0, dtype), made((rows, columns), 0, dtype)
    optimizer = AdamW({"w": ours}, lambda name: decays, CONFIG)
    reference = torch.optim.AdamW([theirs], betas=(0.9, 0.95), eps=0.1, weight_decay=0.3 if decays else 0.0)
    for step in range(1, 5):
        gradient = made((rows, columns), step, dtype).detach()
        ours.grad, theirs.grad = gradient.clone(), gradient * 0.5
        reference.param_groups[0]["lr"] = 0.1 / step
        optimizer.update(step, 0.1 / step, {"w": 0.5}, {})
        reference.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@settings(deadline=None)
@given(st.integers(1, 8), st.integers(1, 8), st.data())
def test_the_projection_comes_after_the_update(rows: int, columns: int, data: st.DataObject) -> None:
    projection = Projection(data.draw(st.integers(rows, rows * columns)), data.draw(st.integers(0, 1)), 0)
    projected, free = made((rows, columns), 0, torch.float32), made((rows, columns), 0, torch.float32)
    for parameter, kept in ((projected, {"w": projection}), (free, {})):
        parameter.grad = made((rows, columns), 1, torch.float32).detach()
        AdamW({"w": parameter}, lambda name: True, CONFIG).update(1, 0.1, {"w": 1.0}, kept)
    assert torch.equal(projected, project_topk(free, *projection))


def test_a_live_update_leaves_zeros_and_their_moments_alone() -> None:
    live, whole = made((4, 4), 0, torch.float32), made((4, 4), 0, torch.float32)
    dead = torch.arange(16).view(4, 4) % 3 == 0
    optimizers = []
    for parameter in (live, whole):
        parameter.data[dead] = 0
        optimizers.append(AdamW({"w": parameter}, lambda name: True, CONFIG))
    for step in (1, 2):
        for parameter, optimizer, names in zip((live, whole), optimizers, (["w"], []), strict=True):
            parameter.grad = made((4, 4), step, torch.float32).detach()
            optimizer.update(step, 0.1, {"w": 1.0}, {}, names)
    assert torch.equal(live[~dead], whole[~dead])
    assert torch.equal(live[dead], torch.zeros(int(dead.sum())))
    assert torch.equal(optimizers[0].exp_avg["w"][dead], torch.zeros(int(dead.sum())))
    assert torch.equal(optimizers[0].exp_avg_sq["w"][~dead], optimizers[1].exp_avg_sq["w"][~dead])


def test_a_parameter_without_a_gradient_stays() -> None:
    parameter = made((3,), 0, torch.float32)
    before = parameter.detach().clone()
    AdamW({"b": parameter}, lambda name: True, CONFIG).update(1, 0.1, {"b": 1.0}, {"b": Projection(1)})
    assert torch.equal(parameter.detach(), before)
