"""A model's card as data: how it was made, how good it is, how sparse it is, and what it can and cannot do.

Also what makes a trained folder fit to ship: `ship` rounds what is stored densely to half precision, so that it takes
half the room, and adds the ablation means, so that pruning needs no corpus.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from sparse_circuits import checkpoint
from sparse_circuits.card.answers import Answers, answer, why
from sparse_circuits.card.measure import activity, density, held_out_loss, matrices
from sparse_circuits.card.recipe import recipe
from sparse_circuits.circuits import means
from sparse_circuits.circuits.config import PruneConfig
from sparse_circuits.config import TrainConfig
from sparse_circuits.corpus.packed import SPLITS, PackedCorpus
from sparse_circuits.errors import InputError
from sparse_circuits.fields import from_json, require, to_json
from sparse_circuits.files import read_json, write_json
from sparse_circuits.inference import fastest
from sparse_circuits.model import GPT
from sparse_circuits.tasks import TASKS, Task

FORMAT = 1
ACTIVITY_TOKENS = 100_000
PAIRS = 128
"""Of each split of each task, as circuits are measured on."""
GOOD_LOSS = 0.15
"""The report loss in nats up to which a task counts as solved."""


def measure_card(
    model: GPT, corpus: PackedCorpus, real: PackedCorpus | None = None, tokens: int = 1_000_000, machine: str = ""
) -> dict[str, Any]:
    """The card of `model`, which has a folder and a tokenizer.

    Args:
        corpus: the corpus it was trained on.
        real: a corpus of real code, packed with the same tokenizer, for a second loss.
        tokens: validation tokens of each to predict, as far as there are so many.
        machine: what it was trained on, in words, if `train.json` does not say enough.

    Raises:
        InputError: a corpus of another tokenizer, a damaged `train.json`, or weights that give no number.
    """
    assert model.folder is not None
    config, counted = model.config, matrices(model)
    size = config.block_size
    windows = torch.from_numpy(corpus.validation_windows(size - 1, max(1, ACTIVITY_TOKENS // size) * (size - 1)))
    active = activity(model, windows)
    tasks, above = _tasks(model)
    return {
        "format": FORMAT,
        "name": model.folder.name,
        "model": {
            "hash": checkpoint.model_hash(model),
            "layers": config.n_layer,
            "width": config.d_model,
            "heads": config.n_head,
            "block_size": size,
            "vocabulary": config.vocab_size,
            "bigram_table": config.bigram_table,
        },
        "recipe": recipe(model.folder, machine),
        "corpus": _described(corpus) | {"trained_on": _trained_on(model.folder, corpus)},
        "loss": held_out_loss(model, corpus, corpus, tokens),
        "real": None
        if real is None
        else _described(real)
        | {"held_out": _held_out(corpus, real), "loss": held_out_loss(model, corpus, real, tokens)},
        "density": {
            "all": density(counted),
            "blocks": density(counted, inside=True),
            "embeddings": density(counted, inside=False),
        },
        "matrices": counted,
        "dead_neurons": {"tokens": active.tokens, "of": active.neurons, "by_layer": active.dead},
        "kurtosis": active.kurtosis,
        "pairs": PAIRS,
        "tasks": tasks,
        "above": above,
        "bridge": _bridge(model.folder),
    }


def _bridge(folder: Path) -> dict[str, Any] | None:
    """What the check of its bridge found, and to which dense model it is; None where the model has none."""
    if not (folder / "bridge.json").is_file() or not (folder / "check.json").is_file():
        return None
    return {"dense": read_json(folder / "bridge.json")["dense"]["folder"], "check": read_json(folder / "check.json")}


def _described(corpus: PackedCorpus) -> dict[str, Any]:
    """What a corpus is, without where it is."""
    sources = corpus.manifest.get("sources", [])
    return {
        "sources": [{key: source[key] for key in ("name", "tokens") if key in source} for source in sources],
        "train_tokens": len(corpus.train),
        "validation_tokens": len(corpus.validation),
    }


def _trained_on(folder: Path, corpus: PackedCorpus) -> bool | None:
    """Whether `corpus` is the one that `train.json` names by its hashes; None where there is no such file."""
    if not (folder / "train.json").exists():
        return None
    named = read_json(folder / "train.json").get("corpus")
    return isinstance(named, dict) and all(
        named.get(split) == corpus.manifest["splits"][split]["sha256"] for split in SPLITS
    )


def _held_out(corpus: PackedCorpus, real: PackedCorpus) -> bool:
    """Whether no document for validation in `real` can be one to train on in `corpus`: a hash with the seed decides."""
    ours, theirs = corpus.manifest, real.manifest
    try:
        return bool(ours["seed"] == theirs["seed"] and theirs["validation_fraction"] <= ours["validation_fraction"])
    except (KeyError, TypeError):
        return False


def _tasks(model: GPT) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Every registered task's scores, and the ones that are not solved, each with the reason."""
    found, skipped = answer(model, list(TASKS.values()), PAIRS, ("report", "ood"))
    rows: list[dict[str, Any]] = []
    above: list[dict[str, Any]] = []
    for task in TASKS.values():
        if task.name in skipped:
            rows.append({"name": task.name, "skipped": skipped[task.name]})
            above.append({"name": task.name, "loss": None, "why": f"not asked: {skipped[task.name]}"})
            continue
        rows.append(_row(task, found[task.name]))
        loss = rows[-1]["loss"]
        if loss > GOOD_LOSS:
            above.append({"name": task.name, "loss": loss, "why": why(model, task, found[task.name])})
    return rows, above


def _row(task: Task, answers: dict[str, Answers]) -> dict[str, Any]:
    report, ood = answers["report"], answers.get("ood")
    return {
        "name": task.name,
        "loss": report.loss,
        "accuracy": report.accuracy,
        "margin": report.margin,
        "ood_loss": None if ood is None else ood.loss,
    }


def ship(source: Path, corpus: PackedCorpus, out: Path) -> None:
    """Write the model in the folder `source` to the folder `out` in the form that ships.

    1. Round the matrices that are stored densely (the bigram table, a dense model's) to values of half precision.
    2. Save it with its tokenizer and `train.json`, which tells of no folders of the machine it was trained on.
    3. Add the ablation means over the validation split of `corpus`.

    Raises:
        InputError: `out` is `source`, or `source` holds no model.
    """
    model = checkpoint.load(source)
    assert model.folder is not None
    if out.resolve() == model.folder.resolve():
        raise InputError(f"{out} is the model's own folder, and what ships is rounded; choose another --ship")
    described = model.folder / "train.json"
    require(described.is_file(), f"{model.folder} has no train.json, without which nobody knows how it was made")
    require(model.tokenizer is not None, f"{model.folder} has no tokenizer.json, without which it reads no text")
    history = read_json(described)
    history = history if isinstance(history, dict) else {}
    usual = TrainConfig()
    config = replace(from_json(TrainConfig, history.get("config"), str(described)), corpus=usual.corpus, out=usual.out)
    checkpoint.round_dense_(model)
    checkpoint.save(model, out)
    write_json(out / "train.json", history | {"config": to_json(config)})
    model.folder = None  # the means go beside what ships, not into a cache
    found = means.means_for(fastest(model), corpus, PruneConfig().mean_tokens, progress=True)
    means.write_means(out / means.FILE, found, checkpoint.model_hash(model))
