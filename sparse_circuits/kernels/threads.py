"""Running a compiled kernel on as many threads as PyTorch uses.

A kernel here is a C function of one argument, the address of its job. Every thread runs the same function. The work
is cut into one segment a thread; each begins with its own, since that part of the data is in its cache, and when it
is done helps with the others, so a thread that comes late costs nothing.

`run`: on PyTorch's own OpenMP threads where they can be reached. After an operation PyTorch's threads keep spinning for
milliseconds, and on a small machine threads of one's own would share the cores with them. Several Python threads may
enter at once, as with any PyTorch operation. Otherwise a pool of Python threads does it.

`claims` has the compiled side: the next piece of work.
"""

import ctypes
import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import torch


class Work(NamedTuple):
    """A compiled kernel: where it is, a way to call it from Python (without the interpreter lock), and its owner."""

    address: int
    call: Callable[[int], None]
    owner: Any


def check(job: Any) -> None:
    """Raises MemoryError if a kernel could not work on `job`: it found no memory for what it keeps meanwhile."""
    if job.failed:
        raise MemoryError("a kernel found no memory to work in")


def run(work: Work, job: Any) -> None:
    """Run `work` on `job`, whose fields `total` and `claim` say how much there is to do, and how much at a time."""
    threads = min(torch.get_num_threads(), -(-job.total // job.claim))
    openmp = _openmp() if threads > 1 else None
    job.address, job.segments = ctypes.addressof(job), max(threads, 1)
    job.number, job.failed = openmp.number if openmp else 0, 0
    # How many threads have begun, then how far each segment is done.
    begun = [0, *(job.total * segment // job.segments for segment in range(job.segments))]
    shared = (ctypes.c_int64 * len(begun))(*begun)
    job.shared = ctypes.addressof(shared)
    if threads <= 1:
        work.call(job.address)
    elif openmp:
        # The whole team even for few pieces: asking for fewer makes OpenMP end threads that PyTorch then recreates.
        openmp.parallel(work.address, job.address, torch.get_num_threads(), 0)
    else:
        helpers = [_pool().submit(work.call, job.address) for _ in range(threads - 1)]
        work.call(job.address)
        for helper in helpers:
            if not helper.cancel():
                helper.result()
    check(job)


class OpenMP(NamedTuple):
    """The OpenMP library that PyTorch itself is linked to."""

    parallel: Callable[[int, int, int, int], None]
    """GOMP_parallel(function, argument, threads, flags)."""
    number: int
    """The address of omp_get_thread_num()."""


@functools.cache
def _openmp() -> OpenMP | None:
    """PyTorch's OpenMP, or None where it is another kind."""
    for name in ("libtorch_cpu.so", "libtorch_cpu.dylib"):
        path = Path(torch.__file__).parent / "lib" / name
        if path.exists():
            try:
                library = ctypes.CDLL(str(path))
                parallel, number = library.GOMP_parallel, library.omp_get_thread_num
            except (OSError, AttributeError):
                return None
            parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
            parallel.restype = None
            return OpenMP(parallel, ctypes.cast(number, ctypes.c_void_p).value or 0)
    return None


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="sparse-circuits-kernels")


if hasattr(os, "register_at_fork"):
    # A child process has none of its parent's threads.
    os.register_at_fork(after_in_child=_pool.cache_clear)
