"""Attention with an optional sink: a key that every query sees, with a learned logit per head and value zero.

Meaning (paper, appendix A; `attention_reference`): weights are exp(score) / (sum of exp(score) + exp(sink)), scores
inner products over the channels of a head, divided by sqrt(d_head); query i of a row sees the keys up to its own.

1. `attention`: on the CPU, in fp32, compiled loops (`attention_loops`, for a few queries `attention_few`). No matrix
   of weights is kept: the gradient computes them again from each query's largest score and sum of weights.
2. `attention_fused`: PyTorch's own, on GPUs and under torch.compile, with the sink made part of the keys.
3. `attention_reference`: fp64, other kinds of tensors, and wherever `kernels.use` says so.
"""

import functools
import importlib
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from sparse_circuits import kernels
from sparse_circuits.errors import InputError


def attention(
    q: Float[Tensor, "B T C"],
    k: Float[Tensor, "B S C"],
    v: Float[Tensor, "B S C"],
    n_head: int,
    sink: Float[Tensor, "H"] | None = None,
    first: Int64[Tensor, "B"] | None = None,
) -> Float[Tensor, "B T C"]:
    """Attention over channels of all heads (head = channel // d_head), in the dtype of `v`; on the CPU, fp32 at least.

    Differentiable once. The inputs may differ in dtype, as when a tap under autocast returns fp32 at one site, and
    have any strides: rows that lie in one piece each are not copied. NaN and infinite scores are what they are in a
    softmax; a value that is not finite may also reach queries that do not see it.

    Args:
        sink: one logit per head.
        first: how many keys come before the first query: query i of row b sees keys 0..first[b]+i. What lies behind
            the last query's key may be anything, NaN too. None: as many keys as queries, and none before.

    Raises:
        InputError: shapes that do not fit each other, or `first` outside 0..S-T (on the CPU).
    """
    _check(q, k, v, n_head, sink, first)
    dtype = v.dtype
    if not q.dtype == k.dtype == dtype or dtype != torch.float32:
        common = torch.promote_types(torch.promote_types(q.dtype, k.dtype), dtype)
        if q.device.type == "cpu":
            common = torch.promote_types(common, torch.float32)
        q, k, v = q.to(common), k.to(common), v.to(common)
    name = kernels.choose(q).name
    if torch.compiler.is_compiling() or name == "gpu":
        return attention_fused(q, k, v, n_head, sink, first).to(dtype)
    if name == "cpu" and q.numel():
        sink = None if sink is None else sink.float().contiguous()
        first = None if first is None else first.contiguous()
        if _cpu().takes(k, v, sink):
            inputs = (q, k, v) if sink is None else (q, k, v, sink)
            if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs):
                y = _Attention.apply(q, k, v, n_head, sink, first)
            else:
                y = _cpu().forward(q, k, v, n_head, sink, first, False)[0]
            return y if dtype == torch.float32 else y.to(dtype)
    return attention_reference(q, k, v, n_head, sink, first).to(dtype)


@functools.cache
def _cpu() -> Any:
    """`attention_cpu`, when it is needed: Numba takes long to import."""
    return importlib.import_module("sparse_circuits.kernels.attention_cpu")


class _Attention(torch.autograd.Function):
    """The compiled loops, and their gradient."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, n_head: int, sink: Tensor | None, first: Tensor | None
    ) -> Tensor:
        out, statistics = _cpu().forward(q, k, v, n_head, sink, first, True)
        ctx.save_for_backward(q, k, v, sink, first, out, statistics)
        ctx.n_head = n_head
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, sink, first, out, statistics = ctx.saved_tensors
        # Grad mode is on where the gradient is to be differentiated again.
        gradient = _Gradient.apply if torch.is_grad_enabled() else _Gradient.compute
        found = gradient(gradients[0], q, k, v, ctx.n_head, sink, first, out, statistics)
        return *found[:3], None, found[3], None


class _Gradient(torch.autograd.Function):
    """The gradient, which has none itself."""

    @staticmethod
    def compute(upstream: Tensor, q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> tuple[Tensor | None, ...]:
        upstream = upstream.resolve_neg()
        if _cpu().takes(upstream):
            return _cpu().backward(upstream, q, k, v, *rest)
        # Its memory is of a kind that compiled code cannot read.
        n_head, sink, first, *_ = rest
        q, k, v = (t.detach().requires_grad_() for t in (q, k, v))
        sink = None if sink is None else sink.detach().requires_grad_()
        with torch.enable_grad():
            y = attention_reference(q, k, v, n_head, sink, first)
        found = torch.autograd.grad(y, [q, k, v] if sink is None else [q, k, v, sink], upstream)
        return *found[:3], None if sink is None else found[3]

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor | None, ...]:
        return _Gradient.compute(*arguments)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> None:
        raise InputError(
            "attention's gradient cannot be differentiated again; compute it with `kernels.use('reference')`"
        )


def attention_fused(
    q: Float[Tensor, "B T C"],
    k: Float[Tensor, "B S C"],
    v: Float[Tensor, "B S C"],
    n_head: int,
    sink: Float[Tensor, "H"] | None = None,
    first: Int64[Tensor, "B"] | None = None,
) -> Float[Tensor, "B T C"]:
    """`attention` by `scaled_dot_product_attention`, any device; none of its kernels stores a weight a pair and head.

    1. The sink becomes a key before all others, with value zero. Its score is its logit: queries get two channels of
       ones, in which this key has the logit (its leading digits and, for narrow dtypes, the rest) times sqrt(d_head),
       the other keys zeros. So it needs no mask, which would have to be one a head.
    2. A query before all others, whose result is dropped, makes "up to its own" right for the others.
    3. Only `first` needs a mask, one for all heads.
    """
    keys, channels = k.shape[1], q.shape[2]
    mask = None
    if first is not None:
        mask = _seen(first, q.shape[1], keys)[:, None]
        k, v = _without_rest(k, v, first, q.shape[1])
    q, k, v = (x.unflatten(-1, (n_head, -1)).transpose(1, 2) for x in (q, k, v))
    d_head = channels // n_head
    if sink is not None:
        # The fast kernels want a multiple of 8 channels.
        more = (d_head + 2 + 7) // 8 * 8 - d_head
        scaled = sink.float() * d_head**0.5
        leading = scaled.to(q.dtype)
        logits = torch.stack([leading, (scaled - leading.float()).to(q.dtype)], dim=-1)
        key = F.pad(logits, (d_head, more - 2)).view(1, n_head, 1, -1).expand(len(q), -1, -1, -1)
        ones = F.pad(torch.ones(2, dtype=q.dtype, device=q.device), (d_head, more - 2))
        before = 0 if first is not None else 1
        q = F.pad(q, (0, more, before, 0)) + ones
        k = torch.cat([key, F.pad(k, (0, more))], dim=2)
        v = F.pad(v, (0, more, 1, 0))
        mask = None if mask is None else F.pad(mask, (1, 0), value=True)
    y = F.scaled_dot_product_attention(q, k, v, mask, is_causal=mask is None, scale=d_head**-0.5)
    if sink is not None:
        y = y[:, :, before:, :d_head]
    return y.transpose(1, 2).flatten(2)


def attention_reference(
    q: Float[Tensor, "B T C"],
    k: Float[Tensor, "B S C"],
    v: Float[Tensor, "B S C"],
    n_head: int,
    sink: Float[Tensor, "H"] | None = None,
    first: Int64[Tensor, "B"] | None = None,
) -> Float[Tensor, "B T C"]:
    """The meaning of `attention`, in plain PyTorch, any device and floating dtype."""
    rows, queries, channels = q.shape
    before = torch.zeros(rows, dtype=torch.int64, device=q.device) if first is None else first
    k, v = _without_rest(k, v, before, queries)
    q, k, v = (x.unflatten(-1, (n_head, channels // n_head)).transpose(1, 2) for x in (q, k, v))
    scores = q @ k.transpose(-1, -2) * (channels // n_head) ** -0.5
    scores = scores.masked_fill(~_seen(before, queries, k.shape[2])[:, None], float("-inf"))
    if sink is not None:
        column = sink.to(scores.dtype).view(1, n_head, 1, 1).expand(rows, n_head, queries, 1)
        weights = torch.cat([column, scores], dim=-1).softmax(-1)[..., 1:]
    else:
        weights = scores.softmax(-1)
    return (weights @ v).transpose(1, 2).flatten(2)


def _seen(first: Int64[Tensor, "B"], queries: int, keys: int) -> Tensor:
    """Whether a query sees a key, bool [B, T, S]."""
    last = first[:, None, None] + torch.arange(queries, device=first.device)[None, :, None]
    return torch.arange(keys, device=first.device) <= last


def _without_rest(k: Tensor, v: Tensor, first: Int64[Tensor, "B"], queries: int) -> tuple[Tensor, Tensor]:
    """Zeros for keys and values that no query sees: a weight of zero would not make a NaN of them vanish."""
    rest = (torch.arange(k.shape[1], device=k.device) >= first[:, None] + queries)[..., None]
    return k.masked_fill(rest, 0), v.masked_fill(rest, 0)


def _check(q: Tensor, k: Tensor, v: Tensor, n_head: int, sink: Tensor | None, first: Tensor | None) -> None:
    shape, keys = q.shape, k.shape
    if len(shape) != 3 or len(keys) != 3 or keys != v.shape or (keys[0], keys[2]) != (shape[0], shape[2]):
        raise InputError(
            f"attention: q is {tuple(q.shape)}, k {tuple(k.shape)} and v {tuple(v.shape)}; expected "
            "[rows, queries, channels] and twice [rows, keys, channels]"
        )
    if n_head < 1 or shape[2] % n_head:
        raise InputError(f"attention: {shape[2]} channels cannot be shared by {n_head} heads equally")
    if sink is not None and sink.shape != (n_head,):
        raise InputError(f"attention: the sink has shape {tuple(sink.shape)}; expected ({n_head},), a logit per head")
    if first is None:
        if shape[1] != keys[1]:
            raise InputError(
                f"attention: {q.shape[1]} queries and {k.shape[1]} keys; give `first`, the keys before the first query"
            )
    elif first.shape != shape[:1] or first.dtype != torch.int64:
        raise InputError(
            f"attention: first has shape {tuple(first.shape)} and dtype {first.dtype}; expected int64 ({len(q)},), "
            "a number per row"
        )
