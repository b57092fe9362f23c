"""Removed nodes become what was asked for, and nothing else changes."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sparse_circuits.circuits.ablation import (
    Counterparts,
    Replace,
    Resampled,
    counterparts,
    donors,
    held,
    restored,
    worst_restored,
)
from sparse_circuits.circuits.logits import last_logits
from sparse_circuits.circuits.means import Means
from sparse_circuits.circuits.nodes import Hold, NodeSpace
from sparse_circuits.circuits.search import Evaluator
from sparse_circuits.errors import InputError
from sparse_circuits.model import GPT
from sparse_circuits.tasks import Examples, Task


@pytest.fixture
def examples(random_model, quote_task: Task) -> Examples:
    return quote_task.examples(random_model().tokenizer, "prune", 4, block_size=24)


def test_constants() -> None:
    means = Means(torch.tensor([1.0, -2.0]), torch.zeros(2), 3)
    assert held(means, "mean").tolist() == [1, -2]
    assert held(means, "zero").tolist() == [0, 0]


def test_replacing_by_hand() -> None:
    from sparse_circuits.config import GPTConfig

    space = NodeSpace(GPTConfig(vocab_size=9, n_layer=1, d_model=4, n_head=2, d_mlp=4))
    kept = torch.ones(space.total)
    q = space.slices["0.attn.q"]
    kept[q] = torch.tensor([1.0, 0.0, 0.25, 1.0])
    x = torch.tensor([1.0, 2.0, 3.0, 4.0]).expand(2, 3, 4)
    other = torch.tensor([10.0, 20.0, 30.0, torch.nan]).expand(2, 3, 4).clone()
    other[1] = 0
    soft = Replace(space, kept, {"0.attn.q": other.nan_to_num(40)})
    assert soft("0.attn.q", x)[:, 0].tolist() == [[1, 20, 0.75 + 22.5, 4], [1, 0, 0.75, 4]]
    # What a kept node would have got does not matter, not even when it is NaN.
    hard = Replace(space, kept == 1, {"0.attn.q": other})
    assert hard("0.attn.q", x)[:, 0].tolist() == [[1, 20, 30, 4], [1, 0, 0, 4]]
    # Sites without counterparts, and sites that are no nodes, pass.
    assert hard("0.attn.k", x) is x
    assert Replace(space, kept, {"0.attn.y": other})("0.attn.y", x) is x
    with pytest.raises(InputError, match=r"0\.attn\.q has activations of shape \(1, 3, 4\), their counterparts \(2, 3"):
        hard("0.attn.q", x[:1])


def test_with_constants_as_counterparts_it_is_hold_and_so_are_its_gradients(random_model, examples: Examples) -> None:
    model: GPT = random_model().double()
    space = NodeSpace(model.config)
    generator = torch.Generator().manual_seed(1)
    held_at = torch.randn(space.total, generator=generator, dtype=torch.float64)
    rows, width = examples.tokens.shape
    others = {site: held_at[part].expand(rows, width, -1) for site, part in space.slices.items()}
    results = []
    for make in (lambda mask: Hold(space, mask, held_at), lambda mask: Replace(space, mask, others)):
        mask = torch.rand(space.total, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
        mask.requires_grad_()
        logits = model(examples.tokens, tap=make(mask), at=examples.last)
        logits.square().sum().backward()
        results.append((logits.detach(), mask.grad))
    torch.testing.assert_close(results[0], results[1])
    assert results[0][1].count_nonzero() > space.total / 2


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 40), st.integers(0, 10_000))
def test_donors_are_other_pairs_each_once(pairs: int, seed: int) -> None:
    rows = torch.zeros(2 * pairs, dtype=torch.int64)
    examples = Examples(rows.unsqueeze(1), rows, rows, rows, "two_token")
    given_rows = donors(examples, seed)
    assert sorted(given_rows.tolist()) == list(range(2 * pairs))
    assert not (given_rows % pairs == torch.arange(2 * pairs) % pairs).any()
    assert torch.equal(given_rows, donors(examples, seed))


def test_sides_are_drawn_at_random() -> None:
    rows = torch.zeros(400, dtype=torch.int64)
    examples = Examples(rows.unsqueeze(1), rows, rows, rows, "two_token")
    same = (donors(examples, 0) < 200) == (torch.arange(400) < 200)
    assert 140 < int(same.sum()) < 260
    assert not torch.equal(donors(examples, 0), donors(examples, 1))
    with pytest.raises(InputError, match="there is only one; use more pairs"):
        donors(Examples(rows[:2].unsqueeze(1), rows[:2], rows[:2], rows[:2], "two_token"), 0)


def test_counterparts_end_where_the_prompts_end(random_model, examples: Examples) -> None:
    model: GPT = random_model()
    found = counterparts(model, examples, seed=3)
    chosen = donors(examples, 3).tolist()
    assert len(set(examples.last.tolist())) > 1  # of different lengths
    assert list(found) == list(NodeSpace(model.config).widths)
    every = model.run(examples.tokens, record="*").sites
    for row, donor in enumerate(chosen):
        last, shift = int(examples.last[row]), int(examples.last[donor] - examples.last[row])
        for site in ("0.attn.q", "1.mlp.post_act"):
            for position in range(last + 1):
                expected = every[site][donor, max(0, position + shift)]
                torch.testing.assert_close(found[site][row, position], expected, rtol=1e-4, atol=1e-5)


def test_parts_of_the_rows_get_the_same_counterparts(random_model, examples: Examples, monkeypatch) -> None:
    model: GPT = random_model()
    space = NodeSpace(model.config)
    whole = counterparts(model, examples, seed=0)
    rows = torch.tensor([5, 0, 2])
    for limit in (0, 2**30):
        monkeypatch.setattr("sparse_circuits.circuits.ablation.REMEMBERED_BYTES", limit)
        some = Counterparts(model, examples, 0)
        for _ in range(2):
            part = some.at(rows, 9)
            assert part["1.attn.v"].shape == (3, 9, space.widths["1.attn.v"])
            torch.testing.assert_close(part["1.attn.v"], whole["1.attn.v"][rows, :9], rtol=1e-4, atol=1e-5)


def test_resampling_everything_gives_the_other_prompts_answer(random_model, examples: Examples, monkeypatch) -> None:
    """Of the model's input only the embedding's stream itself is left: the rest is the other prompt's."""
    model: GPT = random_model(bigram_table="none")
    with torch.no_grad():
        model.wte.weight.mul_(1e-6)  # so small that, beside what the blocks write, it does not count
        for block in model.blocks:
            block.attn.c_proj.weight.mul_(20)
    space = NodeSpace(model.config)
    full = last_logits(model, examples)
    monkeypatch.setattr("sparse_circuits.circuits.logits.ROWS_PER_BATCH", 3)
    nothing = Resampled(space, torch.zeros(space.total, dtype=torch.bool), Counterparts(model, examples, 0))
    torch.testing.assert_close(last_logits(model, examples, nothing), full[donors(examples, 0)], rtol=1e-3, atol=1e-3)
    everything = Resampled(space, torch.ones(space.total, dtype=torch.bool), Counterparts(model, examples, 0))
    torch.testing.assert_close(last_logits(model, examples, everything), full, rtol=1e-5, atol=1e-5)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=60), st.floats(0, 1), st.integers(0, 99))
def test_restoring_brings_back_the_share_asked_for(choice: list[bool], fraction: float, seed: int) -> None:
    kept = torch.tensor(choice)
    more = restored(kept, fraction, torch.Generator().manual_seed(seed))
    assert bool((more | ~kept).all())
    assert int((more & ~kept).sum()) == round(fraction * int((~kept).sum()))
    assert torch.equal(kept, torch.tensor(choice))


def test_bad_shares_are_refused() -> None:
    kept = torch.zeros(3, dtype=torch.bool)
    for fraction in (-0.1, 1.5, math.nan):
        with pytest.raises(InputError, match="it must be from 0 to 1"):
            restored(kept, fraction)
    with pytest.raises(InputError, match="-1 nodes to restore"):
        worst_restored(Linear(torch.zeros(3)), kept, -1)


class Linear:
    """A loss that is a sum of what each node adds, minus a product that the slopes do not show at zero."""

    def __init__(self, rises: Tensor, cancel: tuple[int, int] | None = None):
        self.rises, self.cancel = rises, cancel

    def __call__(self, kept: Tensor, limit: float = math.inf) -> float:
        loss = float(self.rises[kept].sum())
        if self.cancel is not None and bool(kept[list(self.cancel)].all()):
            loss -= 10
        return loss

    def attribution(self, kept: Tensor) -> Tensor:
        return -self.rises


def test_the_worst_nodes_come_back_first() -> None:
    rises = torch.tensor([0.5, -3.0, 2.0, 0.0, 1.0, 4.0])
    kept = torch.tensor([False, False, False, False, False, True])
    assert worst_restored(Linear(rises), kept, 2).nonzero().squeeze(1).tolist() == [2, 4, 5]
    assert worst_restored(Linear(rises), kept, 0).tolist() == kept.tolist()
    # What helps or does nothing stays away, however many may come.
    assert worst_restored(Linear(rises), kept, 5).nonzero().squeeze(1).tolist() == [0, 2, 4, 5]
    # Two that cancel do not come back together, whatever the slopes say.
    assert worst_restored(Linear(rises, (2, 4)), kept, 2).nonzero().squeeze(1).tolist() == [2, 5]


def test_the_worst_node_of_a_model_comes_back(quote_model: GPT, quote_task: Task, quote_means: Means) -> None:
    """A neuron that turns the answer for double quotes around is pruned; bringing it back is the worst one can do."""
    with torch.no_grad():
        block = quote_model.blocks[0]
        block.mlp.c_fc.weight[2, 3] = 1
        block.mlp.c_proj.weight[3, 2] = -3
    space = NodeSpace(quote_model.config)
    examples = quote_task.examples(quote_model.tokenizer, "calibrate", 4, block_size=32)
    evaluate = Evaluator(quote_model, examples, torch.zeros(space.total))
    kept = torch.ones(space.total, dtype=torch.bool)
    harmful = space.slices["0.mlp.post_act"].start + 2
    kept[harmful - 2 : harmful + 2] = False
    worst = worst_restored(evaluate, kept, 1)
    assert (worst & ~kept).nonzero().squeeze(1).tolist() == [harmful]
    assert evaluate(worst) > evaluate(kept)
