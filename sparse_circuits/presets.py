"""Settings with a name: what the demo runs, and starting points for `--preset`."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sparse_circuits.circuits.config import PruneConfig
from sparse_circuits.config import GPTConfig, LoopConfig, SparsityConfig, TrainConfig

if TYPE_CHECKING:
    from sparse_circuits.bridges.config import BridgeConfig
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
    """A small sparse model that learns a third of the tasks from generated programs, in four minutes on two cores."""
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


def shipped_prune() -> PruneConfig:
    """As `prune` does it where nothing else is asked for."""
    return PruneConfig()


def stdlib_train(
    corpus: Path = Path("runs/corpus"), out: Path = Path("runs/model"), density: float = 1 / 16
) -> TrainConfig:
    """A small model of real Python, for ten minutes on two cores."""
    # Real code teaches little beyond bigrams at first: small steps on many small batches, and Adam's usual epsilon, so
    # that the small gradients of the first layers count. Sparser weights want a larger rate. Two layers see twice as
    # many tokens as four in that time, and end lower. Without positions no head could look at the token before: that
    # costs another 0.1 nats.
    return TrainConfig(
        corpus=corpus,
        out=out,
        model=GPTConfig(
            block_size=256,
            n_layer=2,
            d_model=128,
            n_head=8,
            positions="sinusoidal_concat",
            d_position=32,
            bigram_table="fixed",
        ),
        # By its width of 128 the embedding would be half as dense as the rest, and a token would have 4 channels. The
        # released models have 16.
        sparsity=SparsityConfig(density=density, embedding_density=min(1.0, 2 * density), density_end=0.35),
        loop=LoopConfig(steps=9000, learning_rate=2e-3 if density == 1 else 1.2e-2, epsilon=1e-3),
        batch_size=8,
    )


def small_corpus(folder: Path = Path("runs/corpus")) -> "CorpusConfig":
    """What the small models that ship are trained on: five times as much as the mix, and more of it real."""
    from sparse_circuits.corpus.config import CorpusConfig

    return CorpusConfig(out=folder, idioms=80.0, level="full", installed=True, limit=120.0)


def small_train(
    corpus: Path = Path("runs/corpus"), out: Path = Path("runs/model"), density: float = 1 / 64
) -> TrainConfig:
    """The sparse model that ships: five minutes on an H200 that also trains the dense one, half a day on two cores."""
    # A token has 16 channels in the embedding, as in the released models.
    return TrainConfig(
        corpus=corpus,
        out=out,
        model=GPTConfig(
            block_size=256,
            n_layer=3,
            d_model=768,
            n_head=48,
            positions="sinusoidal_concat",
            d_position=32,
            bigram_table="fixed",
        ),
        sparsity=SparsityConfig(density=density, embedding_density=density * 4 / 3, density_end=0.35),
        # As many as fitted into the time there was.
        loop=LoopConfig(steps=28_589, learning_rate=6e-3, epsilon=1e-3),
        batch_size=16,
        eval_every=2000,
    )


def small_dense_train(corpus: Path = Path("runs/corpus"), out: Path = Path("runs/model")) -> TrainConfig:
    """The dense model that ships beside it: of a quarter of the width, stopped when it is as good as the sparse one."""
    sparse = small_train(corpus, out)
    return replace(
        sparse,
        model=replace(sparse.model, d_model=192, n_head=12),
        sparsity=SparsityConfig(density=1.0),
        loop=replace(sparse.loop, steps=30_000, learning_rate=2e-3),
        stop_after=13_500,
    )


def small_bridge(corpus: Path = Path("runs/corpus"), out: Path = Path("runs/bridged")) -> "BridgeConfig":
    """The shipped sparse model, trained on with bridges to the shipped dense one, on the corpus of both."""
    from sparse_circuits.bridges.config import BridgeConfig, Terms

    sparse = small_train(corpus, out)
    train = replace(
        sparse,
        # It is as sparse as it will be from the start.
        sparsity=replace(sparse.sparsity, density_start=0.0, density_end=0.0),
        loop=replace(sparse.loop, steps=6747, learning_rate=3e-3),
    )
    # At a quarter the errors of the maps leave more to the hybrid passes (docs/bridges.md).
    terms = Terms(encode_nmse=0.25, decode_nmse=0.25)
    return BridgeConfig(dense=Path("small-dense"), start=Path("small-sparse"), train=train, terms=terms)


CORPUS = {"demo": demo_corpus, "mix": mix_corpus, "small": small_corpus}
TRAIN = {"demo": demo_train, "stdlib": stdlib_train, "small-sparse": small_train, "small-dense": small_dense_train}
BRIDGE = {"small": small_bridge}
