"""`bridge` and `steer`: what they print and leave behind, and one line for what they cannot do."""

import json
from pathlib import Path

import pytest
import torch
from command_line import Run, one_line
from small_runs import Finished

from sparse_circuits import checkpoint
from sparse_circuits.bridges.bridge import Bridge
from sparse_circuits.bridges.scales import measure_scales
from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.circuits.means import Means
from sparse_circuits.circuits.nodes import NodeSpace
from sparse_circuits.corpus.packed import PackedCorpus
from sparse_circuits.tasks import get_task

TINY = "--batch-size 2 --block-size 32 --n-layer 2 --d-model 16 --n-head 2 --steps 2 --eval-tokens 64 --density 0.5"


@pytest.fixture(scope="module")
def bridged(finished: Finished, packed_corpus: PackedCorpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained model bridged to itself by maps that change nothing, in its own folder."""
    model = checkpoint.load(finished.config.out)
    folder = tmp_path_factory.mktemp("bridged") / "model"
    checkpoint.save(model, folder)
    (folder / "train.json").write_text((finished.config.out / "train.json").read_text())
    dense = checkpoint.load(folder).requires_grad_(False)
    bridge = Bridge(dense, model, encoder_topk=None)
    with torch.no_grad():
        for parameter in bridge.maps.parameters():
            parameter.copy_(torch.eye(16) if parameter.ndim == 2 else torch.zeros(16))
    bridge.scales = measure_scales(bridge, packed_corpus, 320)
    bridge.save(folder)
    return folder


def test_bridge_trains_checks_and_leaves_both(
    run: Run, finished: Finished, packed_corpus: PackedCorpus, tmp_path: Path
) -> None:
    out = tmp_path / "bridge"
    where = ["--dense", finished.config.out, "--corpus", packed_corpus.folder, "--out", out]
    result = run(
        "bridge", *where, *TINY.split(), "--bigram-table", "fixed", "--check-tokens", 64, "--switches", 2, "--json"
    )
    assert result.status == 0, result.err
    found = json.loads(result.out)
    assert [row["site"] for row in found["sites"]] == [
        "0.resid_in",
        "0.resid_mid",
        "1.resid_in",
        "1.resid_mid",
        "final_resid",
    ]
    assert "each step takes 3.5 passes of the sparse model and 3.5 of the dense one" in result.err
    assert json.loads((out / "check.json").read_text()) == found
    assert (out / "check.svg").read_text().startswith("<svg")
    again = run("bridge", "--check", "--out", out, "--check-tokens", 64, "--switches", 0)
    assert again.status == 0, again.err
    assert "hybrid passes by the site of the switch" in " ".join(again.out.split())
    assert "the worst hybrid pass is" in again.out
    finished_run = run("bridge", "--resume", "--out", out)
    assert "is finished; nothing is left to resume" in one_line(finished_run)


def test_steer_draws_curves_and_ablates(run: Run, bridged: Path, task_file: Path, tmp_path: Path) -> None:
    which = ["--bridge", bridged, "--task", task_file, "--nodes", "0.attn.act_in:1,2"]
    picture = tmp_path / "steer.svg"
    few = ["--strengths", "0", "1", "--pairs", 2, "--samples", 1]
    result = run("steer", "curve", *which, *few, "--no-side-effects", "--picture", picture, "--json")
    assert result.status == 0, result.err
    found = json.loads(result.out)
    assert found["curves"]["strengths"] == [0.0, 1.0]
    assert found["curves"]["nodes"] == [["0.attn.act_in", 1], ["0.attn.act_in", 2]]
    assert found["curves"]["curves"][0]["name"] == "nodes"
    assert picture.read_text().startswith("<svg")
    table = run("steer", "curve", *which, *few, "--no-side-effects").out
    assert "probability of the other side's answer" in " ".join(table.split())


@pytest.mark.filterwarnings("default:task .* distinct pairs")
def test_a_circuit_of_a_task_of_ones_own_is_steered_by_with_its_file(run: Run, bridged: Path, task_file: Path) -> None:
    model = checkpoint.load(bridged)
    total = NodeSpace(model.config).total
    means = Means(torch.zeros(total), torch.zeros(total), 1)
    Circuit(model, get_task(task_file), {"0.attn.act_in": (1, 2)}, means).save(bridged / "circuits" / "own")
    which = ["--bridge", bridged, "--circuit", bridged / "circuits" / "own"]
    few = ["--strengths", "0", "1", "--pairs", 2, "--samples", 1, "--no-side-effects"]
    refused = run("steer", "curve", *which, *few)
    assert refused.status == 2
    assert "a task of your own, 'closing': name its .jsonl or .py file with --task" in one_line(refused)
    found = json.loads(run("steer", "curve", *which, "--task", task_file, *few, "--json").out)
    assert found["curves"]["nodes"][0][0] == "0.attn.act_in"
    # another task than the circuit's is asked, not taken for its own
    other = task_file.with_stem("other")
    other.write_text(task_file.read_text())
    assert "a task of your own, 'closing'" in one_line(run("steer", "curve", *which, "--task", other, *few))


def test_steer_generates_plainly_and_steered(run: Run, bridged: Path) -> None:
    which = ["--bridge", bridged, "--nodes", "1.mlp.act_in:*", "--prompt", "x = ", "--max-new-tokens", 8]
    found = json.loads(run("steer", "generate", *which, "--by", 50, "--json").out)
    assert found["plain"].startswith("x = ")
    assert found["steered"].startswith("x = ")
    assert found["plain"] != found["steered"]
    still = json.loads(run("steer", "generate", *which, "--by", 50, "--strength", 0, "--json").out)
    assert still["steered"] == found["plain"] == still["plain"]
    assert "--- steered" in run("steer", "generate", *which).out


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ("steer curve --bridge {bridged} --task {task} --nodes 9.attn.act_in:1", "no site of nodes matches"),
        ("steer curve --bridge {bridged} --task {task} --nodes 0.attn.act_in:99", "0..15"),
        ("steer curve --bridge {bridged} --task {task} --nodes 0.attn.q:1", "no channel that a sublayer reads"),
        ("steer curve --bridge {bridged} --task {task}", "which nodes? give --nodes"),
        ("steer curve --bridge {bridged} --nodes 0.attn.act_in:1", "which task?"),
        ("steer curve --bridge {bridged} --task {task} --nodes 0.attn.act_in:1 --strengths 1 much", "much"),
        ("steer curve --bridge {bridged} --task {task} --nodes 0.attn.act_in:1 --strengths nan", "nan is no strength"),
        ("steer curve --bridge {bridged} --task {task} --nodes 0.attn.act_in:1 --pairs 0", "0 pairs asked for"),
        ("steer curve --bridge {bridged} --task {task} --nodes 0.attn.act_in:1 --picture x.png", "ends in .svg"),
        ("steer curve --bridge {tmp} --task {task} --nodes 0.attn.act_in:1", "no bridge at"),
        ("steer ablate --bridge {bridged} --task {task} --nodes 0.attn.q:1", "none of the circuit's nodes"),
        ("steer generate --bridge {bridged} --nodes 0.attn.act_in:1 --by inf", "inf is no strength"),
        ("bridge --check --out {tmp}", "no bridge at"),
        ("bridge --check --resume --out {tmp}", "give one of them"),
        ("bridge --resume --out {tmp}", "holds no run to resume"),
        ("bridge --resume --out {tmp} --ce 2", "keeps its settings"),
        ("bridge --corpus {tmp} --out {tmp}/x", "no corpus in"),
        ("bridge --ce -1", "ce is -1.0; a weight must be finite"),
        (
            "bridge --dense {bridged} --corpus {corpus} --out {tmp}/x --n-layer 3 --block-size 32",
            "the dense model has 2 layers",
        ),
        ("bridge --dense {tmp} --out {tmp}/x", "no model at"),
        ("bridge --preset none", "unknown preset 'none'; choose among small"),
    ],
)
def test_bad_input_is_one_line(
    run: Run, bridged: Path, task_file: Path, packed_corpus: PackedCorpus, tmp_path: Path, flags: str, told: str
) -> None:
    places = {"bridged": bridged, "task": task_file, "tmp": tmp_path, "corpus": packed_corpus.folder}
    assert told in one_line(run(*flags.format(**places).split()))
