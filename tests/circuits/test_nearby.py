"""Questions about a set less something each begin where they differ from it, and are answered as any others."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from small_models import randomised, small
from torch import Tensor

from sparse_circuits import kernels
from sparse_circuits.circuits import edges
from sparse_circuits.circuits.evaluator import Evaluator
from sparse_circuits.circuits.folded import Folds
from sparse_circuits.circuits.nearby import sublayer
from sparse_circuits.circuits.nodes import NodeSpace
from sparse_circuits.circuits.twin import Link
from sparse_circuits.kernels.folded import Streams, Table
from sparse_circuits.model import GPT
from sparse_circuits.tasks import Examples


def questions(model: GPT, pairs: int = 5) -> Examples:
    generator = torch.Generator().manual_seed(3)
    rows, width = 2 * pairs, model.config.block_size
    tokens = torch.randint(model.config.vocab_size, (rows, width), generator=generator)
    last = torch.randint(1, width, (rows,), generator=generator)
    targets = torch.arange(rows) % 2
    return Examples(tokens, last, targets, 1 - targets, "two_token")


@pytest.fixture(autouse=True)
def compiled() -> Iterator[None]:
    """The compiled kernels after all."""
    with kernels.use("auto"):
        yield


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> GPT:
    monkeypatch.setattr("sparse_circuits.circuits.folded.PART", 1.0)
    return randomised(small(n_layer=3), 5, torch.float32)


@pytest.fixture
def entered(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sublayer at which each batch began."""
    found: list[int] = []
    original = Table.last_residuals

    def spied(self: Table, *given: object, **named: object) -> Tensor:
        if not named.get("store"):
            found.append(int(given[4]) if len(given) > 4 else 0)  # type: ignore[call-overload]
        return original(self, *given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Table, "last_residuals", spied)
    return found


def chosen(model: GPT, seed: int) -> tuple[Tensor, Tensor, list[Link]]:
    """Some nodes, what the others are held at, and some edges between the kept."""
    space, generator = NodeSpace(model.config), torch.Generator().manual_seed(seed)
    kept = torch.rand(space.total, generator=generator) < 0.06
    for part in space.slices.values():
        kept[part.start] = True
    inside = edges.edges(model, space.by_site(kept))
    return kept, torch.randn(space.total, generator=generator), [(edge.source, edge.target) for edge in inside]


def one_less(kept: Tensor) -> Iterator[Tensor]:
    for node in kept.nonzero().squeeze(1).tolist():
        fewer = kept.clone()
        fewer[node] = False
        yield fewer


@pytest.mark.parametrize("seed", range(4))
def test_losses_without_each_node_are_the_same_to_the_bit(model: GPT, seed: int, entered: list[int]) -> None:
    kept, held, _ = chosen(model, seed)
    examples = questions(model)
    near = Evaluator(model, examples, held)
    answers = [near.logits(fewer) for fewer in one_less(kept)]
    assert {0, 1, 2, 3, 4, 5} <= set(entered)
    for fewer, answer in zip(one_less(kept), answers, strict=True):
        assert torch.equal(answer, Evaluator(model, examples, held).logits(fewer))
    assert torch.equal(near.logits(kept), Evaluator(model, examples, held).logits(kept))


@pytest.mark.parametrize("seed", range(4))
def test_losses_without_each_edge_are_the_same_to_the_bit(model: GPT, seed: int, entered: list[int]) -> None:
    kept, held, links = chosen(model, seed)
    examples = questions(model)
    near, gone = Evaluator(model, examples, held), links[::5]
    for link in links:
        dropped = sorted({*gone, link})
        answer = near.without(dropped).logits(kept)
        assert torch.equal(answer, Evaluator(model, examples, held).without(dropped).logits(kept))
    assert max(entered) >= 4


def test_another_set_is_not_answered_from_the_old_one(model: GPT) -> None:
    kept, held, links = chosen(model, 1)
    other, *_ = chosen(model, 2)
    examples = questions(model)
    near = Evaluator(model, examples, held)
    for base in (kept, other, kept | other):
        for fewer in [*one_less(base)][-6:]:
            assert torch.equal(near.logits(fewer), Evaluator(model, examples, held).logits(fewer))
    last = near.without(links[:3]).logits(other)
    assert torch.equal(last, Evaluator(model, examples, held).without(links[:3]).logits(other))


@pytest.mark.parametrize("pairs", [1, 3, 4, 5, 17, 20])
def test_what_was_hard_before_changes_no_bit(model: GPT, pairs: int) -> None:
    kept, held, _ = chosen(model, 1)
    examples = questions(model, pairs)
    asked = Evaluator(model, examples, held)
    for fewer in one_less(kept):
        asked(fewer)
        fresh = Evaluator(model, examples, held)
        assert torch.equal(asked.logits(kept), fresh.logits(kept))
        assert asked(kept) == fresh(kept)


def test_what_lies_behind_the_last_tokens_is_not_read(model: GPT) -> None:
    kept, held, _ = chosen(model, 1)
    examples = questions(model)
    padded = replace(examples, tokens=torch.nn.functional.pad(examples.tokens, (0, 30), value=-1))
    near = Evaluator(model, padded, held)
    for fewer in one_less(kept):
        assert torch.equal(near.logits(fewer), Evaluator(model, examples, held).logits(fewer))


def test_a_model_trained_on_in_between_is_asked_anew(model: GPT) -> None:
    kept, held, _ = chosen(model, 1)
    examples = questions(model)
    near = Evaluator(model, examples, held)
    sets = [*one_less(kept)]
    for fewer in sets[-4:]:
        near.logits(fewer)
    with torch.no_grad():
        model.wte.weight.mul_(1.5)
    assert torch.equal(near.logits(sets[-1]), Evaluator(model, examples, held).logits(sets[-1]))


@pytest.mark.parametrize("room", [0, 1, 2, 5, 99])
def test_streams_are_kept_as_far_as_there_is_room(
    model: GPT, room: int, monkeypatch: pytest.MonkeyPatch, entered: list[int]
) -> None:
    kept, held, _ = chosen(model, 1)
    examples = questions(model)
    each = 4 * len(examples.last) * (int(examples.last.max()) + 1) * model.config.d_model
    monkeypatch.setattr("sparse_circuits.circuits.folded.MOST_BYTES", room * each)
    near = Evaluator(model, examples, held)
    for fewer in one_less(kept):
        assert torch.equal(near.logits(fewer), Evaluator(model, examples, held).logits(fewer))
    begun = {0: {0}, 1: {0, 5}, 2: {0, 3, 5}}.get(room, {0, 1, 2, 3, 4, 5})
    assert set(entered) == begun


def test_streams_are_kept_only_for_what_is_asked_again_and_again(model: GPT, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, held, _ = chosen(model, 1)
    examples = questions(model)
    calls: list[int] = []
    original = Folds.streams
    monkeypatch.setattr(Folds, "streams", lambda *given: calls.append(1) or original(*given))
    near = Evaluator(model, examples, held)
    order = kept.nonzero().squeeze(1)
    for count in range(1, 9):  # as bisection asks
        fewer = kept.clone()
        fewer[order[:count]] = False
        near(fewer)
    assert not calls
    for fewer in one_less(kept):
        near(fewer)
    assert len(calls) == 1


def test_sublayers_and_their_room() -> None:
    assert [sublayer(site) for site in ("0.attn.q", "0.mlp.post_act", "3.attn.resid_delta")] == [0, 1, 6]
    streams = Streams(6, 2, 3, 4, 3 * 4 * 2 * 3 * 4)
    assert streams.places.tolist() == [-1, -1, 0, -1, 1, 2] or len(streams.values) == 3
    assert streams.before(0) == 0
    assert streams.before(5) == 5
