"""The circuit of the quote model that is known to be right, and settings that find it."""

import copy
from dataclasses import replace

import pytest
from known_circuit import CONFIG, NODES

from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.circuits.means import Means
from sparse_circuits.circuits.report import Card, build, report
from sparse_circuits.model import GPT
from sparse_circuits.tasks import Task


@pytest.fixture
def circuit(quote_model: GPT, quote_task: Task, quote_means: Means) -> Circuit:
    return Circuit(quote_model, quote_task, NODES, quote_means, CONFIG)


@pytest.fixture(autouse=True)
def small_budgets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few of everything: models this small need no more, and the shapes are checked at each call."""
    for name in ("QUICK", "FULL"):
        budget = replace(getattr(build, name), random_sets=5, restorations=2, sizes=6)
        monkeypatch.setattr(build, name, budget)


_made: list[Card] = []


@pytest.fixture
def card(circuit: Circuit) -> Card:
    """The quick card of the known circuit, made once."""
    if not _made:
        _made.append(report(circuit))
    return copy.deepcopy(_made[0])
