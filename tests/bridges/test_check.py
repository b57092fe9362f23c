"""What the check of a bridge says is what whole passes with an exchanged stream give."""

import json
import math
import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest
import torch
from small_bridges import identity, model, unlike
from torch import Tensor
from torch.nn import functional as F

from sparse_circuits.bridges.check import Checked, check, random_switches, switched_logits
from sparse_circuits.bridges.pictures import check_picture
from sparse_circuits.bridges.scales import measure_scales
from sparse_circuits.bridges.tables import check_tables
from sparse_circuits.circuits.experiment_tables import plain
from sparse_circuits.corpus.bigram import bigram_loss
from sparse_circuits.corpus.packed import PackedCorpus
from sparse_circuits.errors import InputError


@pytest.fixture(scope="module")
def found(letter_text: PackedCorpus) -> Checked:
    return check(unlike(), letter_text, max_tokens=24 * 5, switches=3)


def windows(corpus: PackedCorpus) -> Tensor:
    return torch.from_numpy(corpus.validation_windows(24, 24 * 5))


def loss(logits: Tensor, targets: Tensor) -> float:
    return float(F.cross_entropy(logits.flatten(0, 1), targets.flatten()))


@torch.no_grad()
def test_losses_and_errors_are_those_of_the_whole_text(found: Checked, letter_text: PackedCorpus) -> None:
    bridge, text = unlike(), windows(letter_text)
    inputs, targets = text[:, :-1], text[:, 1:]
    assert found.tokens == 120
    assert found.dense.value == pytest.approx(loss(bridge.dense(inputs), targets), rel=1e-4)
    assert found.sparse.value == pytest.approx(loss(bridge.sparse(inputs), targets), rel=1e-4)
    assert [row.site for row in found.sites] == bridge.sites
    for row in found.sites:
        site = row.site
        h_d = bridge.dense.run(inputs, record=site).sites[site]
        h_s = bridge.sparse.run(inputs, record=site).sites[site]
        f, g = bridge.encode(site, h_d), bridge.decode(site, h_s)

        def entered(into: Any, stream: Tensor, site: str = site) -> float:
            return loss(into(inputs, tap=lambda name, x: stream if name == site else x), targets)

        def error(guess: Tensor, target: Tensor) -> float:
            return float((guess - target).square().sum() / (target - target.mean((0, 1))).square().sum())

        assert row.into_sparse.value == pytest.approx(entered(bridge.sparse, f), rel=1e-4)
        assert row.into_dense.value == pytest.approx(entered(bridge.dense, g), rel=1e-4)
        assert row.into_sparse_floor == pytest.approx(entered(bridge.sparse, h_s.mean((0, 1)).expand_as(h_s)), rel=1e-4)
        assert row.into_dense_floor == pytest.approx(entered(bridge.dense, h_d.mean((0, 1)).expand_as(h_d)), rel=1e-4)
        assert row.encode_nmse == pytest.approx(error(f, h_s), rel=1e-3)
        assert row.decode_nmse == pytest.approx(error(g, h_d), rel=1e-3)
    worst = max(max(row.into_sparse.value, row.into_dense.value) for row in found.sites)
    assert found.worst == pytest.approx(worst - found.dense.value)
    expected = bigram_loss(letter_text.train, letter_text.validation[:121], 257)
    assert found.bigram == pytest.approx(expected)
    both = [
        F.cross_entropy(m(inputs).flatten(0, 1), targets.flatten(), reduction="none")
        for m in (bridge.dense, bridge.sparse)
    ]
    assert found.correlation == pytest.approx(float(torch.corrcoef(torch.stack(both))[0, 1]), rel=1e-3)


@torch.no_grad()
def test_a_pass_that_switches_several_times_is_its_parts_in_a_row(found: Checked, letter_text: PackedCorpus) -> None:
    bridge, text = unlike(), windows(letter_text)
    inputs = text[:, :-1]
    first, second = "0.resid_mid", "1.resid_mid"
    into_sparse = bridge.encode(first, bridge.dense.run(inputs, record=first).sites[first])
    recorded: dict[str, Tensor] = {}

    def enter(site: str, x: Tensor) -> Tensor:
        recorded[site] = into_sparse if site == first else x
        return recorded[site]

    bridge.sparse(inputs, tap=enter)
    back = bridge.decode(second, recorded[second])
    expected = bridge.dense(inputs, tap=lambda site, x: back if site == second else x)
    torch.testing.assert_close(switched_logits(bridge, inputs, "dense", [first, second]), expected)
    for plan in found.switched:
        assert plan.loss == pytest.approx(
            loss(switched_logits(bridge, inputs, plan.first, plan.sites), text[:, 1:]), rel=1e-4
        )


def test_a_model_bridged_to_itself_has_nothing_to_lose(letter_text: PackedCorpus) -> None:
    found = check(identity(model()), letter_text, max_tokens=48, switches=4)
    assert found.correlation == pytest.approx(1.0)
    for row in found.sites:
        assert row.encode_nmse == row.decode_nmse == pytest.approx(0.0, abs=1e-9)
        assert row.into_sparse.value == pytest.approx(found.dense.value, rel=1e-5)
        assert row.into_dense.value == pytest.approx(found.dense.value, rel=1e-5)
    assert all(plan.loss == pytest.approx(found.dense.value, rel=1e-5) for plan in found.switched)
    assert found.worst == pytest.approx(0.0, abs=1e-4)


def test_random_switches_are_several_in_order_and_the_same_again() -> None:
    sites = ["a", "b", "c", "d", "e"]
    plans = random_switches(sites, 60, seed=1)
    assert plans == random_switches(sites, 60, seed=1) != random_switches(sites, 60, seed=2)
    assert {first for first, _ in plans} == {"dense", "sparse"}
    assert {len(chosen) for _, chosen in plans} == {2, 3, 4, 5}
    for _, chosen in plans:
        assert chosen == sorted(set(chosen))
    assert all(len(chosen) == 1 for _, chosen in random_switches(["a"], 3, 0))
    assert random_switches(sites, 0, 0) == []


def test_scales_are_root_mean_squares_without_what_a_layer_norm_takes_away(letter_text: PackedCorpus) -> None:
    bridge, inputs = unlike(), windows(letter_text)[:, :-1]
    found = measure_scales(bridge, letter_text, 24 * 5)
    assert found.tokens == 120
    for number, site in enumerate(bridge.sites):
        h_d = bridge.dense.run(inputs, record=site).sites[site]
        h_s = bridge.sparse.run(inputs, record=site).sites[site].detach()
        h_d = h_d - h_d.mean(-1, keepdim=True)
        assert float(found.dense[number]) == pytest.approx(float(h_d.square().mean().sqrt()), rel=1e-5)
        assert float(found.sparse[number]) == pytest.approx(float(h_s.square().mean().sqrt()), rel=1e-5)


def test_what_was_found_can_be_shown_drawn_and_stored(found: Checked) -> None:
    sites, several = check_tables("runs/bridge", found)
    assert sites.row_count == 5
    assert several.row_count == 3
    drawn = ElementTree.fromstring(check_picture(found))
    lines = drawn.findall("{http://www.w3.org/2000/svg}polyline")
    assert len(lines) == 7
    heights = [float(point.split(",")[1]) for point in lines[0].attrib["points"].split()]
    losses = [row.into_sparse.value for row in found.sites]
    assert sorted(range(5), key=lambda n: heights[n]) == sorted(range(5), key=lambda n: -losses[n])  # downwards is less
    stored = json.loads(json.dumps(plain(found)))
    assert stored["sites"][1]["into_dense"]["value"] == found.sites[1].into_dense.value
    assert not math.isnan(stored["correlation"])


def test_a_vocabulary_too_large_to_count_has_no_bigram(
    letter_text: PackedCorpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sparse_circuits.bridges.check.LARGEST_VOCABULARY", 256)
    found = check(unlike(), letter_text, max_tokens=24, switches=0)
    assert found.bigram is None
    assert len(check_tables("x", found)) == 1
    assert "not counted" in str(check_tables("x", found)[0].caption)
    with pytest.raises(InputError, match="-1 random passes asked for"):
        check(unlike(), letter_text, switches=-1)
