"""Learning starts with the nodes that matter most, and with those it is given in the same way otherwise."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sparse_circuits.circuits.circuit import evaluator
from sparse_circuits.circuits.config import PruneConfig
from sparse_circuits.circuits.masks import initial
from sparse_circuits.circuits.means import Means
from sparse_circuits.circuits.nodes import NodeSpace
from sparse_circuits.circuits.prune import prune
from sparse_circuits.circuits.screen import screened
from sparse_circuits.circuits.search import first, ranked
from sparse_circuits.config import LoopConfig
from sparse_circuits.model import GPT
from sparse_circuits.tasks import Examples, Task

CONFIG = PruneConfig(init_bias=0.2, init_scale=0.05, screen=0.25, loop=LoopConfig(seed=3))


def test_the_chosen_are_those_whose_removal_moves_the_loss_most(
    quote_model: GPT, quote_task: Task, quote_means: Means
) -> None:
    start = screened(quote_model, quote_task, quote_means, replace(CONFIG, init_scale=0.0))
    space = NodeSpace(quote_model.config)
    assert set(start.tolist()) == {torch.tensor(0.2).item(), torch.tensor(-0.2).item()}
    chosen = start > 0
    assert int(chosen.sum()) == round(0.25 * space.total)
    assert quote_model.tokenizer is not None
    pairs = quote_task.examples(quote_model.tokenizer, "prune", quote_task.size("prune"), 3)
    everything = torch.ones(space.total, dtype=torch.bool)
    # The mask's slope by central differences, in each node; the model is linear enough there.
    measured = evaluator(quote_model, pairs, quote_means, CONFIG).attribution(everything).abs()
    assert measured[chosen].min() >= measured[~chosen].max()
    known = space.flat({"0.attn.act_in": (0, 1), "0.attn.k": (0,), "0.attn.v": (0,), "0.attn.resid_delta": (3,)})
    assert bool(chosen[known].all())


@dataclass
class Slopes:
    """Measures that give each node the same slope, whatever is kept."""

    slopes: Tensor

    def __call__(self, kept: Tensor, limit: float = math.inf) -> float:
        return 0.0

    def attribution(self, kept: Tensor) -> Tensor:
        return self.slopes.clone()


def test_each_run_begins_as_if_it_were_alone(
    quote_model: GPT, quote_task: Task, quote_means: Means, monkeypatch
) -> None:
    def slopes(model: GPT, pairs: Examples, means: Means, config: PruneConfig) -> Slopes:
        generator = torch.Generator().manual_seed(int((pairs.tokens * torch.arange(pairs.tokens.shape[1])).sum()))
        return Slopes(torch.randn(NodeSpace(model.config).total, generator=generator))

    monkeypatch.setattr("sparse_circuits.circuits.screen.PAIRS", 2)  # of more
    monkeypatch.setattr("sparse_circuits.circuits.screen.evaluator", slopes)
    runs = [replace(CONFIG, loop=replace(CONFIG.loop, seed=seed)) for seed in range(4)]
    starts = [screened(quote_model, quote_task, quote_means, run) for run in runs]
    assert len({tuple((start >= 0).tolist()) for start in starts}) > 1


def test_below_zero_the_bias_removes_all() -> None:
    chosen = torch.arange(8) < 4
    start = initial(replace(CONFIG, init_bias=-0.2, init_scale=0.0), 8, chosen)
    assert torch.equal(start, torch.full((8,), -0.2))


def test_tied_channels_are_worth_what_they_are_worth_together(
    quote_model: GPT, quote_task: Task, quote_means: Means, monkeypatch
) -> None:
    space = NodeSpace(quote_model.config)
    q, k, v = (space.slices[f"0.attn.{name}"].start for name in "qkv")
    slopes = torch.zeros(space.total)
    slopes[[q, k, q + 1, k + 1, v]] = torch.tensor([0.1, 0.9, 0.8, -0.7, 0.5])
    monkeypatch.setattr("sparse_circuits.circuits.screen.evaluator", lambda *given: Slopes(slopes))
    config = replace(CONFIG, screen=3 / space.total, init_scale=0.0)
    for tied, expected in ((False, [q + 1, k, k + 1]), (True, [q, k, v])):
        start = screened(quote_model, quote_task, quote_means, replace(config, tie_qk=tied))
        assert (start > 0).nonzero().squeeze(1).tolist() == expected


def test_where_the_chosen_miss_the_target_twice_as_many_are(
    quote_model: GPT, quote_task: Task, quote_means: Means
) -> None:
    space = NodeSpace(quote_model.config)
    pairs = quote_task.examples(quote_model.tokenizer, "prune", quote_task.size("prune"), 3)
    evaluate = evaluator(quote_model, pairs, quote_means, CONFIG)
    for target in (0.05, 0.69, 5.0):
        config = replace(CONFIG, screen=1 / space.total, target_loss=target, init_scale=0.0)
        chosen = screened(quote_model, quote_task, quote_means, config) > 0
        order = ranked(evaluate.attribution(torch.ones(space.total, dtype=torch.bool)).abs())
        counts = [2**power for power in range(10) if 2**power < space.total] + [space.total]
        meets = next(count for count in counts if evaluate(first(order, count)) <= target)
        assert int(chosen.sum()) == meets
        assert (meets > 1) == (target < 5)


def test_a_loss_that_is_no_number_meets_no_target(
    quote_model: GPT, quote_task: Task, quote_means: Means, monkeypatch
) -> None:
    space = NodeSpace(quote_model.config)

    class Broken(Slopes):
        def __call__(self, kept: Tensor, limit: float = math.inf) -> float:
            return 0.0 if bool(kept.all()) else math.nan

    monkeypatch.setattr("sparse_circuits.circuits.screen.evaluator", lambda *given: Broken(torch.ones(space.total)))
    assert bool((screened(quote_model, quote_task, quote_means, CONFIG) > 0).all())


def test_a_model_that_misses_the_target_starts_with_what_does_no_worse(
    random_model, quote_task: Task, quote_means: Means
) -> None:
    """As the report's controls do: it ends with all nodes at the latest."""
    model = random_model()
    total = NodeSpace(model.config).total
    means = Means(torch.zeros(total), torch.zeros(total), tokens=1)
    config = replace(CONFIG, screen=1 / total, target_loss=1e-6)
    pairs = quote_task.examples(model.tokenizer, "prune", quote_task.size("prune"), 3)
    evaluate = evaluator(model, pairs, means, config)
    chosen = screened(model, quote_task, means, config) >= 0
    assert evaluate(chosen) <= 1.1 * evaluate(torch.ones(total, dtype=torch.bool))


def test_with_all_nodes_it_is_as_without(quote_model: GPT, quote_task: Task, quote_means: Means) -> None:
    config = replace(CONFIG, screen=1.0)
    start = screened(quote_model, quote_task, quote_means, config)
    assert torch.equal(start, initial(config, NodeSpace(quote_model.config).total))


def test_a_needed_node_that_starts_removed_is_brought_back(
    quote_model: GPT, quote_task: Task, quote_means: Means
) -> None:
    config = PruneConfig(
        target_loss=0.1,
        price=0.01,
        temperature=0.5,
        batch_pairs=5,
        eval_pairs=4,
        loop=LoopConfig(steps=40, learning_rate=0.05, epsilon=1e-8, gradient="clip"),
    )
    space = NodeSpace(quote_model.config)
    known = {"0.attn.act_in": (0, 1), "0.attn.k": (0,), "0.attn.v": (0,), "0.attn.resid_delta": (3,)}
    start = torch.where(space.flat(known), 0.1, -0.1)
    start[space.slices["0.attn.k"].start] = -0.1
    circuit = prune(quote_model, quote_task, config=config, means=quote_means, warm_start=start)
    assert circuit.nodes == known
    assert circuit.found["sizes"]["learned"] == 5
