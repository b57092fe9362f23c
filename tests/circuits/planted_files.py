"""The planted model and its task as files, for processes that are told where things are."""

import json
from dataclasses import replace
from pathlib import Path

import planted
import torch

from sparse_circuits import checkpoint
from sparse_circuits.circuits.config import PruneConfig

PRUNE = replace(planted.CONFIG, target_loss=PruneConfig().target_loss, mean_tokens=2000, drop_edges=False)
"""Settings for so small a model, quick ones."""


def model_folder(parent: Path, name: str = "planted", extra: float = 0.0) -> Path:
    """The model's folder; with `extra` another model, in which a decoy writes that much to the single quote's logit."""
    made = planted.model()
    if extra:
        with torch.no_grad():
            made.blocks[0].mlp.c_proj.weight[5, 3] = extra
    checkpoint.save(made, parent / name)
    return parent / name


def task_file(parent: Path, name: str, marks: str = "\"'") -> Path:
    """Pairs that differ in a mark, which is to come again; the planted model knows about quotes only."""
    path = parent / f"{name}.jsonl"
    a, b = marks
    pairs = [
        {"a": f"{s[0]}({a}{word}", "b": f"{s[0]}({b}{word}", "right_a": a, "right_b": b, "split": s}
        for s, words in planted.WORDS.items()
        for word in words.split()
    ]
    path.write_text("\n".join(map(json.dumps, pairs)))
    return path
