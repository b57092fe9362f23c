"""Settings of pruning in a JSON file: what `--settings` reads and `tune` writes.

A file may hold a part of them; the rest are the defaults. It is refused where it holds anything else.
"""

from pathlib import Path
from typing import Any

from sparse_circuits.circuits.config import PruneConfig
from sparse_circuits.fields import from_json, require, to_json
from sparse_circuits.files import read_json

LARGE = 1e300
"""Numbers from here on are as good as infinite."""


def read_settings(path: str | Path) -> PruneConfig:
    """The settings in the file at `path`.

    Raises:
        InputError: no such file, no JSON object, an unknown key or a value that cannot be.
    """
    values = read_json(path)
    require(isinstance(values, dict), f"{path}: expected a JSON object with settings of pruning")
    return from_json(PruneConfig, _over(to_json(PruneConfig()), _as_called_now(values)), str(path))


def recorded(values: Any, where: str) -> PruneConfig:
    """The settings that a circuit was found with, from its file, be it from before there were all of them.

    Raises:
        InputError: no JSON object, an unknown key or a value that cannot be.
    """
    if not isinstance(values, dict):
        return from_json(PruneConfig, values, where)
    return from_json(PruneConfig, {"screen": 1.0, "aim": 0.6} | _as_called_now(values), where)


def _as_called_now(values: dict[str, Any]) -> dict[str, Any]:
    """Settings as they are called now: a node's price was in nats once, by the paper's name, and could be left open."""
    if "k_coef" not in values or "price" in values:
        return values
    rest = {key: value for key, value in values.items() if key != "k_coef"}
    price, target = values["k_coef"], rest.get("target_loss", PruneConfig.target_loss)
    if price is None:
        return rest | {"price": 0.007}
    if not all(type(value) in (int, float) and abs(value) < LARGE for value in (price, target)):
        return values
    return rest | {"price": price / target if target > 0 else price}  # else the target is refused


def _over(defaults: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """`values`, and where they say nothing the defaults."""
    return defaults | {
        key: _over(defaults[key], value) if isinstance(value, dict) and isinstance(defaults.get(key), dict) else value
        for key, value in values.items()
    }
