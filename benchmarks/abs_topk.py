"""How fast AbsTopK and the weight projection are beside what PyTorch offers for them.

    python benchmarks/abs_topk.py [--repeats 9] [--json]

1. AbsTopK against `torch.topk` of the magnitudes and `scatter` of the kept entries, its default (sorted) and the
   quicker `sorted=False`; alone, with its gradient, and between two linear layers.
2. `project_topk_` against the same over a whole matrix, also with a minimum of four a row.
3. All sides take turns within each repetition; medians are compared, and the results are checked to be equal.
4. The process is set up for all sides as the command line sets it up (`sparse_circuits.process`).
"""

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numba
import tyro
from rich.console import Console
from rich.table import Table

from sparse_circuits.process import tune

tune()

import torch
from torch import Tensor

from sparse_circuits.sparsity import abs_topk, nonzero_count, project_topk_


@dataclass(frozen=True)
class Options:
    """Compare AbsTopK and the weight projection with torch.topk."""

    repeats: int = 9
    """How often every side is timed at least."""
    json: bool = False
    """Print one JSON object instead of a table."""


@dataclass(frozen=True)
class Row:
    """One comparison: medians in milliseconds."""

    case: str
    times: tuple[float, float, float]
    """Of the sorted topk, the unsorted topk, and ours."""
    equal: str

    @property
    def ratios(self) -> tuple[float, float]:
        """How many times faster than the sorted and the unsorted topk."""
        return self.times[0] / self.times[2], self.times[1] / self.times[2]


def topk_and_scatter(x: Tensor, k: int, ordered: bool) -> Tensor:
    """AbsTopK as one writes it with PyTorch."""
    indices = x.abs().topk(k, dim=-1, sorted=ordered).indices
    return torch.zeros_like(x).scatter(-1, indices, x.gather(-1, indices))


def topk_projection_(weight: Tensor, k: int, min_per_row: int, ordered: bool) -> None:
    """The projection as one writes it with PyTorch."""
    magnitude = weight.abs()
    if min_per_row:
        magnitude.scatter_(1, magnitude.topk(min_per_row, dim=1).indices, torch.inf)
    mask = torch.zeros_like(weight).view(-1)
    mask[magnitude.view(-1).topk(k, sorted=ordered).indices] = 1.0
    weight.mul_(mask.view_as(weight))


def agreement(ours: Tensor, theirs: Tensor) -> str:
    """`yes`, or `but for ties` where rows differ only in which of equal magnitudes they keep.

    Raises:
        AssertionError: the results differ in any other way.
    """
    if torch.equal(ours, theirs):
        return "yes"
    left, right = ours.float().abs().flatten().sort().values, theirs.float().abs().flatten().sort().values
    assert torch.equal(left, right), "the results differ by more than ties"
    return "but for ties"


def medians(
    sides: Sequence[Callable[[], object]], repeats: int, before: Callable[[], object] = lambda: None
) -> tuple[float, float, float]:
    """Median milliseconds of the three sides; they take turns, after one run that does not count, half a second on."""
    for side in sides:
        side()
    times: list[list[float]] = [[] for _ in sides]
    begun = time.perf_counter()
    while len(times[0]) < repeats or time.perf_counter() - begun < 0.5:
        for side, taken in zip(sides, times, strict=True):
            before()
            start = time.perf_counter()
            side()
            taken.append(1e3 * (time.perf_counter() - start))
    sorted_topk, unsorted_topk, ours = (statistics.median(taken) for taken in times)
    return sorted_topk, unsorted_topk, ours


def with_gradient(function: Callable[[Tensor], Tensor], x: Tensor, upstream: Tensor) -> Callable[[], Tensor]:
    """Forward and backward of `function`."""
    leaf = x.clone().requires_grad_()
    return lambda: torch.autograd.grad(function(leaf), leaf, upstream)[0]


def compare_activations(rows: int, n: int, k: int, dtype: torch.dtype, repeats: int) -> list[Row]:
    """AbsTopK alone and with its gradient."""
    x, upstream = torch.randn(rows, n).to(dtype), torch.randn(rows, n).to(dtype)
    functions: list[Callable[[Tensor], Tensor]] = [
        lambda x: topk_and_scatter(x, k, True),
        lambda x: topk_and_scatter(x, k, False),
        lambda x: abs_topk(x, k),
    ]
    name = f"{rows} x {n}, k {k}, {str(dtype).removeprefix('torch.')}"
    forward = [lambda function=function: function(x) for function in functions]
    both = [with_gradient(function, x, upstream) for function in functions]
    equal = agreement(functions[2](x), functions[0](x))
    return [
        Row(f"{name}: forward", medians(forward, repeats), equal),
        Row(f"{name}: forward + backward", medians(both, repeats), equal),
    ]


def compare_in_sequence(rows: int, n: int, k: int, repeats: int) -> Row:
    """Linear, AbsTopK, linear: the whole, since PyTorch's threads are still awake when the kernel starts."""
    x, first, second = torch.randn(rows, n), torch.randn(n, n) / n**0.5, torch.randn(n, n) / n**0.5
    sides = [
        lambda: topk_and_scatter(x @ first, k, True) @ second,
        lambda: topk_and_scatter(x @ first, k, False) @ second,
        lambda: abs_topk(x @ first, k) @ second,
    ]
    equal = agreement(abs_topk(x @ first, k), topk_and_scatter(x @ first, k, True))
    return Row(f"linear, {rows} x {n} k {k}, linear", medians(sides, repeats), equal)


def compare_projection(rows: int, columns: int, density: float, min_per_row: int, repeats: int) -> Row:
    """The projection of one fp32 matrix."""
    original = torch.randn(rows, columns)
    k = nonzero_count(density, original.numel())
    weight = original.clone()
    sides = [
        lambda: topk_projection_(weight, k, min_per_row, True),
        lambda: topk_projection_(weight, k, min_per_row, False),
        lambda: project_topk_(weight, k, min_per_row),
    ]
    results = []
    for side in (sides[0], sides[2]):
        weight.copy_(original)
        side()
        results.append(weight.clone())
    times = medians(sides, repeats, before=lambda: weight.copy_(original))
    minimum = f", {min_per_row} a row" if min_per_row else ""
    return Row(
        f"project {rows} x {columns}, 1 in {round(1 / density)}{minimum}", times, agreement(results[1], results[0])
    )


def machine() -> dict[str, object]:
    """What the numbers were measured on."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor(),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numba": numba.__version__,
    }


def main(options: Options) -> None:
    """Measure and print."""
    torch.manual_seed(0)
    described = machine()
    rows: list[Row] = []
    for n_rows, n, k, dtype in [
        (4096, 2048, 512, torch.float32),
        (4096, 2048, 512, torch.bfloat16),
        (8192, 256, 64, torch.float32),
        (8192, 1024, 256, torch.float32),
    ]:
        rows += compare_activations(n_rows, n, k, dtype, options.repeats)
    rows.append(compare_in_sequence(8192, 256, 64, options.repeats))
    for n_rows, columns, min_per_row in [(1024, 256, 0), (2048, 8192, 0), (2048, 8192, 4)]:
        rows.append(compare_projection(n_rows, columns, 1 / 64, min_per_row, options.repeats))
    if options.json:
        print(
            json.dumps({"machine": described, "rows": [asdict(row) | {"ratios": row.ratios} for row in rows]}, indent=2)
        )
        return
    table = Table("case", "topk, ms", "topk unsorted, ms", "ours, ms", "times faster", "equal")
    for row in rows:
        ratios = "{:.1f} / {:.1f}".format(*row.ratios)
        table.add_row(row.case, *(f"{time:.2f}" for time in row.times), ratios, row.equal)
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(table)
    console.print(", ".join(f"{key} {value}" for key, value in described.items()), highlight=False)


if __name__ == "__main__":
    main(tyro.cli(Options))
