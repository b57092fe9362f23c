"""The table of all tasks for one model: what it scores, and what its tokenizer cannot ask."""

import json
from pathlib import Path

import pytest
import torch
from command_line import Run

from sparse_circuits import checkpoint, tasks
from sparse_circuits.circuits.circuit import fixed_examples, last_logits
from sparse_circuits.circuits.config import PruneConfig
from sparse_circuits.tasks import TASKS, Task, Template, get_task, log_odds, task_loss
from sparse_circuits.tasks.registry import Registry

WORDS = {
    split: {"name": tuple(f"{letter}{n}" for n in range(9))} for split, letter in zip(tasks.SPLITS, "abcd", strict=True)
}


def short(name: str, right_a: str, right_b: str | None) -> Task:
    """A task that fits any model: one template a split."""
    templates = {
        split: (Template(split, f"{mark}x$name1", f"{mark}y$name1", right_a, right_b),)
        for split, mark in zip(tasks.SPLITS, "+-*/", strict=True)
    }
    return Task(name, "One of three.", templates, WORDS)


@pytest.fixture
def three(monkeypatch: pytest.MonkeyPatch) -> dict[str, Task]:
    """Instead of the registered tasks: one of each question, and one that no tokenizer has tokens for."""
    found = [short("two", ":", "="), short("one", ":", None), short("none", ":", "=]{=[}")]
    registry = Registry({task.name: task for task in found})
    monkeypatch.setattr(tasks, "TASKS", registry)
    monkeypatch.setattr("sparse_circuits.tasks.registry.TASKS", registry)
    return registry


@pytest.mark.filterwarnings("default")
def test_the_scores_are_the_models(run: Run, model: Path, three: dict[str, Task]) -> None:
    two, one, none = json.loads(run("tasks", "--model", model, "--pairs", 5, "--json").out)
    loaded = checkpoint.load(model)
    for row in (two, one):
        for split in tasks.SPLITS:
            examples = fixed_examples(loaded, three[row["name"]], split, PruneConfig(eval_pairs=5))
            assert len(examples) == 5
            logits = last_logits(loaded, examples)
            odds = log_odds(logits, examples)
            assert row["losses"][split] == pytest.approx(float(task_loss(logits, examples)), abs=1e-5)
            assert row["accuracies"][split] == float((odds > 0).float().mean())
            assert row["margins"][split] == pytest.approx(float(odds.mean()), abs=1e-5)
    assert "losses" not in none
    assert "'=]{=[}' is not one token of this tokenizer" in none["skipped"]


@pytest.mark.filterwarnings("default")
def test_the_table_names_what_was_skipped_and_counts_it(run: Run, model: Path, three: dict[str, Task]) -> None:
    rows = json.loads(run("tasks", "--model", model, "--json").out)
    lines = run("tasks", "--model", model).out.splitlines()
    assert lines[0].split() == list(tasks.SPLITS)
    assert [line.split()[0] for line in lines[2:4]] == ["two", "one"]
    assert lines[2].split()[1] == f"{rows[0]['losses']['prune']:.3f}"
    assert lines[4] == f"skipped {rows[2]['skipped']}"
    good = sum(row["losses"]["report"] <= 0.15 for row in rows[:2])
    assert lines[5] == f"2 of 3 tasks asked, 1 skipped; {good} with a report loss of at most 0.15"
    assert lines[6].startswith("on 32 pairs of each split (128 in a model's card")


def test_what_was_asked_by_name_is_refused_not_skipped(run: Run, model: Path) -> None:
    # The model reads 32 positions, so the evidence of a long prompt is cut off.
    refused = run("tasks", "--model", model, "--task", "set_or_string")
    assert refused.status == 2
    assert "task 'set_or_string'" in refused.err
    everything = json.loads(run("tasks", "--model", model, "--pairs", 4, "--json").out)
    assert [row["name"] for row in everything] == list(TASKS)
    skipped = {row["name"] for row in everything if "skipped" in row}
    assert "set_or_string" in skipped
    assert all(torch.isfinite(torch.tensor(list(row.get("losses", {"": 0.0}).values()))).all() for row in everything)


@pytest.mark.filterwarnings("default:task .* distinct pairs")
def test_a_task_of_ones_own_is_told_why_it_fails_and_that_the_last_token_may_do(
    run: Run, model: Path, task_file: Path
) -> None:
    (row,) = json.loads(run("tasks", "--model", model, "--task", task_file, "--json").out)
    loaded = checkpoint.load(model)
    logits = last_logits(loaded, examples := fixed_examples(loaded, get_task(task_file), "report", PruneConfig()))
    a, b = ((side > 0).float().mean() for side in log_odds(logits, examples).chunk(2))
    assert row["losses"]["report"] > 0.15
    assert len(row["notes"]) == 1  # both prompts of a pair end in the same digit
    assert row["notes"][0].startswith("report: ")
    assert f"{a:.0%} of the A sides and {b:.0%} of the B sides are right" in row["notes"][0]
    lines = task_file.read_text().splitlines()
    pairs = [json.loads(line) for line in lines]
    pairs[-1] |= {"b": "x = (y"}  # one of the four of the report split
    task_file.write_text("\n".join(map(json.dumps, pairs)))
    told = run("tasks", "--model", model, "--task", task_file).out
    assert "note: in 1 of 4 pairs the prompts end in different tokens ('1' and 'y')" in told
    assert "note: report: " in told
    # a split that is asked to be shown is the one that is spoken of
    assert "note: prune: " in run("tasks", "--model", model, "--task", task_file, "--split", "prune").out
    everything = json.loads(run("tasks", "--model", model, "--pairs", 4, "--json").out)
    assert all("notes" not in each for each in everything)


def test_no_pairs_are_refused(run: Run, model: Path) -> None:
    refused = run("tasks", "--model", model, "--pairs", 0)
    assert refused.status == 2
    assert "0 pairs asked: ask for at least 1" in refused.err
