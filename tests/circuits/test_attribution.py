"""Scores are what they say they are, and each leads to a circuit through the same search.

`quote_model` (conftest.py) copies the quote through one head; what that needs is listed in `test_prune`.
"""

import dataclasses

import pytest
import torch
from test_prune import CONFIG, TRUE
from torch import Tensor

from sparse_circuits.circuits.ablation import Counterparts
from sparse_circuits.circuits.attribution import METHODS, baseline, integrated, magnitude, patched, score, slopes
from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.circuits.config import ScoreConfig
from sparse_circuits.circuits.evaluator import Evaluator
from sparse_circuits.circuits.logits import final_scales
from sparse_circuits.circuits.means import Means
from sparse_circuits.circuits.nodes import NodeSpace
from sparse_circuits.errors import InputError
from sparse_circuits.model import GPT
from sparse_circuits.tasks import Task, task_losses

SMALL = {"n_layer": 1, "d_model": 8, "n_head": 2, "d_mlp": 6}


@pytest.fixture
def quotes(quote_model: GPT, quote_task: Task, quote_means: Means) -> Evaluator:
    examples = quote_task.examples(quote_model.tokenizer, "prune", 5, block_size=32)
    return Evaluator(quote_model, examples, quote_means.values)


@pytest.fixture
def smooth(random_model, quote_task: Task) -> Evaluator:
    """In float64, and without AbsTopK, so that the loss is smooth in the masks."""
    model = random_model(abs_topk=None, **SMALL).double()
    examples = quote_task.examples(model.tokenizer, "prune", 3, block_size=24)
    held = torch.randn(NodeSpace(model.config).total, generator=torch.Generator().manual_seed(1)).double()
    return Evaluator(model, examples, 0.2 * held)


def masked_loss(evaluate: Evaluator, mask: Tensor) -> float:
    def tap(site: str, x: Tensor) -> Tensor:
        part = evaluate.space.slices.get(site)
        return x if part is None else mask[part] * x + (1 - mask[part]) * evaluate.held[part]

    logits = evaluate.model(evaluate.examples.tokens, tap=tap, at=evaluate.examples.last)
    return float(task_losses(logits, evaluate.examples).mean().detach())


def test_slopes_are_finite_differences_at_any_masks(smooth: Evaluator) -> None:
    mask = torch.rand(smooth.space.total, generator=torch.Generator().manual_seed(2)).double()
    found = slopes(smooth, mask)
    for node in found.abs().argsort(descending=True)[:6].tolist():
        step = 1e-5 * torch.nn.functional.one_hot(torch.tensor(node), smooth.space.total)
        slope = (masked_loss(smooth, mask - step) - masked_loss(smooth, mask + step)) / 2e-5
        assert float(found[node]) == pytest.approx(slope, rel=1e-4)


def test_attribution_is_gradient_times_difference(smooth: Evaluator) -> None:
    """Summed over positions, meaned over prompts: worked out from the gradient at the activations themselves."""
    activations: dict[str, Tensor] = {}

    def tap(site: str, x: Tensor) -> Tensor:
        if site in smooth.space.slices:
            activations[site] = x
            x.retain_grad()
        return x

    logits = smooth.model(smooth.examples.tokens, tap=tap, at=smooth.examples.last)
    task_losses(logits, smooth.examples).mean().backward()
    found = score(smooth, "attribution")
    for site, part in smooth.space.slices.items():
        x = activations[site]
        assert x.grad is not None
        expected = (x.grad * (smooth.held[part] - x)).sum((0, 1)).detach()
        torch.testing.assert_close(found[part], expected.to(found.dtype))


def test_integrated_gradients_add_up_to_what_removing_everything_costs(smooth: Evaluator) -> None:
    everything = torch.ones(smooth.space.total, dtype=torch.float64)
    cost = masked_loss(smooth, 0 * everything) - masked_loss(smooth, everything)
    errors = [abs(float(integrated(smooth, steps).sum()) - cost) for steps in (4, 32)]
    assert errors[1] < 0.02 * abs(cost)
    assert errors[1] < errors[0]


def test_patching_is_exact(quotes: Evaluator, random_model, quote_task: Task) -> None:
    """As the search measures each node's removal, one by one; also with AbsTopK and prompts of unequal length."""
    model = random_model(**SMALL)
    examples = quote_task.examples(model.tokenizer, "prune", 2, block_size=24)
    held = torch.randn(NodeSpace(model.config).total, generator=torch.Generator().manual_seed(1))
    others, scales = Counterparts(model, examples, 0), final_scales(model, examples)
    for evaluate in (quotes, Evaluator(model, examples, held), Evaluator(model, examples, held, others, scales)):
        everything = torch.ones(evaluate.space.total, dtype=torch.bool)
        torch.testing.assert_close(patched(evaluate), evaluate.costs(everything), atol=2e-6, rtol=1e-4)


def test_patching_by_hand(quotes: Evaluator) -> None:
    scores = patched(quotes)
    needed = quotes.space.flat({"0.attn.resid_delta": [3]})
    alone = quotes(torch.ones_like(needed))
    assert float(scores[needed]) == pytest.approx(0.6931 - alone, abs=1e-3)
    untouched = quotes.space.flat({"0.mlp.act_in": range(8), "0.mlp.post_act": range(4)})
    assert not scores[untouched].any()


def test_magnitude_by_hand(empty_model) -> None:
    model = empty_model()
    block = model.blocks[0]
    with torch.no_grad():
        block.attn.c_attn.weight[4 + 1, 2] = 3  # attention input 2 to k1
        block.attn.c_attn.weight[8 + 1, 2] = 4  # and to v1
        block.attn.c_proj.weight[5, 1] = 12  # v1 to output 5
        block.mlp.c_fc.weight[3, 0] = -2
    scores = magnitude(model)
    space = NodeSpace(model.config)
    expected = torch.zeros(space.total)
    for site, channel, size in (
        ("0.attn.act_in", 2, 5),
        ("0.attn.k", 1, 3),
        ("0.attn.v", 1, (4**2 + 12**2) ** 0.5),
        ("0.attn.resid_delta", 5, 12),
        ("0.mlp.act_in", 0, 2),
        ("0.mlp.post_act", 3, 2),
    ):
        expected[space.slices[site].start + channel] = size
    torch.testing.assert_close(scores, expected)


def test_random_scores_are_the_seeds(quotes: Evaluator) -> None:
    first, again, other = (score(quotes, "random", ScoreConfig(score_seed=seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert len(first.unique()) > 0.9 * len(first)


def test_random_scores_are_the_tasks_in_every_process(quotes: Evaluator) -> None:
    one, other = (score(quotes, "random", task=name) for name in ("for_while", "var_if"))
    assert not torch.equal(one, other)
    generator = torch.Generator().manual_seed(1540370772)
    assert torch.equal(one, torch.rand(quotes.space.total, generator=generator))
    assert score(quotes, "random", ScoreConfig(score_seed=1), task="for_while")[0] != one[0]


def test_a_random_baseline_is_the_tasks(quote_model, quote_task, quote_means) -> None:
    """Under another name the same task is ranked by other numbers."""
    config = dataclasses.replace(CONFIG, clean=False)
    found = []
    for name in ("quotes", "quotes", "other quotes"):
        task = dataclasses.replace(quote_task, name=name)
        found.append(baseline(quote_model, task, "random", config=config, means=quote_means).scores)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


@pytest.mark.parametrize("method", METHODS)
def test_every_method_leads_to_a_circuit(quote_model, quote_task, quote_means, method, tmp_path) -> None:
    circuit = baseline(quote_model, quote_task, method, config=CONFIG, means=quote_means)
    assert circuit.nodes == TRUE
    assert circuit.found["scores"]["method"] == method
    assert circuit.found["sizes"]["discretised"] >= circuit.size == 5
    assert "learned" not in circuit.found["sizes"]
    assert circuit.loss("calibrate") <= 0.1
    circuit.save(tmp_path)
    again = Circuit.load(tmp_path, quote_model, quote_task)
    assert again.found["scores"]["method"] == method
    assert torch.equal(again.scores, circuit.scores)


def test_the_search_sees_the_scores_best_first(quote_model, quote_task, quote_means) -> None:
    """Attribution ranks what the model uses first: its circuit needs no cleaning; random scores need most nodes."""
    config = dataclasses.replace(CONFIG, clean=False)
    sizes = {
        method: baseline(quote_model, quote_task, method, 0.1, config=config, means=quote_means).size
        for method in ("attribution", "patching", "random")
    }
    assert sizes["attribution"] <= 6
    assert sizes["patching"] <= 6
    assert sizes["random"] > 15


def test_an_unknown_method(quote_model, quote_task, quote_means, unannotated) -> None:
    with pytest.raises(InputError, match="no method 'patch' to score nodes by; did you mean 'patching'"):
        baseline(quote_model, quote_task, "patch", means=quote_means)
