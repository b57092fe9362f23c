"""How fast products with sparse weights are beside what PyTorch offers for them.

    OMP_NUM_THREADS=1 python benchmarks/products.py [--positions 1 256 2048 4096] [--repeats 5] [--training] [--json]

1. `multiply` on dense inputs and on inputs of which three quarters are zero, as after AbsTopK, against the dense
   product in fp32 and in bf16 (`F.linear`, inputs and weights already bf16), and against PyTorch's CSR product, whose
   result lies transposed (the copy that puts it right is not counted).
2. `--training`: the input gradient and both weight gradients of `trained_linear`, and the refresh of its matrix
   (`SparseMatrix.from_dense`, and its transpose), against the bf16 products that they replace.
3. All sides take turns within each repetition; medians are compared, and results are checked against the dense ones.
4. The process is set up for all sides as the command line sets it up (`sparse_circuits.process`).

The constants of the cost model in `kernels/products.py` come from the same measurements, on one thread.
"""

import json
import os
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Mapping
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
from torch.nn.functional import linear

from sparse_circuits.kernels.products import SparseMatrix, multiply, trained_linear

SHAPES = [
    *[(2080, 6144, 1024), (2048, 2048, 1024), (2080, 8192, 1024), (8192, 2048, 1024)],
    *[(1024, 3072, 64), (1024, 1024, 64), (1024, 4096, 64), (4096, 1024, 64)],
    *[(128, rows, one_in) for one_in in (16, 32) for rows in (384, 512, 2048)],
    *[(512, 128, one_in) for one_in in (16, 32)],
]
"""Columns, rows, and one weight in how many is not zero."""


@dataclass(frozen=True)
class Options:
    """Compare sparse products with dense ones and with PyTorch's CSR."""

    positions: tuple[int, ...] = (1, 256, 2048, 4096)
    """How many rows of activations."""
    repeats: int = 5
    """How often every side is timed at least."""
    training: bool = False
    """Compare gradients and refreshing instead."""
    json: bool = False
    """Print one JSON object instead of a table."""


@dataclass(frozen=True)
class Row:
    """One comparison: medians in microseconds by side."""

    case: str
    times: dict[str, float]


def medians(sides: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median microseconds of each side; they take turns, after one run that does not count, 0.4 seconds on.

    On a single thread it is the processor's time, which other programs on the machine disturb less.
    """
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    for side in sides.values():
        side()
    times: dict[str, list[float]] = {name: [] for name in sides}
    begun = time.perf_counter()
    while len(times["ours"]) < repeats or time.perf_counter() - begun < 0.4:
        for name, side in sides.items():
            start = clock()
            side()
            times[name].append(1e6 * (clock() - start))
    return {name: statistics.median(taken) for name, taken in times.items()}


def sparse_weight(rows: int, columns: int, one_in: int) -> Tensor:
    """Normal numbers in random places."""
    return torch.where(torch.rand(rows, columns) < 1 / one_in, torch.randn(rows, columns), 0.0)


def to_csr(weight: Tensor) -> Tensor:
    """PyTorch's own sparse matrix."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
        return weight.to_sparse_csr()


def compare_products(columns: int, rows: int, one_in: int, positions: int, repeats: int) -> Row:
    """One product, with dense and with mostly zero inputs."""
    weight, x = sparse_weight(rows, columns, one_in), torch.randn(positions, columns)
    matrix, csr, low_weight, low_x = SparseMatrix.from_dense(weight), to_csr(weight), weight.bfloat16(), x.bfloat16()
    mostly_zero = x * (torch.rand_like(x) < 0.25)
    for inputs in (x, mostly_zero):
        torch.testing.assert_close(multiply(matrix, inputs), linear(inputs, weight), rtol=1e-4, atol=1e-4)
    sides = {
        "ours": lambda: multiply(matrix, x),
        "dense fp32": lambda: linear(x, weight),
        "ours, 3/4 zero": lambda: multiply(matrix, mostly_zero),
        "dense bf16": lambda: linear(low_x, low_weight),
        "CSR": lambda: csr @ x.T,
    }
    return Row(f"{columns} -> {rows}, 1 in {one_in}, {positions} positions", medians(sides, repeats))


def compare_training(columns: int, rows: int, one_in: int, positions: int, repeats: int) -> Row:
    """What a training step needs beside the forward product; "ours" is the input gradient."""
    weight = sparse_weight(rows, columns, one_in).requires_grad_()
    x, upstream = torch.randn(positions, columns), torch.randn(positions, rows)
    matrix, low_weight = SparseMatrix.from_dense(weight), weight.detach().bfloat16()
    low_x, low_upstream = x.bfloat16(), upstream.bfloat16()
    live = trained_linear(x, weight, None, matrix, weight_gradient="live")
    (gradient,) = torch.autograd.grad(live, weight, upstream, retain_graph=True)
    exact = (upstream.T @ x) * (weight != 0)
    torch.testing.assert_close(gradient, exact, rtol=1e-3, atol=1e-3)
    sides = {
        "ours": lambda: multiply(matrix.transposed(), upstream),
        "bf16 input gradient": lambda: low_upstream @ low_weight,
        "live weight gradient": lambda: torch.autograd.grad(live, weight, upstream, retain_graph=True),
        "bf16 weight gradient": lambda: (low_upstream.T @ low_x).float(),
        "refresh": lambda: SparseMatrix.from_dense(weight).transposed(),
    }
    return Row(f"{columns} -> {rows}, 1 in {one_in}, {positions} positions", medians(sides, repeats))


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


def table_of(rows: list[Row], training: bool) -> Table:
    """The medians; in parentheses, how many times faster than a side ours is."""
    sides = list(rows[0].times)
    table = Table("case", *(f"{side}, us" for side in sides))
    for row in rows:
        cells = []
        for side in sides:
            against = "live weight gradient" if training and side == "bf16 weight gradient" else "ours"
            compared = not side.startswith(("ours", "live", "refresh"))
            ratio = f" ({row.times[side] / row.times[against]:.1f}x)" if compared else ""
            cells.append(f"{row.times[side]:.0f}{ratio}")
        table.add_row(row.case, *cells)
    return table


def main(options: Options) -> None:
    """Measure and print."""
    torch.manual_seed(0)
    described = machine()
    compare = compare_training if options.training else compare_products
    rows = [compare(*shape, positions, options.repeats) for shape in SHAPES for positions in options.positions]
    if options.json:
        print(json.dumps({"machine": described, "rows": [asdict(row) for row in rows]}, indent=2))
        return
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(table_of(rows, options.training))
    console.print(", ".join(f"{key} {value}" for key, value in described.items()), highlight=False)


if __name__ == "__main__":
    main(tyro.cli(Options))
