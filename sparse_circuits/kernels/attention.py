"""Causal attention with an optional sink: a key that every query sees, with a learned logit per head and value zero.

Meaning (paper, appendix A; `attention_reference`): weights are exp(score) / (sum of exp(score) + exp(sink)).

Fast path on CPU (`attention`): PyTorch's fused kernel knows no sink, but its backward pass needs only the output and
the log of the denominator. So:
1. run the fused forward without the sink; it returns output o and log-denominator l per query;
2. with the sink the denominator is l' = logaddexp(l, sink) and the output y = o * exp(l - l');
3. the fused backward, given y and l' in place of o and l, yields the exact gradients of q, k and v, because both the
   weights exp(score - l') and the softmax term sum(dy * y) come out as those of the larger softmax;
4. the sink's gradient is -exp(sink - l') * sum(dy * y).
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

_fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_fused_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def attention_reference(
    q: Float[Tensor, "B H T d"],
    k: Float[Tensor, "B H T d"],
    v: Float[Tensor, "B H T d"],
    sink: Float[Tensor, "H"] | None = None,
) -> Float[Tensor, "B H T d"]:
    """The meaning of causal attention with a sink, in plain PyTorch; scores are scaled by 1/sqrt(d)."""
    causal = torch.ones(q.shape[-2], q.shape[-2], dtype=torch.bool, device=q.device).tril()
    scores = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).masked_fill(~causal, float("-inf"))
    if sink is not None:
        batch, heads, positions, _ = q.shape
        column = sink.to(scores.dtype).view(1, heads, 1, 1).expand(batch, heads, positions, 1)
        return torch.cat([column, scores], dim=-1).softmax(-1)[..., 1:] @ v
    return scores.softmax(-1) @ v


def attention(
    q: Float[Tensor, "B H T d"],
    k: Float[Tensor, "B H T d"],
    v: Float[Tensor, "B H T d"],
    sink: Float[Tensor, "H"] | None = None,
) -> Float[Tensor, "B H T d"]:
    """Causal attention with an optional sink, returned in the dtype of `v`; on the CPU in at least float32.

    The inputs may differ in dtype, as when a tap under autocast returns float32 at one site.
    """
    dtype = v.dtype
    common = torch.promote_types(torch.promote_types(q.dtype, k.dtype), dtype)
    if q.device.type != "cpu" or 0 in q.shape:
        return attention_reference(q.to(common), k.to(common), v.to(common), sink).to(dtype)
    # At the small heads of these models the fused backward is about three times slower in bfloat16.
    common = torch.promote_types(common, torch.float32)
    q, k, v = q.to(common), k.to(common), v.to(common)
    if sink is None:
        return _fused(q, k, v, 0.0, True)[0].to(dtype)
    return _SinkAttention.apply(q, k, v, sink.to(q.dtype)).to(dtype)


class _SinkAttention(torch.autograd.Function):
    """The fused CPU kernel, with the sink folded in as the module's steps 1 to 4 say."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, sink: Tensor) -> Tensor:
        output, log_denominator = _fused(q, k, v, 0.0, True)
        with_sink = torch.logaddexp(log_denominator, sink.view(1, -1, 1))
        output = output * (log_denominator - with_sink).exp().unsqueeze(-1)
        ctx.save_for_backward(q, k, v, sink, output, with_sink)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        q, k, v, sink, output, with_sink = ctx.saved_tensors
        gradient = gradients[0].to(output.dtype)
        grad_q, grad_k, grad_v = _fused_backward(gradient, q, k, v, output, with_sink, 0.0, True)
        grad_sink = None
        if ctx.needs_input_grad[3]:
            weight = (sink.view(1, -1, 1) - with_sink).exp()
            grad_sink = -(weight * (gradient * output).sum(-1)).sum((0, 2))
        return grad_q, grad_k, grad_v, grad_sink
