"""Whole models against the dense opponent: generation, reading a prompt, a training step, a pruning step."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from sparse_circuits.bench import ours, recipe
from sparse_circuits.bench.opponent import Dense, dense_twin
from sparse_circuits.bench.plan import Plan
from sparse_circuits.bench.shapes import M, Y, random_model, random_tokens
from sparse_circuits.bench.timing import Row, Side, Timed, difference, interleaved, release
from sparse_circuits.model import GPT
from sparse_circuits.sites import node_sites

PROMPT, ADDED = 192, 64
WINDOWS = (192, 213, 234, 255)
"""Lengths at which one token by full recomputation is timed: evenly spread over those of the added tokens."""


def generate_rows(plan: Plan) -> list[Row]:
    """64 tokens after a prompt of 192."""
    shape = plan.shape(Y)
    plan.say(f"generate: making a model of shape {shape.name}")
    model = random_model(shape)
    sparse, dense = ours.fast(model), dense_twin(model, shape.config)
    half = dense_twin(model, shape.config, torch.bfloat16)
    tokens = random_tokens(shape.config, 1, PROMPT)
    whole = torch.cat([tokens, random_tokens(shape.config, 1, ADDED, seed=2)], dim=1)

    def recompute() -> None:
        with torch.inference_mode():
            for length in WINDOWS:
                dense(whole[:, :length], last=True).argmax(-1)

    sides: dict[str, Side] = {
        "ours": lambda: sparse.generate(tokens, ADDED, temperature=0.0),
        "bf16, cache": lambda: half.generate(tokens, ADDED, keep=True),
        "fp32, cache": lambda: dense.generate(tokens, ADDED, keep=True),
        "fp32, recomputing": recompute,
    }
    plan.say("generate: ours, dense with a cache, dense recomputing (first use compiles our kernels)")
    times = interleaved(sides, plan.repeats(5), 15.0)
    times["fp32, recomputing"] = _scaled(times["fp32, recomputing"], ADDED / len(WINDOWS))
    results = _continued(sparse.generate(tokens, ADDED, temperature=0.0), dense)
    targets = {"fp32, recomputing": 200.0, "bf16, cache": 15.0}
    what = f"{shape.name}, {ADDED} tokens after {PROMPT}"
    return _rows(plan, times, "generate", what, targets, {"fp32, recomputing": results})


def prefill_rows(plan: Plan) -> list[Row]:
    """All logits of one window of 256 positions."""
    shape = plan.shape(Y)
    plan.say(f"prefill: making a model of shape {shape.name}")
    model = random_model(shape)
    sparse = ours.fast(model)
    dense = {"fp32": dense_twin(model, shape.config), "bf16": dense_twin(model, shape.config, torch.bfloat16)}
    tokens = random_tokens(shape.config, 1, shape.config.block_size)

    def read(side: GPT | Dense) -> Tensor:
        with torch.inference_mode():
            logits: Tensor = side(tokens)
            return logits

    sides: dict[str, Side] = {name: lambda side=side: read(side) for name, side in dense.items()}  # type: ignore[misc]
    sides["ours"] = lambda: read(sparse)
    plan.say("prefill: ours and dense")
    times = interleaved(sides, plan.repeats(7), 15.0)
    mine = read(sparse)
    results = {name: _logits(mine, read(side), name) for name, side in dense.items()}
    what = f"{shape.name}, {shape.config.block_size} positions"
    return _rows(plan, times, "prefill", what, {"fp32": 8.0, "bf16": 3.0}, results)


def train_rows(plan: Plan) -> list[Row]:
    """One training step at the final density, of which ours with all weight gradients has a target."""
    shape = plan.shape(M, None if plan.cuda or plan.quick else 4)
    batch = 2 if plan.quick else 32 if plan.cuda else 8
    config, text = ours.training_config(shape, batch), ours.corpus(shape)
    case = "cuda-train-step" if plan.cuda else "train-step"
    plan.say(f"{case}: making models of shape {shape.name} with {shape.config.n_layer} layers")
    model = random_model(shape).to(plan.device)
    theirs = recipe.Training(
        dense_twin(copy.deepcopy(model), shape.config), shape.density, shape.embedding_density, config.loop,
        compiled=plan.cuda,
    )  # fmt: skip
    amortized = ours.training(copy.deepcopy(model), text, ours.training_config(shape, batch, "amortized"))
    full = ours.training(model, text, config)
    place = iter(range(ours.UNENDING))

    def dense_step() -> float:
        drawn = text.batch("train", next(place), batch, shape.config.block_size, config.loop.seed)
        return theirs.step(torch.from_numpy(drawn).to(plan.device))

    against = "published recipe, bf16 autocast" + (", compiled" if plan.cuda else "")
    plan.say(f"{case}: ours and the published recipe (first use compiles our kernels)")
    mine, other = Watched(model, lambda: next(full).loss), Watched(theirs.model, dense_step)
    times = interleaved({against: other, "ours": mine}, plan.repeats(5), 30.0)
    results = same_training(mine, other)
    what = f"{shape.name}, {shape.config.n_layer} layers, {batch} x {shape.config.block_size}"
    rows = _rows(plan, times, case, what, {against: 2.0 if plan.cuda else 3.0}, {against: results})
    every = config.dw_every
    plan.say(f"{case}: ours with amortised weight gradients")
    # Whole rounds, as one step in so many is a full one.
    round_ = interleaved({"ours": lambda: _several(amortized, every)}, plan.repeats(2), 30.0)["ours"]
    note = f"weight gradients of the nonzeros only in {every - 1} of {every} steps"
    dense = times[against]
    row = Row(case, f"{what}, amortised", against, dense.median, round_.mean / every, "s", None, note)
    return [*rows, replace(row, processor=(dense.processor, round_.processor / every))]


class Watched:
    """Steps of training, with their losses and the last MLP's output matrix before and after the first."""

    def __init__(self, model: nn.Module, step: Callable[[], float]):
        self.step, self.losses = step, list[float]()
        self.weight = [p for name, p in model.named_parameters() if name.endswith("mlp.c_proj.weight")][-1]
        self.before, self.after = self.weight.detach().clone(), self.weight.detach()

    def __call__(self) -> None:
        self.losses.append(self.step())
        if len(self.losses) == 1:
            self.after = self.weight.detach().clone()


def same_training(mine: Watched, other: Watched) -> tuple[str, bool]:
    """Whether losses, the size of the first step and the number of nonzeros are alike.

    Not its direction: AbsTopK makes other choices in bfloat16 than in float32, so that under autocast the gradients of
    a random model are mostly rounding. (The tests compare steps without AbsTopK; in float32 gradients are equal.)
    """
    pairs = list(zip(mine.losses, other.losses, strict=False))
    apart = max(abs(loss - its) / its for loss, its in pairs)
    moved = [float((watched.after - watched.before).norm()) for watched in (mine, other)]
    nonzeros = [int((watched.after != 0).sum()) for watched in (mine, other)]
    alike = apart < 0.03 and abs(moved[0] - moved[1]) < 0.2 * moved[1] and nonzeros[0] == nonzeros[1]
    text = f"losses of {len(pairs)} steps within {apart:.1%}, first step {moved[0]:.3g} and {moved[1]:.3g} long"
    return f"{text}, {nonzeros[0]} and {nonzeros[1]} nonzeros", alike


def prune_rows(plan: Plan) -> list[Row]:
    """One step of mask learning on 64 pairs of prompts of 32 tokens, all weights frozen."""
    shape = plan.shape(Y, 2)
    pairs = 8 if plan.quick else 64
    plan.say(f"prune-step: making a model of shape {shape.name} with {shape.config.n_layer} layers")
    model = random_model(shape)
    dense = dense_twin(model, shape.config)
    learning = ours.mask_learning(model, pairs, "fp32")
    examples = learning.examples
    losses: dict[str, list[float]] = {"ours": []}
    sides: dict[str, Side] = {"ours": lambda: losses["ours"].append(next(learning.steps).loss)}
    for precision in ("bf16", "fp32"):
        theirs = recipe.Pruning(
            dense, node_sites(shape.config), learning.tau, learning.held, learning.config, precision
        )
        taken: list[float] = []
        losses[precision] = taken
        sides[precision] = lambda theirs=theirs, taken=taken: taken.append(  # type: ignore[misc]
            theirs.step(examples.tokens, examples.targets, examples.others)
        )
    plan.say("prune-step: ours and the dense masked model (first use compiles our kernels)")
    times = interleaved(sides, plan.repeats(3), 45.0)
    names = {"bf16": "dense masked model, bf16 autocast", "fp32": "dense masked model, fp32"}
    results = {}
    for precision, allowed in (("bf16", 0.1), ("fp32", 1e-3)):
        apart = abs(losses["ours"][0] - losses[precision][0]) / abs(losses[precision][0])
        results[names[precision]] = f"first loss within {apart:.1e}", apart < allowed
    what = f"{shape.name}, {shape.config.n_layer} layers, {2 * pairs} x {ours.PROMPT}"
    times = {names.get(name, name): time for name, time in times.items()}
    return _rows(plan, times, "prune-step", what, dict.fromkeys(names.values(), 10.0), results)


def _rows(
    plan: Plan,
    times: dict[str, Timed],
    case: str,
    what: str,
    targets: dict[str, float],
    results: dict[str, tuple[str, bool]],
) -> list[Row]:
    """One row an opponent, in the order of the targets, those without one last."""
    release()
    mine = times["ours"]
    others = sorted((name for name in times if name != "ours"), key=lambda name: name not in targets)
    rows = []
    for name in others:
        agreed = results.get(name, ("", True))
        target = plan.target(targets.get(name))
        row = Row(case, what, name, times[name].median, mine.median, "s", target, *agreed, first=mine.compiling)
        rows.append(replace(row, processor=(times[name].processor, mine.processor)))
    return rows


def _scaled(time: Timed, factor: float) -> Timed:
    return Timed(time.first * factor, time.median * factor, time.mean * factor, time.processor * factor)


def _several(steps: Iterator[object], count: int) -> None:
    for _ in range(count):
        next(steps)


def _continued(tokens: Tensor, dense: Dense) -> tuple[str, bool]:
    """How many of our greedy tokens the dense model finds likeliest, each after the same text."""
    with torch.inference_mode():
        best = dense(tokens[:, :-1])[:, -ADDED:].argmax(-1)
    equal = int((best == tokens[:, -ADDED:]).sum())
    return f"{equal} of {ADDED} tokens are its likeliest", equal >= 0.95 * ADDED


def _logits(mine: Tensor, other: Tensor, name: str) -> tuple[str, bool]:
    """How far the logits are apart; bfloat16 is far from float32 by its own rounding."""
    apart = difference(mine, other)
    equal = float((mine.argmax(-1) == other.argmax(-1)).float().mean())
    text = f"logits {apart:.1e} apart, likeliest token equal in {equal:.0%}"
    return (text, apart < 0.02) if name == "fp32" else (f"{text} (bf16 rounds)", True)
