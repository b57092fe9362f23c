"""The one function that turns released weights and their config into a model, and its inverse.

Whatever the container (a `.pt` file, a Hub folder's safetensors), the names are those of the released code, possibly
under a prefix; ours are the same without `transformer.` and `attn_imp.`. In short: strip, drop the buffers of the slow
attention, check that every tensor is there, finite and of its shape, and hand the tensors over without copying.
"""

import re
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from sparse_circuits.errors import InputError
from sparse_circuits.formats.adoption import adopt, skeleton
from sparse_circuits.formats.openai_config import Seen, from_released, to_released
from sparse_circuits.model import GPT

PREFIXES = ("circuit_model.", "_orig_mod.", "module.")
"""What wrappers put before all names: the Hub's model, `torch.compile`, data parallelism."""

_MASKS = re.compile(r"h\.\d+\.attn\.(masked_)?bias")


def model_from_released(
    described: Any, state: Mapping[str, Tensor], where: str, weights: str | None = None, skipped: Iterable[str] = ()
) -> GPT:
    """The model of a released config and state dict, in float32 on the CPU.

    Args:
        described: the parsed config.
        state: tensors by their released names, in any floating-point precision; the model takes them over.
        where: the config's file, for messages.
        weights: the file or folder of the tensors; `where` if not given.
        skipped: fields of `described` to say nothing about.

    Raises:
        InputError: a config no model fits, a tensor that is missing, of another shape or not finite.
    """
    weights = weights or where
    ours = _ours(state, weights)
    table = ours.get("wpe.weight")
    seen = Seen(
        sink=any(name.endswith(".sink_logit") for name in ours),
        positions=table is not None and bool(table.count_nonzero()),
    )
    config = from_released(described, seen, where, skipped)
    model = skeleton(config, ours, where, weights, released_name)
    if config.positions == "none":
        ours.pop("wpe.weight", None)
    if config.bigram_table == "none" and ours.pop("bigram_table", None) is not None:
        warnings.warn(f"{weights}: has a bigram table that the config turns off; it is left out", stacklevel=2)
    _complete(ours, config.tied_embeddings, config.vocab_size, weights)
    _widen_sinks(ours, config.n_head)
    return adopt(model, ours, weights, released_name)


def model_to_released(model: GPT) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The released config and state dict (float32, released names) of `model`.

    Raises:
        InputError: the official code cannot compute such a model.
    """
    described = to_released(model.config)
    state = {released_name(name): tensor.detach().float() for name, tensor in model.state_dict().items()}
    if model.config.positions == "none":
        state["transformer.wpe.weight"] = torch.zeros(model.config.block_size, model.config.d_model)
    return described, state


def released_name(name: str) -> str:
    """The released code's name of the parameter or buffer `name`."""
    if name in ("lm_head.weight", "bigram_table", "final_logits_bias"):
        return name
    return "transformer." + name.replace(".attn.sink_logit", ".attn.attn_imp.sink_logit")


def _ours(state: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """The tensors under our names, without the buffers that hold no weights."""
    found: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise InputError(f"{where}: {str(name)[:60]!r} is no tensor; expected a state dict")
        plain = name
        while prefix := next((each for each in PREFIXES if plain.startswith(each)), None):
            plain = plain.removeprefix(prefix)
        plain = plain.removeprefix("transformer.").replace(".attn_imp.", ".")
        if _MASKS.fullmatch(plain):
            continue
        if plain in found:
            raise InputError(f"{where}: holds {plain!r} twice, under two prefixes")
        found[plain] = tensor.detach()
    return found


def _complete(ours: dict[str, Tensor], tied: bool, vocabulary: int, where: str) -> None:
    """Put in what old files leave out: the bias of the logits, one of two names of a shared embedding."""
    ours.setdefault("final_logits_bias", torch.zeros(vocabulary))
    if not tied:
        return
    pair = [ours.get(name) for name in ("wte.weight", "lm_head.weight")]
    one = next((each for each in pair if each is not None), None)
    if one is None:
        return
    if all(each is not None for each in pair) and not torch.equal(pair[0], pair[1]):  # type: ignore[arg-type]
        raise InputError(f"{where}: the config ties embedding and unembedding, and the weights have two different ones")
    ours["wte.weight"] = ours["lm_head.weight"] = one


def _widen_sinks(ours: dict[str, Tensor], heads: int) -> None:
    """One sink logit for all heads becomes one for each."""
    for name, tensor in ours.items():
        if name.endswith(".sink_logit") and tensor.numel() == 1 and heads > 1:
            ours[name] = tensor.reshape(1).expand(heads).contiguous()
