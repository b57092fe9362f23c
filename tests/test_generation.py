"""Sampling follows the model's probabilities, a seed fixes it, and temperature 0 takes the likeliest token."""

import math
from typing import Any

import pytest
import torch
from small_models import randomised, small, some_tokens
from torch import Tensor

from sparse_circuits.errors import InputError
from sparse_circuits.model import GPT

pytestmark = pytest.mark.usefixtures("one_thread")


def greedy(model: GPT, tokens: Tensor, count: int) -> Tensor:
    for _ in range(count):
        following = model(tokens[:, -model.config.block_size :])[:, -1].argmax(-1, keepdim=True)
        tokens = torch.cat([tokens, following], dim=1)
    return tokens


def test_temperature_zero_takes_the_likeliest_beyond_the_block_size() -> None:
    model, tokens = randomised(small()), some_tokens(small(), length=3)
    ids = model.generate(tokens, 12, temperature=0.0)
    assert torch.equal(ids, greedy(model, tokens, 12))
    assert ids.shape == (3, 15)


@pytest.mark.parametrize(
    "settings_", [{"top_k": 1}, {"top_p": 1e-9}, {"temperature": 1e-30}, {"temperature": 1e-320, "top_p": 0.5}]
)
def test_settings_that_leave_one_token_are_greedy(settings_: dict[str, Any]) -> None:
    model, tokens = randomised(small(), dtype=torch.float32), some_tokens(small(), length=3)
    assert torch.equal(model.generate(tokens, 6, **settings_), greedy(model, tokens, 6))


def test_a_seed_fixes_the_continuation_and_leaves_the_global_random_state() -> None:
    model, tokens = randomised(small()), some_tokens(small(), rows=2, length=3)
    state = torch.get_rng_state()
    ids = [model.generate(tokens, 20, seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(ids[0], ids[1])
    assert not torch.equal(ids[0], ids[2])
    assert torch.equal(ids[2][:, :3], tokens)


def test_greedy_rows_do_not_depend_on_each_other() -> None:
    model, tokens = randomised(small()), some_tokens(small(), rows=4)
    together = model.generate(tokens, 6, temperature=0.0)
    alone = [model.generate(row[None], 6, temperature=0.0) for row in tokens]
    assert torch.equal(together, torch.cat(alone))


def test_a_long_prompt_is_read_from_its_end() -> None:
    model, tokens = randomised(small()), some_tokens(small(), length=20)
    ids = model.generate(tokens, 5, seed=2)
    assert torch.equal(ids[:, :20], tokens)
    assert torch.equal(ids[:, 12:], model.generate(tokens[:, -8:], 5, seed=2))


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"), [(1.0, None, None), (2.5, None, None), (0.5, 4, None), (1.0, None, 0.6)]
)
def test_tokens_come_as_often_as_their_probability_says(temperature: float, top_k: Any, top_p: Any) -> None:
    model, draws = randomised(small(), seed=4), 4000
    prompt = some_tokens(small(), rows=1, length=4)
    probabilities = (model(prompt)[0, -1].detach() / temperature).softmax(-1)
    likeliest_first = probabilities.sort(descending=True)
    allowed = len(probabilities) if top_k is None else top_k
    if top_p is not None:
        allowed = int((likeliest_first.values.cumsum(0) < top_p).sum()) + 1
        assert 1 < allowed < len(probabilities)
    probabilities[likeliest_first.indices[allowed:]] = 0
    probabilities /= probabilities.sum()
    ids = model.generate(prompt.expand(draws, -1), 1, temperature, top_k, top_p, seed=5)[:, -1]
    counts = torch.bincount(ids, minlength=11)
    assert not counts[probabilities == 0].any()
    spread = (draws * probabilities * (1 - probabilities)).sqrt()
    assert ((counts - draws * probabilities).abs() <= 4.5 * spread + 1e-9).all()


def test_no_new_tokens_give_the_prompt() -> None:
    tokens = some_tokens(small())
    assert torch.equal(GPT(small()).generate(tokens, 0), tokens)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        *(("temperature", value) for value in (-1.0, math.nan, math.inf)),
        ("top_k", 0),
        *(("top_p", value) for value in (0.0, 1.5, math.nan)),
        ("max_new_tokens", -1),
    ],
)
def test_sampling_settings_out_of_range_are_refused(setting: str, value: float) -> None:
    with pytest.raises(InputError, match=f"{setting} is {value}; it must"):
        GPT(small()).generate(some_tokens(small()), **{setting: value})  # type: ignore[arg-type]


def test_generation_keeps_no_gradient() -> None:
    model = GPT(small())
    model.generate(some_tokens(small()), 2)
    assert model(some_tokens(small())).requires_grad


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_damaged_weights_are_told_where_a_token_is_chosen(value: float, temperature: float) -> None:
    model = randomised(small())
    model.ln_f.weight.data.fill_(value)
    with pytest.raises(InputError, match="logits are NaN or infinite"):
        model.generate(some_tokens(small(), length=3), 2, temperature=temperature)
