"""What the two defaults that differ from the published recipe are worth in short training.

Trains the demo's model for a while with each combination of how the density falls (exponential, linear) and what the
bigram table starts from (counts, uniform), on generated programs, and prints the mean and range of validation losses
over seeds.

    python benchmarks/short_training.py --steps 200 --seeds 2
"""

import dataclasses
import itertools
import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import tyro

from sparse_circuits.process import tune

tune()

from sparse_circuits import presets
from sparse_circuits.corpus.build import build_corpus
from sparse_circuits.files import read_json
from sparse_circuits.train import train


@dataclass(frozen=True)
class Settings:
    """Compare density schedules and starts of the bigram table in short training."""

    steps: int = 200
    """Optimiser steps of each run (4096 tokens each)."""
    seeds: int = 2
    """Runs of each combination."""
    out: Path = Path("runs/short_training")
    """Folder for corpus and models; models in it are replaced."""
    json: bool = False
    """Print as JSON."""


def main() -> None:
    """Train all combinations and print the table."""
    settings = tyro.cli(Settings)
    corpus = settings.out / "corpus"
    if not (corpus / "manifest.json").exists():
        build_corpus(presets.demo_corpus(corpus))
    rows = []
    for shape, start in itertools.product(("exponential", "linear"), ("counts", "uniform")):
        losses = []
        for seed in range(settings.seeds):
            out = settings.out / f"{shape}-{start}-{seed}"
            shutil.rmtree(out, ignore_errors=True)
            demo = presets.demo_train(corpus, out)
            config = dataclasses.replace(
                demo,
                sparsity=dataclasses.replace(
                    demo.sparsity, density_shape=cast(Literal["linear", "exponential"], shape)
                ),
                loop=dataclasses.replace(demo.loop, steps=settings.steps, seed=seed),
                bigram_start=cast(Literal["counts", "uniform"], start),
            )
            train(config)
            losses.append(read_json(out / "train.json")["validation_loss"])
        rows.append((shape, start, losses))
    bigram = read_json(out / "train.json")["bigram_loss"]
    if settings.json:
        named = [dict(zip(("density_shape", "bigram_start", "losses"), row, strict=True)) for row in rows]
        json.dump({"bigram_loss": bigram, "rows": named}, sys.stdout, indent=2)
        print()
        return
    print(f"validation loss after {settings.steps} steps; bigram baseline {bigram:.3f}")
    for shape, start, losses in rows:
        mean = sum(losses) / len(losses)
        print(f"{shape:12s} {start:8s} {mean:.3f} ({min(losses):.3f} to {max(losses):.3f})")


if __name__ == "__main__":
    main()
