"""The task of a released circuit, made from the prompts in its file.

A file holds the prompts of both sides of each pair, as tokens, and the losses, but not the answers. They are had from
the registered task of that name, where there is one, and from what the model answers; of these the ones under which the
full model's loss comes nearest to the recorded one are taken, and how near that is tells whether they are the right
ones. In the registered task the sides may be the other way around, so that is tried too.
"""

import json
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from sparse_circuits.circuits.logits import last_logits
from sparse_circuits.errors import InputError
from sparse_circuits.files import atomic_write
from sparse_circuits.formats.viz_data import TaskSamples
from sparse_circuits.model import GPT
from sparse_circuits.tasks import ANY, TASKS, Examples, Task, Template, task_losses
from sparse_circuits.tasks.examples import collate
from sparse_circuits.tasks.pair import EncodedPair, Pair, encode_pair
from sparse_circuits.tokenizer import Tokenizer

PAIRS_ASKED = 32
"""Pairs of the registered task whose answers are looked at."""

AGREED = 0.6
"""The part of a side's prompts that has to have the same likeliest token for it to be the answer of all."""


@dataclass(frozen=True)
class Recorded:
    """The prompts of a file with answers."""

    examples: Examples
    """By their tokens."""
    task: Task | None
    """By their text: of the split "report"; pairs whose text is read as other tokens are left out. None where that was
    not asked for."""
    answers: str
    """Where they come from."""
    model_loss: float
    """Of the full model, in nats."""


def recorded_task(
    samples: TaskSamples,
    model: GPT,
    name: str,
    expected: float | None,
    answers: Sequence[tuple[int, int]] | None = None,
    as_text: bool = True,
) -> Recorded:
    """The task of the prompts `samples`.

    Args:
        name: its name, to which "_recorded" is added; of a registered task of that name the answers are tried.
        expected: the full model's recorded loss, in nats.
        answers: of both sides of each pair, where the file says them.
        as_text: make the task of their text, too.

    Raises:
        InputError: the model has no tokenizer, or no answers can be had.
    """
    tokenizer = model.tokenizer
    if tokenizer is None:
        raise InputError("the model has no tokenizer, so a task cannot be put to it; give one with --tokenizer")
    if answers is None:
        found = _candidates(samples, model, tokenizer, name)
    else:
        found = [("what the file says", _asked(_answerable(samples, answers, model), list(answers), model))]
    if not found:
        raise InputError(
            "the file does not say the answers, no registered task has its name, and the model does not tell its "
            "sides apart; name the task with --task"
        )
    losses = [float(task_losses(last_logits(model, each), each).mean()) for _, each in found]
    best = min(range(len(found)), key=lambda at: losses[at] if expected is None else abs(losses[at] - expected))
    source, examples = found[best]
    task = _as_text(examples, tokenizer, f"{name}_recorded") if as_text else None
    return Recorded(examples, task, source, losses[best])


def _candidates(samples: TaskSamples, model: GPT, tokenizer: Tokenizer, name: str) -> list[tuple[str, Examples]]:
    rows = [pair for pair in _rows(samples) if all(pair) and pair[0] != pair[1]]
    found = []
    if name in TASKS and rows:
        answers = _registered(TASKS[name], tokenizer)
        if answers is not None:
            a, b = answers
            found.append(("the registered task", _asked(rows, [(a, b)] * len(rows), model)))
            swapped = [(second, first) for first, second in rows]
            found.append(("the registered task, sides exchanged", _asked(swapped, [(a, b)] * len(rows), model)))
    answered = _answered(rows, model)
    kept = [(pair, answer) for pair, answer in zip(rows, answered, strict=True) if answer[0] != answer[1]]
    if kept:
        if len(kept) < len(rows) and not found:
            warnings.warn(
                f"{len(rows) - len(kept)} pairs are left out: the model answers both sides alike", stacklevel=3
            )
        found.append(("the model's answers", _asked([p for p, _ in kept], [a for _, a in kept], model)))
    return found


def _rows(samples: TaskSamples) -> list[tuple[list[int], list[int]]]:
    """Both prompts of each pair."""
    prompts = samples.prompts()
    return list(zip(prompts[: len(prompts) // 2], prompts[len(prompts) // 2 :], strict=True))


def _answerable(
    samples: TaskSamples, answers: Sequence[tuple[int, int]], model: GPT
) -> list[tuple[list[int], list[int]]]:
    """Both prompts of each pair; InputError where these answers cannot be theirs."""
    rows, vocabulary = _rows(samples), range(model.config.vocab_size)
    known = all(each in vocabulary or each == ANY for answer in answers for each in answer)
    if not rows or len(answers) != len(rows) or not known or not all(a and b for a, b in rows):
        raise InputError("the answers that the file says are no answers to the prompts in it")
    return rows


def _registered(task: Task, tokenizer: Tokenizer) -> tuple[int, int] | None:
    """The answers of a task that has the same for all pairs."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            asked = [encode_pair(pair, tokenizer) for pair in task.pairs(tokenizer, "report", PAIRS_ASKED)]
    except InputError:  # a tokenizer that this task cannot be put with
        return None
    answers = {(pair.right_a, pair.right_b) for pair in asked}
    return answers.pop() if len(answers) == 1 else None


def _asked(rows: list[tuple[list[int], list[int]]], answers: list[tuple[int, int]], model: GPT) -> Examples:
    assert model.tokenizer is not None
    pairs = [EncodedPair(a, b, *right) for (a, b), right in zip(rows, answers, strict=True)]
    one_token = any(ANY in right for right in answers)
    block = max(model.config.block_size, 2)
    examples = collate(pairs, model.tokenizer.end_of_text, block, "one_token" if one_token else "two_token")
    return examples.to(next(model.parameters()).device)


def _answered(rows: list[tuple[list[int], list[int]]], model: GPT) -> list[tuple[int, int]]:
    """The likeliest token of each prompt; where most prompts of a side agree, theirs for all."""
    if not rows:
        return []
    logits = last_logits(model, _asked(rows, [(0, 1)] * len(rows), model))
    likeliest = logits.argmax(1).tolist()
    sides = [_common(likeliest[: len(rows)]), _common(likeliest[len(rows) :])]
    return list(zip(*sides, strict=True))


def _common(tokens: list[int]) -> list[int]:
    token, count = Counter(tokens).most_common(1)[0]
    return [token] * len(tokens) if count >= AGREED * len(tokens) else tokens


def _as_text(examples: Examples, tokenizer: Tokenizer, name: str) -> Task:
    """The same pairs as text, where that is read as the same tokens again."""
    templates, lost = [], 0
    for number in range(len(examples)):
        pair = _pair(examples, number, tokenizer)
        wanted = [_tokens(examples, number), _tokens(examples, number + len(examples))]
        try:
            again = encode_pair(pair, tokenizer)
        except InputError:
            lost += 1
            continue
        answers = (int(examples.targets[number]), int(examples.targets[number + len(examples)]))
        if [again.prompt_a, again.prompt_b] != wanted or (again.right_a, again.right_b) != answers:
            lost += 1
            continue
        a, b, right_a = (text.replace("$", "$$") for text in (pair.prompt_a, pair.prompt_b, pair.completion_a))
        right_b = None if pair.completion_b is None else pair.completion_b.replace("$", "$$")
        templates.append(Template(f"recorded/{number}", a, b, right_a, right_b))
    if lost:
        warnings.warn(
            f"{lost} of {len(examples)} recorded pairs are not read as the same tokens again; the task has the others",
            stacklevel=4,
        )
    if not templates:
        raise InputError("no recorded pair is read as the same tokens again; is the tokenizer the model's?")
    task = Task(name, "The prompts recorded in a released circuit file.", {"report": tuple(templates)})
    # As a task read from a file of pairs has it, so that what `write_pairs` writes is the same task.
    return replace(task, version=int(task.fingerprint[:8], 16))


def write_pairs(task: Task, path: Path) -> None:
    """Write the pairs of a recorded task as a file that `get_task` reads; its name has to be the task's."""
    lines = []
    for template in task.templates["report"]:
        pair = template.fill({}, 0)
        content = {"a": pair.prompt_a, "b": pair.prompt_b, "right_a": pair.completion_a}
        if pair.completion_b is not None:
            content["right_b"] = pair.completion_b
        lines.append(json.dumps({**content, "split": "report", "template": template.name}))
    atomic_write(path, "\n".join(lines) + "\n")


def _pair(examples: Examples, number: int, tokenizer: Tokenizer) -> Pair:
    right_a, right_b = int(examples.targets[number]), int(examples.targets[number + len(examples)])
    return Pair(
        tokenizer.decode(_tokens(examples, number)),
        tokenizer.decode(_tokens(examples, number + len(examples))),
        tokenizer.decode([right_a]),
        None if right_b == ANY else tokenizer.decode([right_b]),
        f"recorded/{number}",
    )


def _tokens(examples: Examples, row: int) -> list[int]:
    tokens: Tensor = examples.tokens[row, : int(examples.last[row]) + 1]
    return [int(token) for token in torch.as_tensor(tokens).tolist()]
