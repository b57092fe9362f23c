"""Generation asks the model again and again: greedy is argmax, sampling follows the probabilities, rows are apart."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import randomised, small, some_tokens
from torch import Tensor

from sparse_circuits.errors import InputError
from sparse_circuits.generation import Sampling, TextStream
from sparse_circuits.model import GPT
from sparse_circuits.tokenizer import Tokenizer

pytestmark = pytest.mark.usefixtures("one_thread")

# Of unequal lengths, two of them equal, one as long as the block and one longer.
PROMPTS = [[1, 2, 3], [4], [5, 6, 7, 8, 9, 1, 2, 3, 4], [1, 2, 3], [3, 1, 4, 1, 5, 9, 2, 6]]


def greedy(model: GPT, prompt: list[int], count: int) -> list[int]:
    """Without a cache, without a batch."""
    text = list(prompt)
    for _ in range(count):
        text.append(int(model(torch.tensor([text[-model.config.block_size :]]))[0, -1].argmax()))
    return text


@pytest.mark.parametrize(
    ("positions", "sink"),
    [("none", True), ("none", False), ("learned", True), ("learned_concat", True), ("sinusoidal_concat", False)],
)
def test_temperature_zero_takes_the_likeliest_beyond_the_block_size(positions: Any, sink: bool) -> None:
    d_position = 4 if positions.endswith("concat") else 0
    model = randomised(small(positions=positions, d_position=d_position, sink=sink), seed=3)
    expected = [greedy(model, prompt, 9) for prompt in PROMPTS]
    assert model.generate(PROMPTS, 9, temperature=0.0) == expected
    assert model.generate(PROMPTS[::-1], 9, temperature=0.0) == expected[::-1]


@given(prompts=st.lists(st.lists(st.integers(0, 10), min_size=1, max_size=10), min_size=1, max_size=4), data=st.data())
@settings(max_examples=5, deadline=None)
def test_a_row_is_continued_as_it_would_be_alone(prompts: list[list[int]], data: st.DataObject) -> None:
    model = randomised(small(positions="learned", n_layer=1))
    seeds = data.draw(st.lists(st.integers(0, 99), min_size=len(prompts), max_size=len(prompts)))
    choices: dict[str, Any] = {"stop": [2, [3, 4]], "top_p": data.draw(st.sampled_from([None, 0.8]))}
    together = model.generate(prompts, 10, seed=seeds, **choices)
    for prompt, seed, row in zip(prompts, seeds, together, strict=True):
        assert model.generate([prompt], 10, seed=seed, **choices) == [row]


def test_the_random_numbers_are_those_of_seed_and_row() -> None:
    """Each token is the first at which the summed probability exceeds the next number of PCG64((seed, row))."""
    model = randomised(small(block_size=96))
    rows = model.generate(PROMPTS[:3], 80, seed=7)
    for row, (prompt, text) in enumerate(zip(PROMPTS, rows, strict=False)):
        draws = np.random.Generator(np.random.PCG64((7, row))).random(80)
        sums = model(torch.tensor([text]))[0].detach().softmax(-1).cumsum(-1)[len(prompt) - 1 : -1]
        assert text == prompt + [int((sums[step] <= draws[step]).sum()) for step in range(80)]


def test_a_seed_fixes_the_continuation_and_leaves_the_global_random_state() -> None:
    model, tokens = randomised(small()), some_tokens(small(), rows=2, length=3)
    state = torch.get_rng_state()
    ids = [model.generate(tokens, 20, seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(ids[0], ids[1])
    assert not torch.equal(ids[0], ids[2])
    assert torch.equal(ids[2][:, :3], tokens)
    assert ids[0].shape == (2, 23)
    assert torch.equal(model.generate(tokens, 9), ids[0][:, :12])
    assert ids[0].tolist() == model.generate(tokens.tolist(), 20)


def test_prompts_are_left_as_they_are() -> None:
    model, prompts = randomised(small()), [[1, 2], [3]]
    model.generate(prompts, 3)
    assert prompts == [[1, 2], [3]]
    assert model.generate(prompts, 0) == prompts
    assert model.generate(prompts, 0)[0] is not prompts[0]
    assert torch.equal(model.generate(some_tokens(small()), 0), some_tokens(small()))


def grid(points: int) -> Tensor:
    return ((torch.arange(points, dtype=torch.float64) + 0.5) / points)[:, None]


def chosen(logits: Tensor, points: int = 2000, **choices: Any) -> Tensor:
    """How often each token comes when the random numbers are spread evenly."""
    ids = Sampling(**choices).choose(logits.expand(points, -1), grid(points))
    return torch.bincount(ids, minlength=logits.shape[-1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@given(
    seed=st.integers(0, 99),
    vocabulary=st.sampled_from([1, 2, 11, 100, 700]),
    spread=st.sampled_from([0.01, 1.0, 20.0]),
    temperature=st.sampled_from([0.3, 1.0, 2.5]),
    top_k=st.sampled_from([None, 1, 4, 90, 10**6]),
    top_p=st.sampled_from([None, 1e-9, 0.6, 0.95, 1.0]),
)
@settings(max_examples=20, deadline=None)
def test_tokens_come_as_often_as_their_probability_says(
    dtype: torch.dtype, seed: int, vocabulary: int, spread: float, temperature: float, top_k: Any, top_p: Any
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = (spread * torch.randn(1, vocabulary, generator=generator)).to(dtype)
    probabilities = (logits.double() / temperature).softmax(-1)[0]
    order = probabilities.sort(descending=True)
    allowed = min(vocabulary, top_k or vocabulary)
    held = order.values[:allowed].cumsum(0) / order.values[:allowed].sum()
    if top_p is not None:
        allowed = min(allowed, int((held < top_p).sum()) + 1)
    least = order.values[allowed - 1]
    counts = chosen(logits, temperature=temperature, top_k=top_k, top_p=top_p)
    # Of tokens that are equally likely any may be left out.
    assert not counts[probabilities < least].any()
    assert (counts > 0).sum() <= allowed
    expected = 2000 * probabilities / order.values[:allowed].sum()
    sure = probabilities > least * (1 + 1e-9)
    assert ((counts - expected)[sure].abs() <= 1 + 1e-6).all()


def test_top_p_by_hand() -> None:
    """Probabilities 0.5, 0.2, 0.2, 0.1: 0.5 alone falls short of 0.6, with one of 0.2 it does not."""
    logits = torch.tensor([[0.2, 0.5, 0.1, 0.2]]).log()
    counts = chosen(logits, 700, top_p=0.6)
    assert counts[1] == 500
    assert sorted(counts.tolist()) == [0, 0, 200, 500]
    assert chosen(logits, 700, top_p=0.5).tolist() == [0, 700, 0, 0]
    assert chosen(logits, 900, top_k=3).tolist() == [200, 500, 0, 200]
    # Where two of four equals hold exactly as much as is asked, there is no third.
    assert sorted(chosen(torch.zeros(1, 4), 800, top_p=0.5).tolist()) == [0, 0, 400, 400]
    # Of the three likeliest, 0.5 / 0.9 is enough for 0.55.
    assert chosen(logits, 900, top_k=3, top_p=0.55).tolist() == [0, 900, 0, 0]


@pytest.mark.parametrize("choices", [{}, {"top_k": 90}, {"top_p": 0.95}, {"top_k": 200, "top_p": 0.95}], ids=str)
def test_a_row_sure_of_its_token_and_one_that_is_not_go_together(choices: dict[str, Any]) -> None:
    logits = 20 * torch.eye(3, 700)
    logits[0] = torch.randn(700, generator=torch.Generator().manual_seed(0))
    together = Sampling(**choices).choose(logits.repeat(200, 1), grid(600))
    alone = [Sampling(**choices).choose(row.expand(200, -1), grid(600)[number::3]) for number, row in enumerate(logits)]
    assert torch.equal(together.view(200, 3).T, torch.stack(alone))
    assert len(alone[0].unique()) > 50
    assert alone[1].unique().tolist() == [1]


@pytest.mark.parametrize(
    "choices", [{"top_k": 1}, {"top_p": 1e-9}, {"temperature": 1e-30}, {"temperature": 1e-320, "top_p": 0.5}]
)
def test_settings_that_leave_one_token_are_greedy(choices: dict[str, Any]) -> None:
    model = randomised(small(), dtype=torch.float32)
    assert model.generate(PROMPTS, 6, **choices) == model.generate(PROMPTS, 6, temperature=0.0)


def test_a_token_of_weight_zero_is_never_chosen() -> None:
    logits = torch.tensor([[-math.inf, 0.0, -math.inf, 0.0, -math.inf]])
    ends = torch.tensor([[0.0], [1 - 2**-53]], dtype=torch.float64)
    for choices in ({}, {"top_k": 5}, {"top_p": 0.999}):
        assert Sampling(**choices).choose(logits.expand(2, -1), ends).tolist() == [1, 3]


def test_a_row_ends_with_its_stop_and_a_tensor_is_filled_with_it() -> None:
    model, tokens = randomised(small()), some_tokens(small(), rows=6, length=3)
    free = model.generate(tokens, 20, seed=1).tolist()
    stopped = model.generate(tokens, 20, seed=1, stop=4)
    assert stopped.tolist() != [row[: stopped.shape[1]] for row in free]
    rows = model.generate(tokens.tolist(), 20, seed=1, stop=[4])
    assert stopped.shape[1] == max(map(len, rows))
    for row, filled, whole in zip(rows, stopped.tolist(), free, strict=True):
        end = whole.index(4, 3) + 1 if 4 in whole[3:] else len(whole)
        assert row == whole[:end]
        assert filled == row + [4] * (stopped.shape[1] - len(row))


def test_a_stop_of_several_tokens_lies_in_what_is_new() -> None:
    model = randomised(small())
    whole = model.generate([[1, 2, 3]], 12, temperature=0.0)[0]
    assert model.generate([[1, 2, 3]], 12, temperature=0.0, stop=[[9, 9, 9], whole[5:7]]) == [whole[:7]]
    # Where its first token is the prompt's last, it is no stop.
    assert model.generate([[1, 2, 3]], 2, temperature=0.0, stop=[whole[2:4]]) == [whole[:5]]
    assert model.generate([[1, 2, 3]], 2, temperature=0.0, stop=[whole[3:4]]) == [whole[:4]]


def test_tokens_are_streamed_and_the_listener_may_end_a_row() -> None:
    model = randomised(small())
    heard: list[list[int]] = [list(prompt) for prompt in PROMPTS]

    def stream(row: int, token: int) -> bool:
        heard[row].append(token)
        return len(heard[row]) >= 10 + row

    rows = model.generate(PROMPTS, 30, seed=2, stream=stream, stop=3)
    assert rows == heard
    for row, whole in zip(rows, model.generate(PROMPTS, 30, seed=2, stop=3), strict=True):
        assert row == whole[: len(row)]
    assert {len(text) - 10 - row for row, text in enumerate(rows) if text[-1] != 3} == {0}


def test_rows_that_have_ended_and_tokens_read_before_cost_nothing() -> None:
    shapes = []

    def tap(site: str, activation: Tensor) -> Tensor:
        if site == "final_resid":
            shapes.append(tuple(activation.shape[:2]))
        return activation

    # Row 0 ends with its second token, 2 likewise, 1 with its third, 3 not before the last, its sixth.
    ends, heard = {0: 2, 1: 3, 2: 2}, [0, 0, 0, 0]

    def stream(row: int, token: int) -> bool:
        heard[row] += 1
        return heard[row] == ends.get(row)

    randomised(small(block_size=32)).generate([[1] * 3, [1] * 3, [2], [5] * 5], 6, tap=tap, stream=stream)
    # The two equal prompts are read once, and the last token is not read.
    assert shapes == [(3, 5), (4, 1), (2, 1), (1, 1), (1, 1), (1, 1)]


def test_a_tap_steers_generation() -> None:
    model = randomised(small())

    def tap(site: str, activation: Tensor) -> Tensor:
        return activation * -1.5 if site == "0.resid_mid" else activation

    text = [1, 2, 3]
    for _ in range(9):
        text.append(int(model(torch.tensor([text[-8:]]), tap=tap)[0, -1].argmax()))
    assert model.generate([[1, 2, 3]], 9, temperature=0.0, tap=tap) == [text]
    assert model.generate([[1, 2, 3]], 9, temperature=0.0) != [text]


def test_generation_keeps_no_gradient() -> None:
    model = GPT(small())
    model.generate(some_tokens(small()), 2)
    assert model(some_tokens(small())).requires_grad


TOKENIZER = Tokenizer.train(["naïve café → 日本 🙂 " * 3], vocab_size=264)


@given(text=st.text())
@settings(max_examples=50, deadline=None)
def test_streamed_text_has_whole_characters_only(text: str) -> None:
    text = text.replace("\ufffd", "") + "naïve → 🙂"
    stream = TextStream(TOKENIZER)
    pieces = [stream.push(token) for token in TOKENIZER.encode(text)]
    assert "".join(pieces) == text
    assert not any("\ufffd" in piece for piece in pieces)
    assert stream.finish() == ""


@given(ids=st.lists(st.integers(0, TOKENIZER.vocab_size - 1), max_size=30))
@settings(max_examples=50, deadline=None)
def test_streamed_text_is_the_decoded_text_even_of_broken_characters(ids: list[int]) -> None:
    stream = TextStream(TOKENIZER)
    assert "".join([*(stream.push(token) for token in ids), stream.finish()]) == TOKENIZER.decode(ids)


def test_characters_are_shown_when_their_last_byte_comes() -> None:
    stream = TextStream(Tokenizer.train([""], vocab_size=257))
    byte = {value: TOKENIZER.encode(chr(value))[0] for value in b"ab"}
    euro = Tokenizer.train([""], vocab_size=257).encode("€")
    assert len(euro) == 3
    ids = [byte[ord("a")], *euro, euro[0], byte[ord("b")]]
    assert [stream.push(token) for token in ids] == ["a", "", "", "€", "", "\ufffdb"]


@pytest.mark.usefixtures("unannotated")
@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ([], "there are no prompts; expected one or more"),
        (None, "prompts are None; expected a list of one list"),
        (3, "prompts are 3; expected a list of one list"),
        (torch.zeros(0, 4, dtype=torch.int64), "there are no prompts"),
        ([[1], []], "prompt 1 is empty; expected one or more token ids"),
        (torch.zeros(2, 0, dtype=torch.int64), "prompt 0 is empty"),
        ([[1], [3, 11]], r"prompt 1: token id 11 is outside the vocabulary 0\.\.10"),
        (torch.tensor([[-1, 3]]), "prompt 0: token id -1 is outside"),
        ([[1, 2.0]], "prompt 0 is '.1, 2.0.'; expected a list of token ids"),
        ([1, 2], "prompt 0 is '1'; expected a list of token ids"),
        (["def f"], r"prompt 0 is 'def f'; expected a list of token ids \(model.tokenizer.encode"),
        (torch.zeros(4, dtype=torch.int64), r"prompts have shape \(4,\) and dtype torch.int64; expected int64"),
        (torch.zeros(1, 4), r"dtype torch.float32; expected int64 \[rows, positions\]"),
    ],
)
def test_prompts_the_model_cannot_read_are_refused(prompts: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        GPT(small()).generate(prompts, 1)


@pytest.mark.usefixtures("unannotated")
@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        *(("temperature", value, f"temperature is {value}; it must") for value in (-1.0, math.nan, math.inf)),
        ("top_k", 0, "top_k is 0; it must"),
        *(("top_p", value, f"top_p is {value}; it must") for value in (0.0, 1.5, math.nan)),
        ("max_new_tokens", -1, "max_new_tokens is -1; it must"),
        ("seed", -1, "seed is -1; it must be from 0"),
        ("seed", [1, 2], "2 seeds for 3 prompts; give one for each"),
        ("seed", [1, 2, 1 << 32], "seed is 4294967296; it must"),
        ("stop", 11, r"stop: token id 11 is outside the vocabulary 0\.\.10"),
        ("stop", [3, [4, -1]], "stop: token id -1 is outside"),
        ("stop", [[]], "stop is empty; expected one or more token ids"),
        *(("max_new_tokens", value, f"max_new_tokens is {value!r}; expected a whole") for value in (2.0, None, "2")),
        *(("temperature", value, f"temperature is {value!r}; expected a number") for value in (None, "1")),
        *(("top_k", value, f"top_k is {value!r}; expected a whole number") for value in (2.0, "2")),
        ("top_p", "0.5", "top_p is '0.5'; expected a number"),
        *(("seed", value, f"seed is {value}; expected a whole number, or") for value in (None, 1.5)),
        ("seed", "abc", "seed is 'a'; expected a whole number"),
        ("seed", [1, 2.5, 3], "seed is 2.5; expected a whole number"),
        ("seed", torch.tensor([1, 2]), "2 seeds for 3 prompts"),
        *(("stop", value, f"stop is {value}; expected a token id, or") for value in (None, 1.5)),
        ("stream", 3, "stream is 3; expected a function"),
        ("tap", "attn", "tap is 'attn'; expected a function"),
        ("stop", ["\n"], r"stop is .\\n.; expected a list of token ids"),
    ],
)
def test_settings_out_of_range_are_refused(setting: str, value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        GPT(small()).generate(some_tokens(small()), **{setting: value})


@pytest.mark.usefixtures("unannotated")
def test_numbers_of_numpy_and_pytorch_are_numbers() -> None:
    model, prompts = randomised(small()), some_tokens(small(), length=3)
    expected = model.generate(prompts, 4, top_k=5, temperature=0.5, seed=3)
    for kind in (np.int64, torch.tensor):
        same = model.generate(prompts, kind(4), top_k=kind(5), temperature=np.float32(0.5), seed=kind(3), stop=kind(3))
        assert torch.equal(same[:, :4], expected[:, :4])
    each = model.generate(prompts, 4, seed=[4, 5, 6])
    for seeds in (np.array([4, 5, 6]), torch.tensor([4, 5, 6]), (4, 5, 6)):
        assert torch.equal(model.generate(prompts, 4, seed=seeds), each)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_damaged_weights_are_told_where_a_token_is_chosen(value: float, temperature: float) -> None:
    model = randomised(small())
    model.ln_f.weight.data.fill_(value)
    with pytest.raises(InputError, match="logits are NaN or infinite"):
        model.generate(some_tokens(small(), length=3), 2, temperature=temperature)
