"""`card` writes a page and its data, `--ship` a folder that needs nothing else, `models` and `demo` use what ships."""

import json
import shutil
from pathlib import Path

import pytest
from command_line import Run, one_line
from small_runs import Finished

from sparse_circuits import checkpoint, presets, shipped
from sparse_circuits.card import card as card_module
from sparse_circuits.circuits.config import PruneConfig
from sparse_circuits.circuits.means import means_for, write_means
from sparse_circuits.config import LoopConfig
from sparse_circuits.corpus.packed import PackedCorpus
from sparse_circuits.tasks import TASKS

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(autouse=True)
def few_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking the twenty tasks is most of what a card of a tiny model takes."""
    monkeypatch.setattr(card_module, "PAIRS", 12)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of shipped models, seen from an empty working folder."""
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "package")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "package"


@pytest.fixture
def small_sparse(run: Run, package: Path, finished: Finished, packed_corpus: PackedCorpus) -> Path:
    """A trained model that ships."""
    flags = ["--model", finished.config.out, "--corpus", packed_corpus.folder, "--tokens", 2000]
    assert run("card", *flags, "--ship", package / "small-sparse").status == 0
    return package / "small-sparse"


def test_a_card_beside_a_model(run: Run, model: Path, packed_corpus: PackedCorpus) -> None:
    flags = ["--model", model, "--corpus", packed_corpus.folder, "--tokens", 2000, "--machine", "an abacus"]
    result = run("card", *flags, "--real", packed_corpus.folder)
    assert result.status == 0
    card = json.loads((model / "card.json").read_text())
    page = (model / "card.md").read_text()
    described = json.loads((model / "train.json").read_text())
    assert card["model"]["hash"] == checkpoint.model_hash(checkpoint.load(model))
    assert card["recipe"]["tokens"] == described["tokens"] == 30 * 8 * 32
    assert card["recipe"]["machine"] == "an abacus"
    assert card["loss"] == card["real"]["loss"]
    assert card["loss"]["tokens"] == 1984
    assert card["density"]["blocks"] == pytest.approx(0.25)
    assert card["corpus"]["trained_on"] is True
    assert [row["name"] for row in card["tasks"]] == list(TASKS)
    failed = {row["name"] for row in card["tasks"] if "skipped" in row or row["loss"] > 0.15}
    assert {row["name"] for row in card["above"]} == failed
    assert all(row["why"] for row in card["above"])
    for text in (
        "an abacus",
        f"| {card['loss']['model']:.4f} | {card['loss']['bigram']:.4f} |",
        "real code",
        "mlp out",
    ):
        assert text in page
    assert all(f"`{row['name']}`" in page and row["why"] in page for row in card["above"])
    assert f"{model / 'card.md'}: validation loss {card['loss']['model']:.3f}" in result.out


def test_a_card_of_another_corpus_says_so(run: Run, model: Path, packed_corpus: PackedCorpus, tmp_path: Path) -> None:
    corpus = Path(shutil.copytree(packed_corpus.folder, tmp_path / "corpus"))
    manifest = json.loads((corpus / "manifest.json").read_text())
    manifest["splits"]["train"]["sha256"] = "0" * 64
    (corpus / "manifest.json").write_text(json.dumps(manifest))
    assert run("card", "--model", model, "--corpus", corpus, "--tokens", 64, "--out", tmp_path / "c.md").status == 0
    assert "is NOT the one the model was trained on" in (tmp_path / "c.md").read_text()
    assert not (model / "card.md").exists()


@pytest.mark.parametrize("change", [{"seed": 1}, {"validation_fraction": 0.2}, {"validation_fraction": 0.01}])
def test_real_code_that_may_have_been_trained_on_is_told(
    run: Run, model: Path, packed_corpus: PackedCorpus, tmp_path: Path, change: dict[str, float]
) -> None:
    real = Path(shutil.copytree(packed_corpus.folder, tmp_path / "real"))
    manifest = json.loads((real / "manifest.json").read_text())
    (real / "manifest.json").write_text(json.dumps(manifest | change))
    flags = ["--model", model, "--corpus", packed_corpus.folder, "--real", real, "--tokens", 64]
    assert run("card", *flags, "--out", tmp_path / "c.md").status == 0
    held_out = change == {"validation_fraction": 0.01}
    assert json.loads((tmp_path / "c.json").read_text())["real"]["held_out"] is held_out
    assert ("NOT held out for certain" in (tmp_path / "c.md").read_text()) is not held_out


def test_what_a_card_cannot_be_made_of(run: Run, model: Path, packed_corpus: PackedCorpus) -> None:
    flags = ["card", "--model", model, "--corpus", packed_corpus.folder]
    assert "expected a file that ends in .md" in one_line(run(*flags, "--out", "card.json"))
    assert "--tokens is 0" in one_line(run(*flags, "--tokens", 0))
    assert "choose another --ship" in one_line(run(*flags, "--ship", model))
    (model / "train.json").unlink()
    assert "has no train.json" in one_line(run(*flags, "--ship", model.parent / "new"))
    assert not (model.parent / "new").exists()


def test_what_ships_needs_nothing_else(run: Run, finished: Finished, small_sparse: Path) -> None:
    names = ["card.json", "card.md", "config.json", "means.safetensors", "model.safetensors", "tokenizer.json"]
    assert sorted(path.name for path in small_sparse.iterdir()) == [*names, "train.json"]
    before, after = checkpoint.load(finished.config.out), checkpoint.load("small-sparse")
    table = before.state_dict()["bigram_table"]
    assert after.state_dict()["bigram_table"].equal(table.half().float())
    assert after.blocks[0].mlp.c_fc.bias.equal(before.blocks[0].mlp.c_fc.bias)
    train = json.loads((small_sparse / "train.json").read_text())
    assert str(finished.config.out.parent) not in (small_sparse / "train.json").read_text()
    assert train["config"]["corpus"] == str(Path("runs/corpus"))
    assert json.loads((small_sparse / "card.json").read_text())["loss"]["model"] == pytest.approx(
        train["validation_loss"], abs=0.1
    )
    shutil.rmtree(Path("runs"), ignore_errors=True)
    assert means_for(after, None, 10).tokens > 1000


def test_models_lists_what_ships(run: Run, package: Path, small_sparse: Path) -> None:
    card = json.loads((small_sparse / "card.json").read_text())
    shutil.copytree(small_sparse, package / "without-card")
    (package / "without-card" / "card.json").unlink()
    lines = run("models").out.splitlines()
    solved = len(card["tasks"]) - len(card["above"])
    figures = [f"{card['loss'][key]:.3f}" for key in ("model", "bigram")]
    assert lines[1].split()[:4] == ["small-sparse", *figures, f"{card['density']['all']:.4f}"]
    assert lines[1].split()[4:7] == ["2", "x", "16"]
    assert lines[1].split()[-2:] == [f"{solved}/20", "0"]
    assert lines[2].split()[:3] == ["without-card", "no", "card"]
    first, second = json.loads(run("models", "--json").out)
    assert (first["card"], second["card"]) == (card, None)
    assert first["bytes"] == sum(path.stat().st_size for path in small_sparse.iterdir())
    shutil.rmtree(package)
    assert "no models ship with this installation" in run("models").out
    assert run("models", "--json").out == "[]\n"


PRUNE = ["--target-loss", 5, "--steps", 2, "--batch-pairs", 4, "--eval-pairs", 4]


def test_nothing_is_written_into_the_package(run: Run, small_sparse: Path, task_file: Path, packed_corpus) -> None:
    before = {path: path.stat().st_mtime_ns for path in small_sparse.rglob("*")}
    pruned = run("prune", "--model", "small-sparse", "--task", task_file, *PRUNE)
    assert f"saved to {Path('runs/small-sparse/circuits/closing')}\n" in pruned.out
    assert (Path("runs/small-sparse/circuits/closing") / "circuit.json").exists()
    carded = run("card", "--model", "small-sparse", "--corpus", packed_corpus.folder, "--tokens", 64)
    assert carded.out.startswith(f"{Path('runs/small-sparse/card.md')}: ")
    assert run("tasks", "--model", "small-sparse", "--task", task_file).status == 0
    assert run("generate", "--model", "small-sparse", "--max-new-tokens", 2).status == 0
    assert {path: path.stat().st_mtime_ns for path in small_sparse.rglob("*")} == before


def test_the_demo_prunes_the_model_that_ships(run: Run, small_sparse: Path, task_file: Path, monkeypatch) -> None:
    def prune() -> PruneConfig:
        return PruneConfig(target_loss=5.0, batch_pairs=4, eval_pairs=4, loop=LoopConfig(steps=2))

    monkeypatch.setattr(presets, "shipped_prune", prune)
    before = {path: path.stat().st_mtime_ns for path in small_sparse.rglob("*")}
    first = run("demo", "--task", task_file)
    assert first.status == 0
    assert "the circuit is in runs/demo/circuits/closing, the model in small-sparse" in first.out
    assert "generate --model small-sparse" in first.out
    assert sorted(path.name for path in Path("runs/demo").iterdir()) == ["circuits"]
    assert {path: path.stat().st_mtime_ns for path in small_sparse.rglob("*")} == before
    second = run("demo", "--task", task_file, "--json")
    assert second.err == ""
    assert json.loads(second.out)["model"]["folder"] == "small-sparse"


def test_the_demo_prunes_again_when_another_model_ships(
    run: Run, small_sparse: Path, task_file: Path, monkeypatch
) -> None:
    config = PruneConfig(target_loss=5.0, batch_pairs=4, eval_pairs=4, loop=LoopConfig(steps=2))
    monkeypatch.setattr(presets, "shipped_prune", lambda: config)
    assert run("demo", "--task", task_file).status == 0
    other = checkpoint.load(small_sparse)
    other.blocks[0].mlp.c_fc.bias.data += 0.01
    before = checkpoint.model_hash(checkpoint.load(small_sparse))
    means = means_for(checkpoint.load(small_sparse), None, 10)
    checkpoint.save(other, small_sparse)
    write_means(small_sparse / "means.safetensors", means, checkpoint.model_hash(other))
    again = run("demo", "--task", task_file, "--json")
    assert again.status == 0
    assert "a circuit that is there is not used" in again.err
    assert json.loads(again.out)["model"]["hash"] not in (before, "")
