"""Dense models to build bridges to: our own folders, and the GPT-2 family as Hugging Face writes it.

A GPT-2 becomes a `GPT`, so that the one forward pass with its sites, taps and entries serves it too:
LayerNorm with biases, learned positions, one matrix for embedding and unembedding, GELU by tanh, no sink, no bigram
table, no AbsTopK. Hugging Face's linear layers hold their matrices transposed. Files are read, never unpickled.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparse_circuits import checkpoint, shipped
from sparse_circuits.config import GPTConfig
from sparse_circuits.errors import InputError
from sparse_circuits.fields import require
from sparse_circuits.files import read_json
from sparse_circuits.model import GPT
from sparse_circuits.tokenizer import Tokenizer

ACTIVATIONS = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu", "relu": "relu"}
EXPECTED = {
    "layer_norm_epsilon": 1e-5,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
}
"""What a GPT-2's config must say where it says something."""
TRANSPOSED = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")


def load_dense(source: str | Path, device: str | torch.device = "cpu") -> GPT:
    """The dense model in the folder `source` (or the shipped one of that name), frozen.

    Raises:
        InputError: no model there, or none of a kind that is known.
    """
    folder = shipped.locate(source)
    described = read_json(folder / "config.json") if (folder / "config.json").is_file() else None
    if isinstance(described, dict) and described.get("model_type") == "gpt2":
        model = load_gpt2(folder, described).to(device)
    else:
        model = checkpoint.load(source, device)
    return model.requires_grad_(False)


def load_gpt2(folder: Path, described: dict[str, Any]) -> GPT:
    """The GPT-2 in a Hugging Face folder, whose config.json holds `described`; its tokenizer too, if that is known.

    Raises:
        InputError: another architecture, an option this model does not have, or weights that do not fit.
    """
    config = gpt2_config(described, folder / "config.json")
    model = GPT(config)
    state = gpt2_state(_weights(folder), config, folder)
    own = model.state_dict()
    for name, tensor in own.items():
        if name not in state:
            raise InputError(f"{folder}: the weight {name!r} is missing; config.json describes another model")
        if state[name].shape != tensor.shape:
            raise InputError(f"{folder}: {name} has shape {tuple(state[name].shape)}, not {tuple(tensor.shape)}")
    if odd := sorted(set(state) - set(own)):
        raise InputError(f"{folder}: unknown weight {odd[0]!r}; only the GPT-2 family is known")
    model.load_state_dict(state)
    model.folder = folder
    if (folder / "tokenizer.json").is_file():
        model.tokenizer = Tokenizer.load(folder)
        if model.tokenizer.vocab_size != config.vocab_size:
            raise InputError(
                f"{folder}: the tokenizer has {model.tokenizer.vocab_size} tokens, the model {config.vocab_size}"
            )
    return model.eval()


def gpt2_config(described: dict[str, Any], where: Path) -> GPTConfig:
    """Our config of a Hugging Face GPT-2's; InputError where it has what ours has not."""
    for key, value in EXPECTED.items():
        found = described.get(key, value)
        require(found == value, f"{where}: {key} is {found!r}; only {value!r} is read")
    activation = described.get("activation_function", "gelu_new")
    if activation not in ACTIVATIONS:
        raise InputError(f"{where}: activation_function is {activation!r}; choose among {', '.join(ACTIVATIONS)}")
    try:
        return GPTConfig(
            vocab_size=int(described["vocab_size"]),
            block_size=int(described["n_positions"]),
            n_layer=int(described["n_layer"]),
            d_model=int(described["n_embd"]),
            n_head=int(described["n_head"]),
            d_mlp=None if described.get("n_inner") is None else int(described["n_inner"]),
            norm="layer",
            norm_bias=True,
            positions="learned",
            tied_embeddings=bool(described.get("tie_word_embeddings", True)),
            bigram_table="none",
            sink=False,
            activation=ACTIVATIONS[activation],  # type: ignore[arg-type]
            abs_topk=None,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{where}: {type(error).__name__} {error}; it is no whole GPT-2 config") from error


def gpt2_state(weights: dict[str, Tensor], config: GPTConfig, folder: Path) -> dict[str, Tensor]:
    """Our state dict of Hugging Face's `weights`."""
    state: dict[str, Tensor] = {"final_logits_bias": torch.zeros(config.vocab_size)}
    for given, tensor in weights.items():
        name = given.removeprefix("transformer.")
        if name.endswith((".attn.bias", ".attn.masked_bias")):  # the causal mask
            continue
        if not tensor.is_floating_point() or not bool(tensor.isfinite().all()):
            raise InputError(f"{folder}: {given} holds what is no finite number")
        state[name] = tensor.float().T.contiguous() if name.endswith(TRANSPOSED) else tensor.float()
    if config.tied_embeddings and "wte.weight" in state:
        state["lm_head.weight"] = state["wte.weight"]
    return state


def _weights(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder: one safetensors file, several with an index, or a weights-only .bin file."""
    if (folder / "model.safetensors").is_file():
        return checkpoint.read_tensors(folder / "model.safetensors")[0]
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        described = read_json(index)
        files = described.get("weight_map") if isinstance(described, dict) else None
        if not isinstance(files, dict) or not all(Path(str(name)).name == name for name in files.values()):
            raise InputError(f"{index} is no index of files beside it")
        weights: dict[str, Tensor] = {}
        for name in sorted(set(files.values())):
            weights |= checkpoint.read_tensors(folder / name)[0]
        return weights
    raise InputError(f"{folder} has no model.safetensors; save the model with safe_serialization")
