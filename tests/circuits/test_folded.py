"""Few nodes evaluated folded are few nodes evaluated by the model's forward pass."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import randomised, small
from torch import Tensor, nn

from sparse_circuits import kernels
from sparse_circuits.circuits import edges
from sparse_circuits.circuits.evaluator import Evaluator
from sparse_circuits.circuits.folded import Folds, folds
from sparse_circuits.circuits.logits import last_logits
from sparse_circuits.circuits.nodes import NodeSpace, keep_only
from sparse_circuits.circuits.twin import Link, without
from sparse_circuits.config import ABS_TOPK_SITES
from sparse_circuits.model import GPT
from sparse_circuits.tasks import Examples


@pytest.fixture(autouse=True)
def compiled_kernels(plain_kernels: None) -> Iterator[None]:
    """The compiled kernels after all."""
    with kernels.use("auto"):
        yield


positions = st.sampled_from(
    [
        {},
        {"positions": "learned"},
        {"positions": "learned_concat", "d_position": 4},
        {"positions": "sinusoidal_concat", "d_position": 5},
    ]
)
choices = st.builds(
    lambda places, **others: {"block_size": 10, **places, **others},
    positions,
    norm=st.sampled_from(["rms", "layer"]),
    bias=st.booleans(),
    sink=st.booleans(),
    n_layer=st.sampled_from([1, 3]),
    d_head=st.sampled_from([None, 5]),
    activation=st.sampled_from(["gelu", "relu"]),
    residual_activation=st.sampled_from(["none", "relu"]),
    bigram_table=st.sampled_from(["none", "learned", "fixed"]),
    abs_topk=st.sampled_from([None, 0.3, 0.8]),
    abs_topk_sites=st.sets(st.sampled_from(ABS_TOPK_SITES)).map(lambda sites: tuple(sorted(sites))),
)


def made(choice: dict[str, Any], seed: int, sparse: bool) -> GPT:
    model = randomised(small(**choice), seed, torch.float32)
    if not sparse:
        return model
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if tensor.ndim == 2 and name.startswith(("h.", "lm_head", "wte")):
                tensor *= torch.rand(tensor.shape, generator=generator) < 0.5
    return model.sparsify()


def questions(model: GPT, seed: int) -> Examples:
    """Rows of unequal lengths, two sides of three pairs."""
    config, generator = model.config, torch.Generator().manual_seed(seed)
    tokens = torch.randint(config.vocab_size, (6, config.block_size), generator=generator)
    last = torch.randint(config.block_size, (6,), generator=generator)
    answers = torch.randint(config.vocab_size, (6,), generator=generator)
    return Examples(tokens, last, answers, answers.roll(3), "two_token")


def chosen(model: GPT, seed: int, part: float) -> tuple[Tensor, Tensor, list[Link]]:
    """Some nodes, what the others are held at, and edges to drop: some between kept nodes, some from removed ones."""
    space, generator = NodeSpace(model.config), torch.Generator().manual_seed(seed)
    kept = torch.rand(space.total, generator=generator) < part
    held = torch.randn(space.total, generator=generator)
    everything = space.by_site(torch.ones_like(kept))
    links = [(edge.source, edge.target) for edge in edges.edges(model, everything)]
    picked = torch.rand(len(links), generator=generator) < 0.1
    return kept, held, [link for link, is_cut in zip(links, picked.tolist(), strict=True) if is_cut]


def found_by(tables: Folds, kept: Tensor, dropped: list[Link], examples: Examples) -> Tensor:
    logits = torch.full((len(examples.last), tables.model.config.vocab_size), torch.nan)
    for rows, part in tables.batches_of_logits(kept, dropped, examples):
        logits[rows] = part
    return logits


@settings(deadline=None, max_examples=60)
@given(choices, st.integers(0, 10_000), st.booleans(), st.sampled_from([0.0, 0.1, 0.5, 1.0]), st.booleans())
def test_folded_logits_are_those_of_the_forward_pass(
    choice: dict[str, Any], seed: int, sparse: bool, part: float, cut: bool
) -> None:
    model = made(choice, seed, sparse)
    kept, held, dropped = chosen(model, seed, part)
    dropped = dropped if cut else []
    examples = questions(model, seed)
    tables = folds(model, held)
    assert tables is not None
    twin = without(model, dropped, held)
    expected = last_logits(twin, examples, keep_only(tables.space, kept, held))
    with kernels.use("reference"):
        plain = last_logits(twin, examples, keep_only(tables.space, kept, held))
    # AbsTopK turns rounding into choices: where two forward passes of the model differ, so may this one.
    if torch.allclose(expected, plain, rtol=1e-4, atol=1e-4):
        torch.testing.assert_close(found_by(tables, kept, dropped, examples), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("count", [7, 8, 9, 40])
def test_many_kept_channels_of_a_site_are_chosen_as_few_are(count: int) -> None:
    model = made({"block_size": 10, "d_model": 48, "abs_topk": 0.25}, 3, True)
    space = NodeSpace(model.config)
    kept = torch.ones(space.total, dtype=torch.bool)
    for part in space.slices.values():
        kept[part.start + count : part.stop] = False
    held, examples = torch.randn(space.total, generator=torch.Generator().manual_seed(1)), questions(model, 0)
    tables = folds(model, held)
    assert tables is not None
    expected = last_logits(model, examples, keep_only(space, kept, held))
    torch.testing.assert_close(found_by(tables, kept, [], examples), expected, rtol=1e-4, atol=1e-4)


def test_of_equal_entries_the_first_stay_here_too() -> None:
    model = made({"n_layer": 1, "abs_topk": 0.25, "abs_topk_sites": ("mlp_neuron",)}, 5, False)
    with torch.no_grad():  # all neurons alike: those of the first quarter stay
        model.blocks[0].mlp.c_fc.weight.copy_(
            model.blocks[0].mlp.c_fc.weight[:1].expand_as(model.blocks[0].mlp.c_fc.weight)
        )
        assert model.blocks[0].mlp.c_fc.bias is not None
        model.blocks[0].mlp.c_fc.bias.fill_(0.3)
    space = NodeSpace(model.config)
    examples, held = questions(model, 2), torch.zeros(space.total)
    tables = folds(model, held)
    assert tables is not None
    first = space.slices["0.mlp.post_act"].start
    for neuron in (0, 11, 12, 47):
        kept = torch.ones(space.total, dtype=torch.bool)
        kept[space.slices["0.mlp.post_act"]] = False
        kept[first + neuron] = True
        expected = last_logits(model, examples, keep_only(space, kept, held))
        torch.testing.assert_close(found_by(tables, kept, [], examples), expected, rtol=1e-4, atol=1e-4)


def test_an_evaluator_folds_few_nodes_and_not_many(monkeypatch: pytest.MonkeyPatch) -> None:
    model = made({}, 1, True)
    examples, space = questions(model, 1), NodeSpace(model.config)
    evaluate = Evaluator(model, examples, torch.zeros(space.total))
    calls = []
    original = Folds.batches_of_logits
    monkeypatch.setattr(Folds, "batches_of_logits", lambda *given: calls.append(1) or original(*given))
    kept = torch.zeros(space.total, dtype=torch.bool)
    evaluate(kept)
    assert len(calls) == 1
    evaluate(~kept)
    assert len(calls) == 1


def unknown(change: str) -> GPT:
    model = made({}, 1, False)
    if change == "double":
        return model.double()
    if change == "hook":
        model.blocks[0].register_forward_hook(lambda *given: None)
    if change == "module":
        model.blocks[0].mlp.c_fc = nn.Linear(12, 48)  # type: ignore[assignment]
    return model


@pytest.mark.parametrize("change", ["double", "hook", "module"])
def test_models_it_does_not_know_are_left_to_the_forward_pass(change: str) -> None:
    model = unknown(change)
    assert folds(model, torch.zeros(NodeSpace(model.config).total)) is None


def test_infinite_values_to_hold_nodes_at_are_left_to_the_forward_pass() -> None:
    model = made({}, 1, False)
    assert folds(model, torch.full((NodeSpace(model.config).total,), torch.inf)) is None


def test_losses_do_not_depend_on_the_number_of_threads() -> None:
    model = made({}, 4, True)
    kept, held, _ = chosen(model, 4, 0.05)
    evaluate = Evaluator(model, questions(model, 4), held)
    alone = evaluate.logits(kept)
    torch.set_num_threads(3)  # the fixture sets it back
    assert torch.equal(evaluate.logits(kept), alone)
