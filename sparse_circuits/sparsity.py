"""Sparse activations, sparse weights, and the two schedules of sparse training.

Source: Gao et al., "Weight-sparse transformers have interpretable circuits" (arXiv 2511.13653), its method and
its released training code.

1. `abs_topk`: of each row of activations only the k largest magnitudes stay.
2. `project_topk_`: after every optimiser step only the k largest magnitudes of a weight matrix stay.
3. `density_at`, `nonzero_count`: how large k is at which point of training.
4. `learning_rate_at`: the learning rate that goes with it.

Which entries stay is never left to chance: larger magnitude first, NaN above infinity so that it stays
visible, -0.0 equal to 0.0, and among equals the lower index.
"""

import math
import operator
import warnings
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sparse_circuits import kernels
from sparse_circuits.errors import InputError

SHAPES = ("linear", "exponential")

_warned: set[tuple[int, int, int, int]] = set()


def abs_topk(x: Float[Tensor, "*rows n"], k: int) -> Float[Tensor, "*rows n"]:
    """Keep exactly k entries of each row (last dimension), those of largest magnitude; zero the rest.

    Differentiable: the gradient reaches the kept entries only, those whose value happens to be zero included.
    The dtype stays, under autocast too. Kept entries keep their bits; the others become +0.0.

    Args:
        x: fp32, bf16, fp16 or fp64, any number of leading dimensions, any strides.
        k: how many stay in each row. When k >= n, `x` itself is returned.

    Raises:
        InputError: k is below 1, or `x` has no dimension or is not floating point.
    """
    k = _at_least_one(k, "abs_topk")
    if x.ndim == 0 or not x.is_floating_point():
        raise InputError(f"abs_topk: expected floating-point rows, got {x.dtype} of shape {tuple(x.shape)}")
    if k >= x.shape[-1] or x.numel() == 0:
        return x
    if torch.is_grad_enabled() and x.requires_grad:
        return _AbsTopK.apply(x, k)
    rows = x.reshape(-1, x.shape[-1])
    return kernels.choose(rows).abs_topk(rows, k, False)[0].view(x.shape)


class _AbsTopK(torch.autograd.Function):
    """`abs_topk` with a gradient; saves where the kept entries are, a bit or a byte an entry."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, k: int) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        ctx.kernels = kernels.choose(rows)
        kept, mask = ctx.kernels.abs_topk(rows, k, True)
        ctx.save_for_backward(mask)
        return kept.view(x.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _Masked.apply(gradients[0], *ctx.saved_tensors, ctx.kernels), None


class _Masked(torch.autograd.Function):
    """The gradient of `abs_topk`, and its own gradient. Only the kernels that made a mask know how to read it."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, mask: Tensor, chosen: kernels.Kernels) -> Tensor:
        ctx.save_for_backward(mask)
        ctx.kernels = chosen
        return chosen.masked(gradient.reshape(-1, gradient.shape[-1]), mask).view(gradient.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return _Masked.apply(gradients[0], *ctx.saved_tensors, ctx.kernels), None, None


def project_topk(
    weight: Float[Tensor, "..."], k: int, min_per_row: int = 0, min_per_column: int = 0
) -> Float[Tensor, "..."]:
    """`project_topk_` on a copy; `weight` stays as it is and no gradient flows."""
    projected = weight.detach().clone()
    project_topk_(projected, k, min_per_row, min_per_column)
    return projected


def project_topk_(weight: Float[Tensor, "..."], k: int, min_per_row: int = 0, min_per_column: int = 0) -> None:
    """Zero all but exactly k entries of `weight`, in place.

    1. The `min_per_row` largest of each row and the `min_per_column` largest of each column stay in any case.
    2. The rest of the k places go to the largest magnitudes anywhere; among equals the lower flat index.

    The k never grows: when rows * min_per_row + columns * min_per_column exceeds it, both minimums are cut to
    the largest value with which it does not, with one warning for each shape and setting.

    Args:
        weight: [rows, columns], or one dimension (then without minimums); any floating dtype, any strides. It
            may require a gradient.
        k: how many stay; all of them when k >= weight.numel().
        min_per_row: how many of each row stay at least.
        min_per_column: how many of each column stay at least.

    Raises:
        InputError: k is below 1, a minimum is negative or given for a vector, or `weight` is neither floating
            point nor of one or two dimensions.
    """
    k = _at_least_one(k, "project_topk_")
    shape = tuple(weight.shape)
    if weight.ndim not in (1, 2) or not weight.is_floating_point():
        raise InputError(
            f"project_topk_: expected a floating-point matrix or vector, got {weight.dtype} of shape {shape}"
        )
    if min(min_per_row, min_per_column) < 0 or (weight.ndim == 1 and (min_per_row or min_per_column)):
        raise InputError(
            f"project_topk_: min_per_row {min_per_row} and min_per_column {min_per_column} do not suit shape "
            f"{shape}; they must be 0 or more, and 0 for a vector"
        )
    if k >= weight.numel():
        return
    matrix = weight.detach() if weight.ndim == 2 else weight.detach()[None]
    minimums = _fitting_minimums(matrix.shape[0], matrix.shape[1], k, min_per_row, min_per_column)
    kernels.choose(matrix).project_topk_(matrix, k, *minimums)


def _fitting_minimums(rows: int, columns: int, k: int, min_per_row: int, min_per_column: int) -> tuple[int, int]:
    """The two minimums, cut to what k and the shape allow; warns once a shape and setting."""
    per_row, per_column = min(min_per_row, columns), min(min_per_column, rows)
    limit = max(per_row, per_column)
    while rows * min(per_row, limit) + columns * min(per_column, limit) > k:
        limit -= 1
    fitting = min(per_row, limit), min(per_column, limit)
    setting = (rows, columns, min_per_row, min_per_column)
    # k is no part of the setting: it changes at every step while the density is annealed.
    if fitting != (per_row, per_column) and setting not in _warned:
        _warned.add(setting)
        warnings.warn(
            f"a {rows} x {columns} matrix with {k} nonzeros has no room for min_per_row={min_per_row} and "
            f"min_per_column={min_per_column}: using {fitting[0]} and {fitting[1]}",
            stacklevel=3,
        )
    return fitting


def nonzero_count(density: float, numel: int) -> int:
    """The k of a tensor of `numel` entries: density * numel to the nearest integer (halves to even), at least
    1.

    Raises:
        InputError: density is outside (0, 1], or numel is below 1.
    """
    _check_density(density, "nonzero_count: density")
    if numel < 1:
        raise InputError(f"nonzero_count: numel must be 1 or more, got {numel}")
    return max(1, round(density * numel))


def density_at(progress: float, target: float, start: float = 0.01, end: float = 0.5, shape: str = "linear") -> float:
    """The fraction of weights that may be nonzero at a point of training.

    1.0 (dense) until `start`, `target` from `end` on. Between them "linear" goes down by equal differences,
    "exponential" by equal ratios.

    Args:
        progress: steps done / steps in all, 0 to 1.
        target: the density to end with, in (0, 1].
        start: the progress up to which training is dense.
        end: the progress from which the density is `target`.
        shape: "linear" or "exponential".

    Raises:
        InputError: the shape is unknown, the target outside (0, 1], or not 0 <= start <= end <= 1.
    """
    _check_density(target, "density_at: target")
    if shape not in SHAPES:
        raise InputError(f"density_at: there is no shape {shape!r}; choose one of {', '.join(SHAPES)}")
    if not 0 <= start <= end <= 1:
        raise InputError(f"density_at: expected 0 <= start <= end <= 1, got start {start} and end {end}")
    if progress >= end:
        return target
    if progress <= start:
        return 1.0
    fraction = (progress - start) / (end - start)
    return target**fraction if shape == "exponential" else 1.0 + (target - 1.0) * fraction


def learning_rate_at(
    progress: float, warmup: float = 0.01, density: float | None = None, final_density: float | None = None
) -> float:
    """The factor, 0 to 1, on the peak learning rate at a point of training.

    Linear from 0 to 1 during `warmup`, then linear to 0 at progress 1. With the two densities it is also
    multiplied by sqrt(final_density / density), at most 1: while the weights are still dense the rate is held
    down, as fewer nonzeros want a larger rate. The curve then rises while the density falls and drops when
    the decay takes over, like a shark's fin, hence the name "sharkfin".

    Args:
        progress: steps done / steps in all, 0 to 1. At 0 the factor is 0: count the step about to be made as
        done.
        warmup: the part of training that warms up, in [0, 1).
        density: the density now, in (0, 1].
        final_density: the density at the end, in (0, 1].

    Raises:
        InputError: the warm-up is outside [0, 1), a density outside (0, 1], or only one density is given.
    """
    if not 0 <= warmup < 1:
        raise InputError(f"learning_rate_at: warmup must be in [0, 1), got {warmup}")
    if (density is None) != (final_density is None):
        raise InputError("learning_rate_at: give both density and final_density, or neither")
    decay = (1.0 - progress) / (1.0 - warmup)
    factor = min(max(progress / warmup if progress < warmup else decay, 0.0), 1.0)
    if density is None or final_density is None:
        return factor
    _check_density(density, "learning_rate_at: density")
    _check_density(final_density, "learning_rate_at: final_density")
    return factor * min(math.sqrt(final_density / density), 1.0)


def _check_density(density: float, what: str) -> None:
    if not 0 < density <= 1:
        raise InputError(f"{what} must be in (0, 1] (a fraction of the entries), got {density}")


def _at_least_one(k: int, where: str) -> int:
    if operator.index(k) < 1:
        raise InputError(f"{where}: k counts the entries to keep and must be 1 or more, got {k}")
    return operator.index(k)
