"""The opponent computes what the model computes."""

from typing import Any

import pytest
import torch
from conftest import sides
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import small, some_tokens

from sparse_circuits.bench.opponent import Cache, Dense, Mask, dense_twin, topk_and_scatter
from sparse_circuits.circuits.nodes import Hold, NodeSpace
from sparse_circuits.errors import InputError
from sparse_circuits.sparsity import abs_topk

SHAPES: list[dict[str, Any]] = [
    {},
    {"abs_topk": None},
    {"positions": "learned_concat", "d_position": 3, "d_head": 2},
]


@pytest.mark.parametrize("changes", SHAPES)
def test_logits_are_the_models(changes: dict[str, Any]) -> None:
    model, dense = sides(**changes)
    tokens = some_tokens(model.config)
    with torch.no_grad():
        expected = model(tokens)
        torch.testing.assert_close(dense(tokens), expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(dense(tokens, last=True), expected[:, -1], rtol=1e-4, atol=1e-4)
    # The path for training computes attention in another way.
    torch.testing.assert_close(dense(tokens), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("changes", SHAPES)
def test_it_writes_what_the_model_writes_with_and_without_a_cache(changes: dict[str, Any]) -> None:
    model, dense = sides(**changes)
    prompt = some_tokens(model.config, rows=2, length=3)
    expected = model.generate(prompt, 4, temperature=0.0)
    assert torch.equal(dense.generate(prompt, 4, keep=False), expected)
    assert torch.equal(dense.generate(prompt, 4, keep=True), expected)


def test_a_cache_may_be_filled_in_pieces() -> None:
    model, dense = sides()
    tokens = some_tokens(model.config, length=7)
    cache = Cache(model.config, len(tokens), 7, dense.ln_f.weight)
    with torch.no_grad():
        pieces = [dense(part, cache=cache) for part in tokens.split([3, 1, 3], dim=1)]
        torch.testing.assert_close(torch.cat(pieces, dim=1), model(tokens), rtol=1e-4, atol=1e-4)


def test_masks_are_those_of_pruning_with_their_gradients() -> None:
    model, dense = sides(positions="learned_concat", d_position=3)
    model.requires_grad_(False)
    space, tokens = NodeSpace(model.config), some_tokens(model.config)
    generator = torch.Generator().manual_seed(2)
    keep = torch.rand(space.total, generator=generator).requires_grad_()
    held = torch.randn(space.total, generator=generator)
    expected = model(tokens, tap=Hold(space, keep, held))
    found = dense(tokens, masks={site: Mask(keep[part], held[part]) for site, part in space.slices.items()})
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    (wanted,) = torch.autograd.grad(expected.square().mean(), keep)
    (got,) = torch.autograd.grad(found.square().mean(), keep)
    torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("changes", SHAPES)
def test_gradients_of_weights_are_the_models(changes: dict[str, Any]) -> None:
    model, dense = sides(**changes)
    dense.requires_grad_(True)
    tokens = some_tokens(model.config)
    names = [name for name, _ in dense.named_parameters()]
    mine = torch.autograd.grad(model(tokens).square().mean(), [model.get_parameter(name) for name in names])
    theirs = torch.autograd.grad(dense(tokens).square().mean(), [dense.get_parameter(name) for name in names])
    for gradient, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(other, gradient, rtol=1e-3, atol=1e-3 * float(gradient.abs().max()))


def test_in_float32_it_shares_the_models_memory_and_in_bfloat16_it_does_not() -> None:
    model, dense = sides()
    assert dense.lm_head.weight.data_ptr() == model.lm_head.weight.data_ptr()
    half = dense_twin(model, model.config, torch.bfloat16)
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}


def test_shapes_that_were_not_released_are_refused() -> None:
    for change in ({"sink": False}, {"activation": "relu"}, {"tied_embeddings": True}):
        with pytest.raises(InputError, match="released shape"):
            Dense(small(**change))


@settings(deadline=None)
@given(st.integers(1, 6), st.integers(1, 12), st.integers(0, 1000), st.booleans())
def test_topk_and_scatter_is_abs_topk_where_nothing_ties(rows: int, width: int, seed: int, ordered: bool) -> None:
    x = torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))
    for k in range(1, width + 1):
        assert torch.equal(topk_and_scatter(x, k, ordered), abs_topk(x, k))
