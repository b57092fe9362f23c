"""Which kernel computes: chosen by device and dtype, or forced.

- `gpu`: compiled by Triton on first use; fp32, bf16 and fp16 on CUDA.
- `cpu`: compiled by Numba on first use; fp32, bf16 and fp16 on the CPU.
- `reference`: plain PyTorch, the meaning of the others; takes everything.

The choice is automatic. `with kernels.use("reference"):` forces one in the current thread or task; the
environment variable SPARSE_CIRCUITS_KERNELS forces one for the process. A forced kernel that cannot take a
tensor says so. Under torch.compile it is always the reference, which can be traced.
"""

import functools
import importlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

import torch
from torch import Tensor

from sparse_circuits.errors import InputError
from sparse_circuits.kernels import reference
from sparse_circuits.kernels import sources as sources  # first: it notes what the others are imported from

ENVIRONMENT = "SPARSE_CIRCUITS_KERNELS"
AUTO = "auto"
# In order of preference; the last takes everything.
NAMES = ("gpu", "cpu", "reference")

Function = TypeVar("Function", bound=Callable[..., Any])

_forced: ContextVar[str | None] = ContextVar("sparse_circuits_kernels", default=None)


@runtime_checkable
class Kernels(Protocol):
    """What each kernel module offers."""

    name: str

    def refuses(self, tensor: Tensor) -> str | None: ...

    def abs_topk(self, x: Tensor, k: int, with_mask: bool) -> tuple[Tensor, Tensor | None]: ...

    def masked(self, gradient: Tensor, mask: Tensor) -> Tensor: ...

    def project_topk_(self, weight: Tensor, k: int, min_per_row: int, min_per_column: int) -> None: ...


@contextmanager
def use(name: str) -> Iterator[None]:
    """Force the kernels called `name` ("auto": none) inside the `with` block, in this thread or task only.

    Raises:
        InputError: there are no such kernels.
    """
    token = _forced.set(_checked(name, "kernels.use"))
    try:
        yield
    finally:
        _forced.reset(token)


def choose(tensor: Tensor) -> Kernels:
    """The kernels for `tensor`: the forced ones, else the first in `NAMES` that can take it.

    Raises:
        InputError: the forced kernels cannot take it, or the environment variable names none.
    """
    if torch.compiler.is_compiling():
        return reference
    forced = _forced.get() or _checked(os.environ.get(ENVIRONMENT, AUTO), ENVIRONMENT)
    if forced != AUTO:
        kernels = _load(forced)
        reason = kernels.refuses(tensor)
        if reason:
            raise InputError(f"the {forced!r} kernels were asked for, but {reason}; use 'auto' or 'reference'")
        return kernels
    # Elsewhere than on CUDA the first are for tests: they would import Triton to say no.
    names = NAMES if tensor.is_cuda else NAMES[1:]
    return next(kernels for kernels in map(_load, names) if kernels.refuses(tensor) is None)


def is_free() -> bool:
    """Whether no `use` is in force here: the choice is then the same for the whole process."""
    return _forced.get() is None


def untraced(function: Function) -> Function:
    """`function` as a graph of torch.compile calls it, without looking inside. To be called in such a graph only."""
    # torch.compiler.disable is the same, but imports the compiler, which takes long, at once.
    return cast(Function, torch._disable_dynamo(function))


@functools.cache
def _load(name: str) -> Kernels:
    return cast(Kernels, importlib.import_module(f"sparse_circuits.kernels.{name}"))


def _checked(name: str, where: str) -> str:
    if name not in (AUTO, *NAMES):
        choices = ", ".join((AUTO, *NAMES))
        raise InputError(f"{where}: there are no kernels called {name!r}; choose one of {choices}")
    return name
