"""Steps of a model in one pass over memory: a norm or nonlinearity with AbsTopK, the masks of pruning, the loss.

Each function is a few lines of PyTorch (`fused_reference`), whose meaning it keeps: on the CPU, in fp32 and bf16, one
kernel each way does it all (`fused_cpu`), since such steps only wait for memory. Elsewhere, and where `kernels.use`
says so, those lines run.

1. `keep_norm`, `keep_gelu`, `keep_relu`: RMSNorm, GELU or ReLU, then AbsTopK. Position channels may stand beside the
   normed ones.
2. `hold`, `keep_hold`: m * x + (1 - m) * held, of x or of what AbsTopK keeps of it.
3. `add_rows`, `cross_entropy`: the bigram table's rows on top of the logits, and the loss.

A mask can be given to the first three as well. AbsTopK follows the rules of `sparsity.abs_topk`, applied to values in
the dtype of x. For the gradient the input is stored and a few bytes a row; what was kept is computed again. The sums
over rows that a norm's weight and a mask get are the same for any number of threads.
"""

from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.autograd.function import once_differentiable

from sparse_circuits import kernels
from sparse_circuits.errors import InputError
from sparse_circuits.kernels import fused_reference as reference


def keep_norm(
    x: Float[Tensor, "*rows n"],
    weight: Float[Tensor, "n"],
    k: int,
    epsilon: float | None = None,
    mask: Float[Tensor, "all"] | None = None,
    held: Float[Tensor, "all"] | None = None,
    beside: Float[Tensor, "*last channels"] | None = None,
) -> Float[Tensor, "*rows all"]:
    """RMSNorm of each row as `torch.nn.RMSNorm` has it, then its k entries of largest magnitude; k >= n: all.

    Args:
        epsilon: added to the mean square; None is the smallest step of float32 at 1.
        mask: with `held`: the result is mask * kept + (1 - mask) * held.
        beside: channels that follow the normed ones in every row, and of which AbsTopK sees as many: for rows of shape
            [B, T], say, one set for each of T, shared by all B, or one for each of B and T.

    Raises:
        InputError: k is below 1, only one of mask and held is given, there is not one number a channel, or the
            channels beside do not fit the rows.
    """
    _check(x, k, mask, held, weight, beside)
    if not _compiles(x, weight, mask, held, beside):
        return reference.keep_norm(x, weight, k, epsilon, mask, held, beside)
    if epsilon is None:
        epsilon = torch.finfo(torch.float32).eps
    return _Keep.apply(x, weight, mask, beside, held, ("norm", k, epsilon))


def keep_gelu(
    x: Float[Tensor, "*rows n"], k: int, mask: Float[Tensor, "n"] | None = None, held: Float[Tensor, "n"] | None = None
) -> Float[Tensor, "*rows n"]:
    """GELU (the exact one) of x, then the k entries of largest magnitude of each row; mask, held as in `keep_norm`."""
    _check(x, k, mask, held)
    if not _compiles(x, mask, held):
        return reference.keep_gelu(x, k, mask, held)
    return _Keep.apply(x, None, mask, None, held, ("gelu", k, 0.0))


def keep_relu(
    x: Float[Tensor, "*rows n"], k: int, mask: Float[Tensor, "n"] | None = None, held: Float[Tensor, "n"] | None = None
) -> Float[Tensor, "*rows n"]:
    """ReLU of x, then the k entries of largest magnitude of each row; mask and held as in `keep_norm`."""
    _check(x, k, mask, held)
    if not _compiles(x, mask, held):
        return reference.keep_relu(x, k, mask, held)
    return _Keep.apply(x, None, mask, None, held, ("relu", k, 0.0))


def hold(x: Float[Tensor, "*rows n"], mask: Float[Tensor, "n"], held: Float[Tensor, "n"]) -> Float[Tensor, "*rows n"]:
    """mask * x + (1 - mask) * held, computed in float32 and rounded once; no gradient reaches `held`."""
    return keep_hold(x, x.shape[-1], mask, held)


def keep_hold(
    x: Float[Tensor, "*rows n"], k: int, mask: Float[Tensor, "n"], held: Float[Tensor, "n"]
) -> Float[Tensor, "*rows n"]:
    """`hold` of the k entries of largest magnitude of each row; k >= n: of all."""
    _check(x, k, mask, held)
    if not _compiles(x, mask, held):
        return reference.hold(reference.abs_topk(x, k), mask, held)
    return _Keep.apply(x, None, mask, None, held, ("plain", k, 0.0))


def add_rows(
    logits: Float[Tensor, "*rows n"],
    table: Float[Tensor, "tokens n"],
    tokens: Int64[Tensor, "*rows"],
    bias: Float[Tensor, "n"] | None = None,
) -> Float[Tensor, "*rows n"]:
    """logits + bias + table[tokens], in the dtype that PyTorch gives the sum.

    Raises:
        InputError: a token that the table has no row for, or shapes that do not fit.
    """
    _check_tokens(tokens, logits, len(table), "add_rows: tokens")
    _check_width(logits, table=table[0] if len(table) else None, bias=bias)
    plain = table.is_contiguous() and (bias is None or (bias.is_contiguous() and not bias.requires_grad))
    if not plain or not _compiles(logits, table, bias):
        return reference.add_rows(logits, table, tokens, bias)
    return _AddRows.apply(logits, table, tokens, bias)


def cross_entropy(logits: Float[Tensor, "*rows n"], targets: Int64[Tensor, "*rows"]) -> Float[Tensor, ""]:
    """The mean of -log softmax(logits) at the targets, fp32 (fp64 for fp64 logits); NaN for no rows.

    Raises:
        InputError: a target that is not one of 0..n-1, or not one int64 target a row.
    """
    _check_tokens(targets, logits, logits.shape[-1], "cross_entropy: targets")
    if not _compiles(logits):
        return reference.cross_entropy(logits, targets)
    if not (torch.is_grad_enabled() and logits.requires_grad):
        from sparse_circuits.kernels import fused_cpu

        return fused_cpu.cross_entropy(logits.detach(), targets, False)[0]
    return _CrossEntropy.apply(logits, targets)


# Compiled code reads as much as the shapes say, so they are looked at here.


def _check_tokens(tokens: Tensor, logits: Tensor, count: int, what: str) -> None:
    if tokens.shape != logits.shape[:-1] or tokens.dtype != torch.int64:
        raise InputError(
            f"{what} have shape {tuple(tokens.shape)} and dtype {tokens.dtype}; expected int64 of shape "
            f"{tuple(logits.shape[:-1])}, one a row"
        )
    # Elsewhere than on the CPU the look would wait for all queued work, and traced code cannot look.
    if tokens.device.type == "cpu" and tokens.numel() and not torch.compiler.is_compiling():
        low, high = (int(bound) for bound in torch.aminmax(tokens))
        if low < 0 or high >= count:
            raise InputError(f"{what} must be from 0 to {count - 1}, got {low if low < 0 else high}")


def _check(
    x: Tensor,
    k: int,
    mask: Tensor | None,
    held: Tensor | None,
    weight: Tensor | None = None,
    beside: Tensor | None = None,
) -> None:
    if k < 1:
        raise InputError(f"k counts the entries to keep and must be 1 or more, got {k}")
    if (mask is None) != (held is None):
        raise InputError("a mask needs the values that it holds, and the other way around: give both or neither")
    more = 0
    if beside is not None:
        rows, more = x.shape[:-1], beside.shape[-1] if beside.ndim else 0
        if not 0 < beside.ndim <= x.ndim or beside.shape[:-1] != rows[len(rows) - beside.ndim + 1 :]:
            raise InputError(
                f"beside has shape {tuple(beside.shape)}; expected one row of channels for each of the rows "
                f"{tuple(rows)}, or for each of the last of these dimensions"
            )
    _check_width(x, weight=weight)
    _check_width(x, more, mask=mask, held=held)


def _check_width(x: Tensor, more: int = 0, **vectors: Tensor | None) -> None:
    width = x.shape[-1] + more
    for name, vector in vectors.items():
        if vector is not None and vector.shape != (width,):
            raise InputError(f"{name} has shape {tuple(vector.shape)}; expected ({width},), a number for each channel")


def _compiles(x: Tensor, *parameters: Tensor | None) -> bool:
    """Whether the compiled kernels are to be used: they are chosen, know the dtypes, and there is something to do."""
    if kernels.choose(x).name != "cpu" or any(t is not None and t.numel() == 0 for t in (x, *parameters)):
        return False
    from sparse_circuits.kernels import fused_cpu  # Numba takes long to import

    return fused_cpu.takes(x, *parameters)


class _Keep(torch.autograd.Function):
    """All of the above with one kernel each way."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        mask: Tensor | None,
        beside: Tensor | None,
        held: Tensor | None,
        what: tuple[str, int, float],
    ) -> Tensor:
        from sparse_circuits.kernels import fused_cpu

        vectors = [None if t is None else t.detach().contiguous() for t in (weight, mask, beside, held)]
        kind, k, epsilon = what
        keep = fused_cpu.Keep(kind, k, epsilon, *vectors)
        y, rows = fused_cpu.forward(x, keep)
        stored = None if keep.by_bits and kind != "gelu" else x
        ctx.save_for_backward(stored, *vectors, *rows)
        ctx.what = what
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        from sparse_circuits.kernels import fused_cpu

        x, weight, mask, beside, held, *rows = ctx.saved_tensors
        kind, k, epsilon = ctx.what
        keep, found = fused_cpu.Keep(kind, k, epsilon, weight, mask, beside, held), fused_cpu.Rows(*rows)
        gradient, wanted = gradients[0].resolve_neg(), ctx.needs_input_grad[:4]
        if not fused_cpu.takes(gradient):
            return *_by_reference(gradient, x, keep, found, wanted), None, None
        if keep.by_bits:
            of_x = fused_cpu.by_bits(gradient, x, keep, found) if wanted[0] else None
            return of_x, None, None, None, None, None
        return *fused_cpu.backward(gradient, x, keep, found, wanted), None, None


def _by_reference(
    gradient: Tensor, x: Tensor | None, keep: Any, found: Any, wanted: tuple[bool, ...]
) -> list[Tensor | None]:
    """The gradients of x, weight, mask and beside for a gradient whose memory compiled code cannot read."""
    if x is None:
        from sparse_circuits.kernels.cpu import as_bools

        passes = as_bools(found.bits, gradient.shape[-1]).view(gradient.shape)
        return [torch.where(passes, gradient, 0.0), None, None, None]
    k, held = keep.k, keep.held
    function = {
        "norm": lambda x, weight, mask, beside: reference.keep_norm(x, weight, k, keep.epsilon, mask, held, beside),
        "gelu": lambda x, weight, mask, beside: reference.keep_gelu(x, k, mask, held),
        "relu": lambda x, weight, mask, beside: reference.keep_relu(x, k, mask, held),
        "plain": lambda x, weight, mask, beside: reference.hold(reference.abs_topk(x, k), mask, held),
    }[keep.kind]
    inputs = [
        None if t is None else t.detach().requires_grad_(asked)
        for t, asked in zip((x, keep.weight, keep.mask, keep.beside), wanted, strict=True)
    ]
    with torch.enable_grad(), kernels.use("reference"):
        y = function(*inputs)
    of_inputs = iter(torch.autograd.grad(y, [t for t in inputs if t is not None and t.requires_grad], gradient))
    return [next(of_inputs) if asked else None for asked in wanted]


class _AddRows(torch.autograd.Function):
    """Logits and rows of a table, with gradients of both."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, table: Tensor, tokens: Tensor, bias: Tensor | None) -> Tensor:
        from sparse_circuits.kernels import fused_cpu

        ctx.save_for_backward(tokens)
        ctx.dtype, ctx.count = logits.dtype, len(table)
        return fused_cpu.add_rows(logits, table, tokens, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        from sparse_circuits.kernels import fused_cpu

        (tokens,), gradient, of_table = ctx.saved_tensors, gradients[0].resolve_neg(), None
        if ctx.needs_input_grad[1]:
            if fused_cpu.takes(gradient):
                of_table = fused_cpu.sum_rows(gradient, tokens, ctx.count)
            else:
                of_table = torch.ops.aten.embedding_dense_backward(gradient, tokens, ctx.count, -1, False)
        return gradient.to(ctx.dtype), of_table, None, None


class _CrossEntropy(torch.autograd.Function):
    """The loss; the forward pass computes its gradient too."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        from sparse_circuits.kernels import fused_cpu

        loss, gradient = fused_cpu.cross_entropy(logits, targets, True)
        ctx.save_for_backward(gradient)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        factor = float(gradients[0])
        return gradient if factor == 1 else gradient * factor, None
