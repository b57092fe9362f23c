"""The optimiser's update in as few passes over memory as it takes: AdamW, and the weight projection after it.

1. `total_square`: the sum of squares of all gradients, for their norm.
2. `adamw_`: one pass: gradient, moments and parameter are read once, the last two written once.
3. `adamw_project_`: the same with `sparsity.project_topk_` in the same pass, see `update_cpu`.

In fp32 compiled kernels do it, on a GPU those of `gpu` (whole updates only); elsewhere, and where `kernels.use` says
so, plain PyTorch. Results do not depend on the number of threads, nor on how often a kernel had to look.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int32
from torch import Tensor

from sparse_circuits import kernels, sparsity
from sparse_circuits.errors import InputError


class Rates(NamedTuple):
    """What AdamW is told, but for the tensors."""

    step: int
    """The number of the update, from 1."""
    learning_rate: float
    beta1: float
    beta2: float
    epsilon: float
    weight_decay: float
    """Decoupled: the parameter loses this times the learning rate of itself."""
    scale: float
    """What the gradient is multiplied by first."""
    live: bool = False
    """Entries of the parameter that are zero stay zero, and keep their moments."""


class Projected(NamedTuple):
    """What a projection tells about its result."""

    forced: int
    """How many entries stay only because their row or column has a minimum: a guess for the next time."""
    row_counts: Int32[Tensor, "rows"] | None
    """How many entries of each row are not zero, if asked for."""


def total_square(gradients: Sequence[Tensor]) -> float:
    """The sum of squares of all entries of all tensors, added up in float64."""
    compiled = [g for g in gradients if _compiles(g)]
    # All sums are made before any is read: a GPU is waited for once.
    others = [squares(g) for g in gradients if not _compiles(g)]
    total = math.fsum(torch.stack(others).tolist()) if others else 0.0
    if compiled:
        from sparse_circuits.kernels import update_cpu

        total += update_cpu.total_square(compiled)
    return total


def squares(gradient: Tensor) -> Float[Tensor, ""]:
    """The sum of squares of all entries, in float64, on the gradient's device."""
    return torch.linalg.vector_norm(gradient.detach(), dtype=torch.float64).square()


@torch.no_grad()
def adamw_(
    parameter: Float[Tensor, "*shape"],
    gradient: Float[Tensor, "*shape"],
    exp_avg: Float[Tensor, "*shape"],
    exp_avg_sq: Float[Tensor, "*shape"],
    *,
    step: int,
    learning_rate: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    weight_decay: float,
    scale: float = 1.0,
    live: bool = False,
) -> None:
    """One step of `torch.optim.AdamW` with the gradient times `scale`; parameter and moments change in place.

    Args:
        step: the number of the update, from 1.
        live: leave entries of the parameter that are zero, and their moments, as they are.

    Raises:
        InputError: the tensors differ in shape, or the step is below 1.
    """
    rates = _checked(Rates(step, learning_rate, beta1, beta2, epsilon, weight_decay, scale, live))
    _check_shapes(parameter, gradient, exp_avg, exp_avg_sq)
    if _compiles(parameter, gradient, exp_avg, exp_avg_sq) and _contiguous(parameter, exp_avg, exp_avg_sq):
        from sparse_circuits.kernels import update_cpu

        update_cpu.adamw_(update_cpu.Tensors.of(parameter, gradient, exp_avg, exp_avg_sq), rates)
    elif not live and on_gpu(parameter, gradient, exp_avg, exp_avg_sq):
        _adamw_on_gpu_(parameter, gradient, exp_avg, exp_avg_sq, rates)
    else:
        adamw_reference_(parameter, gradient, exp_avg, exp_avg_sq, rates)


@torch.no_grad()
def adamw_project_(
    parameter: Float[Tensor, "..."],
    gradient: Float[Tensor, "..."],
    exp_avg: Float[Tensor, "..."],
    exp_avg_sq: Float[Tensor, "..."],
    *,
    step: int,
    learning_rate: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    weight_decay: float,
    scale: float = 1.0,
    live: bool = False,
    k: int,
    min_per_row: int = 0,
    min_per_column: int = 0,
    forced: int = 0,
    count_rows: bool = False,
) -> Projected:
    """`adamw_`, then `sparsity.project_topk_` with k and the minimums: the same entries stay, to the last bit.

    Args:
        parameter: a matrix or a vector.
        forced: `Projected.forced` of the update before; the closer it is, the less work, whatever the result.
        count_rows: whether to count the entries of each row that are not zero.

    Raises:
        InputError: as `adamw_` and `project_topk_`.
    """
    rates = _checked(Rates(step, learning_rate, beta1, beta2, epsilon, weight_decay, scale, live))
    _check_shapes(parameter, gradient, exp_avg, exp_avg_sq)
    fits = parameter.ndim == 2 and 1 <= k < parameter.numel() and min(min_per_row, min_per_column) >= 0
    if fits and _compiles(parameter, gradient, exp_avg, exp_avg_sq) and _contiguous(parameter, exp_avg, exp_avg_sq):
        from sparse_circuits.kernels import update_cpu

        rows, columns = parameter.shape
        minimums = sparsity._fitting_minimums(rows, columns, k, min_per_row, min_per_column)
        tensors = update_cpu.Tensors.of(parameter, gradient, exp_avg, exp_avg_sq)
        forced, counts = update_cpu.adamw_project_(tensors, rates, k, minimums, forced)
    elif fits and not live and on_gpu(parameter, gradient, exp_avg, exp_avg_sq):
        rows, columns = parameter.shape
        minimums = sparsity._fitting_minimums(rows, columns, k, min_per_row, min_per_column)
        _adamw_on_gpu_(parameter, gradient, exp_avg, exp_avg_sq, rates, k, *minimums)
        counts = None
    else:
        adamw_(parameter, gradient, exp_avg, exp_avg_sq, **rates._asdict())
        sparsity.project_topk_(parameter, k, min_per_row, min_per_column)
        counts = None
    if not count_rows:
        return Projected(forced, None)
    if counts is None:
        counts = (parameter.view(-1, parameter.shape[-1]) != 0).sum(1, dtype=torch.int32)
    return Projected(forced, counts)


def adamw_reference_(parameter: Tensor, gradient: Tensor, exp_avg: Tensor, exp_avg_sq: Tensor, rates: Rates) -> None:
    """What `adamw_` means, in plain PyTorch."""
    gradient = gradient * rates.scale
    average = torch.lerp(exp_avg, gradient, 1 - rates.beta1)
    square = torch.lerp(exp_avg_sq, gradient.square(), 1 - rates.beta2)
    root = (square / (1 - rates.beta2**rates.step)).sqrt_().add_(rates.epsilon)
    moved = (parameter * (1 - rates.learning_rate * rates.weight_decay)).addcdiv_(
        average, root, value=-rates.learning_rate / (1 - rates.beta1**rates.step)
    )
    for old, new in ((exp_avg, average), (exp_avg_sq, square), (parameter, moved)):
        old.copy_(torch.where(parameter != 0, new, old) if rates.live else new)


def _adamw_on_gpu_(
    parameter: Tensor,
    gradient: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    rates: Rates,
    k: int | None = None,
    min_per_row: int = 0,
    min_per_column: int = 0,
) -> None:
    from sparse_circuits.kernels import gpu

    device = parameter.device
    numbers = gpu.rates_of(rates.step, rates.learning_rate, rates.beta1, rates.beta2, rates.weight_decay, rates.scale)
    told = gpu.Told(
        torch.tensor(numbers, device=device), None if k is None else torch.tensor(k, dtype=torch.int64, device=device)
    )
    gpu.adamw_project_(
        parameter,
        gradient,
        exp_avg,
        exp_avg_sq,
        told,
        beta1=rates.beta1,
        beta2=rates.beta2,
        epsilon=rates.epsilon,
        min_per_row=min_per_row,
        min_per_column=min_per_column,
    )


def on_gpu(*tensors: Tensor) -> bool:
    """Whether the GPU's kernels are chosen, and can take tensors of this kind."""
    return (
        all(t.dtype == torch.float32 and t.is_contiguous() for t in tensors)
        and kernels.choose(tensors[0]).name == "gpu"
    )


def _checked(rates: Rates) -> Rates:
    if rates.step < 1:
        raise InputError(f"the step is {rates.step}; updates are counted from 1")
    return rates


def _check_shapes(parameter: Tensor, *others: Tensor) -> None:
    # Compiled code reads as much as the parameter's shape says.
    if any(other.shape != parameter.shape for other in others):
        shapes = [tuple(tensor.shape) for tensor in (parameter, *others)]
        raise InputError(f"parameter, gradient and moments have shapes {shapes}; they must be the same")


def _compiles(*tensors: Tensor) -> bool:
    """Whether the compiled kernels are to be used: they are chosen, and all is fp32 in plain memory."""
    if any(t.dtype != torch.float32 or t.numel() == 0 for t in tensors):
        return False
    if kernels.choose(tensors[0]).name != "cpu":
        return False
    from sparse_circuits.kernels.jobs import refuses  # Numba takes long to import

    return all(refuses(t) is None for t in tensors)


def _contiguous(*tensors: Tensor) -> bool:
    return all(t.is_contiguous() for t in tensors)
