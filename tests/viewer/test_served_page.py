"""The page with a model behind it, in a real Chromium."""

import json
import threading
import time
from typing import Any

import pytest
import torch
from playwright.sync_api import Page
from small_circuits import SPOILED, Served, small_circuit, spoil

from sparse_circuits import kernels
from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.errors import InputError
from sparse_circuits.progress import Bar
from sparse_circuits.viewer import bundle, server
from sparse_circuits.viewer.live import Live
from sparse_circuits.viewer.schema import check, schema


def asked(circuit: Circuit, made: dict[str, Any], changes: list[dict[str, Any]]) -> dict[str, Any]:
    side = made["circuits"][0]["pairs"][0]["sides"][0]
    return {"tokens": side["tokens"], "answers": [side["right"], side["wrong"]], "changes": changes}


def percent(loss: float) -> str:
    value = 100 * float(torch.tensor(-loss).exp())
    return f"{value:.0f}%" if value >= 10 else f"{value:.1f}%"


def share(page: Page, key: str) -> str:
    return page.locator(f'[data-right="{key}"]').inner_text()


def test_switching_a_node_off_moves_the_numbers_to_the_librarys(
    open_page: Any, served: Served, circuit: Circuit, made: dict[str, Any]
) -> None:
    page = open_page(f"{served.address}#view=live&node=0.attn.resid_delta:7")
    live = Live(circuit)
    before = live.run(asked(circuit, made, []))
    page.wait_for_selector("[data-live] [data-loss]")
    for key in ("model", "circuit", "changed"):
        assert share(page, key) == percent(before[key]["loss"])
    page.locator("[data-switch]").click()
    changes: list[dict[str, Any]] = [{"node": "0.attn.resid_delta:7", "kind": "off", "value": 0}]
    after = live.run(asked(circuit, made, changes))
    loss = live.losses({"changes": changes})["changed"]
    page.wait_for_function(
        "loss => document.querySelector('[data-loss=changed]').textContent.startsWith(loss)", arg=f"{loss:.3g}"[:4]
    )
    assert share(page, "changed") == percent(after["changed"]["loss"])
    assert share(page, "circuit") == percent(before["circuit"]["loss"])
    page.get_by_label("What to do with 0.attn.resid_delta:7").select_option("set")
    page.get_by_label("Value for 0.attn.resid_delta:7").fill("5")
    changes[0].update(kind="set", value=5)
    put = live.losses({"changes": changes})["changed"]
    page.wait_for_function(
        "loss => document.querySelector('[data-loss=changed]').textContent.startsWith(loss)", arg=f"{put:.3g}"[:4]
    )
    page.get_by_role("button", name="Circuit", exact=True).click()
    assert page.locator(".graph .node.off").count() == 0
    page.get_by_role("button", name="Live").click()
    page.get_by_label("Prompt", exact=True).fill("x('otter")
    page.wait_for_selector("[data-live]")


def test_a_refusal_is_shown_and_the_next_answer_clears_it(open_page: Any, served: Served) -> None:
    page = open_page(f"{served.address}#view=live")
    page.get_by_label("Prompt", exact=True).fill("")
    page.wait_for_selector("[role=alert]")
    assert "prompt must be text" in page.get_by_role("alert").inner_text()
    page.get_by_label("Prompt", exact=True).fill("r('wolf")
    page.wait_for_selector("[role=alert]", state="detached")
    page.get_by_label("Any node of the model").fill("0.attn.q:99999")
    page.get_by_role("button", name="Add").click()
    page.wait_for_selector("[role=alert]")
    assert "channels 0..15" in page.get_by_role("alert").inner_text()


def test_two_tabs_do_not_disturb_each_other(open_page: Any, served: Served) -> None:
    one = open_page(f"{served.address}#view=live&node=1.attn.resid_delta:2")
    two = open_page(f"{served.address}#view=live&node=1.attn.resid_delta:2")
    for page in (one, two):
        page.wait_for_selector("[data-live]")
    one.locator("[data-switch]").click()
    one.wait_for_function(
        "() => new Set([...document.querySelectorAll('[data-loss]')].slice(1).map(each => each.textContent)).size > 1"
    )
    assert two.locator("[data-loss=changed]").inner_text() == two.locator("[data-loss=circuit]").inner_text()
    assert two.locator("[data-switch]").count() == 1


def test_the_page_says_when_its_server_is_gone(open_page: Any, made: dict[str, Any], circuit: Circuit) -> None:
    going = threading.Event()

    class Slow(Live):
        def losses(self, asked: dict[str, Any]) -> dict[str, Any]:
            if asked.get("changes"):
                going.set()
                time.sleep(1)
            return super().losses(asked)

    app = server.application(made, [circuit])
    app._app.state.service.live = [Slow(circuit)]  # type: ignore[attr-defined]
    dying = Served(app)
    page = open_page(f"{dying.address}#view=live&node=0.attn.v:2")
    page.wait_for_selector("[data-live]")
    page.locator("[data-switch]").click()
    deadline = time.monotonic() + 30
    while not going.is_set():
        assert time.monotonic() < deadline
        page.wait_for_timeout(10)
    dying.stop()
    page.wait_for_selector("[role=alert]")
    first = page.get_by_role("alert").first.inner_text()
    assert "is stopping" in first or "does not answer" in first
    page.get_by_label("What to do with 0.attn.v:2").select_option("scale")
    page.wait_for_selector("[role=alert]:has-text('does not answer')")
    page.get_by_role("button", name="Circuit", exact=True).click()
    assert page.locator(".graph .node").count() == 18, "the rest of the page still works"


def test_pruning_again_shows_progress_can_be_cancelled_and_adds_a_circuit(
    open_page: Any, made: dict[str, Any], circuit: Circuit, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = small_circuit(nodes={"0.mlp.post_act": (4,), "0.mlp.resid_delta": (7,)})
    go = threading.Event()

    def slow(given: Circuit, target: float, out: object) -> tuple[Circuit, None]:
        assert given is circuit
        with Bar("masks", 50, False) as bar:
            step = 0
            while not (go.is_set() and target < 1):
                bar.update(step := min(step + 1, 49))
                time.sleep(0.01)
        return small, None

    monkeypatch.setattr(server, "reprune", slow)

    def quick(given: Circuit) -> dict[str, Any]:
        with kernels.use("reference"):  # where jobs run, too
            return bundle(given, text_tokens=240)

    monkeypatch.setattr(server, "bundle", quick)
    found = Served(server.application(made, [circuit]))
    try:
        page = open_page(f"{found.address}#view=live")
        page.get_by_label("target loss").fill("1.5")
        page.get_by_role("button", name="Prune", exact=True).click()
        page.wait_for_selector("[data-job] progress")
        page.get_by_role("button", name="Cancel").click()
        page.wait_for_selector("[data-job='1']:has-text('cancelled')")
        page.get_by_label("target loss").fill("0.5")
        page.get_by_role("button", name="Prune", exact=True).click()
        go.set()
        page.get_by_role("button", name="Show its 2 nodes").click(timeout=60_000)
        page.wait_for_function("() => document.querySelectorAll('.graph .node').length === 2")
        assert len(json.loads(found.ask("GET", "/api/bundle")[2])["circuits"]) == 2
    finally:
        go.set()
        found.stop()


def test_no_script_of_another_kind_can_run(open_page: Any, served: Served) -> None:
    page = open_page(served.address)
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.hacked = 1\">')")
    page.evaluate(
        "const s = document.createElement('script'); s.textContent = 'window.hacked = 2'; document.body.append(s)"
    )
    page.wait_for_timeout(200)
    assert page.evaluate("window.hacked") is None


def test_both_sides_refuse_the_same(open_page: Any, served: Served, copied: dict[str, Any]) -> None:
    page = open_page(served.address)
    for node in copied["circuits"][0]["nodes"]:
        node["seen"] = None  # to send less
    for place, value, _ in SPOILED:
        if value != value:
            continue  # JSON has no NaN
        broken = json.loads(json.dumps(copied))
        spoil(broken, place, value)
        with pytest.raises(InputError) as refused:
            check(broken)
        said = page.evaluate(
            "async ([bundle, schema]) => (await import('/web/schema.js')).refusal(bundle, schema)", [broken, schema()]
        )
        where = str(refused.value).split("breaks its schema: ")[1].replace("'", "").split(" is ")[0]
        assert where in said.replace('"', "")
    assert (
        page.evaluate(
            "async ([bundle, schema]) => (await import('/web/schema.js')).refusal(bundle, schema)", [copied, schema()]
        )
        is None
    )
