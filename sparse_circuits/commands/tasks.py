"""`sparse-circuits tasks`: what there is to ask, and how a model answers."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparse_circuits.card.answers import Answers
    from sparse_circuits.model import GPT
    from sparse_circuits.tasks import Task

PAIRS_IN_TABLE = 32


@dataclass(frozen=True)
class Command:
    """List the tasks; with --task show pairs of it, with --model how well the model answers, all tasks or that one."""

    task: str | None = None
    """A task's name, or a .jsonl or .py file with one of your own."""
    model: Path | None = None
    """Model folder, or the name of one that ships: shows its loss, the part of its answers that are right and their
    margin on each split, and completions as its tokenizer has them."""
    split: str = "report"
    """Which split's pairs to show."""
    n: int = 3
    """How many pairs to show."""
    pairs: int | None = None
    """Pairs of each split to ask the model: with --task 128, as circuits are measured on, else 32."""
    json: bool = False
    """Print as JSON."""


def run(command: Command) -> None:
    """Print tasks, pairs and scores."""
    from sparse_circuits.tasks import TASKS, get_task

    names = [command.task] if command.task else list(TASKS)
    tasks = [get_task(name) for name in names]
    model = None
    if command.model is not None:
        from sparse_circuits import checkpoint

        model = checkpoint.load(command.model, sparse="auto")
    rows = [_describe(task, command, model) for task in tasks]
    if model is not None:
        _score(rows, tasks, command, model)
    if command.json:
        print(json.dumps(rows, indent=2))
    elif model is not None and command.task is None:
        print(_table(rows, _count(command)))
    else:
        for row in rows:
            print(_written(row))


def _describe(task: "Task", command: Command, model: "GPT | None") -> dict[str, Any]:
    """What the task is; pairs of it where one task is asked for."""
    row: dict[str, Any] = {"name": task.name, "description": task.description, "splits": list(task.splits)}
    if command.task is not None:
        if model is None or model.tokenizer is None:
            pairs = task.draw(command.split, command.n)
        else:
            pairs = task.pairs(model.tokenizer, command.split, command.n)
        row["pairs"] = [dataclasses.asdict(pair) for pair in pairs]
    return row


def _score(rows: list[dict[str, Any]], tasks: "Sequence[Task]", command: Command, model: "GPT") -> None:
    """Add `losses`, `accuracies` and `margins` by split to the rows, or why a task is `skipped`, and `notes` to one.

    A task that was asked for by name is not skipped: its refusal is the user's answer.
    """
    from sparse_circuits.card.answers import answer
    from sparse_circuits.fields import require

    require(model.tokenizer is not None, f"the model {command.model} has no tokenizer, so tasks cannot be put to it")
    found, skipped = answer(model, tasks, _count(command), skip=command.task is None)
    for row in rows:
        if row["name"] in skipped:
            row["skipped"] = skipped[row["name"]]
            continue
        answers = found[row["name"]]
        row["losses"] = {split: each.loss for split, each in answers.items()}
        row["accuracies"] = {split: each.accuracy for split, each in answers.items()}
        row["margins"] = {split: each.margin for split, each in answers.items()}
        if command.task is not None:
            row["notes"] = _notes(model, tasks[0], answers, command.split)


def _notes(model: "GPT", task: "Task", answers: "Mapping[str, Answers]", split: str) -> list[str]:
    """What whoever wrote the task should know of the pairs of `split` before pruning."""
    from sparse_circuits.card.answers import last_tokens, why
    from sparse_circuits.card.card import GOOD_LOSS

    assert model.tokenizer is not None
    found = []
    if answers[split].loss > GOOD_LOSS:
        found.append(f"{split}: {why(model, task, answers, split)}")
    ends = last_tokens(model, task, answers[split], split)
    differ = [pair for pair in ends if pair[0] != pair[1]]
    if differ:
        a, b = (model.tokenizer.decode([token]) for token in differ[0])
        found.append(
            f"in {len(differ)} of {len(ends)} pairs the prompts end in different tokens ({a!r} and {b!r}), "
            "so the last token alone may tell the answers apart, without any node"
        )
    return found


def _count(command: Command) -> int:
    """How many pairs of each split the model is asked."""
    from sparse_circuits.circuits.config import PruneConfig

    if command.pairs is not None:
        return command.pairs
    return PruneConfig().eval_pairs if command.task else PAIRS_IN_TABLE


def _written(row: dict[str, Any]) -> str:
    """One task for reading: what it asks, its pairs, its scores."""
    lines = [f"{row['name']}: {row['description']}"]
    for pair in row.get("pairs", []):
        other = pair["completion_b"]
        lines.append(f"  {pair['prompt_a']!r} -> {pair['completion_a']!r}")
        lines.append(
            f"  {pair['prompt_b']!r} -> {'not ' + repr(pair['completion_a']) if other is None else repr(other)}\n"
        )
    if "losses" in row:
        lines.append("  loss in nats (chance 0.693): " + ", ".join(f"{k} {v:.3f}" for k, v in row["losses"].items()))
        lines.append("  answers that are right: " + ", ".join(f"{k} {v:.1%}" for k, v in row["accuracies"].items()))
        lines.append("  margin in nats: " + ", ".join(f"{k} {v:.2f}" for k, v in row["margins"].items()))
    lines += [f"  note: {note}" for note in row.get("notes", [])]
    return "\n".join(lines)


def _table(rows: list[dict[str, Any]], pairs: int) -> str:
    """All tasks for reading, one a line, then what was skipped and why; `pairs` of each split were asked."""
    from sparse_circuits.card.card import GOOD_LOSS, PAIRS
    from sparse_circuits.tasks import SPLITS

    shown = [row for row in rows if "skipped" not in row]
    name = max(len(row["name"]) for row in rows)
    lines = [
        " " * name + "".join(f"{split:>18}" for split in SPLITS),
        " " * name + f"{'loss  right margin':>18}".replace("loss  ", " loss ") * len(SPLITS),
    ]
    for row in shown:
        cells = [
            f"{row['losses'][split]:>7.3f}{row['accuracies'][split]:>5.0%}{row['margins'][split]:>6.1f}"
            if split in row["losses"]
            else " " * 18
            for split in SPLITS
        ]
        lines.append(row["name"].ljust(name) + "".join(cells))
    lines += [f"skipped {row['skipped']}" for row in rows if "skipped" in row]
    skipped = len(rows) - len(shown)
    good = sum(row["losses"].get("report", float("inf")) <= GOOD_LOSS for row in shown)
    lines += [
        f"{len(shown)} of {len(rows)} tasks asked, {skipped} skipped; {good} with a report loss of at most {GOOD_LOSS}",
        f"on {pairs} pairs of each split ({PAIRS} in a model's card; --pairs says otherwise)",
        "loss in nats (chance 0.693), answers that are right, margin: mean log-odds of",
        "the right answer in nats",
    ]
    return "\n".join(lines)
