"""A frozen final norm divides by the scale it is given, whatever norm it is and whatever else is in the logits."""

import pytest
import torch
from torch.nn import functional as F

from sparse_circuits.circuits.logits import final_scales, frozen_logits, last_logits, norm_scale
from sparse_circuits.circuits.nodes import NodeSpace, keep_only
from sparse_circuits.model import GPT
from sparse_circuits.tasks import Examples, Task

NORMS = {
    "rms": {"bigram_table": "learned"},
    "layer": {"norm": "layer", "norm_bias": True, "bigram_table": "none"},
    "tied": {"norm": "layer", "norm_bias": False, "tied_embeddings": True, "bigram_table": "fixed"},
}


@pytest.fixture(params=NORMS.values(), ids=NORMS)
def model(request, random_model) -> GPT:
    model: GPT = random_model(**request.param)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        model.final_logits_bias.copy_(torch.randn(257, generator=generator))
        if request.param["bigram_table"] != "none":
            model.bigram_table.copy_(torch.randn(257, 257, generator=generator))
    return model.double()


@pytest.fixture
def examples(random_model, quote_task: Task) -> Examples:
    return quote_task.examples(random_model().tokenizer, "prune", 4, block_size=24)


def test_frozen_logits_are_those_of_a_norm_written_out(model: GPT, examples: Examples) -> None:
    space = NodeSpace(model.config)
    kept = torch.arange(space.total) % 2 == 0
    tap = keep_only(space, kept, torch.zeros(space.total, dtype=torch.float64))
    rows = torch.arange(len(examples.last))
    streams = [model.run(examples.tokens, record="final_resid", tap=t).sites["final_resid"] for t in (None, tap)]
    full, circuit = (stream[rows, examples.last] for stream in streams)
    layer = model.config.norm == "layer"
    centred = circuit - circuit.mean(1, keepdim=True) if layer else circuit
    spread = full - full.mean(1, keepdim=True) if layer else full
    epsilon = model.ln_f.eps or torch.finfo(torch.float64).eps
    scale = (spread.square().mean(1, keepdim=True) + epsilon).sqrt()
    normed = model.ln_f.weight * centred / scale
    if getattr(model.ln_f, "bias", None) is not None:
        normed = normed + model.ln_f.bias
    expected = F.linear(normed, model.lm_head.weight) + model.final_logits_bias
    if model.config.bigram_table != "none":
        expected = expected + model.bigram_table[examples.tokens[rows, examples.last]]
    scales = norm_scale(model, full)
    torch.testing.assert_close(scales, scale.squeeze(1))
    torch.testing.assert_close(frozen_logits(model, examples.tokens, examples.last, tap, scales), expected)
    live = frozen_logits(model, examples.tokens, examples.last, tap)
    assert float((live - expected).detach().abs().max()) > 0.1


def test_in_batches_and_for_the_model_itself_nothing_changes(model: GPT, examples: Examples, monkeypatch) -> None:
    monkeypatch.setattr("sparse_circuits.circuits.logits.ROWS_PER_BATCH", 3)
    scales = final_scales(model, examples)
    torch.testing.assert_close(last_logits(model, examples, scales=scales), last_logits(model, examples))
    torch.testing.assert_close(last_logits(model, examples, scales=2 * scales), _halved(model, examples))


def _halved(model: GPT, examples: Examples) -> torch.Tensor:
    """The model's logits with half of what comes through the final norm."""
    logits = last_logits(model, examples).double()
    rows = torch.arange(len(examples.last))
    constant = model.final_logits_bias.expand(len(rows), -1)
    if model.config.bigram_table != "none":
        constant = constant + model.bigram_table[examples.tokens[rows, examples.last]]
    if getattr(model.ln_f, "bias", None) is not None:
        constant = constant + model.lm_head.weight @ model.ln_f.bias
    return ((logits + constant) / 2).float()


def test_the_ratio_is_differentiable(random_model, examples: Examples) -> None:
    """Scaling the residual stream moves frozen logits, and does not move live ones."""
    model: GPT = random_model(bigram_table="none").double()
    scales = final_scales(model, examples).double()
    for frozen in (None, scales):
        factor = torch.ones((), dtype=torch.float64, requires_grad=True)

        def tap(site: str, x: torch.Tensor, factor: torch.Tensor = factor) -> torch.Tensor:
            return factor * x if site == "final_resid" else x

        logits = frozen_logits(model, examples.tokens, examples.last, tap, frozen)
        (slope,) = torch.autograd.grad(logits.square().sum(), factor)
        # Only what goes through the norm grows with the stream: the logits, all of them but for the bias, which is 0.
        size = float(logits.detach().square().sum())
        assert float(slope) == pytest.approx(0 if frozen is None else 2 * size, rel=1e-4, abs=1e-6 * size)
