"""What the kernels mean, in plain PyTorch: any device, any floating dtype.

Every faster kernel must give exactly these results. The order of entries is the same throughout: larger
magnitude first; NaN above infinity, all NaN equal; -0.0 equal to 0.0; among equals the lower index first.

1. `keep_mask`: which k entries of each row come first in that order.
2. `abs_topk`: those entries as they are, +0.0 elsewhere.
3. `masked`: the gradient of that.
4. `project_topk_`: the same over a whole matrix, after the best of each row and column have their place.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

name = "reference"


def refuses(tensor: Tensor) -> str | None:
    """Why this kernel cannot take `tensor`, or None when it can."""
    return None


def keep_mask(x: Float[Tensor, "rows n"], k: int) -> Bool[Tensor, "rows n"]:
    """True at the k first entries of each row; k is at most n."""
    order = torch.sort(x.abs(), dim=-1, descending=True, stable=True).indices
    return torch.zeros_like(x, dtype=torch.bool).scatter_(-1, order[:, :k], True)


def abs_topk(
    x: Float[Tensor, "rows n"], k: int, with_mask: bool
) -> tuple[Float[Tensor, "rows n"], Bool[Tensor, "rows n"] | None]:
    """The kept entries, and on request where they are."""
    mask = keep_mask(x, k)
    return torch.where(mask, x, 0.0), mask if with_mask else None


def masked(gradient: Float[Tensor, "rows n"], mask: Bool[Tensor, "rows n"]) -> Float[Tensor, "rows n"]:
    """The gradient where the mask is True, +0.0 elsewhere."""
    return torch.where(mask, gradient, 0.0)


def project_topk_(weight: Float[Tensor, "rows columns"], k: int, min_per_row: int, min_per_column: int) -> None:
    """Zero all but k entries of `weight`, in place. The caller has made sure that the minimums fit into k."""
    forced = torch.zeros_like(weight, dtype=torch.bool)
    if min_per_row:
        forced |= keep_mask(weight, min_per_row)
    if min_per_column:
        forced |= keep_mask(weight.T, min_per_column).T
    # A stable sort on the magnitude, then a stable partition on `forced`: forced entries lead, each part in
    # order.
    order = torch.sort(weight.abs().flatten(), descending=True, stable=True).indices
    leaders = torch.sort(forced.flatten()[order].to(torch.uint8), descending=True, stable=True).indices
    kept = torch.zeros_like(order, dtype=torch.bool).scatter_(0, order[leaders[:k]], True)
    weight.masked_fill_(~kept.view_as(weight), 0.0)
