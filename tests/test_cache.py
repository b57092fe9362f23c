"""Reading on with a cache gives what reading everything at once gives, at every site, whatever the rows' lengths."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import randomised, small, some_tokens
from torch import Tensor

from sparse_circuits.cache import Cache
from sparse_circuits.errors import InputError
from sparse_circuits.model import GPT
from sparse_circuits.sites import Record, site_names

pytestmark = pytest.mark.usefixtures("one_thread")

SCHEMES: list[dict[str, Any]] = [
    {},
    {"sink": False},
    {"positions": "learned"},
    {"positions": "learned_concat", "d_position": 4},
    {"positions": "sinusoidal_concat", "d_position": 5, "sink": False},
    {"d_head": 5, "abs_topk": None, "residual_activation": "relu"},
]


def read_in_chunks(model: GPT, tokens: Tensor, sizes: list[int], tap: Any = None) -> Tensor:
    cache = Cache(model.config, len(tokens))
    parts = []
    for chunk in tokens.split(sizes, dim=1):
        parts.append(model(chunk, tap=tap, cache=cache))
        cache.advance(chunk.shape[1])
    return torch.cat(parts, dim=1)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("sizes", [[8], [1] * 8, [3, 1, 4], [7, 1]], ids=str)
@pytest.mark.parametrize("changes", SCHEMES, ids=lambda changes: "-".join(map(str, changes.values())) or "default")
def test_reading_in_chunks_is_reading_at_once(changes: dict[str, Any], sizes: list[int], dtype: torch.dtype) -> None:
    model, tokens = randomised(small(**changes), dtype=dtype), some_tokens(small(), length=8)
    error = 1e-11 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(read_in_chunks(model, tokens, sizes), model(tokens).detach(), rtol=error, atol=error)


@given(data=st.data(), changes=st.sampled_from(SCHEMES))
@settings(max_examples=15, deadline=None)
def test_rows_of_any_lengths_do_not_meet(data: st.DataObject, changes: dict[str, Any]) -> None:
    """Each row keeps as many tokens of each chunk as it likes; the others are somebody's guess and leave no trace."""
    model, texts = randomised(small(**changes)), some_tokens(small(), rows=3, length=8)
    expected = model(texts).detach()
    cache, done = Cache(model.config, 3), [0, 0, 0]
    for step in range(data.draw(st.integers(1, 4))):
        count = data.draw(st.integers(0, 8 - max(done))) if step else data.draw(st.integers(1, 8))
        if not count:
            break
        kept = data.draw(st.lists(st.integers(0, count), min_size=3, max_size=3))
        chunk = some_tokens(small(), length=count, seed=step)
        for row in range(3):
            chunk[row, : kept[row]] = texts[row, done[row] : done[row] + kept[row]]
        at = torch.tensor([max(0, number - 1) for number in kept])
        logits = model(chunk, at=at, cache=cache) if step % 2 else model(chunk, cache=cache)[torch.arange(3), at]
        cache.advance(kept)
        done = [before + number for before, number in zip(done, kept, strict=True)]
        assert cache.lengths.tolist() == done
        for row in range(3):
            if kept[row]:
                torch.testing.assert_close(logits[row], expected[row, done[row] - 1], rtol=1e-11, atol=1e-11)


@given(rows=st.lists(st.integers(0, 3), max_size=6))
@settings(max_examples=12, deadline=None)
def test_rows_leave_change_places_and_multiply(rows: list[int]) -> None:
    model, tokens = randomised(small(positions="learned")), some_tokens(small(), rows=4, length=6)
    cache, lengths = Cache(model.config, 4, capacity=7), [4, 2, 5, 1]
    model(tokens[:, :5], cache=cache)
    cache.advance(lengths)
    cache.take(rows)
    assert cache.lengths.tolist() == [lengths[row] for row in rows]
    following = torch.tensor([[int(tokens[row, lengths[row]])] for row in rows], dtype=torch.int64).view(-1, 1)
    logits = model(following, cache=cache)
    for row, found in zip(rows, logits, strict=True):
        whole = model(tokens[row : row + 1, : lengths[row] + 1])[0, -1:].detach()
        torch.testing.assert_close(found, whole, rtol=1e-11, atol=1e-11)


def test_a_tap_sees_each_site_at_the_new_positions_and_changes_what_is_kept() -> None:
    model, tokens = randomised(small()), some_tokens(small(), length=8)
    steering = torch.randn(12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    seen: list[dict[str, Tensor]] = []

    def tap(site: str, activation: Tensor) -> Tensor:
        if site == site_names(model.config)[0]:
            seen.append({})
        seen[-1][site] = activation + steering[: activation.shape[-1]] if site.endswith((".k", "mid")) else activation
        return seen[-1][site]

    logits = read_in_chunks(model, tokens, [3, 1, 4], tap)
    recorder = Record(site_names(model.config))
    whole = model(tokens, tap=lambda site, x: recorder(site, tap(site, x))).detach()
    torch.testing.assert_close(logits, whole, rtol=1e-11, atol=1e-11)
    assert len(seen) == 4
    for site in site_names(model.config):
        together = torch.cat([part[site] for part in seen[:3]], dim=1)
        torch.testing.assert_close(together, recorder.sites[site].detach(), rtol=1e-11, atol=1e-11)


def test_reading_with_a_cache_keeps_no_gradient() -> None:
    model = GPT(small())
    assert not model(some_tokens(small()), cache=Cache(model.config, 3)).requires_grad


@pytest.mark.parametrize("capacity", [0, 9])
def test_a_capacity_the_model_has_not_is_refused(capacity: int) -> None:
    with pytest.raises(InputError, match=f"a cache of {capacity} positions; expected 1 to the model's block size, 8"):
        Cache(small(), 1, capacity)


@pytest.mark.parametrize("counts", [3, -1, [0, 1, 3], [2, -1, 2]], ids=str)
def test_keeping_what_was_not_read_is_refused(counts: Any) -> None:
    model = GPT(small())
    cache = Cache(model.config, 3)
    model(some_tokens(small(), length=2), cache=cache)
    with pytest.raises(InputError, match="2 were read; keep 0 to 2"):
        cache.advance(counts)
    cache.advance(2)
    with pytest.raises(InputError, match="cannot keep 1 positions: 0 were read"):
        cache.advance(1)


@pytest.mark.usefixtures("unannotated")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        *((lambda cache, v=v: cache.advance(v), f"count is {v}; expected how many positions") for v in (1.0, None)),
        (lambda cache: cache.advance("2"), "a count is '2'; expected a whole number"),
        (lambda cache: cache.advance([1, 1.5, 1]), "a count is 1.5"),
        (lambda cache: cache.advance([1, 1]), "2 counts for a cache of 3 rows; give one for each, or one for all"),
        *((lambda cache, v=v: cache.take(v), f"rows is {v}; expected a list") for v in (1, None, 1.5)),
        (lambda cache: cache.take([0.0]), "a row to take is 0.0; expected a whole number"),
        (lambda cache: cache.take("01"), "a row to take is '0'; expected a whole number"),
        *((lambda cache, v=v: cache.take([0, v]), "the cache has 3, counted from 0") for v in (3, -1)),
    ],
)
def test_what_is_no_number_or_row_is_refused_and_changes_nothing(change: Any, message: str) -> None:
    model = GPT(small())
    cache = Cache(model.config, 3)
    model(some_tokens(small(), length=2), cache=cache)
    with pytest.raises(InputError, match=message):
        change(cache)
    cache.advance(np.int64(1))
    cache.take(np.array([2, 2]))
    assert cache.lengths.tolist() == [1, 1]
    cache.take([])
    assert cache.lengths.tolist() == []


@pytest.mark.usefixtures("unannotated")
def test_sizes_that_are_no_numbers_are_refused() -> None:
    for arguments, message in (((2.0,), "rows is 2.0"), (("2",), "rows is '2'"), ((2, 3.0), "capacity is 3.0")):
        with pytest.raises(InputError, match=f"{message}; expected a whole number"):
            Cache(small(), *arguments)


@pytest.mark.parametrize(
    ("changes", "made", "reads"),
    [
        ({"d_head": 5}, "d_head=4", "d_head=5"),
        ({"n_layer": 3}, "n_layer=2", "n_layer=3"),
        ({"block_size": 6, "sink": False}, "block_size=8, sink=True", "block_size=6, sink=False"),
    ],
)
@pytest.mark.parametrize("is_sparse", [False, True])
def test_a_cache_of_another_model_is_refused(changes: dict[str, Any], made: str, reads: str, is_sparse: bool) -> None:
    """A compiled step would read and write beyond what is there."""
    mine, other = (randomised(small(**each), dtype=torch.float32) for each in ({}, changes))
    mine, other = (model.sparsify() if is_sparse else model for model in (mine, other))
    tokens, cache = some_tokens(small(), length=5), Cache(small(), 3)
    logits = mine(tokens[:, :4], cache=cache)
    cache.advance(3)
    with pytest.raises(InputError, match=f"was made for a model with {made}, and this one has {reads}; make one with"):
        other(tokens[:, 3:4], cache=cache)
    torch.testing.assert_close(mine(tokens[:, 3:4], cache=cache), logits[:, 3:], rtol=1e-4, atol=1e-4)


def test_a_cache_serves_models_of_one_config() -> None:
    models = [randomised(small(), seed) for seed in range(2)]
    cache = Cache(small(), 3)
    for model in models:
        model(some_tokens(small(), length=2), cache=cache)
        cache.advance(2)
    assert cache.lengths.tolist() == [4, 4, 4]


def test_what_does_not_fit_the_cache_is_refused_and_leaves_it_as_it_was() -> None:
    model, tokens = randomised(small()), some_tokens(small(), length=8)
    cache = Cache(model.config, 3, capacity=6)
    model(tokens[:, :4], cache=cache)
    cache.advance([4, 1, 1])
    for wrong, message in (
        (tokens[:, 4:7], "the cache holds 4 positions of at most 6, so 3 more do not fit"),
        (tokens[:2, 4:5], "tokens have 2 rows and the cache 3"),
    ):
        with pytest.raises(InputError, match=message):
            model(wrong, cache=cache)
    logits = model(tokens[:, 4:6], cache=cache)
    torch.testing.assert_close(logits[0], model(tokens)[0, 4:6].detach(), rtol=1e-11, atol=1e-11)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.usefixtures("unannotated")
def test_a_compiled_model_computes_the_same() -> None:
    config = small(n_layer=1, positions="learned", abs_topk_sites=("attn_q", "mlp_neuron"))
    model, tokens = randomised(config), some_tokens(config, length=7)
    with torch.no_grad():
        compiled, expected = torch.compile(model, backend="eager"), model(tokens)
        torch.testing.assert_close(compiled(tokens), expected)
        cache = Cache(config, 3)
        model(tokens[:, :4], cache=cache)
        cache.advance(4)
        torch.testing.assert_close(compiled(tokens[:, 4:], cache=cache), expected[:, 4:])


@pytest.mark.parametrize("narrow_first", [True, False])
def test_a_cache_is_read_on_in_another_precision(narrow_first: bool) -> None:
    config = small(abs_topk=None)  # which would choose otherwise after rounding
    model, tokens = randomised(config, dtype=torch.float32), some_tokens(config, length=6)
    cache, parts = Cache(model.config, len(tokens)), []
    for number, part in enumerate(tokens.split([3, 1, 2], dim=1)):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=narrow_first == (number == 0)):
            parts.append(model(part, cache=cache).float())
        cache.advance(part.shape[1])
    # As far apart as the two precisions are.
    torch.testing.assert_close(torch.cat(parts, dim=1), model(tokens).detach(), rtol=0, atol=0.2)
    narrow = randomised(config, dtype=torch.float32).bfloat16()
    cache = Cache(model.config, len(tokens))
    for reader in (model, narrow) if narrow_first else (narrow, model):
        reader(tokens[:, :2], cache=cache)
        cache.advance(2)
