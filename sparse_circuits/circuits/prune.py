"""Find the circuit of one task in one model (paper, section 3 and appendix B).

1. Ablation means over held-out text.
2. Learn masks through the training loop, on the task's `prune` split, beginning with the nodes that matter most to
   first order; several runs at once if asked to.
3. Discretise on the `calibrate` split: the smallest set of best-ranked nodes that meets the target loss, or the learned
   set with the few nodes it lacks, if that is smaller.
4. Clean on the same split: drop nodes without a path, then nodes without effect.
5. Of several runs take the smallest circuit, and drop the weights inside it that are not needed, on the same split.
6. Calibrate on the same split, measure everything on the `report` split.
"""

import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from sparse_circuits.circuits.calibration import calibrate
from sparse_circuits.circuits.circuit import Circuit, evaluator, fixed_examples
from sparse_circuits.circuits.config import PruneConfig
from sparse_circuits.circuits.edge_search import MEASURED, drop_edges, measurements
from sparse_circuits.circuits.edges import edges
from sparse_circuits.circuits.evaluator import Evaluator
from sparse_circuits.circuits.logits import last_logits
from sparse_circuits.circuits.masks import MaskLearning
from sparse_circuits.circuits.means import Means, means_for
from sparse_circuits.circuits.nodes import NodeSpace
from sparse_circuits.circuits.screen import screened
from sparse_circuits.circuits.search import complete, discretise, drop_unconnected, drop_unneeded, exchange
from sparse_circuits.circuits.twin import Link
from sparse_circuits.corpus.packed import PackedCorpus
from sparse_circuits.errors import InputError
from sparse_circuits.fields import require
from sparse_circuits.inference import fastest
from sparse_circuits.loop import Loop
from sparse_circuits.model import GPT
from sparse_circuits.progress import Bar
from sparse_circuits.tasks import Examples, Task, get_task, task_losses

NEEDED_SPLITS = ("prune", "calibrate", "report")
EXCHANGEABLE = 100
"""Nodes; in a larger circuit it takes minutes to look for an exchange."""
LEARNING_POINTS = 100
"""Steps of mask learning that a circuit remembers: its step, task loss and number of nodes (means over runs)."""


class GivenUp(Exception):
    """What was learned has more edges than were allowed before cleaning."""


def prune(
    model: GPT,
    task: Task | str,
    target_loss: float | None = None,
    *,
    config: PruneConfig | None = None,
    text: PackedCorpus | Path | None = None,
    means: Means | None = None,
    warm_start: Circuit | Tensor | None = None,
    rank: Callable[[Evaluator], Tensor] | None = None,
    most_edges: int | float = math.inf,
    progress: bool = False,
) -> Circuit:
    """Find the smallest circuit of `task` in `model` whose loss is at most `target_loss`.

    Args:
        model: a model with a tokenizer; its weights are not changed.
        task: a task, or the name of a registered one.
        target_loss: nats on the calibration split; overrides the config's.
        config: all other settings.
        text: held-out text for the ablation means; by default the corpus the model was trained on.
        means: ablation means computed before.
        warm_start: another circuit of the model, or mask parameters (one a node), to learn on from: one found for a
            larger target, say.
        rank: gives every node a score, high where it is needed, in place of learning masks (see `baseline`); it gets
            what measures nodes on the calibration split.
        most_edges: give up, before it takes minutes to clean, on what has more edges than this as it meets the target.
        progress: show progress on standard error.

    Raises:
        InputError: the task lacks a split or does not suit the model's tokenizer, there is no text for the means, or
            the model itself does not reach the target.
        GivenUp: no run led to as few edges as `most_edges`.
    """
    started = time.monotonic()
    config = config or PruneConfig()
    if target_loss is not None:
        config = replace(config, target_loss=target_loss)
    require(most_edges >= 0, f"most_edges is {most_edges}; it must not be negative")
    task = get_task(task) if isinstance(task, str) else task
    for split in NEEDED_SPLITS:
        task.size(split)  # says which splits there are if this one is not
    runner = fastest(model)
    examples = fixed_examples(model, task, "calibrate", config)
    full = float(task_losses(last_logits(runner, examples), examples).mean())
    if not full <= config.target_loss:
        raise InputError(
            f"the model's own loss on {task.name} is {full:.3f} on the calibrate split, above the target "
            f"{config.target_loss:g}: no circuit can be found for what the model does not do; raise the target, train "
            "longer, or choose a task it does (`sparse-circuits tasks --model` asks it all)"
        )
    trained = [p for p in model.parameters() if p.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        means = means or means_for(runner, text, config.mean_tokens, progress)
        start = _start(warm_start, config, NodeSpace(model.config))
        pruning = _Pruning(model, runner, task, config, means, examples, full, start, rank, progress)
        return pruning.run(started, most_edges)
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


def _start(given: Circuit | Tensor | None, config: PruneConfig, space: NodeSpace) -> Tensor | None:
    """The mask parameters that a circuit, or they themselves, give to begin with."""
    if given is None:
        return None
    if isinstance(given, Circuit):
        signs = given.kept.float() * 2 - 1
        given = given.scores if given.scores is not None else signs * max(config.init_bias, config.init_scale)
    space.check("mask parameters to start from", given)
    return given.float()


class _Found(NamedTuple):
    """What one run of mask learning led to."""

    kept: Tensor
    scores: Tensor
    sizes: dict[str, int]
    edges: int


class _Pruning:
    """One pruning run: `model` is what the circuit belongs to, `runner` the same model in its fastest form."""

    def __init__(
        self,
        model: GPT,
        runner: GPT,
        task: Task,
        config: PruneConfig,
        means: Means,
        examples: Examples,
        own_loss: float,
        start: Tensor | None,
        rank: Callable[[Evaluator], Tensor] | None,
        progress: bool,
    ):
        self.model, self.task, self.config, self.means, self.progress = model, task, config, means, progress
        self.runner = runner
        self.evaluate = evaluator(runner, examples, means, config)
        self.rank = rank
        self.learning: list[list[float]] = []
        if rank is None:
            seeds = range(config.loop.seed, config.loop.seed + config.runs)
            runs = [replace(config, loop=replace(config.loop, seed=seed)) for seed in seeds]
            starts = [screened(runner, task, means, run) if start is None else start for run in runs]
            self.objective = MaskLearning(runner, task, self.evaluate.held, runs, starts, own_loss=own_loss)

    def run(self, started: float, most_edges: int | float) -> Circuit:
        ranked_by = self._learn() if self.rank is None else [self.rank(self.evaluate)]
        found = [self._from_scores(scores, most_edges) for scores in ranked_by]
        stage = "connected_edges" if self.config.clean else "discretised_edges"
        small = [each for each in found if each.sizes[stage] <= most_edges]
        if not small:
            raise GivenUp
        kept, scores, sizes, _ = min(small, key=lambda each: (each.edges, int(each.kept.sum())))
        dropped: list[Link] = []
        if self.config.clean and self.config.drop_edges:
            constants = self.evaluate.held.cpu()
            kept, dropped = drop_edges(self.evaluate, kept, constants, self.config.target_loss, self.progress)
        nodes = self.evaluate.space.by_site(kept)
        del self.evaluate  # of resampled nodes it keeps gigabytes, and measuring makes its own
        circuit = Circuit(
            self.model,
            self.task,
            nodes,
            self.means,
            self.config,
            scores,
            dropped=dropped,
        )
        circuit.found = {"sizes": sizes}
        measure(circuit)
        circuit.found["seconds"] = round(time.monotonic() - started, 1)
        if self.learning:
            circuit.found["learning"] = self.learning
        if len(found) > 1:
            circuit.found["runs"] = [
                {"seed": run.loop.seed, "nodes": int(each.kept.sum()), "edges": each.edges}
                for run, each in zip(self.objective.configs, found, strict=True)
            ]
        return circuit

    def _from_scores(self, scores: Tensor, most_edges: int | float) -> "_Found":
        """The circuit that one run's mask parameters lead to."""
        sizes: dict[str, int] = {}
        completed, start = None, 1
        if self.rank is None:  # other scores have no zero that parts kept from removed
            completed = complete(self.evaluate, scores >= 0, self.config.target_loss)
            start = sizes["learned"] = int((scores >= 0).sum())
        known = None if completed is None else int(completed.sum())
        fewer = discretise(self.evaluate, scores, self.config.target_loss, known, start)
        kept = completed if fewer is None else fewer
        assert kept is not None  # with all nodes the circuit is the model, whose loss was checked
        sizes |= self._sizes("discretised", kept)
        if self.config.clean:
            kept = drop_unconnected(self.evaluate, kept, self.config.target_loss)
            sizes |= self._sizes("connected", kept)
            if sizes["connected_edges"] <= most_edges:
                kept = self._clean(kept)
            sizes |= self._sizes("cleaned", kept)
        return _Found(kept, scores, sizes, len(edges(self.model, self.evaluate.space.by_site(kept))))

    def _clean(self, kept: Tensor) -> Tensor:
        """Drop what is not needed and what that leaves without a path, until neither finds anything; then exchange."""
        while True:
            measured = measurements(kept)
            needed = drop_unneeded(self.evaluate, kept, self.config.target_loss, self.progress, measured)
            kept = drop_unconnected(self.evaluate, needed, self.config.target_loss)
            # What was too large to be measured one by one may be small enough now.
            if torch.equal(kept, needed) and measurements(kept) == measured:
                break
        if self.config.exchange and int(kept.sum()) <= EXCHANGEABLE:
            kept = exchange(self.evaluate, kept, self.config.target_loss, self.progress)
        return kept

    def _learn(self) -> list[Tensor]:
        steps = self.config.loop.steps
        with Bar("masks", steps, self.progress) as bar:
            for log in Loop(self.objective, self.config.loop):
                figures = log.figures
                if log.step % max(1, steps // LEARNING_POINTS) == 0:
                    self.learning.append([log.step, round(figures["task_loss"], 4), round(figures["nodes"], 1)])
                bar.update(log.step, f"task loss {figures['task_loss']:.3f}  nodes {figures['nodes']:.0f}")
        return [self.objective.scores(run).cpu() for run in range(self.config.runs)]

    def _sizes(self, stage: str, kept: Tensor) -> dict[str, int]:
        nodes = self.evaluate.space.by_site(kept)
        return {stage: int(kept.sum()), f"{stage}_edges": len(edges(self.model, nodes))}


def measure(circuit: Circuit) -> None:
    """Calibrate, and note in `found` the losses of model, circuit and empty circuit by split, and each node's cost.

    All on the fixed pairs. Costs take a measurement a node, so circuits of more than `MEASURED` nodes go without. Where
    calibrated logits are to meet the target, costs are those with the circuit's scale and shift, and the empty circuit
    has its own; both are fitted on the `calibrate` split and nowhere else.
    """
    pairs = circuit.examples("calibrate")
    nothing = torch.zeros_like(circuit.kept)
    asked = circuit.evaluator(pairs)
    circuit.calibration = calibrate(asked.logits(circuit.kept).cpu(), pairs.to("cpu"))
    empty = calibrate(asked.logits(nothing).cpu(), pairs.to("cpu")) if circuit.config.calibrated else None
    splits = [split for split in ("calibrate", "report", "ood") if split in circuit.task.splits]
    losses: dict[str, dict[str, float]] = {}
    costs: dict[str, list[float]] = {}
    for split in splits:
        examples = circuit.examples(split)
        evaluate = circuit.evaluator(examples)
        logits = evaluate.logits(circuit.kept)
        losses[split] = {
            "model": float(task_losses(last_logits(circuit.full, examples), examples).mean()),
            "circuit": float(task_losses(logits, examples).mean()),
            "empty": (evaluate if empty is None else evaluate.under(empty))(nothing),
        }
        losses[split]["calibrated"] = float(circuit.calibration.losses(logits, examples).mean())
        if split == "report" and circuit.size <= MEASURED:
            each = circuit.on_its_scale(evaluate).costs(circuit.kept)
            costs = {
                site: [round(float(each[circuit.space.slices[site].start + c]), 6) for c in channels]
                for site, channels in circuit.nodes.items()
            }
    circuit.found |= {"losses": losses, "costs": costs}
