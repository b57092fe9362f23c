"""The circuit under examination: its examples, and every forward pass that more than one point of the card needs.

A circuit whose target was one of calibrated loss is judged with its logits scaled and shifted. So is every choice of
nodes that it is compared with, each by a fit of its own on the same pairs; the model stays as it is.
"""

import zlib
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sparse_circuits.circuits.ablation import Counterparts, held
from sparse_circuits.circuits.calibration import Calibration, calibrate, odds_under
from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.circuits.evaluator import Evaluator
from sparse_circuits.circuits.logits import final_scales, last_logits
from sparse_circuits.circuits.report.statistics import DRAWS, Interval, by_pair, draw_weights, spread
from sparse_circuits.circuits.report.thresholds import CHANCE
from sparse_circuits.model import GPT
from sparse_circuits.tasks import Examples, Task, task_losses

Kind = Literal["mean", "zero", "resample"]
State = Literal["model", "circuit", "empty", "complement"]
Norm = Literal["live", "frozen"]
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
        self.full: GPT = circuit.full
        self.device = next(self.full.parameters()).device
        self.kind: Kind = circuit.config.ablation
        self.norm: Norm = circuit.config.final_norm
        self._pairs = pairs
        self.examples = cache(self._examples)
        self.evaluator = cache(self._evaluator)
        self.logits = cache(self._logits)
        self.odds = cache(self._odds)
        self.applied = cache(self._applied)
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

    @cached_property
    def splits(self) -> tuple[str, ...]:
        """Those of the budget's splits that the task has, the reported one first."""
        return tuple(split for split in self.budget.splits if split in self.task.splits)

    def _evaluator(
        self, split: str = "report", kind: Kind | None = None, norm: Norm | None = None, edges: bool = False
    ) -> Evaluator:
        """What measures choices of nodes.

        Args:
            kind: how nodes are removed, as the circuit's own removal by default.
            norm: what the final norm divides by, the circuit's own way by default.
            edges: without the edges that the circuit leaves out between its nodes, or on the full model.
        """
        own = self.config.loop.seed if kind is None else self.seed
        kind, norm = kind or self.kind, norm or self.norm
        examples = self.examples(split)
        found = Evaluator(
            self.full,
            examples,
            held(self.circuit.means, "zero" if kind == "zero" else "mean"),
            Counterparts(self.full, examples, own) if kind == "resample" else None,
            final_scales(self.full, examples) if norm == "frozen" else None,
        )
        return found.without(self.circuit.dropped) if edges else found

    def measure(
        self,
        kept: Bool[Tensor, "nodes"],
        kind: Kind | None = None,
        split: str = "report",
        norm: Norm | None = None,
        edges: bool = False,
    ) -> Float[Tensor, "rows V"]:
        """Logits with only `kept` alive; the other arguments are those of `evaluator`."""
        return self.evaluator(split, kind, norm, edges).logits(kept)

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
            return last_logits(self.full, self.examples(split))
        return self.measure(self.state(name), split=split, edges=name == "circuit")

    @cached_property
    def calibration(self) -> Calibration | None:
        """The circuit's, or one fitted to it; None where the task has no pairs to fit one to."""
        own = self.circuit.calibration
        return self._fitted(self.kept, edges=True) if own is None else own

    def _applied(self, name: State) -> Calibration | None:
        """What circuit and empty circuit are judged with, where the circuit's target was one of calibrated loss."""
        if name == "empty":
            return self.fitted(self.state(name))
        return self.calibration if name == "circuit" and self.config.calibrated else None

    def fitted(self, kept: Bool[Tensor, "nodes"]) -> Calibration | None:
        """What other nodes than the circuit's are judged with: a calibration of their own, where it has one applied."""
        return self._fitted(kept) if self.config.calibrated else None

    def _fitted(self, kept: Tensor, edges: bool = False) -> Calibration | None:
        """On all pairs of `calibrate`, as many as the circuit's own was fitted on."""
        if "calibrate" not in self.task.splits:
            return None
        logits = self._whole.measure(kept, split="calibrate", edges=edges)
        return calibrate(logits.cpu(), self._whole.examples("calibrate").to("cpu"))

    @cached_property
    def _whole(self) -> "Subject":
        return self if self._pairs is None else Subject(self.circuit, self.budget, self.seed)

    def _odds(self, split: str, name: State) -> Float[Tensor, "rows"]:
        """Log-odds of the right answer in a state, those of circuit and empty circuit as they are judged."""
        return odds_under(self.applied(name), self.logits(split, name), self.examples(split))

    def losses(
        self,
        logits: Float[Tensor, "rows V"],
        split: str = "report",
        calibration: Calibration | None = None,
    ) -> Float[Tensor, "pairs"]:
        """-log p(right) of each pair, the mean of its sides, in nats; of logits scaled and shifted by `calibration`."""
        if calibration is not None:
            return by_pair(calibration.losses(logits.cpu(), self.examples(split).to("cpu")))
        return by_pair(task_losses(logits, self.examples(split)))

    def loss(self, name: State, split: str = "report") -> float:
        """The mean loss in a state."""
        return float(
            self.losses(self.logits(split, name), split, self.applied(name) if name == "circuit" else None).mean()
        )

    def interval(self, pairs: Float[Tensor, "pairs"], split: str = "report") -> Interval:
        """The bootstrap interval of the mean of `pairs`."""
        return spread(self.weights(split) @ pairs.double())

    @cached_property
    def gain(self) -> float:
        """How far the circuit's loss is below chance."""
        return CHANCE - self.loss("circuit")
