"""The page, in a real Chromium: every view, by mouse and by keys, light and dark."""

import json
import re
from math import exp, floor, log10
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlparse
from xml.etree import ElementTree

import pytest
from playwright.sync_api import Page
from small_circuits import HOSTILE, hostile, small_circuit

from sparse_circuits.viewer import bundle, export_html
from sparse_circuits.viewer.sources import merge

AXE = Path(__file__).parent / "vendor" / "axe-4.14.1.min.js"
VIEWS = ["circuit", "unrolled", "channel", "sizes", "card", "model", "compare", "live"]


def lit(page: Page) -> set[str]:
    found = page.evaluate("[...document.querySelectorAll('.graph .lit')].map((each) => each.dataset.node)")
    return set(found)


def node(page: Page, name: str) -> Any:
    return page.locator(f'.graph [data-node="{name}"]').first


def shown(value: float, digits: int = 3) -> str:
    """A positive number as the page writes it."""
    return "0" if value == 0 else f"{value:.{max(0, min(6, digits - 1 - floor(log10(value))))}f}"


def settle(page: Page) -> None:
    """Let the page's own timers come first, however busy the machine is."""
    page.evaluate("() => new Promise((done) => setTimeout(() => requestAnimationFrame(() => setTimeout(done)), 300))")


def state(page: Page) -> dict[str, Any]:
    settle(page)
    return {key: values[0] for key, values in parse_qs(urlparse(page.url).fragment).items()}


def test_the_whole_circuit_is_drawn(open_page: Any, file_address: str, made: dict[str, Any]) -> None:
    page = open_page(file_address)
    circuit = made["circuits"][0]
    names = page.eval_on_selector_all(".graph .node", "all => all.map((each) => each.dataset.node)")
    assert sorted(names) == sorted(f"{each['site']}:{each['channel']}" for each in circuit["nodes"])
    assert page.locator(".graph .head").count() == len(circuit["heads"])
    written = page.eval_on_selector(
        ".graph canvas", "c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some((each) => each > 0)"
    )
    assert written
    assert page.title() == f"{circuit['title']} \u2013 circuits"


def test_pointing_lights_the_paths_through_a_node_and_no_other(open_page: Any, file_address: str) -> None:
    page = open_page(file_address)
    node(page, "0.attn.q:5").hover()
    found = lit(page)
    assert {"0.attn.q:5", "0.attn.v:6", "0.attn.act_in:0", "embed:0", "0.attn.resid_delta:3", "logits:2"} <= found
    assert not {"0.attn.q:1", "0.attn.k:1", "0.attn.v:2", "embed:2"} & found
    page.mouse.move(5, 400)
    settle(page)
    assert lit(page) == set()
    # In every panel: an edge of the open node is marked in the list, too.
    node(page, "0.attn.v:6").click()
    node(page, "0.attn.act_in:3").hover()
    assert page.locator('aside [data-edge="0.attn.act_in:3"].lit').count() == 1


def test_a_node_opens_with_the_librarys_numbers(open_page: Any, file_address: str, made: dict[str, Any]) -> None:
    page = open_page(file_address)
    nodes = made["circuits"][0]["nodes"]
    names = [f"{each['site']}:{each['channel']}" for each in nodes]
    place = names.index("0.attn.v:6")
    node(page, "0.attn.v:6").click()
    panel = page.locator("aside")
    assert panel.locator("h2").inner_text() == "0.attn.v:6"
    assert "value channel 2 of head 1, layer 0" in panel.inner_text()
    assert shown(abs(nodes[place]["cost"])) in panel.inner_text()
    assert shown(abs(nodes[place]["mean"])) in panel.inner_text()
    weights = {tuple(e[:2]): e[2] for e in made["circuits"][0]["edges"]}
    for row in panel.locator("[data-edge]").all():
        other = names.index(row.get_attribute("data-edge") or "")
        expected = weights.get((other, place), weights.get((place, other)))
        assert float(row.locator("[data-weight]").get_attribute("data-weight") or "") == expected
    assert panel.locator(".strip").count() > 0
    page.get_by_role("tab", name="Pairs").click()
    side = made["circuits"][0]["pairs"][0]["sides"][0]
    last = side["circuit"]["values"][place][-1]
    title = panel.locator(".strip").first.locator("span").last.get_attribute("title") or ""
    assert shown(abs(last)) in title
    page.get_by_role("tab", name="Attention").click()
    flat = made["circuits"][0]["heads"][1]["patterns"][0][0]["circuit"]
    length = len(side["tokens"])
    key, weight = max(enumerate(flat[-length:]), key=lambda each: each[1])
    assert panel.locator(f'[data-attention="{key}"]').first.inner_text() == shown(weight)
    carried = weight * side["circuit"]["values"][place][key]
    row = panel.locator(f'tr:has([data-attention="{key}"])').first
    assert shown(abs(carried)) in row.locator("td").last.inner_text()


def test_search_filters_pins_groups_notes_and_undo(open_page: Any, file_address: str, made: dict[str, Any]) -> None:
    page = open_page(file_address)
    page.keyboard.press("/")
    page.keyboard.type("post_act 9")
    page.keyboard.press("Enter")
    assert page.locator("aside h2").inner_text() == "0.mlp.post_act:9"
    page.keyboard.press("Escape")
    page.locator(".graph").focus()
    node(page, "0.mlp.post_act:9").click()
    page.keyboard.press("p")
    node(page, "0.attn.q:1").click()
    page.keyboard.press("p")
    assert page.locator(".graph .node.pinned").count() == 2
    page.locator("textarea.note").fill("looks <b>back</b>")
    page.locator("textarea.note").blur()
    page.get_by_role("button", name="Close").click()
    page.get_by_label("Name of the group").fill("readers")
    page.keyboard.press("Enter")
    assert page.locator(".graph .group text").text_content() == "readers"
    costs = sorted(each["cost"] for each in made["circuits"][0]["nodes"])
    page.get_by_label("node cost ≥").fill("0.5")
    threshold = 0.25 * costs[-1]
    assert page.locator(".graph .node.filtered").count() == sum(cost < threshold for cost in costs)
    before = state(page)
    page.reload()
    page.wait_for_selector(".graph .group")
    assert state(page) == before
    assert page.locator(".graph .noted").count() == 1
    assert page.get_by_label("Undo").is_disabled(), "what was done before a reload is not undone"
    page.get_by_label("node cost ≥").fill("0")
    assert page.locator(".graph .node.filtered").count() == 0
    page.get_by_label("Undo").click()
    page.wait_for_selector(".graph .node.filtered")
    page.get_by_label("Redo").click()
    assert page.locator(".graph .node.filtered").count() == 0


def test_undo_takes_back_pins_one_by_one(open_page: Any, file_address: str) -> None:
    page = open_page(file_address)
    for name in ("0.attn.q:1", "0.attn.v:2"):
        node(page, name).click()
        page.keyboard.press("p")
    page.keyboard.press("Control+z")
    assert page.locator(".graph .node.pinned").count() == 1
    page.keyboard.press("Control+z")
    assert page.locator(".graph .node.pinned").count() == 0
    page.keyboard.press("Control+Shift+z")
    assert page.locator(".graph .node.pinned").count() == 1


def test_zoom_and_pan(open_page: Any, file_address: str) -> None:
    page = open_page(file_address)
    place = node(page, "0.attn.q:1").bounding_box()
    page.mouse.move(place["x"] + 5, place["y"] + 5)
    page.mouse.wheel(0, -400)
    settle(page)
    near = node(page, "0.attn.q:1").bounding_box()
    assert near["width"] > 1.3 * place["width"]
    assert abs(near["x"] - place["x"]) < place["width"] + 5, "it zooms about the pointer"
    page.mouse.move(30, 700)
    page.mouse.down()
    page.mouse.move(130, 640, steps=4)
    page.mouse.up()
    settle(page)
    moved = node(page, "0.attn.q:1").bounding_box()
    assert moved["x"] - near["x"] == pytest.approx(100, abs=2)
    assert moved["y"] - near["y"] == pytest.approx(-60, abs=2)
    page.get_by_role("button", name="Fit").click()
    settle(page)
    assert node(page, "0.attn.q:1").bounding_box()["width"] == pytest.approx(place["width"], rel=0.05)


def test_it_can_be_gone_through_by_keys(open_page: Any, file_address: str) -> None:
    page = open_page(file_address)
    page.evaluate("document.activeElement.blur()")
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.classList.contains('graph')"):
            break
    else:
        pytest.fail("the graph cannot be reached by Tab")
    page.keyboard.press("ArrowRight")
    first = page.locator("aside h2").inner_text()
    page.keyboard.press("ArrowRight")
    assert page.locator("aside h2").inner_text() != first
    assert page.locator("[role=status]").last.inner_text().startswith(page.locator("aside h2").inner_text())
    assert lit(page)
    for number, view in enumerate(VIEWS, 1):
        page.keyboard.press(str(number))
        page.wait_for_selector(f'[data-view="{view}"]')
    page.keyboard.press("?")
    assert page.get_by_role("dialog").is_visible()
    page.keyboard.press("Escape")


def test_unrolled_shows_tokens_attention_and_the_answer(
    open_page: Any, file_address: str, made: dict[str, Any]
) -> None:
    page = open_page(f"{file_address}#view=unrolled&pair=1")
    pair = made["circuits"][0]["pairs"][1]
    tokens = made["models"][0]["tokens"]
    words = page.eval_on_selector_all(".unrolled .word .token", "all => all.map((each) => each.textContent)")
    assert words == [tokens[token] for token in pair["sides"][0]["tokens"]]
    assert page.locator(".unrolled .arc").count() > 0
    share = exp(-pair["sides"][0]["circuit"]["loss"])
    answer = page.locator(".unrolled .answer").text_content()
    assert f"{round(100 * share)}%" in answer or f"{100 * share:.1f}%" in answer
    page.get_by_role("button", name="side B").click()
    words = page.eval_on_selector_all(".unrolled .word .token", "all => all.map((each) => each.textContent)")
    assert words == [tokens[token] for token in pair["sides"][1]["tokens"]]
    page.locator(".unrolled .at").first.click()
    assert page.locator("aside h2").inner_text() == page.locator(".unrolled .at.selected").first.get_attribute(
        "data-ids"
    )


def test_sizes_move_the_chosen_one(open_page: Any, file_address: str, made: dict[str, Any]) -> None:
    page = open_page(f"{file_address}#view=sizes")
    curve = made["circuits"][0]["curve"]
    slider = page.locator('[data-slider="size"]')
    assert page.locator("[data-loss]").get_attribute("data-loss") == str(curve["losses"][curve["sizes"].index(18)])
    slider.fill("2")
    assert page.locator("[data-size]").get_attribute("data-size") == str(curve["sizes"][2])
    page.get_by_role("button", name="Circuit", exact=True).click()
    assert page.locator(".graph .node:not(.filtered)").count() == min(18, curve["sizes"][2])


def test_channels_and_the_bigram_table(open_page: Any, file_address: str, made: dict[str, Any]) -> None:
    page = open_page(f"{file_address}#view=channel&channel=3")
    channel = next(each for each in made["circuits"][0]["channels"] if each["channel"] == 3)
    found = page.eval_on_selector_all(
        "[data-view=channel] [data-weight]", "all => all.map((each) => Number(each.dataset.weight))"
    )
    assert found == [weight for _, weight in channel["writes"] + channel["reads"]]
    page.get_by_label("after the token").fill("a")
    expected = made["models"][0]["bigram"][made["models"][0]["tokens"].index("a")]
    assert page.locator("[data-view=channel] section").last.locator("li").count() == len(expected)
    page.get_by_role("button", name="17", exact=True).click()
    assert page.locator("[data-view=channel] svg.plot").count() == 1


def test_figures_and_the_page_itself_are_saved(
    open_page: Any, file_address: str, tmp_path: Path, made: dict[str, Any]
) -> None:
    page = open_page(file_address)
    node(page, "0.attn.q:1").click()
    page.keyboard.press("p")

    def saved(name: str) -> Path:
        page.get_by_role("button", name="Save").click()
        with page.expect_download() as waiting:
            page.get_by_role("button", name=name).click()
        path = tmp_path / waiting.value.suggested_filename
        waiting.value.save_as(path)
        return path

    figure = saved("Figure as SVG").read_text()
    root = ElementTree.fromstring(figure)
    assert root.tag.endswith("svg")
    lines = [each for each in root.iter() if each.tag.endswith("path") and each.get("stroke-width")]
    assert len(lines) >= len(made["circuits"][0]["edges"])
    assert "class=" not in figure
    assert not re.search(r"(href|url\()", figure)
    assert saved("Figure as PNG").read_bytes().startswith(b"\x89PNG")
    again = open_page(saved("Page with my pins and notes").as_uri())
    assert again.locator(".graph .node.pinned").count() == 1
    assert again.locator("aside h2").inner_text() == "0.attn.q:1"
    page.goto(f"{file_address}#view=unrolled")
    page.reload()
    page.wait_for_selector(".unrolled")
    assert ElementTree.fromstring(saved("Figure as SVG").read_text()).tag.endswith("svg")


def test_two_circuits_side_by_side(
    open_page: Any, tmp_path: Path, made: dict[str, Any], copied: dict[str, Any]
) -> None:
    other = copied["circuits"][0]
    other["nodes"] = other["nodes"][:6]
    other["edges"] = [edge for edge in other["edges"] if max(edge[:2]) < 6]
    other["dropped"] = []
    both = merge([made, copied])
    export_html(both, tmp_path / "both.html")
    page = open_page(f"{(tmp_path / 'both.html').as_uri()}#view=compare")
    assert page.locator(".compare .graph").count() == 2
    assert page.locator("[data-shared]").get_attribute("data-shared") == "6"
    assert page.locator(".compare .node.shared").count() == 12
    page.get_by_label("Circuit", exact=True).select_option("1")
    page.get_by_role("button", name="Circuit", exact=True).click()
    assert page.locator(".graph .node").count() == 6


def test_strings_of_the_data_are_text(open_page: Any, tmp_path: Path, copied: dict[str, Any]) -> None:
    hostile(copied)
    path = tmp_path / "hostile.html"
    export_html(copied, path)
    assert path.read_text().count("</script>") == 4
    page = open_page(path.as_uri())
    for view in VIEWS:
        page.goto(f"{path.as_uri()}#view={view}&node=0.attn.v:6&notes=%7B%220.attn.v:6%22:%22{'%3Cscript%3E'}%22%7D")
        page.reload()
        page.wait_for_selector(f'[data-view="{view}"]')
        assert page.evaluate("window.hacked") is None
        assert page.locator("img, iframe").count() == 0
    assert HOSTILE in page.title()


@pytest.mark.parametrize("changed", [{"version": 2}, {"format": "x"}, {"circuits": []}])
def test_a_bundle_it_cannot_read_is_told(
    open_page: Any, tmp_path: Path, made: dict[str, Any], changed: dict[str, Any]
) -> None:
    path = tmp_path / "wrong.html"
    export_html(made, path)
    whole = path.read_text()
    start = whole.index('id="bundle">') + len('id="bundle">')
    text = json.dumps({**made, **changed}).replace("<", "\\u003c")
    path.write_text(whole[:start] + text + whole[whole.index("</script>", start) :])
    page = open_page(path.as_uri())
    message = page.get_by_role("alert").inner_text()
    expected = {"version": "reads version 1", "format": "no bundle of circuits", "circuits": "has 0 items"}
    assert expected[next(iter(changed))] in message


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_view_has_a_serious_fault_of_accessibility(open_page: Any, file_address: str, scheme: str) -> None:
    page = open_page(f"{file_address}#node=0.attn.v:6", color_scheme=scheme)
    assert page.evaluate("document.documentElement.dataset.theme") == scheme
    page.evaluate(AXE.read_text())
    for view in VIEWS:
        page.evaluate("view => { location.hash = `#view=${view}&node=0.attn.v:6` }", view)
        page.wait_for_selector(f'[data-view="{view}"]')
        result = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
        serious = [
            f"{view}: {each['id']} {each['nodes'][0]['html'][:160]} {each['nodes'][0]['failureSummary'][:200]}"
            for each in result["violations"]
            if each["impact"] in ("serious", "critical")
        ]
        assert serious == []


def test_nothing_jumps_when_a_node_opens(open_page: Any, file_address: str) -> None:
    page = open_page(file_address)
    before = page.locator(".graph").bounding_box(), node(page, "0.attn.q:1").bounding_box()
    node(page, "0.mlp.post_act:4").click()
    settle(page)
    assert (page.locator(".graph").bounding_box(), node(page, "0.attn.q:1").bounding_box()) == before


@pytest.mark.parametrize("nodes", [{}, {"1.mlp.post_act": (3,)}, {"0.attn.q": (0,), "1.attn.k": (5,)}])
def test_odd_circuits_are_shown(open_page: Any, tmp_path: Path, nodes: dict[str, tuple[int, ...]]) -> None:
    circuit = small_circuit(nodes=nodes, one_token=True)
    export_html(bundle(circuit, text_tokens=240), tmp_path / "page.html")
    page = open_page((tmp_path / "page.html").as_uri())
    for number, view in enumerate(VIEWS, 1):
        page.keyboard.press(str(number))
        page.wait_for_selector(f'[data-view="{view}"]')
    page.keyboard.press("1")
    assert page.locator(".graph .node").count() == circuit.size
    page.locator(".graph").press("ArrowRight")
    assert page.locator("aside section").count() == 1


def test_a_mistyped_address_opens_what_it_can(open_page: Any, file_address: str) -> None:
    page = open_page(f"{file_address}#view=nothing&node=9.x:1&pins=3&zoom=[0]&notes=[[&circuit=99&cost=many&pair=77")
    assert page.locator(".graph .node").count() == 18
    page = open_page(f"{file_address}#view=unrolled&pair=77")
    assert page.locator(".unrolled").count() == 1
