"""The circuit of the quote model that is known to be right, and settings that find it."""

import copy
from dataclasses import replace

import pytest
import torch
from known_circuit import CONFIG, NODES

from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.circuits.means import Means
from sparse_circuits.circuits.report import Card, build, report
from sparse_circuits.model import GPT
from sparse_circuits.tasks import Task, Template


@pytest.fixture
def circuit(quote_model: GPT, quote_task: Task, quote_means: Means) -> Circuit:
    return Circuit(quote_model, quote_task, NODES, quote_means, CONFIG)


@pytest.fixture(autouse=True)
def small_budgets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few of everything: models this small need no more, and the shapes are checked at each call."""
    for name in ("QUICK", "FULL"):
        budget = replace(getattr(build, name), random_sets=5, restorations=2, sizes=6)
        monkeypatch.setattr(build, name, budget)


@pytest.fixture
def echo(empty_model) -> tuple[GPT, Task]:
    """A model in which the last token alone decides, through embedding and unembedding: no block does anything."""
    model = empty_model()
    sides = model.tokenizer.encode("[]")
    with torch.no_grad():
        model.wte.weight[sides[0], 0], model.wte.weight[sides[1], 0] = 1, -1
        model.lm_head.weight[sides[0], 0], model.lm_head.weight[sides[1], 0] = 3, -3
    splits = {"prune": "ox elk", "calibrate": "ant crow", "report": "bee wolf", "ood": "hippo rhino"}
    task = Task(
        "echo",
        "Say the last token again.",
        {split: (Template(split, f"{split[0]}$word[", f"{split[0]}$word]", "[", "]"),) for split in splits},
        {split: {"word": tuple(words.split())} for split, words in splits.items()},
    )
    return model, task


_made: list[Card] = []


@pytest.fixture
def card(circuit: Circuit) -> Card:
    """The quick card of the known circuit, made once."""
    if not _made:
        _made.append(report(circuit))
    return copy.deepcopy(_made[0])
