"""Maps to begin with, between two models that are both trained: least squares on a little text.

At each site, with the dense and the sparse stream side by side and a column of ones, Z = [h_d, h_s, 1], the sums Z^T Z
over positions hold all that both regressions need: encoder W_f = argmin |h_d W + b - h_s|^2, decoder the other way. A
small ridge keeps them solvable where a stream has fewer directions than channels. AbsTopK is not looked at.
"""

from collections.abc import Iterable

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from sparse_circuits.bridges.bridge import Bridge
from sparse_circuits.bridges.passes import own_streams

RIDGE = 1e-5
"""Of the mean square of a channel."""


@torch.no_grad()
def fit_maps_(bridge: Bridge, batches: Iterable[Int64[Tensor, "B T"]]) -> None:
    """Set the maps of `bridge` to those that fit the streams of its two models on `batches` best."""
    sums: dict[str, Tensor] = {}
    for tokens in batches:
        dense = own_streams(bridge.dense, tokens, bridge.sites)
        sparse = own_streams(bridge.sparse, tokens, bridge.sites)
        for site in bridge.sites:
            both = torch.cat([dense[site], sparse[site]], dim=2).flatten(0, 1)
            z = torch.cat([both, torch.ones_like(both[:, :1])], dim=1)
            found = (z.T @ z).double()
            sums[site] = sums[site] + found if site in sums else found
    width = bridge.dense.config.d_model
    for number, site in enumerate(bridge.sites):
        dense_part, sparse_part = slice(width), slice(width, sums[site].shape[0] - 1)
        _solve(sums[site], dense_part, sparse_part, bridge.maps.encoders[number])
        _solve(sums[site], sparse_part, dense_part, bridge.maps.decoders[number])


def _solve(sums: Float[Tensor, "n n"], source: slice, target: slice, into: nn.Module) -> None:
    """Write the regression of the channels `target` on those of `source` into a linear layer."""
    assert isinstance(into, nn.Linear)
    ones = slice(sums.shape[0] - 1, None)
    rows = torch.cat([torch.cat([sums[a, b] for b in (source, ones)], dim=1) for a in (source, ones)])
    right = torch.cat([sums[source, target], sums[ones, target]])
    penalty = torch.zeros(len(rows), dtype=rows.dtype, device=rows.device)
    # Not on the bias; where all is zero, any positive number will do.
    penalty[:-1] = (RIDGE * rows.diagonal()[:-1].mean()).clamp(min=torch.finfo(torch.float32).tiny)
    found = torch.linalg.solve(rows + penalty.diag(), right)
    into.weight.copy_(found[:-1].T)
    into.bias.copy_(found[-1])
