"""Train weight-sparse transformers on code, find the circuit behind a behaviour, and check it.

    import sparse_circuits as sc
    model = sc.load("runs/model")
    circuit = sc.prune(model, sc.TASKS["single_double_quote"], target_loss=0.15)

The names below are loaded when first used, so that importing the package costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparse_circuits.bridges.bridge import Bridge
    from sparse_circuits.checkpoint import load
    from sparse_circuits.circuits.circuit import Circuit
    from sparse_circuits.circuits.config import PruneConfig
    from sparse_circuits.circuits.prune import prune
    from sparse_circuits.circuits.report import Card, report
    from sparse_circuits.circuits.sweep.config import SweepConfig
    from sparse_circuits.circuits.sweep.run import sweep
    from sparse_circuits.circuits.tune.config import TuneConfig
    from sparse_circuits.circuits.tune.run import tune
    from sparse_circuits.config import GPTConfig, TrainConfig
    from sparse_circuits.corpus.build import build_corpus
    from sparse_circuits.corpus.config import CorpusConfig
    from sparse_circuits.errors import Diverged, InputError
    from sparse_circuits.model import GPT
    from sparse_circuits.tasks import TASKS, Pair, Task, Template
    from sparse_circuits.tokenizer import Tokenizer

__all__ = [
    "GPT",
    "TASKS",
    "Bridge",
    "Card",
    "Circuit",
    "CorpusConfig",
    "Diverged",
    "GPTConfig",
    "InputError",
    "Pair",
    "PruneConfig",
    "SweepConfig",
    "Task",
    "Template",
    "Tokenizer",
    "TrainConfig",
    "TuneConfig",
    "build_corpus",
    "load",
    "prune",
    "report",
    "sweep",
    "tune",
]

_HOMES = {
    "GPT": "model",
    "TASKS": "tasks",
    "Bridge": "bridges.bridge",
    "Card": "circuits.report",
    "Circuit": "circuits.circuit",
    "CorpusConfig": "corpus.config",
    "Diverged": "errors",
    "GPTConfig": "config",
    "InputError": "errors",
    "Pair": "tasks",
    "PruneConfig": "circuits.config",
    "SweepConfig": "circuits.sweep.config",
    "Task": "tasks",
    "Template": "tasks",
    "Tokenizer": "tokenizer",
    "TrainConfig": "config",
    "TuneConfig": "circuits.tune.config",
    "build_corpus": "corpus.build",
    "load": "checkpoint",
    "prune": "circuits.prune",
    "report": "circuits.report",
    "sweep": "circuits.sweep.run",
    "tune": "circuits.tune.run",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'sparse_circuits' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"sparse_circuits.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
