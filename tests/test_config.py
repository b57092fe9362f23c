"""A config that exists can run, and survives the way through JSON; everything else is refused in one line."""

import dataclasses
import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparse_circuits.circuits.config import PruneConfig
from sparse_circuits.config import (
    ABS_TOPK_SITES,
    DEFAULT_ABS_TOPK_SITES,
    GPTConfig,
    LoopConfig,
    SparsityConfig,
    TrainConfig,
)
from sparse_circuits.errors import InputError
from sparse_circuits.fields import from_json, to_json

fractions = st.floats(0, 1, exclude_min=True)
counts = st.integers(1, 10_000)
below_one = st.floats(0, 1, exclude_max=True)


@st.composite
def gpt_values(draw: st.DrawFn) -> dict[str, Any]:
    positions = draw(st.sampled_from(["none", "learned", "learned_concat", "sinusoidal_concat"]))
    norm = draw(st.sampled_from(["rms", "layer"]))
    return {
        "vocab_size": draw(counts),
        "block_size": draw(counts),
        "n_layer": draw(counts),
        "d_model": draw(counts),
        "n_head": draw(counts),
        "d_head": draw(counts),
        "d_mlp": draw(st.none() | counts),
        "norm": norm,
        "norm_bias": norm == "layer" and draw(st.booleans()),
        "bias": draw(st.booleans()),
        "tied_embeddings": draw(st.booleans()),
        "positions": positions,
        "d_position": draw(counts) if positions.endswith("concat") else 0,
        "bigram_table": draw(st.sampled_from(["none", "learned", "fixed"])),
        "sink": draw(st.booleans()),
        "activation": draw(st.sampled_from(["gelu", "relu"])),
        "residual_activation": draw(st.sampled_from(["none", "relu"])),
        "abs_topk": draw(st.none() | fractions),
        "abs_topk_sites": draw(st.lists(st.sampled_from(ABS_TOPK_SITES), unique=True)),
    }


loop_values = st.fixed_dictionaries(
    {
        "steps": counts,
        "learning_rate": fractions,
        "warmup": below_one,
        "beta1": below_one,
        "beta2": below_one,
        "epsilon": fractions,
        "weight_decay": st.floats(0, 10),
        "gradient": st.sampled_from(["normalize", "clip", "none"]),
        "precision": st.sampled_from(["bf16", "fp32"]),
        "seed": st.integers(0, 2**32 - 1),
    }
)
sparsity_values = st.fixed_dictionaries(
    {
        "density": fractions,
        "embedding_density": st.none() | fractions,
        "min_nonzeros": st.integers(0, 100),
        "sparse_biases": st.booleans(),
        "density_start": st.floats(0, 0.5),
        "density_end": st.floats(0.5, 1),
        "density_shape": st.sampled_from(["linear", "exponential"]),
    }
)
train_values = st.fixed_dictionaries(
    {
        "corpus": st.sampled_from(["here", "/there/corpus"]),
        "out": st.just("run"),
        "model": gpt_values(),
        "sparsity": sparsity_values,
        "loop": loop_values,
        "batch_size": counts,
        "bigram_start": st.just("counts"),
        "products": st.sampled_from(["auto", "dense"]),
        "dw": st.sampled_from(["dense", "amortized"]),
        "dw_every": counts,
        "stop_after": st.none(),
        "eval_every": counts,
        "eval_tokens": counts,
        "checkpoint_seconds": st.floats(0, 1e6),
    }
).filter(lambda values: (values["products"], values["dw"]) != ("dense", "amortized"))
prune_values = st.fixed_dictionaries(
    {
        "target_loss": fractions,
        "price": fractions,
        "k_rate": fractions,
        "aim": fractions,
        "temperature": fractions,
        "screen": st.floats(0.01, 1),
        "init_bias": st.floats(-1, 1),
        "init_scale": fractions,
        "runs": counts,
        "batch_pairs": counts,
        "eval_pairs": counts,
        "calibrated": st.booleans(),
        "ablation": st.sampled_from(["mean", "zero", "resample"]),
        "final_norm": st.sampled_from(["live", "frozen"]),
        "restore": st.sampled_from(["none", "random", "adversarial"]),
        "restore_fraction": fractions,
        "tie_qk": st.booleans(),
        "mean_tokens": counts,
        "clean": st.booleans(),
        "exchange": st.booleans(),
        "drop_edges": st.booleans(),
        "loop": loop_values,
    }
)


@pytest.mark.parametrize(
    ("kind", "strategy"),
    [
        (GPTConfig, gpt_values()),
        (LoopConfig, loop_values),
        (SparsityConfig, sparsity_values),
        (TrainConfig, train_values),
        (PruneConfig, prune_values),
    ],
)
@given(data=st.data())
@settings(max_examples=40)
def test_a_config_goes_to_json_and_back(kind: type, strategy: st.SearchStrategy[Any], data: st.DataObject) -> None:
    values = data.draw(strategy)
    config = from_json(kind, values, "file")
    stored = json.loads(json.dumps(to_json(config), allow_nan=False))
    assert stored == values
    assert from_json(kind, stored, "file") == config


def test_defaults_are_the_papers_where_it_gives_them() -> None:
    loop = LoopConfig()
    assert (loop.beta1, loop.beta2, loop.weight_decay, loop.epsilon, loop.warmup) == (0.9, 0.95, 0.1, 0.1, 0.01)
    assert (loop.gradient, loop.precision) == ("normalize", "bf16")
    sparsity = SparsityConfig()
    assert (sparsity.density_start, sparsity.density_end) == (0.01, 0.5)
    assert (sparsity.min_nonzeros, sparsity.sparse_biases, sparsity.embedding_density) == (4, False, None)
    model = GPTConfig()
    assert (model.norm, model.positions, model.tied_embeddings, model.abs_topk) == ("rms", "none", False, 0.25)
    assert (model.sink, model.bigram_table, model.activation, model.bias) == (True, "learned", "gelu", True)
    assert set(ABS_TOPK_SITES) - set(DEFAULT_ABS_TOPK_SITES) == {"resid_post_attn", "resid_post_mlp"}


def test_widths_not_given_follow_from_d_model() -> None:
    config = GPTConfig(d_model=48, n_head=6)
    assert (config.head_width, config.heads_width, config.mlp_width, config.read_width) == (8, 48, 192, 48)
    resolved = config.resolved()
    assert (resolved.d_head, resolved.d_mlp) == (8, 192)


def test_widths_not_given_follow_a_changed_d_model() -> None:
    changed = dataclasses.replace(GPTConfig(d_model=48, n_head=6), d_model=96)
    assert (changed.head_width, changed.mlp_width) == (16, 384)


def test_given_widths_stand() -> None:
    config = GPTConfig(d_model=50, n_head=4, d_head=3, d_mlp=7, positions="learned_concat", d_position=5)
    assert (config.head_width, config.heads_width, config.mlp_width, config.read_width) == (3, 12, 7, 55)
    assert config.resolved() == config


nan, infinity = math.nan, math.inf
REFUSED: list[tuple[type, dict[str, Any], str]] = [
    *((GPTConfig, {name: 0}, f"{name} is 0") for name in ("vocab_size", "block_size", "n_layer", "d_model")),
    *((GPTConfig, {name: -1}, f"{name} is -1") for name in ("n_head", "d_head", "d_mlp")),
    (GPTConfig, {"d_model": 100, "n_head": 3}, "100 is not divisible by n_head 3"),
    (GPTConfig, {"positions": "learned_concat"}, "d_position is 0 with positions=learned_concat"),
    (GPTConfig, {"positions": "sinusoidal_concat"}, "d_position is 0"),
    (GPTConfig, {"positions": "learned", "d_position": 4}, "d_position is 4 with positions=learned"),
    (GPTConfig, {"d_position": 4}, "d_position is 4 with positions=none"),
    (GPTConfig, {"positions": "rope"}, "'rope'; choose among 'none', 'learned'"),
    (GPTConfig, {"norm": "batch"}, "'batch'; choose among 'rms', 'layer'"),
    (GPTConfig, {"norm_bias": True}, "choose norm=layer"),
    (GPTConfig, {"activation": "silu"}, "choose among 'gelu', 'relu'"),
    (GPTConfig, {"residual_activation": "gelu"}, "choose among 'none', 'relu'"),
    (GPTConfig, {"bigram_table": "yes"}, "choose among 'none', 'learned', 'fixed'"),
    *((GPTConfig, {"abs_topk": value}, "abs_topk is") for value in (0.0, -0.5, 1.01, nan)),
    (GPTConfig, {"abs_topk_sites": ("attn_in", "attn_y")}, "'attn_y'; choose among attn_in"),
    (LoopConfig, {"steps": 0}, "steps is 0"),
    *((LoopConfig, {"learning_rate": value}, "learning_rate is") for value in (0.0, -1.0, nan, infinity)),
    *((LoopConfig, {"warmup": value}, "warmup is") for value in (-0.1, 1.0, nan)),
    *((LoopConfig, {name: value}, f"{name} is") for name in ("beta1", "beta2") for value in (-0.1, 1.0, nan)),
    *((LoopConfig, {"epsilon": value}, "epsilon is") for value in (0.0, nan, infinity)),
    *((LoopConfig, {"weight_decay": value}, "weight_decay is") for value in (-0.1, nan, infinity)),
    (LoopConfig, {"gradient": "normalise"}, "choose among 'normalize', 'clip', 'none'"),
    (LoopConfig, {"precision": "fp16"}, "choose among 'bf16', 'fp32'"),
    *((SparsityConfig, {"density": value}, "density is") for value in (0.0, 1.5, nan)),
    *((SparsityConfig, {"embedding_density": value}, "embedding_density is") for value in (0.0, 1.5, nan)),
    (SparsityConfig, {"min_nonzeros": -1}, "min_nonzeros is -1"),
    (SparsityConfig, {"density_start": 0.6}, "start <= end"),
    (SparsityConfig, {"density_start": -0.1}, "start <= end"),
    (SparsityConfig, {"density_end": 1.1}, "start <= end"),
    (SparsityConfig, {"density_shape": "cosine"}, "choose among 'linear', 'exponential'"),
    (TrainConfig, {"batch_size": 0}, "batch_size is 0"),
    (TrainConfig, {"eval_every": 0}, "eval_every is 0"),
    (TrainConfig, {"eval_tokens": 0}, "eval_tokens is 0"),
    *((TrainConfig, {"checkpoint_seconds": value}, "checkpoint_seconds is") for value in (-1.0, nan, infinity)),
    (TrainConfig, {"bigram_start": "zero"}, "choose among 'counts', 'uniform'"),
    (TrainConfig, {"model": GPTConfig(bigram_table="fixed"), "bigram_start": "uniform"}, "bigram_table is fixed"),
    (TrainConfig, {"dw": "amortized", "products": "dense"}, "dw is amortized with products=dense"),
    *((PruneConfig, {"target_loss": value}, "target_loss is") for value in (0.0, 1e308, nan, infinity)),
    (PruneConfig, {"price": -1.0}, "price is"),
    (PruneConfig, {"price": 1e6}, "price is 1e+06; times the target loss, 0.15, it must be at most 10000"),
    *((PruneConfig, {"aim": value}, "aim is") for value in (0.0, -0.5, nan, infinity)),
    (PruneConfig, {"temperature": 0.0}, "temperature is"),
    (PruneConfig, {"init_scale": -1.0}, "init_scale is"),
    (PruneConfig, {"screen": 0.0}, "screen is"),
    (PruneConfig, {"screen": 1.5}, "screen is"),
    *((PruneConfig, {name: 0}, f"{name} is 0") for name in ("batch_pairs", "eval_pairs", "mean_tokens")),
    (PruneConfig, {"ablation": "median"}, "choose among 'mean', 'zero'"),
]


@pytest.mark.parametrize(("kind", "values", "message"), REFUSED)
@pytest.mark.usefixtures("unannotated")
def test_what_cannot_run_is_refused(kind: type, values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as refused:
        kind(**values)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_limits_themselves_are_allowed() -> None:
    GPTConfig(vocab_size=1, block_size=1, n_layer=1, d_model=1, n_head=1, abs_topk=1.0, abs_topk_sites=())
    LoopConfig(steps=1, warmup=0.0, beta1=0.0, beta2=0.0, weight_decay=0.0)
    SparsityConfig(density=1.0, min_nonzeros=0, density_start=0.0, density_end=0.0)
    SparsityConfig(density_start=1.0, density_end=1.0)
    TrainConfig(checkpoint_seconds=0.0)
