"""Settings of pruning, of its baselines, and of binarising a circuit's nodes."""

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Literal

from sparse_circuits.config import LoopConfig, check_seed
from sparse_circuits.fields import require, require_choices

MOST_NATS = 1e4
"""No task loss that is a number is larger by far; from there on a node's price would run over."""


def mask_loop() -> LoopConfig:
    """The loop's settings for learning masks: the search centres of the paper's appendix, tuned for small models."""
    return LoopConfig(
        steps=150,
        learning_rate=4e-2,
        warmup=0.05,
        beta1=0.9,
        beta2=0.95,
        epsilon=1e-8,
        weight_decay=1e-3,
        gradient="clip",
        precision="bf16",
    )


@dataclass(frozen=True)
class PruneConfig:
    """Find the circuit of one task in one model (paper, section 3 and appendix B)."""

    target_loss: float = 0.15
    """The circuit is the smallest found whose task loss (nats) on the calibration split is at most this."""
    price: float = 0.007
    """Of keeping one node, as a part of the target loss; at the start where `k_rate` lets it change. (The paper's
    k_coef is this times the target.)"""
    k_rate: float = 0.05
    """How fast the price follows the task loss: in each step it is multiplied by (aim / task loss) ** k_rate."""
    aim: float = 0.6
    """The task loss that the price steers to: the model's own, and this part of what the target allows beyond it."""
    temperature: float = 1.0
    """Width of the sigmoid whose derivative stands in for the step function's."""
    screen: float = 0.12
    """Learning starts with this part of the nodes kept: those whose removal moves the loss most, to first order; with
    twice as many, and so on, where these miss the target. Others can come back. 1: all are kept."""
    init_bias: float = 0.1
    """Mean of the initial mask parameters of nodes that start kept; of the others it is minus its size."""
    init_scale: float = 0.01
    """Standard deviation of the initial mask parameters."""
    runs: int = 1
    """Mask learnings at once, with seeds from the loop's upwards; the circuit with the fewest edges stays."""
    batch_pairs: int = 16
    """Pairs per step (twice as many sequences), for each run."""
    eval_pairs: int = 128
    """Pairs of the fixed batches that bisection, cleaning and reporting use."""
    calibrated: bool = False
    """Meet the target with calibrated logits: the circuit has to tell the answers apart, a fitted scale and shift make
    it as sure of them as it should be. Such circuits are far smaller."""
    ablation: Literal["mean", "zero", "resample"] = "mean"
    """What a removed node becomes: its mean over held-out text, zero, or its value in another pair's prompt."""
    final_norm: Literal["live", "frozen"] = "live"
    """Whether the last norm divides by the circuit's own scale, or by the full model's on the same prompt."""
    restore: Literal["none", "random", "adversarial"] = "none"
    """Bring back some removed nodes in each training step, at random or those that raise the loss most, so that nodes
    which only cancel others do not look needless."""
    restore_fraction: float = 0.05
    """The part of the removed nodes that is brought back."""
    tie_qk: bool = False
    """Train one mask for channel c of q and channel c of k."""
    mean_tokens: int = 1_000_000
    """Held-out tokens the means are taken over, as far as there are so many."""
    clean: bool = True
    """Remove nodes without a path and nodes without effect."""
    exchange: bool = True
    """Then bring back the removed nodes that promise most, and keep the result if more others can go for them."""
    drop_edges: bool = True
    """Then drop single weights between the kept nodes; a dropped one carries what a removed source would."""
    loop: LoopConfig = field(default_factory=mask_loop)

    def __post_init__(self) -> None:
        require_choices(self)
        require(
            0 < self.target_loss <= MOST_NATS,
            f"target_loss is {self.target_loss}; it must be above 0 and at most {MOST_NATS:g}",
        )
        require(0 < self.temperature < math.inf, f"temperature is {self.temperature}; it must be above 0 and finite")
        require(0 < self.aim < math.inf, f"aim is {self.aim}; it must be above 0 and finite")
        for name in ("price", "k_rate", "init_scale"):
            value = getattr(self, name)
            require(0 <= value < math.inf, f"{name} is {value}; it must be finite and not negative")
        require(
            self.k_coef <= MOST_NATS,
            f"price is {self.price:g}; times the target loss, {self.target_loss:g}, it must be at most {MOST_NATS:g}",
        )
        require(
            0 <= self.restore_fraction <= 1,
            f"restore_fraction is {self.restore_fraction}; it must be from 0 to 1",
        )
        require(0 < self.screen <= 1, f"screen is {self.screen}; it must be above 0 and at most 1")
        require(math.isfinite(self.init_bias), f"init_bias is {self.init_bias}; it must be finite")
        for name in ("runs", "batch_pairs", "eval_pairs", "mean_tokens"):
            require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}; it must be at least 1")

    @property
    def k_coef(self) -> float:
        """Price of keeping one node, in nats of task loss, as learning begins (the paper's name)."""
        return self.price * self.target_loss


@dataclass(frozen=True)
class ScoreConfig:
    """Rank nodes by something other than learned masks, as a baseline."""

    score_pairs: int = 64
    """Pairs of the `prune` split that attribution, integrated gradients and activation patching look at."""
    score_steps: int = 16
    """Points between all nodes removed and all kept at which integrated gradients takes the gradient."""
    score_seed: int = 0
    """Seeds the choice of pairs, and random scores, which differ from task to task."""

    def __post_init__(self) -> None:
        check_seed(self.score_seed)
        for name in ("score_pairs", "score_steps"):
            require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}; it must be at least 1")


def binarise_loop() -> LoopConfig:
    """The loop's settings for learning the levels of binarised nodes."""
    return dataclasses.replace(mask_loop(), steps=400, learning_rate=2e-2, weight_decay=0.0, precision="fp32")


@dataclass(frozen=True)
class BinariseConfig:
    """Replace each node of a circuit by a two-level step (paper, appendix C)."""

    batch_pairs: int = 64
    """Pairs per step (twice as many sequences)."""
    temperature: float = 0.1
    """Width of the sigmoid whose derivative stands in for the step's, as a part of the node's range."""
    loop: LoopConfig = field(default_factory=binarise_loop)

    def __post_init__(self) -> None:
        require(self.batch_pairs >= 1, f"batch_pairs is {self.batch_pairs}; it must be at least 1")
        require(0 < self.temperature < math.inf, f"temperature is {self.temperature}; it must be above 0 and finite")
