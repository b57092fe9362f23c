"""Learning starts with the nodes that matter most, and with those it is given in the same way otherwise."""

from dataclasses import replace

import torch

from sparse_circuits.circuits.circuit import evaluator
from sparse_circuits.circuits.masks import initial
from sparse_circuits.circuits.means import Means
from sparse_circuits.circuits.nodes import NodeSpace
from sparse_circuits.circuits.prune import prune
from sparse_circuits.circuits.screen import screened
from sparse_circuits.config import LoopConfig, PruneConfig
from sparse_circuits.model import GPT
from sparse_circuits.tasks import Task

CONFIG = PruneConfig(init_bias=0.2, init_scale=0.05, screen=0.25, loop=LoopConfig(seed=3))


def test_the_chosen_are_those_whose_removal_moves_the_loss_most(
    quote_model: GPT, quote_task: Task, quote_means: Means
) -> None:
    (start,) = screened(quote_model, quote_task, quote_means, [replace(CONFIG, init_scale=0.0)])
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


def test_runs_differ_by_their_seeds_only(quote_model: GPT, quote_task: Task, quote_means: Means) -> None:
    runs = [replace(CONFIG, loop=replace(CONFIG.loop, seed=seed)) for seed in (3, 4)]
    starts = screened(quote_model, quote_task, quote_means, runs)
    total = NodeSpace(quote_model.config).total
    signs = [start - (initial(run, total) - run.init_bias) for start, run in zip(starts, runs, strict=True)]
    torch.testing.assert_close(*signs)
    assert not torch.equal(*starts)
    assert torch.equal(starts[0], screened(quote_model, quote_task, quote_means, runs[:1])[0])


def test_with_all_nodes_it_is_as_without(quote_model: GPT, quote_task: Task, quote_means: Means) -> None:
    config = replace(CONFIG, screen=1.0)
    (start,) = screened(quote_model, quote_task, quote_means, [config])
    assert torch.equal(start, initial(config, NodeSpace(quote_model.config).total))


def test_a_needed_node_that_starts_removed_is_brought_back(
    quote_model: GPT, quote_task: Task, quote_means: Means
) -> None:
    config = PruneConfig(
        target_loss=0.1,
        k_coef=1e-3,
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
