"""Tokenizers trained on generated programs, as the models these tasks are for have them."""

import pytest

from sparse_circuits.corpus.idioms import program
from sparse_circuits.tokenizer import Tokenizer


@pytest.fixture(scope="session")
def corpus() -> list[str]:
    return [program(0, index) for index in range(800)]


@pytest.fixture(scope="session", params=[1024, 2048])
def each_tokenizer(request: pytest.FixtureRequest, corpus: list[str]) -> Tokenizer:
    return Tokenizer.train(corpus, request.param)


@pytest.fixture(scope="session")
def tokenizer(corpus: list[str]) -> Tokenizer:
    return Tokenizer.train(corpus, 1024)
