"""Hugging Face Hub folders: `config.json` with a `model_type`, safetensors or `.bin` weights, one file or shards.

Two kinds are read:
- our own (`sparse_circuits`), which `write` makes: GPTConfig's fields in `config.json`, tensors by our names, and
  `modeling_sparse_circuits.py`, with which `transformers` runs the model where this package is not installed;
- the released one (`circuitgpt`): the fields and tensors of a released checkpoint under the prefix `circuit_model.`.

Nothing here imports `transformers`.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from sparse_circuits.checkpoint import write_tensors
from sparse_circuits.config import GPTConfig
from sparse_circuits.errors import InputError
from sparse_circuits.fields import from_json, require, shown, to_json
from sparse_circuits.files import atomic_write, read_json, write_json, written_together
from sparse_circuits.formats.adoption import adopt, skeleton
from sparse_circuits.formats.hub_card import card
from sparse_circuits.formats.openai import find_tokenizer
from sparse_circuits.formats.openai_weights import model_from_released
from sparse_circuits.formats.tensor_files import read_state
from sparse_circuits.model import GPT
from sparse_circuits.tokenizer import END_OF_TEXT

OURS, RELEASED = "sparse_circuits", "circuitgpt"
CODE = Path(__file__).with_name("modeling_sparse_circuits.py")
"""What is copied into every folder; it stands alone."""

_CLASSES = {"AutoConfig": "SparseCircuitsConfig", "AutoModelForCausalLM": "SparseCircuitsForCausalLM"}
_TOKENIZER = "PreTrainedTokenizerFast"
_TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json"),
    *("vocab.json", "merges.txt", "encoder.json", "vocab.bpe"),
)

HUB_FIELDS = frozenset(
    {
        *("_name_or_path", "architectures", "auto_map", "bos_token_id", "dtype", "eos_token_id", "hidden_size"),
        *("initializer_range", "is_decoder", "max_position_embeddings", "model_type", "num_attention_heads"),
        *("num_hidden_layers", "pad_token_id", "tie_word_embeddings", "tokenizer_class", "torch_dtype"),
        *("transformers_version", "use_cache", "unk_token_id"),
    }
)
"""Fields of the Hub's configs that say nothing about the model."""


def recognises(folder: Path) -> bool:
    """Whether `folder` holds a model of one of the two kinds, by its config."""
    path = folder / "config.json"
    try:
        return path.is_file() and read_json(path).get("model_type") in (OURS, RELEASED)
    except (InputError, AttributeError):
        return False


def read(folder: Path) -> GPT:
    """The model in the Hub folder `folder`, in float32 on the CPU.

    Raises:
        InputError: a file is missing, damaged, or they do not fit each other.
    """
    path = folder / "config.json"
    described = read_json(path)
    require(isinstance(described, dict), f"{path}: expected a JSON object")
    state, weights = read_state(folder, ["model", "pytorch_model"])
    kind = described.get("model_type")
    if kind == RELEASED:
        model = model_from_released(described, state, str(path), str(weights), skipped=HUB_FIELDS)
    else:
        require(kind == OURS, f"{path}: model_type is {shown(kind)}; expected {OURS} or {RELEASED}")
        model = assemble(config_of(described, str(path)), state, str(weights))
    model.tokenizer = find_tokenizer(folder, model.config.vocab_size)
    model.folder = folder
    return model.eval()


def write(model: GPT, out: Path) -> list[str]:
    """Write `model` to the folder `out` so that `transformers` loads it, with or without this package.

    Raises:
        InputError: the model lies in that very folder, or the disk refuses.
    """
    if model.folder is not None and out.exists() and out.resolve() == model.folder.resolve():
        raise InputError(f"{out} is the model's own folder; choose another one for the Hub's form")
    state = {name: tensor.float() for name, tensor in model.state_dict().items()}
    if model.config.tied_embeddings:
        del state["lm_head.weight"]
    with written_together(out, "config.json", stale=_TOKENIZER_FILES) as folder:
        write_tensors(folder / "model.safetensors", state, {"format": "pt"})
        for name, content in _tokenizer_files(model).items():
            write_json(folder / name, content)
        if model.tokenizer is not None:
            model.tokenizer.save(folder / "tokenizer.json")
        atomic_write(folder / CODE.name, CODE.read_bytes())
        atomic_write(folder / "README.md", card(model))
        write_json(folder / "config.json", described(model))
    notes = ["the weights are stored densely, as transformers reads them; a folder of our own is smaller"]
    if model.tokenizer is None:
        notes.append("the model has no tokenizer, so the folder has none")
    return notes


def described(model: GPT) -> dict[str, Any]:
    """The `config.json` of a model, as `transformers` wants it."""
    return {
        # Without it the pipelines of older versions look for no tokenizer.
        **({} if model.tokenizer is None else {"tokenizer_class": _TOKENIZER}),
        "model_type": OURS,
        "architectures": [_CLASSES["AutoModelForCausalLM"]],
        "auto_map": {auto: f"{CODE.stem}.{name}" for auto, name in _CLASSES.items()},
        "torch_dtype": "float32",
        "tie_word_embeddings": model.config.tied_embeddings,
        **to_json(model.config.resolved()),
    }


def _tokenizer_files(model: GPT) -> dict[str, Any]:
    """What stands beside `tokenizer.json`. There is no padding token: token 0 is an ordinary one, so padding is end of
    text, hidden by the attention mask."""
    if model.tokenizer is None:
        return {}
    special = {f"{role}_token": END_OF_TEXT for role in ("bos", "eos", "pad")}
    return {
        "tokenizer_config.json": {
            "tokenizer_class": _TOKENIZER,
            **special,
            "model_input_names": ["input_ids", "attention_mask"],
            "model_max_length": model.config.block_size,
            "padding_side": "left",
            "clean_up_tokenization_spaces": False,
        },
        "special_tokens_map.json": special,
        "generation_config.json": {f"{role}_token_id": model.tokenizer.end_of_text for role in ("bos", "eos", "pad")},
    }


def config_of(described: dict[str, Any], where: str) -> GPTConfig:
    """The config in the `config.json` of a folder that `write` made, or that `transformers` saved since.

    Raises:
        InputError: a field is missing or of the wrong kind; what belongs to `transformers` is skipped.
    """
    names = [field.name for field in dataclasses.fields(GPTConfig)]
    for name in names:
        require(name in described, f"{where}: the key {name!r} is missing")
    return from_json(GPTConfig, {name: described[name] for name in names}, where)


def assemble(config: GPTConfig, state: Mapping[str, Tensor], where: str) -> GPT:
    """A model of that config that takes over the tensors of `state`, by our names, in float32.

    Raises:
        InputError: a tensor is missing, of another shape, no floating point or not finite.
    """
    model = skeleton(config, state, where, where)
    found = dict(state)
    if config.tied_embeddings and "wte.weight" in found:
        found.setdefault("lm_head.weight", found["wte.weight"])
    return adopt(model, found, where)
