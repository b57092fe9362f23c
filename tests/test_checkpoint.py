"""A model comes back from its folder to the bit, a damaged folder is refused by name, and the hash knows a model."""

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_models import randomised, small, some_tokens
from torch import Tensor

from sparse_circuits.checkpoint import load, model_hash, read_tensors, round_dense_, save, write_tensors
from sparse_circuits.config import GPTConfig
from sparse_circuits.corpus.packed import PackedCorpus
from sparse_circuits.errors import InputError
from sparse_circuits.model import GPT
from sparse_circuits.sparsity import project_topk_

pytestmark = pytest.mark.usefixtures("one_thread")


def sparse_model(config: GPTConfig, density: float = 0.05) -> GPT:
    model = randomised(config, dtype=torch.float32)
    for parameter in model.parameters():
        if parameter.ndim == 2:
            project_topk_(parameter, max(1, int(density * parameter.numel())))
    return model


def bits(model: GPT) -> dict[str, Tensor]:
    return {name: tensor.detach().view(torch.int32) for name, tensor in model.state_dict().items()}


def assert_same_bits(one: GPT, other: GPT) -> None:
    assert list(bits(one)) == list(bits(other))
    for name, tensor in bits(one).items():
        assert torch.equal(bits(other)[name], tensor), name


CONFIGS = [
    small(),
    small(tied_embeddings=True),
    small(bigram_table="fixed"),
    small(bigram_table="none", bias=False, sink=False),
    small(positions="sinusoidal_concat", d_position=5),
    small(positions="learned", norm="layer", norm_bias=True),
    small(d_head=5, d_mlp=7, abs_topk=None),
]


@pytest.mark.parametrize("sparse", [True, False], ids=["sparse", "dense"])
@pytest.mark.parametrize("config", CONFIGS)
def test_a_model_comes_back_to_the_bit(config: GPTConfig, sparse: bool, tmp_path: Path) -> None:
    model = sparse_model(config) if sparse else randomised(config, dtype=torch.float32)
    save(model, tmp_path / "new" / "folder")
    loaded = load(tmp_path / "new" / "folder")
    assert loaded.config == model.config
    assert_same_bits(loaded, model)
    assert model_hash(loaded) == model_hash(model)
    logits = [each(some_tokens(config)).detach().view(torch.int32) for each in (model, loaded)]
    assert torch.equal(*logits)
    trained = [[name for name, p in each.named_parameters() if p.requires_grad] for each in (model, loaded)]
    assert trained[0] == trained[1]


@pytest.mark.parametrize("value", [-0.0, float("nan"), float("inf"), 1e-45, torch.finfo(torch.float32).max])
def test_odd_values_survive(value: float, tmp_path: Path) -> None:
    model = sparse_model(small())
    with torch.no_grad():
        model.blocks[0].mlp.c_fc.weight[3, 4] = value
        model.bigram_table.view(-1)[7] = value  # type: ignore[union-attr]
        model.blocks[1].mlp.c_fc.bias[0] = value
    # A NaN with a payload, and an all-zero matrix beside it.
    model.blocks[0].mlp.c_proj.weight.data.view(torch.int32)[0, 0] = 0x7FC12345
    model.blocks[1].attn.c_attn.weight.data.zero_()
    save(model, tmp_path)
    assert_same_bits(load(tmp_path), model)


def test_sparse_matrices_are_stored_sparsely(tmp_path: Path) -> None:
    config = small(d_model=128, n_head=8, vocab_size=64)
    save(sparse_model(config, density=1 / 100), tmp_path / "sparse")
    save(randomised(config, dtype=torch.float32), tmp_path / "dense")
    sizes = [(tmp_path / kind / "model.safetensors").stat().st_size for kind in ("sparse", "dense")]
    matrices = 2 * 12 * 128 * 128 + 2 * 64 * 128 + 64 * 64
    assert sizes[1] > 4 * matrices
    assert sizes[0] < 4 * matrices * (2 / 100) + 30_000


def dtypes(path: Path) -> dict[str, torch.dtype]:
    return {name: tensor.dtype for name, tensor in load_file(path / "model.safetensors").items()}


def test_what_half_precision_holds_is_stored_in_it(tmp_path: Path) -> None:
    model = randomised(small(), dtype=torch.float32)
    save(model, tmp_path)
    assert set(dtypes(tmp_path).values()) == {torch.float32}
    size = (tmp_path / "model.safetensors").stat().st_size
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.copy_(tensor.half())
    save(model, tmp_path)
    assert set(dtypes(tmp_path).values()) == {torch.float16}
    assert (tmp_path / "model.safetensors").stat().st_size < 0.6 * size
    assert_same_bits(load(tmp_path), model)
    assert model_hash(load(tmp_path, sparse=True)) == model_hash(model)
    # One entry that needs a seventeenth bit, one too large, one too small: the whole tensor stays as it is.
    for value in (1 + 2**-11, 65520.0, 2.0**-26):
        with torch.no_grad():
            model.wte.weight[2, 3] = value
        save(model, tmp_path)
        found = dtypes(tmp_path)
        assert {name for name, dtype in found.items() if dtype == torch.float32} == {"wte.weight"}
        assert_same_bits(load(tmp_path), model)


def test_rounding_touches_dense_matrices_only() -> None:
    model = sparse_model(small(bigram_table="fixed"))  # a fixed table is no parameter, and stays dense
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    round_dense_(model)
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"bigram_table"}
    table = model.state_dict()["bigram_table"]
    assert torch.equal(table, before["bigram_table"].half().float())
    dense = randomised(small(), dtype=torch.float32)
    dense.wte.weight.data[0, 0] = 1e6  # no half is so large
    before = {name: tensor.clone() for name, tensor in dense.state_dict().items()}
    round_dense_(dense)
    changed = {name for name, tensor in dense.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {name for name, tensor in before.items() if tensor.ndim == 2} - {"wte.weight"}


def test_files_of_before_half_precision_load(tmp_path: Path) -> None:
    model = sparse_model(small())
    save(model, tmp_path)
    path = tmp_path / "model.safetensors"
    as_before = {
        name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in load_file(path).items()
    }
    save_file(as_before, path)
    assert_same_bits(load(tmp_path), model)


def test_a_model_in_other_precision_is_stored_in_float32(tmp_path: Path) -> None:
    model = randomised(small(), dtype=torch.bfloat16)
    save(model, tmp_path)
    loaded = load(tmp_path)
    assert all(tensor.dtype == torch.float32 for tensor in loaded.state_dict().values())
    assert model_hash(loaded) == model_hash(model)
    assert_same_bits(loaded, model.float())


def test_the_tokenizer_comes_along(packed_corpus: PackedCorpus, tmp_path: Path) -> None:
    model = GPT(small(vocab_size=packed_corpus.tokenizer.vocab_size))
    model.tokenizer = packed_corpus.tokenizer
    save(model, tmp_path)
    loaded = load(str(tmp_path))
    assert loaded.tokenizer is not None
    assert loaded.tokenizer.hash == packed_corpus.tokenizer.hash
    assert (model.folder, loaded.folder) == (tmp_path, tmp_path)
    assert not loaded.training
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors", "tokenizer.json"]


def test_a_tokenizer_larger_than_the_model_is_refused(packed_corpus: PackedCorpus, tmp_path: Path) -> None:
    save(GPT(small()), tmp_path)
    packed_corpus.tokenizer.save(tmp_path / "tokenizer.json")
    with pytest.raises(InputError, match="the tokenizer has 300 tokens, the model 11"):
        load(tmp_path)


def test_saving_again_replaces_the_model(tmp_path: Path) -> None:
    save(randomised(small(), seed=1, dtype=torch.float32), tmp_path)
    second = sparse_model(small(n_layer=1))
    save(second, tmp_path)
    assert_same_bits(load(tmp_path), second)


# --- the hash ---


def test_the_hash_changes_with_every_tensor() -> None:
    model = randomised(small(bigram_table="fixed"), dtype=torch.float32)
    seen = {model_hash(model)}
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.view(-1)[-1] *= -1
            seen.add(model_hash(model))
        model.wte.weight[0, 0] = 0.0
        seen.add(model_hash(model))
        model.wte.weight[0, 0] = -0.0  # no other model: a sparse twin, whose hash is the same, has no such thing
        seen.add(model_hash(model))
    assert len(seen) == 1 + len(model.state_dict()) + 1
    assert all(len(digest) == 64 for digest in seen)


@pytest.mark.parametrize("change", [{"activation": "relu"}, {"abs_topk": 0.5}, {"block_size": 9}, {"n_head": 4}])
def test_the_hash_changes_with_the_config(change: dict[str, Any]) -> None:
    model = randomised(small(sink=False), dtype=torch.float32)
    before = model_hash(model)
    other = GPT(dataclasses.replace(model.config, d_head=None, **change))
    other.load_state_dict(model.state_dict())
    assert model_hash(other) != before


def test_the_hash_is_of_what_the_model_is_not_of_where_it_lies(tmp_path: Path) -> None:
    model = sparse_model(small())
    before = model_hash(model)
    save(model, tmp_path / "here")
    assert model_hash(load(tmp_path / "here")) == before
    assert model_hash(model.train().requires_grad_(False)) == before


# --- damage ---


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def edit(change: Callable[[dict[str, Tensor]], object]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path)

    return damage


def set_positions(first: int) -> Callable[[dict[str, Tensor]], object]:
    def change(tensors: dict[str, Tensor]) -> None:
        gaps = tensors["wte.weight:gaps"].long()
        gaps[0] = first
        tensors["wte.weight:gaps"] = gaps

    return change


DAMAGE: list[tuple[Callable[[Path], object], str]] = [
    (Path.unlink, "no such file"),
    (cut, "it may be cut short"),
    (lambda path: path.write_bytes(b""), "it may be cut short"),
    (lambda path: path.write_bytes(b"PK\x03\x04 another program's file"), "cannot read"),
    (edit(lambda tensors: tensors.pop("ln_f.weight")), "the tensor 'ln_f.weight' is missing"),
    (edit(lambda tensors: tensors.pop("wte.weight:shape")), "the tensor 'wte.weight', stored in parts, is damaged"),
    (edit(lambda tensors: tensors.pop("wte.weight:values")), "the tensor 'wte.weight', stored in parts, is damaged"),
    (edit(set_positions(10**6)), "the tensor 'wte.weight', stored in parts, is damaged"),
    (edit(set_positions(-1)), "the tensor 'wte.weight', stored in parts, is damaged"),
    (
        edit(lambda tensors: tensors.update({"wte.weight:values": torch.ones(1)})),
        "the tensor 'wte.weight', stored in parts, is damaged",
    ),
    (edit(lambda tensors: tensors.update({"extra": torch.ones(1)})), "unknown tensor 'extra'"),
    (edit(lambda tensors: tensors.update({"ln_f.weight": torch.ones(13)})), r"ln_f.weight has shape \(13,\)"),
    (
        edit(lambda tensors: tensors.update({"wte.weight:shape": torch.tensor([12, 11])})),
        r"wte.weight has shape \(12, 11\), config.json says \(11, 12\)",
    ),
    (
        edit(lambda tensors: tensors.update({"wte.weight:shape": torch.tensor([11.0, 12.0])})),
        "the tensor 'wte.weight', stored in parts, is damaged",
    ),
    *(
        (
            edit(lambda tensors, name=name, dtype=dtype: tensors.update({name: tensors[name].to(dtype)})),
            f"{name} is stored as {dtype}; expected float32 or float16",
        )
        for name in ("ln_f.weight", "wte.weight:values")
        for dtype in (torch.float64, torch.bfloat16, torch.int64, torch.bool, torch.complex64, torch.float8_e4m3fn)
    ),
    (
        edit(lambda tensors: tensors.update({"wte.weight:gaps": torch.tensor(5)})),
        "the tensor 'wte.weight', stored in parts, is damaged",
    ),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGE)
def test_a_damaged_weights_file_is_named(damage: Callable[[Path], object], message: str, tmp_path: Path) -> None:
    save(sparse_model(small()), tmp_path)
    path = tmp_path / "model.safetensors"
    damage(path)
    with pytest.raises(InputError, match=message) as refused:
        load(tmp_path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


CONFIG_DAMAGE = [
    ("", "is not valid JSON"),
    ('{"format": 1, "model": {"n_lay', "is not valid JSON"),
    ("[]", "expected format 1"),
    ('{"format": 2, "model": {}}', "expected format 1"),
    ('{"format": 1}', "expected a JSON object for GPTConfig"),
    ('{"format": 1, "model": {"n_layers": 1}}', "unknown key 'n_layers'; did you mean 'n_layer'"),
    ('{"format": 1, "model": {"n_layer": 0}}', "n_layer is 0"),
]


@pytest.mark.parametrize(("content", "message"), CONFIG_DAMAGE)
def test_a_damaged_config_is_named(content: str, message: str, tmp_path: Path) -> None:
    save(GPT(small()), tmp_path)
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(InputError, match=message) as refused:
        load(tmp_path)
    assert str(tmp_path / "config.json") in str(refused.value)


def test_weights_of_another_config_are_refused(tmp_path: Path) -> None:
    save(GPT(small()), tmp_path)
    described = json.loads((tmp_path / "config.json").read_text())
    described["model"]["n_layer"] = 1
    (tmp_path / "config.json").write_text(json.dumps(described))
    with pytest.raises(InputError, match=r"unknown tensor 'h\.1\..*config\.json describes another model"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["absent", "file", "empty"])
def test_what_is_no_model_folder_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=f"no model at .*{name}: expected a folder with config.json"):
        load(tmp_path / name)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot make the folder"):
        save(GPT(small()), tmp_path / "file" / "model")


def test_tensors_and_metadata_come_back(tmp_path: Path) -> None:
    tensors = {"a": torch.randn(3, 4).T, "step": torch.tensor(7), "none": torch.zeros(0, 2)}
    write_tensors(tmp_path / "file", tensors, {"seconds": "1.5"})
    found, metadata = read_tensors(tmp_path / "file")
    assert metadata == {"seconds": "1.5"}
    assert sorted(found) == sorted(tensors)
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())


def test_loading_does_not_import_the_compiler_of_pytorch(tmp_path: Path) -> None:
    """Making layers on the meta device normally does: it takes more memory than PyTorch's own libraries."""
    save(sparse_model(small(n_layer=1)), tmp_path)
    program = (
        "import sys, sparse_circuits as sc; model = sc.load(sys.argv[1], sparse=True);"
        "print(*{'torch._dynamo', 'sympy', 'triton'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("", "")


def test_an_embedding_stored_sparsely_though_it_is_dense_loads(tmp_path: Path) -> None:
    model = GPT(small())
    save(model, tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    weight = tensors.pop("wte.weight").float()
    gaps = torch.arange(weight.numel()).diff(prepend=torch.zeros(1, dtype=torch.int64))
    parts = {"values": weight.flatten(), "gaps": gaps, "shape": torch.tensor(weight.shape)}
    save_file(tensors | {f"wte.weight:{name}": part for name, part in parts.items()}, path)
    for sparse in (False, True):
        assert load(tmp_path, sparse=sparse).wte.weight.equal(model.wte.weight)
