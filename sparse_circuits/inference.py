"""A trained model with its matrices stored and multiplied sparsely: same logits, same taps, a fraction of the work.

`sparsify` makes one from a model in memory, `checkpoint.load(..., sparse=True)` straight from a folder. Either is an
ordinary `GPT`: the same forward pass, in which each `Linear` holds nothing but the nonzeros of its weight.
"""

import copy
from typing import Any

import torch
from torch import nn

from sparse_circuits.errors import InputError
from sparse_circuits.kernels.matrix import DEVICES
from sparse_circuits.kernels.products import worthwhile
from sparse_circuits.linear import Linear, Weighted
from sparse_circuits.model import GPT


def sparsify(model: GPT) -> GPT:
    """A frozen twin of `model` whose matrices are sparse; all other tensors (norms, tables) are shared.

    Returns:
        a model with the same logits to rounding (float32), the same sites, tokenizer and folder. Gradients reach its
        taps, not its weights. On CUDA nothing has been measured: it may be slower than `model`.

    Raises:
        InputError: the model is not in float32 on the CPU or CUDA.
    """
    first = next(model.parameters())
    if first.dtype != torch.float32 or first.device.type not in DEVICES:
        raise InputError(
            f"sparse products compute in float32 on the CPU or CUDA, and the model is {first.dtype} on {first.device}; "
            "call model.float() or model.cpu() first"
        )
    return _twin(model).eval()


def fastest(model: GPT, positions: int = 4096) -> GPT:
    """`model` itself, or its sparse twin where that is the faster one for `positions` tokens at a time.

    The choice depends on shapes and densities only (`worthwhile`), so that a result can be had again to the bit. On
    CUDA, where nothing has been measured, it is `model` itself.
    """
    first = next(model.parameters())
    layers = [module for module in model.modules() if isinstance(module, Linear)]
    if first.dtype != torch.float32 or first.device.type != "cpu" or any(layer.is_frozen for layer in layers):
        return model
    sparse = [
        worthwhile(*layer.shape, int(layer.weight.count_nonzero()) / layer.weight.numel(), positions)
        for layer in layers
    ]
    return sparsify(model) if all(sparse) else model


def _twin(module: nn.Module) -> Any:
    """A copy that shares every tensor, but for the weights of linear layers and, where it is sparse, the embedding."""
    twin = copy.copy(module)
    twin._parameters = {
        name: None if p is None else nn.Parameter(p.detach(), requires_grad=False)
        for name, p in module._parameters.items()
    }
    twin._buffers = dict(module._buffers)
    twin._modules = {name: None if child is None else _twin(child) for name, child in module._modules.items()}
    if isinstance(twin, Weighted) and not twin.is_frozen:
        twin.freeze()
    return twin
