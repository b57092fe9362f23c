"""A bridge comes back from its folder as it was, and ties only the pair it was made for."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_bridges import model, scales, shape, tokens, unlike

from sparse_circuits import checkpoint
from sparse_circuits.bridges.bridge import Bridge, Maps
from sparse_circuits.bridges.config import BridgeConfig, Terms
from sparse_circuits.errors import InputError
from sparse_circuits.model import GPT
from sparse_circuits.tokenizer import Tokenizer


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A bridge whose two models lie in folders, in that of its sparse one."""
    bridge = unlike()
    checkpoint.save(bridge.dense, tmp_path / "dense")
    checkpoint.save(bridge.sparse, tmp_path / "sparse")
    bridge.save(tmp_path / "sparse")
    return tmp_path / "sparse"


def test_it_comes_back_from_its_folder(saved: Path) -> None:
    bridge, again = unlike(), Bridge.load(saved)
    h = bridge.dense.residual(tokens(), "1.resid_in")
    assert torch.equal(bridge.encode("1.resid_in", h), again.encode("1.resid_in", h))
    s = bridge.sparse.residual(tokens(), "final_resid")
    assert torch.equal(bridge.decode("final_resid", s), again.decode("final_resid", s))
    assert again.scales is not None
    assert torch.equal(again.scales.sparse, scales(5).sparse)
    assert again.scales.tokens == 1000
    assert not any(p.requires_grad for p in again.dense.parameters())
    moved = saved.rename(saved.parent / "elsewhere")
    assert Bridge.load(moved).sparse.folder == moved  # the sparse model is found beside it


def test_a_full_disk_leaves_the_bridge_that_was_there(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: object) -> None:
        path.write_bytes(b"half of it")
        raise InputError(f"cannot write {path}: No space left on device")

    before = sorted((path.name, path.read_bytes()) for path in saved.iterdir())
    monkeypatch.setattr("sparse_circuits.bridges.bridge.checkpoint.write_tensors", full)
    with pytest.raises(InputError, match=f"cannot write {saved}/bridge"):
        Bridge.load(saved).save(saved)
    assert sorted((path.name, path.read_bytes()) for path in saved.iterdir()) == before


def test_the_encoder_keeps_its_largest_channels_and_the_decoder_is_linear() -> None:
    bridge = unlike(topk=0.25)
    h = torch.randn(2, 3, 10, generator=torch.Generator().manual_seed(1))
    full = bridge.maps.encoders[2](h)
    kept = bridge.encode("1.resid_in", h)
    assert set((kept != 0).sum(-1).flatten().tolist()) == {3}
    least = kept.abs().masked_fill(kept == 0, torch.inf).amin(-1, keepdim=True)
    assert bool((full.abs()[kept == 0].view(2, 3, 9) <= least).all())
    assert torch.equal(kept[kept != 0], full[kept != 0])
    a, b = torch.randn(2, 12), torch.randn(2, 12)
    zero = bridge.decode("0.resid_mid", torch.zeros(2, 12))
    together = bridge.decode("0.resid_mid", a + b)
    torch.testing.assert_close(together + zero, bridge.decode("0.resid_mid", a) + bridge.decode("0.resid_mid", b))
    unit = bridge.decode("0.resid_mid", torch.eye(12)[4].expand(2, 12)) - zero
    torch.testing.assert_close(bridge.direction("0.resid_mid", 4), unit[0].detach())


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"n_layer": 3}, "the dense model has 2 layers, the sparse one 3; .*give --n-layer 2"),
        ({"vocab_size": 300}, "a vocabulary of 257 tokens, the sparse one of 300; .*corpus --tokenizer"),
        ({"block_size": 32}, "reads 32 positions, the dense one only 24; give --block-size 24"),
    ],
)
def test_models_that_do_not_fit_are_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        Bridge(model(), GPT(shape(**changes)))


def test_models_of_other_tokenizers_are_refused() -> None:
    other = model()
    other.tokenizer = Tokenizer.train(["b c b c"] * 9, 258)
    with pytest.raises(InputError, match="different tokenizers"):
        Bridge(model(), other)


def test_maps_of_another_pair_are_refused() -> None:
    with pytest.raises(InputError, match="of another pair"):
        Bridge(model(), model(1), Maps(12, 10, 5))


def edit_json(**values: Any) -> Callable[[Path], object]:
    def edit(folder: Path) -> None:
        path = folder / "bridge.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return edit


def edit_maps(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], object]:
    def edit(folder: Path) -> None:
        tensors, _ = checkpoint.read_tensors(folder / "bridge.safetensors")
        change(tensors)
        checkpoint.write_tensors(folder / "bridge.safetensors", tensors)

    return edit


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda folder: (folder / "bridge.json").unlink(), "no bridge at"),
        (lambda folder: (folder / "bridge.json").write_text("{"), "is not valid JSON"),
        (lambda folder: (folder / "bridge.json").write_text("[]"), "is damaged"),
        (lambda folder: (folder / "bridge.safetensors").write_bytes(b"x" * 20), "cannot read"),
        (edit_json(format=9), "format 9; this version reads format 1"),
        (edit_json(dense={"hash": "0" * 64, "folder": None}), "it does not say where its dense model is"),
        (
            edit_json(sparse={"hash": "0" * 64, "folder": "."}),
            "belongs to the sparse model 000000000000, the one given",
        ),
        (edit_maps(lambda t: t.pop("encoders.1.bias")), "the bridge lacks 'encoders.1.bias'"),
        (edit_maps(lambda t: t.update(more=torch.zeros(1))), "the bridge has an unknown 'more'"),
        (edit_json(encoder_topk=float("inf")), "is damaged (OverflowError"),
        (edit_maps(lambda t: t.update({"scales.dense": torch.ones(1)})), "scales.dense is not one size a site"),
        (edit_maps(lambda t: t["scales.sparse"].fill_(torch.nan)), "scales.sparse is not one size a site"),
        (edit_maps(lambda t: t["decoders.0.weight"].fill_(torch.nan)), "decoders.0.weight is not all finite"),
    ],
)
def test_damaged_files_are_refused_in_one_line(saved: Path, damage: Callable[[Path], object], told: str) -> None:
    damage(saved)
    with pytest.raises(InputError) as caught:
        Bridge.load(saved)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_bridge_of_another_pair_is_refused(saved: Path) -> None:
    with pytest.raises(InputError, match="a bridge ties only the pair it was trained on"):
        Bridge.load(saved, dense=model(7, d_model=10, n_head=2))
    with pytest.raises(InputError, match="belongs to the sparse model"):
        Bridge.load(saved, sparse=model(7))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"encoder_topk": 0.0}, "encoder_topk is 0.0; it must be above 0 and at most 1"),
        ({"sites_per_step": 0}, "sites_per_step is 0; it must be at least 1"),
        ({"train_sparse": False}, "give --start"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        BridgeConfig(**changes)


def test_weights_of_terms_are_checked() -> None:
    with pytest.raises(InputError, match=r"encode_kl is -1\.0; a weight must be finite and not negative"):
        Terms(encode_kl=-1.0)
    with pytest.raises(InputError, match="every term has weight 0"):
        Terms(**{item.name: 0.0 for item in dataclasses.fields(Terms)})
