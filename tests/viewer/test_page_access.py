"""The page without a mouse, in the dark, with its menus open, and behind a server that has hostile or foreign data."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from playwright.sync_api import Page, expect
from small_circuits import HOSTILE, Served, hostile

from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.viewer.server import application

AXE = Path(__file__).parent / "vendor" / "axe-4.14.1.min.js"
Opener = Callable[..., Page]


def focused(page: Page) -> str:
    """What has the focus, in words."""
    return page.evaluate(
        "(({ ariaLabel, labels, textContent }) => (ariaLabel || labels?.[0]?.textContent || textContent || '').trim())"
        "(document.activeElement)"
    )


def tab_to(page: Page, name: str, most: int = 150) -> None:
    """Press Tab until what is called so has the focus."""
    for _ in range(most):
        page.keyboard.press("Tab")
        if focused(page).startswith(name):
            return
    pytest.fail(f"{name!r} cannot be reached by Tab; last was {focused(page)!r}")


def test_a_whole_visit_by_keys_alone(open_page: Opener, file_address: str) -> None:
    page = open_page(file_address)
    page.keyboard.press("/")
    page.keyboard.type("attn.v")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    opened = page.locator("aside h2").inner_text()
    assert ".attn.v:" in opened
    page.keyboard.press("p")
    expect(page.locator(".graph .node.pinned")).to_have_count(1)
    tab_to(page, f"Note on {opened}")
    page.keyboard.type("carries the quote")
    page.keyboard.press("Tab")
    expect(page.locator(".graph .noted")).to_have_count(1)
    page.keyboard.press("Escape")
    tab_to(page, "Name of the group")
    page.keyboard.type("carriers")
    page.keyboard.press("Enter")
    expect(page.locator(".graph .group text")).to_have_text("carriers")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Control+z")
    expect(page.locator(".graph .group")).to_have_count(0)
    tab_to(page, "weights ≥")
    page.keyboard.press("End")
    tab_to(page, "The circuit, ")
    page.keyboard.press("+")
    page.keyboard.press("0")
    page.keyboard.press("2")
    page.wait_for_selector("[data-view=unrolled]")
    page.evaluate("document.activeElement.blur()")
    tab_to(page, "Save")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert focused(page) == "Figure as SVG"
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Figure as SVG")).to_have_count(0)


def test_the_theme_is_chosen_and_kept(open_page: Opener, file_address: str) -> None:
    page = open_page(file_address, color_scheme="light")
    papers = set()
    for theme in ("light", "dark"):
        page.get_by_role("button", name="Theme").click()
        page.get_by_role("button", name=f"Theme: {theme}").wait_for()
        page.wait_for_function("theme => document.documentElement.dataset.theme === theme", arg=theme)
        papers.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(papers) == 2
    page.wait_for_function("() => location.hash.includes('theme=dark')")
    page.reload()
    page.wait_for_selector("header")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


@pytest.mark.parametrize("opened", ["search", "save", "help", "group", "live"])
def test_what_opens_has_no_serious_fault_of_accessibility(
    open_page: Opener, file_address: str, served: Served, opened: str
) -> None:
    page = open_page(f"{served.address}#view=live&node=0.attn.v:2" if opened == "live" else file_address)
    if opened == "search":
        page.get_by_label("Search nodes and tokens").fill("attn")
    elif opened == "save":
        page.get_by_role("button", name="Save").click()
    elif opened == "help":
        page.keyboard.press("?")
    elif opened == "group":
        page.locator('.graph [data-node="0.attn.q:1"]').click()
        page.keyboard.press("p")
        page.keyboard.press("Escape")
    else:
        page.locator("[data-switch]").click()
        page.wait_for_selector("[data-live][aria-busy=false]")
    page.evaluate(AXE.read_text())
    result = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
    assert [
        (each["id"], each["nodes"][0]["html"][:160])
        for each in result["violations"]
        if each["impact"] in ("serious", "critical")
    ] == []


def test_weak_weights_are_filtered_from_the_figure_too(
    open_page: Opener, file_address: str, tmp_path: Path, made: dict[str, Any]
) -> None:
    page = open_page(file_address)
    weights = [abs(weight) for _, _, weight in made["circuits"][0]["edges"]]

    def coloured() -> int:
        page.get_by_role("button", name="Save").click()
        with page.expect_download() as waiting:
            page.get_by_role("button", name="Figure as SVG").click()
        waiting.value.save_as(tmp_path / "figure.svg")
        colours = page.evaluate(
            "['--pos', '--neg'].map((name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim())"
        )
        root = ElementTree.fromstring((tmp_path / "figure.svg").read_text())
        return sum(each.get("stroke") in colours for each in root.iter() if each.tag.endswith("path"))

    assert coloured() == len(weights)
    page.get_by_label("weights ≥").fill("0.5")
    assert coloured() == sum(weight >= 0.5 * max(weights) for weight in weights) < len(weights)


def test_a_served_page_of_a_hostile_corpus_shows_text(
    open_page: Opener, copied: dict[str, Any], circuit: Circuit
) -> None:
    found = Served(application(hostile(copied), [circuit]))
    try:
        page = open_page(found.address)
        for view in ("circuit", "unrolled", "channel", "sizes", "card", "model", "live"):
            page.goto(f"{found.address}#view={view}&node=0.attn.v:6")
            page.reload()
            page.wait_for_selector(f'[data-view="{view}"]')
            assert page.locator("img, iframe, body script").count() == 0
        assert HOSTILE in page.title()
        assert page.evaluate("window.hacked") is None
    finally:
        found.stop()


def test_a_served_bundle_of_another_version_is_told(open_page: Opener, made: dict[str, Any], circuit: Circuit) -> None:
    found = Served(application({**made, "version": 99}, [circuit]))
    try:
        page = open_page(found.address)
        assert "reads version 1: open it with a newer" in page.get_by_role("alert").inner_text()
    finally:
        found.stop()


def test_a_tab_changed_by_hand_follows_its_address(open_page: Opener, file_address: str) -> None:
    page = open_page(f"{file_address}#node=0.attn.v:6&strength=0.3")
    assert page.get_by_label("weights ≥").input_value() == "0.3"
    page.evaluate("location.hash = '#view=sizes&node=0.attn.q:1'")
    page.wait_for_selector("[data-view=sizes]")
    assert page.locator("aside h2").inner_text() == "0.attn.q:1"
    kept = json.loads(page.evaluate("JSON.stringify(location.hash)"))
    assert "strength" not in kept
