"""The shapes that are measured, and models of them with random weights.

| shape | like | d_model | layers | heads of 16 | density |
|---|---|---|---|---|---|
| S | the narrowest of the released sweep | 256 | 8 | 16 | 1/16 |
| M | the released training script | 1024 | 8 | 64 | 1/64 |
| Y | csp_yolo2, the model on the Hub | 2048 | 8 | 128 | 1/1024 |

All have AbsTopK of 1/4 at the eight default sites, a sink, a learned bigram table, 2048 tokens and 256 positions; Y has
32 position channels beside the normed input.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Int64
from torch import Tensor

from sparse_circuits.config import GPTConfig
from sparse_circuits.model import GPT
from sparse_circuits.sparsity import nonzero_count


class Shape(NamedTuple):
    """A model's config and the density of its matrices."""

    name: str
    config: GPTConfig
    density: float

    @property
    def embedding_density(self) -> float:
        """Of embedding and unembedding, as in training."""
        return min(1.0, self.density * self.config.d_model / 256)


S = Shape("S", GPTConfig(n_layer=8, d_model=256, n_head=16), 1 / 16)
M = Shape("M", GPTConfig(n_layer=8, d_model=1024, n_head=64), 1 / 64)
Y = Shape("Y", GPTConfig(n_layer=8, d_model=2048, n_head=128, positions="learned_concat", d_position=32), 1 / 1024)


def with_layers(shape: Shape, layers: int) -> Shape:
    """The same with fewer blocks."""
    return shape._replace(config=GPTConfig(**{**vars(shape.config), "n_layer": layers}))


@torch.no_grad()
def random_model(shape: Shape, seed: int = 0) -> GPT:
    """A model whose matrices have `shape.density` nonzeros, at random positions.

    Values are N(0, 1/r) in matrices with r nonzeros a row, so that what comes out is as large as what goes in, and
    smaller by sqrt(2 * layers) in output projections, so that the residual stream does not grow with depth. Biases,
    sinks and the bigram table are N(0, 0.1^2), N(0, 1) and N(0, 1): no two activations tie, and tokens differ.
    """
    model = GPT(shape.config, seed)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.normal_(0, 0.1, generator=generator)
        elif "ln_" not in name:
            scattered = parameter.ndim == 2 and name not in ("bigram_table", "wpe.weight")
            if not scattered:
                parameter.normal_(generator=generator)
                continue
            of_tokens = name in ("wte.weight", "lm_head.weight")
            density = shape.embedding_density if of_tokens else shape.density
            scale = 1 / math.sqrt(max(1, density * parameter.shape[1])) if name != "wte.weight" else 1.0
            if name.endswith("c_proj.weight"):
                scale /= math.sqrt(2 * shape.config.n_layer)
            places = positions(parameter.numel(), nonzero_count(density, parameter.numel()), generator)
            parameter.zero_().view(-1)[places] = scale * torch.randn(len(places), generator=generator)
    return model


def positions(total: int, count: int, generator: torch.Generator) -> Int64[Tensor, " count"]:
    """`count` distinct numbers below `total`, without drawing a permutation of them all."""
    if 4 * count > total:
        return torch.randperm(total, generator=generator)[:count]
    found = torch.empty(0, dtype=torch.int64)
    while len(found) < count:
        more = torch.randint(total, (count + count // 4 + 8,), generator=generator)
        found = torch.cat([found, more]).unique()
    return found[torch.randperm(len(found), generator=generator)[:count]]


def random_tokens(config: GPTConfig, rows: int, length: int, seed: int = 1) -> Int64[Tensor, "rows length"]:
    """Token ids, all equally likely."""
    return torch.randint(config.vocab_size, (rows, length), generator=torch.Generator().manual_seed(seed))
