"""AbsTopK and the weight projection against `torch.topk`, its default (sorted) and the quicker `sorted=False`."""

from collections.abc import Callable

import torch
from torch import Tensor

from sparse_circuits.bench.opponent import topk_and_scatter
from sparse_circuits.bench.plan import Plan
from sparse_circuits.bench.recipe import topk_projection_
from sparse_circuits.bench.timing import Row, Side, interleaved
from sparse_circuits.sparsity import abs_topk, nonzero_count, project_topk_

ORDERED = {"topk, scatter": True, "the same, sorted=False": False}
"""The opponents; targets are against the first."""
COPY = "a plain copy of as much"
"""No opponent, but what bounds AbsTopK: each pass reads and writes as many entries as one copy."""
SECONDS = 4.0


def abs_topk_rows(plan: Plan) -> list[Row]:
    """AbsTopK on activations, alone and with its gradient, and between two linear layers."""
    rows = []
    height, width = (512, 256) if plan.quick else (4096, 2048)
    for dtype in (torch.float32, torch.bfloat16):
        rows += _activations(plan, height, width, dtype, "abs-topk", 5.0 if plan.cuda else 25.0)
    if not plan.cuda:
        for width in () if plan.quick else (256, 1024):
            rows += _activations(plan, 8192, width, torch.float32, "abs-topk", None)
        rows.append(_in_sequence(plan, 512 if plan.quick else 8192, 256))
    return rows


def projection_rows(plan: Plan) -> list[Row]:
    """The projection of one fp32 matrix, at the densities of csp_yolo2 and of the training script."""
    shape = (256, 1024) if plan.quick else (2048, 8192)
    rows = _projection(plan, shape, 1 / 1024, 0, 5.0 if plan.cuda else 10.0)
    rows += _projection(plan, shape, 1 / 64, 4, None)
    return rows


def agreement(ours: Tensor, theirs: Tensor) -> tuple[str, bool]:
    """Whether the results are equal, or differ only in which of equal magnitudes they keep."""
    if torch.equal(ours, theirs):
        return "equal", True
    left, right = ours.float().abs().flatten().sort().values, theirs.float().abs().flatten().sort().values
    return ("equal but for ties", True) if torch.equal(left, right) else ("DIFFER", False)


def _activations(plan: Plan, height: int, width: int, dtype: torch.dtype, case: str, target: float | None) -> list[Row]:
    generator = torch.Generator().manual_seed(0)
    x, upstream = (torch.randn(height, width, generator=generator).to(plan.device, dtype) for _ in range(2))
    k = width // 4
    functions: dict[str, Callable[[Tensor], Tensor]] = {
        name: lambda x, ordered=ordered: topk_and_scatter(x, k, ordered)  # type: ignore[misc]
        for name, ordered in ORDERED.items()
    }
    functions["ours"] = lambda x: abs_topk(x, k)
    results = agreement(functions["ours"](x), functions["topk, scatter"](x))
    where = f"{height} x {width} {str(dtype).removeprefix('torch.')}"
    forward: dict[str, Side] = {name: lambda f=function: f(x) for name, function in functions.items()}  # type: ignore[misc]
    both = {name: _with_gradient(function, x, upstream) for name, function in functions.items()}
    copies = torch.empty_like(x), torch.empty_like(upstream)
    forward[COPY] = lambda: copies[0].copy_(x)
    both[COPY] = lambda: (copies[0].copy_(x), copies[1].copy_(upstream))
    return [
        *_rows(plan, forward, case, f"{where}, forward", target, results),
        *_rows(plan, both, case, f"{where}, forward and backward", target, results),
    ]


def _with_gradient(function: Callable[[Tensor], Tensor], x: Tensor, upstream: Tensor) -> Side:
    leaf = x.clone().requires_grad_()
    return lambda: torch.autograd.grad(function(leaf), leaf, upstream)[0]


def _in_sequence(plan: Plan, height: int, width: int) -> Row:
    """As a model has it: PyTorch's threads are still awake when the kernel starts."""
    x, first, second = (torch.randn(n, width) / width**0.5 for n in (height, width, width))
    sides: dict[str, Side] = {
        "topk, scatter": lambda: topk_and_scatter(x @ first, width // 4, True) @ second,
        "ours": lambda: abs_topk(x @ first, width // 4) @ second,
    }
    results = agreement(abs_topk(x @ first, width // 4), topk_and_scatter(x @ first, width // 4))
    return _rows(plan, sides, "abs-topk", f"linear, {height} x {width}, linear", None, results)[0]


def _projection(plan: Plan, shape: tuple[int, int], density: float, minimum: int, target: float | None) -> list[Row]:
    original = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(plan.device)
    weight = original.clone()
    k = nonzero_count(density, weight.numel())
    sides: dict[str, Side] = {
        name: lambda ordered=ordered: topk_projection_(weight, k, minimum, 1, ordered)  # type: ignore[misc]
        for name, ordered in ORDERED.items()
    }
    sides["ours"] = lambda: project_topk_(weight, k, minimum)
    kept = []
    for side in (sides["ours"], sides["topk, scatter"]):
        weight.copy_(original)
        side()
        kept.append(weight.clone())
    least = f", {minimum} a row at least" if minimum else ""
    what = f"{shape[0]} x {shape[1]} at 1/{round(1 / density)}{least}"
    return _rows(plan, sides, "projection", what, target, agreement(*kept), lambda: weight.copy_(original))


def _rows(
    plan: Plan,
    sides: dict[str, Side],
    case: str,
    what: str,
    target: float | None,
    results: tuple[str, bool],
    before: Side | None = None,
) -> list[Row]:
    """One row an opponent."""
    plan.say(f"{case}: {what}")
    times = interleaved(sides, plan.repeats(15), SECONDS, before)
    mine = times.pop("ours")
    return [
        Row(
            f"cuda-{case}" if plan.cuda else case,
            what,
            name,
            time.median,
            mine.median,
            "s",
            plan.target(target) if ORDERED.get(name) else None,
            *(results if name in ORDERED else ("", True)),
            first=mine.compiling,
            processor=(time.processor, mine.processor),
        )
        for name, time in times.items()
    ]
