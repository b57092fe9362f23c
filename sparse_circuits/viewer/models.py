"""A model as the bundle describes it: sizes, matrices, how it does on text, its training."""

import json
from pathlib import Path
from typing import Any

import torch

from sparse_circuits import checkpoint, shipped
from sparse_circuits.card.measure import activity, matrices
from sparse_circuits.errors import InputError
from sparse_circuits.fields import to_json
from sparse_circuits.files import read_json
from sparse_circuits.inference import fastest
from sparse_circuits.model import GPT
from sparse_circuits.pretraining import next_token_loss
from sparse_circuits.viewer.channels import bigram
from sparse_circuits.viewer.numbers import number
from sparse_circuits.viewer.texts import Text

HEALTH_WINDOWS = 64
STEPS = 300
"""Of the training curve."""


def describe(model: GPT, text: Text) -> dict[str, Any]:
    """The `model` of the schema; what its card says where it has one, else measured on `text`."""
    config = model.config
    tokenizer = model.tokenizer
    known = 0 if tokenizer is None else tokenizer.vocab_size
    # A vocabulary can be padded beyond its tokenizer.
    spelled = [
        tokenizer.token(token) if tokenizer is not None and token < known else f"<{token}>"
        for token in range(config.vocab_size)
    ]
    return {
        "name": name_of(model),
        "hash": checkpoint.model_hash(model),
        "config": to_json(config) | {"d_mlp": config.mlp_width, "d_head": config.d_head},
        "tokens": spelled,
        "matrices": matrices(model),
        "health": _health(model, text),
        "curve": training_curve(model.folder),
        "bigram": bigram(model),
    }


def name_of(model: GPT) -> str:
    """What to call it: the name it ships by, or its folder's."""
    if model.folder is None:
        return "a model in memory"
    return shipped.name_of(model.folder) or model.folder.name or str(model.folder)


def _health(model: GPT, text: Text) -> dict[str, Any]:
    card = _card(model)
    if card is not None:
        return card
    windows = text.windows[:HEALTH_WINDOWS]
    runner = fastest(model)
    active = activity(runner, windows)
    with torch.no_grad():
        losses = [float(next_token_loss(runner(row[None, :-1]), row[None, 1:])) for row in windows]
    return {
        "text": text.source,
        "tokens": active.tokens,
        "loss": number(sum(losses) / len(losses)),
        "bigram_loss": None,
        "dead": active.dead,
        "neurons": active.neurons,
        "kurtosis": {site: number(value) for site, value in active.kurtosis.items()},
    }


def _card(model: GPT) -> dict[str, Any] | None:
    """What the model's card says, if there is one and it is of these weights."""
    if model.folder is None:
        return None
    try:
        card = read_json(model.folder / "card.json")
        if card["model"]["hash"] != checkpoint.model_hash(model):
            return None
        dead = card["dead_neurons"]
        return {
            "text": "held-out text of its own corpus, as its card says",
            "tokens": card["loss"]["tokens"],
            "loss": number(card["loss"]["model"]),
            "bigram_loss": number(card["loss"]["bigram"]),
            "dead": dead["by_layer"],
            "neurons": dead["of"],
            "kurtosis": {site: number(value) for site, value in card["kurtosis"].items()},
        }
    except (InputError, KeyError, TypeError):
        return None


def training_curve(folder: Path | None) -> list[list[float | int | None]]:
    """Step, loss and density of a training run, as far as its folder has them, at most `STEPS` of them."""
    path = None if folder is None else folder / "progress.jsonl"
    if path is None or not path.is_file():
        return []
    rows: list[list[float | int | None]] = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
            density = entry.get("density")
            rows.append([int(entry["step"]), number(entry["loss"]), None if density is None else number(density)])
        except (ValueError, KeyError, TypeError, AttributeError):
            continue  # a line cut short by a kill
    return rows[:: max(1, -(-len(rows) // STEPS))]
