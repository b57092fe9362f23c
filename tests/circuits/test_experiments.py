"""Experiments on a model known by heart: `quote_model` copies the quote through one head (see `test_prune`)."""

import math
from dataclasses import replace

import planted
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_prune import TRUE

from sparse_circuits.circuits import experiments
from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.circuits.config import PruneConfig
from sparse_circuits.circuits.edges import edges, matrices
from sparse_circuits.circuits.experiments import OutsideEdges
from sparse_circuits.circuits.means import Means
from sparse_circuits.corpus.packed import PackedCorpus
from sparse_circuits.errors import InputError
from sparse_circuits.model import GPT
from sparse_circuits.pretraining import next_token_loss
from sparse_circuits.tasks import TASKS, Task

CONFIG = PruneConfig(eval_pairs=4)
CHANCE = pytest.approx(math.log(2), abs=1e-3)


@pytest.fixture
def circuit(quote_model: GPT, quote_task: Task, quote_means: Means) -> Circuit:
    return Circuit(quote_model, quote_task, TRUE, quote_means, CONFIG)


def test_the_true_nodes_are_enough_and_needed(circuit: Circuit) -> None:
    found = experiments.losses(circuit)
    assert found.model.value < 0.02
    assert found.kept.value == pytest.approx(circuit.loss("report"), abs=1e-6)
    assert found.kept.value < 0.02
    assert found.removed.value == CHANCE
    assert found.empty.value == CHANCE
    for each in (found.model, found.kept, found.removed, found.empty):
        assert each.low <= each.value <= each.high


def test_one_node_of_many(quote_model: GPT, quote_task: Task, quote_means: Means) -> None:
    """The answer's channel alone is not enough but needed; a decoy is neither."""
    answer = Circuit(quote_model, quote_task, {"0.attn.resid_delta": (3,)}, quote_means, CONFIG)
    decoy = Circuit(quote_model, quote_task, {"0.mlp.post_act": (0,)}, quote_means, CONFIG)
    assert experiments.losses(answer).kept.value == CHANCE
    assert experiments.losses(answer).removed.value == CHANCE
    assert experiments.losses(decoy).removed.value < 0.02


def test_inverse_pruning_beside_random_sets(circuit: Circuit, quote_model, quote_task, quote_means) -> None:
    found = experiments.inverse(circuit, samples=9)
    assert found.removed.value == CHANCE
    assert len(found.random) == 9
    worse = sum(loss >= found.removed.value for loss in found.random)
    assert found.as_bad == (1 + worse) / 10
    assert found.as_bad < 0.6
    assert sorted(found.random)[0] < 0.3
    assert experiments.inverse(circuit, samples=3).random == found.random[:3]
    assert experiments.inverse(circuit, samples=3, seed=1).random != found.random[:3]
    # What does nothing is as harmless as random nodes, or more so.
    decoy = Circuit(quote_model, quote_task, {"0.mlp.post_act": (0, 1)}, quote_means, CONFIG)
    assert experiments.inverse(decoy, samples=4).as_bad == 1.0
    with pytest.raises(InputError, match="0 random sets asked for"):
        experiments.inverse(circuit, samples=0)


def test_a_circuit_of_calibrated_losses_and_the_random_sets_are_measured_alike() -> None:
    """A node that nothing needs is no worse to lose than others, in a model that calibration makes much surer."""
    model = planted.model()
    with torch.no_grad():
        model.lm_head.weight.mul_(0.15)
    plain, calibrated = (
        experiments.inverse(
            Circuit(
                model,
                planted.task(),
                {"0.attn.q": (3,)},
                planted.means(model),
                replace(planted.CONFIG, calibrated=calibrated),
            ),
            samples=8,
        )
        for calibrated in (False, True)
    )
    assert plain.as_bad == 1.0
    assert plain == calibrated


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 1 << 30))
def test_the_set_itself_is_as_bad_as_the_set(seed: int) -> None:
    """Of whole sites there is but one set of as many nodes, whatever its loss rounds to."""
    model, generator = planted.model(), torch.Generator().manual_seed(seed)
    means = planted.means(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    circuit = Circuit(model, planted.task(), {"0.mlp.post_act": tuple(range(4))}, means, planted.CONFIG)
    found = experiments.inverse(circuit, samples=2)
    assert found.random == [found.removed.value] * 2
    assert found.as_bad == 1.0


def test_edges_to_the_rest_by_hand(circuit: Circuit) -> None:
    """The decoys: q and k of the other head, a v and its output, a neuron; and the true head's q."""
    rows = {(row.source, row.target): row for row in experiments.outside_edges(circuit)}
    read = "0.attn.act_in"
    assert rows[read, "0.attn.k"] == OutsideEdges(read, "0.attn.k", inside=1, entering=0, leaving=1, total=2)
    assert rows[read, "0.attn.v"] == OutsideEdges(read, "0.attn.v", inside=1, entering=0, leaving=0, total=2)
    delta = "0.attn.resid_delta"
    assert rows["0.attn.v", delta] == OutsideEdges("0.attn.v", delta, inside=1, entering=1, leaving=0, total=2)
    assert rows["all", "all"] == OutsideEdges("all", "all", inside=3, entering=1, leaving=1, total=10)
    assert len(rows) == 4


def test_edges_that_the_circuit_dropped_are_not_within_it() -> None:
    model, task = planted.model(), planted.task()
    means = planted.means(model)
    whole = Circuit(model, task, planted.NODES, means)
    cut = Circuit(model, task, planted.NODES, means, dropped=sorted(planted.SUPERFLUOUS))
    before, after = map(experiments.outside_edges, (whole, cut))
    assert (before[-1].inside, after[-1].inside) == (len(whole.edges), len(cut.edges)) == (9, 7)
    fewer = {(row.source, row.target): row.inside - left.inside for row, left in zip(before, after, strict=True)}
    assert {place for place, gone in fewer.items() if gone == 1} == {(a, b) for (a, _), (b, _) in planted.SUPERFLUOUS}
    assert [replace(row, inside=0) for row in before] == [replace(row, inside=0) for row in after]


def test_edges_to_the_rest_add_up(random_model, quote_task: Task) -> None:
    model = random_model()
    with torch.no_grad():
        for _, _, weight in matrices(model):
            weight[torch.rand(weight.shape) < 0.7] = 0
    empty = Circuit(model, quote_task, {}, Means(*torch.zeros(2, 272), 1))
    kept = torch.rand(empty.space.total, generator=torch.Generator().manual_seed(0)) < 0.3
    inside, outside = (Circuit(model, quote_task, empty.space.by_site(k), empty.means) for k in (kept, ~kept))
    rows, others = (experiments.outside_edges(circuit) for circuit in (inside, outside))
    assert rows[-1].inside == len(edges(model, inside.nodes))
    for row, other in zip(rows, others, strict=True):
        assert row.total == row.inside + row.entering + row.leaving + other.inside
        assert (row.entering, row.leaving) == (other.leaving, other.entering)


def test_what_a_circuit_costs_on_text(random_model, quote_task: Task, letter_corpus: PackedCorpus) -> None:
    model = random_model(n_layer=1)
    space = Circuit(model, quote_task, {}, Means(*torch.zeros(2, 136), 1)).space
    circuit = Circuit(model, quote_task, {"0.mlp.post_act": tuple(range(12))}, Means(*torch.zeros(2, space.total), 1))
    found = experiments.text_cost(circuit, letter_corpus, max_tokens=240)
    assert found.tokens == 240
    windows = torch.from_numpy(letter_corpus.validation_windows(24, 240))
    with torch.no_grad():
        for tap, measured in ((None, found.losses.model), (circuit.tap(), found.losses.kept)):
            expected = next_token_loss(model(windows[:, :-1], tap=tap), windows[:, 1:])
            assert measured.value == pytest.approx(float(expected), rel=1e-5)
    assert found.keeping.value == pytest.approx(found.losses.kept.value - found.losses.model.value, abs=1e-5)
    assert found.removing.value == pytest.approx(found.losses.removed.value - found.losses.model.value, abs=1e-5)
    assert found.keeping.low <= found.keeping.value <= found.keeping.high
    whole = Circuit(model, quote_task, space.by_site(torch.ones(space.total, dtype=torch.bool)), circuit.means)
    assert experiments.text_cost(whole, letter_corpus, max_tokens=48).keeping.value == 0.0


def test_text_must_come_from_somewhere(circuit: Circuit) -> None:
    with pytest.raises(InputError, match="the cost on text needs held-out text, and this model does not say"):
        experiments.text_cost(circuit)


def test_other_tasks(circuit: Circuit, quote_task: Task) -> None:
    """The tokenizer of single letters can put the quotes to the model, but not the keywords."""
    rows = experiments.under_tasks(circuit, [quote_task, TASKS["for_while"]])
    assert [row.task for row in rows] == ["quotes", "for_while"]
    assert rows[0].losses == experiments.losses(circuit)
    assert rows[1].losses is None
    assert "not one token" in rows[1].skipped
