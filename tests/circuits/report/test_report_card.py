"""The card on a model whose circuit is known by heart: each point has its number, interval, sentence and verdict."""

import json
import math
from pathlib import Path

import pytest
import torch

from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.circuits.means import Means
from sparse_circuits.circuits.report import POINTS, Card, report
from sparse_circuits.config import PruneConfig
from sparse_circuits.model import GPT
from sparse_circuits.tasks import Task

NODES = {"0.attn.act_in": (0, 1), "0.attn.k": (0,), "0.attn.v": (0,), "0.attn.resid_delta": (3,)}


@pytest.fixture
def circuit(quote_model: GPT, quote_task: Task, quote_means: Means) -> Circuit:
    return Circuit(quote_model, quote_task, NODES, quote_means, PruneConfig(target_loss=0.1, eval_pairs=4))


def test_try(circuit: Circuit) -> None:
    card = report(circuit)
    for r in card.rows:
        print(r.point, r.key, r.verdict, r.value, r.interval, "|", r.sentence)
    print(card.verdict, card.line)
    assert 0
