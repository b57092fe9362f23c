"""A released configuration (`beeg_config.json`, or the same fields in a Hub folder's config) as a GPTConfig and back.

Source: the toolkit published with the paper. Two things the fields do not say are read off the weights: whether there
is an attention sink, and whether the position table that every model without concatenated positions carries does
anything. What only training used is skipped; fields nobody knows are named in a warning.
"""

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sparse_circuits.activations import kept_count
from sparse_circuits.config import ABS_TOPK_SITES, GPTConfig, Positions
from sparse_circuits.errors import InputError
from sparse_circuits.fields import require, shown
from sparse_circuits.sites import NODE_SITES, site_width

TOKENIZER_NAME = "tinypython_2k"
"""What the released toolkit calls the tokenizer of all its models."""

RELEASED_DEFAULTS: dict[str, Any] = {
    "block_size": 1024,
    "vocab_size": 50304,
    "n_layer": 12,
    "n_head": 12,
    "d_head": None,
    "d_model": 768,
    "d_mlp": None,
    "bias": True,
    "ln_bias": True,
    "rms_norm": False,
    "residual_activation_type": "identity",
    "activation_type": "gelu",
    "afrac": None,
    "afrac_loctypes": "attn_in,attn_out,mlp_in,mlp_out",
    "tied_unembed": True,
    "enable_bigram_table": False,
    "learnable_bigram_table": False,
    "d_pos_emb": None,
    "sinusoidal_cat_pos_emb": False,
    "sink": False,
}
"""The fields that describe a model, with what a released config means where it leaves one out."""

TRAINING_FIELDS = frozenset(
    {
        *("afrac_approx", "afrac_ste", "afrac_ste_only_non_neurons", "bigram_table_rank", "debug_exact_topk"),
        *("debug_nans", "dropout", "dropout_cat_pos_emb", "enable_fp8_linear", "enable_sparse_kernels"),
        *("expansion_factor", "expansion_factor_mlp", "flash", "grad_checkpointing", "ignore_dw_grad", "init_scale"),
        *("mup", "mup_width_multiplier", "n_embd", "pfrac", "rtopk", "scale_invariance", "sparse_matmul_impl"),
        *("tokenizer_name", "unembed_rank", "use_tied_aux_matrix"),
    }
)
"""Fields that change how a model was trained or is computed, not what it is."""

_ONLY_OFF = ("scale_invariance", "use_tied_aux_matrix")
"""Those among them that would make it another model."""

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Seen:
    """What the weights tell beyond the config."""

    sink: bool
    """There are sink logits."""
    positions: bool
    """There is a position table with a nonzero entry."""


def from_released(described: Any, seen: Seen, where: str, skipped: Iterable[str] = ()) -> GPTConfig:
    """The model a released config describes.

    Args:
        described: parsed JSON.
        where: the file, for messages.
        skipped: further fields to say nothing about, such as those every Hub config has.

    Raises:
        InputError: no object, a value of the wrong type, a combination no model here has.
    """
    require(isinstance(described, dict), f"{where}: expected a JSON object with the fields of a released config")
    fields = _renamed(described)
    known = RELEASED_DEFAULTS.keys() | TRAINING_FIELDS | set(skipped)
    if unknown := sorted(map(str, fields.keys() - known)):
        warnings.warn(
            f"{where}: unknown fields {', '.join(unknown)[:200]} are ignored; logits may differ if they matter",
            stacklevel=2,
        )
    for name in _ONLY_OFF:
        require(not fields.get(name), f"{where}: {name} is {shown(fields.get(name))}; such a model cannot be read")
    given = {name: fields.get(name, default) for name, default in RELEASED_DEFAULTS.items()}
    for name, default in RELEASED_DEFAULTS.items():
        given[name] = _typed(given[name], default, f"{where}: {name}")
    if given["sink"] != seen.sink and "sink" in fields:
        warnings.warn(
            f"{where}: sink is {given['sink']}, the weights have {'' if seen.sink else 'no '}sink logits; "
            "the weights are believed",
            stacklevel=2,
        )
    try:
        config = GPTConfig(**_ours(given, seen))
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    _check_kept(config, where)
    return config.resolved()


def to_released(config: GPTConfig) -> dict[str, Any]:
    """The released config of the same model, with exactly the fields the official code accepts.

    Raises:
        InputError: the official code cannot compute such a model.
    """
    config = config.resolved()
    require(
        config.d_model % config.n_head == 0,
        f"d_model {config.d_model} is not divisible by n_head {config.n_head}, which the released code insists on; "
        "this model cannot be exported to it",
    )
    _check_kept(config, "this model cannot be exported to the released format")
    require(
        config.activation != "gelu_tanh",
        "the activation is gelu_tanh, which the released code does not have; this model cannot be exported to it",
    )
    concatenated = config.positions.endswith("_concat")
    return {
        # The official loader takes this one out and fails without it.
        "bigram_table_rank": None,
        "block_size": config.block_size,
        "vocab_size": config.vocab_size,
        "n_layer": config.n_layer,
        "n_head": config.n_head,
        "d_head": config.d_head,
        "d_model": config.d_model,
        "d_mlp": config.d_mlp,
        "dropout": 0.0,
        "bias": config.bias,
        "ln_bias": config.norm_bias,
        "rms_norm": config.norm == "rms",
        "residual_activation_type": "identity" if config.residual_activation == "none" else "relu",
        "activation_type": config.activation,
        "afrac": config.abs_topk,
        "afrac_loctypes": ",".join(config.abs_topk_sites),
        "tied_unembed": config.tied_embeddings,
        "tokenizer_name": TOKENIZER_NAME,
        "enable_bigram_table": config.bigram_table != "none",
        "learnable_bigram_table": config.bigram_table == "learned",
        "d_pos_emb": config.d_position if concatenated else None,
        "dropout_cat_pos_emb": False,
        "sinusoidal_cat_pos_emb": config.positions == "sinusoidal_concat",
        "sink": config.sink,
        "flash": True,
    }


def _renamed(described: dict[str, Any]) -> dict[str, Any]:
    """The fields by their present names."""
    fields = dict(described)
    if "n_mlp" in fields:
        fields["d_mlp"] = fields.pop("n_mlp")
    if "d_model" not in fields and "n_embd" in fields:
        fields["d_model"] = fields["n_embd"]
    if fields.get("afrac_loctypes") is None:
        fields.pop("afrac_loctypes", None)
    return fields


def _ours(given: dict[str, Any], seen: Seen) -> dict[str, Any]:
    """The fields of GPTConfig."""
    positions: Positions = "learned" if seen.positions else "none"
    if given["d_pos_emb"] is not None:
        positions = "sinusoidal_concat" if given["sinusoidal_cat_pos_emb"] else "learned_concat"
    bigram = "learned" if given["learnable_bigram_table"] else "fixed"
    norm = "rms" if given["rms_norm"] else "layer"
    residual = given["residual_activation_type"]
    return {
        **{name: given[name] for name in ("vocab_size", "block_size", "n_layer", "d_model", "n_head", "d_head")},
        "d_mlp": given["d_mlp"],
        "norm": norm,
        "norm_bias": given["ln_bias"] and norm == "layer",
        "bias": given["bias"],
        "tied_embeddings": given["tied_unembed"],
        "positions": positions,
        "d_position": given["d_pos_emb"] or 0,
        "bigram_table": bigram if given["enable_bigram_table"] else "none",
        "sink": seen.sink,
        "activation": given["activation_type"],
        "residual_activation": "none" if residual == "identity" else residual,
        "abs_topk": given["afrac"],
        "abs_topk_sites": tuple(filter(None, map(str.strip, given["afrac_loctypes"].split(",")))),
    }


def _typed(value: Any, default: Any, where: str) -> Any:
    """`value` if it is of the kind its default is of; None stands for a number or null."""
    if default is None:
        kind = int | float if where.endswith(" afrac") else int
        number = isinstance(value, kind) and not isinstance(value, bool)
        require(value is None or number, f"{where} is {shown(value)}; expected a number or null")
        return value
    if isinstance(default, bool) and value is None:
        return default
    require(type(value) is type(default), f"{where} is {shown(value)}; expected {type(default).__name__}")
    return value


def _check_kept(config: GPTConfig, where: str) -> None:
    """Where AbsTopK would keep less than one entry the official code zeroes everything and this one keeps one."""
    # The places of AbsTopK in a block are those of its nodes, in the same order.
    places = zip(ABS_TOPK_SITES[: len(NODE_SITES)], NODE_SITES, strict=True)
    widths = {place: site_width(config, f"0.{site}") for place, site in places}
    widths |= dict.fromkeys(ABS_TOPK_SITES[len(NODE_SITES) :], config.d_model)
    for place, width in widths.items():
        if config.abs_topk is None or kept_count(config, place, width) == width:
            continue
        require(
            int(config.abs_topk * width) >= 1,
            f"{where}: AbsTopK {config.abs_topk:g} of the {width} channels at {place} is less than one",
        )
