"""From what a layer computes to what a site shows: a norm or nonlinearity, AbsTopK, then the tap.

The three are one kernel where they can be (`kernels.fused`): when there is no tap, and when the tap says beforehand
that at this site it only mixes the activation with constants, as every pruning does.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparse_circuits.config import GPTConfig
from sparse_circuits.errors import InputError
from sparse_circuits.fields import nearest
from sparse_circuits.kernels.fused import keep_gelu, keep_hold, keep_norm, keep_relu
from sparse_circuits.sites import FINAL_SITE, Tap, residual_sites
from sparse_circuits.sparsity import abs_topk


class Holding(ABC):
    """A tap that, where `holding(site)` is (mask, held), does no more than mask * x + (1 - mask) * held.

    It is derived from, since a tap of one's own may have a method of this name that means something else.
    """

    @abstractmethod
    def __call__(self, site: str, activation: Tensor) -> Tensor:
        """The activation, changed."""

    @abstractmethod
    def holding(self, site: str) -> tuple[Tensor, Tensor] | None:
        """The mask and the constants, one number a channel each; None where the tap is to be called."""


class Positionwise:
    """A tap that does the same at every position whatever stands at others, and does nothing else.

    So positions that nobody asks about can be left out, and it is shown [B, 1, channels] instead of [B, T, channels].
    Derived from, as `Holding` is.
    """


class Prefixed:
    """A tap as one block sees it: site names without their layer."""

    def __init__(self, tap: Tap, layer: int):
        self._tap, self._layer = tap, layer

    def __call__(self, site: str, activation: Tensor) -> Tensor:
        return tapped(self._tap, f"{self._layer}.{site}", activation)

    def holding(self, site: str) -> tuple[Tensor, Tensor] | None:
        """The mask and constants that are all the tap does at `site`, if that is so."""
        return self._tap.holding(f"{self._layer}.{site}") if isinstance(self._tap, Holding) else None


def tapped(tap: Tap, site: str, activation: Tensor) -> Tensor:
    """What `tap` makes of the activation; InputError where that is no tensor of its shape."""
    result: Any = tap(site, activation)
    if not isinstance(result, Tensor) or result.shape != activation.shape:
        got = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
        raise InputError(
            f"the tap returned {got} at {site}; it must return a tensor of shape {tuple(activation.shape)} "
            "(the activation itself where it changes nothing)"
        )
    return result


class Entering:
    """Rows that join a forward pass at sites of the residual stream, each with a stream of its own.

    They are the last rows of the pass's tokens, in the order of the sites; `own` rows start at the embedding.
    """

    def __init__(self, streams: Mapping[str, Tensor], tokens: Tensor, config: GPTConfig, until: str | None = None):
        """Check `streams`, [rows, T, D] by site, against the tokens of all rows.

        Raises:
            InputError: a site off the residual stream or behind `until`, another shape, or more rows than tokens.
        """
        places = residual_sites(config)
        for site in [*streams, *([] if until is None else [until])]:
            if site not in places:
                raise InputError(f"{site!r} is no site of the residual stream; {nearest(site, places)}")
        reached = places if until is None else places[: places.index(until) + 1]
        for site, stream in streams.items():
            if site not in reached:
                raise InputError(f"rows enter at {site}, which a pass until {until} does not reach")
            if stream.ndim != 3 or stream.shape[1:] != (tokens.shape[1], config.d_model):
                raise InputError(
                    f"the rows that enter at {site} have shape {tuple(stream.shape)}; "
                    f"expected [rows, {tokens.shape[1]}, {config.d_model}]"
                )
        self.own = len(tokens) - sum(map(len, streams.values()))
        if self.own < 0:
            raise InputError(f"{len(tokens) - self.own} rows enter, but tokens are given for {len(tokens)}")
        self._streams = {site: streams[site] for site in reached if site in streams}
        self.any = bool(self._streams)

    def layer(self, layer: int) -> dict[str, Tensor]:
        """What enters in block `layer`, by the site without the layer."""
        prefix = f"{layer}."
        return {site.removeprefix(prefix): x for site, x in self._streams.items() if site.startswith(prefix)}

    def last(self) -> Tensor | None:
        """What enters after the last block."""
        return self._streams.get(FINAL_SITE)


def picked(x: Tensor, at: Tensor) -> Tensor:
    """One position of each row of x [B, T, ...], as [B, 1, ...]."""
    return x[torch.arange(len(x), device=x.device), at].unsqueeze(1)


def joined(residual: Tensor | None, entering: Tensor | None) -> Tensor | None:
    """The rows of a stream, if there are any yet, and those that enter it."""
    if residual is None or entering is None:
        return entering if residual is None else residual
    return torch.cat([residual, entering])


def normed(norm: nn.Module, x: Tensor) -> Tensor:
    """x after a norm, with nothing done to it."""
    return keep_norm(x, norm.weight, x.shape[-1], norm.eps) if isinstance(norm, nn.RMSNorm) else norm(x)


def kept_count(config: GPTConfig, place: str, width: int) -> int:
    """How many of `width` entries AbsTopK keeps at `place`; all of them where the config does not put it."""
    if config.abs_topk is None or place not in config.abs_topk_sites:
        return width
    return max(1, int(config.abs_topk * width))


def finish(
    x: Tensor,
    config: GPTConfig,
    place: str,
    tap: Prefixed | None,
    site: str,
    function: Literal["none", "gelu", "relu", "gelu_tanh"] | nn.RMSNorm = "none",
    beside: Tensor | None = None,
) -> Tensor:
    """`function` of x, AbsTopK where the config puts it at `place`, and the tap's say at `site`.

    Channels `beside` follow those of a norm: [T, channels], or with the dimensions of x before.
    """
    k = kept_count(config, place, x.shape[-1] + (0 if beside is None else beside.shape[-1]))
    if function == "gelu_tanh":  # the one that has no kernel with what follows
        x = F.gelu(x, approximate="tanh")
    mask, held = (tap.holding(site) if tap is not None else None) or (None, None)
    if isinstance(function, nn.RMSNorm):
        x = keep_norm(x, function.weight, k, function.eps, mask, held, beside)
    elif function == "gelu":
        x = keep_gelu(x, k, mask, held)
    elif function == "relu":
        x = keep_relu(x, k, mask, held)
    elif mask is not None and held is not None:
        x = keep_hold(x, k, mask, held)
    else:
        x = abs_topk(x, k)
    return x if tap is None or mask is not None else tap(site, x)
