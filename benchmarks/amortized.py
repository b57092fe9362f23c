"""What amortised weight gradients cost and save: validation loss at equal tokens, and at equal processor time.

Trains a wide, sparse model on the standard library (the corpus of `below_bigram.py`) three times: with dense weight
gradients, with amortised ones for as many steps, and with amortised ones for as much processor time.

    python benchmarks/amortized.py --minutes 3
"""

import dataclasses
import json
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import tyro
from below_bigram import mean_step_seconds, packed, with_steps

from sparse_circuits import presets
from sparse_circuits.config import TrainConfig
from sparse_circuits.files import read_json
from sparse_circuits.train import train


@dataclass(frozen=True)
class Settings:
    """Compare amortised weight gradients with dense ones."""

    minutes: float = 3.0
    """Processor time of training with dense gradients; the number of steps is set by timing a few."""
    width: int = 512
    """d_model of the model, which has two layers."""
    one_in: int = 64
    """The density is one in so many."""
    out: Path = Path("runs/below_bigram")
    """Folder for corpus and models; models in it are replaced."""
    json: bool = False
    """Print as JSON."""


def main() -> None:
    """Train three times and print the table."""
    settings = tyro.cli(Settings)
    dense = wide(presets.stdlib_train(packed(settings.out), settings.out / "model"), settings)
    amortised = dataclasses.replace(dense, dw="amortized")
    seconds = {
        name: mean_step_seconds(config, time.process_time)
        for name, config in (("dense", dense), ("amortised", amortised))
    }
    steps = max(20, int(settings.minutes * 60 / seconds["dense"]))
    more = int(steps * seconds["dense"] / seconds["amortised"])
    rows = []
    for name, config in [
        ("dense", with_steps(dense, steps)),
        ("amortised, equal tokens", with_steps(amortised, steps)),
        ("amortised, equal time", with_steps(amortised, more)),
    ]:
        out = settings.out / name.replace(", ", "-").replace(" ", "-")
        shutil.rmtree(out, ignore_errors=True)
        train(dataclasses.replace(config, out=out))
        result = read_json(out / "train.json")
        keys = ("validation_loss", "bigram_loss", "seconds", "tokens")
        rows.append(
            {"weight gradients": name, "step": seconds[name.split(",")[0]], **{key: result[key] for key in keys}}
        )
    if settings.json:
        json.dump(rows, sys.stdout, indent=2)
        print()
        return
    print(f"{'weight gradients':26s}{'loss':>8s}{'bigram':>8s}{'tokens':>12s}{'seconds':>9s}{'a step, ms':>12s}")
    for row in rows:
        print(
            f"{row['weight gradients']:26s}{row['validation_loss']:8.3f}{row['bigram_loss']:8.3f}"
            f"{row['tokens']:12,d}{row['seconds']:9.0f}{1e3 * row['step']:12.0f}"
        )


def wide(config: TrainConfig, settings: Settings) -> TrainConfig:
    """The same training of another shape, at another density."""
    density = 1 / settings.one_in
    return dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, d_model=settings.width, n_head=settings.width // 16),
        sparsity=dataclasses.replace(config.sparsity, density=density, embedding_density=2 * density),
    )


if __name__ == "__main__":
    main()
