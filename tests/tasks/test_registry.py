"""What every registered task promises: disjoint splits, one deciding difference, balance, one token."""

import re
from collections import Counter
from itertools import combinations

import pytest
import torch

from sparse_circuits.errors import InputError
from sparse_circuits.tasks import SPLITS, TASKS, Task, get_task
from sparse_circuits.tasks.contexts import CONTEXTS
from sparse_circuits.tokenizer import Tokenizer

# Raise a task's `version` when its fingerprint changes, then write the new pair here.
VERSIONS = {
    "single_double_quote": (1, "f8cbb760bb3e36c2"),
    "bracket_counting": (1, "3eaa0d4e7775e16a"),
    "for_while": (1, "272e4123fe743aac"),
}

every_task = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS.keys())
every_split = pytest.mark.parametrize("split", SPLITS)


def without_evidence(task: str, prompt: str) -> str:
    """The prompt with the evidence of its last line blotted out."""
    context, newline, line = prompt.rpartition("\n")
    blotted = {
        "single_double_quote": lambda: re.sub("['\"](?=[^'\"]*$)", "@", line),
        "bracket_counting": lambda: re.sub(r"[\[\]]", "", line),
        "for_while": lambda: re.sub(r"^( *)(for|while) ", r"\1@ ", line),
    }[task]()
    return context + newline + blotted


@every_task
def test_version_is_raised_when_pairs_change(task: Task) -> None:
    assert (task.version, task.fingerprint) == VERSIONS[task.name]


@every_task
def test_has_all_splits_and_enough_of_each(task: Task) -> None:
    assert task.splits == SPLITS
    for split in SPLITS:
        assert len(task.templates[split]) >= 8
        pairs = task.draw(split, n=200)
        assert len({(pair.prompt_a, pair.prompt_b) for pair in pairs}) == 200


@every_task
def test_splits_share_neither_templates_nor_words(task: Task) -> None:
    for one, other in combinations(SPLITS, 2):
        # Slot numbers do not tell templates apart.
        texts = [
            {re.sub(r"(\$[a-z]+)\d+", r"\1", side) for t in task.templates[split] for side in (t.a, t.b)}
            for split in (one, other)
        ]
        assert not texts[0] & texts[1]
        words = [{w for choices in task.words[split].values() for w in choices} for split in (one, other)]
        assert words[0]
        assert words[1]
        assert not words[0] & words[1]


@every_task
@every_split
def test_only_the_evidence_differs(task: Task, split: str) -> None:
    for pair in task.draw(split, n=200):
        assert pair.prompt_a != pair.prompt_b
        assert without_evidence(task.name, pair.prompt_a) == without_evidence(task.name, pair.prompt_b)


@every_task
@every_split
def test_every_completion_is_one_token_and_joined_with_its_newline(
    task: Task, split: str, each_tokenizer: Tokenizer
) -> None:
    # `pairs` refuses what is not one token of its own; equality says that no newline had to be dropped.
    assert task.pairs(each_tokenizer, split, n=100) == task.draw(split, n=100)


@every_task
@every_split
def test_both_answers_are_equally_frequent(task: Task, split: str, tokenizer: Tokenizer) -> None:
    examples = task.examples(tokenizer, split, n=100)
    counts = Counter(examples.targets.tolist())
    assert len(counts) == 2
    assert set(counts.values()) == {100}


@every_task
@every_split
def test_tokens_differ_in_the_evidence_alone(task: Task, split: str, tokenizer: Tokenizer) -> None:
    # A keyword is one token. A quote is one or, where the tokenizer joins only one kind with what stands before it,
    # two. Of nesting, the first bracket is one token and each border between rows two (`],` ` [` for `,` ` `), of four
    # rows at most; a bracket joined with a quote may take another.
    exchanged, longer = {"for_while": (1, 0), "single_double_quote": (2, 1), "bracket_counting": (10, 4)}[task.name]
    for pair in task.pairs(tokenizer, split, n=100):
        a, b = Counter(tokenizer.encode(pair.prompt_a)), Counter(tokenizer.encode(pair.prompt_b))
        assert max((a - b).total(), (b - a).total()) <= exchanged
        assert abs(a.total() - b.total()) <= longer


@every_task
@every_split
def test_length_does_not_decide(task: Task, split: str, tokenizer: Tokenizer) -> None:
    # The best rule of the form "side A if longer than x" is nearly blind.
    examples = task.examples(tokenizer, split, n=200)
    length_a, length_b = examples.last[:200], examples.last[200:]
    right = [((length_a > x).sum() + (length_b <= x).sum()).item() / 400 for x in range(examples.tokens.shape[1])]
    assert max(right) < 0.55


@every_task
def test_prompts_fit_a_short_block(task: Task, tokenizer: Tokenizer) -> None:
    for split in SPLITS:
        examples = task.examples(tokenizer, split, n=200)
        assert examples.last.max() < 127


@every_task
def test_out_of_distribution_is_longer(task: Task, tokenizer: Tokenizer) -> None:
    mean = {split: task.examples(tokenizer, split, n=100).last.float().mean() for split in SPLITS}
    assert mean["ood"] > 1.8 * max(mean[split] for split in SPLITS[:3])


def test_contexts_say_nothing() -> None:
    for contexts in CONTEXTS.values():
        for context in contexts:
            assert not re.search(r"['\"\[\]{}]|\b(for|while)\b", context)


def test_truncated_prompts_are_still_pairs(tokenizer: Tokenizer) -> None:
    for task in TASKS.values():
        examples = task.examples(tokenizer, "ood", n=64, block_size=64)
        assert examples.tokens.shape == (128, 63)
        assert not torch.equal(examples.tokens[:64], examples.tokens[64:])


def test_unknown_names_are_refused_with_the_nearest() -> None:
    with pytest.raises(
        InputError,
        match=re.escape(
            "no task 'for_whil': did you mean 'for_while'? the tasks are single_double_quote,"
            " bracket_counting, for_while; or give a .jsonl or .py file"
        ),
    ):
        get_task("for_whil")
    with pytest.raises(InputError, match="no task 'zzz': the tasks are"):
        TASKS["zzz"]


def test_known_names() -> None:
    assert get_task("for_while") is TASKS["for_while"]
    assert "zzz" not in TASKS
    assert all(task.name == name for name, task in TASKS.items())
