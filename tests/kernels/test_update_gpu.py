"""The update of many parameters at once on the GPU: the optimiser's plain one says what is right."""

import pytest
import torch
from gpu_here import DEVICE, small_pieces

from sparse_circuits import kernels
from sparse_circuits.config import LoopConfig
from sparse_circuits.optimizer import AdamW, Projection

__all__ = ["small_pieces"]

SHAPES = {"matrix": (12, 20), "other": (20, 12), "vector": (30,), "still": (4, 4)}


def trained(name: str, steps: int) -> AdamW:
    """An optimiser that has made some updates with the kernels `name`, by a projection that gets tighter."""
    random = torch.Generator().manual_seed(3)
    parameters = {each: torch.randn(shape, generator=random).to(DEVICE) for each, shape in SHAPES.items()}
    config = LoopConfig(steps=steps, learning_rate=0.05, weight_decay=0.1, epsilon=0.1)
    optimizer = AdamW(parameters, lambda each: each == "matrix", config)
    with kernels.use(name):
        for step in range(1, steps + 1):
            for each, parameter in parameters.items():
                parameter.grad = None if each == "still" else torch.randn(parameter.shape, generator=random).to(DEVICE)
            projections = {"matrix": Projection(300 - 40 * step, 2), "other": Projection(120, 0, 1)}
            if step > 2:
                projections["vector"] = Projection(12)
            optimizer.update(step, 0.1 / step, dict.fromkeys(SHAPES, 0.5 * step), projections)
    return optimizer


@pytest.mark.usefixtures("small_pieces")
def test_is_that_of_the_plain_optimiser() -> None:
    ours, theirs = trained("gpu", 6), trained("reference", 6)
    assert ours._on_gpu is not None
    for name in SHAPES:
        for what in ("parameters", "exp_avg", "exp_avg_sq"):
            torch.testing.assert_close(getattr(ours, what)[name], getattr(theirs, what)[name], rtol=1e-5, atol=1e-6)
    assert [int((ours.parameters[name] != 0).sum()) for name in ("matrix", "other", "vector")] == [60, 120, 12]
    assert not ours.exp_avg["still"].any()


def test_tells_autograd() -> None:
    optimizer = trained("gpu", 1)
    versions = [tensor._version for tensor in optimizer.parameters.values()]
    with kernels.use("gpu"):
        optimizer.update(2, 0.1, dict.fromkeys(SHAPES, 1.0), {})
    changed = [tensor._version > before for tensor, before in zip(optimizer.parameters.values(), versions, strict=True)]
    assert changed[:3] == [True, True, True]
