"""How fast the fused steps of training and pruning are beside the PyTorch operations that they replace.

    OMP_NUM_THREADS=1 python benchmarks/fused.py [--repeats 15] [--only norm gelu] [--json]

1. Activations, forward and forward with backward: RMSNorm (also with position channels beside it), GELU and ReLU with
   AbsTopK after them, the masks of pruning.
   The other side is PyTorch's operations, one after the other, and this library's own AbsTopK.
2. The loss and the bigram table's rows, with their gradients.
3. The update of twelve matrices of 1024 x 4096 at 1/16 and 1/64, of which rows or columns keep four: norm of the
   gradients, scaling, AdamW (fused) and the projection, against `total_square` and `adamw_project_`.
4. The sides take turns; medians are compared. On one thread it is the processor's time, which other programs on the
   machine disturb less.
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import tyro
from rich.console import Console
from rich.table import Table

from sparse_circuits.process import tune

tune()

import torch
from torch import Tensor
from torch.nn import functional as F

from sparse_circuits.kernels import fused
from sparse_circuits.kernels.update import adamw_project_, total_square
from sparse_circuits.sparsity import abs_topk, project_topk_

SHAPES = [(2048, 128), (2048, 512), (2048, 1024), (2048, 4096), (4096, 8192)]
VOCABULARY = 2048
POSITIONS = (256, 32)
"""Positions of a sequence, and the channels that stand beside the normed ones for each."""
MATRICES = 12
RATES: dict[str, Any] = {
    "learning_rate": 2e-3,
    "beta1": 0.9,
    "beta2": 0.95,
    "epsilon": 0.1,
    "weight_decay": 0.1,
}
Function = Callable[..., Tensor]


@dataclass(frozen=True)
class Options:
    """Compare the fused steps with the PyTorch operations that they replace."""

    repeats: int = 15
    """How often each side is timed."""
    only: tuple[str, ...] = ()
    """Cases to run: norm, norm-beside, gelu, relu, hold, keep-hold, gelu-hold, loss, rows, update; none given: all."""
    json: bool = False
    """Print one JSON object instead of a table."""


@dataclass(frozen=True)
class Row:
    """One comparison: medians in milliseconds."""

    case: str
    theirs: float
    ours: float

    @property
    def ratio(self) -> float:
        """How many times faster ours is."""
        return self.theirs / self.ours


def compare(case: str, theirs: Callable[[], object], ours: Callable[[], object], repeats: int) -> Row:
    """Time both sides in turns, after one run each that does not count."""
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    times: list[list[float]] = [[], []]
    for count in range(repeats + 1):
        for side, taken in zip((theirs, ours), times, strict=True):
            start = clock()
            side()
            if count:
                taken.append(1e3 * (clock() - start))
    return Row(case, *(statistics.median(taken) for taken in times))


def activations(n: int, k: int, dtype: torch.dtype) -> dict[str, tuple[Function, Function]]:
    """By case: PyTorch's way, and the fused one; both take x, a norm's weight, a mask and what is held."""

    def mix(x: Tensor, m: Tensor, h: Tensor) -> Tensor:
        m, h = m.to(x.dtype), h.to(x.dtype)
        return m * x + (1 - m) * h

    channels = torch.randn(POSITIONS)

    def beside(x: Tensor, w: Tensor) -> Tensor:
        normed = F.rms_norm(x, (n,), w.to(dtype))
        return torch.cat([normed, channels.to(dtype).expand(len(x), -1, -1)], dim=-1)

    return {
        "norm": (
            lambda x, w, m, h: abs_topk(F.rms_norm(x, (n,), w.to(dtype)), k),
            lambda x, w, m, h: fused.keep_norm(x, w, k),
        ),
        "norm-beside": (
            lambda x, w, m, h: abs_topk(beside(x.view(-1, len(channels), n), w), k),
            lambda x, w, m, h: fused.keep_norm(x.view(-1, len(channels), n), w, k, beside=channels),
        ),
        "gelu": (lambda x, w, m, h: abs_topk(F.gelu(x), k), lambda x, w, m, h: fused.keep_gelu(x, k)),
        "relu": (lambda x, w, m, h: abs_topk(F.relu(x), k), lambda x, w, m, h: fused.keep_relu(x, k)),
        "hold": (lambda x, w, m, h: mix(x, m, h), lambda x, w, m, h: fused.hold(x, m, h)),
        "keep-hold": (
            lambda x, w, m, h: mix(abs_topk(x, k), m, h),
            lambda x, w, m, h: fused.keep_hold(x, k, m, h),
        ),
        "gelu-hold": (
            lambda x, w, m, h: mix(abs_topk(F.gelu(x), k), m, h),
            lambda x, w, m, h: fused.keep_gelu(x, k, m, h),
        ),
    }


def activation_rows(options: Options) -> Iterator[Row]:
    """Every case at every shape, in fp32 and bf16."""
    for rows, n in SHAPES:
        for dtype in (torch.float32, torch.bfloat16):
            x, weight, mask = torch.randn(rows, n).to(dtype), torch.rand(n) + 0.5, torch.rand(n).round()
            held = torch.randn(n)
            for case, sides in activations(n, n // 4, dtype).items():
                if options.only and case not in options.only:
                    continue
                learned = (x, weight) if case.startswith("norm") else (x, mask) if "hold" in case else (x,)
                both = [_both_ways(side, learned, (x, weight, mask, held)) for side in sides]
                where = f"{case} {rows} x {n} {str(dtype).removeprefix('torch.')}"
                for number, way in enumerate(("forward", "forward and backward")):
                    yield compare(f"{where}, {way}", both[0][number], both[1][number], options.repeats)


def _both_ways(
    function: Function, learned: tuple[Tensor, ...], given: tuple[Tensor, ...]
) -> tuple[Callable[[], object], Callable[[], object]]:
    """The function without gradients, and with those of `learned`."""
    leaves = {id(t): t.detach().clone().requires_grad_() for t in learned}
    inputs = [leaves.get(id(t), t) for t in given]
    gradient = torch.randn_like(function(*given))

    def forward() -> None:
        with torch.no_grad():
            function(*given)

    return forward, lambda: torch.autograd.grad(function(*inputs), list(leaves.values()), gradient)


def output_rows(options: Options) -> Iterator[Row]:
    """The loss and the table, forward and backward."""
    positions = 2048
    tokens, targets = torch.randint(0, VOCABULARY, (2, positions))
    table = torch.randn(VOCABULARY, VOCABULARY, requires_grad=True)
    upstream = torch.randn(positions, VOCABULARY)
    for dtype in (torch.float32, torch.bfloat16):
        logits = torch.randn(positions, VOCABULARY).to(dtype).requires_grad_()
        where = f"{positions} x {VOCABULARY} {str(dtype).removeprefix('torch.')}, forward and backward"

        def loss(function: Function, logits: Tensor = logits) -> Callable[[], object]:
            return lambda: torch.autograd.grad(function(logits, targets), logits)

        def rows(function: Function, logits: Tensor = logits) -> Callable[[], object]:
            return lambda: torch.autograd.grad(function(logits, table, tokens), (logits, table), upstream)

        if not options.only or "loss" in options.only:
            theirs = loss(lambda logits, targets: F.cross_entropy(logits.float(), targets))
            yield compare(f"loss {where}", theirs, loss(fused.cross_entropy), options.repeats)
        if not options.only or "rows" in options.only:
            theirs = rows(lambda logits, table, tokens: logits + F.embedding(tokens, table))
            yield compare(f"rows {where}", theirs, rows(fused.add_rows), options.repeats)


def update_rows(options: Options) -> Iterator[Row]:
    """Steps of training, as far as they are about weights."""
    if options.only and "update" not in options.only:
        return
    for shape, per_row, per_column in (((4096, 1024), 4, 0), ((1024, 4096), 0, 4)):
        for one_in in (16, 64):
            k = shape[0] * shape[1] // one_in
            least = "4 a row" if per_row else "4 a column"
            where = f"update {MATRICES} x {shape[0]} x {shape[1]} at 1/{one_in}, {least}"
            yield compare(where, *_updates(shape, k, per_row, per_column), options.repeats)


def _updates(
    shape: tuple[int, int], k: int, per_row: int, per_column: int
) -> tuple[Callable[[], object], Callable[[], object]]:
    """Both sides of an update, each with parameters of its own; they change, but stay alike."""
    gradients = [torch.rand(shape[0], 1) * torch.randn(shape) for _ in range(MATRICES)]
    theirs = [torch.nn.Parameter(0.05 * torch.randn(shape)) for _ in gradients]
    for parameter, gradient in zip(theirs, gradients, strict=True):
        project_topk_(parameter, k, per_row, per_column)
        parameter.grad = gradient.clone()
    ours = [parameter.detach().clone() for parameter in theirs]
    moments = [(torch.zeros(shape), torch.zeros(shape)) for _ in ours]
    optimizer = torch.optim.AdamW(theirs, lr=2e-3, betas=(0.9, 0.95), eps=0.1, weight_decay=0.1, fused=True)
    forced, steps = [0] * MATRICES, iter(range(1, 1_000_000))

    def pytorch() -> None:
        with_gradients = [parameter.grad for parameter in theirs if parameter.grad is not None]
        torch._foreach_mul_(with_gradients, 1 / float(torch.nn.utils.get_total_norm(with_gradients)))
        optimizer.step()
        for parameter in theirs:
            project_topk_(parameter, k, per_row, per_column)

    def in_one_pass() -> None:
        step, scale = next(steps), total_square(gradients) ** -0.5
        rates = {**RATES, "step": step, "scale": scale, "k": k, "min_per_row": per_row, "min_per_column": per_column}
        for i, (parameter, gradient) in enumerate(zip(ours, gradients, strict=True)):
            average, average_square = moments[i]
            forced[i] = adamw_project_(parameter, gradient, average, average_square, forced=forced[i], **rates).forced

    return pytorch, in_one_pass


def main(options: Options) -> None:
    """Measure and print."""
    torch.manual_seed(0)
    rows = []
    for part in (activation_rows, output_rows, update_rows):
        for row in part(options):
            rows.append(row)
            print(f"{row.case}: {row.ratio:.2f}", file=sys.stderr)
    machine = {"threads": torch.get_num_threads(), "load": os.getloadavg()[0], "torch": torch.__version__}
    if options.json:
        print(json.dumps({"machine": machine, "rows": [asdict(row) | {"ratio": row.ratio} for row in rows]}, indent=2))
        return
    table = Table("case", "PyTorch, ms", "fused, ms", "times faster")
    for row in rows:
        table.add_row(row.case, f"{row.theirs:.2f}", f"{row.ours:.2f}", f"{row.ratio:.2f}")
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(table)
    console.print(", ".join(f"{key} {value}" for key, value in machine.items()), highlight=False)


if __name__ == "__main__":
    main(tyro.cli(Options))
