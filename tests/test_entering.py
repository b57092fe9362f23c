"""A pass may begin and end anywhere on the residual stream: it is the same pass, without what comes before."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import randomised, small, some_tokens
from torch import Tensor

from sparse_circuits.cache import Cache
from sparse_circuits.config import ABS_TOPK_SITES, GPTConfig
from sparse_circuits.errors import InputError
from sparse_circuits.model import GPT
from sparse_circuits.sites import Record, residual_sites, site_names

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPES = [
    small(),
    small(positions="learned", norm="layer", norm_bias=True, tied_embeddings=True, bigram_table="none", sink=False),
    small(positions="sinusoidal_concat", d_position=4, abs_topk_sites=ABS_TOPK_SITES, residual_activation="relu"),
]


def streams(config: GPTConfig, rows: int, seed: int) -> Tensor:
    shape = (rows, 7, config.d_model)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def replaced(model: GPT, tokens: Tensor, site: str, stream: Tensor) -> Tensor:
    """The logits of a whole pass in which the stream at `site` is exchanged."""
    return model(tokens, tap=lambda name, x: stream if name == site else x)


def test_the_sites_are_where_the_stream_is_whole() -> None:
    config = small(n_layer=3)
    assert residual_sites(config) == [
        "0.resid_in", "0.resid_mid", "1.resid_in", "1.resid_mid", "2.resid_in", "2.resid_mid", "final_resid"
    ]  # fmt: skip
    assert set(residual_sites(config)) < set(site_names(config))


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(SHAPES), st.lists(st.integers(0, 4), unique=True, min_size=1), st.integers(0, 2), st.integers(0, 9)
)
def test_rows_that_enter_are_continued_as_if_the_stream_had_been_exchanged_there(
    config: GPTConfig, places: list[int], own: int, seed: int
) -> None:
    model = randomised(config, seed)
    sites = residual_sites(config)
    enter = {sites[place]: streams(config, 1 + place % 2, seed + place) for place in places}  # in any order
    rows = own + sum(map(len, enter.values()))
    tokens = some_tokens(config, rows, seed=seed + 1)
    logits = model(tokens, enter=enter)
    start = own
    if own:
        torch.testing.assert_close(logits[:own], model(tokens[:own]))
    for site in sorted(enter, key=sites.index):
        stop = start + len(enter[site])
        torch.testing.assert_close(logits[start:stop], replaced(model, tokens[start:stop], site, enter[site]))
        start = stop


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(SHAPES), st.integers(0, 4), st.integers(0, 4), st.integers(0, 9))
def test_a_pass_cut_in_two_is_the_whole_pass(config: GPTConfig, first: int, second: int, seed: int) -> None:
    model, tokens = randomised(config, seed), some_tokens(config, seed=seed)
    early, late = sorted(
        [residual_sites(config)[first], residual_sites(config)[second]], key=residual_sites(config).index
    )
    stream = model.residual(tokens, early)
    torch.testing.assert_close(stream, model.run(tokens, record=early).sites[early])
    stream = model.residual(tokens, late, enter={early: stream})
    torch.testing.assert_close(model(tokens, enter={late: stream}), model(tokens))


def test_nothing_before_the_entry_is_computed() -> None:
    model = randomised(small())
    tokens = some_tokens(model.config)
    for place, site in enumerate(residual_sites(model.config)):
        recorder = Record(site_names(model.config))
        model(tokens, tap=recorder, enter={site: streams(model.config, 3, place)})
        every = site_names(model.config)
        assert list(recorder.sites) == every[every.index(site) :]
        recorder = Record(every)
        model.residual(tokens, site, tap=recorder)
        assert list(recorder.sites) == every[: every.index(site) + 1]


def test_a_tap_sees_the_rows_that_are_there_and_changes_those_that_enter() -> None:
    model = randomised(small())
    tokens, stream = some_tokens(model.config, 3), streams(model.config, 1, 0)
    seen: dict[str, int] = {}

    def double(site: str, x: Tensor) -> Tensor:
        seen[site] = len(x)
        return 2 * x if site == "0.resid_mid" else x

    logits = model(tokens, tap=double, enter={"0.resid_mid": stream})
    assert seen["0.attn.q"] == 2
    assert seen["0.resid_mid"] == seen["final_resid"] == 3
    torch.testing.assert_close(logits[2:], replaced(model, tokens[2:], "0.resid_mid", 2 * stream))


def test_gradients_reach_what_enters_and_what_comes_after_only() -> None:
    model = randomised(small())
    stream = streams(model.config, 3, 0).requires_grad_()
    model(some_tokens(model.config), enter={"1.resid_in": stream}).sum().backward()
    assert stream.grad is not None
    assert stream.grad.abs().max() > 0
    names = {name for name, p in model.named_parameters() if p.grad is not None}
    assert not any(name.startswith(("h.0.", "wte")) for name in names)
    assert any(name.startswith("h.1.attn") for name in names)


def test_the_standing_tap_acts_everywhere_and_first() -> None:
    model = randomised(small())
    tokens = some_tokens(model.config)
    plain = model(tokens)

    def add(site: str, x: Tensor) -> Tensor:
        return x + 1 if site == "0.mlp.post_act" else x

    def double(site: str, x: Tensor) -> Tensor:
        return 2 * x if site == "0.mlp.post_act" else x

    expected = model(tokens, tap=lambda site, x: double(site, add(site, x)))
    assert not torch.allclose(expected, plain)
    model.standing_tap = add
    torch.testing.assert_close(model(tokens, tap=double), expected)
    prompt = tokens[:, :3]
    steered = model.generate(prompt, 4, temperature=0.0)
    model.standing_tap = None
    torch.testing.assert_close(steered, model.generate(prompt, 4, temperature=0.0, tap=add))


@pytest.mark.parametrize(
    ("enter", "told"),
    [
        ({"0.attn.q": (1, 7, 12)}, "'0.attn.q' is no site of the residual stream; choose among"),
        ({"0.resid_in": (1, 7, 11)}, "the rows that enter at 0.resid_in have shape (1, 7, 11); expected [rows, 7, 12]"),
        ({"0.resid_in": (7, 12)}, "have shape (7, 12); expected [rows, 7, 12]"),
        ({"0.resid_in": (2, 7, 12), "1.resid_in": (2, 7, 12)}, "4 rows enter, but tokens are given for 3"),
    ],
)
@pytest.mark.usefixtures("unannotated")
def test_streams_that_do_not_fit_are_refused(enter: dict[str, Any], told: str) -> None:
    model = randomised(small())
    given = {site: torch.zeros(shape, dtype=torch.float64) for site, shape in enter.items()}
    with pytest.raises(InputError, match=r".") as caught:
        model(some_tokens(model.config), enter=given)
    assert told in str(caught.value)


def test_what_cannot_be_reached_or_cached_is_refused() -> None:
    model = randomised(small())
    tokens, stream = some_tokens(model.config), streams(model.config, 3, 0)
    with pytest.raises(InputError, match=r"rows enter at 1\.resid_in, which a pass until 0\.resid_mid does not reach"):
        model.residual(tokens, "0.resid_mid", enter={"1.resid_in": stream})
    with pytest.raises(InputError, match="no site of the residual stream"):
        model.residual(tokens, "0.mlp.act_in")
    with pytest.raises(InputError, match="leave the cache out"):
        model(tokens, cache=Cache(model.config, 3), enter={"0.resid_in": stream})
