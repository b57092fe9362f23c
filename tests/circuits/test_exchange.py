"""Patching between sides: by hand on the model that copies quotes, and what must hold on any."""

import math

import pytest
import torch
from test_prune import TRUE

from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.circuits.config import PruneConfig
from sparse_circuits.circuits.exchange import OtherSide, exchange, moved
from sparse_circuits.circuits.logits import last_logits
from sparse_circuits.circuits.means import Means
from sparse_circuits.errors import InputError
from sparse_circuits.model import GPT
from sparse_circuits.tasks import Task, Template, log_odds

CONFIG = PruneConfig(eval_pairs=4)


def quote_circuit(model: GPT, task: Task, means: Means, nodes: dict) -> Circuit:
    return Circuit(model, task, nodes, means, CONFIG)


def test_the_answers_channel_carries_all_of_it(quote_model, quote_task, quote_means) -> None:
    circuit = quote_circuit(quote_model, quote_task, quote_means, {"0.attn.resid_delta": (3,)})
    found = exchange(circuit, samples=6)
    for side in (found.a, found.b, found.both):
        assert side.before.value > 4
        assert side.after.value == pytest.approx(-side.before.value, rel=1e-4)
        assert side.fraction.value == pytest.approx(1, abs=1e-4)
        assert side.flipped == 1.0
    # All else of the other side does nothing while the channel stays as it was.
    assert found.rest.fraction.value == pytest.approx(0, abs=1e-4)
    assert found.rest.flipped == 0.0
    assert len(found.random) == 6
    assert all(min(abs(each), abs(each - 1)) < 1e-4 for each in found.random)
    assert 0 in [round(each) for each in found.random]


def test_what_goes_around_a_set_is_seen(quote_model, quote_task, quote_means) -> None:
    """v and k of the decoy head: all that decides goes around them."""
    circuit = quote_circuit(quote_model, quote_task, quote_means, {"0.attn.v": (1,), "0.attn.k": (2,)})
    found = exchange(circuit, samples=0)
    assert found.both.fraction.value == pytest.approx(0, abs=1e-4)
    assert found.rest.fraction.value == pytest.approx(1, abs=1e-4)


def test_where_the_quote_is_says_nothing_of_which(quote_model, quote_task, quote_means) -> None:
    """Both sides' prompts have their quote at the same place: k carries where, v what."""
    where = quote_circuit(quote_model, quote_task, quote_means, {"0.attn.k": (0,), "0.attn.q": (0,)})
    what = quote_circuit(quote_model, quote_task, quote_means, {"0.attn.v": (0,)})
    assert exchange(where, samples=0).both.fraction.value == pytest.approx(0, abs=1e-4)
    assert exchange(what, samples=0).both.fraction.value == pytest.approx(1, abs=1e-4)


def test_within_the_circuit(quote_model, quote_task, quote_means) -> None:
    circuit = quote_circuit(quote_model, quote_task, quote_means, TRUE)
    found = exchange(circuit, within="circuit", samples=2)
    examples = circuit.examples()
    odds = log_odds(last_logits(quote_model, examples, circuit.tap()), examples)
    assert found.both.before.value == pytest.approx(float(odds.mean()), abs=1e-6)
    assert found.both.before != exchange(circuit, samples=0).both.before
    assert found.both.fraction.value == pytest.approx(1, abs=1e-4)
    assert found.rest.fraction.value == pytest.approx(0, abs=1e-6)


def test_prompts_of_unequal_length_are_aligned_at_the_last_token(random_model) -> None:
    """Every node patched at every token, compared with a run of the other prompt, padded by its first token."""
    task = Task(
        "lengths",
        "Prompts of unequal length.",
        {"report": (Template("t", "ab", "cdefg", '"', "'"),)},
    )
    model = random_model()
    circuit = Circuit(model, task, {}, Means(*torch.zeros(2, 272), 1), PruneConfig(eval_pairs=1))
    everything = torch.ones(272, dtype=torch.bool)
    examples = circuit.examples("report")
    sites = list(circuit.space.slices)
    runs = [model.run(examples.tokens[row : row + 1, : n + 1], record=sites) for row, n in ((0, 1), (1, 4))]
    tap = OtherSide(model, examples, everything, ~everything).at(torch.arange(2), 5)
    seen: dict[str, torch.Tensor] = {}

    def look(site: str, x: torch.Tensor) -> torch.Tensor:
        seen[site] = tap(site, x)
        return seen[site]

    with torch.no_grad():
        model(examples.tokens, tap=look, at=examples.last)
    for site in sites:
        short, long = (run.sites[site][0] for run in runs)
        # The short prompt's two tokens get the long one's last two; the long one's get a, a, a, a, b.
        torch.testing.assert_close(seen[site][0, :2], long[3:])
        torch.testing.assert_close(seen[site][1], short[[0, 0, 0, 0, 1]])


def test_no_nodes_move_nothing_and_the_random_model_is_asked_honestly(random_model, quote_task: Task) -> None:
    model = random_model()
    circuit = Circuit(model, quote_task, {}, Means(*torch.zeros(2, 272), 1), CONFIG)
    examples = circuit.examples()
    odds = log_odds(last_logits(model, examples), examples)
    found = exchange(circuit, samples=1)
    assert found.both.before == found.both.after
    assert found.both.before.value == pytest.approx(float(odds.mean()), abs=1e-6)
    with pytest.raises(InputError, match="-1 random sets"):
        exchange(circuit, samples=-1)


def test_fractions_by_hand() -> None:
    """Two pairs: log-odds 3 and 1 on side A, 1 and 3 on side B; both pairs' ways are 4 long."""
    before = torch.tensor([3.0, 1.0, 1.0, 3.0])
    after = torch.tensor([1.0, -1.0, 1.0, 3.0])
    a, b, both = (moved(before, after, side) for side in (slice(0, 2), slice(2, None), slice(None)))
    assert (a.before.value, a.after.value, a.fraction.value, a.flipped) == (2.0, 0.0, 0.5, 0.5)
    assert (a.fraction.low, a.fraction.high) == (0.5, 0.5)
    assert (b.fraction.value, b.flipped) == (0.0, 0.0)
    assert (both.fraction.value, both.flipped) == (0.25, 0.25)
    lost = moved(torch.tensor([1.0, -1.0]), torch.tensor([0.0, 0.0]), slice(None))
    assert math.isnan(lost.fraction.value)
    assert lost.flipped == 1.0
    assert math.isnan(moved(-before, after, slice(None)).flipped)
