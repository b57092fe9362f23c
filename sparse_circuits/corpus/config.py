"""What a corpus is made of: the flags of `sparse-circuits corpus`, apart from the work so that help shows at once."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sparse_circuits.fields import require, require_choices
from sparse_circuits.tokenizer import check_vocab_size

Level = Literal["simple", "full"]


@dataclass(frozen=True)
class CorpusConfig:
    """What a corpus is made of and where it goes."""

    out: Path
    """The folder to make."""
    folder: tuple[Path, ...] = ()
    """Folders of Python files to read, with all below them."""
    installed: bool = False
    """Read the source of the running Python: its standard library and installed packages, without tests."""
    idioms: float = 0.0
    """Megabytes of generated simple programs to add."""
    level: Level = "simple"
    """What the generated programs are made of. simple: a few frequent constructs, learnt in minutes; full: classes,
    files, tests, algorithms and the rest of the language too."""
    dataset: str | None = None
    """A data set of the Hugging Face Hub by its name, or a local folder of one, to read as a stream (needs the extra
    `hub`)."""
    subset: str | None = None
    """The configuration of the data set, where it has several."""
    split: str = "train"
    """The split of the data set to read."""
    column: str = "text"
    """The column of the data set that holds the text."""
    limit: float | None = None
    """Megabytes to take at most from each folder and from the installation, whole files picked at random, and from
    the data set, from its start; all by default."""
    tokenizer: Path | None = None
    """A tokenizer.json to reuse, or a model or corpus folder with one; by default a new one is trained."""
    vocab_size: int = 2048
    """Tokens of the new tokenizer, end of text included; fewer if the text does not give so many."""
    validation_fraction: float = 0.05
    """The part of the documents set aside for validation."""
    seed: int = 0
    """Chooses the idioms, the split and the order of the documents."""
    overwrite: bool = False
    """Replace the corpus in `out` if there is one."""

    def __post_init__(self) -> None:
        require(0 <= self.seed < 1 << 64, f"seed is {self.seed}; it must be from 0 to 2**64 - 1")
        require(
            0 <= self.validation_fraction < 1,
            f"validation_fraction is {self.validation_fraction}; it must be at least 0 and below 1",
        )
        check_vocab_size(self.vocab_size)
        require_choices(self)
        for name in ("idioms", "limit"):
            megabytes = getattr(self, name)
            require(
                megabytes is None or 0 <= megabytes < float("inf"),
                f"{name} is {megabytes}; it must be a number of megabytes, at least 0",
            )
