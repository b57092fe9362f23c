"""A GPT-2 as Hugging Face writes it becomes a model of ours with the same logits, frozen; anything else is refused."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_bridges import LETTERS, model, scales, tokens
from torch import Tensor

from sparse_circuits import checkpoint, kernels
from sparse_circuits.bridges.bridge import Bridge
from sparse_circuits.bridges.dense import load_dense
from sparse_circuits.checkpoint import read_tensors, write_tensors
from sparse_circuits.circuits.folded import folds
from sparse_circuits.circuits.nodes import NodeSpace
from sparse_circuits.errors import InputError
from sparse_circuits.formats.openai_config import to_released
from sparse_circuits.model import GPT


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Path, Any]]:
    """Makes folders of tiny GPT-2s with random weights, by the library itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers import GPT2Config, GPT2LMHeadModel

    def make(**settings: Any) -> tuple[Path, Any]:
        shape = {"vocab_size": 257, "n_positions": 24, "n_embd": 12, "n_layer": 2, "n_head": 3}
        torch.manual_seed(0)
        theirs = GPT2LMHeadModel(GPT2Config(**(shape | settings), bos_token_id=256, eos_token_id=256)).eval()
        with torch.no_grad():
            for parameter in theirs.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.3)
        folder = tmp_path_factory.mktemp("gpt2")
        theirs.save_pretrained(folder)
        LETTERS.save(folder / "tokenizer.json")
        return folder, theirs

    return make


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"n_inner": 20, "activation_function": "relu"},
        {"activation_function": "gelu", "tie_word_embeddings": False},
    ],
)
@torch.no_grad()
def test_logits_and_stream_are_the_librarys(family: Callable[..., Any], settings: dict[str, Any]) -> None:
    folder, theirs = family(**settings)
    ours = load_dense(folder)
    assert not any(p.requires_grad for p in ours.parameters())
    assert ours.tokenizer is not None
    assert ours.tokenizer.hash == LETTERS.hash
    expected = theirs(tokens(2, 9), output_hidden_states=True)
    run = ours.run(tokens(2, 9), record="*resid_in")
    torch.testing.assert_close(run.logits, expected.logits, atol=2e-5, rtol=1e-4)
    for layer in range(2):
        torch.testing.assert_close(run.sites[f"{layer}.resid_in"], expected.hidden_states[layer], atol=2e-5, rtol=1e-4)


def test_what_is_compiled_for_other_activations_lets_it_be(family: Callable[..., Any]) -> None:
    """Fast ways that know the exact GELU only are not taken, and the released format refuses it."""
    dense = load_dense(family()[0])
    with kernels.use("cpu"):
        assert folds(dense, torch.zeros(NodeSpace(dense.config).total)) is None
        prompt = tokens(1, 5)
        text = dense.sparsify().generate(prompt, 6, temperature=0.0)
    for length in range(5, 11):
        assert int(dense(text[:, :length])[0, -1].argmax()) == int(text[0, length])
    with pytest.raises(InputError, match="the activation is gelu_tanh, which the released code does not have"):
        to_released(dense.config)


def test_it_can_be_bridged_and_found_again(family: Callable[..., Any], tmp_path: Path) -> None:
    folder, _ = family()
    sparse = model(3)
    checkpoint.save(sparse, tmp_path)
    bridge = Bridge(load_dense(folder), sparse, scales=scales(5))
    bridge.save(tmp_path)
    again = Bridge.load(tmp_path)
    assert again.dense.folder == folder
    site = "1.resid_mid"
    stream = bridge.dense.residual(tokens(), site)
    assert torch.equal(again.encode(site, stream), bridge.encode(site, stream))


def test_our_own_models_are_read_and_frozen(tmp_path: Path) -> None:
    checkpoint.save(model(), tmp_path)
    dense = load_dense(tmp_path)
    assert isinstance(dense, GPT)
    assert not any(p.requires_grad for p in dense.parameters())


def change_config(**values: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({k: v for k, v in (json.loads(path.read_text()) | values).items() if v != "gone"}))

    return change


def change_weights(edit: Callable[[dict[str, Tensor]], object]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        weights, _ = read_tensors(folder / "model.safetensors")
        edit(weights)
        write_tensors(folder / "model.safetensors", weights)

    return change


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (change_config(activation_function="swish"), "activation_function is 'swish'; choose among gelu_new"),
        (change_config(layer_norm_epsilon=1e-6), "layer_norm_epsilon is 1e-06; only 1e-05 is read"),
        (change_config(scale_attn_by_inverse_layer_idx=True), "scale_attn_by_inverse_layer_idx is True"),
        (change_config(n_layer="gone"), "KeyError 'n_layer'; it is no whole GPT-2 config"),
        (change_config(n_head=5), "12 is not divisible by n_head 5"),
        (change_config(n_layer=3), "the weight 'h.2."),
        (change_config(n_layer=1), "unknown weight 'h.1."),
        (change_config(n_positions=9), "wpe.weight has shape (24, 12), not (9, 12)"),
        (
            change_weights(lambda w: w["transformer.wte.weight"].fill_(torch.nan)),
            "transformer.wte.weight holds what is",
        ),
        (lambda folder: (folder / "model.safetensors").unlink(), "has no model.safetensors"),
        (lambda folder: LETTERS.train(["a b a b"] * 9, 260).save(folder / "tokenizer.json"), "the tokenizer has"),
    ],
)
def test_what_it_is_not_is_refused(family: Callable[..., Any], change: Callable[[Path], object], told: str) -> None:
    folder, _ = family()
    change(folder)
    with pytest.raises(InputError) as caught:
        load_dense(folder)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weights_in_several_files_are_put_together(family: Callable[..., Any]) -> None:
    folder, _ = family()
    whole = load_dense(folder)
    weights, _ = read_tensors(folder / "model.safetensors")
    names = sorted(weights)
    for number, part in enumerate((names[:7], names[7:])):
        write_tensors(folder / f"part{number}.safetensors", {name: weights[name] for name in part})
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {name: f"part{int(name in names[7:])}.safetensors" for name in names}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert checkpoint.model_hash(load_dense(folder)) == checkpoint.model_hash(whole)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../part0.safetensors"}}))
    with pytest.raises(InputError, match="is no index of files beside it"):
        load_dense(folder)
