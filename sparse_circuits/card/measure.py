"""The numbers of a card that come from weights and held-out text.

- `matrices`: nonzeros by kind of matrix and layer; q, k and v count each for itself.
- `held_out_loss`: the loss beside a bigram model's on the very same predictions.
- `activity`: neurons that never fire, and the excess kurtosis of the residual stream, by location.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from sparse_circuits.corpus.bigram import bigram_loss
from sparse_circuits.corpus.packed import PackedCorpus
from sparse_circuits.model import GPT
from sparse_circuits.pretraining import next_token_loss
from sparse_circuits.progress import Bar

POSITIONS_PER_BATCH = 4096


def matrices(model: GPT) -> list[dict[str, Any]]:
    """Kind, layer (None outside the blocks), rows, columns and nonzeros of each matrix; the bigram table is none."""
    found: list[dict[str, Any]] = []

    def add(kind: str, layer: int | None, weight: Tensor) -> None:
        rows, columns = weight.shape
        count = int(weight.count_nonzero())
        found.append({"kind": kind, "layer": layer, "rows": rows, "columns": columns, "nonzeros": count})

    add("embedding", None, model.wte.weight)
    if not model.config.tied_embeddings:
        add("unembedding", None, model.lm_head.weight)
    if model.config.positions.startswith("learned"):
        add("positions", None, model.wpe.weight)
    for layer, block in enumerate(model.blocks):
        for kind, weight in zip("qkv", block.attn.c_attn.weight.chunk(3), strict=True):
            add(f"attention {kind}", layer, weight)
        add("attention out", layer, block.attn.c_proj.weight)
        add("mlp in", layer, block.mlp.c_fc.weight)
        add("mlp out", layer, block.mlp.c_proj.weight)
    return found


def density(counted: list[dict[str, Any]], inside: bool | None = None) -> float:
    """The fraction nonzero of all of `matrices`, or of those inside or outside the blocks."""
    chosen = [matrix for matrix in counted if inside is None or inside == (matrix["layer"] is not None)]
    return sum(m["nonzeros"] for m in chosen) / sum(m["rows"] * m["columns"] for m in chosen)


def held_out_loss(model: GPT, counted_on: PackedCorpus, text: PackedCorpus, max_tokens: int) -> dict[str, Any]:
    """Loss of `model` and of a bigram model on the first `max_tokens` validation tokens of `text`, in float32.

    Args:
        counted_on: the bigram model is the Kneser-Ney estimate from this corpus's training split.

    Returns:
        `model` and `bigram` in nats per token, `tokens` predicted, and how many the split has, `of`.
    """
    size = model.config.block_size
    windows = torch.from_numpy(text.validation_windows(size, max_tokens))
    count = len(windows) * size
    # Windows share one token, so together they predict each of these transitions once.
    same = np.asarray(text.validation[: count + 1])
    batches = windows.split(max(1, POSITIONS_PER_BATCH // size))
    total = 0.0
    with torch.no_grad(), Bar("loss", len(batches)) as bar:
        for number, batch in enumerate(batches):
            total += float(next_token_loss(model(batch[:, :-1]), batch[:, 1:])) * len(batch)
            bar.update(number + 1)
    return {
        "model": total / len(windows),
        "bigram": bigram_loss(counted_on.train, same, model.config.vocab_size),
        "tokens": count,
        "of": len(text.validation) - 1,
    }


@dataclass
class Activity:
    """What activations do over some text."""

    tokens: int
    dead: list[int]
    """By layer, the neurons that were zero at every position."""
    neurons: int
    """Of each layer."""
    kurtosis: dict[str, float]
    """By site, the fourth central moment over the squared variance, less 3, of all positions and channels together."""


def activity(model: GPT, windows: Int64[Tensor, "n T"]) -> Activity:
    """Run `model` over `windows`, each a sequence of its own."""
    config = model.config
    fired = torch.zeros(config.n_layer, config.mlp_width, dtype=torch.bool)
    powers: dict[str, Tensor] = {}

    def tap(site: str, activation: Tensor) -> Tensor:
        layer, _, name = site.partition(".")
        if name == "mlp.post_act":
            fired[int(layer)] |= activation.ne(0).flatten(0, 1).any(0).cpu()
        elif name in ("resid_in", "resid_mid") or not name:
            values = activation.double()
            sums = torch.stack([values.pow(power).sum() for power in range(1, 5)]).cpu()
            powers[site] = powers.get(site, torch.zeros(4, dtype=torch.float64)) + sums
        return activation

    batches = windows.split(max(1, POSITIONS_PER_BATCH // windows.shape[1]))
    with torch.no_grad(), Bar("activity", len(batches)) as bar:
        for number, batch in enumerate(batches):
            model(batch, tap=tap)
            bar.update(number + 1)
    entries = windows.numel() * config.d_model
    kurtosis = {site: _excess(*(sums / entries).tolist()) for site, sums in powers.items()}
    return Activity(windows.numel(), (~fired).sum(1).tolist(), config.mlp_width, kurtosis)


def _excess(first: float, second: float, third: float, fourth: float) -> float:
    """Excess kurtosis from the raw moments; 0 where nothing varies."""
    variance = second - first**2
    central = fourth - 4 * first * third + 6 * first**2 * second - 3 * first**4
    return central / variance**2 - 3 if variance > 1e-12 * second else 0.0
