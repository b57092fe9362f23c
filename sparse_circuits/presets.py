"""Settings with a name: what the demo runs, and starting points for `--preset`."""

from pathlib import Path
from typing import TYPE_CHECKING

from sparse_circuits.config import GPTConfig, LoopConfig, PruneConfig, SparsityConfig, TrainConfig

if TYPE_CHECKING:
    from sparse_circuits.corpus.config import CorpusConfig


def demo_corpus(folder: Path) -> "CorpusConfig":
    """Mostly simple generated programs with some real Python: learnt in minutes."""
    from sparse_circuits.corpus.config import CorpusConfig

    return CorpusConfig(out=folder, idioms=16.0, installed=True, limit=3.0, vocab_size=1024)


def demo_train(corpus: Path = Path("runs/corpus"), out: Path = Path("runs/model")) -> TrainConfig:
    """A small sparse model that two cores train in about five minutes."""
    return TrainConfig(
        corpus=corpus,
        out=out,
        model=GPTConfig(block_size=128, n_layer=4, d_model=128, n_head=8),
        sparsity=SparsityConfig(density=1 / 16),
        loop=LoopConfig(steps=1500, learning_rate=2e-2),
        batch_size=32,
    )


def demo_prune() -> PruneConfig:
    """Settings that find the demo's circuit."""
    return PruneConfig()


TRAIN = {"demo": demo_train}
