"""Plain kernels on one thread: what is specified here must not depend on them, and they need no compiling."""

from collections.abc import Iterator

import pytest
from small_bridges import LETTERS
from small_models import packed_programs, plainly

from sparse_circuits.corpus.packed import PackedCorpus


@pytest.fixture(scope="module", autouse=True)
def plain_kernels() -> Iterator[None]:
    with plainly():
        yield


@pytest.fixture(scope="session")
def letter_text(tmp_path_factory: pytest.TempPathFactory) -> PackedCorpus:
    """Generated programs, a token a byte."""
    return packed_programs(tmp_path_factory.mktemp("corpora") / "letters", LETTERS, 30)
