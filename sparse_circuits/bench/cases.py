"""The cases of `sparse-circuits bench`: each by its name, what it compares, and how."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial

import torch

from sparse_circuits.bench.kernel_cases import abs_topk_rows, projection_rows
from sparse_circuits.bench.memory import memory_rows
from sparse_circuits.bench.model_cases import generate_rows, prefill_rows, prune_rows, train_rows
from sparse_circuits.bench.plan import Plan
from sparse_circuits.bench.timing import Row, release


@dataclass(frozen=True)
class Case:
    """One comparison, which gives a few rows."""

    about: str
    """What is compared, and what a reader must know of how."""
    rows: Callable[[Plan], list[Row]]


def on_gpu(rows: Callable[[Plan], list[Row]], name: str, target: float, plan: Plan) -> list[Row]:
    """`rows` on the GPU, or a row that says that there is none."""
    if not torch.cuda.is_available():
        return [Row(name, "no GPU", "", None, None, "s", plan.target(target), "not measured")]
    return rows(replace(plan, device="cuda"))


CASES = {
    "abs-topk": Case("AbsTopK of a quarter against torch.topk and scatter", abs_topk_rows),
    "projection": Case("the weight projection against torch.topk over the matrix", projection_rows),
    "generate": Case(
        "generation against the dense model: with a key/value cache, and by full recomputation, of which 4 of the 64 "
        "tokens are timed, at evenly spread window lengths, and multiplied by 16",
        generate_rows,
    ),
    "prefill": Case("reading a window of 256 positions against the dense model", prefill_rows),
    "prune-step": Case("one step of mask learning against the dense masked model, 2 layers", prune_rows),
    "train-step": Case("one training step at the final density against the published recipe, 4 layers", train_rows),
    "memory": Case("peak resident memory of generation, each side in a process of its own", memory_rows),
    "cuda-abs-topk": Case("AbsTopK on the GPU", partial(on_gpu, abs_topk_rows, "cuda-abs-topk", 5.0)),
    "cuda-projection": Case(
        "the weight projection on the GPU", partial(on_gpu, projection_rows, "cuda-projection", 5.0)
    ),
    "cuda-train-step": Case(
        "one training step on the GPU against the compiled published recipe",
        partial(on_gpu, train_rows, "cuda-train-step", 2.0),
    ),
}


def measure(names: Iterable[str], plan: Plan) -> list[Row]:
    """The rows of these cases, one case after another."""
    rows = []
    for name in names:
        rows += CASES[name].rows(plan)
        release()
    return rows
