"""Models that ship are found by name, never written to, and a folder of the user's own of that name comes first."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from small_models import randomised, small

from sparse_circuits import checkpoint, shipped
from sparse_circuits.circuits import means
from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.circuits.means import Means, means_for
from sparse_circuits.circuits.node_sets import read_nodes
from sparse_circuits.circuits.nodes import NodeSpace
from sparse_circuits.corpus.packed import PackedCorpus
from sparse_circuits.errors import InputError
from sparse_circuits.model import GPT
from sparse_circuits.tasks import TASKS

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GPT:
    """A model that ships as `tiny`, seen from an empty working folder."""
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "package")
    checkpoint.save(randomised(small(vocab_size=300), dtype=torch.float32), tmp_path / "package" / "tiny")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return checkpoint.load("tiny")


def test_a_name_finds_the_model(tiny: GPT) -> None:
    assert shipped.names() == ["tiny"]
    assert tiny.folder == shipped.FOLDER / "tiny"
    assert shipped.name_of(tiny.folder) == "tiny"
    assert checkpoint.model_hash(checkpoint.load(Path("tiny"))) == checkpoint.model_hash(tiny)


def test_a_folder_of_that_name_wins(tiny: GPT) -> None:
    checkpoint.save(randomised(small(), dtype=torch.float32), "tiny")
    own = checkpoint.load("tiny")
    assert own.folder == Path("tiny")
    assert shipped.name_of(Path("tiny")) is None
    assert shipped.writable(Path("tiny")) == Path("tiny")


def test_a_folder_of_that_name_without_a_model_does_not(tiny: GPT, shipped_circuit: Circuit) -> None:
    """`prune` makes one in runs/, for its results."""
    Path("tiny/circuits/for_while").mkdir(parents=True)
    Path("tiny/for_while").mkdir()
    assert checkpoint.load("tiny").folder == shipped.FOLDER / "tiny"
    assert Circuit.load("tiny/for_while").nodes == shipped_circuit.nodes
    assert read_nodes(shipped_circuit.space, "tiny/for_while") == shipped_circuit.nodes


def test_a_circuit_is_no_model(tiny: GPT, shipped_circuit: Circuit) -> None:
    with pytest.raises(InputError, match=r"writes it; that is a circuit of tiny$"):
        checkpoint.load("tiny/for_while")


@pytest.mark.parametrize("name", ["tinny", "."])
def test_an_unknown_name_is_told_which_there_are(tiny: GPT, name: str) -> None:
    with pytest.raises(InputError) as refused:
        checkpoint.load(name)
    message = str(refused.value)
    assert message.startswith(f"no model at {name}: expected a folder with config.json, model.safetensors and")
    assert message.endswith("; did you mean 'tiny'? the models that ship are tiny") == (name == "tinny")
    shutil.rmtree(shipped.FOLDER)
    with pytest.raises(InputError, match="no models ship with this installation" if name == "tinny" else "no model at"):
        checkpoint.load(name)


def test_results_go_to_the_working_folder(tiny: GPT) -> None:
    assert shipped.writable(shipped.FOLDER / "tiny") == Path("runs/tiny")
    assert shipped.writable(shipped.FOLDER / "other") == shipped.FOLDER / "other"


def test_it_brings_its_means(tiny: GPT, packed_corpus: PackedCorpus) -> None:
    assert tiny.folder is not None
    tiny.tokenizer = packed_corpus.tokenizer
    with pytest.raises(InputError, match="give a packed corpus"):
        means_for(tiny, None, 100)
    total = NodeSpace(tiny.config).total
    brought = Means(torch.arange(total).float(), torch.ones(total), 7)
    means.write_means(tiny.folder / means.FILE, brought, "the hash of another model")
    with pytest.raises(InputError, match="give a packed corpus"):
        means_for(tiny, None, 100)
    means.write_means(tiny.folder / means.FILE, brought, checkpoint.model_hash(tiny))
    assert torch.equal(means_for(tiny, None, 100).values, brought.values)
    assert means_for(tiny, None, 100).tokens == 7
    before = {path: path.stat().st_mtime_ns for path in tiny.folder.iterdir()}
    measured = means_for(tiny, packed_corpus, 100)
    assert not torch.equal(measured.values, brought.values)
    kept = means.read_means(Path("runs/tiny") / means.FILE, checkpoint.model_hash(tiny))
    assert kept is not None
    assert torch.equal(kept.values, measured.values)
    assert {path: path.stat().st_mtime_ns for path in tiny.folder.iterdir()} == before


def test_a_circuit_names_its_model_not_where_it_lies(tiny: GPT, tmp_path: Path) -> None:
    total = NodeSpace(tiny.config).total
    circuit = Circuit(
        tiny, TASKS["for_while"], {"0.mlp.post_act": (3,)}, Means(torch.ones(total), torch.ones(total), 1)
    )
    circuit.save(tmp_path / "circuit")
    assert json.loads((tmp_path / "circuit" / "circuit.json").read_text())["model"]["folder"] == "tiny"
    assert Circuit.load(tmp_path / "circuit").nodes == circuit.nodes


@pytest.fixture
def shipped_circuit(tiny: GPT) -> Circuit:
    """A circuit that ships with `tiny`."""
    total = NodeSpace(tiny.config).total
    means_of = Means(torch.ones(total), torch.ones(total), 1)
    circuit = Circuit(tiny, TASKS["for_while"], {"0.mlp.post_act": (3,)}, means_of)
    circuit.save(shipped.FOLDER / "tiny" / "circuits" / "for_while")
    return circuit


def test_a_circuit_is_found_by_name(tiny: GPT, shipped_circuit: Circuit) -> None:
    assert shipped.circuits("tiny") == ["for_while"]
    found = Circuit.load("tiny/for_while")
    assert found.nodes == shipped_circuit.nodes
    assert found.model.folder == shipped.FOLDER / "tiny"
    assert shipped.writable(shipped.locate_circuit("tiny/for_while")) == Path("runs/tiny/shipped/for_while")
    [listed] = shipped.listing()
    assert listed["circuits"] == ["for_while"]


def test_a_circuit_folder_of_that_name_wins(tiny: GPT, shipped_circuit: Circuit) -> None:
    own = Circuit(tiny, TASKS["for_while"], {"0.mlp.post_act": (4,)}, shipped_circuit.means)
    own.save("tiny/for_while")
    assert Circuit.load("tiny/for_while", tiny).nodes == own.nodes
    assert shipped.writable(shipped.locate_circuit("tiny/for_while")) == Path("tiny/for_while")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("tiny/for_whale", "; did you mean tiny/for_while? those of tiny that ship are for_while"),
        ("tiny/quotes", "; those of tiny that ship are for_while"),
        ("tinny/for_while", ""),
    ],
)
def test_an_unknown_circuit_is_told_which_there_are(shipped_circuit: Circuit, name: str, hint: str) -> None:
    with pytest.raises(InputError) as refused:
        Circuit.load(name)
    assert str(refused.value).endswith("as `prune` writes it" + hint)


def test_listing_them_loads_no_torch() -> None:
    program = (
        "import sys; from sparse_circuits.__main__ import main; main(['models']); sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout
