"""Plain kernels on one thread: what is specified here must not depend on them, and they need no compiling."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from small_bridges import LETTERS

from sparse_circuits import kernels
from sparse_circuits.corpus.build import pack_sources
from sparse_circuits.corpus.config import CorpusConfig
from sparse_circuits.corpus.idioms import program
from sparse_circuits.corpus.packed import PackedCorpus


@pytest.fixture(scope="module", autouse=True)
def plain_kernels() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with kernels.use("reference"):
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def letter_text(tmp_path_factory: pytest.TempPathFactory) -> PackedCorpus:
    """Generated programs, a token a byte."""

    class Programs:
        name = "programs"
        left_out: dict[str, int] = {}  # noqa: RUF012

        def documents(self) -> Iterator[str]:
            return (program(0, index) for index in range(30))

    out: Path = tmp_path_factory.mktemp("corpora") / "letters"
    pack_sources(CorpusConfig(out=out, validation_fraction=0.3), [Programs()], LETTERS)
    return PackedCorpus.load(out)
