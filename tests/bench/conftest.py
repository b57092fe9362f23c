"""The opponent beside a small model whose every weight matters."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from small_models import plainly, randomised, small

from sparse_circuits.bench.opponent import Dense, dense_twin
from sparse_circuits.model import GPT


@pytest.fixture(autouse=True)
def small_machine() -> Iterator[None]:
    """One thread and kernels that need no compiling."""
    with plainly():
        yield


def sides(**changes: Any) -> tuple[GPT, Dense]:
    """A model, and the opponent with its weights."""
    config = small(**changes)
    model = randomised(config, dtype=torch.float32)
    return model, dense_twin(model, config)
