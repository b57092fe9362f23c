"""What the parts of bridge training are worth: one setting changed at a time, some seeds each, beside the defaults.

The bridge of the shipped pair is trained for some hundred steps, from the shipped sparse model and least-squares maps.
The table gives, on held-out text, the loss of the sparse model and of the hybrid passes above the dense model's (mean
and worst over sites and directions), and the errors of the maps; as means over seeds, with the range of the worst
hybrid. Runs that are finished are not made again.

    python benchmarks/bridge_terms.py --seeds 3 --workers 2
"""

import json
import multiprocessing
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tyro

from sparse_circuits.process import tune

tune()

import torch

from sparse_circuits import presets
from sparse_circuits.bridges.check import check
from sparse_circuits.bridges.config import BridgeConfig, Terms
from sparse_circuits.bridges.train import train_bridge
from sparse_circuits.corpus.packed import PackedCorpus
from sparse_circuits.errors import Diverged
from sparse_circuits.files import read_json, write_json

BASE = "the defaults"
Change = Callable[[BridgeConfig], BridgeConfig]


def terms(**weights: float) -> Change:
    return lambda config: replace(config, terms=replace(config.terms, **weights))


def changed(**changes: Any) -> Change:
    return lambda config: replace(config, **changes)


def rate(factor: float) -> Change:
    def change(config: BridgeConfig) -> BridgeConfig:
        loop = replace(config.train.loop, learning_rate=factor * config.train.loop.learning_rate)
        return replace(config, train=replace(config.train, loop=loop))

    return change


VARIANTS: dict[str, Change] = {
    BASE: lambda config: config,
    "no cross-entropy": terms(ce=0.0),
    "no KL of the whole models": terms(kl=0.0),
    "no error of encoded streams": terms(encode_nmse=0.0),
    "no error of decoded streams": terms(decode_nmse=0.0),
    "no KL from encoded streams": terms(encode_kl=0.0),
    "no KL from decoded streams": terms(decode_kl=0.0),
    "both errors only": terms(ce=0.0, kl=0.0, encode_kl=0.0, decode_kl=0.0),
    "both errors times 4": terms(encode_nmse=4.0, decode_nmse=4.0),
    "both errors by 4": terms(encode_nmse=0.25, decode_nmse=0.25),
    "both hybrid KLs times 4": terms(encode_kl=4.0, decode_kl=4.0),
    "KL of the whole models times 4": terms(kl=4.0),
    "encoded channels: all kept": changed(encoder_topk=None),
    "encoded channels: 1/16 kept": changed(encoder_topk=1 / 16),
    "sparse model frozen": changed(train_sparse=False),
    "maps from nothing": changed(fit_tokens=0),
    "3 sites a step": changed(sites_per_step=3),
    "1 site a step": changed(sites_per_step=1),
    "rate: a third": rate(1 / 3),
    "rate: three times": rate(3.0),
}


@dataclass(frozen=True)
class Settings:
    """Train the bridge with the defaults and every variant of them, and print what comes of each."""

    corpus: Path = Path("runs/corpus")
    """Packed corpus with the tokenizer of the models."""
    steps: int = 400
    """Optimiser steps of each run."""
    batch_size: int = 8
    """Windows of 256 tokens a step."""
    tokens: int = 65_536
    """Held-out tokens to check on."""
    seeds: int = 3
    """Runs of each variant."""
    workers: int = 2
    """Runs at a time."""
    out: Path = Path("runs/bridge_terms")
    """Folder for what each run found."""


def main() -> None:
    """Train what is not yet trained and print the table."""
    settings = tyro.cli(Settings)
    jobs = [(settings, name, seed) for seed in range(settings.seeds) for name in VARIANTS]
    # Fresh processes: each with one thread, whatever this one has.
    with ProcessPoolExecutor(settings.workers, multiprocessing.get_context("spawn")) as pool:
        results = list(pool.map(run, jobs))
    found = {job[1:]: result for job, result in zip(jobs, results, strict=True)}
    columns = ("sparse", "hybrid", "worst", "encode", "decode")
    print("| changed | sparse model | hybrids, mean | hybrids, worst | encoders' error | decoders' error | s a step |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name in VARIANTS:
        rows = [row for seed in range(settings.seeds) if (row := found[name, seed]) is not None]
        if len(rows) < settings.seeds:
            print(f"| {name} | diverged |")
            continue
        means = [f"{statistics.mean(row[column] for row in rows):.3f}" for column in columns]
        worst = [row["worst"] for row in rows]
        means[2] += f" ({min(worst):.3f} to {max(worst):.3f})"
        print(f"| {name} | {' | '.join(means)} | {min(row['seconds'] for row in rows):.3f} |")


def run(job: tuple[Settings, str, int]) -> dict[str, float] | None:
    """What one run found, made now or before; None where it diverged."""
    settings, name, seed = job
    torch.set_num_threads(1)
    words = "-".join(name.replace("/", " in ").split()).replace(",", "").replace(":", "")
    # All that a result depends on, but for the corpus.
    made = f"{settings.steps}-steps-of-{settings.batch_size}-on-{settings.tokens}"
    out = settings.out / made / f"{words}-{seed}"
    if not (out / "found.json").exists():
        shutil.rmtree(out, ignore_errors=True)
        usual = replace(presets.small_bridge(settings.corpus, out), terms=Terms())
        train = replace(
            usual.train,
            loop=replace(usual.train.loop, steps=settings.steps, seed=seed),
            batch_size=settings.batch_size,
            eval_tokens=1024,
            eval_every=10**6,
            checkpoint_seconds=3600.0,
        )
        try:
            started = time.monotonic()
            bridge = train_bridge(VARIANTS[name](replace(usual, train=train)), progress=False)
            seconds = (time.monotonic() - started) / settings.steps
        except Diverged as error:
            print(f"{name}: {error}", file=sys.stderr)
            write_json(out / "found.json", None)
            return None
        checked = check(bridge, PackedCorpus.load(settings.corpus), settings.tokens, switches=0)
        dense, sites = checked.dense.value, checked.sites
        hybrids = [loss.value - dense for site in sites for loss in (site.into_sparse, site.into_dense)]
        result = {
            "sparse": checked.sparse.value - dense,
            "hybrid": statistics.mean(hybrids),
            "worst": max(hybrids),
            "encode": statistics.mean(site.encode_nmse for site in sites),
            "decode": statistics.mean(site.decode_nmse for site in sites),
            "seconds": seconds,
        }
        for file in out.glob("*"):
            file.unlink()  # but for what was found
        write_json(out / "found.json", result)
        print(f"{name} seed {seed}: {json.dumps(result)}", file=sys.stderr, flush=True)
    return read_json(out / "found.json")


if __name__ == "__main__":
    main()
