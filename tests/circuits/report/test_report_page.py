"""The page needs nothing but itself, shows every figure, and its drawings are well formed."""

import html
import re
from xml.etree import ElementTree

import pytest

from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.circuits.report import Card, report
from sparse_circuits.circuits.report.page import page
from sparse_circuits.circuits.report.svg import linear, logarithmic, ticks


def test_it_is_one_file_without_network_or_script(card: Card, tmp_path) -> None:
    card.write_html(tmp_path / "card.html")
    text = (tmp_path / "card.html").read_text()
    assert text.startswith("<!doctype html>")
    for forbidden in ("http", "<script", "<link", "@import", "url(", "src="):
        assert forbidden not in text
    assert "prefers-color-scheme: dark" in text
    assert html.escape(card.line) in text
    for row in card.rows:
        assert html.escape(row.sentence) in text
        assert html.escape(row.name) in text


def test_its_four_drawings_are_well_formed(card: Card) -> None:
    drawings = re.findall(r"<svg.*?</svg>", page(card), re.DOTALL)
    assert len(drawings) == 4
    for drawing in drawings:
        tree = ElementTree.fromstring(drawing)
        width, height = map(float, tree.attrib["viewBox"].split()[2:])
        assert len(list(tree.iter())) > 10
        for circle in tree.iter("circle"):
            assert -1 <= float(circle.attrib["cx"]) <= width + 1
            assert -1 <= float(circle.attrib["cy"]) <= height + 1


def test_a_card_read_back_gives_the_same_page(card: Card) -> None:
    assert page(Card.from_json(card.to_json())) == page(card)


def test_words_are_no_markup(card: Card) -> None:
    card.about["description"] = "<b>bold & bad</b>"
    assert "<b>bold" not in page(card)
    assert "&lt;b&gt;bold &amp; bad&lt;/b&gt;" in page(card)


def test_an_empty_circuit_has_a_page(circuit: Circuit) -> None:
    nothing = Circuit(circuit.model, circuit.task, {}, circuit.means, circuit.config)
    text = page(report(nothing))
    assert "DO NOT BELIEVE" in text
    assert "nan" not in re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL).replace("means", "")


def test_scales() -> None:
    assert [linear(0, 2, 10, 20)(value) for value in (-1, 0, 1, 2, 9)] == [10, 10, 15, 20, 20]
    assert logarithmic(1, 100, 0, 2)(10) == pytest.approx(1)
    assert ticks(0, 1, 5) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert ticks(-0.1, 1.15, 5) == [0, 0.5, 1.0]
    assert ticks(3.0, 3.0) == [3]
