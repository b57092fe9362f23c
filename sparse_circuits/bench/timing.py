"""Timing two or more sides fairly, and what comes of it: rows of a table.

1. Each side runs once without counting. For ours that first call compiles kernels, or loads them from disk,
   and is reported apart.
2. Then the sides take turns, so that whatever else the machine does hits all alike, until each has run `repeats` times;
   a slow side may stop once it has used its seconds, but not before it has run twice.
3. Medians are compared. Beside the seconds that passed, the seconds that processors worked are kept: on a machine that
   others use they say more.
"""

import ctypes
import gc
import importlib.metadata
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

Side = Callable[[], object]


@dataclass(frozen=True)
class Row:
    """One comparison; times in seconds or memory in bytes."""

    case: str
    what: str
    against: str
    theirs: float | None
    """None: not measured."""
    ours: float | None
    unit: str
    """"s" or "B"."""
    target: float | None = None
    """How many times better ours must be; None where this is for information."""
    results: str = ""
    """How well the two sides' results agree."""
    agree: bool = True
    first: float | None = None
    """Seconds of our first call above those of a later one: compilation."""
    processor: tuple[float, float] | None = None
    """Seconds that all threads together worked, theirs and ours."""

    @property
    def ratio(self) -> float | None:
        """How many times better ours is."""
        return self.theirs / self.ours if self.theirs is not None and self.ours else None

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None without a target or a measurement."""
        return None if self.target is None or self.ratio is None else self.ratio >= self.target


@dataclass(frozen=True)
class Timed:
    """What `interleaved` found about one side, in seconds."""

    first: float
    median: float
    mean: float
    processor: float
    """Median of the seconds that all threads together worked."""

    @property
    def compiling(self) -> float:
        """What the first call took above a later one."""
        return max(0.0, self.first - self.median)


def interleaved(
    sides: Mapping[str, Side], repeats: int, seconds: float, before: Side | None = None
) -> dict[str, Timed]:
    """Time the sides in turns.

    Args:
        repeats: how often each runs.
        seconds: the time after which a side need not run again.
        before: called before each run, not counted.
    """

    def once(side: Side) -> tuple[float, float]:
        if before is not None:
            before()
        synchronize()
        started, worked = time.perf_counter(), time.process_time()
        side()
        synchronize()
        return time.perf_counter() - started, time.process_time() - worked

    first = {name: once(side)[0] for name, side in sides.items()}
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    while left := [name for name, runs in taken.items() if _more(runs, repeats, seconds)]:
        for name in left:
            taken[name].append(once(sides[name]))
    result = {}
    for name, runs in taken.items():
        passed, worked = zip(*runs, strict=True)
        result[name] = Timed(first[name], statistics.median(passed), statistics.mean(passed), statistics.median(worked))
    return result


def _more(runs: list[tuple[float, float]], repeats: int, seconds: float) -> bool:
    return len(runs) < min(2, repeats) or (len(runs) < repeats and sum(passed for passed, _ in runs) < seconds)


def synchronize() -> None:
    """Wait for the GPU, where there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def release() -> None:
    """Give freed memory back to the system, for the sake of the next case and of others."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError, TypeError):
        return  # another C library


def difference(ours: Float[Tensor, "*shape"], theirs: Float[Tensor, "*shape"]) -> float:
    """The norm of the difference, relative to the norm of theirs."""
    return float((ours.float() - theirs.float()).norm() / theirs.float().norm())


def machine() -> dict[str, object]:
    """What is being measured on."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numba": importlib.metadata.version("numba"),
    }
