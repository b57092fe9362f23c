"""Two levels a node: the step, where it starts, what it learns, and what it costs."""

import copy
import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_prune import TRUE

from sparse_circuits.circuits.binarise import STARTS, Binarised, Levels, binarise, fit
from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.circuits.config import BinariseConfig, PruneConfig
from sparse_circuits.circuits.means import Means
from sparse_circuits.errors import InputError
from sparse_circuits.model import GPT
from sparse_circuits.tasks import Task

CONFIG = BinariseConfig(batch_pairs=4, loop=dataclasses.replace(BinariseConfig().loop, steps=12, learning_rate=0.05))


@pytest.fixture
def circuit(quote_model: GPT, quote_task: Task, quote_means: Means) -> Circuit:
    return Circuit(quote_model, quote_task, TRUE, quote_means, PruneConfig(eval_pairs=4))


def test_every_node_is_low_or_high(circuit: Circuit) -> None:
    """By whether it reaches its threshold: the values the model uses, told from those it computed."""
    count = circuit.size
    levels = Levels(torch.linspace(-0.2, 0.9, count), -torch.arange(1.0, 1 + count), torch.arange(1.0, 1 + count))
    tokens = circuit.examples().tokens
    seen: dict[str, torch.Tensor] = {}
    held = circuit.tap()

    def look(site: str, x: torch.Tensor) -> torch.Tensor:
        seen[site] = held(site, x)
        return Binarised(circuit, levels).tap()(site, x)

    run = circuit.model.run(tokens, record=list(circuit.nodes), tap=look)
    number = 0
    for site, channels in circuit.nodes.items():
        others = [c for c in range(circuit.space.widths[site]) if c not in channels]
        assert torch.equal(run.sites[site][..., others], seen[site][..., others])
        for channel in channels:
            reached = seen[site][..., channel] >= levels.threshold[number]
            expected = torch.where(reached, levels.high[number], levels.low[number])
            assert torch.equal(run.sites[site][..., channel], expected)
            number += 1


def test_the_start_by_hand() -> None:
    """Levels are the means on either side of the threshold that fits best."""
    values = torch.tensor([[0.0, 0.0, 0.0], [0.1, 0.6, 0.3], [0.2, 0.7, 0.0], [1.0, 1.0, 0.3], [1.0, 0.0, 1.0]])
    found = fit(values)
    torch.testing.assert_close(found.threshold, torch.tensor([0.25, 0.25, 0.5]))
    torch.testing.assert_close(found.low, torch.tensor([0.1, 0.0, 0.15]))
    torch.testing.assert_close(found.high, torch.tensor([1.0, 2.3 / 3, 1.0]))
    still = fit(torch.zeros(3, 1))
    assert (still.low, still.high) == (torch.zeros(1), torch.zeros(1))


@given(st.lists(st.floats(0, 1, width=32), min_size=2, max_size=20))
def test_the_start_is_the_best_of_the_three(values: list[float]) -> None:
    x = torch.tensor(values)[:, None]
    found = fit(x)

    def error(threshold: float, low: float, high: float) -> float:
        return float((x - torch.where(x >= threshold, high, low)).square().mean())

    ours = error(float(found.threshold), float(found.low), float(found.high))
    for start in STARTS:
        below, above = x[x < start], x[x >= start]
        assert (
            ours
            <= error(start, float(below.sum() / max(1, len(below))), float(above.sum() / max(1, len(above)))) + 1e-6
        )


def test_a_circuit_whose_nodes_are_on_or_off_anyway(circuit: Circuit) -> None:
    """Quotes are told by one channel's sign: two levels are enough, and learning leaves the model as it was."""
    before = copy.deepcopy(circuit.model.state_dict())
    found = binarise(circuit, CONFIG)
    assert set(found.losses) == {"calibrate", "report", "ood"}
    for split in ("calibrate", "report"):
        losses = found.losses[split]
        assert losses["circuit"].value == pytest.approx(circuit.loss(split), abs=1e-6)
        assert losses["binarised"].value < 0.1
        assert losses["binarised"].value <= losses["fitted"].value + 0.01
    assert all(torch.equal(value, before[name]) for name, value in circuit.model.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in circuit.model.parameters())
    rows = found.by_node()
    assert [(row["site"], row["channel"]) for row in rows] == [(s, c) for s, cs in TRUE.items() for c in cs]
    assert all(row["low"] <= row["high"] for row in rows)


def test_learning_mends_a_bad_start(circuit: Circuit) -> None:
    """The model's answer is made weak, so that there is much to learn; at next to no rate nothing is learnt."""
    with torch.no_grad():
        circuit.model.lm_head.weight.mul_(0.1)
    slow = dataclasses.replace(CONFIG, loop=dataclasses.replace(CONFIG.loop, learning_rate=1e-6))
    start = binarise(circuit, slow).losses["report"]
    learnt = binarise(circuit, CONFIG).losses["report"]
    assert start["fitted"] == learnt["fitted"]
    assert start["binarised"].value == pytest.approx(start["fitted"].value, abs=1e-3)
    assert learnt["binarised"].value < 0.8 * start["fitted"].value


def test_there_must_be_nodes(quote_model, quote_task, quote_means) -> None:
    with pytest.raises(InputError, match="the circuit has no nodes"):
        binarise(Circuit(quote_model, quote_task, {}, quote_means))
