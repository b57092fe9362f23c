"""Results go to standard output, for people or as JSON; everything else to standard error."""

import json
import shlex
import shutil
import sys
from io import StringIO
from pathlib import Path

import pytest
from command_line import Run, one_line

from sparse_circuits import presets, shipped
from sparse_circuits.circuits.config import PruneConfig
from sparse_circuits.config import GPTConfig, LoopConfig, SparsityConfig, TrainConfig
from sparse_circuits.corpus.config import CorpusConfig
from sparse_circuits.corpus.packed import PackedCorpus


def test_generation_is_the_seeds(run: Run, model: Path) -> None:
    flags = ["generate", "--model", model, "--prompt", "x = ", "--max-new-tokens", 12]
    first = run(*flags, "--seed", 3)
    assert first.status == 0
    assert first.out.startswith("x = ")
    assert first.err == ""
    assert run(*flags, "--seed", 3) == first
    assert run(*flags, "--seed", 4).out != first.out
    likeliest = run(*flags, "--temperature", 0)
    assert likeliest.out == run(*flags, "--temperature", 0, "--seed", 9).out


def test_generation_as_json(run: Run, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = ["generate", "--model", model, "--max-new-tokens", 5, "--samples", 3, "--json"]
    given = json.loads(run(*flags, "--prompt", "def é(\n").out)
    assert given["prompt"] == "def é(\n"
    assert len(given["continuations"]) == 3
    monkeypatch.setattr(sys, "stdin", StringIO("while x"))
    assert json.loads(run(*flags, "--prompt", "-").out)["prompt"] == "while x"
    # The model reads 32 positions: of a longer prompt the end.
    end = " 12345" * 40
    ends = [json.loads(run(*flags, "--prompt", start + end).out)["continuations"] for start in ("", "x = (")]
    assert ends[0] == ends[1]
    assert len(json.loads(run(*flags, "--prompt", "").out)["continuations"]) == 3


def test_tasks_as_json_and_for_reading(run: Run, model: Path, task_file: Path) -> None:
    everything = json.loads(run("tasks", "--json").out)
    assert "single_double_quote" in [row["name"] for row in everything]
    assert all(set(row) == {"name", "description", "splits"} for row in everything)
    for row in everything:
        assert f"{row['name']}: {row['description']}" in run("tasks").out
    one = json.loads(run("tasks", "--task", "for_while", "--n", 2, "--split", "prune", "--json").out)[0]
    assert len(one["pairs"]) == 2
    assert set(one["pairs"][0]) == {"prompt_a", "prompt_b", "completion_a", "completion_b", "template"}
    assert "losses" not in one
    shown = run("tasks", "--task", task_file, "--n", 4)
    assert "'x8 = [8' -> ']'" in shown.out
    assert "'x8 = (8' -> ')'" in shown.out


@pytest.mark.filterwarnings("default")
def test_tasks_of_a_model(run: Run, model: Path, task_file: Path) -> None:
    result = run("tasks", "--task", task_file, "--model", model, "--json")
    losses = json.loads(result.out)[0]["losses"]
    assert set(losses) == {"prune", "calibrate", "report"}
    assert all(0 < loss < 20 for loss in losses.values())
    # There are fewer pairs than are usually asked.
    assert result.err.splitlines()
    assert all(line.startswith("warning: task 'closing' has 4 distinct pairs") for line in result.err.splitlines())
    assert f"report {losses['report']:.3f}" in run("tasks", "--task", task_file, "--model", model).out


@pytest.mark.filterwarnings("default")
def test_corpus_as_json_and_for_reading(run: Run, tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    for number in range(30):
        (tmp_path / "code" / f"{number}.py").write_text(f"x = {number}\nprint(x)\n")
    (tmp_path / "code" / "latin.py").write_bytes(b"name = '\xe9'\n")
    flags = ["corpus", "--folder", tmp_path / "code", "--vocab-size", 260]
    result = run(*flags, "--out", tmp_path / "a", "--json")
    assert result.status == 0
    manifest = json.loads(result.out)
    assert manifest["sources"][0]["documents"] == 30
    assert manifest["sources"][0]["left_out"] == {"not in the declared encoding": 1}
    assert "warning: " in result.err
    shown = run(*flags, "--out", tmp_path / "b").out
    assert f"{tmp_path / 'b'}: {manifest['tokens']:,} tokens, vocabulary 260" in shown
    assert "30 documents" in shown
    assert "1 not in the declared encoding" in shown


def test_training_as_json(run: Run, packed_corpus: PackedCorpus, tmp_path: Path) -> None:
    shape = ["--n-layer", 1, "--d-model", 16, "--n-head", 2, "--block-size", 16, "--batch-size", 2, "--density", 0.5]
    flags = ["train", "--corpus", packed_corpus.folder, *shape, "--steps", 2, "--eval-tokens", 100]
    result = run(*flags, "--out", tmp_path / "m", "--json")
    assert result.status == 0
    assert json.loads(result.out) == json.loads((tmp_path / "m" / "train.json").read_text())
    assert "parameters, density" in result.err
    assert "already holds a" in one_line(run(*flags, "--out", tmp_path / "m"))
    again = run(*flags, "--out", tmp_path / "n")
    assert again.out.count("\n") == 1
    assert f"{tmp_path / 'n'}: validation loss" in again.out
    assert (tmp_path / "n" / "model.safetensors").read_bytes() == (tmp_path / "m" / "model.safetensors").read_bytes()


def test_resuming_keeps_the_settings(run: Run, model: Path) -> None:
    assert "is finished; nothing is left to resume" in one_line(run("train", "--resume", "--out", model))
    described = json.loads((model / "train.json").read_text())
    (model / "train.json").write_text(json.dumps({k: v for k, v in described.items() if k != "validation_loss"}))
    message = one_line(run("train", "--resume", "--out", model, "--batch-size", 9))
    assert f"--batch-size is 9, but the run in {model} was started with 8; a resumed run keeps its settings" in message
    assert "--n-layer is 3" in one_line(run("train", "--resume", "--out", model, "--n-layer", 3, "--batch-size", 8))


PRUNE = ["--target-loss", 5, "--steps", 2, "--batch-pairs", 4, "--eval-pairs", 4, "--mean-tokens", 1000]


def test_pruning_as_json_and_for_reading(run: Run, model: Path, task_file: Path, tmp_path: Path) -> None:
    result = run("prune", "--model", model, "--task", task_file, *PRUNE, "--json")
    assert result.status == 0
    circuit = json.loads(result.out)
    assert circuit == json.loads((model / "circuits" / "closing" / "circuit.json").read_text())
    assert circuit["task"]["name"] == "closing"
    assert circuit["found"]["losses"]["calibrate"]["circuit"] <= 5
    assert circuit["sizes"]["nodes"] == sum(map(len, circuit["nodes"].values()))
    elsewhere = run("prune", "--model", model, "--task", task_file, *PRUNE, "--out", tmp_path / "c", "--no-clean")
    assert "closing: loss in nats" in elsewhere.out
    view = shlex.join(["sparse-circuits", "view", str(tmp_path / "c"), "--task", str(task_file)])
    assert elsewhere.out.endswith(f"saved to {tmp_path / 'c'}\nsee it: {view}\n")
    assert "Traceback" not in elsewhere.err
    assert (tmp_path / "c" / "circuit.safetensors").exists()


@pytest.mark.parametrize("ships", [True, False])
def test_the_demo_goes_the_whole_way_once(run: Run, task_file: Path, tmp_path: Path, monkeypatch, ships: bool) -> None:
    def corpus(folder: Path) -> CorpusConfig:
        return CorpusConfig(out=folder, idioms=0.1, vocab_size=300)

    def train(corpus: Path, out: Path) -> TrainConfig:
        shape = GPTConfig(block_size=32, n_layer=1, d_model=16, n_head=2)
        loop = LoopConfig(steps=2, learning_rate=0.1)
        return TrainConfig(corpus, out, shape, SparsityConfig(density=0.5), loop, batch_size=2, eval_tokens=100)

    def prune() -> PruneConfig:
        loop = LoopConfig(steps=2)
        return PruneConfig(target_loss=5.0, batch_pairs=4, eval_pairs=4, mean_tokens=1000, loop=loop)

    monkeypatch.setattr(presets, "demo_corpus", corpus)
    monkeypatch.setattr(presets, "demo_train", train)
    monkeypatch.setattr(presets, "demo_prune", prune)
    # Where a model ships, that is asked for.
    monkeypatch.setattr(shipped, "names", lambda: [presets.DEMO_MODEL] if ships else [])
    flags = ["demo", "--out", tmp_path / "demo", "--task", task_file, *["--train"] * ships]
    first = run(*flags)
    assert first.status == 0
    assert [line[:3] for line in first.err.splitlines() if line[1:3] == "/3"] == ["1/3", "2/3", "3/3"]
    folder = tmp_path / "demo" / "model" / "circuits" / "closing"
    assert f"the circuit is in {folder}" in first.out
    written = (folder / "circuit.json").stat().st_mtime_ns
    second = run(*flags, "--json")
    assert second.err == ""
    assert json.loads(second.out) == json.loads((folder / "circuit.json").read_text())
    assert (folder / "circuit.json").stat().st_mtime_ns == written
    # A step whose result is gone is done again, the others are not.
    shutil.rmtree(folder)
    third = run(*flags)
    assert [line[:3] for line in third.err.splitlines() if line[1:3] == "/3"] == ["3/3"]
