"""Dropped edges, executed: a twin of the model in which they are constants.

An edge from x to y carries w * x. Dropped, it carries w * c all the time, c being what its source is held at when it is
itself removed: so a node all of whose edges are dropped is a node removed. The twin's weight is zero there and its bias
is w * c higher; everything else it shares with the model, and its forward pass is the model's.

Attention carries v channels over unchanged, its weights summing to one, so that a v channel held at c arrives at the
attention output as c. (With a sink they sum to less; a dropped edge still carries w * c.)
"""

import copy
from collections import defaultdict
from collections.abc import Iterable
from typing import TypeVar, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sparse_circuits.circuits.nodes import NodeSpace
from sparse_circuits.kernels.products import SparseMatrix
from sparse_circuits.linear import Linear
from sparse_circuits.model import GPT

Node = tuple[str, int]
Link = tuple[Node, Node]
"""An edge by its two ends: source, then target."""

M = TypeVar("M", bound=nn.Module)


def place(model: GPT, target: Node) -> tuple[str, int]:
    """The linear layer that computes the node `target`, by its name, and the row of its weight."""
    layer, site = target[0].split(".", 1)
    if site in ("attn.q", "attn.k", "attn.v"):
        return f"h.{layer}.attn.c_attn", "qkv".index(site[-1]) * model.config.heads_width + target[1]
    names = {"attn.resid_delta": "attn.c_proj", "mlp.post_act": "mlp.c_fc", "mlp.resid_delta": "mlp.c_proj"}
    return f"h.{layer}.{names[site]}", target[1]


def without(model: GPT, dropped: Iterable[Link], constants: Float[Tensor, "nodes"]) -> GPT:
    """A twin of `model`, dense or sparse, in which the edges `dropped` carry what their source in `constants` would.

    Its changed layers are its own, all else is shared. With nothing dropped it is `model` itself.
    """
    space = NodeSpace(model.config)
    by_layer: dict[str, list[tuple[int, int, float]]] = defaultdict(list)
    # In order of their names, so that the same edges give the same sums to the bit.
    for source, target in sorted(dropped):
        name, row = place(model, target)
        by_layer[name].append((row, source[1], float(constants[space.slices[source[0]].start + source[1]])))
    return with_layers(model, {name: _changed(layer_of(model, name), cut) for name, cut in by_layer.items()})


def with_layers(model: GPT, layers: dict[str, Linear]) -> GPT:
    """A twin of `model` that has these linear layers, by name, and shares all else; without any, `model` itself."""
    if not layers:
        return model
    twin = shallow(model)
    copies: dict[str, nn.Module] = {}
    for name, layer in layers.items():
        *path, last = name.split(".")
        parent: nn.Module = twin
        for depth, part in enumerate(path):
            so_far = ".".join(path[: depth + 1])
            if so_far not in copies:
                copies[so_far] = parent._modules[part] = shallow(cast(nn.Module, parent._modules[part]))
            parent = copies[so_far]
        parent._modules[last] = layer
    return twin


def layer_of(model: GPT, name: str) -> Linear:
    """The linear layer called `name`."""
    layer = model.get_submodule(name)
    assert isinstance(layer, Linear)
    return layer


def shallow(module: M) -> M:
    """A copy of `module` that shares its tensors and the modules inside it."""
    twin = copy.copy(module)
    for kind in ("_parameters", "_buffers", "_modules"):
        setattr(twin, kind, dict(getattr(module, kind)))
    return twin


def _changed(layer: Linear, cut: list[tuple[int, int, float]]) -> Linear:
    """`layer` with the weights at (row, column) zero and what they carry at the given input in the bias."""
    weight = layer.weight.detach().clone()
    bias = weight.new_zeros(weight.shape[0]) if layer.bias is None else layer.bias.detach().clone()
    for row, column, value in cut:
        bias[row] += weight[row, column] * value
        weight[row, column] = 0
    twin = shallow(layer)
    twin.__dict__.pop("bias", None)  # a layer without one says so there
    twin._parameters["bias"] = nn.Parameter(bias, requires_grad=False)
    if layer.is_frozen:
        twin.matrix = SparseMatrix.from_dense(weight)
    else:
        twin._parameters["weight"] = nn.Parameter(weight, requires_grad=False)
        twin.matrix = None
    return twin


def trainable(layer: Linear) -> Linear:
    """A copy of `layer` whose weight gets a gradient, where it is not zero, and whose bias does."""
    weight = layer.weight.detach()
    twin = shallow(layer)
    bias = weight.new_zeros(weight.shape[0]) if layer.bias is None else layer.bias.detach()
    twin.__dict__.pop("bias", None)
    twin.matrix, twin.weight_gradient = layer.matrix, "live"
    twin._parameters = {
        "weight": nn.Parameter(weight.clone()),
        "bias": nn.Parameter(bias.clone()),
    }
    return twin


def gradients(layer: Linear) -> tuple[Tensor, Tensor]:
    """The gradients of weight and bias of a `trainable` layer; zero where none came."""
    bias = layer.bias
    assert bias is not None
    found = [torch.zeros_like(p) if p.grad is None else p.grad for p in (layer.weight, bias)]
    return found[0], found[1]
