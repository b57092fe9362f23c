"""Where the report card draws its lines, and why: the one place to read and to change them.

`holds` up to `good`, `fails` beyond `bad`, `weak` between; and weak where a value is good but its interval reaches
beyond `bad` or is not known. Whether more or less is better follows from which of the two is larger. They are
conventions, chosen before any circuit was judged by them, not laws: the numbers stand beside them on the card.
"""

import math
from dataclasses import dataclass

from sparse_circuits.circuits.report.rows import Verdict
from sparse_circuits.circuits.report.statistics import Interval

CHANCE = math.log(2)
"""The loss of a guess that does not look at the prompt, for either kind of task."""
NO_GUESS = 0.9
"""Share of that loss below which it is no guess any more; lines that are multiples of the target end there."""


@dataclass(frozen=True)
class Threshold:
    """Two lines across a measure."""

    good: float
    bad: float
    reason: str

    def judge(self, value: float, interval: Interval | None = None) -> Verdict:
        """The verdict on `value`; one that is no number fails; where an end is none, nothing holds."""
        sign = 1 if self.good <= self.bad else -1
        if not sign * value <= sign * self.bad:
            return "fails"
        sure = interval is None or all(sign * end <= sign * self.bad for end in interval)
        return "holds" if sign * value <= sign * self.good and sure else "weak"


LOSS = Threshold(
    1.25,
    2.0,
    "times the target (or the model's own loss, where that is larger): other pairs than those it was fitted to move a "
    "loss by about a quarter; at twice the target it is another circuit than was asked for",
)
EMPTY = Threshold(
    2.0,
    1.0,
    "empty circuit's loss over the target: where nothing at all meets the target, meeting it says nothing",
)
KEPT_GAIN = Threshold(
    0.8,
    0.5,
    "share of the circuit's gain over chance that is left: a circuit that owes more than half of it to one kind of "
    "ablation is an artefact of that kind",
)
NECESSARY = Threshold(
    0.5,
    0.1,
    "share of the model's gain over chance that is lost with the circuit: where a tenth or less is lost, the model "
    "does the task without the circuit",
)
ABOVE_RANDOM = Threshold(
    0.95,
    0.75,
    "share of random sets whose removal hurts less: the usual level of a one-sided test",
)
CONTROL_GAIN = Threshold(
    0.25,
    0.75,
    "the control's gain over chance as a share of the circuit's: a control that gets three quarters of the way shows "
    "that the method finds a low loss in anything",
)
SIZE_SPREAD = Threshold(
    1.5,
    3.0,
    "largest over smallest number of edges: a size that depends on the seed by more than three is no property of the "
    "model",
)
OVERLAP = Threshold(
    0.5,
    0.2,
    "mean Jaccard index of node sets: at a half two sets of equal size share two thirds of their nodes, at a fifth one "
    "third",
)
SAME_ANSWER = Threshold(
    0.95,
    0.85,
    "share of prompts answered alike: one in twenty may differ, one in seven is another behaviour",
)
EXPLAINED = Threshold(
    0.8,
    0.5,
    "share of the empty circuit's KL from the model that the circuit takes away: at less than half the circuit is "
    "nearer to nothing than to the model",
)
CORRELATION = Threshold(
    0.9,
    0.6,
    "mean correlation of a node's value in the circuit with its value in the model: below 0.6 less than two fifths of "
    "the variance are common",
)
ATTENTION = Threshold(
    0.1,
    0.5,
    "nats from the model's attention pattern to the circuit's, at the last token: 0.1 moves at most some 22% of the "
    "weight (Pinsker), 0.5 up to half",
)
NORM_SCALE = Threshold(
    math.log(1.25),
    math.log(2),
    "absolute logarithm of the ratio of scales: where the stream is half as long, the norm doubles what is left of it",
)
FAITHFUL = Threshold(
    0.2,
    0.5,
    "distance of f from 1 at the circuit's size",
)
CMD = Threshold(
    0.2,
    0.5,
    "mean distance of f from 1 over all sizes from the circuit's on: what else is added should not matter",
)
IDENTITY = Threshold(
    1e-5,
    1e-5,
    "largest difference of logits over the largest logit: the same operations give the same bits, other kernels "
    "rounding",
)
