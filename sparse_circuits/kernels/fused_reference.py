"""What the fused kernels mean, in plain PyTorch: any device, any floating dtype, traceable.

1. `hold`: m * x + (1 - m) * held, in float32 at least, rounded once.
2. `keep_norm`, `keep_gelu`, `keep_relu`: a norm or nonlinearity, rounded to the dtype of x, then AbsTopK, then `hold`
   where a mask is given. `keep_norm` may put further channels beside the normed ones.
3. `add_rows`, `cross_entropy`: the bigram table's rows, and the loss, in float32 at least.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from sparse_circuits.sparsity import abs_topk


def hold(x: Float[Tensor, "*rows n"], mask: Float[Tensor, "n"], held: Float[Tensor, "n"]) -> Float[Tensor, "*rows n"]:
    """mask * x + (1 - mask) * held; no gradient reaches `held`."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    return (mask * wide + (1 - mask) * held.detach()).to(x.dtype)


def keep_norm(
    x: Float[Tensor, "*rows n"],
    weight: Float[Tensor, "n"],
    k: int,
    epsilon: float | None,
    mask: Float[Tensor, "all"] | None,
    held: Float[Tensor, "all"] | None,
    beside: Float[Tensor, "*last channels"] | None = None,
) -> Float[Tensor, "*rows all"]:
    """RMSNorm, the channels beside it, AbsTopK."""
    common = torch.promote_types(torch.promote_types(x.dtype, weight.dtype), torch.float32)
    normed = F.rms_norm(x.to(common), x.shape[-1:], weight.to(common), epsilon)
    normed = normed.to(x.dtype)
    if beside is not None:
        # In this order gradients are summed up in the dtype of `beside`.
        normed = torch.cat([normed, beside.expand(*x.shape[:-1], -1).to(x.dtype)], dim=-1)
    return _keep(normed, k, mask, held)


def keep_gelu(
    x: Float[Tensor, "*rows n"], k: int, mask: Float[Tensor, "n"] | None, held: Float[Tensor, "n"] | None
) -> Float[Tensor, "*rows n"]:
    """GELU, AbsTopK."""
    return _keep(F.gelu(x), k, mask, held)


def keep_relu(
    x: Float[Tensor, "*rows n"], k: int, mask: Float[Tensor, "n"] | None, held: Float[Tensor, "n"] | None
) -> Float[Tensor, "*rows n"]:
    """ReLU, AbsTopK."""
    return _keep(F.relu(x), k, mask, held)


def _keep(x: Tensor, k: int, mask: Tensor | None, held: Tensor | None) -> Tensor:
    kept = abs_topk(x, k)
    return kept if mask is None or held is None else hold(kept, mask, held)


def add_rows(
    logits: Float[Tensor, "*rows n"],
    table: Float[Tensor, "tokens n"],
    tokens: Int64[Tensor, "*rows"],
    bias: Float[Tensor, "n"] | None,
) -> Float[Tensor, "*rows n"]:
    """logits + bias + table[tokens]."""
    return (logits if bias is None else logits + bias) + F.embedding(tokens, table)


def cross_entropy(logits: Float[Tensor, "*rows n"], targets: Int64[Tensor, "*rows"]) -> Float[Tensor, ""]:
    """The mean of -log softmax(logits) at the targets; NaN for no rows."""
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return F.cross_entropy(wide.flatten(0, -2), targets.flatten())
