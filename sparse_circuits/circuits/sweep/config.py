"""What a sweep goes through, and the settings of its pruning."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from sparse_circuits.circuits.config import MOST_NATS, PruneConfig, ScoreConfig
from sparse_circuits.fields import nearest, require

Method = Literal["learned", "warm", "attribution", "integrated", "patching", "magnitude", "random"]
METHODS: tuple[Method, ...] = get_args(Method)


def exact(target: float) -> str:
    """A target in as few digits as tell it from all others: 0.15, 1, 0.1234561. Names folders, too."""
    short = f"{target:g}"
    return short if float(short) == target else repr(target)


@dataclass(frozen=True)
class SweepConfig:
    """Measure circuit size against target loss (paper, section 3)."""

    out: Path
    """Folder for the results: one for each model, task, method, target and seed. What is there is not done again."""
    models: tuple[str, ...]
    """Model folders, or names of models that ship; the others are compared with the first."""
    tasks: tuple[str, ...] = ("all",)
    """Tasks by name, or .jsonl or .py files with tasks of your own; all: the twenty."""
    targets: tuple[float, ...] = (0.5, 0.15, 0.05, 0.02, 0.01)
    """Target losses in nats."""
    methods: tuple[Method, ...] = ("learned",)
    """How nodes are ranked: by learned masks, by masks learned on from those of the next larger target (warm), or by
    a baseline; the others are compared with the first."""
    seeds: int = 1
    """Runs of each, with seeds from the loop's, and from the scores', upwards; their sizes' geometric mean counts,
    where all lead to a circuit."""
    corpus: Path | None = None
    """Packed corpus for the ablation means; the one each model was trained on if not given."""
    config: PruneConfig = field(default_factory=PruneConfig)
    scoring: ScoreConfig = field(default_factory=ScoreConfig)

    def __post_init__(self) -> None:
        object.__setattr__(self, "out", Path(self.out))
        for name in ("models", "tasks", "targets", "methods"):
            given = getattr(self, name)
            require(len(given) > 0, f"no {name} given; a sweep needs at least one")
            for each in given:
                require(given.count(each) == 1, f"{name} has {each} twice; give each once")
        require(self.seeds >= 1, f"seeds is {self.seeds}; it must be at least 1")
        for method in self.methods:
            require(method in METHODS, f"no method {method!r} to find circuits by; {nearest(method, METHODS)}")
        for target in self.targets:
            require(
                0 < target <= MOST_NATS, f"a target loss is {target}; each must be above 0 and at most {MOST_NATS:g}"
            )
