"""The passes a bridge is trained and checked on, and what they say (paper, section 6).

1. The dense model runs on the text; its residual stream h_d is kept at every site. No gradient.
2. The sparse model runs on the text, and in the same batch, from each site on, its tail from the encoded f(h_d): rows
   that enter there (`GPT.forward`). Its own stream h_s is kept at every site.
3. One batch more: the dense model's tails from the decoded g(h_s).

So hybrid passes share what comes before their site, and a step costs, beside one pass of each model, layers + 1/2
passes of each: the tails from the 2 * layers + 1 sites are (2 * layers, ..., 1, 0) / (2 * layers) of a pass long.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.autograd.function import once_differentiable

from sparse_circuits.bridges.bridge import Bridge
from sparse_circuits.bridges.config import Terms
from sparse_circuits.kernels.fused import cross_entropy
from sparse_circuits.model import GPT
from sparse_circuits.sites import Record

FLAT_SPREAD = 1e-6
"""Of the mean square: the least that squared errors are divided by, where a stream does not vary at all."""
CHUNK = 1 << 22
"""Entries of logits whose divergence is computed at a time."""


@dataclass
class Passes:
    """What all passes over one batch of text gave."""

    dense: Float[Tensor, "B T V"]
    sparse: Float[Tensor, "B T V"]
    dense_stream: dict[str, Tensor]
    """The dense model's residual stream by site, without gradient."""
    sparse_stream: dict[str, Tensor]
    encoded: dict[str, Tensor]
    """f of the dense stream by site."""
    decoded: dict[str, Tensor]
    """g of the sparse stream by site."""
    into_sparse: dict[str, Tensor]
    """Logits of the sparse model from the encoded dense stream on, by the site of the switch."""
    into_dense: dict[str, Tensor]
    """Logits of the dense model from the decoded sparse stream on."""


def run_passes(
    bridge: Bridge,
    tokens: Int64[Tensor, "B T"],
    encode: Sequence[str],
    decode: Sequence[str],
    encode_rest: bool = True,
    decode_rest: bool = True,
) -> Passes:
    """Run both models and the hybrid passes that switch at the sites `encode` (to sparse) and `decode` (to dense).

    Args:
        encode_rest: encode at the other sites as well, where no hybrid pass needs it.
        decode_rest: decode there.
    """
    rows = len(tokens)
    with torch.no_grad():
        dense, dense_stream, _ = _with_tails(bridge.dense, tokens, {}, bridge.sites)
    encoded = {s: bridge.encode(s, dense_stream[s]) for s in bridge.sites if encode_rest or s in encode}
    sparse, sparse_stream, into_sparse = _with_tails(
        bridge.sparse, tokens, {s: encoded[s] for s in encode}, bridge.sites
    )
    decoded = {s: bridge.decode(s, sparse_stream[s]) for s in bridge.sites if decode_rest or s in decode}
    into_dense: dict[str, Tensor] = {}
    if decode:
        logits = bridge.dense(tokens.repeat(len(decode), 1), enter={s: decoded[s] for s in decode})
        into_dense = dict(zip(_in_order(decode, bridge.sites), logits.split(rows), strict=True))
    return Passes(dense, sparse, dense_stream, sparse_stream, encoded, decoded, into_sparse, into_dense)


def own_streams(model: GPT, tokens: Int64[Tensor, "B T"], sites: Sequence[str]) -> dict[str, Float[Tensor, "B T D"]]:
    """The residual stream of a model's own pass at `sites`, which end with its last."""
    recorder = Record(sites)
    model.residual(tokens, sites[-1], tap=recorder)
    return recorder.sites


def _with_tails(
    model: GPT, tokens: Tensor, enter: Mapping[str, Tensor], sites: Sequence[str]
) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
    """Logits and stream of the model's own rows, and the logits of those that enter, in one batch."""
    rows, stream = len(tokens), dict[str, Tensor]()

    def keep(site: str, x: Tensor) -> Tensor:
        if site in sites:
            stream[site] = x[:rows]
        return x

    logits, *tails = model(tokens.repeat(1 + len(enter), 1), tap=keep, enter=enter).split(rows)
    return logits, stream, dict(zip(_in_order(list(enter), sites), tails, strict=True))


def _in_order(chosen: Sequence[str], sites: Sequence[str]) -> list[str]:
    return [site for site in sites if site in chosen]


def loss_terms(
    passes: Passes, targets: Int64[Tensor, "B T"], terms: Terms, scale: float = 1.0
) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
    """The weighted sum of all terms, and each of them alone, as it is before weighing, by term and site.

    What trains what: `ce` and `kl` the sparse model; `encode_nmse` the encoders, its target being detached;
    `decode_nmse` the decoders and the sparse model before the site; `encode_kl` the encoders and the sparse model after
    it; `decode_kl` the decoders and the sparse model before it. The dense model is frozen.

    Args:
        scale: what the hybrid passes count, where only some of the sites were run.
    """
    found: dict[str, Tensor] = {}
    if terms.ce:
        found["ce"] = cross_entropy(passes.sparse, targets)
    teacher = Teacher(passes.dense) if terms.kl or terms.encode_kl or terms.decode_kl else None
    if teacher is not None and terms.kl:
        found["kl"] = teacher.divergence(passes.sparse)
    for site, guess in passes.encoded.items() if terms.encode_nmse else ():
        found[f"encode_nmse/{site}"] = nmse(guess, passes.sparse_stream[site].detach())
    for site, guess in passes.decoded.items() if terms.decode_nmse else ():
        found[f"decode_nmse/{site}"] = nmse(guess, passes.dense_stream[site])
    if teacher is not None:
        found |= {f"encode_kl/{site}": teacher.divergence(logits) for site, logits in passes.into_sparse.items()}
        found |= {f"decode_kl/{site}": teacher.divergence(logits) for site, logits in passes.into_dense.items()}
    total = passes.sparse.new_zeros((), dtype=torch.float32)
    for name, value in found.items():
        term = name.split("/")[0]
        total = total + getattr(terms, term) * (scale if term in ("encode_kl", "decode_kl") else 1.0) * value
    return total, found


def nmse(guess: Float[Tensor, "B T D"], target: Float[Tensor, "B T D"]) -> Float[Tensor, ""]:
    """Squared error over the target's squared deviation from its mean in the batch, one mean a channel.

    0 where the guess is right, 1 where it is no better than the mean. No gradient goes through the denominator, else
    the target would be trained to vary.
    """
    error = (guess.float() - target.float()).square().sum()
    still = target.detach().float()
    spread = (still - still.mean((0, 1))).square().sum()
    return error / torch.maximum(spread, FLAT_SPREAD * still.square().sum()).clamp(min=torch.finfo(torch.float32).tiny)


class Teacher:
    """The dense model's next-token probabilities, to which the outputs of others are compared."""

    def __init__(self, logits: Float[Tensor, "B T V"]):
        self._log = logits.detach().flatten(0, 1).float().log_softmax(-1)

    def divergence(self, logits: Float[Tensor, "B T V"]) -> Float[Tensor, ""]:
        """KL(teacher || softmax(logits)) over the whole vocabulary, in nats, mean over positions."""
        result: Tensor = _Divergence.apply(logits.flatten(0, 1), self._log)
        return result


class _Divergence(torch.autograd.Function):
    """The mean divergence of rows of logits; what it keeps for the gradient is that gradient, one number a logit."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, teacher: Tensor) -> Tensor:
        total = logits.new_zeros((), dtype=torch.float64)
        gradient = torch.empty_like(logits) if ctx.needs_input_grad[0] else None
        rows = max(1, CHUNK // logits.shape[1])
        for start in range(0, len(logits), rows):
            part = slice(start, start + rows)
            log, student = teacher[part], logits[part].float().log_softmax(-1)
            p = log.exp()
            total += (p * (log - student)).sum(dtype=torch.float64)
            if gradient is not None:
                gradient[part] = (student.exp_() - p) / len(logits)
        if gradient is not None:
            ctx.save_for_backward(gradient)
        return (total / len(logits)).float()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outside: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * outside, None
