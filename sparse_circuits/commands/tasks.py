"""`sparse-circuits tasks`: what there is to ask, and how a model answers."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Command:
    """List the tasks; with --task show pairs of it, with --model also the model's loss."""

    task: str | None = None
    """A task's name, or a .jsonl or .py file with one of your own."""
    model: Path | None = None
    """Model folder: shows its loss on each split, and the tokens of the completions."""
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
    rows = [_describe(get_task(name), command) for name in names]
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


def _describe(task: Any, command: Command) -> dict[str, Any]:
    import dataclasses

    row: dict[str, Any] = {"name": task.name, "description": task.description, "splits": list(task.splits)}
    if command.model is not None:
        from sparse_circuits import checkpoint
        from sparse_circuits.circuits.circuit import fixed_examples, last_logits
        from sparse_circuits.config import PruneConfig
        from sparse_circuits.tasks import task_loss

        model = checkpoint.load(command.model)
        row["losses"] = {}
        for split in task.splits:
            examples = fixed_examples(model, task, split, PruneConfig())
            row["losses"][split] = float(task_loss(last_logits(model, examples), examples))
    if command.task is not None:
        row["pairs"] = [dataclasses.asdict(pair) for pair in task.draw(command.split, command.n)]
    return row
