"""Pairs of models small enough for a test, and bridges between them."""

import copy
from typing import Any

import torch
from small_models import randomised

from sparse_circuits.bridges.bridge import Bridge, Maps, Scales
from sparse_circuits.config import GPTConfig
from sparse_circuits.model import GPT
from sparse_circuits.sites import residual_sites
from sparse_circuits.tokenizer import Tokenizer

LETTERS = Tokenizer.train([], 257)
"""Every byte is a token."""


def shape(**changes: Any) -> GPTConfig:
    usual = {"vocab_size": 257, "block_size": 24, "n_layer": 2, "d_model": 12, "n_head": 3, "d_mlp": 16}
    return GPTConfig(**(usual | changes))


def model(seed: int = 0, **changes: Any) -> GPT:
    made = randomised(shape(**changes), seed, torch.float32)
    made.tokenizer = LETTERS
    return made.eval()


def scales(sites: int) -> Scales:
    return Scales(torch.linspace(1, 2, sites), torch.linspace(3, 1, sites), 1000)


def identity(of: GPT) -> Bridge:
    """The bridge of a model to itself, whose maps change nothing."""
    sites, width = len(residual_sites(of.config)), of.config.d_model
    maps = Maps(width, width, sites)
    with torch.no_grad():
        for name, parameter in maps.named_parameters():
            parameter.copy_(torch.eye(width) if parameter.ndim == 2 else torch.zeros(width))
            assert name
    same = Scales(torch.linspace(1, 2, sites), torch.linspace(1, 2, sites), 1000)
    dense = copy.deepcopy(of).requires_grad_(False)
    return Bridge(dense, of, maps, None, same)


def unlike(seed: int = 0, topk: float | None = 0.5, layers: int = 2, **changes: Any) -> Bridge:
    """Between a dense model and a wider sparse one, by random maps."""
    plain = {"norm": "layer", "norm_bias": True, "abs_topk": None, "positions": "learned"}
    dense = model(seed, d_model=10, n_head=2, n_layer=layers, **plain)
    sparse = model(seed + 1, n_layer=layers, **changes)
    return Bridge(
        dense.requires_grad_(False), sparse, None, topk, scales(len(residual_sites(sparse.config))), seed=seed
    )


def tokens(rows: int = 3, length: int = 8, seed: int = 0) -> torch.Tensor:
    return torch.randint(257, (rows, length), generator=torch.Generator().manual_seed(seed))
