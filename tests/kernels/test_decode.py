"""Reading one token with a cache by the compiled step is reading it by the blocks of the model."""

from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import randomised, small, some_tokens
from torch import Tensor

from sparse_circuits import kernels
from sparse_circuits.cache import Cache
from sparse_circuits.config import ABS_TOPK_SITES, GPTConfig
from sparse_circuits.kernels import decode
from sparse_circuits.model import GPT

pytestmark = pytest.mark.usefixtures("one_thread")

positions = st.sampled_from(
    [
        {},
        {"positions": "learned"},
        {"positions": "learned_concat", "d_position": 4},
        {"positions": "sinusoidal_concat", "d_position": 5},
    ]
)
choices = st.builds(
    lambda places, **others: {"block_size": 40, **places, **others},
    positions,
    norm=st.sampled_from(["rms", "layer"]),
    bias=st.booleans(),
    sink=st.booleans(),
    tied_embeddings=st.booleans(),
    d_model=st.sampled_from([12, 66]),
    d_head=st.sampled_from([None, 5, 16]),
    activation=st.sampled_from(["gelu", "relu"]),
    residual_activation=st.sampled_from(["none", "relu"]),
    bigram_table=st.sampled_from(["none", "learned", "fixed"]),
    abs_topk=st.sampled_from([None, 0.3, 0.8]),
    abs_topk_sites=st.sets(st.sampled_from(ABS_TOPK_SITES)).map(lambda sites: tuple(sorted(sites))),
)


def frozen(config: GPTConfig, seed: int = 0) -> GPT:
    """A sparse model of which some entries are zero; the embedding is sparse where `seed` is odd."""
    model = randomised(config, seed, torch.float32)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if tensor.ndim == 2 and name.startswith(("h.", "lm_head")):
                tensor *= torch.rand(tensor.shape, generator=generator) < 0.4
            if name == "wte.weight" and seed % 2:
                tensor *= torch.rand(tensor.shape, generator=generator) < 0.2
    return model.sparsify()


def filled(model: GPT, texts: Tensor, lengths: list[int]) -> Cache:
    cache = Cache(model.config, len(texts))
    model(texts[:, : max(lengths)], cache=cache)
    cache.advance(lengths)
    return cache


def compiled(model: GPT, tokens: Tensor, cache: Cache) -> Tensor:
    """The step itself, which must not decline."""
    cache.begin(tokens, model.config)
    with torch.no_grad():
        logits = decode.logits(model, tokens, cache)
    assert logits is not None
    return logits


def by_blocks(model: GPT, tokens: Tensor, cache: Cache) -> Tensor:
    """The ordinary forward pass: an identity as tap leaves nothing to the compiled step."""
    return model(tokens, tap=lambda site, activation: activation, cache=cache)


def assert_close(left: Tensor, right: Tensor) -> None:
    """Equal to 1e-5 of the largest number there is."""
    size = max(1.0, float(right.nan_to_num(0, 0, 0).abs().max()))
    torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-5 * size, equal_nan=True)


def assert_same_cache(left: Cache, right: Cache) -> None:
    for one, other in zip(left.layers, right.layers, strict=True):
        assert one.held is not None
        assert other.held is not None
        for row, count in enumerate(left.lengths.tolist()):
            for a, b in zip(one.held, other.held, strict=True):
                assert_close(a[row, :count], b[row, :count])


@given(changes=choices, lengths=st.lists(st.integers(1, 33), min_size=1, max_size=3), seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_the_step_is_the_forward_pass(changes: dict[str, Any], lengths: list[int], seed: int) -> None:
    config = small(**changes)
    model = frozen(config, seed)
    texts = some_tokens(config, rows=len(lengths), length=40, seed=seed)
    ours, theirs = filled(model, texts, lengths), filled(model, texts, lengths)
    for step in range(3):
        tokens = texts[:, step : step + 1]
        assert_close(compiled(model, tokens, ours), by_blocks(model, tokens, theirs))
        ours.advance(1)
        theirs.advance(1)
    assert_same_cache(ours, theirs)


def tied(model: GPT) -> None:
    """Make many activations equal: no weight but biases of one magnitude."""
    for block in model.blocks:
        for layer in (block.attn.c_attn, block.mlp.c_fc):
            with torch.no_grad():
                assert layer.bias is not None
                layer.bias.copy_(layer.bias.sign())
            assert layer.matrix is not None
            layer.matrix.value.zero_()
            layer.matrix.transposed().value.zero_()


@pytest.mark.parametrize("wrong", [None, float("nan"), float("inf")], ids=["ties", "nan", "inf"])
def test_ties_and_weights_that_are_no_numbers(wrong: float | None) -> None:
    model = randomised(small(), dtype=torch.float32)
    if wrong is not None:
        with torch.no_grad():
            model.blocks[1].attn.c_attn.weight[14, 3] = wrong
    model = model.sparsify()
    if wrong is None:
        tied(model)
    texts = some_tokens(model.config, length=8)
    ours, theirs = filled(model, texts, [7, 3, 5]), filled(model, texts, [7, 3, 5])
    tokens = texts[:, :1]
    expected = by_blocks(model, tokens, theirs)
    assert wrong is None or not expected.isfinite().all()
    assert_close(compiled(model, tokens, ours), expected)
    assert ours.longest + 1 == ours.capacity


def test_what_else_is_done_with_the_cache_is_seen() -> None:
    """Guesses, other ways to read, rows that move and parameters that are exchanged, between steps."""
    model = frozen(small(block_size=20, positions="learned"))
    texts = some_tokens(model.config, rows=3, length=20)
    ours, theirs = filled(model, texts, [5, 2, 4]), filled(model, texts, [5, 2, 4])
    for step in range(5):
        tokens = texts[: len(ours.lengths), step : step + 1]
        assert_close(compiled(model, tokens, ours), by_blocks(model, tokens, theirs))
        for cache in (ours, theirs):
            cache.advance(0 if step == 0 else 1)
            if step == 1:
                by_blocks(model, tokens, cache)
                cache.advance(1)
            if step == 2:
                cache.take([2, 0])
        if step == 3:
            model.ln_f.weight = torch.nn.Parameter(2 * model.ln_f.weight.detach(), requires_grad=False)
    assert_same_cache(ours, theirs)


@given(
    actions=st.lists(st.sampled_from(["step", "guess", "blocks", "several", "drop", "copy"]), min_size=2, max_size=7),
    wrong=st.sampled_from([None, float("nan"), float("inf")]),
)
@settings(max_examples=25, deadline=None)
def test_the_cache_may_be_used_in_any_way_between_steps(actions: list[str], wrong: float | None) -> None:
    model = frozen(small(block_size=20, abs_topk=0.3, abs_topk_sites=("attn_q", "attn_k")))
    texts = some_tokens(model.config, rows=4, length=20)
    ours, theirs = filled(model, texts[:3], [5, 2, 4]), filled(model, texts[:3], [5, 2, 4])
    for cache in (ours, theirs):
        held = cache.layers[1].held
        assert held is not None
        if wrong is not None:
            held[0][0, 0, 3] = wrong
    for number, action in enumerate([*actions, "step"]):
        tokens = texts[: len(ours.lengths), number : number + (2 if action == "several" else 1)]
        if action in ("step", "guess"):
            assert_close(compiled(model, tokens, ours), by_blocks(model, tokens, theirs))
        for cache in (ours, theirs):
            if action in ("step", "guess"):
                cache.advance([0, 1, 0, 1][: len(tokens)] if action == "guess" else 1)
            elif action in ("blocks", "several"):
                by_blocks(model, tokens, cache)
                cache.advance(1)
            else:
                cache.take([0, 2, 1, 2][: len(tokens)] if action == "copy" else [len(tokens) - 1])
    assert_same_cache(ours, theirs)


def replaced_forward(model: GPT) -> None:
    mlp = model.blocks[0].mlp
    forward = mlp.forward
    vars(mlp)["forward"] = lambda x, tap: 2 * forward(x, tap)


def changed_epsilon(model: GPT) -> None:
    vars(model.blocks[1].ln_1)["eps"] = 0.5


def changed_epsilons(model: GPT) -> None:
    for module in model.modules():
        if isinstance(module, torch.nn.RMSNorm):
            module.eps = 0.5


def sent_embedding(model: GPT) -> None:
    """Sending it moves it into memory that both processes share."""
    matrix = model.wte.matrix
    assert matrix is not None
    before = matrix.value.data_ptr()
    ForkingPickler.dumps(model.wte)
    assert matrix.value.data_ptr() != before
    # Whoever still reads where the old one lay reads this.
    matrix.value.mul_(2)


@pytest.mark.parametrize("change", [replaced_forward, changed_epsilon, changed_epsilons, sent_embedding])
def test_what_changes_after_the_first_step_is_seen(change: Callable[[GPT], None]) -> None:
    model = frozen(small(block_size=20), seed=1)
    texts = some_tokens(model.config, rows=2, length=10)
    ours, theirs = filled(model, texts, [5, 2]), filled(model, texts, [5, 2])
    assert_close(compiled(model, texts[:, 5:6], ours), by_blocks(model, texts[:, 5:6], theirs))
    for cache in (ours, theirs):
        cache.advance(1)
    before = by_blocks(model, texts[:, 6:7], theirs)
    change(model)
    expected = by_blocks(model, texts[:, 6:7], theirs)
    assert not torch.allclose(before, expected, rtol=1e-3, atol=1e-3)
    assert_close(model(texts[:, 6:7], cache=ours), expected)


@pytest.mark.parametrize("changes", [{"d_head": 5}, {"n_layer": 1}, {"n_layer": 3}, {"block_size": 19}], ids=str)
def test_a_cache_of_other_sizes_is_not_written_to(changes: dict[str, Any]) -> None:
    model, other = frozen(small(block_size=20)), frozen(small(**{"block_size": 20, **changes}))
    texts = some_tokens(model.config, rows=2, length=10)
    cache = filled(model, texts, [5, 2])
    assert decode.logits(other, texts[:, 5:6], cache) is None
    compiled(model, texts[:, 5:6], cache)
    assert decode.logits(other, texts[:, 5:6], cache) is None


def test_no_memory_once_is_not_no_memory_for_ever() -> None:
    model = frozen(small(block_size=20))
    texts = some_tokens(model.config, rows=2, length=10)
    ours, theirs = filled(model, texts, [5, 2]), filled(model, texts, [5, 2])
    compiled(model, texts[:, 5:6], ours)
    job = decode._plans[ours]._job
    room, job.room = job.room, 1 << 55
    with pytest.raises(MemoryError):
        compiled(model, texts[:, 5:6], ours)
    job.room = room
    assert_close(compiled(model, texts[:, 5:6], ours), by_blocks(model, texts[:, 5:6], theirs))


def test_keys_are_held_once() -> None:
    """The step turns the cache's own; whatever else writes gets them as they were."""
    model = frozen(small(block_size=20))
    texts = some_tokens(model.config, rows=2, length=20)
    cache = filled(model, texts, [5, 2])
    before = [layer.held for layer in cache.layers]
    compiled(model, texts[:, 5:6], cache)
    cache.advance(1)
    for layer, old in zip(cache.layers, before, strict=True):
        assert layer.held is not None
        assert old is not None
        keys, values = layer.held
        assert keys.stride(1) == 1
        assert keys.untyped_storage().nbytes() == 4 * 2 * keys.shape[2] * 32
        assert torch.equal(keys[0, :5], old[0][0, :5])
        assert values is old[1]
    by_blocks(model, texts[:, 6:7], cache)
    assert all(layer.held is not None and layer.held[0].is_contiguous() for layer in cache.layers)


def test_it_is_used_where_it_may_be() -> None:
    config = small()
    model, texts = frozen(config), some_tokens(config, length=8)
    cache = filled(model, texts, [4, 4, 4])

    def logits(of: GPT, tokens: Tensor) -> Tensor | None:
        with torch.no_grad():
            return decode.logits(of, tokens, cache)

    assert logits(model, texts[:, :1]) is not None
    assert logits(model, texts[:, :2]) is None
    assert logits(randomised(config, dtype=torch.float32), texts[:, :1]) is None
    with kernels.use("reference"):
        assert logits(model, texts[:, :1]) is None
    handle = model.blocks[0].register_forward_hook(lambda *_: None)
    assert logits(model, texts[:, :1]) is None
    handle.remove()
    assert logits(model, texts[:, :1]) is not None
