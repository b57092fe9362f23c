"""What the tests of models and training share."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import jaxtyping
import pytest
import torch

# Triton reads it when it is imported, which other libraries do before the tests of kernels come.
os.environ.setdefault("TRITON_INTERPRET", "0" if torch.cuda.is_available() else "1")

from small_runs import Finished, settings

from sparse_circuits.corpus.build import build_corpus
from sparse_circuits.corpus.config import CorpusConfig
from sparse_circuits.corpus.packed import PackedCorpus
from sparse_circuits.train import train


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """PyTorch on one thread: models this small only wait for each other's threads on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def unannotated() -> Iterator[None]:
    """Shape annotations off, as they are outside the tests, so that a function's own refusals are reached."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def packed_corpus(tmp_path_factory: pytest.TempPathFactory) -> PackedCorpus:
    """Simple generated programs, some 150,000 tokens of a vocabulary of 300."""
    out = tmp_path_factory.mktemp("corpus") / "idioms"
    build_corpus(CorpusConfig(out=Path(out), idioms=0.2, vocab_size=300), progress=False)
    return PackedCorpus.load(out)


@pytest.fixture(scope="session")
def finished(packed_corpus: PackedCorpus, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A small sparse model trained without a stop."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    config = settings(packed_corpus, tmp_path_factory.mktemp("train") / "never stopped")
    started = time.monotonic()
    train(config, progress=False)
    torch.set_num_threads(threads)
    return Finished(config, time.monotonic() - started)
