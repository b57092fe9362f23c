"""What the CPU kernels have in common on Python's side: jobs, starting them, memory for results.

1. `job_type`: the record a kernel is told its work by, with the fields that `threads.run` fills.
2. `start`: compile the kernel for this type of job where that has not happened, and run it.
3. `refuses`: which tensors compiled code can read.
4. `rows_of`, `empty`, `at`: a tensor as rows, memory for a result, and addresses.
"""

import ctypes
import functools
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sparse_circuits.kernels.kept import Kernel, compiled
from sparse_circuits.kernels.threads import Work, run

HUGE_PAGE = 2 << 20
UNITS: dict[torch.dtype, Any] = {
    torch.float32: ctypes.c_int32,
    torch.bfloat16: ctypes.c_int16,
    torch.float16: ctypes.c_int16,
}
"""The integers as which kernels read the bits of floats."""


def job_type(fields: str, numbers: str = "", **typed: Any) -> type[ctypes.Structure]:
    """A record of the named int64 fields (addresses and counts), float64 `numbers`, and others of the given types."""
    whole = f"{fields} address segments shared number total claim failed".split()
    layout: list[tuple[str, Any]] = [(field, ctypes.c_int64) for field in whole]
    layout += [(field, ctypes.c_double) for field in numbers.split()]
    return type("Job", (ctypes.Structure,), {"_fields_": [*layout, *typed.items()]})


def refuses(tensor: Tensor, dtypes: Iterable[torch.dtype] = UNITS) -> str | None:
    """Why compiled code cannot read `tensor`, or None when it can."""
    if tensor.device.type != "cpu":
        return f"they run on the CPU and the tensor is on {tensor.device}"
    if tensor.dtype not in dtypes:
        return f"they know fp32, bf16 and fp16 and the tensor is {tensor.dtype}"
    if type(tensor) not in (Tensor, torch.nn.Parameter):
        return f"they read plain memory and the tensor is a {type(tensor).__name__}"
    if tensor.is_neg():
        return "they read plain memory and the tensor is a view that negates it"
    if _switched_off():
        return "Numba's compiler is switched off (NUMBA_DISABLE_JIT)"
    return None


def _switched_off() -> bool:
    """Whether Numba, loaded or not, has been told not to compile."""
    loaded = sys.modules.get("numba.core.config")
    if loaded is not None:
        return bool(getattr(loaded, "DISABLE_JIT", False))
    return os.environ.get("NUMBA_DISABLE_JIT", "0").strip() not in ("", "0")


@functools.cache
def _work(kernel: Kernel, job: Any) -> Work:
    return compiled(kernel, np.dtype(job))


def start(kernel: Kernel, job: Any) -> None:
    """Run a kernel on `job`, of which a thread claims `claim` of `total` pieces at a time."""
    kind: Any = type(job)
    run(_work(kernel, kind), job)


def rows_of(x: Float[Tensor, "*rows n"]) -> Float[Tensor, "all n"]:
    """`x` as rows each of which lies in one piece, some distance from the one before: a view where that is possible."""
    rows = x.reshape(-1, x.shape[-1])
    return rows if rows.stride(1) == 1 or rows.shape[1] == 1 else rows.contiguous()


def empty_like(x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Contiguous memory for a result of the shape of x."""
    return empty(x.shape, dtype or x.dtype)


def empty(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Memory for a result. Very large blocks come page by page from the system; large pages make that cheap."""
    result = torch.empty(shape, dtype=dtype)
    if result.nbytes >= 16 * HUGE_PAGE and sys.platform == "linux":
        begin = -(-result.data_ptr() // HUGE_PAGE) * HUGE_PAGE
        end = (result.data_ptr() + result.nbytes) // HUGE_PAGE * HUGE_PAGE
        _libc().madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), 14)  # MADV_HUGEPAGE
    return result


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)


def at(tensor: Tensor | None) -> int:
    """Where the tensor's first entry lies; 0 for none."""
    return 0 if tensor is None else tensor.data_ptr()
