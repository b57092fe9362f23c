"""`report` judges a circuit folder or somebody else's nodes; `prune` and `demo` end with its quick form."""

import json
from pathlib import Path

import pytest
from command_line import Run, one_line

from sparse_circuits.circuits.report import Card

PRUNE = ["--target-loss", 5, "--steps", 2, "--batch-pairs", 4, "--eval-pairs", 4, "--mean-tokens", 1000]


@pytest.fixture
def nodes_file(tmp_path: Path) -> Path:
    path = tmp_path / "nodes.json"
    path.write_text(json.dumps({"0.attn.v": [0, 3], "0.attn.resid_delta": [1]}))
    return path


@pytest.mark.filterwarnings("default")
def test_prune_ends_with_the_card_and_report_prints_it(run: Run, model: Path, task_file: Path, tmp_path: Path) -> None:
    pruned = run("prune", "--model", model, "--task", task_file, *PRUNE, "--no-clean")
    assert pruned.status == 0
    assert "report card, quick: closing" in pruned.out
    assert "verdict: " in pruned.out
    folder = model / "circuits" / "closing"
    saved = Card.load(folder)
    assert (folder / "report.html").read_text().startswith("<!doctype html>")
    page = tmp_path / "page.html"
    result = run("report", folder, "--task", task_file, "--html", page)
    assert result.status == 0
    assert "in words" in result.out
    assert saved.row("loss_report").sentence[:40] in result.out
    assert f"page: {folder / 'report.html'}\npage: {page}\n" in result.out
    assert "exchanged answers" in page.read_text()
    assert Card.load(folder).rows == saved.rows
    # A card that took long is not replaced by one that tells less.
    full = {**saved.to_json(), "about": {**saved.about, "full": True}}
    (folder / "report.json").write_text(json.dumps(full))
    assert run("report", folder, "--task", task_file).status == 0
    assert Card.load(folder).about["full"] is True
    assert run("prune", "--model", model, "--task", task_file, *PRUNE, "--no-clean").status == 0
    assert Card.load(folder).about["full"] is False


@pytest.mark.filterwarnings("default")
def test_prune_without_the_card(run: Run, model: Path, task_file: Path) -> None:
    result = run("prune", "--model", model, "--task", task_file, *PRUNE, "--no-clean", "--no-report")
    assert result.status == 0
    assert "report card" not in result.out
    assert not (model / "circuits" / "closing" / "report.json").exists()


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("key", [None, "nodes", "circuit_data"])
def test_somebody_elses_nodes(run: Run, model: Path, task_file: Path, nodes_file: Path, key: str | None) -> None:
    if key is not None:
        nodes_file.write_text(json.dumps({key: json.loads(nodes_file.read_text()), "more": 1}))
    result = run("report", nodes_file, "--model", model, "--task", task_file, "--target-loss", 5, "--json")
    assert result.status == 0
    card = Card.from_json(json.loads(result.out))
    assert card.about["nodes"] == 3
    assert card.about["by_hand"] is True
    assert "attribution" in card.row("faithfulness").sentence or card.row("faithfulness").value is None
    assert not (nodes_file.parent / "report.json").exists()


def test_what_is_refused(run: Run, model: Path, task_file: Path, nodes_file: Path, tmp_path: Path) -> None:
    flags = ["--model", model, "--task", task_file]
    assert "holds nodes only: say of which --model, and for which --task" in one_line(run("report", nodes_file))
    assert "no circuit at" in one_line(run("report", tmp_path))
    assert "in a folder that does not exist" in one_line(run("report", tmp_path, "--html", tmp_path / "a" / "b.html"))
    assert "--ablation is for a .json file of nodes" in one_line(run("report", tmp_path, "--ablation", "zero"))
    for content, message in (
        ("[1, 2]", "expected an object of channels by site"),
        ("{}", "holds no node"),
        ('{"0.attn.q": []}', "holds no node"),
        ('{"0.attn.q": "three"}', "0.attn.q is three; expected a list of whole numbers"),
        ('{"0.attn.q": [1.5]}', "expected a list of whole numbers"),
        ('{"0.attn.x": [1]}', "nodes.json: '0.attn.x' is no site of this model's nodes"),
        ('{"0.attn.q": [99999]}', "not 99999"),
        ("{", "is not valid JSON"),
    ):
        nodes_file.write_text(content)
        assert message in one_line(run("report", nodes_file, *flags))
