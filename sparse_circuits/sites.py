"""Names of activations, and taps: functions that see an activation by its name and return what to use instead.

`tap(site, activation) -> activation` is the one way into a model's forward pass: recording, ablating, masking, adding
and steering are taps, and taps compose. The names are those of the released toolkit, so that its users' files fit.
"""

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

from torch import Tensor

from sparse_circuits.config import GPTConfig
from sparse_circuits.errors import InputError
from sparse_circuits.fields import nearest

Tap = Callable[[str, Tensor], Tensor]

BLOCK_SITES = (
    "resid_in",
    "attn.act_in",
    "attn.q",
    "attn.k",
    "attn.v",
    "attn.y",
    "attn.resid_delta",
    "resid_mid",
    "mlp.act_in",
    "mlp.post_act",
    "mlp.resid_delta",
)
"""The sites of one block, in the order the forward pass reaches them."""

FINAL_SITE = "final_resid"
"""The residual stream before the last norm."""

NODE_SITES = (
    "attn.act_in",
    "attn.q",
    "attn.k",
    "attn.v",
    "attn.resid_delta",
    "mlp.act_in",
    "mlp.post_act",
    "mlp.resid_delta",
)
"""The sites of one block whose channels are the nodes of circuits."""


def site_names(config: GPTConfig) -> list[str]:
    """Every site of a model, in forward order."""
    return [f"{layer}.{site}" for layer in range(config.n_layer) for site in BLOCK_SITES] + [FINAL_SITE]


def residual_sites(config: GPTConfig) -> list[str]:
    """The 2 * layers + 1 places on the residual stream: before each sublayer, and after the last."""
    between = [f"{layer}.{site}" for layer in range(config.n_layer) for site in ("resid_in", "resid_mid")]
    return [*between, FINAL_SITE]


def site_width(config: GPTConfig, site: str) -> int:
    """Number of channels at `site`."""
    name = site.split(".", 1)[-1]
    if name in ("attn.act_in", "mlp.act_in"):
        return config.read_width
    if name in ("attn.q", "attn.k", "attn.v", "attn.y"):
        return config.heads_width
    if name == "mlp.post_act":
        return config.mlp_width
    return config.d_model


def node_sites(config: GPTConfig) -> dict[str, int]:
    """The sites whose channels are nodes, in forward order, each with its number of channels."""
    names = [f"{layer}.{site}" for layer in range(config.n_layer) for site in NODE_SITES]
    return {name: site_width(config, name) for name in names}


def match_sites(config: GPTConfig, patterns: str | Sequence[str]) -> list[str]:
    """The sites that match any of the shell-style `patterns`, in forward order.

    Raises:
        InputError: a pattern matches no site.
    """
    every = site_names(config)
    wanted = [patterns] if isinstance(patterns, str) else list(patterns)
    for pattern in wanted:
        if not any(fnmatchcase(site, pattern) for site in every):
            raise InputError(f"no site matches {pattern!r}; {nearest(pattern, every)}")
    return [site for site in every if any(fnmatchcase(site, pattern) for pattern in wanted)]


def compose(*taps: Tap | None) -> Tap | None:
    """One tap that applies `taps` in order; None stands for no tap."""
    present = [tap for tap in taps if tap is not None]
    if len(present) < 2:
        return present[0] if present else None

    def composed(site: str, activation: Tensor) -> Tensor:
        for tap in present:
            activation = tap(site, activation)
        return activation

    return composed


class Record:
    """A tap that keeps the activations of chosen sites in `.sites`, as the forward pass used them."""

    def __init__(self, sites: Sequence[str]):
        self._wanted = frozenset(sites)
        self.sites: dict[str, Tensor] = {}

    def __call__(self, site: str, activation: Tensor) -> Tensor:
        if site in self._wanted:
            self.sites[site] = activation
        return activation
