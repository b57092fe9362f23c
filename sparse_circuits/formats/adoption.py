"""A model takes over tensors that come under our names from somebody else's file, once all of them are known to fit."""

import warnings
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from sparse_circuits.checkpoint import empty_model
from sparse_circuits.config import GPTConfig
from sparse_circuits.errors import InputError
from sparse_circuits.fields import require
from sparse_circuits.model import GPT

_LOADABLE = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
Naming = Callable[[str], str]


def skeleton(config: GPTConfig, state: Mapping[str, Tensor], where: str, weights: str, theirs: Naming = str) -> GPT:
    """A model of that config without weights; refused before its layers are made where `state` lacks the last one.

    Args:
        where: the config's file, for messages.
        weights: the file of the tensors.
        theirs: what the file calls a tensor.
    """
    # A wrong config may claim millions of layers.
    last = f"h.{config.n_layer - 1}.ln_1.weight"
    if last not in state:
        raise _missing(theirs(last), weights)
    return empty_model(config, where)


def adopt(model: GPT, state: Mapping[str, Tensor], where: str, theirs: Naming = str) -> GPT:
    """Let `model` take over the tensors of `state`, in float32; those it has no place for are told and left out.

    Raises:
        InputError: a tensor is missing, of another shape, no floating point or not finite, or the config ties
            embedding and unembedding and they differ.
    """
    expected = model.state_dict()
    for name, tensor in expected.items():
        _check(theirs(name), state.get(name), tuple(tensor.shape), where)
    if left := sorted(state.keys() - expected.keys()):
        warnings.warn(f"{where}: unknown tensors {', '.join(left)[:200]} are ignored", stacklevel=3)
    owned = {name: state[name].detach().float() for name in expected}
    torch.nn.Module.load_state_dict(model, owned, assign=True)
    if model.config.tied_embeddings:
        same = torch.equal(model.lm_head.weight, model.wte.weight)
        require(same, f"{where}: embedding and unembedding differ, and the config ties them")
        model.lm_head.weight = model.wte.weight
    if model.config.positions == "sinusoidal_concat":
        model.wpe.weight.requires_grad_(False)
    return model.eval()


def _missing(name: str, where: str) -> InputError:
    return InputError(f"{where}: the tensor {name!r} is missing; the config describes another model")


def _check(name: str, tensor: Tensor | None, shape: tuple[int, ...], where: str) -> None:
    if tensor is None:
        raise _missing(name, where)
    if tuple(tensor.shape) != shape:
        raise InputError(f"{where}: {name} has shape {tuple(tensor.shape)}, the config says {shape}")
    if tensor.dtype not in _LOADABLE or tensor.layout != torch.strided:
        raise InputError(f"{where}: {name} is stored as {tensor.dtype}; expected floating point")
    if tensor.is_meta or not bool(tensor.isfinite().all()):
        raise InputError(f"{where}: {name} is not finite everywhere; the file is damaged, or diverged")
