"""What a study of settings is about, and how long it may take."""

from dataclasses import dataclass, field
from pathlib import Path

from sparse_circuits.circuits.config import PruneConfig
from sparse_circuits.circuits.tune.knobs import USUAL, knobs
from sparse_circuits.fields import require

TRIALS = 64


@dataclass(frozen=True)
class TuneConfig:
    """Search for the settings of pruning with which circuits are smallest at the target loss (paper, appendix B)."""

    out: Path
    """Folder for the study and what it finds. One that is there goes on."""
    models: tuple[str, ...]
    """Model folders, or names of models that ship."""
    tasks: tuple[str, ...]
    """Tasks by name, or .jsonl or .py files with tasks of your own; all: the twenty. Every task in every model counts
    alike, by the geometric mean of circuit sizes."""
    knobs: tuple[str, ...] = USUAL
    """Which settings are searched."""
    trials: int | None = None
    """Trials in all, over all workers and times; 64 if neither this nor --minutes is given."""
    minutes: float | None = None
    """Minutes of work after which no trial begins, summed over all workers and times."""
    stop_early: bool = True
    """End a trial as soon as it is worse than most were after as many tasks, or a circuit of it is hopelessly large."""
    storage: str | None = None
    """Where trials are noted: an Optuna storage URL, or a file; study.journal in the folder if not given."""
    corpus: Path | None = None
    """Packed corpus for the ablation means; the one each model was trained on if not given."""
    config: PruneConfig = field(default_factory=PruneConfig)

    def __post_init__(self) -> None:
        object.__setattr__(self, "out", Path(self.out))
        for name in ("models", "tasks", "knobs"):
            given = getattr(self, name)
            require(len(given) > 0, f"no {name} given; a study needs at least one")
            for each in given:
                require(given.count(each) == 1, f"{name} has {each} twice; give each once")
        knobs(self.knobs)
        require(
            self.config.restore != "none" or "restore_fraction" not in self.knobs,
            "restore_fraction does nothing where no node is restored; give --restore random or adversarial",
        )
        require(self.trials is None or self.trials >= 1, f"trials is {self.trials}; it must be at least 1")
        require(self.minutes is None or self.minutes > 0, f"minutes is {self.minutes}; it must be above 0")

    @property
    def budget(self) -> int | None:
        """Trials in all, None where only time counts."""
        return TRIALS if self.trials is None and self.minutes is None else self.trials
