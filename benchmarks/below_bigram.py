"""How far below a bigram model a few minutes of training get, on real Python, sparse and dense.

Packs the standard library of the running Python (whole files held out for validation), then trains the same model twice
for the same time, at density 1/16 and dense, and prints both losses beside the bigram baseline (interpolated modified
Kneser-Ney, counted on the same training split).

    python benchmarks/below_bigram.py --minutes 10
"""

import dataclasses
import json
import platform
import shutil
import sys
import sysconfig
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from sparse_circuits.process import tune

tune()

import torch

from sparse_circuits import presets
from sparse_circuits.config import TrainConfig
from sparse_circuits.corpus.build import build_corpus
from sparse_circuits.corpus.config import CorpusConfig
from sparse_circuits.corpus.packed import PackedCorpus
from sparse_circuits.files import read_json
from sparse_circuits.loop import Loop
from sparse_circuits.model import GPT
from sparse_circuits.pretraining import Pretraining
from sparse_circuits.train import train

PROBE_STEPS = 12
DENSITIES = {"sparse, 1/16": 1 / 16, "dense": 1.0}


@dataclass(frozen=True)
class Settings:
    """Train on the standard library for some minutes, sparse and dense."""

    minutes: float = 10.0
    """Training time of each model; the number of steps is set by timing a few."""
    out: Path = Path("runs/below_bigram")
    """Folder for corpus and models; models in it are replaced."""
    only: Literal["sparse, 1/16", "dense"] | None = None
    """Train this model alone."""
    json: bool = False
    """Print as JSON."""


def main() -> None:
    """Pack, train twice, print the table."""
    settings = tyro.cli(Settings)
    corpus = packed(settings.out)
    rows = []
    for name, density in DENSITIES.items():
        if settings.only not in (None, name):
            continue
        out = settings.out / f"density-{density:g}"
        shutil.rmtree(out, ignore_errors=True)
        config = presets.stdlib_train(corpus, out, density)
        config = with_steps(config, max(20, int(settings.minutes * 60 / mean_step_seconds(config))))
        train(config)
        result = read_json(out / "train.json")
        rows.append(
            {"model": name, **{key: result[key] for key in ("validation_loss", "bigram_loss", "seconds", "tokens")}}
        )
    if settings.json:
        json.dump(rows, sys.stdout, indent=2)
        print()
        return
    print(f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"{'model':14s}{'loss':>8s}{'bigram':>8s}{'below':>8s}{'tokens':>12s}{'seconds':>9s}")
    for row in rows:
        below = row["bigram_loss"] - row["validation_loss"]
        print(
            f"{row['model']:14s}{row['validation_loss']:8.3f}{row['bigram_loss']:8.3f}{below:8.3f}"
            f"{row['tokens']:12,d}{row['seconds']:9.0f}"
        )


def packed(folder: Path) -> Path:
    """The folder of the standard library's corpus, made if it is not there."""
    corpus = folder / "corpus"
    if not (corpus / "manifest.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        build_corpus(CorpusConfig(out=corpus, folder=(Path(sysconfig.get_path("stdlib")),), vocab_size=2048))
    return corpus


def with_steps(config: TrainConfig, steps: int) -> TrainConfig:
    """The same training with another number of steps."""
    return dataclasses.replace(config, loop=dataclasses.replace(config.loop, steps=steps))


def mean_step_seconds(config: TrainConfig, clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds by `clock` that a training step takes here on average, from a few of each part of the schedule.

    While the density falls the products are dense for the most part; afterwards they are as sparse as the weights.
    """
    falling = config.sparsity.density_end if config.sparsity.density < 1 else 0.0
    at_first, later = (step_seconds(config, share, clock) for share in (falling / 2, (1 + falling) / 2))
    return falling * at_first + (1 - falling) * later


def step_seconds(config: TrainConfig, share: float, clock: Callable[[], float]) -> float:
    """Mean seconds of a few steps from this share of all on, on a model that is thrown away."""
    corpus = PackedCorpus.load(config.corpus)
    shape = dataclasses.replace(config.model, vocab_size=corpus.tokenizer.vocab_size)
    loop = Loop(Pretraining(GPT(shape), corpus, config), config.loop)
    loop.step = int(share * config.loop.steps)
    steps = iter(loop)
    next(steps)  # compiles the kernels, and brings the weights to their density
    next(steps)
    started = clock()
    for _ in range(PROBE_STEPS):
        next(steps)
    return (clock() - started) / PROBE_STEPS


if __name__ == "__main__":
    main()
