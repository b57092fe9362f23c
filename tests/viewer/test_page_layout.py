"""Where things stand on the page, in a real Chromium: nothing over another, nothing cut off; a dense circuit."""

import time
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from playwright.sync_api import Page
from small_circuits import NODES, a_card, dense_circuit, small_circuit

from sparse_circuits import kernels
from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.config import GPTConfig
from sparse_circuits.viewer import bundle, export_html
from sparse_circuits.viewer.sources import merge

VIEWS = ["circuit", "unrolled", "channel", "sizes", "card", "model", "compare", "live"]
OVERLAPS = """selectors => {
  const boxes = selectors.flatMap((selector, kind) => [...document.querySelectorAll(selector)].map((each) => {
    const { left, right, top, bottom } = each.getBoundingClientRect();
    const rim = (bottom - top) * 0.15;
    return { kind, left, right, top: top + rim, bottom: bottom - rim, text: each.textContent };
  }));
  const found = [];
  for (const [place, a] of boxes.entries()) for (const b of boxes.slice(place + 1)) {
    const beside = a.left >= b.right - 0.5 || b.left >= a.right - 0.5;
    const apart = beside || a.top >= b.bottom - 0.5 || b.top >= a.bottom - 0.5;
    if (!apart && (a.kind === 0 || b.kind === 0)) found.push([a.text, b.text]);
  }
  return found;
}"""
"""Pairs of elements that overlap, of which one at least is of the first selector."""


def first(channels: int) -> dict[str, tuple[int, ...]]:
    """The first channels of every site of the first layer."""
    return {site: tuple(range(channels)) for site in NODES if site.startswith("0.")}


@pytest.mark.parametrize(("channels", "side"), [(3, "side A"), (12, "side B")])
def test_no_number_of_the_unrolled_view_stands_over_another(
    open_page: Callable[..., Page], tmp_path: Path, channels: int, side: str
) -> None:
    circuit = small_circuit(nodes=first(channels))
    export_html(bundle(circuit, text_tokens=240), tmp_path / "page.html")
    page = open_page(f"{(tmp_path / 'page.html').as_uri()}#view=unrolled&pair=1")
    page.get_by_role("button", name=side).click()
    lines = page.locator(".unrolled .edge:not(.grey)").count()
    written = page.locator(".unrolled .amount").count()
    assert lines > 0
    if channels == 3:
        assert written > 0.8 * lines, "where there is room, every line has its number"
    assert written > 0
    page.get_by_role("button", name="Larger").click()
    assert page.evaluate(OVERLAPS, [".unrolled .amount", ".unrolled .at .body"]) == []


def test_the_longest_names_at_both_ends_are_whole(
    open_page: Callable[..., Page], tmp_path: Path, copied: dict[str, Any]
) -> None:
    model = copied["models"][0]
    model["tokens"] = [f"{token}{'wide' * 9}" for token in model["tokens"]]
    export_html(copied, tmp_path / "page.html")
    page = open_page((tmp_path / "page.html").as_uri())
    frame = page.locator(".graph").bounding_box()
    assert frame is not None
    ends = page.locator(".graph .end text")
    assert ends.count() > 3
    for end in ends.all():
        box = end.bounding_box()
        assert box is not None
        assert frame["x"] <= box["x"]
        assert box["x"] + box["width"] <= frame["x"] + frame["width"]
        assert "\u2026" in (end.text_content() or "") or "position" in (end.text_content() or "")


@pytest.mark.parametrize("size", [(1280, 800), (1920, 1080)])
def test_nothing_of_the_bars_is_cut_off(
    open_page: Callable[..., Page], tmp_path: Path, made: dict[str, Any], size: tuple[int, int]
) -> None:
    export_html(merge([made, made]), tmp_path / "page.html")
    page = open_page((tmp_path / "page.html").as_uri(), viewport={"width": size[0], "height": size[1]})
    for view in ("circuit", "unrolled", "compare"):
        page.evaluate("view => { location.hash = `#view=${view}` }", view)
        page.wait_for_selector(f'[data-view="{view}"]')
        for bar in ("header", ".bar"):
            cut = page.evaluate(
                "bar => { const e = document.querySelector(bar); return e.scrollWidth - e.clientWidth }", bar
            )
            assert cut <= 0, (view, bar)
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]


def test_size_and_loss_has_the_cards_verdicts(
    open_page: Callable[..., Page], tmp_path: Path, circuit: Circuit, copied: dict[str, Any], file_address: str
) -> None:
    card = a_card(circuit)
    copied["circuits"][0]["card"] = card.to_json()
    export_html(copied, tmp_path / "page.html")
    page = open_page(f"{(tmp_path / 'page.html').as_uri()}#view=sizes")
    shown = page.locator("[data-card]")
    assert shown.get_attribute("data-card") == card.verdict
    for point in range(1, 10):
        row = shown.locator(f'[data-point="{point}"]').inner_text()
        assert card.point_verdict(point) in row
        for each in card.rows:
            if each.point == point:
                assert (each.name in row) == (each.verdict in ("weak", "fails"))
    page.get_by_role("button", name="All its figures").click()
    text = page.locator('[data-view="card"]').inner_text()
    assert card.line in text
    assert all(each.sentence in text for each in card.rows)
    page = open_page(f"{file_address}#view=sizes")
    assert "Nobody has measured" in page.locator("[data-card]").inner_text()


def test_the_story_tells_the_pairs_means(
    open_page: Callable[..., Page], file_address: str, made: dict[str, Any]
) -> None:
    found = made["circuits"][0]
    page = open_page(file_address)
    story = page.locator("[data-story]")
    names = [f"{node['site']}:{node['channel']}" for node in found["nodes"]]
    writes = names.index("0.mlp.resid_delta:7")
    row = story.locator('tr:has([data-row="0.mlp.resid_delta:7"])')
    for side, letter in enumerate("AB"):
        values = [pair["sides"][side]["circuit"]["values"][writes][-1] for pair in found["pairs"]]
        told = float(row.locator(f'[data-side="{letter}"]').get_attribute("data-value") or "")
        assert told == pytest.approx(fmean(values), rel=1e-9)
    head = next(each for each in found["heads"] if (each["layer"], each["head"]) == (0, 1))
    most, carried = [], []
    for pair, patterns in zip(found["pairs"], head["patterns"], strict=True):
        side = pair["sides"][1]
        row_of_last = patterns[1]["circuit"][-len(side["tokens"]) :]
        most.append(max(row_of_last))
        carried.append(side["circuit"]["values"][names.index("0.attn.v:6")][row_of_last.index(max(row_of_last))])
    said = story.locator('[data-looks="1"]').first.inner_text()
    assert f"{fmean(most):.2f}" in said or f"{fmean(most):.3f}" in said
    shown = story.locator('tr:has([data-row="0.attn.v:6"]) [data-side="B"]').get_attribute("data-value")
    assert float(shown or "") == pytest.approx(fmean(carried), rel=1e-9)
    assert '"' in story.locator("p").first.inner_text()
    story.locator('[data-row="0.attn.v:6"]').click()
    assert page.locator("aside h2").inner_text() == "0.attn.v:6"


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """The bundle of a whole dense model of 2,112 nodes, and the address of its page."""
    with kernels.use("reference"):
        found = bundle(dense_circuit(GPTConfig(257, 24, n_layer=12, d_model=16, n_head=4, d_mlp=64)), text_tokens=240)
    path = tmp_path_factory.mktemp("dense") / "dense.html"
    assert export_html(found, path) < 5e6
    return found, path.as_uri()


def test_a_dense_models_circuit_can_be_looked_at(
    open_page: Callable[..., Page], dense: tuple[dict[str, Any], str]
) -> None:
    found, address = dense
    circuit = found["circuits"][0]
    assert len(circuit["nodes"]) > 2000
    assert len(circuit["edges"]) > 20_000
    page = open_page(address)
    assert page.locator(".graph .node").count() == len(circuit["nodes"])
    for number, view in enumerate(VIEWS, 1):
        page.keyboard.press(str(number))
        page.wait_for_selector(f'[data-view="{view}"]')
        assert page.evaluate("document.querySelectorAll('*').length") < 120_000
        if view == "unrolled":
            assert page.locator(".unrolled .edge").count() > 100
            assert f"Of {len(circuit['nodes'])} nodes the 250" in page.locator(".figure").inner_text()
    page.keyboard.press("1")
    page.keyboard.press("/")
    last = f"{circuit['nodes'][-1]['site']}:{circuit['nodes'][-1]['channel']}"
    page.keyboard.type(last)
    page.keyboard.press("Enter")
    assert page.locator("aside h2").inner_text() == last
    into = [edge for edge in circuit["edges"] if edge[1] == len(circuit["nodes"]) - 1]
    assert f"Reads ({len(into)})" in page.locator("aside").inner_text()


def test_a_dense_models_circuit_follows_the_hand(
    open_page: Callable[..., Page], dense: tuple[dict[str, Any], str]
) -> None:
    page = open_page(dense[1])
    node = page.locator(".graph .node").first
    before = node.bounding_box()
    started = time.monotonic()
    page.mouse.move(400, 700)
    page.mouse.down()
    for step in range(20):
        page.mouse.move(400 + 5 * step, 700)
    assert "moving" in (page.locator(".graph").get_attribute("class") or ""), "only the picture is moved meanwhile"
    page.mouse.up()
    page.wait_for_function("() => !document.querySelector('.graph').classList.contains('moving')")
    assert time.monotonic() - started < 30
    after = node.bounding_box()
    assert before is not None
    assert after is not None
    assert after["x"] - before["x"] == pytest.approx(95, abs=2)
