"""The circuit of the quote model that is known to be right, and settings that find it."""

import pytest

from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.circuits.means import Means
from sparse_circuits.config import LoopConfig, PruneConfig
from sparse_circuits.model import GPT
from sparse_circuits.tasks import Task

CONFIG = PruneConfig(
    target_loss=0.1,
    k_coef=0.01,
    temperature=0.5,
    batch_pairs=5,
    eval_pairs=4,
    mean_tokens=2000,
    loop=LoopConfig(steps=15, learning_rate=0.05, epsilon=1e-8, gradient="clip"),
)
NODES = {"0.attn.act_in": (0, 1), "0.attn.k": (0,), "0.attn.v": (0,), "0.attn.resid_delta": (3,)}


@pytest.fixture
def circuit(quote_model: GPT, quote_task: Task, quote_means: Means) -> Circuit:
    return Circuit(quote_model, quote_task, NODES, quote_means, CONFIG)
