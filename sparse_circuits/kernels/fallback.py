"""Kernels that Numba compiles, loads and keeps: where images cannot be had.

Numba's C callbacks print an exception and go on, as if the kernel had done its work. Here it is noted in the job, as
an image does it: by the same C function around the compiled one, or, where Numba does not let that be, by a handler.
"""

from collections.abc import Callable
from typing import Any

import numba
from numba import types

from sparse_circuits.kernels import sources


def callback_of(function: Callable[[Any], None], job: Any) -> Any:
    """`function`, whose argument is the address of a record of the NumPy dtype `job`; its C function at `.address`."""
    record = numba.from_dtype(job)
    try:
        return _kept(function, record)
    except Exception:
        # No folder for the cache, a full disk, a damaged cache, an unknown Numba: not using what fails mends them all.
        return numba.cfunc(types.void(types.CPointer(record)))(_guarded(function))


def _kept(function: Callable[[Any], None], record: Any) -> Any:
    """By the compiler's inner parts, and kept on disk."""
    from numba.core import caching, ccallback, compiler, registry

    from sparse_circuits.kernels.compiler import Compiler, entry

    target, arguments = registry.cpu_target, (types.CPointer(record),)

    class Cache(caching.FunctionCache):
        def _index_key(self, *what: Any) -> Any:
            # Numba looks at the function's own file only.
            return (*super()._index_key(*what), sources.IMPORTED)

    class Callback(ccallback.CFunc):
        def _compile_uncached(self) -> Any:
            made = Compiler(function, target, {}, {}, compiler.Compiler).compile(arguments, types.void)
            name = made.fndesc.llvm_cfunc_wrapper_name
            made.library.add_ir_module(entry(target.target_context, made.fndesc, record.offset("failed"), name))
            return made

    callback = Callback(function, (arguments, types.void), {}, {})
    if sources.IMPORTED is not None and sources.digest() == sources.IMPORTED:
        callback._cache = Cache(function)  # type: ignore[attr-defined]
    callback.compile()
    return callback


def _guarded(function: Callable[[Any], None]) -> Callable[[Any], None]:
    """The same with a handler."""
    inner = numba.njit(function)

    def guarded(job_at: Any) -> None:
        try:
            inner(job_at)
        except Exception:
            numba.carray(job_at, 1)[0].failed = 1

    return guarded
