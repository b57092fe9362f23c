"""Training steps as CUDA graphs beside the same steps without: are they the same, and how much faster?

A sparse model is trained for some steps while its density falls, twice with graphs and once without, in fp32 and in
bf16. To be run on a GPU; the corpus is any packed one.

    python benchmarks/cuda_graphs.py --corpus runs/corpus
"""

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
import tyro

from sparse_circuits import presets
from sparse_circuits.corpus.packed import PackedCorpus
from sparse_circuits.kernels.graphs import ENVIRONMENT
from sparse_circuits.loop import Loop
from sparse_circuits.model import GPT
from sparse_circuits.pretraining import Pretraining

Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True)
class Settings:
    """Train with and without CUDA graphs."""

    corpus: Path = Path("runs/corpus")
    """A packed corpus."""
    steps: int = 60
    """Optimiser steps of each run."""
    batch_size: int = 32
    """Sequences per step."""


@dataclass(frozen=True)
class Outcome:
    """What a run led to."""

    losses: list[float]
    parameters: dict[str, torch.Tensor]
    milliseconds: float
    """Of a step, its first ten left out."""


def main() -> None:
    """Train and print the comparison."""
    settings = tyro.cli(Settings)
    if not torch.cuda.is_available():
        raise SystemExit("this benchmark needs a GPU that PyTorch can use")
    precisions: tuple[Precision, ...] = ("fp32", "bf16")
    for precision in precisions:
        recorded, again = (run(settings, precision, "1") for _ in range(2))
        plain = run(settings, precision, "0")
        print(
            f"{precision}: {recorded.milliseconds:.2f} ms a step with graphs, {plain.milliseconds:.2f} without "
            f"({plain.milliseconds / recorded.milliseconds:.1f} times); twice with: {apart(recorded, again)}; "
            f"with and without: {apart(recorded, plain)}"
        )


def run(settings: Settings, precision: Precision, graphs: str) -> Outcome:
    """Train from the same start."""
    os.environ[ENVIRONMENT] = graphs
    config = presets.small_train(settings.corpus, density=1 / 32)
    corpus = PackedCorpus.load(settings.corpus)
    config = replace(
        config,
        # Of width 384 and density 1/32, as quoted in the README: the model that shipped when this was measured.
        model=replace(config.model, vocab_size=corpus.tokenizer.vocab_size, d_model=384, n_head=24),
        loop=replace(config.loop, steps=settings.steps, precision=precision),
        batch_size=settings.batch_size,
        dw="dense",
    )
    model = GPT(config.model, seed=0).cuda()
    losses, started = [], 0.0
    for log in Loop(Pretraining(model, corpus, config), config.loop):
        losses.append(log.loss)
        if log.step == 10:
            torch.cuda.synchronize()
            started = time.perf_counter()
    torch.cuda.synchronize()
    seconds = time.perf_counter() - started
    parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}
    return Outcome(losses, parameters, seconds / (settings.steps - 10) * 1e3)


def apart(one: Outcome, other: Outcome) -> str:
    """How far two runs are from each other."""
    pairs = [(tensor, other.parameters[name]) for name, tensor in one.parameters.items()]
    if all(torch.equal(*pair) for pair in pairs):
        return "the same bits"
    parameter = max(float((left - right).abs().max()) for left, right in pairs)
    loss = max(abs(left - right) for left, right in zip(one.losses, other.losses, strict=True))
    places = sum(int(((left != 0) != (right != 0)).sum()) for left, right in pairs)
    return f"parameters at most {parameter:.1e} apart, losses {loss:.1e}, {places} weights held by one only"


if __name__ == "__main__":
    main()
