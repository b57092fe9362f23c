"""Training runs of seconds, and ways to stop them."""

import dataclasses
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sparse_circuits.config import GPTConfig, LoopConfig, SparsityConfig, TrainConfig
from sparse_circuits.corpus.packed import PackedCorpus
from sparse_circuits.pretraining import Pretraining

STEPS = 30


@dataclasses.dataclass
class Finished:
    """A run never stopped."""

    config: TrainConfig
    seconds: float

    @property
    def model_bytes(self) -> bytes:
        return (self.config.out / "model.safetensors").read_bytes()


def settings(corpus: PackedCorpus, out: Path, steps: int = STEPS, **changes: Any) -> TrainConfig:
    return TrainConfig(
        corpus=corpus.folder,
        out=out,
        model=GPTConfig(block_size=32, n_layer=2, d_model=16, n_head=2, **changes.pop("model", {})),
        sparsity=changes.pop("sparsity", SparsityConfig(density=0.25, density_shape="linear")),
        loop=LoopConfig(**{"steps": steps, "learning_rate": 0.1, **changes.pop("loop", {})}),
        **{"batch_size": 8, "bigram_start": "uniform", "eval_every": 20, "eval_tokens": 500, **changes},
    )


def flags(config: TrainConfig) -> list[str]:
    """What a shell would give `train` for a config that `settings` has made."""
    values = {
        "corpus": config.corpus,
        "out": config.out,
        "block-size": config.model.block_size,
        "n-layer": config.model.n_layer,
        "d-model": config.model.d_model,
        "n-head": config.model.n_head,
        "density": config.sparsity.density,
        "density-shape": config.sparsity.density_shape,
        "steps": config.loop.steps,
        "learning-rate": config.loop.learning_rate,
        "precision": config.loop.precision,
        "batch-size": config.batch_size,
        "bigram-start": config.bigram_start,
        "eval-every": config.eval_every,
        "eval-tokens": config.eval_tokens,
        "checkpoint-seconds": config.checkpoint_seconds,
    }
    return [str(part) for name, value in values.items() for part in (f"--{name}", value)]


def log_of(folder: Path) -> list[dict[str, Any]]:
    """`progress.jsonl` without what depends on the machine."""
    lines = [json.loads(line) for line in (folder / "progress.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "tokens_per_second"} for line in lines]


def interrupt_after(step: int, monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Do `act` at the end of step `step` (1-based)."""
    whole = Pretraining.after_step

    def after_step(objective: Pretraining, number: int) -> None:
        whole(objective, number)
        if number == step - 1:
            act()

    monkeypatch.setattr(Pretraining, "after_step", after_step)


def ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)
