"""The released model written down once more, from its description and for a state dict of released names."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

OFFICIAL_FIELDS = {
    "block_size",
    "vocab_size",
    "n_layer",
    "n_head",
    "d_head",
    "d_model",
    "dropout",
    "bias",
    "ln_bias",
    "rms_norm",
    "residual_activation_type",
    "activation_type",
    "afrac",
    "afrac_loctypes",
    "debug_nans",
    "tied_unembed",
    "tokenizer_name",
    "grad_checkpointing",
    "d_mlp",
    "enable_bigram_table",
    "learnable_bigram_table",
    "d_pos_emb",
    "dropout_cat_pos_emb",
    "sinusoidal_cat_pos_emb",
    "enable_sparse_kernels",
    "flash",
    "sink",
}
"""What the published config class takes; anything else it dies on."""

TAKEN_OUT = "bigram_table_rank"
"""What the published loader removes, and fails without."""


def official_config(described: Mapping[str, Any]) -> dict[str, Any]:
    """What the published loader makes of `beeg_config.json`, with its refusals."""
    fields = dict(described)
    fields.pop(TAKEN_OUT)
    if "n_mlp" in fields:
        fields["d_mlp"] = fields.pop("n_mlp")
    assert set(fields) <= OFFICIAL_FIELDS
    assert fields["d_model"] % fields["n_head"] == 0
    return fields


def released_logits(described: Mapping[str, Any], state: Mapping[str, Tensor], tokens: Tensor) -> Tensor:
    """Logits [B, T, V] of the published code, asked to load with flash=True."""
    c = official_config(described)

    def keep(x: Tensor, place: str) -> Tensor:
        if c["afrac"] is None or place not in c["afrac_loctypes"].split(","):
            return x
        threshold = x.abs().topk(int(c["afrac"] * x.shape[-1]), dim=-1).values[..., -1:]
        return torch.where(x.abs() >= threshold, x, 0.0)

    def norm(x: Tensor, name: str) -> Tensor:
        weight = state[f"transformer.{name}.weight"]
        if c["rms_norm"]:
            return x * (x.square().mean(-1, keepdim=True) + torch.finfo(x.dtype).eps).rsqrt() * weight
        return F.layer_norm(x, weight.shape, weight, state.get(f"transformer.{name}.bias"), 1e-5)

    def linear(x: Tensor, name: str) -> Tensor:
        return F.linear(x, state[f"transformer.{name}.weight"], state.get(f"transformer.{name}.bias"))

    def after(x: Tensor, place: str) -> Tensor:
        return keep(x.relu() if c["residual_activation_type"] == "relu" else x, place)

    length = tokens.shape[1]
    table = state["transformer.wpe.weight"][:length]
    x = state["transformer.wte.weight"][tokens]
    if c["d_pos_emb"] is None:
        x = x + table
    later = torch.ones(length, length, dtype=torch.bool).triu(1)
    for layer in range(c["n_layer"]):
        block = f"h.{layer}"

        def read(x: Tensor, number: int, block: str = block) -> Tensor:
            parts = [norm(x, f"{block}.ln_{number}")]
            if c["d_pos_emb"] is not None:
                parts.append(norm(table, f"{block}.ln_p{number}").expand(*x.shape[:2], -1))
            return torch.cat(parts, -1)

        q, k, v = linear(keep(read(x, 1), "attn_in"), f"{block}.attn.c_attn").chunk(3, dim=-1)
        heads = [
            keep(each, f"attn_{name}").unflatten(-1, (c["n_head"], c["d_head"])).transpose(1, 2)
            for each, name in ((q, "q"), (k, "k"), (v, "v"))
        ]
        scores = (heads[0] @ heads[1].mT / math.sqrt(c["d_head"])).masked_fill(later, -math.inf)
        if c["sink"]:
            sink = state[f"transformer.{block}.attn.attn_imp.sink_logit"].view(1, -1, 1, 1)
            scores = torch.cat([sink.expand(*scores.shape[:3], 1), scores], -1)
        pattern = scores.softmax(-1)[..., -length:]
        y = (pattern @ heads[2]).transpose(1, 2).flatten(2)
        x = after(x + keep(linear(y, f"{block}.attn.c_proj"), "attn_out"), "resid_post_attn")
        hidden = linear(keep(read(x, 2), "mlp_in"), f"{block}.mlp.c_fc")
        hidden = keep(F.gelu(hidden) if c["activation_type"] == "gelu" else hidden.relu(), "mlp_neuron")
        x = after(x + keep(linear(hidden, f"{block}.mlp.c_proj"), "mlp_out"), "resid_post_mlp")
    unembedding = state["transformer.wte.weight"] if c["tied_unembed"] else state["lm_head.weight"]
    logits = norm(x, "ln_f") @ unembedding.T + state["final_logits_bias"]
    return logits + state["bigram_table"][tokens] if c["enable_bigram_table"] else logits
