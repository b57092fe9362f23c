"""The models and tasks that many circuits are to be found for, loaded and measured once.

A folder of results has a folder for each model, `NAME-HASH/`, in which its ablation means lie, so that all processes
that share the folder hold removed nodes at the same values.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from sparse_circuits import checkpoint
from sparse_circuits.circuits.circuit import fixed_examples, last_logits
from sparse_circuits.circuits.config import PruneConfig
from sparse_circuits.circuits.means import Means, means_for, read_means, write_means
from sparse_circuits.errors import InputError
from sparse_circuits.fields import require
from sparse_circuits.inference import fastest
from sparse_circuits.model import GPT
from sparse_circuits.tasks import TASKS, Task, get_task, task_losses

ALL = "all"


@dataclass(frozen=True, eq=False)
class Subject:
    """A model, and where its results go."""

    name: str
    """The last part of what the user gave, or all of it where that would not tell the models apart."""
    model: GPT
    hash: str
    folder: Path
    means: Means
    _losses: dict[str, float | InputError] = field(default_factory=dict)

    @cached_property
    def means_hash(self) -> str:
        """Names the means by their values."""
        return hashlib.sha256(self.means.values.numpy().tobytes()).hexdigest()

    def loss(self, task: Task, config: PruneConfig) -> float:
        """The model's own loss on the pairs on which a target is to be met, as `prune` measures it.

        Raises:
            InputError: the task cannot be put to the model.
        """
        if task.name not in self._losses:
            try:
                examples = fixed_examples(self.model, task, "calibrate", config)
                logits = last_logits(fastest(self.model), examples)
                self._losses[task.name] = float(task_losses(logits, examples).mean())
            except InputError as error:
                self._losses[task.name] = error
        known = self._losses[task.name]
        if isinstance(known, InputError):
            raise known
        return known


def subjects(
    names: Sequence[str], out: Path, corpus: Path | None, mean_tokens: int, progress: bool = False
) -> list[Subject]:
    """The models called `names` with their ablation means; InputError where one is not there, or two are one."""
    found: dict[str, Subject] = {}
    last = [Path(name).resolve().name for name in names]
    for name, short in zip(names, last, strict=True):
        each = _subject(name, short if last.count(short) == 1 else name, out, corpus, mean_tokens, progress)
        known = found.setdefault(each.hash, each)
        require(known is each, f"{known.name} and {name} are the same model; give it once")
    return list(found.values())


def _subject(source: str, name: str, out: Path, corpus: Path | None, mean_tokens: int, progress: bool) -> Subject:
    model = checkpoint.load(source)
    require(model.tokenizer is not None, f"{source} has no tokenizer.json, and tasks are text")
    digest = checkpoint.model_hash(model)
    folder = out / f"{file_name(Path(source).resolve().name)}-{digest[:8]}"
    checkpoint.make_folder(folder)
    key = f"{digest} {corpus or ''} {mean_tokens}"
    path = folder / "means.safetensors"
    means = read_means(path, key)
    if means is None:
        means = means_for(fastest(model), corpus, mean_tokens, progress)
        before = read_means(path, digest)
        if before is not None and not torch.equal(before.values, means.values):
            raise InputError(f"{out} has results with ablation means of {name} over other text; choose another --out")
        write_means(path, means, key)
    return Subject(name, model, digest, folder, means)


def tasks(names: Sequence[str]) -> list[Task]:
    """The tasks called `names` in their order, `all` being the twenty; InputError where two share a name."""
    found: dict[str, Task] = {}
    for task in (task for name in names for task in (TASKS.values() if name == ALL else [get_task(name)])):
        known = found.setdefault(file_name(task.name), task)
        require(known is task, f"two of the tasks are called {task.name!r}; give it once, or rename one")
    return list(found.values())


def file_name(name: str) -> str:
    """`name` as part of a path."""
    return re.sub(r"[^\w.=+-]+", "-", name)


def described(subject: Subject, task: Task) -> dict[str, Any]:
    """What a result about this model and this task depends on, as JSON."""
    return {
        "model": subject.hash,
        "task": {"name": task.name, "version": task.version, "fingerprint": task.fingerprint},
        "ablation means": subject.means_hash,
    }


def difference(ours: dict[str, Any], theirs: Any, at: str = "settings") -> str | None:
    """The first setting by which two JSON objects differ, and how, in words; None if they are equal."""
    if not isinstance(theirs, dict):
        return f"no {at}"
    for key in {**ours, **theirs}:
        here, there = ours.get(key), theirs.get(key)
        if isinstance(here, dict) and isinstance(there, dict):
            deeper = difference(here, there, key)
            if deeper is not None:
                return deeper
        elif here != there:
            return f"{key} {there!r}, now {here!r}"
    return None
