"""Running a compiled kernel on as many threads as PyTorch uses.

A kernel here is a C function of one argument, the address of its job. Every thread runs the same function. The work
is cut into one segment a thread; each begins with its own, since that part of the data is in its cache, and when it
is done helps with the others, so a thread that comes late costs nothing.

1. `compiled`: the C function, compiled on first use and kept in Numba's cache where there is room for one.
2. `run`: on PyTorch's own OpenMP threads where they can be reached. After an operation PyTorch's threads keep
   spinning for milliseconds, and on a small machine threads of one's own would share the cores with them. Several
   Python threads may enter at once, as with any PyTorch operation. Otherwise a pool of Python threads does it.
3. `first_turn`, `share`: the next piece of work, for the compiled code.
4. `pointer`, `narrow`, `fetch_add`, `call`: what Numba lacks for it.
"""

import contextlib
import ctypes
import functools
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, no_type_check

import numba
import torch
from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types
from numba.extending import intrinsic

ANNOUNCE_AFTER = 0.5
"""Seconds of compiling after which it is announced."""


class Work(NamedTuple):
    """A compiled kernel: where it is, a way to call it from Python (without the interpreter lock), and its owner."""

    address: int
    call: Callable[[int], None]
    owner: Any


def compiled(function: Callable[[Any], None], job: Any) -> Work:
    """`function` as a C function whose one argument is the address of a record of the NumPy dtype `job`."""
    signature = types.void(types.CPointer(numba.from_dtype(job)))
    with _interrupted_later(), _announced():
        try:
            kernel = numba.cfunc(signature, cache=True)(function)
        except Exception:
            # No folder for the cache, a full disk, a damaged cache: all mend themselves by not using it, and a fault
            # of the function itself is raised again here.
            kernel = numba.cfunc(signature)(function)
        assert kernel.address is not None
    return Work(kernel.address, ctypes.CFUNCTYPE(None, ctypes.c_void_p)(kernel.address), kernel)


@contextlib.contextmanager
def _announced() -> Iterator[None]:
    """Tell whoever waits at a terminal why, once a process, if the block takes longer than reading a cache would."""
    timer = threading.Timer(ANNOUNCE_AFTER, _announce)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@functools.cache
def _announce() -> None:
    if sys.stderr is not None and sys.stderr.isatty():
        print("compiling kernels for this machine: once, they are kept on disk", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _interrupted_later() -> Iterator[None]:
    """Put off Ctrl-C until the block ends: inside the compiler's callbacks Python prints and then forgets it."""
    previous = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(previous):
        yield
        return
    pressed = threading.Event()
    signal.signal(signal.SIGINT, lambda number, frame: pressed.set())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
        if pressed.is_set():
            signal.raise_signal(signal.SIGINT)


def run(work: Work, job: Any) -> None:
    """Run `work` on `job`, whose fields `total` and `claim` say how much there is to do, and how much at a time."""
    threads = min(torch.get_num_threads(), -(-job.total // job.claim))
    openmp = _openmp() if threads > 1 else None
    job.address, job.segments = ctypes.addressof(job), max(threads, 1)
    job.number = openmp.number if openmp else 0
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


@intrinsic
@no_type_check
def call(context, address):
    """Call the C function at the address, which takes nothing and returns an int."""

    def generate(context, builder, signature, arguments):
        function = ir.FunctionType(ir.IntType(32), [])
        result = builder.call(builder.inttoptr(arguments[0], function.as_pointer()), [])
        return builder.sext(result, ir.IntType(64))

    return types.int64(types.int64), generate


@njit
@no_type_check
def first_turn(job):
    """The segment that the thread begins with: its number in the team, or how many began before it."""
    number = call(job.number) if job.number != 0 else fetch_add(job.shared, 1)
    return number % job.segments


@njit
@no_type_check
def share(job, turn):
    """Claim work: its start, its stop, and the turn to ask with next time. Without any left, start is stop.

    A turn is a segment, counted on beyond the last one, until it has gone around.
    """
    for later in range(job.segments):
        segment = (turn + later) % job.segments
        stop = job.total * (segment + 1) // job.segments
        start = fetch_add(job.shared + 8 + 8 * segment, job.claim)
        if start < stop:
            return start, min(start + job.claim, stop), segment
    return 0, 0, turn
