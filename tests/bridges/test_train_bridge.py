"""A bridge trains by the loop of pretraining: it resumes to the bit, and its folder is a model's with the bridge."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import ctrl_c, interrupt_after, log_of, settings

from sparse_circuits import checkpoint
from sparse_circuits.bridges.bridge import Bridge
from sparse_circuits.bridges.config import BridgeConfig, Terms
from sparse_circuits.bridges.train import BridgeTraining, train_bridge
from sparse_circuits.config import GPTConfig, SparsityConfig
from sparse_circuits.corpus.packed import PackedCorpus
from sparse_circuits.distributed import ALONE
from sparse_circuits.errors import InputError
from sparse_circuits.model import GPT
from sparse_circuits.train import train

STEPS = 8


@pytest.fixture(scope="module")
def dense(packed_corpus: PackedCorpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dense model nobody trained."""
    shape = GPTConfig(
        vocab_size=300, block_size=32, n_layer=2, d_model=12, n_head=2, bigram_table="fixed", abs_topk=None
    )
    model = GPT(shape, seed=5)
    model.tokenizer = packed_corpus.tokenizer
    folder = tmp_path_factory.mktemp("dense")
    checkpoint.save(model, folder)
    return folder


def config(corpus: PackedCorpus, dense: Path, out: Path, **changes: Any) -> BridgeConfig:
    usual = {"loop": {"learning_rate": 0.01, "warmup": 0.0}, "batch_size": 2, "eval_every": 4, "eval_tokens": 64}
    train_config = settings(corpus, out, steps=STEPS, **(usual | changes.pop("train", {})))
    return BridgeConfig(dense=dense, train=train_config, **({"fit_tokens": 128} | changes))


@pytest.fixture(scope="module")
def trained(packed_corpus: PackedCorpus, dense: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run never stopped."""
    out = tmp_path_factory.mktemp("bridge") / "whole"
    train_bridge(config(packed_corpus, dense, out), progress=False)
    return out


def test_the_folder_is_a_models_with_the_bridge_in_it(trained: Path, dense: Path) -> None:
    visible = sorted(path.name for path in trained.iterdir() if not path.name.startswith("."))
    usual = ["config.json", "model.safetensors", "progress.jsonl", "tokenizer.json", "train.json"]
    assert visible == ["bridge.json", "bridge.safetensors", *usual]
    sparse, bridge = checkpoint.load(trained), Bridge.load(trained)
    assert checkpoint.model_hash(bridge.sparse) == checkpoint.model_hash(sparse)
    weight = sparse.h[0].mlp.c_fc.weight
    assert int(weight.count_nonzero()) == weight.numel() // 4
    assert checkpoint.model_hash(bridge.dense) == checkpoint.model_hash(checkpoint.load(dense))  # it stayed as it was
    assert bridge.scales is not None
    assert bridge.scales.tokens > 0
    described = json.loads((trained / "train.json").read_text())
    assert described["bridge"]["terms"] == dataclasses.asdict(Terms())
    assert "validation_loss" in described


def test_each_term_is_logged_at_each_site(trained: Path) -> None:
    first, last = [line for line in log_of(trained) if "loss" in line]
    names = {name.split("/")[0] for name in last}
    assert {"ce", "kl", "encode_nmse", "decode_nmse", "encode_kl", "decode_kl", "density"} <= names
    assert sum("/" in name for name in last) == 4 * 5
    total = last["ce"] + last["kl"] + sum(value for name, value in last.items() if "/" in name)
    assert last["loss"] == pytest.approx(total, rel=1e-5)
    assert last["decode_nmse/0.resid_in"] < first["decode_nmse/0.resid_in"]


def test_a_run_that_was_stopped_ends_with_the_same_bits(
    packed_corpus: PackedCorpus, dense: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = config(packed_corpus, dense, tmp_path / "run")
    with monkeypatch.context() as patch:
        interrupt_after(3, patch, ctrl_c)
        with pytest.raises(KeyboardInterrupt):
            train_bridge(wanted, progress=False)
    again = BridgeConfig(train=dataclasses.replace(BridgeConfig().train, out=tmp_path / "run"))
    train_bridge(again, resume=True, progress=False)
    for name in ("model.safetensors", "bridge.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (trained / name).read_bytes(), name
    assert log_of(tmp_path / "run") == log_of(trained)


def test_bridges_alone_can_be_trained_to_a_model_that_is_there(
    packed_corpus: PackedCorpus, dense: Path, trained: Path, tmp_path: Path
) -> None:
    wanted = config(packed_corpus, dense, tmp_path / "run", start=trained, train_sparse=False, sites_per_step=2)
    bridge = train_bridge(wanted, progress=False)
    assert checkpoint.model_hash(bridge.sparse) == checkpoint.model_hash(checkpoint.load(trained))
    before = Bridge.load(trained).maps.decoders[0].weight
    assert not torch.equal(bridge.maps.decoders[0].weight, before)
    last = [line for line in log_of(tmp_path / "run") if "loss" in line][-1]
    assert sum("_kl/" in name for name in last) == 4
    assert sum("_nmse/" in name for name in last) == 10


def test_a_model_that_is_there_is_trained_on(
    packed_corpus: PackedCorpus, dense: Path, trained: Path, tmp_path: Path
) -> None:
    sparsity = SparsityConfig(density=0.25, density_start=0.0, density_end=0.0)
    wanted = config(packed_corpus, dense, tmp_path / "run", start=trained, train={"sparsity": sparsity})
    bridge = train_bridge(wanted, progress=False)
    weight = bridge.sparse.h[1].attn.c_attn.weight
    assert int(weight.count_nonzero()) == weight.numel() // 4
    assert not torch.equal(weight, checkpoint.load(trained).h[1].attn.c_attn.weight)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"train": {"model": {}}, "dense": "nowhere"}, "no model at nowhere"),
        ({"sites_per_step": 6}, "sites_per_step is 6, and there are 5 residual sites"),
    ],
)
def test_what_cannot_be_trained_is_refused(
    packed_corpus: PackedCorpus, dense: Path, tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    where = Path(changes.pop("dense", dense))
    with pytest.raises(InputError, match=told):
        train_bridge(config(packed_corpus, where, tmp_path / "run", **changes), progress=False)
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_another_depth_or_tokenizer_is_refused(packed_corpus: PackedCorpus, dense: Path, tmp_path: Path) -> None:
    wanted = config(packed_corpus, dense, tmp_path / "run")
    deeper = dataclasses.replace(wanted.train, model=dataclasses.replace(wanted.train.model, n_layer=3))
    with pytest.raises(InputError, match="the dense model has 2 layers, the sparse one 3"):
        train_bridge(dataclasses.replace(wanted, train=deeper), progress=False)
    with pytest.raises(InputError, match="was packed with another tokenizer than the dense model's"):
        train_bridge(dataclasses.replace(wanted, dense=Path("small-dense")), progress=False)


def test_runs_of_the_two_commands_are_not_mixed_up(
    packed_corpus: PackedCorpus, dense: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = config(packed_corpus, dense, tmp_path / "run")
    with monkeypatch.context() as patch:
        interrupt_after(2, patch, ctrl_c)
        with pytest.raises(KeyboardInterrupt):
            train_bridge(wanted, progress=False)
    with pytest.raises(InputError, match="was begun by bridge; continue it with `sparse-circuits bridge --resume`"):
        train(wanted.train, resume=True, progress=False)
    other = checkpoint.load(dense)
    with torch.no_grad():
        other.lm_head.weight.add_(1)
    checkpoint.save(other, tmp_path / "other")
    described = json.loads((tmp_path / "run" / "train.json").read_text())
    described["bridge"]["dense"] = str(tmp_path / "other")
    (tmp_path / "run" / "train.json").write_text(json.dumps(described))
    with pytest.raises(InputError, match="is not the dense model that the run in"):
        train_bridge(wanted, resume=True, progress=False)
    del described["bridge"]
    (tmp_path / "run" / "train.json").write_text(json.dumps(described))
    with pytest.raises(InputError, match="was begun by train"):
        train_bridge(wanted, resume=True, progress=False)


def test_a_step_in_the_form_for_gpus_is_the_same_step(packed_corpus: PackedCorpus, dense: Path, tmp_path: Path) -> None:
    steps = []
    for recordable in (False, True):
        made = config(packed_corpus, dense, tmp_path, terms=Terms(decode_kl=0.5))
        model = checkpoint.load(dense)
        training = BridgeTraining(made, model, None, packed_corpus, ALONE, resume=False, progress=False)
        form = training.objective.recordable(0)
        step = training.loop._replay(form) if recordable else training.loop._differentiate()
        steps.append((*step, {name: p.grad for name, p in training.objective.parameters().items()}))
    (loss, figures, rms, gradients), (other_loss, other_figures, other_rms, others) = steps
    assert loss == pytest.approx(other_loss, rel=1e-6)
    assert figures == pytest.approx(other_figures, rel=1e-6)
    assert len(figures) > 6
    assert other_rms == pytest.approx(rms, rel=1e-6)
    torch.testing.assert_close(gradients, others, rtol=1e-6, atol=1e-9)


def test_sites_drawn_anew_have_no_form_for_gpus(packed_corpus: PackedCorpus, dense: Path, tmp_path: Path) -> None:
    made = config(packed_corpus, dense, tmp_path, sites_per_step=2)
    training = BridgeTraining(made, checkpoint.load(dense), None, packed_corpus, ALONE, resume=False, progress=False)
    assert training.objective.recordable(0) is None
