"""All nodes of a model in one row, and the taps that remove some of them (paper, section 3).

A node is one channel of one of eight sites per layer. `NodeSpace` numbers them 0..total-1 in forward order, so that a
choice of nodes is one boolean vector. A removed node is held at a constant, the same for all prompts and positions:
x -> m * x + (1 - m) * mean, after AbsTopK.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sparse_circuits.activations import Holding, Positionwise
from sparse_circuits.config import GPTConfig
from sparse_circuits.errors import InputError
from sparse_circuits.kernels.fused import hold
from sparse_circuits.sites import Tap, node_sites


class NodeSpace:
    """Numbers the nodes of models of one config."""

    def __init__(self, config: GPTConfig):
        self.widths = node_sites(config)
        self.slices: dict[str, slice] = {}
        self.total = 0
        for site, width in self.widths.items():
            self.slices[site] = slice(self.total, self.total + width)
            self.total += width

    def flat(self, nodes: Mapping[str, Sequence[int]]) -> Bool[Tensor, "nodes"]:
        """Which nodes are in `nodes` (channels by site).

        Raises:
            InputError: a site or channel the model does not have.
        """
        kept = torch.zeros(self.total, dtype=torch.bool)
        for site, channels in nodes.items():
            if site not in self.slices:
                raise InputError(f"{site!r} is no site of this model's nodes ({len(self.slices)} sites)")
            for channel in channels:
                if not 0 <= channel < self.widths[site]:
                    raise InputError(f"{site} has channels 0..{self.widths[site] - 1}, not {channel}")
                kept[self.slices[site].start + channel] = True
        return kept

    def by_site(self, kept: Bool[Tensor, "nodes"]) -> dict[str, tuple[int, ...]]:
        """The kept channels of each site that has any."""
        parts = {site: kept[part].nonzero().squeeze(1).tolist() for site, part in self.slices.items()}
        return {site: tuple(channels) for site, channels in parts.items() if channels}

    def check(self, what: str, values: Tensor) -> None:
        """Refuse `values`, called `what` in messages, unless they are one finite number a node.

        Raises:
            InputError: another shape, not floating point, NaN or infinity.
        """
        if values.shape != (self.total,):
            raise InputError(f"{what} of shape {tuple(values.shape)} for {self.total} nodes: they are another model's")
        if not values.is_floating_point() or not values.isfinite().all():
            raise InputError(f"the {what} are not all finite numbers")

    def name(self, node: int) -> tuple[str, int]:
        """Site and channel of node number `node`."""
        for site, part in self.slices.items():
            if node < part.stop:
                return site, node - part.start
        raise IndexError(node)


class Hold(Holding, Positionwise):
    """A tap that turns each node x into m * x + (1 - m) * held. Differentiable in the masks m."""

    def __init__(self, space: NodeSpace, mask: Float[Tensor, "nodes"], held: Float[Tensor, "nodes"]):
        widths = list(space.widths.values())
        self._parts = dict(zip(space.widths, zip(mask.split(widths), held.split(widths), strict=True), strict=True))

    def holding(self, site: str) -> tuple[Tensor, Tensor] | None:
        """The mask and the constants of `site`; None where there are no nodes."""
        return self._parts.get(site)

    def __call__(self, site: str, activation: Tensor) -> Tensor:
        part = self._parts.get(site)
        return activation if part is None else hold(activation, *part)


def keep_only(space: NodeSpace, kept: Bool[Tensor, "nodes"], held: Float[Tensor, "nodes"]) -> Hold:
    """A tap that holds every node outside `kept` at its value in `held`.

    With every node kept the logits are bit-equal to those without a tap.
    """
    # What a kept node would be held at does not matter, not even when it is NaN.
    return Hold(space, kept.to(held.dtype), held.masked_fill(kept, 0.0))


def hold_each(space: NodeSpace, masks: Sequence[Float[Tensor, "nodes"]], held: Float[Tensor, "nodes"]) -> Tap:
    """`Hold` with several masks: each acts on its own equal share of the rows, in order."""
    holds = [Hold(space, mask, held) for mask in masks]
    return holds[0] if len(holds) == 1 else HoldShares(space, holds)


class Shares:
    """A tap that treats equal shares of the rows differently, at the sites of nodes."""

    def __init__(self, space: NodeSpace, taps: Sequence[Tap]):
        self._space, self._taps = space, taps

    def __call__(self, site: str, activation: Tensor) -> Tensor:
        if site not in self._space.widths:
            return activation
        shares = activation.chunk(len(self._taps))
        return torch.cat([each(site, share) for each, share in zip(self._taps, shares, strict=True)])


class HoldShares(Shares, Positionwise):
    """Shares that are each held."""
