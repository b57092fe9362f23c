"""Edges go while the loss holds, nodes they leave alone go with them, and the circuit says and does the same later."""

import json
from pathlib import Path

import planted
import pytest
import torch
from torch import Tensor

from sparse_circuits.circuits.circuit import Circuit, evaluator, fixed_examples
from sparse_circuits.circuits.edge_search import EdgeMeasures, drop_edges, needed
from sparse_circuits.circuits.edges import edges
from sparse_circuits.circuits.evaluator import Evaluator
from sparse_circuits.circuits.nodes import NodeSpace
from sparse_circuits.circuits.twin import place, without
from sparse_circuits.errors import InputError
from sparse_circuits.model import GPT
from sparse_circuits.tasks import Task


@pytest.fixture
def circuit() -> Circuit:
    """The planted circuit with its superfluous weights left out."""
    model = planted.model()
    dropped = sorted(planted.SUPERFLUOUS)
    return Circuit(model, planted.task(), planted.NODES, planted.means(model), planted.CONFIG, dropped=dropped)


def test_slopes_of_edges_are_those_of_the_loss(random_model, quote_task: Task) -> None:
    """By finite differences in float64: the weight goes down a little, the bias takes over what that carried."""
    model: GPT = random_model(abs_topk=None).double()
    examples = quote_task.examples(model.tokenizer, "calibrate", 2, block_size=24)
    space = NodeSpace(model.config)
    held = torch.randn(space.total, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    evaluate = Evaluator(model, examples, held)
    kept = torch.arange(space.total) % 3 != 0
    links = edges(model, space.by_site(kept))[::37]
    measures = EdgeMeasures(evaluate, kept, links, [], held)
    estimate = measures.attribution(torch.ones(len(links), dtype=torch.bool))
    for number in estimate.abs().argsort(descending=True)[:6].tolist():
        link = links[number]
        losses = []
        for step in (1e-3, -1e-3):
            # A twin in which a little of the edge is dropped: the whole one is, and most of it comes back.
            twin = without(model, [(link.source, link.target)], held)
            name, row = place(model, link.target)
            source = float(held[space.slices[link.source[0]].start + link.source[1]])
            with torch.no_grad():
                layer = twin.get_submodule(name)
                layer.weight[row, link.source[1]] += (1 - step) * link.weight
                layer.bias[row] -= (1 - step) * link.weight * source
            losses.append(evaluate.on(twin)(kept))
        assert float(estimate[number]) == pytest.approx((losses[0] - losses[1]) / 2e-3, rel=2e-2, abs=1e-6)


class Separate:
    """Each edge that goes adds its own cost to the loss, of which the estimate knows nothing."""

    def __init__(self, costs: Tensor):
        self.costs, self.asked = costs, 0

    def __call__(self, kept: Tensor, limit: float = float("inf")) -> float:
        self.asked += 1
        return 0.1 + float(self.costs[~kept].sum())

    def attribution(self, kept: Tensor) -> Tensor:
        return torch.zeros(len(self.costs))


def test_among_many_edges_those_that_harm_make_room_for_others() -> None:
    # One in five harms. The target leaves no room but what they make.
    generator = torch.Generator().manual_seed(0)
    costs = torch.where(torch.arange(1000) % 5 == 0, -1e-3, 1e-4) * torch.rand(1000, generator=generator)
    measures = Separate(costs)
    left = needed(measures, 1000, 0.1, progress=False)
    assert measures(left) <= 0.1
    assert int(left.sum()) < 300
    # Far fewer than measuring each once after every removal would take.
    assert measures.asked < 10_000


def test_edges_that_have_become_few_are_all_measured() -> None:
    # The first five go together; of the rest, few enough to be measured, the very last harms.
    costs = torch.full((301,), 1.0)
    costs[:5], costs[300] = 0.0, -1e-3
    measures = Separate(costs)
    left = needed(measures, 301, 0.1, progress=False)
    assert not left[300]


def test_very_many_edges_that_bisection_makes_few_are_measured_after_all() -> None:
    """Most go together; of the rest a few are needed, and look no dearer than others."""

    class Costly(Separate):
        def attribution(self, kept: Tensor) -> Tensor:
            return torch.where(torch.arange(len(self.costs)) < 250, 1.0, 0.0)

    costs = torch.zeros(5001)
    costs[:20] = 1.0
    left = needed(Costly(costs), 5001, 0.1, progress=False)
    assert left.nonzero().squeeze(1).tolist() == list(range(20))


@pytest.mark.parametrize("measured", [300, 0])
def test_what_is_not_needed_goes_and_the_target_is_kept(measured: int, monkeypatch) -> None:
    """By measuring, and by first-order estimates alone."""
    monkeypatch.setattr("sparse_circuits.circuits.edge_search.MEASURED", measured)
    model = planted.model()
    examples = fixed_examples(model, planted.task(), "calibrate", planted.CONFIG)
    means = planted.means(model)
    evaluate = evaluator(model, examples, means, planted.CONFIG)
    everything = torch.ones(evaluate.space.total, dtype=torch.bool)
    kept, dropped = drop_edges(evaluate, everything, means.values, 0.1)
    assert evaluate.on(without(model, dropped, means.values))(kept) <= 0.1
    nodes = evaluate.space.by_site(kept)
    left = {(edge.source, edge.target) for edge in edges(model, nodes)} - set(dropped)
    assert set(dropped).isdisjoint(left)
    assert left >= planted.EDGES if not measured else left == planted.EDGES
    if measured:
        assert nodes == planted.NODES


def test_no_edge_can_go_from_what_is_left() -> None:
    model = planted.model()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.03)
    means = planted.means(model)
    examples = fixed_examples(model, planted.task(), "calibrate", planted.CONFIG)
    evaluate = evaluator(model, examples, means, planted.CONFIG)
    start = evaluate.space.flat(planted.NODES)
    kept, dropped = drop_edges(evaluate, start, means.values, 0.1)
    assert dropped
    for edge in edges(without(model, dropped, means.values), evaluate.space.by_site(kept)):
        fewer = [*dropped, (edge.source, edge.target)]
        assert evaluate.on(without(model, fewer, means.values))(kept) > 0.1


def test_a_circuit_without_edges_is_left_alone(quote_model: GPT, quote_task: Task) -> None:
    space = NodeSpace(quote_model.config)
    examples = quote_task.examples(quote_model.tokenizer, "calibrate", 4, block_size=32)
    evaluate = Evaluator(quote_model, examples, torch.zeros(space.total))
    nothing = torch.zeros(space.total, dtype=torch.bool)
    kept, dropped = drop_edges(evaluate, nothing, torch.zeros(space.total), 0.1)
    assert not kept.any()
    assert dropped == []


def test_a_circuit_keeps_its_edges_on_disk(circuit: Circuit, tmp_path: Path) -> None:
    circuit.save(tmp_path / "circuit")
    again = Circuit.load(tmp_path / "circuit", circuit.model, circuit.task)
    assert set(again.dropped) == planted.SUPERFLUOUS
    assert {(edge.source, edge.target) for edge in again.edges} == planted.EDGES
    assert len(again.node_edges) == len(planted.EDGES) + 2
    assert repr(again) == "Circuit(planted quotes: 10 nodes, 7 edges)"
    for split in ("calibrate", "report"):
        assert again.loss(split) == pytest.approx(circuit.loss(split), abs=1e-6)
    whole = Circuit(circuit.model, circuit.task, circuit.nodes, circuit.means, circuit.config)
    assert abs(whole.loss("report") - circuit.loss("report")) > 1e-5
    assert len(whole.edges) == len(whole.node_edges)
    described = json.loads((tmp_path / "circuit" / "circuit.json").read_text())
    assert described["sizes"]["edges"] == 7
    assert described["sizes"]["node_edges"] == 9
    assert ["0.attn.v", 0, "0.attn.resid_delta", 3] in described["edges"]


def test_the_tap_runs_on_the_twin(circuit: Circuit) -> None:
    examples = circuit.examples("report")
    logits: Tensor = circuit.runner(examples.tokens, tap=circuit.tap(), at=examples.last)
    torch.testing.assert_close(logits, circuit.evaluator(examples).logits(circuit.kept))
    assert circuit.full is not circuit.runner


def test_edges_that_are_none_are_refused(circuit: Circuit, tmp_path: Path) -> None:
    for link in [
        (("0.attn.v", 0), ("0.attn.resid_delta", 4)),  # no weight there
        (("0.attn.act_in", 2), ("0.attn.q", 0)),  # not between kept nodes
    ]:
        with pytest.raises(InputError, match="is no edge between kept nodes"):
            Circuit(circuit.model, circuit.task, circuit.nodes, circuit.means, circuit.config, dropped=[link])
    circuit.save(tmp_path / "circuit")
    path = tmp_path / "circuit" / "circuit.json"
    described = json.loads(path.read_text())
    path.write_text(json.dumps(described | {"edges": [["0.attn.q", 0, "0.attn.k", 0]]}))
    with pytest.raises(InputError, match=r"circuit\.json: 0\.attn\.q:0 -> 0\.attn\.k:0 is no edge between its nodes"):
        Circuit.load(tmp_path / "circuit", circuit.model, circuit.task)
