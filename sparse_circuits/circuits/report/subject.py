"""The circuit under examination: its examples, and every forward pass that more than one point of the card needs."""

import zlib
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sparse_circuits.circuits.ablation import Counterparts, Resampled, final_scales, held
from sparse_circuits.circuits.circuit import Circuit, last_logits
from sparse_circuits.circuits.logits import RowTap
from sparse_circuits.circuits.nodes import keep_only
from sparse_circuits.circuits.report.statistics import DRAWS, Interval, by_pair, draw_weights, spread
from sparse_circuits.circuits.report.thresholds import CHANCE
from sparse_circuits.model import GPT
from sparse_circuits.sites import Tap
from sparse_circuits.tasks import Examples, Task, task_losses

Kind = Literal["mean", "zero", "resample"]
State = Literal["model", "circuit", "empty", "complement"]
KINDS: tuple[Kind, ...] = ("mean", "zero", "resample")


@dataclass(frozen=True)
class Budget:
    """How much the card measures."""

    pairs: int
    """Report pairs for points 2 to 4, 7 and 8, of those that the circuit's losses are measured on."""
    random_sets: int
    """Random node sets, for necessity and for random circuits."""
    restorations: int
    """Random choices of removed nodes to restore."""
    sizes: int
    """Circuit sizes on the faithfulness curve."""
    splits: tuple[str, ...]
    """Where losses are measured, as far as the task has it."""
    seeds: int = 3
    """Circuits to compare, the reported one among them."""


QUICK = Budget(pairs=32, random_sets=20, restorations=2, sizes=8, splits=("report", "ood"))
FULL = Budget(pairs=128, random_sets=100, restorations=10, sizes=32, splits=("report", "ood", "calibrate", "prune"))


class Subject:
    """A circuit, with what has been measured of it so far. All losses are on the split `report` unless said.

    `pairs` limits how many of the fixed pairs of each split are looked at.
    """

    def __init__(self, circuit: Circuit, budget: Budget, seed: int = 0, pairs: int | None = None):
        self.circuit, self.budget, self.seed = circuit, budget, seed
        self.space, self.kept, self.config = circuit.space, circuit.kept, circuit.config
        self.task: Task = circuit.task
        self.runner: GPT = circuit.runner
        self.device = next(self.runner.parameters()).device
        self.kind: Kind = circuit.config.ablation
        self._pairs = pairs
        self.examples = cache(self._examples)
        self.counterparts = cache(self._counterparts)
        self.logits = cache(self._logits)
        self.weights = cache(self._weights)

    def generator(self, name: str) -> torch.Generator:
        """A random stream of its own for each use, so that the points do not depend on each other's order."""
        return torch.Generator().manual_seed(zlib.crc32(f"{self.seed}/{name}".encode()))

    def _examples(self, split: str) -> Examples:
        examples = self.circuit.examples(split)
        if self._pairs is None or self._pairs >= len(examples):
            return examples
        # They are shuffled, so that the first are as good a choice as any.
        return examples.pick(torch.arange(self._pairs, device=examples.last.device))

    def _weights(self, split: str) -> Tensor:
        return draw_weights(len(self.examples(split)), DRAWS, self.seed)

    def _counterparts(self, split: str) -> Counterparts:
        return Counterparts(self.runner, self.examples(split), self.seed)

    @cached_property
    def splits(self) -> tuple[str, ...]:
        """Those of the budget's splits that the task has, the reported one first."""
        return tuple(split for split in self.budget.splits if split in self.task.splits)

    def tap(self, kept: Bool[Tensor, "nodes"], kind: Kind | None = None, split: str = "report") -> Tap | RowTap:
        """The tap that leaves only `kept` alive; None for `kind` is the circuit's own ablation."""
        kind = self.kind if kind is None else kind
        kept = kept.to(self.device)
        if kind == "resample":
            return Resampled(self.space, kept, self.counterparts(split))
        return keep_only(self.space, kept, held(self.circuit.means, kind).to(self.device))

    def measure(
        self, kept: Bool[Tensor, "nodes"], kind: Kind | None = None, split: str = "report", frozen: bool = False
    ) -> Float[Tensor, "rows V"]:
        """Logits with only `kept` alive; `frozen`: the final norm divides by what it does in the model."""
        scales = self.scales(split) if frozen else None
        return last_logits(self.runner, self.examples(split), self.tap(kept, kind, split), scales)

    def scales(self, split: str) -> Float[Tensor, "rows"]:
        """What the final norm divides by in the model."""
        return final_scales(self.runner, self.examples(split))

    def state(self, name: State) -> Bool[Tensor, "nodes"]:
        """The nodes that are alive in a state."""
        return {
            "model": torch.ones_like(self.kept),
            "circuit": self.kept,
            "empty": torch.zeros_like(self.kept),
            "complement": ~self.kept,
        }[name]

    def _logits(self, split: str, name: State) -> Tensor:
        if name == "model":
            return last_logits(self.runner, self.examples(split))
        return self.measure(self.state(name), split=split)

    def losses(self, logits: Float[Tensor, "rows V"], split: str = "report") -> Float[Tensor, "pairs"]:
        """-log p(right) of each pair, the mean of its sides, in nats."""
        return by_pair(task_losses(logits, self.examples(split)))

    def loss(self, name: State, split: str = "report") -> float:
        """The mean loss in a state."""
        return float(self.losses(self.logits(split, name), split).mean())

    def interval(self, pairs: Float[Tensor, "pairs"], split: str = "report") -> Interval:
        """The bootstrap interval of the mean of `pairs`."""
        return spread(self.weights(split) @ pairs.double())

    @cached_property
    def gain(self) -> float:
        """How far the circuit's loss is below chance."""
        return CHANCE - self.loss("circuit")
