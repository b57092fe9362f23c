"""Live changes do what the library does, and what cannot be asked is refused."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.circuits.logits import last_logits
from sparse_circuits.circuits.nodes import keep_only
from sparse_circuits.errors import InputError
from sparse_circuits.tasks import task_losses
from sparse_circuits.viewer.changes import aligned
from sparse_circuits.viewer.live import Live

PROMPT = {"prompt": 'r("wolf', "right": '"', "wrong": "'"}


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    """A model of dense matrices would give logits that remember them."""
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def live(circuit: Circuit) -> Live:
    return Live(circuit)


def change(node: str, kind: str, value: float = 0.0) -> dict[str, Any]:
    return {"node": node, "kind": kind, "value": value}


def test_without_changes_the_answer_is_the_circuits(live: Live, circuit: Circuit) -> None:
    found = live.run(PROMPT)
    tokens = torch.tensor([found["tokens"]])
    model = circuit.full(tokens)[0, -1]
    inside = circuit.runner(tokens, tap=circuit.tap())[0, -1]
    assert found["model"]["right"] == pytest.approx(float(model[found["right"]]), rel=1e-4)
    assert found["circuit"]["right"] == pytest.approx(float(inside[found["right"]]), rel=1e-4)
    assert found["changed"] == found["circuit"]
    assert found["model"]["top"][0][0] == int(model.argmax())


def test_a_frozen_final_norm_stays_frozen(circuit: Circuit) -> None:
    frozen = replace(circuit, config=replace(circuit.config, final_norm="frozen"))
    examples = frozen.examples()
    row = 1
    logits = frozen.evaluator(examples).logits(frozen.kept)[row]
    tokens = examples.tokens[row, : int(examples.last[row]) + 1].tolist()
    answers = [int(examples.targets[row]), int(examples.others[row])]
    found = Live(frozen).run({"tokens": tokens, "answers": answers})
    assert found["circuit"]["right"] == pytest.approx(float(logits[answers[0]]), rel=1e-4)


def test_off_is_removal_and_on_brings_back(live: Live, circuit: Circuit) -> None:
    asked = {"changes": [change("0.attn.v:2", "off"), change("0.attn.v:9", "on")]}
    kept = circuit.kept.clone()
    start = circuit.space.slices["0.attn.v"].start
    kept[start + 2], kept[start + 9] = False, True
    expected = task_losses(circuit.evaluator(live.examples).logits(kept), live.examples).mean()
    assert live.losses(asked)["changed"] == pytest.approx(float(expected), rel=1e-5)
    logits = circuit.runner(
        torch.tensor([live.run(PROMPT)["tokens"]]), tap=keep_only(circuit.space, kept, circuit.held)
    )
    found = live.run(PROMPT | asked)
    assert found["changed"]["right"] == pytest.approx(float(logits[0, -1, found["right"]]), rel=1e-4)


def test_set_to_what_it_is_held_at_is_off(live: Live, circuit: Circuit) -> None:
    held = float(circuit.held[circuit.space.slices["0.mlp.post_act"].start + 9])
    off = live.losses({"changes": [change("0.mlp.post_act:9", "off")]})
    put = live.losses({"changes": [change("0.mlp.post_act:9", "set", held)]})
    assert put["changed"] == pytest.approx(off["changed"], rel=1e-5)
    same = live.losses({"changes": [change("0.mlp.post_act:9", "scale", 1.0)]})
    assert same["changed"] == pytest.approx(same["circuit"], rel=1e-6)


def test_patching_every_node_from_the_other_side_gives_the_other_answer(live: Live, circuit: Circuit) -> None:
    everything = [change(f"{site}:{channel}", "patch") for site in circuit.nodes for channel in circuit.nodes[site]]
    loss = live.losses({"changes": everything})["changed"]
    # All that differs is patched, and the last tokens are the same, so each side is answered as the other would be.
    logits = circuit.evaluator(live.examples).logits(circuit.kept)
    flipped = logits.roll(len(live.examples), 0)
    assert loss == pytest.approx(float(task_losses(flipped, live.examples).mean()), rel=1e-4)
    one = live.run(PROMPT | {"patch_from": "r('wolf", "changes": everything})
    other = live.run(PROMPT | {"prompt": "r('wolf"})
    assert one["changed"]["right"] == pytest.approx(other["circuit"]["right"], rel=1e-4)


def test_short_work_takes_one_thread_and_gives_the_others_back(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[int] = []
    inner = Live._one

    def watched(self: Live, *given: Any) -> Any:
        used.append(torch.get_num_threads())
        return inner(self, *given)

    monkeypatch.setattr(Live, "_one", watched)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        live.run(PROMPT)
        live.losses({"changes": [change("0.attn.v:2", "off")]})
        assert torch.get_num_threads() == 2
        monkeypatch.setattr(Live, "_one", lambda *given: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            live.run(PROMPT)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert used == [1, 1, 1]


def test_the_whole_model_can_be_changed(live: Live, circuit: Circuit) -> None:
    found = live.losses({"whole": True, "changes": []})
    full = task_losses(last_logits(circuit.full, live.examples), live.examples).mean()
    assert found["changed"] == found["model"] == pytest.approx(float(full), rel=1e-5)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9))
def test_activations_are_aligned_at_the_last_token(theirs: int, ours: int) -> None:
    activation = torch.arange(theirs).float().view(1, theirs, 1)
    moved = aligned({"x": activation}, torch.tensor([theirs - 1]), torch.tensor([ours - 1]), ours)["x"]
    expected = [max(0, place + theirs - ours) for place in range(ours)]
    assert moved.flatten().tolist() == expected


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"prompt": ""}, "prompt must be text"),
        ({"prompt": 3}, "prompt must be text"),
        ({"prompt": "x" * 30_000}, "at most 20,000 are read"),
        ({"tokens": [1, 999]}, "whole numbers from 0 to 256"),
        ({"tokens": []}, "has no token"),
        ({"right": "ab"}, "is not a single token"),
        ({"answers": [4, 4]}, "two different tokens"),
        ({"answers": [4, 999]}, "two different tokens"),
        ({"changes": "off"}, "must be a list"),
        ({"changes": [3]}, "must be like"),
        ({"changes": [change("0.attn.q:1", "explode")]}, "choose among off, on"),
        ({"changes": [change("0.attn.z:1", "off")]}, "no site"),
        ({"changes": [change("0.attn.q:99", "off")]}, "channels 0..15"),
        ({"changes": [change("0.attn.q:-1", "off")]}, "is no node"),
        ({"changes": [change("0.attn.q:1", "set", float("inf"))]}, "must be a number"),
        ({"changes": [change("0.attn.q:1", "set", 1e9)]}, "at most 1e\\+06"),
        ({"changes": [change("0.attn.q:1", "patch")]}, "a patch needs a prompt"),
    ],
)
def test_what_cannot_be_asked_is_refused(live: Live, asked: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        live.run(PROMPT | asked)


def test_answers_that_are_no_tokens_are_refused(live: Live) -> None:
    for answers in ([True, False], [-1, -1], [0], "ab", [0, 10**9]):
        with pytest.raises(InputError, match="answers must be two different tokens"):
            live.run({**PROMPT, "answers": answers})
    for tokens in ([True], [-1], ["a"]):
        with pytest.raises(InputError, match="tokens must be whole numbers"):
            live.run({**PROMPT, "tokens": tokens})
