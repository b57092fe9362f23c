"""Steering through a bridge: on a model bridged to itself it is patching; elsewhere the formula holds."""

import math
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from small_bridges import LETTERS, identity, model, tokens, unlike
from torch import Tensor

from sparse_circuits.bridges.ablations import ablate_circuit, circuit_directions, project_out
from sparse_circuits.bridges.bridge import Bridge
from sparse_circuits.bridges.curves import (
    best_nodes,
    node_deltas,
    other_answer,
    pair_examples,
    reached,
    steering_curves,
)
from sparse_circuits.bridges.pictures import steering_picture
from sparse_circuits.bridges.side_effects import push_tap, side_effects, typical_pushes
from sparse_circuits.bridges.steering import Change, Edits, differences, directions
from sparse_circuits.bridges.tables import ablated_table, side_effect_tables, steered_table
from sparse_circuits.circuits.exchange import OtherSide
from sparse_circuits.circuits.logits import last_logits
from sparse_circuits.circuits.means import node_means
from sparse_circuits.circuits.nodes import NodeSpace
from sparse_circuits.errors import InputError
from sparse_circuits.tasks import Task, Template, log_odds, task_losses

sys.path.insert(0, str(Path(__file__).parents[1] / "circuits"))
import planted

LENGTHS = Task(
    name="lengths",
    description="Prompts of unequal length.",
    templates={s: (Template(s, f"{s[0]} $word = [", f"{s[0]}{s[0]}($word", "]", ")"),) for s in ("prune", "report")},
    words={"prune": {"word": ("ox", "elk", "lynx")}, "report": {"word": ("bee", "wolf", "otter")}},
)


def patched(bridge: Bridge, task: Task, nodes: dict[str, Any]) -> Tensor:
    """Logits with the nodes' values taken from the run of the other side."""
    examples = pair_examples(bridge, task, "report", 3)
    space = NodeSpace(bridge.dense.config)
    mask = space.flat(nodes)
    return last_logits(bridge.dense, examples, OtherSide(bridge.dense, examples, mask, torch.zeros_like(mask)))


@pytest.mark.parametrize("nodes", [{"0.attn.act_in": (3,)}, {"1.mlp.act_in": (0, 7)}, {"0.attn.act_in": range(12)}])
def test_where_the_sparse_model_is_the_dense_one_steering_is_patching(nodes: dict[str, Any]) -> None:
    bridge = identity(model())
    examples = pair_examples(bridge, LENGTHS, "report", 3)
    deltas = node_deltas(bridge, examples, [(s, c) for s, of in nodes.items() for c in of])
    steered = last_logits(bridge.dense, examples, Edits(deltas, 1.0))
    torch.testing.assert_close(steered, patched(bridge, LENGTHS, nodes), atol=1e-4, rtol=1e-4)
    plain = last_logits(bridge.dense, examples)
    assert (steered - plain).abs().max() > 1e-3
    torch.testing.assert_close(last_logits(bridge.dense, examples, Edits(deltas, 0.0)), plain)


def test_two_reads_at_once_are_two_patches_of_what_the_sparse_model_had() -> None:
    bridge = identity(model())
    examples = pair_examples(bridge, LENGTHS, "report", 3)
    both = node_deltas(bridge, examples, [("0.attn.act_in", 3), ("1.mlp.act_in", 5)])
    alone = node_deltas(bridge, examples, [("1.mlp.act_in", 5)])
    assert torch.equal(both["1.mlp.act_in"], alone["1.mlp.act_in"])
    assert set(both) == {"0.attn.act_in", "1.mlp.act_in"}


def test_directions_are_the_papers_with_gains_and_means() -> None:
    """gain_dense * centred(row) / gain_sparse * ratio, for a dense model with LayerNorm."""
    bridge = unlike()
    site, channels = "1.mlp.act_in", [2, 9]
    found = directions(bridge, site, channels)
    number = bridge.sites.index("1.resid_mid")
    assert bridge.scales is not None
    ratio = bridge.scales.sparse[number] / bridge.scales.dense[number]
    for row, channel in enumerate(channels):
        decoded = bridge.maps.decoders[number].weight[:, channel].detach()
        expected = (decoded - decoded.mean()) * bridge.dense.blocks[1].ln_2.weight * ratio
        expected = expected / bridge.sparse.blocks[1].ln_2.weight[channel]
        torch.testing.assert_close(found[row], expected.detach())
    with torch.no_grad():
        bridge.sparse.blocks[1].ln_2.weight[2] = 0
    assert torch.equal(directions(bridge, site, channels)[0], torch.zeros(10))


def test_differences_are_aligned_at_the_last_token_and_end_there() -> None:
    bridge = identity(model())
    examples = pair_examples(bridge, LENGTHS, "report", 3)
    site = "0.attn.act_in"
    found = differences(bridge.dense, examples, [site])[site]
    values = bridge.dense.run(examples.tokens, record=site).sites[site]
    for row, other in ((0, 3), (4, 1)):
        last, theirs = int(examples.last[row]), int(examples.last[other])
        assert last != theirs
        for back in range(last + 1):
            counterpart = values[other, max(0, theirs - back)]
            torch.testing.assert_close(found[row, last - back], counterpart - values[row, last - back])
        assert not found[row, last + 1 :].any()


def quotes() -> tuple[Bridge, Task]:
    """The model whose circuit is written out, bridged to itself."""
    return identity(planted.model()), planted.task()


def test_the_node_that_says_which_quote_steers_and_controls_do_not() -> None:
    bridge, task = quotes()
    found = steering_curves(bridge, task, "0.attn.act_in:0", (0.0, 0.5, 1.0), pairs=4, samples=3)
    examples = pair_examples(bridge, task, "report", 4)
    logits = last_logits(bridge.dense, examples)
    right = float(logits.softmax(1).gather(1, examples.targets.unsqueeze(1)).mean())
    plain = float(other_answer(logits, examples).mean())
    assert found.pairs == 4
    for curve in found.curves:
        assert math.isclose(curve.both[0].value, plain, rel_tol=1e-5), curve.name
    nodes = found.curve("nodes")
    assert math.isclose(nodes.both[2].value, right, rel_tol=1e-3)  # as sure of the other quote as it was of its own
    assert nodes.both[0].value < nodes.both[1].value < nodes.both[2].value
    assert nodes.largest == pytest.approx([one.value for one in nodes.both])
    assert math.isclose(found.curve("the whole read").both[2].value, right, rel_tol=1e-3)
    assert found.curve("random nodes").largest == pytest.approx([plain] * 3)  # none of them differs between the sides
    # Some channels are wired to the same place: a row may hit one of them, but not on average.
    assert found.curve("random rows").both[2].value < 0.5 * nodes.both[2].value
    assert found.curve("random rows").largest[2] >= found.curve("random rows").both[2].value
    for a, b, both in zip(nodes.a, nodes.b, nodes.both, strict=True):
        assert math.isclose((a.value + b.value) / 2, both.value, rel_tol=1e-5)
    assert found.ceiling.value == pytest.approx(right, rel=1e-5)
    odds = log_odds(logits, examples)
    assert nodes.choice[0].value == pytest.approx(float((-odds).sigmoid().mean()), rel=1e-4)
    assert nodes.choice[2].value == pytest.approx(float(odds.sigmoid().mean()), rel=1e-3)
    drawn = steering_picture(found)
    assert drawn.count("<polyline") == 6
    table = steered_table(found)
    assert table.row_count == 8
    table.caption = None  # a sentence, which may break anywhere
    console = Console(file=(written := StringIO()), width=80)
    console.print(table)
    for line in written.getvalue().splitlines():
        assert line.count("[") == line.count("]"), line  # no interval is broken


def test_random_rows_and_directions_are_as_long_as_the_nodes() -> None:
    from sparse_circuits.bridges.curves import _Edits

    bridge = unlike()
    examples = pair_examples(bridge, LENGTHS, "report", 3)
    site = "0.attn.act_in"
    edits = _Edits(bridge, examples, [(site, 4)], torch.Generator().manual_seed(0))
    own = edits.own()[site].norm(dim=2)
    for made in (edits.random_rows(), edits.random_directions()):
        torch.testing.assert_close(made[site].norm(dim=2), own)
        assert not torch.allclose(made[site], edits.own()[site])
    differs = (differences(bridge.sparse, examples, [site])[site].abs().amax((0, 1)) > 0).nonzero().squeeze(1).tolist()
    for _ in range(5):
        (drawn,) = edits._others()[site]
        assert drawn != 4
        assert drawn in differs


def test_more_nodes_than_there_are_others_are_refused() -> None:
    bridge, site = unlike(), "0.attn.act_in"
    width = bridge.sparse.config.d_model
    half = {site: tuple(range(width // 2))}
    found = steering_curves(bridge, LENGTHS, half, strengths=(0.0, 1.0), pairs=2, samples=1)
    assert len(found.nodes) == width // 2
    with pytest.raises(InputError, match=f"{width // 2 + 1} of the {width} channels of {site} are to be steered"):
        steering_curves(bridge, LENGTHS, {site: tuple(range(width // 2 + 1))})


def test_one_token_questions_ask_for_what_is_not_right_here() -> None:
    task = Task(
        name="brace",
        description="A brace, or anything else.",
        templates={"report": (Template("t", 'f"$word ', '"$word ', "{"),)},
        words={"report": {"word": ("bee", "wolf")}},
    )
    bridge = identity(model())
    examples = pair_examples(bridge, task, "report", 2)
    p = last_logits(bridge.dense, examples).softmax(1)[:, LETTERS.encode("{")[0]]
    torch.testing.assert_close(
        other_answer(last_logits(bridge.dense, examples), examples), torch.cat([1 - p[:2], p[2:]])
    )


def test_the_best_node_is_the_one_that_moves_the_answer_most() -> None:
    bridge, task = quotes()
    every = [(site, channel) for site, channels in planted.NODES.items() for channel in channels]
    ranked = best_nodes(bridge, task, every, pairs=4)
    assert {node for node, _ in ranked} == {("0.attn.act_in", 0), ("0.attn.act_in", 1), ("0.mlp.act_in", 3)}
    assert ranked[0][0] in (("0.attn.act_in", 0), ("0.mlp.act_in", 3))
    examples = pair_examples(bridge, task, "prune", 4)
    for node, value in ranked:
        expected = float(reached(bridge, examples, node_deltas(bridge, examples, [node]), 1.0).mean())
        assert math.isclose(value, expected, rel_tol=1e-6)
    with pytest.raises(InputError, match="none of the circuit's nodes is a channel that a sublayer reads"):
        best_nodes(bridge, task, [("0.attn.k", 0)])


@pytest.mark.parametrize(("kind", "expected"), [("add", 5.0), ("set", 2.0), ("scale", 6.0)])
def test_generation_is_steered_inside_with_and_nowhere_else(kind: Any, expected: float) -> None:
    """On a model bridged to itself the edit is the change itself, made to the channel."""
    bridge = identity(model(abs_topk=None))
    value = {"add": 5.0, "set": 2.0, "scale": 6.0}[kind]
    steering = bridge.steer("1.attn.act_in:4", Change(kind, value), 1.0)

    def direct(site: str, x: Tensor) -> Tensor:
        if site != "1.attn.act_in":
            return x
        x = x.clone()
        x[..., 4] = {"add": x[..., 4] + 5, "set": torch.full_like(x[..., 4], 2), "scale": 6 * x[..., 4]}[kind]
        return x

    prompt = tokens(2, 4)
    plain = bridge.dense(prompt)
    torch.testing.assert_close(bridge.dense(prompt, tap=steering.tap()), bridge.dense(prompt, tap=direct))
    expected_text = bridge.dense.generate(prompt, 12, temperature=0.0, tap=direct)
    with steering.on() as dense:
        assert torch.equal(dense.generate(prompt, 12, temperature=0.0), expected_text)
        with pytest.raises(RuntimeError, match="stop"), steering.on():
            raise RuntimeError("stop")
        assert dense.standing_tap is not None
    assert bridge.dense.standing_tap is None
    assert torch.equal(bridge.dense(prompt), plain)


def test_strength_scales_the_edit() -> None:
    bridge = unlike()
    site = "0.attn.act_in"
    prompt = tokens(2, 4)

    def at(strength: float) -> Tensor:
        steering = bridge.steer(f"{site}:1,5", Change("add", 2.0), strength)
        taps: dict[str, Tensor] = {}
        bridge.dense(prompt, tap=lambda s, x: taps.setdefault(s, steering.tap()(s, x)) if s == site else x)
        return taps[site] - bridge.dense.run(prompt, record=site).sites[site]

    torch.testing.assert_close(at(0.5), 0.5 * at(1.0), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(at(1.0)[0, 0], 2 * directions(bridge, site, [1, 5]).sum(0), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("nodes", "told"),
    [
        ("7.attn.act_in:1", "no site of nodes matches '7.attn.act_in'"),
        ("0.attn.act_in:99", "channels 99 of a site that has 0..15"),
        ("0.attn.act_in:13", "0.attn.act_in:13 is a position channel"),
        ("0.attn.q:1", "0.attn.q:1 is no channel that a sublayer reads"),
        ({"0.mlp.act_in": []}, "no nodes to steer"),
        ({"x": [1]}, "'x' is no site of this model's nodes"),
    ],
)
def test_nodes_that_cannot_be_steered_are_refused(nodes: Any, told: str) -> None:
    bridge = unlike(positions="sinusoidal_concat", d_position=4)
    for act in (
        lambda: bridge.steer(nodes, Change("add", 1.0)),
        lambda: steering_curves(bridge, LENGTHS, nodes),
    ):
        with pytest.raises(InputError) as caught:
            act()
        assert told in str(caught.value)


@pytest.mark.usefixtures("unannotated")
def test_strengths_and_changes_that_are_no_numbers_are_refused() -> None:
    bridge = unlike()
    for strength in (math.nan, math.inf, "much", True):
        with pytest.raises(InputError, match="expected a finite number"):
            bridge.steer("0.attn.act_in:1", Change("add", 1.0), strength)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="the change is by nan"):
        Change("set", math.nan)
    with pytest.raises(InputError, match="a change is add, set or scale, not 'drop'"):
        Change("drop", 1.0)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="it must be a finite number"):
        steering_curves(bridge, LENGTHS, "0.attn.act_in:1", (math.inf,))
    with pytest.raises(InputError, match="compare with at least 1"):
        steering_curves(bridge, LENGTHS, "0.attn.act_in:1", samples=0)
    bridge.scales = None
    with pytest.raises(InputError, match="does not say how large the two streams are"):
        bridge.steer("0.attn.act_in:1", Change("add", 1.0))


# --- what else happens ---


def same_quote() -> Task:
    """A task whose sides have the same quote: the node that says which does not differ."""
    words = {"report": {"word": ("bee", "wolf", "otter", "crow")}, "prune": {"word": ("ox", "elk", "lynx", "ant")}}
    templates = {s: (Template(s, f'{s[0]}("$word', f'{s[0]}["$word', ")", "]"),) for s in words}
    return Task(name="same quote", description="A bracket.", templates=templates, words=words)


def test_a_task_in_which_the_nodes_do_not_differ_is_spared(letter_text: Any) -> None:
    bridge, task = quotes()
    found = side_effects(
        bridge, task, "0.attn.act_in:0", 1.0, [task, same_quote()], letter_text, pairs=3, max_tokens=200
    )
    (spared,) = found.tasks
    assert spared.task == "same quote"
    assert spared.before is not None
    assert spared.after == pytest.approx(spared.before)
    assert spared.moved is not None
    assert abs(spared.moved.value) < 1e-6
    assert [push.push for push in found.text] == ["towards B", "towards A", "random direction"]
    assert found.text_tokens == 192
    assert all(push.divergence.value > 0 for push in found.text[:2])
    still = side_effects(bridge, task, "0.attn.act_in:0", 0.0, [], letter_text, pairs=3, max_tokens=200)
    assert all(abs(push.divergence.value) < 1e-6 and abs(push.loss.value) < 1e-6 for push in still.text)
    assert [table.row_count for table in side_effect_tables(found)] == [1, 3]


def test_a_push_is_what_the_sides_differ_by_where_it_is_most() -> None:
    bridge, task = quotes()
    examples = pair_examples(bridge, task, "prune", 4)
    site = "0.attn.act_in"
    pushes = typical_pushes(bridge, examples, [(site, 0)])
    delta = differences(bridge.sparse, examples, [site])[site][..., 0]
    strongest = delta.gather(1, delta.abs().argmax(1, keepdim=True)).squeeze(1)
    assert bool((strongest[:4] < 0).all())  # from a double quote, which is +1, to a single one
    torch.testing.assert_close(pushes["towards B"][site][0], strongest[:4].mean())
    torch.testing.assert_close(pushes["towards A"][site][0], strongest[4:].mean())
    assert not pushes["towards A"][site][1:].any()
    x = torch.zeros(1, 3, 8)
    assert torch.equal(push_tap(pushes["towards A"], 2.0)(site, x)[0, 1], 2 * pushes["towards A"][site])
    assert push_tap(pushes["towards A"], 2.0)("0.mlp.act_in", x) is x


def test_without_the_circuits_directions_the_dense_model_cannot_tell_the_quotes() -> None:
    bridge, task = quotes()
    means = node_means(bridge.dense, torch.tensor([LETTERS.encode(text) for text in ('a("bc', "a('bc")]))
    found = ablate_circuit(bridge, task, planted.NODES, means, [same_quote()], pairs=4, samples=3)
    own, other = found.tasks
    assert own.whole is not None
    assert own.ablated is not None
    assert own.ablated.value == pytest.approx(math.log(2), abs=0.02)
    assert own.whole.value < 0.2
    assert other.whole is not None
    assert other.ablated is not None
    assert other.ablated.value == pytest.approx(other.whole.value, abs=0.05)
    assert len(own.random) == 3
    assert found.directions == {"0.attn.act_in": 2, "0.mlp.act_in": 1}
    assert found.left_out == sum(map(len, planted.NODES.values())) - 3
    assert ablated_table(found).row_count == 2
    examples = pair_examples(bridge, task, "report", 4)
    assert own.whole.value == pytest.approx(float(task_losses(last_logits(bridge.dense, examples), examples).mean()))


def test_projecting_holds_the_span_at_its_mean_and_leaves_the_rest() -> None:
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(6, 2, generator=generator)).Q
    level, x = torch.randn(6, generator=generator), torch.randn(2, 3, 8, generator=generator)
    out = project_out({"s": basis}, {"s": level})("s", x)
    torch.testing.assert_close(out[..., :6] @ basis, (level @ basis).expand(2, 3, 2))
    rest = torch.eye(6) - basis @ basis.T
    torch.testing.assert_close(out[..., :6] @ rest, x[..., :6] @ rest)
    assert torch.equal(out[..., 6:], x[..., 6:])


def test_nodes_without_a_direction_are_left_out_or_refused() -> None:
    bridge = unlike(positions="sinusoidal_concat", d_position=4)
    nodes = {"0.attn.act_in": (2, 13), "0.attn.q": (1,), "1.mlp.act_in": (3,)}
    found = circuit_directions(bridge, nodes)
    assert {site: len(rows) for site, rows in found.items()} == {"0.attn.act_in": 1, "1.mlp.act_in": 1}
    with pytest.raises(InputError, match="none of the circuit's nodes is a channel"):
        circuit_directions(bridge, {"0.attn.q": (1,)})
