"""Released checkpoints of every kind come in, and what goes out is what the published code reads."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from released import OFFICIAL_FIELDS, TAKEN_OUT, released_logits
from safetensors.torch import save_file
from small_models import randomised, small, some_tokens
from torch import Tensor
from variants import variants

from sparse_circuits import checkpoint
from sparse_circuits.config import GPTConfig
from sparse_circuits.errors import InputError
from sparse_circuits.formats import openai
from sparse_circuits.formats.openai_config import RELEASED_DEFAULTS, TRAINING_FIELDS
from sparse_circuits.formats.openai_weights import model_from_released, model_to_released
from sparse_circuits.model import GPT
from sparse_circuits.tokenizer import Tokenizer


def made(config: GPTConfig, seed: int = 0) -> GPT:
    return randomised(config, seed, torch.float32)


def parts(config: GPTConfig) -> tuple[dict[str, Any], dict[str, Tensor]]:
    described, state = model_to_released(made(config))
    return described, {name: tensor.clone() for name, tensor in state.items()}


def assert_equal(one: GPT, other: GPT) -> None:
    assert one.config == other.config
    assert checkpoint.model_hash(one) == checkpoint.model_hash(other)
    trained = [[name for name, p in each.named_parameters() if p.requires_grad] for each in (one, other)]
    assert trained[0] == trained[1]


@settings(deadline=None, max_examples=60)
@given(variants(), st.integers(0, 99))
def test_what_goes_out_is_the_published_model_and_comes_back(changes: dict[str, Any], seed: int) -> None:
    config = small(**changes)
    model = made(config, seed)
    described, state = model_to_released(model)
    tokens = some_tokens(config)
    torch.testing.assert_close(released_logits(described, state, tokens), model(tokens), rtol=1e-4, atol=1e-5)
    back = model_from_released(json.loads(json.dumps(described)), state, "beeg_config.json")
    assert_equal(back, model)
    assert torch.equal(back(tokens), model(tokens))


@pytest.mark.parametrize("config", [small(), small(tied_embeddings=True, sink=False, positions="learned")])
def test_folders_come_back_to_the_bit(config: GPTConfig, tmp_path: Path) -> None:
    model = made(config)
    notes = openai.write(model, tmp_path / "new" / "folder")
    assert any("flash=True" in note for note in notes) == config.sink
    assert_equal(checkpoint.load(tmp_path / "new" / "folder"), model)
    state = torch.load(tmp_path / "new" / "folder" / "final_model.pt", weights_only=True)
    assert all(tensor.dtype == torch.float32 for tensor in state.values())
    fast = checkpoint.load(tmp_path / "new" / "folder", sparse=True)
    torch.testing.assert_close(fast(some_tokens(config)), model(some_tokens(config)), rtol=1e-4, atol=1e-5)


def test_a_sparse_twin_goes_out_as_its_model(tmp_path: Path) -> None:
    model = made(small())
    openai.write(model.sparsify(), tmp_path)
    assert_equal(checkpoint.load(tmp_path), model)


def test_the_tokenizer_comes_along(tmp_path: Path) -> None:
    tokenizer = Tokenizer.train(["for x in range(10):\n    print(x)\n"] * 3, 265)
    model = made(small(vocab_size=270))
    model.tokenizer = tokenizer
    openai.write(model, tmp_path)
    loaded = checkpoint.load(tmp_path)
    assert loaded.tokenizer is not None
    assert loaded.tokenizer.hash == tokenizer.hash
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.warns(UserWarning, match="the tokenizer is left out"):
        assert checkpoint.load(tmp_path).tokenizer is None


def test_our_config_has_the_fields_of_the_published_one() -> None:
    assert set(parts(small())[0]) <= OFFICIAL_FIELDS | {TAKEN_OUT}
    assert RELEASED_DEFAULTS.keys() | TRAINING_FIELDS >= OFFICIAL_FIELDS


OLD: dict[str, Callable[[dict[str, Any], dict[str, Tensor]], object]] = {
    "n_mlp": lambda config, state: config.update(n_mlp=config.pop("d_mlp")),
    "n_embd": lambda config, state: config.update(n_embd=config.pop("d_model")),
    "no final_logits_bias": lambda config, state: state.pop("final_logits_bias"),
    "attn.bias buffers": lambda config, state: state.update(
        {f"transformer.h.{i}.attn.bias": torch.ones(1, 1, 8, 8) for i in range(2)}
    ),
    "training fields": lambda config, state: config.update(dict.fromkeys(TRAINING_FIELDS - {"n_embd"} - set(config))),
    "prefix": lambda config, state: rename(state, "circuit_model."),
    "prefixes": lambda config, state: rename(state, "module._orig_mod."),
    "float16": lambda config, state: state.update({name: tensor.half() for name, tensor in state.items()}),
    "bfloat16": lambda config, state: state.update({name: tensor.bfloat16() for name, tensor in state.items()}),
    "float64": lambda config, state: state.update({name: tensor.double() for name, tensor in state.items()}),
    "defaults left out": lambda config, state: [config.pop(name) for name in ("d_head", "afrac", "dropout", "sink")],
    "null loctypes": lambda config, state: config.update(afrac_loctypes=None),
    "parameters": lambda config, state: state.update(
        {name: torch.nn.Parameter(tensor) for name, tensor in state.items()}
    ),
}


def rename(state: dict[str, Tensor], prefix: str) -> None:
    for name in list(state):
        state[prefix + name] = state.pop(name)


@pytest.mark.parametrize("change", OLD.values(), ids=OLD)
def test_old_and_odd_checkpoints_load(change: Callable[..., object], tmp_path: Path) -> None:
    described, state = parts(small(abs_topk=None))
    for tensor in state.values():
        tensor.copy_(tensor.bfloat16())  # which all precisions hold, up to 2**15
    state["final_logits_bias"].zero_()
    before = released_logits(described, state, some_tokens(small()))
    change(described, state)
    (tmp_path / "beeg_config.json").write_text(json.dumps(described))
    torch.save(state, tmp_path / "final_model.pt")
    model = checkpoint.load(tmp_path)
    assert all(tensor.dtype == torch.float32 for tensor in model.state_dict().values())
    tolerance = 1e-2 if state and next(iter(state.values())).dtype == torch.float16 else 1e-5
    torch.testing.assert_close(model(some_tokens(small())), before, rtol=tolerance, atol=tolerance)


def test_fields_nobody_knows_are_named() -> None:
    described, state = parts(small())
    described |= {"warp_drive": 3, "zeta": None}
    with pytest.warns(UserWarning, match="unknown fields warp_drive, zeta are ignored"):
        model_from_released(described, state, "beeg_config.json")
    assert_equal(model_from_released(described, state, "x", skipped=["warp_drive", "zeta"]), made(small()))


def test_tensors_nobody_knows_are_named() -> None:
    described, state = parts(small())
    state["transformer.h.0.attn.rotary"] = torch.zeros(3)
    with pytest.warns(UserWarning, match=r"unknown tensors h\.0\.attn\.rotary are ignored"):
        model_from_released(described, state, "x")


def test_sinks_are_believed_where_the_weights_have_them() -> None:
    described, state = parts(small())
    with pytest.warns(UserWarning, match="the weights have sink logits"):
        model = model_from_released(described | {"sink": False}, state, "x")
    assert_equal(model, made(small()))
    without = {name: tensor for name, tensor in state.items() if "sink" not in name}
    with pytest.warns(UserWarning, match="the weights have no sink logits"):
        assert not model_from_released(described, without, "x").config.sink


def test_one_sink_logit_for_all_heads_is_one_for_each() -> None:
    described, state = parts(small())
    for name in state:
        if "sink" in name:
            state[name] = torch.tensor([0.7])
    model = model_from_released(described, state, "x")
    assert model.blocks[0].attn.sink_logit.tolist() == pytest.approx([0.7] * 3)  # type: ignore[union-attr]


def test_a_table_that_the_config_turns_off_is_left_out() -> None:
    described, state = parts(small())
    with pytest.warns(UserWarning, match="a bigram table that the config turns off"):
        assert model_from_released(described | {"enable_bigram_table": False}, state, "x").config.bigram_table == "none"


def test_a_tied_embedding_under_one_name_is_enough() -> None:
    config = small(tied_embeddings=True)
    for name in ("lm_head.weight", "transformer.wte.weight"):
        described, state = parts(config)
        del state[name]
        assert_equal(model_from_released(described, state, "x"), made(config))


def test_a_table_of_zeros_is_no_positions() -> None:
    described, state = parts(small(positions="none"))
    assert not state["transformer.wpe.weight"].any()
    assert model_from_released(described, state, "x").config.positions == "none"
    del state["transformer.wpe.weight"]
    assert model_from_released(described, state, "x").config.positions == "none"


@pytest.mark.parametrize("kind", ["pt", "safetensors", "bin"])
def test_shards(kind: str, tmp_path: Path) -> None:
    described, state = parts(small())
    names = sorted(state)
    files = {name: f"final_model-{1 + (n >= 5)}-of-2.{kind}" for n, name in enumerate(names)}
    for file in set(files.values()):
        held = {name: state[name] for name in names if files[name] == file}
        if kind == "safetensors":
            save_file(held, tmp_path / file)
        else:
            torch.save(held, tmp_path / file)
    (tmp_path / f"final_model.{kind}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))
    (tmp_path / "beeg_config.json").write_text(json.dumps(described))
    assert_equal(checkpoint.load(tmp_path), made(small()))
    (tmp_path / files[names[0]]).unlink()
    with pytest.raises(InputError, match="is missing; fetch it again"):
        checkpoint.load(tmp_path)


@pytest.mark.parametrize("name", ["../other/final_model.pt", "/etc/passwd", "..", "", "a/b.pt", "a" * 300, "a\x00b"])
def test_shards_stay_in_their_folder(name: str, tmp_path: Path) -> None:
    openai.write(made(small()), tmp_path / "model")
    shutil.copytree(tmp_path / "model", tmp_path / "other")
    (tmp_path / "model" / "final_model.pt").unlink()
    index = tmp_path / "model" / "final_model.pt.index.json"
    index.write_text(json.dumps({"weight_map": {"lm_head.weight": name}}))
    with pytest.raises(InputError, match="expected files beside it"):
        checkpoint.load(tmp_path / "model")


# --- what is refused ---

CONFIG_DAMAGE = {
    "[]": "expected a JSON object",
    '{"n_layer": "2"}': "n_layer is '2'; expected int",
    '{"n_layer": true}': "n_layer is True; expected int",
    '{"d_head": 2.5}': "d_head is 2.5; expected a number or null",
    '{"afrac": "half"}': "afrac is 'half'; expected a number or null",
    '{"afrac": 0.001}': "less than one",
    '{"afrac": NaN}': "abs_topk is nan",
    '{"afrac_loctypes": "nose"}': "unknown AbsTopK site 'nose'",
    '{"activation_type": "swish"}': "activation is 'swish'",
    '{"residual_activation_type": "tanh"}': "residual_activation is 'tanh'",
    '{"d_pos_emb": 0}': "d_position is 0",
    '{"use_tied_aux_matrix": true}': "use_tied_aux_matrix is True",
    '{"n_layer": 99999999999}': "n_layer is 99999999999; it must be at most",
    '{"n_head": 0}': "n_head is 0",
    '{"n_layer": 3}': "the tensor 'transformer.h.2.ln_1.weight' is missing",
    '{"d_model": 24}': "has shape",
    '{"bias": false}': None,
    "{": "is not valid JSON",
}


@pytest.mark.parametrize(("content", "message"), CONFIG_DAMAGE.items(), ids=CONFIG_DAMAGE)
def test_a_wrong_config_is_told_in_one_line(
    content: str, message: str | None, tmp_path: Path, unannotated: None
) -> None:
    openai.write(made(small()), tmp_path)
    path = tmp_path / "beeg_config.json"
    described = json.loads(path.read_text())
    try:
        changed = json.loads(content)
    except ValueError:
        changed = None
    path.write_text(json.dumps(described | changed) if isinstance(changed, dict) else content)
    if message is None:
        with pytest.warns(UserWarning, match="unknown tensors h"):
            checkpoint.load(tmp_path)
        return
    with pytest.raises(InputError, match=re.escape(message)) as refused:
        checkpoint.load(tmp_path)
    assert str(tmp_path) in str(refused.value)
    assert "\n" not in str(refused.value)


WEIGHT_DAMAGE: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "missing": (lambda s: s.pop("lm_head.weight"), "the tensor 'lm_head.weight' is missing"),
    "shape": (lambda s: s.update({"lm_head.weight": torch.zeros(2, 2)}), r"lm_head.weight has shape \(2, 2\), the con"),
    "nan": (lambda s: s["lm_head.weight"].fill_(float("nan")), "lm_head.weight is not finite everywhere"),
    "infinite": (lambda s: s["bigram_table"].fill_(float("inf")), "bigram_table is not finite everywhere"),
    "integers": (lambda s: s.update({"lm_head.weight": s["lm_head.weight"].long()}), "is stored as torch.int64"),
    "number": (lambda s: s.update({"step": 3}), "'step' is no tensor"),
    "key": (lambda s: s.update({3: torch.zeros(1)}), "'3' is no tensor"),
    "twice": (lambda s: s.update({"module.lm_head.weight": s["lm_head.weight"]}), "holds 'lm_head.weight' twice"),
}


@pytest.mark.parametrize(("damage", "message"), WEIGHT_DAMAGE.values(), ids=WEIGHT_DAMAGE)
def test_wrong_weights_are_told_in_one_line(damage: Callable[..., object], message: str, tmp_path: Path) -> None:
    openai.write(made(small()), tmp_path)
    path = tmp_path / "final_model.pt"
    state = torch.load(path, weights_only=True)
    damage(state)
    torch.save(state, path)
    with pytest.raises(InputError, match=message) as refused:
        checkpoint.load(tmp_path)
    assert "\n" not in str(refused.value)


def test_two_embeddings_that_should_be_one_are_refused() -> None:
    described, state = parts(small(tied_embeddings=True))
    state["lm_head.weight"] = state["lm_head.weight"] + 1
    with pytest.raises(InputError, match="the weights have two different ones"):
        model_from_released(described, state, "x")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (small(d_head=4, n_head=5), "is not divisible by n_head 5"),
        (small(abs_topk=0.05), "less than one"),
    ],
)
def test_what_the_published_code_cannot_compute_stays_here(config: GPTConfig, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        openai.write(made(config), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_without_weights_is_told_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "beeg_config.json").write_text("{}")
    with pytest.raises(InputError, match=r"no weights in .*; expected one of final_model\.pt, final_model\.safetens"):
        checkpoint.load(tmp_path)
