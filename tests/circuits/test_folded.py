"""Few nodes evaluated folded are few nodes evaluated by the model's forward pass."""

import math
from typing import Any

import pytest
import torch
from foldable import assert_as_by_forward_pass, choices, chosen, found_by, made, questions
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sparse_circuits import kernels
from sparse_circuits.circuits.evaluator import Evaluator
from sparse_circuits.circuits.folded import Folds, folds
from sparse_circuits.circuits.logits import last_logits
from sparse_circuits.circuits.nodes import NodeSpace, keep_only
from sparse_circuits.errors import InputError
from sparse_circuits.kernels.folded import Table
from sparse_circuits.model import GPT
from sparse_circuits.tasks import Examples, task_losses

pytestmark = pytest.mark.usefixtures("compiled_kernels")


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
    assert_as_by_forward_pass(tables, kept, dropped, examples, keep_only(tables.space, kept, held))


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


def test_what_goes_wrong_is_asked_first_and_shows_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sparse_circuits.circuits.evaluator.ROWS", 1)
    model = made({}, 1, True)
    examples, space = questions(model, 3), NodeSpace(model.config)
    evaluate = Evaluator(model, examples, torch.zeros(space.total))
    kept = torch.zeros(space.total, dtype=torch.bool)
    loss = evaluate(kept)
    each = task_losses(evaluate.logits(kept), examples)
    asked = []
    original = Table.last_residuals
    monkeypatch.setattr(Table, "last_residuals", lambda *given: asked.append(1) or original(*given))
    monkeypatch.setattr("sparse_circuits.circuits.nearby.OFTEN", math.inf)
    assert loss == float(each.mean())
    assert evaluate(kept, 0.99 * float(each.max()) / len(each)) == math.inf
    assert len(asked) == 1
    assert evaluate(kept) == loss


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


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("name", ["wte", "h.0.mlp.c_fc", "h.1.attn.c_attn"])
def test_weights_that_are_not_finite_are_left_to_the_forward_pass(name: str, value: float) -> None:
    model = made({}, 1, False)
    with torch.no_grad():
        model.get_submodule(name).weight[1, 2] = value
    space = NodeSpace(model.config)
    none, examples = torch.zeros(space.total, dtype=torch.bool), questions(model, 1)
    held = torch.ones(space.total)
    expected = last_logits(model, examples, keep_only(space, none, held))
    assert torch.equal(Evaluator(model, examples, held).logits(none).isnan(), expected.isnan())


def test_an_edge_dropped_twice_is_dropped_once() -> None:
    model = made({"sink": True}, 3, False)
    kept, held, dropped = chosen(model, 3, 0.3)
    examples, tables = questions(model, 3), folds(model, held)
    assert tables is not None
    assert any(source[0].endswith("attn.v") for source, _ in dropped)
    once = found_by(tables, kept, dropped, examples)
    assert torch.equal(found_by(tables, kept, dropped * 2, examples), once)


def spoiled(model: GPT, how: str) -> Examples:
    """Questions that the model cannot read."""
    tokens, last = torch.zeros(2, 12, dtype=torch.int64), torch.tensor([3, 9])
    if how == "long":
        last[1] = 11
    elif how == "before the first":
        last[0] = -1
    else:
        tokens[0, 1] = {"unknown": model.config.vocab_size, "negative": -1}[how]
    return Examples(tokens, last, tokens[:, 0], tokens[:, 0], "two_token")


@pytest.mark.parametrize("how", ["long", "before the first", "unknown", "negative"])
def test_tokens_that_the_model_cannot_read_are_refused_as_by_the_forward_pass(how: str) -> None:
    model = made({"block_size": 10}, 1, False)
    examples, none = spoiled(model, how), torch.zeros(NodeSpace(model.config).total, dtype=torch.bool)
    evaluate = Evaluator(model, examples, torch.zeros(len(none)))
    with pytest.raises(InputError) as forward:
        evaluate.logits(~none)
    with pytest.raises(InputError) as folded:
        evaluate.logits(none)
    assert str(folded.value) == str(forward.value)


def rewrite(model: GPT, how: str) -> None:
    """Change a model so that it computes something else."""
    block = model.blocks[0]
    with torch.no_grad():
        if how == "in place":
            block.mlp.c_proj.weight.add_(1.0)
        elif how == "exchanged":
            block.mlp.c_proj.weight = nn.Parameter(block.mlp.c_proj.weight + 1)
        elif how == "data exchanged":
            block.mlp.c_proj.weight.data = block.mlp.c_proj.weight + 1
        elif how == "dtype":
            model.double()
        elif how == "hook":
            block.mlp.register_forward_hook(lambda module, given, result: result + 1)
        elif how == "optimiser":
            optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
            for parameter in model.parameters():
                parameter.grad = torch.ones_like(parameter)
            optimizer.step()
        else:
            model.final_logits_bias += torch.arange(model.config.vocab_size)


CHANGES = ["in place", "exchanged", "data exchanged", "dtype", "hook", "optimiser", "buffer"]


@pytest.mark.parametrize("how", CHANGES)
def test_an_evaluator_answers_for_the_model_as_it_is_now(how: str) -> None:
    model = made({}, 6, False)
    examples, space = questions(model, 6), NodeSpace(model.config)
    kept, held = torch.zeros(space.total, dtype=torch.bool), torch.ones(space.total)
    kept[space.slices["0.mlp.resid_delta"]] = True
    evaluate = Evaluator(model, examples, held)
    before = evaluate.logits(kept)
    rewrite(model, how)
    expected = last_logits(model, examples, keep_only(space, kept, held))
    assert not torch.allclose(before, expected) or how == "dtype"
    torch.testing.assert_close(evaluate.logits(kept), expected, rtol=1e-4, atol=1e-4)


def test_a_frozen_layers_new_matrix_is_seen() -> None:
    model, other = made({}, 6, True), made({}, 7, True)
    examples, space = questions(model, 6), NodeSpace(model.config)
    kept, held = torch.zeros(space.total, dtype=torch.bool), torch.ones(space.total)
    evaluate = Evaluator(model, examples, held)
    evaluate.logits(kept)
    model.lm_head.matrix = other.lm_head.matrix
    model.blocks[0].mlp.c_proj.matrix = other.blocks[0].mlp.c_proj.matrix
    expected = last_logits(model, examples, keep_only(space, kept, held))
    torch.testing.assert_close(evaluate.logits(kept), expected, rtol=1e-4, atol=1e-4)


def test_kernels_and_autocast_chosen_later_are_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    model = made({}, 1, False)
    space = NodeSpace(model.config)
    evaluate, none = Evaluator(model, questions(model, 1), torch.zeros(space.total)), torch.zeros(space.total).bool()
    calls = []
    original = Folds.batches_of_logits
    monkeypatch.setattr(Folds, "batches_of_logits", lambda *given: calls.append(1) or original(*given))
    with torch.autocast("cpu", torch.bfloat16):
        evaluate(none)
    with kernels.use("reference"):
        evaluate(none)
    assert not calls
    evaluate(none)
    assert calls


def test_a_twins_evaluator_has_its_edges_dropped_in_the_twin_alone() -> None:
    model, twin = made({}, 1, False), made({}, 2, False)
    kept, held, dropped = chosen(model, 5, 0.05)
    evaluate = Evaluator(model, questions(model, 1), held).without(dropped).on(twin)
    expected = last_logits(twin, evaluate.examples, keep_only(evaluate.space, kept, held))
    tables = folds(twin, held)
    assert tables is not None
    assert tables.suits(kept)
    torch.testing.assert_close(evaluate.logits(kept), expected, rtol=1e-4, atol=1e-4)


def test_a_model_made_in_inference_mode_is_folded() -> None:
    with torch.inference_mode():
        model = made({}, 1, False)
    examples, none = questions(model, 1), torch.zeros(NodeSpace(model.config).total).bool()
    evaluate = Evaluator(model, examples, torch.zeros(len(none)))
    expected = last_logits(model, examples, keep_only(evaluate.space, none, evaluate.held))
    torch.testing.assert_close(evaluate.logits(none), expected, rtol=1e-4, atol=1e-4)


def test_losses_do_not_depend_on_the_number_of_threads() -> None:
    model = made({}, 4, True)
    kept, held, _ = chosen(model, 4, 0.05)
    evaluate = Evaluator(model, questions(model, 4), held)
    alone = evaluate.logits(kept)
    torch.set_num_threads(3)  # the fixture sets it back
    assert torch.equal(evaluate.logits(kept), alone)
