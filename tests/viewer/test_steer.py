"""Steering while somebody looks says what the library's steering does."""

from typing import Any

import pytest
from small_circuits import Served, small_circuit

from sparse_circuits.bridges.bridge import Bridge, Scales
from sparse_circuits.bridges.steering import Edits, differences, directions
from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.circuits.logits import last_logits
from sparse_circuits.errors import InputError
from sparse_circuits.sites import residual_sites
from sparse_circuits.tasks import task_losses
from sparse_circuits.viewer.server import application
from sparse_circuits.viewer.steer import STRENGTHS, Steered

ASKED = {"prompt": 'r("wolf', "other": "r('wolf", "nodes": ["1.attn.act_in:7"], "answers": [1, 6]}


@pytest.fixture(scope="module")
def bridge(circuit: Circuit) -> Bridge:
    import torch

    dense = small_circuit(seed=1).model.requires_grad_(False)
    sites = len(residual_sites(circuit.model.config))
    scales = Scales(torch.linspace(1, 2, sites), torch.linspace(3, 1, sites), 1000)
    return Bridge(dense, circuit.model, None, None, scales, seed=0)


def test_every_strength_is_the_librarys(bridge: Bridge, circuit: Circuit) -> None:
    steered = Steered(bridge)
    rows = steered.sweep(ASKED)["rows"]
    assert [row["strength"] for row in rows] == list(STRENGTHS)
    examples = steered._examples(ASKED)
    moved = differences(circuit.model, examples, ["1.attn.act_in"])["1.attn.act_in"]
    delta = moved[..., [7]] @ directions(bridge, "1.attn.act_in", [7]).float()
    for row in (rows[0], rows[10]):
        logits = last_logits(bridge.dense, examples, Edits({"1.attn.act_in": delta}, row["strength"]))
        assert row["loss"] == pytest.approx(float(task_losses(logits, examples)[0]), rel=1e-4)
    plain = task_losses(last_logits(bridge.dense, examples), examples)[0]
    assert rows[0]["loss"] == pytest.approx(float(plain), rel=1e-4)
    assert rows[-1]["loss"] != rows[0]["loss"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"nodes": []}, "must be a list of names"),
        ({"nodes": ["1.attn.q:7"]}, "only those of the stream are mapped"),
        ({"prompt": ""}, "prompt must be text"),
        ({"other": 4}, "other must be text"),
        ({"answers": [1, 1]}, "two different tokens"),
        ({"answers": [1, -1]}, "two different tokens"),
    ],
)
def test_what_cannot_be_steered_is_refused(bridge: Bridge, wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Steered(bridge).sweep(ASKED | wrong)


def test_the_slider_moves_the_answer(open_page: Any, made: dict[str, Any], circuit: Circuit, bridge: Bridge) -> None:
    found = Served(application(made, [circuit], steered=Steered(bridge)))
    try:
        page = open_page(f"{found.address}#view=live&node=1.attn.act_in:7")
        slider = page.get_by_role("slider", name="strength")
        slider.fill("1.2")
        side = made["circuits"][0]["pairs"][0]["sides"]
        words = ["".join(made["models"][0]["tokens"][token] for token in each["tokens"]) for each in side]
        asked = ASKED | {"prompt": words[0], "other": words[1], "answers": [each["right"] for each in side]}
        row = Steered(bridge).sweep(asked)["rows"][12]
        share = 100 * (1 - 2.718281828 ** -row["loss"])
        page.wait_for_selector("[data-steered='1.2']")
        assert page.locator("[data-steered]").inner_text() in (f"{share:.0f}%", f"{share:.1f}%", f"{share:.2f}%")
    finally:
        found.stop()
