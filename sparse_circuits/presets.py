"""Settings with a name: what the demo runs, and starting points for `--preset`."""

from pathlib import Path
from typing import TYPE_CHECKING

from sparse_circuits.config import GPTConfig, LoopConfig, PruneConfig, SparsityConfig, TrainConfig

if TYPE_CHECKING:
    from sparse_circuits.corpus.config import CorpusConfig


DEMO_MODEL = "small-sparse"
"""The shipped model that the demo prunes, where it is there."""
MIX = {"idioms": 0.6, "installed": 0.4}
"""The shares of generated programs and of real Python in the mixed corpus, of its text."""
MIX_MEGABYTES = 40.0


def demo_corpus(folder: Path = Path("runs/corpus")) -> "CorpusConfig":
    """Simple generated programs: their idioms are learnt in minutes."""
    from sparse_circuits.corpus.config import CorpusConfig

    return CorpusConfig(out=folder, idioms=16.0, vocab_size=1024)


def mix_corpus(folder: Path = Path("runs/corpus")) -> "CorpusConfig":
    """Generated programs of the full level and the source of the running Python, in the shares of `MIX`."""
    from sparse_circuits.corpus.config import CorpusConfig

    return CorpusConfig(
        out=folder,
        idioms=MIX["idioms"] * MIX_MEGABYTES,
        level="full",
        installed=True,
        limit=MIX["installed"] * MIX_MEGABYTES,
    )


def demo_train(corpus: Path = Path("runs/corpus"), out: Path = Path("runs/model")) -> TrainConfig:
    """A small sparse model that learns the three tasks from generated programs, in about five minutes on two cores."""
    return TrainConfig(
        corpus=corpus,
        out=out,
        model=GPTConfig(block_size=128, n_layer=4, d_model=128, n_head=8),
        sparsity=SparsityConfig(density=1 / 16),
        loop=LoopConfig(steps=800),
        batch_size=32,
        eval_every=100,
    )


def demo_prune() -> PruneConfig:
    """A target low enough that the circuit holds on unseen templates too."""
    return PruneConfig(target_loss=0.1)


def stdlib_train(
    corpus: Path = Path("runs/corpus"), out: Path = Path("runs/model"), density: float = 1 / 16
) -> TrainConfig:
    """A small model of real Python, for ten minutes on two cores."""
    # Real code teaches little beyond bigrams at first: small steps on many small batches, and Adam's usual epsilon, so
    # that the small gradients of the first layers count. Sparser weights want a larger rate. Two layers see twice as
    # many tokens as four in that time, and end lower.
    return TrainConfig(
        corpus=corpus,
        out=out,
        model=GPTConfig(block_size=256, n_layer=2, d_model=128, n_head=8, bigram_table="fixed"),
        # By its width of 128 the embedding would be half as dense as the rest, and a token would have 4 channels. The
        # released models have 16.
        sparsity=SparsityConfig(density=density, embedding_density=min(1.0, 2 * density), density_end=0.35),
        loop=LoopConfig(steps=9000, learning_rate=2e-3 if density == 1 else 1.2e-2, epsilon=1e-3),
        batch_size=8,
    )


CORPUS = {"demo": demo_corpus, "mix": mix_corpus}
TRAIN = {"demo": demo_train, "stdlib": stdlib_train}
