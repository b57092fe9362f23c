"""The code in a Hub folder computes what our model computes, and keeps the promises that `transformers` models make."""

import ast
import inspect
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import randomised, small, some_tokens
from torch import Tensor, nn
from transformers import StaticCache
from variants import variants

from sparse_circuits.formats.hub import CODE
from sparse_circuits.formats.huggingface import from_transformers, to_transformers
from sparse_circuits.formats.modeling_sparse_circuits import (
    BLOCK_SITES,
    CACHE_FIELD,
    SparseCircuitsConfig,
    SparseCircuitsForCausalLM,
    abs_topk,
)
from sparse_circuits.model import GPT, sinusoids
from sparse_circuits.sites import site_names
from sparse_circuits.sparsity import abs_topk as our_abs_topk


def pair(seed: int = 0, **changes: Any) -> tuple[GPT, SparseCircuitsForCausalLM]:
    """Our model and theirs, in float64, so that no rounding turns AbsTopK's choice."""
    ours = randomised(small(**changes), seed)
    return ours, to_transformers(ours)


def test_the_file_stands_alone() -> None:
    imported = set()
    for node in ast.walk(ast.parse(CODE.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0
            imported.add(str(node.module).split(".")[0])
    assert imported == {"dataclasses", "math", "typing", "torch", "transformers"}


@settings(deadline=None, max_examples=30)
@given(variants(), st.integers(0, 99))
def test_logits_and_every_site_are_those_of_our_model(changes: dict[str, Any], seed: int) -> None:
    ours, theirs = pair(seed, **changes)
    tokens = some_tokens(ours.config)
    expected = ours.run(tokens, record="*")
    seen: dict[str, Tensor] = {}

    def hook(name: str) -> Any:
        return lambda module, arguments, activation: seen.__setitem__(name, activation)

    for name, module in theirs.sites.items():
        module.register_forward_hook(hook(name))
    logits = theirs(tokens).logits
    torch.testing.assert_close(logits, expected.logits, rtol=1e-9, atol=1e-9)
    assert list(seen) == site_names(ours.config)
    for name, activation in expected.sites.items():
        torch.testing.assert_close(seen[name], activation, rtol=1e-9, atol=1e-9)


def test_the_gelu_of_gpt2_is_computed_too() -> None:
    ours, theirs = pair(activation="gelu_tanh")
    tokens = some_tokens(ours.config)
    torch.testing.assert_close(theirs(tokens).logits, ours(tokens), rtol=1e-9, atol=1e-9)
    assert not torch.allclose(pair(activation="gelu")[0](tokens), ours(tokens), rtol=1e-9, atol=1e-9)


@settings(deadline=None, max_examples=12)
@given(variants(), st.integers(0, 99), st.data())
def test_what_a_hook_returns_is_used(changes: dict[str, Any], seed: int, data: st.DataObject) -> None:
    ours, theirs = pair(seed, **changes)
    tokens = some_tokens(ours.config)
    site = data.draw(st.sampled_from(site_names(ours.config)))
    expected = ours(tokens, tap=lambda name, x: x * 0.5 + 0.1 if name == site else x)
    handle = theirs.sites[site].register_forward_hook(lambda module, arguments, x: x * 0.5 + 0.1)
    torch.testing.assert_close(theirs(tokens).logits, expected, rtol=1e-9, atol=1e-9)
    handle.remove()
    torch.testing.assert_close(theirs(tokens).logits, ours(tokens), rtol=1e-9, atol=1e-9)


def test_sites_are_the_same_in_both_places() -> None:
    _, theirs = pair()
    assert tuple(name.removeprefix("0.") for name in site_names(small(n_layer=1))[:-1]) == BLOCK_SITES
    assert theirs.sites["1.attn.q"] is theirs.h[1].attn.q
    assert all(isinstance(module, nn.Identity) for module in theirs.sites.values())


@settings(deadline=None, max_examples=15)
@given(variants(), st.integers(0, 99), st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_reading_in_pieces_with_a_cache_is_reading_at_once(
    changes: dict[str, Any], seed: int, pieces: list[int]
) -> None:
    ours, theirs = pair(seed, **changes)
    tokens = some_tokens(ours.config, length=8)
    cache, start, parts = None, 0, []
    for width in pieces:
        chunk = tokens[:, start : start + width]
        if not chunk.shape[1]:
            break
        output = theirs(chunk, **{CACHE_FIELD: cache}, use_cache=True)
        cache, start = output[CACHE_FIELD], start + width
        parts.append(output.logits)
    read = torch.cat(parts, dim=1)
    torch.testing.assert_close(read, ours(tokens)[:, : read.shape[1]], rtol=1e-9, atol=1e-9)


@settings(deadline=None, max_examples=15)
@given(variants(), st.integers(0, 99), st.lists(st.integers(1, 6), min_size=2, max_size=4), st.booleans())
def test_rows_with_left_padding_are_those_rows_alone(
    changes: dict[str, Any], seed: int, lengths: list[int], cached: bool
) -> None:
    ours, theirs = pair(seed, **changes)
    width = max(lengths)
    tokens = some_tokens(ours.config, len(lengths), width + 2)
    mask = torch.ones_like(tokens)
    for row, length in enumerate(lengths):
        mask[row, : width - length] = 0
    if cached:
        first = theirs(tokens[:, :width], attention_mask=mask[:, :width])
        rest = theirs(tokens[:, width:], attention_mask=mask, **{CACHE_FIELD: first[CACHE_FIELD]})
        logits = torch.cat([first.logits, rest.logits], dim=1)
    else:
        logits = theirs(tokens, attention_mask=mask).logits
    assert bool(logits.isfinite().all())
    for row, length in enumerate(lengths):
        alone = ours(tokens[row : row + 1, width - length :])
        torch.testing.assert_close(logits[row : row + 1, width - length :], alone, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", ["boolean", "additive"])
def test_masks_of_four_dimensions(kind: str) -> None:
    ours, theirs = pair(positions="none")
    tokens = some_tokens(ours.config, length=6)
    seen = torch.ones(6, 6, dtype=torch.bool).tril()
    seen[3:, :2] = False
    mask: Tensor = seen[None, None].expand(3, 1, 6, 6)
    if kind == "additive":
        mask = torch.zeros(mask.shape, dtype=torch.float64).masked_fill_(~mask, torch.finfo(torch.float64).min)
    logits = theirs(tokens, attention_mask=mask).logits
    first, whole = theirs(tokens[:, :3]).logits, theirs(tokens).logits
    torch.testing.assert_close(logits[:, :3], first)
    assert not torch.allclose(logits[:, 3:], whole[:, 3:])


def test_a_static_cache_holds_keys_that_are_all_zero() -> None:
    """A key AbsTopK has emptied is a key: counting the nonzero ones would lose it."""
    ours, theirs = pair(abs_topk=0.1)
    with torch.no_grad():
        for block in theirs.h:
            block.attn.k.register_forward_hook(lambda module, arguments, k: torch.zeros_like(k))
    tokens = some_tokens(ours.config, length=6)
    whole = theirs(tokens).logits
    # Versions before 4.54 want to know the batch and the precision.
    known = {"max_batch_size": len(tokens), "dtype": torch.float64}
    taken = inspect.signature(StaticCache.__init__).parameters
    cache = StaticCache(config=theirs.config, max_cache_len=8, **{n: v for n, v in known.items() if n in taken})
    places = torch.arange(6)
    parts = [
        theirs(tokens[:, part], **{CACHE_FIELD: cache}, cache_position=places[part]).logits
        for part in (slice(0, 3), slice(3, 4), slice(4, 6))
    ]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole)


def test_hidden_states_attentions_and_loss() -> None:
    ours, theirs = pair(n_layer=3)
    tokens = some_tokens(ours.config)
    sites = ours.run(tokens, record=["*.resid_in", "final_resid"]).sites
    output = theirs(tokens, labels=tokens, output_hidden_states=True, output_attentions=True)
    assert len(output.hidden_states) == 4
    for layer in range(3):
        torch.testing.assert_close(output.hidden_states[layer], sites[f"{layer}.resid_in"])
    torch.testing.assert_close(output.hidden_states[3], ours.ln_f(sites["final_resid"]))
    expected = -ours(tokens)[:, :-1].log_softmax(-1).gather(-1, tokens[:, 1:, None]).mean()
    torch.testing.assert_close(output.loss.double(), expected, rtol=1e-5, atol=1e-5)
    weights = torch.stack(output.attentions)
    assert weights.shape == (3, 3, 3, 7, 7)
    assert not bool(weights.triu(1).any())
    assert bool((weights.sum(-1) < 1).all()), "the sink takes its share"
    logits, *rest = theirs(tokens, return_dict=False)
    torch.testing.assert_close(logits, output.logits)
    assert len(rest) == 1, "the cache"
    assert theirs(tokens, use_cache=False).get(CACHE_FIELD) is None


@pytest.mark.parametrize("table", ["none", "fixed"])
def test_embeddings_instead_of_tokens(table: str) -> None:
    ours, theirs = pair(bigram_table=table)
    tokens = some_tokens(ours.config)
    embedded = theirs.get_input_embeddings()(tokens)
    given_too = None if table == "none" else tokens
    torch.testing.assert_close(theirs(given_too, inputs_embeds=embedded).logits, ours(tokens))
    if table != "none":
        with pytest.raises(ValueError, match="the bigram table still needs them"):
            theirs(inputs_embeds=embedded)
    with pytest.raises(ValueError, match="input_ids are missing"):
        theirs()


def test_logits_are_kept_where_asked() -> None:
    ours, theirs = pair()
    tokens = some_tokens(ours.config)
    whole = ours(tokens)
    for kept in (1, 3, torch.tensor([2, 5])):
        expected = whole[:, -kept:] if isinstance(kept, int) else whole[:, kept]
        torch.testing.assert_close(theirs(tokens, logits_to_keep=kept).logits, expected)


def test_more_positions_than_the_block_are_refused_and_padding_is_none() -> None:
    ours, theirs = pair()
    tokens = some_tokens(ours.config, length=9)
    with pytest.raises(ValueError, match="9 positions, but the model reads at most 8"):
        theirs(tokens)
    with pytest.raises(ValueError, match="9 positions"):
        theirs(tokens[:, 8:], **{CACHE_FIELD: theirs(tokens[:, :8])[CACHE_FIELD]})
    mask = torch.ones_like(tokens)
    mask[:, 0] = 0
    torch.testing.assert_close(theirs(tokens, attention_mask=mask).logits[:, 1:], ours(tokens[:, 1:]))


@settings(deadline=None)
@given(st.lists(st.sampled_from([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0]), min_size=1, max_size=12), st.integers(1, 12))
def test_abs_topk_breaks_ties_as_ours_does(row: list[float], k: int) -> None:
    x = torch.tensor([row, row[::-1]])
    assert torch.equal(abs_topk(x, k), our_abs_topk(x, k))


def test_gradients_reach_the_weights() -> None:
    ours, theirs = pair(positions="learned")
    tokens = some_tokens(ours.config)
    ours(tokens).sum().backward()
    theirs.train()(tokens).logits.sum().backward()
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(theirs.get_parameter(name).grad, parameter.grad)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_lower_precisions_stay_near(dtype: torch.dtype) -> None:
    ours = randomised(small(abs_topk=None, positions="learned_concat", d_position=4)).to(dtype)
    theirs = to_transformers(ours)
    assert theirs.dtype == dtype
    tokens = some_tokens(ours.config)
    tolerance = 1e-5 if dtype == torch.float32 else 0.1
    torch.testing.assert_close(theirs(tokens).logits, ours(tokens), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    "changes", [{}, {"tied_embeddings": True}, {"positions": "sinusoidal_concat", "d_position": 4}]
)
def test_there_and_back_in_memory(changes: dict[str, Any]) -> None:
    ours = randomised(small(**changes), dtype=torch.float32)
    theirs = to_transformers(ours)
    back = from_transformers(theirs)
    assert back.config == ours.config
    assert all(torch.equal(back.state_dict()[name], tensor) for name, tensor in ours.state_dict().items())
    assert (back.lm_head.weight is back.wte.weight) == ours.config.tied_embeddings
    shared = theirs.get_output_embeddings().weight is theirs.get_input_embeddings().weight
    assert shared == ours.config.tied_embeddings


def test_fresh_weights_are_small_and_waves_are_waves() -> None:
    torch.manual_seed(0)
    config = SparseCircuitsConfig(
        vocab_size=300, block_size=32, n_layer=2, d_model=64, n_head=4, positions="sinusoidal_concat", d_position=7
    )
    theirs = SparseCircuitsForCausalLM(config)
    torch.testing.assert_close(theirs.wpe.weight, sinusoids(32, 7))
    assert not theirs.wpe.weight.requires_grad
    assert theirs.h[0].attn.c_attn.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert theirs.h[0].mlp.c_proj.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert 0.019 < theirs.bigram_table.max().item() <= 0.02
    for name, parameter in theirs.named_parameters():
        if name.endswith("bias") or name.endswith("sink_logit"):
            assert not bool(parameter.any()), name


def test_sizes_go_by_the_names_of_transformers_too() -> None:
    config = SparseCircuitsConfig(d_model=12, n_head=3, n_layer=2, block_size=8)
    sizes = (config.hidden_size, config.num_attention_heads, config.num_hidden_layers, config.max_position_embeddings)
    assert sizes == (12, 3, 2, 8)
    assert (config.head_dim, config.intermediate_size) == (4, 48)
