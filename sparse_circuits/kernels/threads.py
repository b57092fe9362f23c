"""Running a compiled kernel on as many threads as PyTorch uses.

A kernel here is a C function of one argument, the address of its job. Every thread runs the same function; it claims
the next piece of work from a shared counter until none is left, so a thread that comes late costs nothing.

1. `compiled`: the C function, compiled on first use and kept in Numba's cache where there is room for one.
2. `run`: on PyTorch's own OpenMP threads where they can be reached. After an operation PyTorch's threads keep
   spinning for milliseconds, and on a small machine threads of one's own would share the cores with them. Several
   Python threads may enter at once, as with any PyTorch operation. Otherwise a pool of Python threads does it.
3. `pointer`, `narrow`, `fetch_add`: what the compiled code needs to read its job and to claim its work.
"""

import ctypes
import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, no_type_check

import numba
import torch
from numba import types
from numba.extending import intrinsic


class Work(NamedTuple):
    """A compiled kernel: where it is, a way to call it from Python (without the interpreter lock), and its owner."""

    address: int
    call: Callable[[int], None]
    owner: Any


def compiled(function: Callable[[Any], None], job: Any) -> Work:
    """`function` as a C function whose one argument is the address of a record of the NumPy dtype `job`."""
    signature = types.void(types.CPointer(numba.from_dtype(job)))
    try:
        kernel = numba.cfunc(signature, cache=True)(function)
    except Exception:
        # No folder for the cache, a full disk, a damaged cache: all mend themselves by not using it, and a fault of
        # the function itself is raised again here.
        kernel = numba.cfunc(signature)(function)
    assert kernel.address is not None
    return Work(kernel.address, ctypes.CFUNCTYPE(None, ctypes.c_void_p)(kernel.address), kernel)


def run(work: Work, job: int, pieces: int) -> None:
    """Run `work` on the job at address `job`; `pieces` is how many claims there are to make."""
    threads = torch.get_num_threads()
    if min(threads, pieces) <= 1:
        work.call(job)
        return
    openmp = _openmp()
    if openmp is not None:
        # The whole team even for few pieces: asking for fewer makes OpenMP end threads that PyTorch then recreates.
        openmp(work.address, job, threads, 0)
        return
    helpers = [_pool().submit(work.call, job) for _ in range(min(threads, pieces) - 1)]
    work.call(job)
    for helper in helpers:
        if not helper.cancel():
            helper.result()


@functools.cache
def _openmp() -> Callable[[int, int, int, int], None] | None:
    """GOMP_parallel(function, argument, threads, flags) of the OpenMP library PyTorch itself is linked to."""
    for name in ("libtorch_cpu.so", "libtorch_cpu.dylib"):
        library = Path(torch.__file__).parent / "lib" / name
        if library.exists():
            try:
                parallel = ctypes.CDLL(str(library)).GOMP_parallel
            except (OSError, AttributeError):
                return None
            parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
            parallel.restype = None
            return parallel
    return None


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="sparse-circuits-kernels")


if hasattr(os, "register_at_fork"):
    # A child process has none of its parent's threads.
    os.register_at_fork(after_in_child=_pool.cache_clear)


@intrinsic
@no_type_check
def pointer(context, address, unit):
    """The address as a pointer to values of the type of `unit`."""

    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(unit)(types.int64, unit), generate


@intrinsic
@no_type_check
def narrow(context, value, unit):
    """The integer in the type of `unit`. Compiled code adds in int64 unless told otherwise."""

    def generate(context, builder, signature, arguments):
        return context.cast(builder, arguments[0], signature.args[0], signature.return_type)

    return unit(value, unit), generate


@intrinsic
@no_type_check
def fetch_add(context, address, amount):
    """Add to the int64 at the address, in one indivisible step; returns what was there before."""

    def generate(context, builder, signature, arguments):
        place = builder.inttoptr(arguments[0], context.get_value_type(types.CPointer(types.int64)))
        return builder.atomic_rmw("add", place, arguments[1], "monotonic")

    return types.int64(types.int64, types.int64), generate
