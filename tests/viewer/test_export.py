"""The one-file page as a format of `export`: to a file or a folder, with the report card that lies beside."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from small_circuits import a_card, quote_task, saved, small_circuit

from sparse_circuits.__main__ import main
from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.circuits.report import Card
from sparse_circuits.viewer import bundle, export


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A saved circuit; its bundle watches little text."""
    monkeypatch.setattr(export, "bundle", lambda circuit, progress: bundle(circuit, text_tokens=240))
    return saved(small_circuit(nodes={"0.mlp.post_act": (4,)}), tmp_path)


def inside(page: Path) -> dict[str, Any]:
    """The first circuit of a page."""
    found = re.search(r'id="bundle">(.*?)</script>', page.read_text())
    assert found is not None
    return json.loads(found[1])["circuits"][0]


def test_it_goes_to_a_file_or_a_folder_and_says_that_there_is_no_card(folder: Path, tmp_path: Path) -> None:
    circuit = Circuit.load(folder, task=quote_task())
    note, missing = export.write(circuit, tmp_path / "folder")
    assert (tmp_path / "folder" / "circuit.html").is_file()
    assert "no network" in note
    assert "no report card" in missing
    assert inside(tmp_path / "folder" / "circuit.html")["card"] is None
    export.write(circuit, tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")


def test_the_card_beside_the_circuit_is_in_it(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    circuit = Circuit.load(folder, task=quote_task())
    card = a_card(circuit)
    card.save(folder)
    monkeypatch.setattr("sparse_circuits.tasks.get_task", lambda name: quote_task())
    out = tmp_path / "quote.html"
    assert main(["export", "html", "--circuit", str(folder), "--out", str(out), "--task", "quotes.py"]) == 0
    assert "no report card" not in capsys.readouterr().out
    assert inside(out)["card"] == card.to_json()
    assert Card.from_json(inside(out)["card"]).verdict == card.verdict


def test_a_card_of_another_circuit_is_left_out(folder: Path, tmp_path: Path) -> None:
    a_card(small_circuit(nodes={"0.mlp.post_act": (5,)})).save(folder)
    export.write(Circuit.load(folder, task=quote_task()), tmp_path / "page.html")
    assert inside(tmp_path / "page.html")["card"] is None
