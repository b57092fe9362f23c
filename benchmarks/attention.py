"""How fast attention with small heads is beside PyTorch's fused attention, in training and from a cache.

    OMP_NUM_THREADS=1 python benchmarks/attention.py [--repeats 9] [--json]

1. Training: forward, and backward, for q, k and v of [rows, positions, channels]. PyTorch's side has no sink, ours has.
2. Decoding: one query a row, 256 keys of a cache. There are several caches in turn, as a model has one a layer.
3. Each run is repeated until it takes some milliseconds; the sides take turns, medians are compared, and the results
   are checked against each other, without the sink.
4. The process is set up for both sides as the command line sets it up (`sparse_circuits.process`).
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import tyro
from rich.console import Console
from rich.table import Table

from sparse_circuits.process import tune

tune()

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from sparse_circuits.bench.timing import machine
from sparse_circuits.kernels.attention import attention

TRAINING = [(8, 8, 256, 16), (8, 16, 256, 8), (8, 64, 256, 16), (8, 8, 256, 32), (8, 4, 256, 64), (1, 8, 1024, 16)]
"""Rows, heads, positions, d_head."""
DECODING = [(1, 8, 16), (1, 128, 16), (1, 256, 8), (8, 32, 16), (1, 16, 64)]
"""Rows, heads, d_head."""
KEYS, CACHES = 256, 8
SECONDS = 0.02


@dataclass(frozen=True)
class Options:
    """Compare attention with PyTorch's."""

    repeats: int = 9
    """How often both sides are timed."""
    json: bool = False
    """Print one JSON object instead of a table."""


@dataclass(frozen=True)
class Row:
    """One comparison: medians in microseconds."""

    case: str
    theirs: float
    ours: float


def in_turns(sides: list[Callable[[], object]], repeats: int) -> list[float]:
    """Median microseconds of each side. On a single thread it is the processor's time, which others disturb less."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    for side in sides:
        side()
    times: list[list[float]] = [[] for _ in sides]
    for _ in range(repeats):
        for side, taken in zip(sides, times, strict=True):
            start, count = clock(), 0
            while clock() - start < SECONDS:
                side()
                count += 1
            taken.append(1e6 * (clock() - start) / count)
    return [statistics.median(taken) for taken in times]


def fused(q: Tensor, k: Tensor, v: Tensor, n_head: int, causal: bool) -> Tensor:
    """Attention as one writes it with PyTorch, for channels of all heads."""
    q, k, v = (x.unflatten(-1, (n_head, -1)).transpose(1, 2) for x in (q, k, v))
    return scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2).flatten(2)


def training(rows: int, n_head: int, positions: int, d_head: int, repeats: int) -> list[Row]:
    """Forward and backward."""
    q, k, v = (torch.randn(rows, positions, n_head * d_head, requires_grad=True) for _ in range(3))
    sink, upstream = torch.zeros(n_head, requires_grad=True), torch.randn(q.shape)
    theirs, ours = fused(q, k, v, n_head, True), attention(q, k, v, n_head, sink)
    torch.testing.assert_close(attention(q, k, v, n_head), theirs, rtol=1e-4, atol=1e-5)
    forward = in_turns([lambda: fused(q, k, v, n_head, True), lambda: attention(q, k, v, n_head, sink)], repeats)
    backward = in_turns(
        [
            lambda: torch.autograd.grad(theirs, (q, k, v), upstream, retain_graph=True),
            lambda: torch.autograd.grad(ours, (q, k, v, sink), upstream, retain_graph=True),
        ],
        repeats,
    )
    case = f"{rows} x {positions} positions, {n_head} heads of {d_head}"
    return [Row(f"{case}, forward", *forward), Row(f"{case}, backward", *backward)]


def decoding(rows: int, n_head: int, d_head: int, repeats: int) -> Row:
    """One query a row."""
    q, sink = torch.randn(rows, 1, n_head * d_head), torch.zeros(n_head)
    caches = [
        (torch.randn(rows, KEYS, n_head * d_head), torch.randn(rows, KEYS, n_head * d_head)) for _ in range(CACHES)
    ]
    first = torch.full((rows,), KEYS - 1)
    theirs, ours = fused(q, *caches[0], n_head, False), attention(q, *caches[0], n_head, None, first)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    sides: list[Callable[[], object]] = [
        lambda: [fused(q, k, v, n_head, False) for k, v in caches],
        lambda: [attention(q, k, v, n_head, sink, first) for k, v in caches],
    ]
    times = in_turns(sides, repeats)
    return Row(f"{rows} x 1 query, {KEYS} keys, {n_head} heads of {d_head}", *(taken / CACHES for taken in times))


def main(options: Options) -> None:
    """Measure and print."""
    torch.manual_seed(0)
    described = machine()
    rows = [row for shape in TRAINING for row in training(*shape, options.repeats)]
    with torch.no_grad():
        rows += [decoding(*shape, options.repeats) for shape in DECODING]
    if options.json:
        print(json.dumps({"machine": described, "rows": [asdict(row) for row in rows]}, indent=2))
        return
    table = Table("case", "PyTorch, us", "ours, us", "times faster")
    for row in rows:
        table.add_row(row.case, f"{row.theirs:.0f}", f"{row.ours:.0f}", f"{row.theirs / row.ours:.1f}")
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(table)
    console.print(", ".join(f"{key} {value}" for key, value in described.items()), highlight=False)


if __name__ == "__main__":
    main(tyro.cli(Options))
