"""The settings of pruning that can be searched, with the ranges that are tried.

The paper searches around k_coef 1e-4, init_scale 1e-2, init_bias 1e-1, weight_decay 1e-3, learning_rate 3e-3, 1 - beta2
5e-2, warmup 5e-2 and temperature 1 (appendix B). Its best runs, and those of others, lie far from that (k_coef to 8e-3,
temperature from 0.2 to 2.3, 1 - beta2 0.25), so the ranges are wide, and most are searched by their logarithm.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sparse_circuits.circuits.config import PruneConfig
from sparse_circuits.errors import InputError
from sparse_circuits.fields import nearest


@dataclass(frozen=True)
class Knob:
    """One setting and its range."""

    name: str
    """A field of `PruneConfig`, or of its loop."""
    low: float
    high: float
    log: bool = True
    """Searched by its logarithm."""
    whole: bool = False
    """Whole numbers only."""
    from_one: bool = False
    """The range is that of 1 - value."""
    usual: bool = True
    """Searched where no knobs are named."""
    in_loop: bool = False

    def value_in(self, config: PruneConfig) -> float:
        """What the setting is."""
        return float(getattr(config.loop if self.in_loop else config, self.name))

    def position(self, config: PruneConfig) -> float | int:
        """Where on the range the setting is, at its nearest end if it is beyond."""
        value = self.value_in(config)
        clipped = min(self.high, max(self.low, 1 - value if self.from_one else value))
        return round(clipped) if self.whole else clipped

    def turned(self, config: PruneConfig, position: float | int) -> PruneConfig:
        """`config` with the setting at this position; unchanged to the bit where it is there."""
        if position == self.position(config):
            return config
        changes: Any = {self.name: 1 - position if self.from_one else position}
        if self.in_loop:
            return replace(config, loop=replace(config.loop, **changes))
        return replace(config, **changes)


KNOBS = {
    knob.name: knob
    for knob in (
        Knob("price", 1e-4, 0.2),
        Knob("k_rate", 5e-3, 0.5),
        Knob("aim", 0.1, 1.2),
        Knob("temperature", 0.05, 5.0),
        Knob("screen", 0.01, 1.0),
        Knob("init_bias", 0.02, 0.5),
        Knob("init_scale", 1e-3, 0.1),
        Knob("learning_rate", 5e-3, 0.2, in_loop=True),
        Knob("weight_decay", 1e-5, 0.1, in_loop=True),
        Knob("beta2", 5e-3, 0.5, from_one=True, in_loop=True),
        Knob("warmup", 0.0, 0.3, log=False, in_loop=True),
        # Not searched unless asked for: these cost time, or change what the circuit is.
        Knob("beta1", 0.5, 0.99, log=False, usual=False, in_loop=True),
        Knob("steps", 50.0, 1000.0, whole=True, usual=False, in_loop=True),
        Knob("batch_pairs", 8.0, 128.0, whole=True, usual=False),
        Knob("runs", 1.0, 8.0, whole=True, usual=False),
        Knob("restore_fraction", 0.005, 0.3, usual=False),
    )
}
USUAL = tuple(knob.name for knob in KNOBS.values() if knob.usual)


def knobs(names: Sequence[str]) -> list[Knob]:
    """The knobs called `names`; InputError for one that there is none of, with the choices."""
    for name in names:
        if name not in KNOBS:
            raise InputError(f"no knob {name!r} to tune; {nearest(name, list(KNOBS))}")
    return [KNOBS[name] for name in names]


def positions(chosen: Sequence[Knob], config: PruneConfig) -> dict[str, float | int]:
    """Where the knobs are in `config`."""
    return {knob.name: knob.position(config) for knob in chosen}


def turned(chosen: Sequence[Knob], config: PruneConfig, to: Mapping[str, float | int]) -> PruneConfig:
    """`config` with every knob turned."""
    for knob in chosen:
        config = knob.turned(config, to[knob.name])
    return config
