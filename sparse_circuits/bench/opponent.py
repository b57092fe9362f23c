"""The model of the published recipe as a PyTorch user writes it: every matrix dense, no kernel of this library.

Source: Gao et al., "Weight-sparse transformers have interpretable circuits" (arXiv 2511.13653), section 2, and what the
released code does. It is meant to be hard to beat:
1. AbsTopK is `torch.topk(..., sorted=False)` and a scatter, as released (sorting, the default, is twice as slow);
2. the sink is a key of zeros with a mask that holds its logit: `scaled_dot_product_attention` to run, plain products to
   train or for a single query, where each is the quicker one on a CPU;
3. logits are computed at the last position only, where only they are wanted;
4. generation either computes the whole window anew for every token, as the released model does, or keeps keys and
   values, which with bfloat16 weights is the strongest dense version.

Names of parameters are those of `sparse_circuits.model.GPT`, so that both sides compute with the same weights.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from sparse_circuits.config import GPTConfig
from sparse_circuits.errors import InputError


class Mask(NamedTuple):
    """What pruning does at one site: x becomes keep * x + (1 - keep) * held."""

    keep: Float[Tensor, " channels"]
    held: Float[Tensor, " channels"]


Masks = Mapping[str, Mask]
"""By site, e.g. "0.attn.q"."""


class Cache:
    """Keys and values of what was read, behind the zeros that stand for the sink."""

    def __init__(self, config: GPTConfig, batch: int, positions: int, like: Tensor):
        shape = (batch, config.n_head, 1 + positions, config.head_width)
        self.keys = [like.new_zeros(shape) for _ in range(config.n_layer)]
        self.values = [like.new_zeros(shape) for _ in range(config.n_layer)]
        self.length = 0


class Dense(nn.Module):
    """The model; `dense_twin` fills it with the weights of another."""

    def __init__(self, config: GPTConfig):
        """Make a model with PyTorch's own random weights.

        Raises:
            InputError: a shape with another norm, activation or embedding than the released models have.
        """
        super().__init__()
        self.config = config = config.resolved()
        odd = (config.norm, config.activation, config.residual_activation, config.bigram_table)
        if odd != ("rms", "gelu", "none", "learned") or config.tied_embeddings or not config.sink or not config.bias:
            raise InputError("the opponent knows the released shape only: RMSNorm, GELU, sink, biases, bigram table")
        self.wte = nn.Embedding(config.vocab_size, config.d_model)
        if config.positions != "none":
            self.wpe = nn.Embedding(config.block_size, config.d_position)
        self.h = nn.ModuleList(Block(config, layer) for layer in range(config.n_layer))
        self.ln_f = nn.RMSNorm(config.d_model)
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        self.register_buffer("final_logits_bias", torch.zeros(config.vocab_size))
        self.bigram_table = nn.Parameter(torch.zeros(config.vocab_size, config.vocab_size))

    def forward(
        self, tokens: Int64[Tensor, "B T"], last: bool = False, cache: Cache | None = None, masks: Masks | None = None
    ) -> Float[Tensor, "B T V"] | Float[Tensor, "B V"]:
        """Logits everywhere, or at the last position; `cache` holds what stands before `tokens`."""
        begin = cache.length if cache else 0
        x = self.wte(tokens)
        channels = None
        if self.config.positions != "none":
            channels = self.wpe.weight[begin : begin + tokens.shape[1]]
        for block in self.h:
            x = block(x, channels, cache, masks)
        if cache:
            cache.length += tokens.shape[1]
        if last:
            x, tokens = x[:, -1], tokens[:, -1]
        return self.lm_head(self.ln_f(x)) + self.final_logits_bias + F.embedding(tokens, self.bigram_table)

    @torch.inference_mode()
    def generate(self, tokens: Int64[Tensor, "B T"], count: int, keep: bool) -> Int64[Tensor, "B N"]:
        """Add the likeliest token `count` times; `keep` keys and values, or compute everything anew."""
        cache = Cache(self.config, len(tokens), tokens.shape[1] + count, self.ln_f.weight) if keep else None
        read = tokens
        for _ in range(count):
            token = self(read, last=True, cache=cache).argmax(-1, keepdim=True)
            tokens = torch.cat([tokens, token], dim=1)
            read = token if keep else tokens[:, -self.config.block_size :]
        return tokens


class Block(nn.Module):
    """Attention and MLP, each reading the normed residual stream."""

    def __init__(self, config: GPTConfig, layer: int):
        super().__init__()
        self.ln_1, self.ln_2 = nn.RMSNorm(config.d_model), nn.RMSNorm(config.d_model)
        if config.d_position:
            self.ln_p1, self.ln_p2 = nn.RMSNorm(config.d_position), nn.RMSNorm(config.d_position)
        self.attn, self.mlp = Attention(config, layer), MLP(config, layer)

    def forward(self, x: Tensor, channels: Tensor | None, cache: Cache | None, masks: Masks | None) -> Tensor:
        normed = self.ln_1(x) if channels is None else beside(self.ln_1(x), self.ln_p1(channels))
        x = x + self.attn(normed, cache, masks)
        normed = self.ln_2(x) if channels is None else beside(self.ln_2(x), self.ln_p2(channels))
        return x + self.mlp(normed, masks)


class Sublayer(nn.Module):
    """What attention and MLP share: the way an activation is used."""

    def __init__(self, config: GPTConfig, layer: int):
        super().__init__()
        self.config, self.layer = config, layer

    def used(self, site: str, sparse_site: str, value: Tensor, masks: Masks | None) -> Tensor:
        """AbsTopK, then the mask of pruning."""
        if self.config.abs_topk is not None and sparse_site in self.config.abs_topk_sites:
            value = topk_and_scatter(value, max(1, int(self.config.abs_topk * value.shape[-1])))
        return value if masks is None else masked(value, masks[f"{self.layer}.{site}"])


class Attention(Sublayer):
    """Causal attention with a sink; its mask is made once a layer."""

    def __init__(self, config: GPTConfig, layer: int):
        super().__init__(config, layer)
        self.c_attn = nn.Linear(config.read_width, 3 * config.heads_width)
        self.c_proj = nn.Linear(config.heads_width, config.d_model)
        self.sink_logit = nn.Parameter(torch.zeros(config.n_head))

    def forward(self, x: Tensor, cache: Cache | None, masks: Masks | None) -> Tensor:
        parts = self.c_attn(self.used("attn.act_in", "attn_in", x, masks)).chunk(3, dim=-1)
        q, k, v = (
            self.used(f"attn.{name}", f"attn_{name}", part, masks)
            .unflatten(-1, (self.config.n_head, -1))
            .transpose(1, 2)
            for name, part in zip("qkv", parts, strict=True)
        )
        if cache is None:
            k, v = F.pad(k, (0, 0, 1, 0)), F.pad(v, (0, 0, 1, 0))
        else:
            begin = 1 + cache.length
            end = begin + x.shape[1]
            keys, values = cache.keys[self.layer], cache.values[self.layer]
            keys[:, :, begin:end], values[:, :, begin:end] = k, v
            k, v = keys[:, :, :end], values[:, :, :end]
        y = attend(q, k, v, self.sink_logit).transpose(1, 2).flatten(2)
        return self.used("attn.resid_delta", "attn_out", self.c_proj(y), masks)


class MLP(Sublayer):
    """One hidden layer."""

    def __init__(self, config: GPTConfig, layer: int):
        super().__init__(config, layer)
        self.c_fc = nn.Linear(config.read_width, config.mlp_width)
        self.c_proj = nn.Linear(config.mlp_width, config.d_model)

    def forward(self, x: Tensor, masks: Masks | None) -> Tensor:
        hidden = F.gelu(self.c_fc(self.used("mlp.act_in", "mlp_in", x, masks)))
        hidden = self.used("mlp.post_act", "mlp_neuron", hidden, masks)
        return self.used("mlp.resid_delta", "mlp_out", self.c_proj(hidden), masks)


def topk_and_scatter(x: Float[Tensor, "*rows n"], k: int, ordered: bool = False) -> Float[Tensor, "*rows n"]:
    """AbsTopK as one writes it with PyTorch; `ordered` is `torch.topk`'s default."""
    indices = x.abs().topk(k, dim=-1, sorted=ordered).indices
    return torch.zeros_like(x).scatter_(-1, indices, x.gather(-1, indices))


def masked(x: Float[Tensor, "*rows n"], mask: Mask) -> Float[Tensor, "*rows n"]:
    """keep * x + (1 - keep) * held, in one pass."""
    keep, held = mask.keep.to(x.dtype), mask.held.to(x.dtype)
    return torch.lerp(held.expand_as(x), x, keep.expand_as(x))


def beside(x: Float[Tensor, "B T D"], channels: Float[Tensor, "T C"]) -> Float[Tensor, "B T R"]:
    """The same channels after those of every sequence."""
    return torch.cat([x, channels.to(x.dtype).expand(len(x), -1, -1)], dim=-1)


def attend(
    q: Float[Tensor, "B H T d"],
    k: Float[Tensor, "B H L d"],
    v: Float[Tensor, "B H L d"],
    sink: Float[Tensor, " H"],
) -> Float[Tensor, "B H T d"]:
    """Causal attention of the last T of L - 1 positions; key and value 0 are zeros and stand for the sink."""
    heads, queries, keys = q.shape[1], q.shape[2], k.shape[2]
    mask = sink.to(q.dtype).view(heads, 1, 1).expand(heads, queries, 1)
    causal = q.new_full((queries, keys - 1), float("-inf")).triu(keys - queries)
    mask = torch.cat([mask, causal.expand(heads, -1, -1)], dim=-1)
    if torch.is_grad_enabled() or queries == 1:
        return torch.add(mask, q @ k.transpose(-1, -2), alpha=q.shape[-1] ** -0.5).softmax(-1).to(v.dtype) @ v
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def dense_twin(model: nn.Module, config: GPTConfig, dtype: torch.dtype = torch.float32) -> Dense:
    """The opponent with the weights of `model`; in float32 they are the very same memory."""
    with torch.device("meta"):
        twin = Dense(config)
    twin.load_state_dict({name: tensor.to(dtype) for name, tensor in model.state_dict().items()}, assign=True)
    return twin.requires_grad_(False)
