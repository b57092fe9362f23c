"""`sparse-circuits train`: a packed corpus in, a model folder out."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparse_circuits import presets
from sparse_circuits.config import TrainConfig
from sparse_circuits.errors import InputError
from sparse_circuits.fields import to_json
from sparse_circuits.files import read_json


@dataclass(frozen=True)
class Command:
    """Train a weight-sparse transformer on a packed corpus."""

    config: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    resume: bool = False
    """Continue the run in --out, with its own settings."""
    json: bool = False
    """Print the results as JSON."""


PRESETS = {name: (lambda make=make: Command(make())) for name, make in presets.TRAIN.items()}


def run(command: Command) -> None:
    """Train and print the losses."""
    from sparse_circuits.process import is_first
    from sparse_circuits.train import train

    if command.resume:
        _refuse_other_settings(command.config)
    train(command.config, resume=command.resume)
    if not is_first():
        return
    results = read_json(Path(command.config.out) / "train.json")
    if command.json:
        print(json.dumps(results, indent=2))
        return
    loss, bigram = results["validation_loss"], results["bigram_loss"]
    side = "below" if loss <= bigram else "ABOVE"
    print(
        f"{command.config.out}: validation loss {loss:.3f} nats per token, {abs(bigram - loss):.3f} {side} the bigram "
        f"baseline's {bigram:.3f}; {results['tokens']:,} tokens in {results['seconds']:.0f} s"
    )


def _refuse_other_settings(config: TrainConfig) -> None:
    """A flag given beside --resume must agree with the run; one left at its default is not a wish."""
    from sparse_circuits.train import stored_config

    stored = to_json(stored_config(Path(config.out)))
    for key, given, default in _leaves(to_json(config), to_json(TrainConfig())):
        known: Any = stored
        for part in key.split("."):
            known = known[part]
        # Folders may have been moved; that the corpus is the same, its hashes say.
        if key not in ("out", "corpus") and given not in (default, known):
            flag = key.rsplit(".", 1)[-1].replace("_", "-")
            raise InputError(
                f"--{flag} is {given!r}, but the run in {config.out} was started with {known!r}; "
                "a resumed run keeps its settings: leave the flag out, or start anew in another --out"
            )


def _leaves(given: dict[str, Any], default: dict[str, Any], prefix: str = "") -> list[tuple[str, Any, Any]]:
    found: list[tuple[str, Any, Any]] = []
    for key, value in given.items():
        if isinstance(value, dict):
            found += _leaves(value, default[key], f"{prefix}{key}.")
        else:
            found.append((f"{prefix}{key}", value, default[key]))
    return found
