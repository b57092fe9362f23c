"""One thread and kernels that need no compiling: the models are tiny."""

from collections.abc import Iterator

import pytest

from sparse_circuits import kernels


@pytest.fixture(autouse=True)
def small_machine(one_thread: None) -> Iterator[None]:
    """PyTorch on one thread, the plain kernels."""
    with kernels.use("reference"):
        yield
