"""What is true of the whole process: whether it is the one that talks, and settings that make training faster.

The settings are applied by the command line and the benchmarks.

A library must not decide these for the program it is part of, so importing the package does not. They cost nothing:
1. OpenMP threads sleep while they wait. Spinning threads take the cores from the next kernel and from everybody else;
   on a shared or small machine training is several times slower with them.
2. Freed memory stays with the process (glibc only). By default every large tensor is mapped anew and its pages are
   faulted in one by one, which for an elementwise operation takes longer than the operation.
"""

import ctypes
import os

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # glibc's names for mallopt's parameters
_MMAP_ABOVE = 1 << 30
_NEVER_TRIM = 2**31 - 1


def is_first() -> bool:
    """Whether this is the process that writes and talks: of several that torchrun has started, the first."""
    return os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK", "0") == "0"


def tune() -> None:
    """Apply the settings; call before PyTorch is imported. What the environment already says stands."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if {"MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"} & set(os.environ):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return  # another C library
    mallopt(_MMAP_THRESHOLD, _MMAP_ABOVE)
    mallopt(_TRIM_THRESHOLD, _NEVER_TRIM)
