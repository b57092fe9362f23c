"""`sparse-circuits tasks`: what there is to ask, and how a model answers."""

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparse_circuits.model import GPT
    from sparse_circuits.tasks import Task


@dataclass(frozen=True)
class Command:
    """List the tasks; with --task show pairs of it, with --model also the model's loss."""

    task: str | None = None
    """A task's name, or a .jsonl or .py file with one of your own."""
    model: Path | None = None
    """Model folder: shows its loss on each split, and completions as its tokenizer has them."""
    split: str = "report"
    """Which split's pairs to show."""
    n: int = 3
    """How many pairs to show."""
    json: bool = False
    """Print as JSON."""


def run(command: Command) -> None:
    """Print tasks, pairs and losses."""
    from sparse_circuits.tasks import TASKS, get_task

    names = [command.task] if command.task else list(TASKS)
    tasks = [get_task(name) for name in names]
    model = None
    if command.model is not None:
        from sparse_circuits import checkpoint

        model = checkpoint.load(command.model)
    rows = [_describe(task, command, model) for task in tasks]
    if command.json:
        print(json.dumps(rows, indent=2))
        return
    for row in rows:
        print(f"{row['name']}: {row['description']}")
        for pair in row.get("pairs", []):
            print(f"  {pair['prompt_a']!r} -> {pair['completion_a']!r}")
            other = pair["completion_b"]
            print(
                f"  {pair['prompt_b']!r} -> {'not ' + repr(pair['completion_a']) if other is None else repr(other)}\n"
            )
        if "losses" in row:
            print("  loss in nats (chance 0.693): " + ", ".join(f"{k} {v:.3f}" for k, v in row["losses"].items()))


def _describe(task: "Task", command: Command, model: "GPT | None") -> dict[str, Any]:
    row: dict[str, Any] = {"name": task.name, "description": task.description, "splits": list(task.splits)}
    tokenizer = None
    if model is not None:
        from sparse_circuits.circuits.circuit import fixed_examples, last_logits
        from sparse_circuits.config import PruneConfig, require
        from sparse_circuits.tasks import task_loss

        row["losses"] = {}
        for split in task.splits:
            examples = fixed_examples(model, task, split, PruneConfig())
            loss = float(task_loss(last_logits(model, examples), examples))
            require(
                math.isfinite(loss), f"the loss of {command.model} on {task.name} is {loss}; its weights are damaged"
            )
            row["losses"][split] = loss
        tokenizer = model.tokenizer
    if command.task is not None:
        if tokenizer is None:
            pairs = task.draw(command.split, command.n)
        else:
            pairs = task.pairs(tokenizer, command.split, command.n)
        row["pairs"] = [dataclasses.asdict(pair) for pair in pairs]
    return row
