"""The layers of a weight-sparse model that hold a matrix W: linear layers, y = x W^T + b, and the embedding, its rows.

One meaning each, and three ways to hold W:
- dense: the parameter `weight`, used as PyTorch does;
- training, of linear layers: the parameter `weight` and beside it `matrix`, its nonzeros, refreshed after every
  projection; forward and input gradient then cost what the nonzeros cost, and the weight's gradient stays dense
  (Gao et al., section 2.1);
- frozen: only `matrix`, in float32 on the CPU or CUDA; `weight` is made anew whenever somebody looks at it.
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn
from torch.nn import functional as F

from sparse_circuits.errors import InputError
from sparse_circuits.kernels.matrix import DEVICES
from sparse_circuits.kernels.products import SparseMatrix, sparse_linear, trained_linear

EMBEDDING_BELOW = 1 / 3
"""Density under which an embedding's nonzeros take less room than all of it, with some margin for speed."""


class Weighted(nn.Module):
    """A layer whose weight is dense, sparse beside its parameter, or sparse alone."""

    def __init__(self, rows: int, columns: int):
        """Make a dense one. Its weights are whatever the memory held: the model sets them."""
        super().__init__()
        self.weight = nn.Parameter(torch.empty(rows, columns))
        self.matrix: SparseMatrix | None = None

    @property
    def is_frozen(self) -> bool:
        """Whether only the nonzeros are there."""
        return "weight" not in self._parameters

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the weight: outputs and inputs, or tokens and channels."""
        rows, columns = self.matrix.shape if self.matrix is not None else self.weight.shape
        return rows, columns

    def freeze(self, matrix: SparseMatrix | None = None) -> None:
        """Hold nothing but the nonzeros, by default the weight's own."""
        self.matrix = SparseMatrix.from_dense(self.weight.detach()) if matrix is None else matrix
        del self._parameters["weight"]

    def destination(self, change: Callable[[Tensor], Tensor]) -> torch.device | None:
        """Where `matrix` goes when `change` is done to every tensor, as by `to`; None: there is none any more.

        Raises:
            InputError: a frozen layer would change its dtype, or go where no matrix can be.
        """
        if self.matrix is None:
            return None
        # Not done to the values: it might work in place.
        like = change(self.matrix.value.new_empty(0))
        if like.dtype == torch.float32 and like.device.type in DEVICES:
            return like.device
        if self.is_frozen:
            raise InputError(
                f"a sparse model computes in float32 on the CPU or CUDA, so it cannot become {like.dtype} on "
                f"{like.device}; change the dense model instead"
            )
        return None

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Weighted":
        matrix, device = self.matrix, self.destination(fn)
        super()._apply(fn, recurse)
        self.matrix = None if matrix is None or device is None else matrix.to(device)
        return self

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "weight" and self.__dict__.get("matrix") is not None and self.is_frozen:
            raise InputError(
                "this layer is frozen: it has a sparse matrix in place of its weight; assign "
                "layer.matrix = SparseMatrix.from_dense(weight) instead"
            )
        super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        # Parameters come this way too: they are no attributes of the object.
        if (
            name == "weight"
            and "weight" not in self.__dict__["_parameters"]
            and self.__dict__.get("matrix") is not None
        ):
            return self.__dict__["matrix"].dense()
        return super().__getattr__(name)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.is_frozen:
            destination[prefix + "weight"] = self.weight

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, metadata: Any, strict: bool, missing: Any, unexpected: Any, errors: Any
    ) -> None:
        super()._load_from_state_dict(state_dict, prefix, metadata, strict, missing, unexpected, errors)
        key = prefix + "weight"
        if self.matrix is None:
            return
        weight = state_dict.get(key)
        if weight is None:
            missing += [key] if self.is_frozen else []
            return
        if weight.shape == self.shape:
            self.matrix = SparseMatrix.from_dense(weight.to(self.matrix.value.device))
        elif self.is_frozen:
            errors.append(f"size mismatch for {key}: {tuple(weight.shape)} in the state, {self.shape} in the model")
        if self.is_frozen and key in unexpected:
            unexpected.remove(key)


class Holder(nn.Module):
    """What holds such layers, at any depth: `to` and the like change nothing of it where one of them refuses."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Holder":
        for module in self.modules():
            if isinstance(module, Weighted):
                module.destination(fn)
        return super()._apply(fn, recurse)


class Linear(Weighted):
    """A linear layer."""

    def __init__(self, inputs: int, outputs: int, bias: bool = True):
        super().__init__(outputs, inputs)
        self.bias = nn.Parameter(torch.empty(outputs)) if bias else None
        self.weight_gradient: Literal["dense", "live"] = "dense"
        """Which entries of a weight with a `matrix` beside it get a gradient: "dense" all, "live" its nonzeros."""

    def forward(self, x: Float[Tensor, "*rows inputs"]) -> Float[Tensor, "*rows outputs"]:
        if self.matrix is None:
            return F.linear(x, self.weight, self.bias)
        if self.is_frozen:
            return sparse_linear(x, self.matrix, self.bias)
        precision: Literal["bf16", "fp32"] = "bf16" if torch.is_autocast_enabled(x.device.type) else "fp32"
        return trained_linear(x, self.weight, self.bias, self.matrix, precision, self.weight_gradient)

    def extra_repr(self) -> str:
        outputs, inputs = self.shape
        held = "" if self.matrix is None else f", density={self.matrix.density:.4g}"
        return f"{inputs}, {outputs}, bias={self.bias is not None}{held}"


class Embedding(Weighted):
    """Rows of the weight, by the numbers of tokens."""

    def forward(self, tokens: Integer[Tensor, "*rows"]) -> Float[Tensor, "*rows channels"]:
        return F.embedding(tokens, self.weight) if self.matrix is None else self.matrix.rows(tokens)

    def freeze(self, matrix: SparseMatrix | None = None) -> None:
        """Hold nothing but the nonzeros, by default the weight's own, where they take less room than the weight."""
        matrix = SparseMatrix.from_dense(self.weight.detach()) if matrix is None else matrix
        if matrix.density < EMBEDDING_BELOW:
            super().freeze(matrix)

    def extra_repr(self) -> str:
        tokens, channels = self.shape
        held = "" if self.matrix is None else f", density={self.matrix.density:.4g}"
        return f"{tokens}, {channels}{held}"
