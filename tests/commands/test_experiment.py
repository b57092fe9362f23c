"""`experiment` takes a circuit or any nodes, prints tables and JSON, and says in one line what it lacks."""

import json
import shutil
from pathlib import Path

import pytest
from command_line import Run, one_line

from sparse_circuits import checkpoint
from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.circuits.edges import edges
from sparse_circuits.circuits.node_sets import read_nodes
from sparse_circuits.tasks import get_task

PRUNE = ["--target-loss", 5, "--eval-pairs", 4, "--mean-tokens", 100, "--method", "magnitude", "--no-clean"]
NODES = ["--nodes", "0.mlp.post_act:1-9", "*.attn.act_in:*"]


@pytest.fixture(scope="module")
def scene(finished, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model, a task of one's own and a circuit folder."""
    from sparse_circuits import kernels
    from sparse_circuits.__main__ import main

    folder = tmp_path_factory.mktemp("experiment")
    model = Path(shutil.copytree(finished.config.out, folder / "model"))
    task = folder / "closing.jsonl"
    pairs = [
        {"a": f"x{n} = [{n}", "b": f"x{n} = ({n}", "right_a": "]", "right_b": ")", "split": split}
        for n, split in enumerate(["prune"] * 4 + ["calibrate"] * 4 + ["report"] * 4)
    ]
    task.write_text("\n".join(map(json.dumps, pairs)))
    with kernels.use("reference"):
        flags = ["--model", model, "--task", task, *PRUNE, "--score-pairs", 4]
        assert main([str(flag) for flag in ["prune", *flags]]) == 0
    return {"model": model, "task": task, "circuit": model / "circuits" / "closing-magnitude"}


def circuit_of(scene: dict[str, Path]) -> list[object]:
    return ["--circuit", scene["circuit"], "--task", scene["task"]]


def test_a_baseline_says_how_its_nodes_were_ranked(scene: dict[str, Path]) -> None:
    described = json.loads((scene["circuit"] / "circuit.json").read_text())
    assert described["found"]["scores"]["method"] == "magnitude"
    assert described["found"]["losses"]["calibrate"]["circuit"] <= 5


def test_losses_of_a_circuit_and_of_nodes(run: Run, scene: dict[str, Path]) -> None:
    given = run("experiment", "losses", *circuit_of(scene), "--json")
    assert given.err == ""
    found = json.loads(given.out)
    described = json.loads((scene["circuit"] / "circuit.json").read_text())["found"]["losses"]["report"]
    assert found["kept"]["value"] == pytest.approx(described["circuit"], abs=1e-5)
    assert found["model"]["value"] == pytest.approx(described["model"], abs=1e-5)
    assert found["empty"]["value"] == pytest.approx(described["empty"], abs=1e-5)
    mine = ["--model", scene["model"], "--task", scene["task"], *NODES, "--pairs", 4]
    other = json.loads(run("experiment", "losses", *mine, "--json").out)
    assert other["model"] == found["model"]
    assert other["kept"] != found["kept"]
    assert "all but the set" in run("experiment", "losses", *mine).out
    # Other nodes with a circuit's means, task and pairs.
    changed = json.loads(run("experiment", "losses", *circuit_of(scene), *NODES, "--json").out)
    stored = Circuit.load(scene["circuit"], task=get_task(str(scene["task"])))
    mine_there = Circuit(stored.model, stored.task, read_nodes(stored.space, NODES[1:]), stored.means, stored.config)
    assert changed["kept"]["value"] == pytest.approx(mine_there.loss("report"), abs=1e-5)
    zero = json.loads(run("experiment", "losses", *circuit_of(scene), "--ablation", "zero", "--json").out)
    assert zero["empty"] != found["empty"]
    assert zero["model"] == found["model"]


@pytest.mark.parametrize(
    ("experiment", "shown", "keys"),
    [
        (["inverse", "--samples", 3], "random sets (3)", {"model", "removed", "random", "as_bad"}),
        (["exchange", "--samples", 2], "all but the set", {"a", "b", "both", "rest", "random"}),
        (["exchange", "--within", "circuit", "--samples", 0], "B into A", {"a", "b", "both", "rest", "random"}),
        (["binarise", "--steps", 2], "two levels, learned", {"losses", "nodes"}),
        (["text", "--max-tokens", 64], "rise from removing", {"tokens", "losses", "keeping", "removing"}),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_experiments(run: Run, scene: dict[str, Path], experiment: list, shown: str, keys: set[str]) -> None:
    flags = ["experiment", *experiment, *circuit_of(scene), *NODES]
    assert shown in run(*flags).out
    result = run(*flags, "--json")
    assert set(json.loads(result.out)) == keys
    assert "NaN" not in result.out


def test_edges(run: Run, scene: dict[str, Path]) -> None:
    flags = ["experiment", "edges", *circuit_of(scene), *NODES]
    rows = json.loads(run(*flags, "--json").out)
    model = checkpoint.load(scene["model"])
    nodes = {"0.mlp.post_act": range(1, 10)} | {f"{layer}.attn.act_in": range(16) for layer in range(2)}
    assert rows[-1]["source"] == "all"
    assert rows[-1]["inside"] == len(edges(model, nodes)) == 0
    assert rows[-1]["leaving"] > 0
    assert "within the set" in run(*flags).out


def test_other_tasks(run: Run, scene: dict[str, Path]) -> None:
    flags = ["experiment", "tasks", *circuit_of(scene), "--tasks", scene["task"], "class_init"]
    rows = json.loads(run(*flags, "--json").out)
    assert [row["task"] for row in rows] == ["closing", "class_init"]
    assert rows[0]["losses"]["kept"]["value"] > 0
    shown = run(*flags).out
    assert "closing" in shown
    assert ("skipped: " in shown) == any(row["losses"] is None for row in rows)


def test_overlap(run: Run, scene: dict[str, Path], tmp_path: Path) -> None:
    described = json.loads((scene["circuit"] / "circuit.json").read_text())
    folders = [tmp_path / name for name in "abc"]
    for folder, channels in zip(folders, ([0, 1, 2], [2, 3], []), strict=True):
        folder.mkdir()
        (folder / "circuit.json").write_text(json.dumps({**described, "nodes": {"0.mlp.post_act": channels}}))
    flags = ["experiment", "overlap", "--circuits", *folders[:2]]
    (found,) = json.loads(run(*flags, "--json").out)
    expected = {"first": 3, "second": 2, "shared": 1, "expected": 3 * 2 / 64, "jaccard": 0.25}
    assert found["sites"] == {"all": expected, "0.mlp.post_act": expected}
    shown = run(*flags).out
    assert "Jaccard" in shown
    assert "0.250" in shown
    assert "0.000" in run(*flags, folders[2]).out
    described["model"]["hash"] = "f" * 64
    (folders[1] / "circuit.json").write_text(json.dumps(described))
    assert "the circuits are of different models" in one_line(run(*flags))


def test_what_is_lacking(run: Run, scene: dict[str, Path], tmp_path: Path) -> None:
    cases = {
        "which nodes? give --circuit FOLDER, or --model": ["losses"],
        "which nodes? give": ["losses", "--model", scene["model"], "--task", scene["task"]],
        "no circuit at nowhere": ["inverse", "--circuit", "nowhere"],
        "task of your own, 'closing': name its": ["losses", "--circuit", scene["circuit"]],
        "0.mlp.post_act:99999": ["losses", *circuit_of(scene), "--nodes", "0.mlp.post_act:99999"],
        "task 'closing' has no 'ood' split": ["losses", *circuit_of(scene), "--split", "ood"],
        "0 random sets asked for": ["inverse", *circuit_of(scene), "--samples", "0"],
        "give --circuits two or more": ["overlap", "--circuits", scene["circuit"]],
        "no corpus in nowhere": ["text", *circuit_of(scene), "--corpus", "nowhere"],
        "steps is 0": ["binarise", *circuit_of(scene), "--steps", 0],
    }
    for message, flags in cases.items():
        assert message in one_line(run("experiment", *flags))
