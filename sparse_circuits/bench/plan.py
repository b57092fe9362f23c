"""How the cases are to be measured."""

import sys
from dataclasses import dataclass

from sparse_circuits.bench.shapes import S, Shape, with_layers


@dataclass(frozen=True)
class Plan:
    """On what, how thoroughly, and where to say what is going on."""

    quick: bool = False
    """A narrow model instead of the released shapes, few repetitions and no targets: to see that all works."""
    device: str = "cpu"
    talk: bool = True

    @property
    def cuda(self) -> bool:
        """Whether this is about the GPU."""
        return self.device == "cuda"

    def shape(self, shape: Shape, layers: int | None = None) -> Shape:
        """`shape`, with so many layers if they are given, or the small one that stands for it."""
        chosen = S if self.quick else shape
        return chosen if layers is None else with_layers(chosen, layers)

    def repeats(self, count: int) -> int:
        """How often to run what deserves `count` runs."""
        return min(count, 2) if self.quick else count

    def target(self, target: float | None) -> float | None:
        """The target where it applies."""
        return None if self.quick else target

    def say(self, line: str) -> None:
        """Tell what begins, on standard error."""
        if self.talk:
            print(line, file=sys.stderr, flush=True)
