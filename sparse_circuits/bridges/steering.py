"""An edit to one readable channel of the sparse model, made in the dense one (paper, section 6).

A node here is a channel that a sublayer of the sparse model reads, after the norm. Its direction in what the same
sublayer of the dense model reads is

    d = gain_dense * centred(decoder's row of the channel) / gain_sparse[channel] * RMS_sparse / RMS_dense

with the decoder of the residual site before the norm, the norms' gains (1 where they are folded into the weights, as
the paper has them), the mean over channels taken out where the dense norm takes it out, and the root mean squares of
the two residual streams on held-out text. To change the node by delta is to add strength * delta * d there.

`Steering` changes nodes in any forward pass, a generation included: by adding a constant, or by setting or scaling what
the encoder reads of the node in the dense model's own stream. `differences` are what a pair's other side would change.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sparse_circuits.activations import normed
from sparse_circuits.bridges.bridge import Bridge
from sparse_circuits.circuits.logits import RowTap, rows_by_length
from sparse_circuits.circuits.node_sets import read_nodes
from sparse_circuits.circuits.nodes import NodeSpace
from sparse_circuits.errors import InputError
from sparse_circuits.fields import require
from sparse_circuits.model import GPT
from sparse_circuits.sites import Record, Tap, compose
from sparse_circuits.tasks import Examples

READS = {"attn.act_in": ("resid_in", "ln_1"), "mlp.act_in": ("resid_mid", "ln_2")}
"""What a sublayer reads: the residual site before its norm, and the norm."""

Node = tuple[str, int]
Nodes = Mapping[str, Sequence[int]] | str | Sequence[str]


@dataclass(frozen=True)
class Change:
    """What happens to a node's value a: a + value, value, or value * a."""

    kind: Literal["add", "set", "scale"]
    value: float

    def __post_init__(self) -> None:
        require(self.kind in ("add", "set", "scale"), f"a change is add, set or scale, not {self.kind!r}")
        require(_finite(self.value), f"the change is by {self.value}; it must be a finite number")

    def of(self, value: Tensor) -> Tensor:
        """The difference it makes to `value`."""
        if self.kind == "add":
            return torch.full_like(value, self.value)
        return self.value - value if self.kind == "set" else (self.value - 1) * value


class Steering:
    """Changes nodes of the sparse model in the dense one; `tap`, or `with steering.on():` for all that runs inside."""

    def __init__(self, bridge: Bridge, nodes: Nodes, change: Change, strength: float = 1.0):
        """Prepare to change `nodes` ("0.attn.act_in:17", channels by site, or several) with `strength`.

        Raises:
            InputError: a node that is not in the model or that no bridge maps, or a strength that is no number.
        """
        require(_finite(strength), f"strength is {strength!r}; expected a finite number")
        self.bridge, self.change, self.strength = bridge, change, float(strength)
        self.nodes = read_channels(bridge, nodes)
        self.directions = {site: directions(bridge, site, list(of)) for site, of in _by_site(self.nodes).items()}
        self._channels = {site: torch.tensor(of) for site, of in _by_site(self.nodes).items()}

    def tap(self) -> Tap:
        """The tap for one forward pass of the dense model at a time (a generation is one after another)."""
        values: dict[str, Tensor] = {}
        before = {residual_before(site): site for site in self.directions}

        def steer(site: str, x: Tensor) -> Tensor:
            if site in before and self.change.kind != "add":
                values[before[site]] = self.read(before[site], x)
            if site not in self.directions:
                return x
            direction = self.directions[site].to(x)
            value = values[site] if self.change.kind != "add" else x.new_zeros(*x.shape[:-1], len(direction))
            return add_to_stream(x, self.strength * self.change.of(value) @ direction)

        return steer

    def read(self, site: str, dense: Float[Tensor, "B T D"]) -> Float[Tensor, "B T nodes"]:
        """What the nodes at `site` are in the dense model's residual stream before it, as the encoder reads them.

        The encoder's AbsTopK acts; that of the sparse model's read, which sees its position channels too, does not.
        """
        encoded = self.bridge.encode(residual_before(site), dense)
        return normed(norm_before(self.bridge.sparse, site), encoded)[..., self._channels[site].to(dense.device)]

    @contextlib.contextmanager
    def on(self) -> Iterator[GPT]:
        """Steer every pass of the dense model inside `with`: `with steering.on() as dense: dense.generate(...)`."""
        dense, standing = self.bridge.dense, self.bridge.dense.standing_tap
        dense.standing_tap = compose(standing, self.tap())
        try:
            yield dense
        finally:
            dense.standing_tap = standing


def read_channels(bridge: Bridge, nodes: Nodes) -> list[Node]:
    """The nodes that `nodes` names, each a channel that a sublayer of the sparse model reads from its stream.

    Raises:
        InputError: no node, one that is not in the model, or one that no bridge maps.
    """
    space = NodeSpace(bridge.sparse.config)
    named = space.by_site(space.flat(nodes)) if isinstance(nodes, Mapping) else read_nodes(space, nodes)
    chosen = [(site, channel) for site, channels in named.items() for channel in channels]
    require(bool(chosen), "no nodes to steer; name some, as in 0.attn.act_in:17")
    for site, channel in chosen:
        if not is_read((site, channel), bridge):
            what = "a position channel" if site.endswith("act_in") else "no channel that a sublayer reads"
            raise InputError(
                f"{site}:{channel} is {what}, and only those of the stream are mapped: choose channels 0.."
                f"{bridge.sparse.config.d_model - 1} of sites that end in attn.act_in or mlp.act_in"
            )
    return chosen


def is_read(node: Node, bridge: Bridge) -> bool:
    """Whether a bridge maps this node: a channel of the stream, as a sublayer reads it."""
    site, channel = node
    return site.split(".", 1)[1] in READS and channel < bridge.sparse.config.d_model


def residual_before(site: str) -> str:
    """The residual site whose stream is normed to what is read at `site`."""
    layer, read = site.split(".", 1)
    return f"{layer}.{READS[read][0]}"


def norm_before(model: GPT, site: str) -> nn.Module:
    """The norm whose output is read at `site`."""
    layer, read = site.split(".", 1)
    return cast(nn.Module, getattr(model.blocks[int(layer)], READS[read][1]))


def directions(bridge: Bridge, site: str, channels: Sequence[int]) -> Float[Tensor, "nodes D"]:
    """The directions of these channels of the sparse read at `site` in the dense model's read there.

    Raises:
        InputError: the bridge does not know how large the streams are.
    """
    if bridge.scales is None:
        raise InputError("the bridge does not say how large the two streams are; measure them (measure_scales)")
    before = residual_before(site)
    number = bridge.number(before)
    ratio = float(bridge.scales.sparse[number] / bridge.scales.dense[number])
    rows = torch.stack([bridge.direction(before, channel) for channel in channels])
    sparse_norm, dense_norm = norm_before(bridge.sparse, site), norm_before(bridge.dense, site)
    if isinstance(dense_norm, nn.LayerNorm):
        rows = rows - rows.mean(1, keepdim=True)
    gain = _gain(sparse_norm)[list(channels)]
    # A channel of gain 0 is never anything but 0: there is nothing its direction could stand for.
    shares = torch.where(gain == 0, 0.0, 1 / torch.where(gain == 0, 1.0, gain))
    return ratio * rows * _gain(dense_norm) * shares.unsqueeze(1)


def add_to_stream(x: Float[Tensor, "B T read"], delta: Float[Tensor, "B T D"]) -> Float[Tensor, "B T read"]:
    """x with `delta` on top of its first channels; position channels, which follow them, stay."""
    width = delta.shape[-1]
    if width == x.shape[-1]:
        return x + delta.to(x.dtype)
    return torch.cat([x[..., :width] + delta.to(x.dtype), x[..., width:]], dim=-1)


@torch.no_grad()
def differences(model: GPT, examples: Examples, sites: Sequence[str]) -> dict[str, Float[Tensor, "rows T D"]]:
    """What each row's reads would change by if its prompt were that of its pair's other side, at all tokens.

    Prompts of unequal length are aligned at the last token; a token without a counterpart takes the other prompt's
    first. After the last token of a row, where nothing is asked, there is no difference.
    """
    rows, width = examples.tokens.shape
    wide = model.config.d_model
    values = {site: torch.zeros(rows, width, wide, device=examples.tokens.device) for site in sites}
    for batch in rows_by_length(examples.last):
        long = int(examples.last[batch].max()) + 1
        recorder = Record(sites)
        model(examples.tokens[batch, :long], tap=recorder, at=examples.last[batch])
        for site, x in recorder.sites.items():
            values[site][batch, :long] = x[..., :wide].float()
    other = (torch.arange(rows, device=examples.last.device) + rows // 2) % rows
    last = examples.last[other]
    places = torch.arange(width, device=last.device) + (last - examples.last).unsqueeze(1)
    places = torch.minimum(places.clamp(min=0), last.unsqueeze(1)).unsqueeze(2).expand(-1, -1, wide)
    asked = (torch.arange(width, device=last.device) <= examples.last.unsqueeze(1)).unsqueeze(2)
    return {site: (x[other].gather(1, places) - x) * asked for site, x in values.items()}


class Edits(RowTap):
    """For `last_logits`: each row's own edits of the dense model's reads, times a strength."""

    def __init__(self, deltas: Mapping[str, Float[Tensor, "rows T D"]], strength: float):
        self._deltas, self._strength = deltas, strength

    def at(self, rows: Tensor, width: int) -> Tap:
        def add(site: str, x: Tensor) -> Tensor:
            delta = self._deltas.get(site)
            return x if delta is None else add_to_stream(x, self._strength * delta[rows, :width])

        return add


def _by_site(nodes: Sequence[Node]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for site, channel in nodes:
        found.setdefault(site, []).append(channel)
    return found


def _gain(norm: nn.Module) -> Tensor:
    return cast(Tensor, norm.weight).detach()


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")
