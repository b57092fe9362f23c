"""How a model was trained, from its `train.json`: the command line that does it again, and what that took."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sparse_circuits import presets
from sparse_circuits.bridges.config import BridgeConfig
from sparse_circuits.config import TrainConfig
from sparse_circuits.fields import from_json, to_json
from sparse_circuits.files import read_json


def recipe(folder: Path, machine: str | None = None) -> dict[str, Any] | None:
    """Command, seed, steps, tokens, hours, machine and torch version; None where the folder has no `train.json`.

    Args:
        machine: what it was trained on, in words, if the file's own are not enough.
    """
    path = folder / "train.json"
    if not path.exists():
        return None
    described = read_json(path)
    described = described if isinstance(described, dict) else {}
    config = from_json(TrainConfig, described.get("config"), str(path))
    seconds = described.get("seconds")
    return {
        "command": bridge_line(config, described["bridge"], str(path))
        if "bridge" in described
        else command_line(config),
        "seed": config.loop.seed,
        "steps": config.last_step,
        "tokens": described.get("tokens"),
        "hours": round(seconds / 3600, 3) if isinstance(seconds, int | float) else None,
        "machine": machine or described.get("machine"),
        "torch": described.get("torch"),
    }


def command_line(config: TrainConfig) -> str:
    """`sparse-circuits train` with the preset that is nearest to `config` and the flags that make up the rest."""
    return _shortest("train", config, TrainConfig(), presets.TRAIN)


def bridge_line(config: TrainConfig, bridge: dict[str, Any], where: str) -> str:
    """The same of `sparse-circuits bridge`, from what the file `where` says of the bridge."""
    own = {key: value for key, value in bridge.items() if key != "dense_hash"}
    whole = replace(from_json(BridgeConfig, own, where), train=config)

    def shaped(base: BridgeConfig) -> BridgeConfig:
        # A model to start from says what shape it has; no flags do.
        return base if whole.start is None else replace(base, train=replace(base.train, model=config.model))

    named = {name: (lambda make=make: shaped(make())) for name, make in presets.BRIDGE.items()}
    return _shortest("bridge", whole, shaped(BridgeConfig()), named)


def _shortest(verb: str, config: Any, usual: Any, named: Mapping[str, Callable[[], Any]]) -> str:
    candidates = {"": usual} | {f" --preset {name}": make() for name, make in named.items()}
    lines = [
        f"sparse-circuits {verb}{start}" + "".join(_flags(to_json(config), to_json(base)))
        for start, base in candidates.items()
    ]
    return min(lines, key=lambda line: line.count(" --"))


def _flags(wanted: dict[str, Any], base: dict[str, Any]) -> list[str]:
    """The flags that turn `base` into `wanted`."""
    flags: list[str] = []
    for key, value in wanted.items():
        name = key.replace("_", "-")
        if isinstance(value, dict):
            flags += _flags(value, base[key])
        elif value == base[key] or key == "vocab_size":  # which the corpus says
            continue
        elif isinstance(value, bool):
            flags.append(f" --{name}" if value else f" --no-{name}")
        else:
            text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
            flags.append(f" --{name} {text}")
    return flags
