"""Hub folders come back lossless, the released kind is read, and what is damaged is refused in one line."""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from small_models import randomised, small, some_tokens
from torch import Tensor
from variants import variants

import sparse_circuits as sc
from sparse_circuits import checkpoint
from sparse_circuits.__main__ import main
from sparse_circuits.card.measure import density, matrices
from sparse_circuits.config import GPTConfig
from sparse_circuits.errors import InputError
from sparse_circuits.formats import hub
from sparse_circuits.formats.openai_weights import model_to_released
from sparse_circuits.formats.registry import recognise
from sparse_circuits.model import GPT
from sparse_circuits.tokenizer import END_OF_TEXT, Tokenizer


def made(config: GPTConfig, seed: int = 0) -> GPT:
    return randomised(config, seed, torch.float32)


def assert_equal(one: GPT, other: GPT) -> None:
    assert one.config == other.config
    assert checkpoint.model_hash(one) == checkpoint.model_hash(other)
    trained = [[name for name, p in each.named_parameters() if p.requires_grad] for each in (one, other)]
    assert trained[0] == trained[1]


@settings(deadline=None, max_examples=25)
@given(variants(), st.integers(0, 99))
def test_ours_to_the_hub_and_back_is_lossless(changes: dict[str, Any], seed: int) -> None:
    model = made(small(**changes), seed)
    with tempfile.TemporaryDirectory() as folder:
        hub.write(model, Path(folder) / "hub")
        back = sc.load(Path(folder) / "hub")
    assert_equal(back, model)
    tokens = some_tokens(model.config)
    assert torch.equal(back(tokens), model(tokens))


def test_sparse_and_dense_twins_write_the_same(tmp_path: Path) -> None:
    model = made(small(tied_embeddings=True))
    hub.write(model, tmp_path / "dense")
    hub.write(model.sparsify(), tmp_path / "sparse")
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "dense" / name).read_bytes() == (tmp_path / "sparse" / name).read_bytes()
    fast = sc.load(tmp_path / "dense", sparse=True)
    torch.testing.assert_close(fast(some_tokens(model.config)), model(some_tokens(model.config)), rtol=1e-4, atol=1e-5)


def test_the_folder_has_what_the_hub_wants(tmp_path: Path) -> None:
    model = made(small(vocab_size=270))
    model.tokenizer = Tokenizer.train(["for x in range(10):\n    print(x)\n"] * 3, 265)
    notes = hub.write(model, tmp_path / "mine")
    assert len(notes) == 1
    assert "densely" in notes[0]
    names = sorted(path.name for path in (tmp_path / "mine").iterdir())
    assert names == [
        "README.md",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "modeling_sparse_circuits.py",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert (tmp_path / "mine" / hub.CODE.name).read_bytes() == hub.CODE.read_bytes()
    described = json.loads((tmp_path / "mine" / "config.json").read_text())
    code = hub.CODE.read_text()
    for target in described["auto_map"].values():
        module, name = target.split(".")
        assert module == hub.CODE.stem
        assert f"class {name}(" in code
    assert described["architectures"] == ["SparseCircuitsForCausalLM"]
    assert json.loads((tmp_path / "mine" / "generation_config.json").read_text()) == {
        "bos_token_id": 264,
        "eos_token_id": 264,
        "pad_token_id": 264,
    }
    assert sc.load(tmp_path / "mine").tokenizer.hash == model.tokenizer.hash  # type: ignore[union-attr]


def test_a_model_without_a_tokenizer_says_so(tmp_path: Path) -> None:
    assert "no tokenizer" in hub.write(made(small()), tmp_path)[1]
    assert not (tmp_path / "tokenizer_config.json").exists()
    assert not (tmp_path / "generation_config.json").exists()


@pytest.mark.parametrize("positions", ["sinusoidal_concat", "learned_concat"])
def test_every_page_gives_the_density_of_the_models_own_card(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], positions: str
) -> None:
    model = made(small(positions=positions, d_position=4, bigram_table="fixed"))
    expected = density(matrices(model))
    checkpoint.save(model, tmp_path / "tiny")
    assert main(["convert", str(tmp_path / "tiny"), "--to", "hf", "--out", str(tmp_path / "hub"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["density"] == pytest.approx(expected)
    assert f"(density {expected:.5f})" in (tmp_path / "hub" / "README.md").read_text()


def test_the_card_says_what_it_is_and_what_was_measured(tmp_path: Path) -> None:
    model = made(small(n_layer=3))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.zero_()
                parameter.view(-1)[:2] = 1
    checkpoint.save(model, tmp_path / "tiny")
    (tmp_path / "tiny" / "card.md").write_text("# tiny\n\n3 layers.\n\n## Losses\n\n#no heading\n")
    hub.write(checkpoint.load(tmp_path / "tiny"), tmp_path / "hub")
    card = (tmp_path / "hub" / "README.md").read_text()
    front, text = card.split("---\n")[1:]
    assert "library_name: transformers\npipeline_tag: text-generation\n" in front
    assert text.startswith("\n# tiny\n")
    assert "3 layers, width 12, 3 heads of 4 channels, 11 tokens, 8 positions." in text
    count = 2 + 4 * 3
    assert f"| nonzero matrix entries | {2 * count:,} of " in text
    assert "`0.attn.q`" in text
    assert text.endswith("## How it was made and what it can do\n\n\n3 layers.\n\n### Losses\n\n#no heading\n")


def test_a_models_own_folder_is_not_written_over(tmp_path: Path) -> None:
    model = made(small())
    checkpoint.save(model, tmp_path)
    with pytest.raises(InputError, match="is the model's own folder"):
        hub.write(model, tmp_path)
    assert_equal(checkpoint.load(tmp_path), model)


def test_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = made(small())
    checkpoint.save(model, tmp_path / "ours")
    assert main(["export", "hf", "--model", str(tmp_path / "ours"), "--out", str(tmp_path / "hub")]) == 0
    assert "stored densely" in capsys.readouterr().out
    assert main(["convert", str(tmp_path / "hub"), "--to", "native", "--out", str(tmp_path / "back")]) == 0
    assert "hf -> native" in capsys.readouterr().out
    assert_equal(checkpoint.load(tmp_path / "back"), model)


# --- the released kind ---

TRANSFORMERS_FIELDS = {
    "architectures": ["CircuitGPTForCausalLM"],
    "auto_map": {"AutoModelForCausalLM": "modeling_circuitgpt.CircuitGPTForCausalLM"},
    "bos_token_id": None,
    "eos_token_id": 10,
    "pad_token_id": None,
    "model_type": "circuitgpt",
    "torch_dtype": "float32",
    "transformers_version": "4.57.1",
    "use_cache": False,
    "is_decoder": True,
    "tie_word_embeddings": False,
}


def released_folder(model: GPT, folder: Path, kind: str, dtype: torch.dtype, shards: int) -> None:
    """The released Hub form of `model`: names under `circuit_model.`, safetensors or `.bin`, one file or several."""
    described, state = model_to_released(model)
    described.pop("bigram_table_rank")
    state = {f"circuit_model.{name}": tensor.to(dtype).clone() for name, tensor in state.items()}
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(described | TRANSFORMERS_FIELDS))
    stem, ending = ("model", "safetensors") if kind == "safetensors" else ("pytorch_model", "bin")
    files = {name: f"{stem}-{number % shards + 1:05}-of-{shards:05}.{ending}" for number, name in enumerate(state)}
    if shards == 1:
        files = dict.fromkeys(state, f"{stem}.{ending}")
    else:
        (folder / f"{stem}.{ending}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))
    for file in set(files.values()):
        held = {name: tensor for name, tensor in state.items() if files[name] == file}
        if kind == "safetensors":
            save_file(held, folder / file, {"format": "pt"})
        else:
            torch.save(held, folder / file)


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("kind", ["safetensors", "bin"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_released_folders(kind: str, dtype: torch.dtype, shards: int, tmp_path: Path) -> None:
    model = made(small(positions="learned_concat", d_position=4))
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.copy_(tensor.bfloat16().half())  # values that every precision holds
    folder = tmp_path / "released"
    released_folder(model, folder, kind, dtype, shards)
    found = recognise(folder, "model")
    assert found is not None
    assert found.name == "hf"
    assert_equal(sc.load(folder), model)


# --- what is refused ---

CONFIG_DAMAGE = {
    '{"n_layer": 3}': "the tensor 'h.2.ln_1.weight' is missing",
    '{"n_layer": 16000000}': "the tensor 'h.15999999.ln_1.weight' is missing",
    '{"n_layer": "2"}': "n_layer is '2'; expected int",
    '{"n_layer": 0}': "n_layer is 0; it must be at least 1",
    '{"d_model": 24, "d_mlp": 48}': "has shape (11, 12), the config says (11, 24)",
    '{"norm": "batch"}': "norm is 'batch'; choose among",
    '{"abs_topk_sites": "attn_in"}': "abs_topk_sites is 'attn_in'; expected a list",
    '{"abs_topk": NaN}': "abs_topk is nan",
}


@pytest.mark.parametrize(("content", "message"), CONFIG_DAMAGE.items(), ids=CONFIG_DAMAGE)
def test_a_wrong_config_is_told_in_one_line(content: str, message: str, tmp_path: Path, unannotated: None) -> None:
    hub.write(made(small()), tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | json.loads(content)))
    with pytest.raises(InputError, match=re.escape(message)) as refused:
        sc.load(tmp_path)
    assert str(tmp_path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_config_that_lost_a_field_is_refused(tmp_path: Path) -> None:
    hub.write(made(small()), tmp_path)
    path = tmp_path / "config.json"
    described = json.loads(path.read_text())
    del described["abs_topk"]
    path.write_text(json.dumps(described))
    with pytest.raises(InputError, match="the key 'abs_topk' is missing"):
        sc.load(tmp_path)


WEIGHT_DAMAGE: dict[str, tuple[Callable[[dict[str, Tensor]], object], str]] = {
    "missing": (lambda s: s.pop("ln_f.weight"), "the tensor 'ln_f.weight' is missing"),
    "shape": (lambda s: s.update({"ln_f.weight": torch.zeros(2, 2)}), r"ln_f.weight has shape \(2, 2\), the config"),
    "nan": (lambda s: s["ln_f.weight"].fill_(float("nan")), "ln_f.weight is not finite everywhere"),
    "integers": (lambda s: s.update({"ln_f.weight": s["ln_f.weight"].long()}), "is stored as torch.int64"),
    "untied": (lambda s: s.update({"lm_head.weight": s["wte.weight"] + 1}), "embedding and unembedding differ"),
}


@pytest.mark.parametrize(("damage", "message"), WEIGHT_DAMAGE.values(), ids=WEIGHT_DAMAGE)
def test_wrong_weights_are_told_in_one_line(damage: Callable[..., object], message: str, tmp_path: Path) -> None:
    hub.write(made(small(tied_embeddings=True)), tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    damage(state)
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=message) as refused:
        sc.load(tmp_path)
    assert "\n" not in str(refused.value)


def test_a_folder_that_lost_a_file_loads_without_it_or_is_refused(tmp_path: Path) -> None:
    model = made(small(vocab_size=270))
    model.tokenizer = Tokenizer.train(["x = 1\n"], 260)
    hub.write(model, tmp_path)
    for path in sorted(tmp_path.iterdir()):
        content = path.read_bytes()
        path.unlink()
        if path.name in ("config.json", "model.safetensors"):
            with pytest.raises(InputError, match=r"no model at|no weights in") as refused:
                sc.load(tmp_path)
            assert "\n" not in str(refused.value)
        else:
            loaded = sc.load(tmp_path)
            assert checkpoint.model_hash(loaded) == checkpoint.model_hash(model)
            assert (loaded.tokenizer is None) == (path.name == "tokenizer.json")
        path.write_bytes(content)


def test_other_models_of_the_hub_are_none_of_ours(tmp_path: Path) -> None:
    hub.write(made(small()), tmp_path)
    path = tmp_path / "config.json"
    for content in (json.dumps({"model_type": "gpt2"}), '{"model_type": ', '["model_type"]', '{"model_type": []}'):
        path.write_text(content)
        assert recognise(tmp_path, "model") is None
        with pytest.raises(InputError, match=r"config\.json"):
            sc.load(tmp_path)


def test_tensors_nobody_knows_are_named(tmp_path: Path) -> None:
    model = made(small())
    hub.write(model, tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    save_file(state | {"score.weight": torch.zeros(2)}, tmp_path / "model.safetensors")
    with pytest.warns(UserWarning, match=r"unknown tensors score\.weight are ignored"):
        assert_equal(sc.load(tmp_path), model)


def test_nothing_but_one_module_needs_transformers() -> None:
    script = (
        "import sys\n"
        "import sparse_circuits, sparse_circuits.checkpoint, sparse_circuits.formats.hub\n"
        "assert 'transformers' not in sys.modules\n"
        "sys.modules['transformers'] = None\n"
        "try:\n"
        "    import sparse_circuits.formats.huggingface\n"
        "except ModuleNotFoundError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "transformers is not installed; pip install 'sparse-circuits[hub]'\n"


def test_end_of_text_is_spelled_as_the_tokenizer_spells_it(tmp_path: Path) -> None:
    model = made(small(vocab_size=270))
    model.tokenizer = Tokenizer.train(["x = 1\n"], 260)
    hub.write(model, tmp_path)
    written = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert {written[f"{role}_token"] for role in ("bos", "eos", "pad")} == {END_OF_TEXT}
    assert written["model_max_length"] == 8
    assert written["padding_side"] == "left"
