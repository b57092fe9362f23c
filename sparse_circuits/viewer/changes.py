"""Live interventions: nodes switched off or on, scaled, set to a value, or patched from another prompt.

A change is made where the activation is computed, by a tap over the one forward, on the circuit or on the whole model:
1. off and on change which nodes are kept; the others are held as the circuit's are;
2. scale, set and patch then act on what is left.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Int64
from torch import Tensor

from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.circuits.logits import RowTap
from sparse_circuits.errors import InputError
from sparse_circuits.model import GPT
from sparse_circuits.sites import Record, Tap, compose
from sparse_circuits.tasks import Examples

Kind = Literal["off", "on", "scale", "set", "patch"]
KINDS = ("off", "on", "scale", "set", "patch")
MOST = 500
"""Changes at once."""
LARGEST = 1e6


@dataclass(frozen=True)
class Change:
    """What is done to one node."""

    site: str
    channel: int
    kind: Kind
    value: float = 0.0
    """The factor, or the value it is set to."""


def read_changes(described: Any, circuit: Circuit) -> list[Change]:
    """The changes that a page asks for.

    Raises:
        InputError: no list of changes, a node that the model has not, an unknown kind, or a value that is no number.
    """
    if not isinstance(described, list) or len(described) > MOST:
        raise InputError(f"changes must be a list of at most {MOST}")
    found = []
    for each in described:
        if not isinstance(each, dict) or not isinstance(each.get("node"), str):
            raise InputError('a change must be like {"node": "0.attn.q:3", "kind": "off"}')
        site, _, channel = each["node"].rpartition(":")
        kind, value = each.get("kind"), each.get("value", 0.0)
        if kind not in KINDS:
            raise InputError(f"no change {kind!r}; choose among {', '.join(KINDS)}")
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not number or abs(value) > LARGEST:
            raise InputError(f"the value of {each['node']} must be a number of at most {LARGEST:g}")
        if not channel.isdecimal() or len(channel) > 9:
            raise InputError(f"{each['node']!r} is no node; nodes are named like 0.attn.q:3")
        circuit.space.flat({site: [int(channel)]})  # refuses what the model has not
        found.append(Change(site, int(channel), kind, float(value)))
    return found


def kept_with(circuit: Circuit, changes: Sequence[Change], whole: bool) -> Tensor:
    """Which nodes are alive: the circuit's (or all), without those switched off, with those switched on."""
    kept = torch.ones_like(circuit.kept) if whole else circuit.kept.clone()
    for change in changes:
        if change.kind in ("off", "on"):
            kept[circuit.space.slices[change.site].start + change.channel] = change.kind == "on"
    return kept


class Edit:
    """A tap that scales, sets or patches some channels; `others` are activations [B, T, channels] by site."""

    def __init__(self, changes: Sequence[Change], others: Mapping[str, Tensor] | None = None):
        self._by_site: dict[str, list[Change]] = {}
        for change in changes:
            if change.kind in ("scale", "set", "patch"):
                self._by_site.setdefault(change.site, []).append(change)
        self._others = others or {}

    def __bool__(self) -> bool:
        return bool(self._by_site)

    def __call__(self, site: str, activation: Tensor) -> Tensor:
        if site not in self._by_site:
            return activation
        edited = activation.clone()
        for change in self._by_site[site]:
            column = edited[..., change.channel]
            if change.kind == "scale":
                column *= change.value
            elif change.kind == "set":
                column.fill_(change.value)
            else:
                column.copy_(self._others[site][..., change.channel])
        return edited


class RowEdit(RowTap):
    """Changes on the rows of some examples: patches take the value of the other side of the same pair.

    The two are aligned at their last tokens; where a row's first tokens have no counterpart it gets the other prompt's
    first.
    """

    def __init__(self, model: GPT, examples: Examples, base: Tap | RowTap, changes: Sequence[Change]):
        self._model, self._examples, self._base, self._changes = model, examples, base, changes
        self._sites = sorted({change.site for change in changes if change.kind == "patch"})

    def at(self, rows: Int64[Tensor, " some"], width: int) -> Tap:
        others = None
        if self._sites:
            count = len(self._examples)
            flipped = (rows + count) % (2 * count)
            wide = int(self._examples.last[flipped].max()) + 1
            recorder = Record(self._sites)
            base = self._base.at(flipped, wide) if isinstance(self._base, RowTap) else self._base
            self._model(self._examples.tokens[flipped, :wide], tap=compose(base, recorder))
            others = aligned(recorder.sites, self._examples.last[flipped], self._examples.last[rows], width)
        base = self._base.at(rows, width) if isinstance(self._base, RowTap) else self._base
        found = compose(base, Edit(self._changes, others))
        assert found is not None
        return found


def aligned(
    sites: Mapping[str, Tensor], theirs: Int64[Tensor, " B"], ours: Int64[Tensor, " B"], width: int
) -> dict[str, Tensor]:
    """Activations moved so that position `theirs` comes to stand at `ours`, [B, width, channels] by site."""
    found = {}
    for site, activation in sites.items():
        places = torch.arange(width) + (theirs - ours).unsqueeze(1)
        places = places.clamp(0, activation.shape[1] - 1).unsqueeze(2)
        found[site] = activation.gather(1, places.expand(-1, -1, activation.shape[2]))
    return found
