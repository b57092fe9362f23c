"""Configurations of every kind that was released, as a hypothesis strategy."""

from typing import Any

from hypothesis import strategies as st

from sparse_circuits.config import ABS_TOPK_SITES


@st.composite
def variants(draw: st.DrawFn) -> dict[str, Any]:
    """What to change of `small` for a tiny model of any kind the released code can compute.

    No configuration: checking its types draws random numbers, which hypothesis does not like in a strategy.
    """
    positions = draw(st.sampled_from(["none", "learned", "learned_concat", "sinusoidal_concat"]))
    norm = draw(st.sampled_from(["rms", "layer"]))
    return {
        "n_layer": draw(st.integers(1, 2)),
        "n_head": draw(st.sampled_from([1, 2, 3])),
        "d_head": draw(st.sampled_from([None, 2, 5])),
        "d_mlp": draw(st.sampled_from([None, 7, 24])),
        "positions": positions,
        "d_position": draw(st.integers(1, 5)) if positions.endswith("concat") else 0,
        "norm": norm,
        "norm_bias": norm == "layer" and draw(st.booleans()),
        "bias": draw(st.booleans()),
        "tied_embeddings": draw(st.booleans()),
        "bigram_table": draw(st.sampled_from(["none", "learned", "fixed"])),
        "sink": draw(st.booleans()),
        "activation": draw(st.sampled_from(["gelu", "relu"])),
        "residual_activation": draw(st.sampled_from(["none", "relu"])),
        "abs_topk": draw(st.sampled_from([None, 0.5, 0.75, 1.0])),
        "abs_topk_sites": tuple(draw(st.lists(st.sampled_from(ABS_TOPK_SITES), unique=True))),
    }
