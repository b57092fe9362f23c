"""Our side of each case, by the public API only: what a user of the library runs."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sparse_circuits.bench.shapes import Shape, random_tokens
from sparse_circuits.circuits.config import PruneConfig
from sparse_circuits.circuits.masks import MaskLearning
from sparse_circuits.circuits.nodes import NodeSpace
from sparse_circuits.config import LoopConfig, SparsityConfig, TrainConfig
from sparse_circuits.corpus.packed import PackedCorpus
from sparse_circuits.inference import fastest
from sparse_circuits.loop import Loop, StepLog
from sparse_circuits.model import GPT
from sparse_circuits.pretraining import Pretraining
from sparse_circuits.tasks import Examples, Task, Template
from sparse_circuits.tokenizer import Tokenizer

UNENDING = 1_000_000
"""Steps of a loop that is stopped after a few, so that its schedules stand still meanwhile."""
PROMPT = 32
"""Tokens of a made-up prompt."""


def fast(model: GPT) -> GPT:
    """The model as one runs it once it is trained."""
    return model.sparsify()


def tokenizer() -> Tokenizer:
    """The smallest tokenizer there is; benchmarks make up their tokens, but objectives want to know one."""
    return Tokenizer.train([""], 257)


def training_config(shape: Shape, batch: int, dw: Literal["dense", "amortized"] = "dense") -> TrainConfig:
    """Training at the shape's final density, with the rate of the released script."""
    return TrainConfig(
        model=shape.config,
        sparsity=SparsityConfig(
            density=shape.density, embedding_density=shape.embedding_density, density_start=0.0, density_end=0.0
        ),
        loop=LoopConfig(steps=UNENDING, learning_rate=1.28e-2, warmup=0.0),
        batch_size=batch,
        dw=dw,
    )


def corpus(shape: Shape, tokens: int = 1 << 16) -> PackedCorpus:
    """A corpus of made-up tokens."""
    made = random_tokens(shape.config, 1, tokens)[0].numpy().astype(np.uint16)
    return PackedCorpus(Path("made up"), tokenizer(), made, made, {})


def training(model: GPT, text: PackedCorpus, config: TrainConfig) -> Iterator[StepLog]:
    """Trains `model`, one step at each `next`."""
    return iter(Loop(Pretraining(model, text, config), config.loop))


@dataclass(frozen=True)
class MadeUpTask(Task):
    """Pairs of random prompts of 32 tokens; every batch holds all of them."""

    vocabulary: int = 2
    count: int = 1

    def size(self, split: str) -> int:
        return self.count

    def examples(
        self, tokenizer: Tokenizer, split: str = "report", n: int = 64, seed: int = 0, block_size: int = 256
    ) -> Examples:
        rows = 2 * self.count
        generator = torch.Generator().manual_seed(0)
        tokens = torch.randint(self.vocabulary, (rows, PROMPT), generator=generator)
        right = torch.randint(self.vocabulary, (rows,), generator=generator)
        # Never the right one.
        wrong = (right + torch.randint(1, self.vocabulary, (rows,), generator=generator)) % self.vocabulary
        return Examples(tokens, torch.full((rows,), PROMPT - 1), right, wrong, "two_token")


class Masks(NamedTuple):
    """Mask learning, and what an opponent needs to do the same."""

    steps: Iterator[StepLog]
    """One step at each `next`."""
    tau: torch.nn.Parameter
    """The mask parameters, which steps change."""
    held: Float[Tensor, " nodes"]
    examples: Examples
    config: PruneConfig


def mask_learning(model: GPT, pairs: int, precision: Literal["bf16", "fp32"]) -> Masks:
    """Learning the masks of `model`, with the defaults of `prune`, on batches of so many pairs."""
    config = PruneConfig(batch_pairs=pairs, k_rate=0.0)  # the opponent's price is fixed
    loop = dataclasses.replace(config.loop, steps=UNENDING, warmup=0.0, precision=precision)
    config = dataclasses.replace(config, loop=loop)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    runner = fastest(model)
    runner.tokenizer = tokenizer()
    held = 0.1 * torch.randn(NodeSpace(model.config).total, generator=torch.Generator().manual_seed(0))
    templates = {"prune": (Template("made up", "a", "b", "c", "d"),)}
    task = MadeUpTask("made up", "random prompts", templates, vocabulary=model.config.vocab_size, count=pairs)
    objective = MaskLearning(runner, task, held, config)
    (tau,) = objective.parameters().values()
    return Masks(iter(Loop(objective, loop)), tau, held, task.examples(runner.tokenizer), config)
