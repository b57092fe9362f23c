"""What ships is found by name, rounded, bridged to a model that ships too, and its card says how good the bridge is."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from small_runs import settings

from sparse_circuits import checkpoint, shipped
from sparse_circuits.bridges.bridge import Bridge
from sparse_circuits.bridges.check import check
from sparse_circuits.bridges.config import BridgeConfig
from sparse_circuits.bridges.ship import ship_bridge
from sparse_circuits.bridges.train import train_bridge
from sparse_circuits.card.page import _bridge
from sparse_circuits.card.recipe import recipe
from sparse_circuits.circuits.experiment_tables import plain
from sparse_circuits.config import GPTConfig
from sparse_circuits.corpus.packed import PackedCorpus
from sparse_circuits.errors import InputError
from sparse_circuits.model import GPT


@pytest.fixture
def trained(packed_corpus: PackedCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bridge to a dense model that ships."""
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "package")
    dense = GPT(GPTConfig(vocab_size=300, block_size=32, n_layer=1, d_model=8, n_head=2, abs_topk=None), seed=1)
    dense.tokenizer = packed_corpus.tokenizer
    checkpoint.save(dense, tmp_path / "package" / "tiny-dense")
    train = settings(packed_corpus, tmp_path / "run", steps=1, batch_size=1, eval_tokens=32)
    train = dataclasses.replace(train, model=dataclasses.replace(train.model, n_layer=1))
    train_bridge(BridgeConfig(dense=Path("tiny-dense"), train=train), progress=False)
    return tmp_path / "run"


def test_it_ships_rounded_and_by_name(trained: Path, packed_corpus: PackedCorpus) -> None:
    made = ship_bridge(trained, packed_corpus, shipped.FOLDER / "bridged")
    again = Bridge.load("bridged")
    assert again.sparse.folder == shipped.FOLDER / "bridged"
    assert again.dense.folder == shipped.FOLDER / "tiny-dense"
    for name, parameter in again.maps.named_parameters():
        assert torch.equal(parameter, parameter.half().float()), name
        assert torch.equal(parameter, made.maps.get_parameter(name))
    stored, _ = checkpoint.read_tensors(shipped.FOLDER / "bridged" / "bridge.safetensors")
    assert stored["encoders.0.weight"].dtype == torch.float16
    written = (shipped.FOLDER / "bridged" / "train.json").read_text() + (
        shipped.FOLDER / "bridged" / "bridge.json"
    ).read_text()
    assert str(trained.parent) not in written  # nothing of this machine
    found = recipe(shipped.FOLDER / "bridged")
    assert found is not None
    assert found["command"].startswith("sparse-circuits bridge ")
    assert "--dense tiny-dense" in found["command"]


def test_a_bridge_to_a_model_nobody_has_does_not_ship(
    trained: Path, packed_corpus: PackedCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    described = json.loads((trained / "bridge.json").read_text())
    described["dense"]["folder"] = str(shipped.FOLDER / "tiny-dense")
    (trained / "bridge.json").write_text(json.dumps(described))
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "elsewhere")
    with pytest.raises(InputError, match="which does not ship; ship that one first"):
        ship_bridge(trained, packed_corpus, tmp_path / "out")


def test_the_card_tells_of_the_bridge(trained: Path, packed_corpus: PackedCorpus) -> None:
    found = check(Bridge.load(trained), packed_corpus, max_tokens=64, switches=2)
    page = _bridge({"dense": "tiny-dense", "check": plain(found)})
    assert "To the dense model `tiny-dense`, checked on 64 held-out tokens" in page
    assert "Passes that switch several times, 2 at random" in page
    for row in found.sites:
        loss = row.into_dense.value
        assert f"{loss:.3f} ({loss - found.dense.value:+.3f})" in page
