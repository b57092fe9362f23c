"""What matters in training: one setting changed at a time, three seeds each, beside the recipe of the shipped model.

A small model (two layers of width 128, density 1/32) is trained on a million tokens of the mixed corpus, and its loss
is measured on held-out generated programs and on held-out real code. Every variant differs from that in one setting.
The table gives the mean over seeds of the difference to the recipe with the same seed, and its range. Runs that are
finished are not made again.

    python benchmarks/recipes.py --seeds 3 --workers 2
"""

import dataclasses
import json
import multiprocessing
import shutil
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from sparse_circuits.process import tune

tune()

import torch

from sparse_circuits import presets
from sparse_circuits.config import TrainConfig
from sparse_circuits.corpus.build import build_corpus
from sparse_circuits.corpus.config import CorpusConfig
from sparse_circuits.corpus.packed import PackedCorpus
from sparse_circuits.errors import Diverged
from sparse_circuits.files import read_json, write_json
from sparse_circuits.pretraining import Pretraining
from sparse_circuits.train import train

MEGABYTES = {"mix": (12.0, 12.0), "idioms": (24.0, 0.0), "real": (0.0, 24.0)}
"""Of generated programs and of real Python, in each corpus."""
MEASURED = ("idioms", "real")
BASE = "the recipe"
EVAL_TOKENS = 131_072
RATE = 7e-3
"""The learning rate of the recipe, for batches of 2048 tokens."""

Change = Callable[[TrainConfig], TrainConfig]


def model(**changes: Any) -> Change:
    return lambda config: dataclasses.replace(config, model=dataclasses.replace(config.model, **changes))


def sparsity(**changes: Any) -> Change:
    return lambda config: dataclasses.replace(config, sparsity=dataclasses.replace(config.sparsity, **changes))


def loop(**changes: Any) -> Change:
    return lambda config: dataclasses.replace(config, loop=dataclasses.replace(config.loop, **changes))


def trained_on(name: str) -> Change:
    return lambda config: dataclasses.replace(config, corpus=config.corpus.parent / name)


def density(one_in: int) -> Change:
    return sparsity(density=1 / one_in, embedding_density=min(1.0, 1.5 / one_in))


def published(config: TrainConfig) -> TrainConfig:
    """A bigram table that is learnt from near zero."""
    return dataclasses.replace(model(bigram_table="learned")(config), bigram_start="uniform")


VARIANTS: dict[str, dict[str, Change]] = {
    "": {BASE: lambda config: config},
    "density": {
        "dense": sparsity(density=1.0, embedding_density=None),
        "1/8": density(8),
        "1/16": density(16),
        "1/64": density(64),
        "embeddings 1/32": sparsity(embedding_density=1 / 32),
    },
    "shape": {
        "width 256": model(d_model=256, n_head=16),
        "no positions": model(positions="none", d_position=0),
        "no sink": model(sink=False),
        "ReLU": model(activation="relu"),
    },
    "AbsTopK": {
        "none": model(abs_topk=None),
        "1/8": model(abs_topk=1 / 8),
        "1/2": model(abs_topk=1 / 2),
    },
    "bigram table": {
        "none": model(bigram_table="none"),
        "learnt, from counts": model(bigram_table="learned"),
        "learnt, from near zero": published,
    },
    "rate": {
        "half": loop(learning_rate=RATE / 2),
        "double": loop(learning_rate=RATE * 2),
    },
    "optimiser": {
        "epsilon 0.1": loop(epsilon=0.1),
        "epsilon 1e-8": loop(epsilon=1e-8),
        "gradients clipped to RMS 1": loop(gradient="clip"),
        "no weight decay": loop(weight_decay=0.0),
    },
    "annealing": {
        "none": sparsity(density_start=0.0, density_end=0.0),
        "linear": sparsity(density_shape="linear"),
        "until half the steps": sparsity(density_end=0.5),
        "until 0.8 of the steps": sparsity(density_end=0.8),
    },
    "mix": {
        "generated programs only": trained_on("idioms"),
        "real code only": trained_on("real"),
    },
}
"""By what they change, then by name."""


@dataclass(frozen=True)
class Settings:
    """Train the recipe and every variant of it, and print what each change is worth."""

    steps: int = 500
    """Optimiser steps of each run (2048 tokens each)."""
    seeds: int = 3
    """Runs of each variant."""
    workers: int = 2
    """Runs at a time, each on one core."""
    out: Path = Path("runs/recipes")
    """Folder for corpora and models."""
    json: bool = False
    """Print as JSON."""


def main() -> None:
    """Train what is not yet trained and print the table."""
    settings = tyro.cli(Settings)
    pack(settings.out)
    jobs = [
        (settings, group, name, seed)
        for seed in range(settings.seeds)
        for group, variants in VARIANTS.items()
        for name in variants
    ]
    # Fresh processes: each with one thread, whatever this one has.
    with ProcessPoolExecutor(settings.workers, multiprocessing.get_context("spawn")) as pool:
        found = list(pool.map(run, jobs))
    losses = {job[1:]: result for job, result in zip(jobs, found, strict=True)}
    rows = [row(losses, group, name, settings.seeds) for group, variants in VARIANTS.items() for name in variants]
    if settings.json:
        json.dump(rows, sys.stdout, indent=2)
        print()
        return
    print(f"| changed | to | {' | '.join(MEASURED)} | tokens a second |\n|---|---|---:|---:|---:|")
    for each in rows:
        sign = "" if each["changed"] == BASE else "+"
        cells = " | ".join(cell(values, sign) for values in each["losses"])
        print(f"| {each['changed']} | {each['to']} | {cells} | {each['speed']:,.0f} |")


def pack(out: Path) -> None:
    """The three corpora, with the tokenizer of the mix."""
    for name, (idioms, real) in MEGABYTES.items():
        if not (out / name / "manifest.json").exists():
            build_corpus(
                CorpusConfig(
                    out=out / name,
                    idioms=idioms,
                    level="full",
                    installed=real > 0,
                    limit=real or None,
                    tokenizer=None if name == "mix" else out / "mix",
                )
            )


def base(out: Path, steps: int) -> TrainConfig:
    """The recipe of `small-sparse`, smaller; on a CPU amortised, as one would train it there."""
    shipped = presets.small_train(out / "mix", out, density=1 / 32)
    return dataclasses.replace(
        shipped,
        dw="dense" if torch.cuda.is_available() else "amortized",
        model=dataclasses.replace(shipped.model, n_layer=2, d_model=128, n_head=8, block_size=128),
        sparsity=dataclasses.replace(shipped.sparsity, embedding_density=1.5 / 32),
        loop=dataclasses.replace(shipped.loop, steps=steps, learning_rate=RATE),
        batch_size=16,
        eval_every=steps,
        checkpoint_seconds=3600.0,
    )


def run(job: tuple[Settings, str, str, int]) -> dict[str, Any]:
    """Losses by corpus and tokens a second of one run, made now or before."""
    settings, group, name, seed = job
    torch.set_num_threads(1)
    words = "-".join(f"{group} {name}".replace("/", " in ").split()).replace(",", "")
    out = settings.out / f"{settings.steps}-steps" / f"{words}-{seed}"
    if not (out / "losses.json").exists():
        shutil.rmtree(out, ignore_errors=True)
        config = VARIANTS[group][name](loop(seed=seed)(base(settings.out, settings.steps)))
        config = dataclasses.replace(config, out=out)
        try:
            trained = train(config, progress=False)
        except Diverged as error:
            print(f"{words}: {error}", file=sys.stderr)
            write_json(out / "losses.json", dict.fromkeys(MEASURED) | {"speed": 0.0})
            return read_json(out / "losses.json")
        described = read_json(out / "train.json")
        result = {
            each: Pretraining(trained, PackedCorpus.load(settings.out / each), config).validation_loss(EVAL_TOKENS)
            for each in MEASURED
        }
        write_json(out / "losses.json", result | {"speed": described["tokens"] / described["seconds"]})
        (out / "model.safetensors").unlink()
        print(f"{words} seed {seed}: {result}", file=sys.stderr)
    return read_json(out / "losses.json")


def row(losses: dict[tuple[str, str, int], dict[str, Any]], group: str, name: str, seeds: int) -> dict[str, Any]:
    """A row of the table: losses of the recipe itself, or differences to it, by seed."""
    values = []
    for each in MEASURED:
        own = [losses[group, name, seed][each] for seed in range(seeds)]
        base_values = [losses["", BASE, seed][each] for seed in range(seeds)]
        values.append(own if name == BASE or None in own else [a - b for a, b in zip(own, base_values, strict=True)])
    speed = max(losses[group, name, seed]["speed"] for seed in range(seeds))
    return {"changed": group or BASE, "to": "" if name == BASE else name, "losses": values, "speed": speed}


def cell(values: list[Any], sign: str) -> str:
    """Mean and range."""
    if None in values:
        return "diverged"
    mean = sum(values) / len(values)
    return f"{mean:{sign}.3f} ({min(values):{sign}.3f} to {max(values):{sign}.3f})"


if __name__ == "__main__":
    main()
