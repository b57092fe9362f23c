"""Removed nodes that take other prompts' values: folded, it is the forward pass under `Resampled`."""

import gc
import math
import weakref
from typing import Any

import pytest
import torch
from foldable import assert_as_by_forward_pass, choices, chosen, found_by, made, questions
from hypothesis import given, settings
from hypothesis import strategies as st

from sparse_circuits.circuits import folded_resampled
from sparse_circuits.circuits.ablation import Counterparts, Resampled
from sparse_circuits.circuits.evaluator import FEW_QUESTIONS, Evaluator
from sparse_circuits.circuits.folded import Folds, folds
from sparse_circuits.circuits.folded_resampled import ResampledFolds, bytes_needed, resampled_folds
from sparse_circuits.circuits.logits import last_logits
from sparse_circuits.circuits.nodes import NodeSpace
from sparse_circuits.tasks import task_losses

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
    others = Counterparts(model, examples, seed)
    tables = resampled_folds(model, held, others, examples)
    assert tables is not None
    assert_as_by_forward_pass(tables, kept, dropped, examples, Resampled(tables.space, kept, others))


def test_a_choice_begins_where_it_differs_from_the_last_ones() -> None:
    """Streams that are kept belong to the rows of all examples, whichever are asked."""
    model = made({"block_size": 10, "abs_topk": 0.5}, 3, True)
    examples = questions(model, 5)
    kept, held, _ = chosen(model, 5, 0.3)
    others = Counterparts(model, examples, 0)
    tables = resampled_folds(model, held, others, examples)
    assert tables is not None
    fewer = kept.clone()
    fewer[tables.space.slices["1.mlp.post_act"]] = False
    streams = tables.streams(kept, [], examples)
    rows = torch.tensor([4, 1])
    ((_, part),) = tables.batches_of_logits(fewer, [], examples, [rows], streams, streams.before(3))
    expected = last_logits(model, examples, Resampled(tables.space, fewer, others))[rows]
    torch.testing.assert_close(part, expected, rtol=1e-4, atol=1e-4)


def test_an_evaluator_folds_few_nodes_and_not_many(monkeypatch: pytest.MonkeyPatch) -> None:
    model = made({}, 1, True)
    examples, space = questions(model, 1), NodeSpace(model.config)
    others = Counterparts(model, examples, 0)
    evaluate = Evaluator(model, examples, torch.zeros(space.total), others)
    calls = []
    original = Folds.batches_of_logits
    monkeypatch.setattr(Folds, "batches_of_logits", lambda *given: calls.append(type(given[0])) or original(*given))
    kept = torch.zeros(space.total, dtype=torch.bool)
    kept[:3] = True
    expected = task_losses(last_logits(model, examples, Resampled(space, kept, others)), examples).mean()
    for _ in range(FEW_QUESTIONS):  # so few are answered sooner the ordinary way
        assert evaluate(kept) == pytest.approx(float(expected), abs=1e-5)
    assert calls == []
    assert evaluate(kept) == pytest.approx(float(expected), abs=1e-5)
    assert calls == [ResampledFolds]
    assert evaluate(kept, limit=evaluate(kept) / 2) == math.inf
    evaluate(~kept)
    assert len(calls) == 3  # not for many


def test_what_takes_too_much_room_is_left_to_the_forward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    model = made({}, 1, True)
    examples, space = questions(model, 1), NodeSpace(model.config)
    others = Counterparts(model, examples, 0)
    tables = resampled_folds(model, torch.zeros(space.total), others, examples)
    assert tables is not None
    kept = sum(tensor.nbytes for layer in tables.layers for tensor in layer.there.values())  # type: ignore[attr-defined]
    assert kept == bytes_needed(model, examples)
    monkeypatch.setattr(folded_resampled, "MOST_BYTES", kept - 1)
    assert resampled_folds(model, torch.zeros(space.total), others, examples) is None


def test_weights_that_are_not_finite_are_left_to_the_forward_pass() -> None:
    model = made({}, 1, True)
    examples, held = questions(model, 1), torch.zeros(NodeSpace(model.config).total)
    others = Counterparts(model, examples, 0)
    held[0] = torch.nan
    assert resampled_folds(model, held, others, examples) is None


def test_what_is_kept_goes_with_the_last_question_to_it() -> None:
    """At once, not when the garbage collector comes: it may be gigabytes."""
    model = made({}, 1, True)
    examples, held = questions(model, 1), torch.zeros(NodeSpace(model.config).total)
    gc.disable()
    try:
        for resampled in (False, True):
            others = Counterparts(model, examples, 0)
            tables = resampled_folds(model, held, others, examples) if resampled else folds(model, held)
            assert tables is not None
            found_by(tables, torch.zeros(len(held), dtype=torch.bool), [], examples)
            layer = weakref.ref(tables.layers[0])
            del tables
            assert layer() is None
    finally:
        gc.enable()
