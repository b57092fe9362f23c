"""Functions that run as a CUDA graph: one launch in place of hundreds, each of which costs the host more than the GPU.

Source: the whole-network capture of PyTorch's notes on CUDA graphs. A graph is the same launches on the same memory
every time, so that whatever changes from call to call must lie in tensors that are filled anew before.

The environment variable SPARSE_CIRCUITS_GRAPHS=0 does without. `benchmarks/cuda_graphs.py` compares steps with and
without, in results and time.
"""

import os
import warnings
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

import torch

Result = TypeVar("Result")
ENVIRONMENT = "SPARSE_CIRCUITS_GRAPHS"


class Recorder(Generic[Result]):
    """Calls a function, and as a CUDA graph from the second call on that has the same key.

    The function takes nothing, and must do the same to the same tensors as long as the key is the same. The first call
    is an ordinary one: it compiles kernels and fills caches, which a recording cannot. What a recorded call returns is
    overwritten by the next.
    """

    def __init__(self) -> None:
        self._key: Hashable = None
        self._graph: torch.cuda.CUDAGraph | None = None
        self._result: Result | None = None
        self._refused = False

    def __call__(self, key: Hashable, function: Callable[[], Result]) -> Result:
        if key != self._key or self._refused or os.environ.get(ENVIRONMENT) == "0":
            self._key, self._graph, self._result = key, None, None
            return function()
        if self._graph is None:
            self._record(function)
        if self._graph is None or self._result is None:
            return function()
        self._graph.replay()
        return self._result

    def _record(self, function: Callable[[], Result]) -> None:
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                self._result = function()
        except RuntimeError as error:
            self._refused, self._result = True, None
            reason = str(error).strip().splitlines()[0]
            warnings.warn(f"this step cannot be a CUDA graph, and is slower without: {reason}", stacklevel=2)
            return
        self._graph = graph
