"""Pairs as tensors: side A above side B, padding to the right, truncation to the left."""

import pytest
import torch

from sparse_circuits.errors import InputError
from sparse_circuits.tasks import ANY, TASKS, Task, Template
from sparse_circuits.tokenizer import Tokenizer


def test_rows_are_the_pairs(tokenizer: Tokenizer) -> None:
    task = TASKS["bracket_counting"]
    pairs = task.pairs(tokenizer, "calibrate", n=30, seed=3)
    examples = task.examples(tokenizer, "calibrate", n=30, seed=3)
    assert len(examples) == 30
    assert examples.loss == "two_token"
    for row in range(60):
        pair = pairs[row % 30]
        sides = [(pair.prompt_a, pair.completion_a), (pair.prompt_b, pair.completion_b)]
        (prompt, right), (_, wrong) = sides if row < 30 else sides[::-1]
        length = int(examples.last[row]) + 1
        assert tokenizer.decode(examples.tokens[row, :length]) == prompt
        assert (examples.tokens[row, length:] == tokenizer.end_of_text).all()
        assert tokenizer.decode([examples.targets[row]]) == right
        assert tokenizer.decode([examples.others[row]]) == wrong


def test_width_is_the_longest_prompt(tokenizer: Tokenizer) -> None:
    examples = TASKS["for_while"].examples(tokenizer, "report", n=30)
    assert examples.tokens.shape[1] == examples.last.max() + 1
    assert examples.last.min() < examples.last.max()


def test_truncation_keeps_the_end(tokenizer: Tokenizer) -> None:
    task = TASKS["single_double_quote"]
    whole = task.examples(tokenizer, "report", n=30)
    cut = task.examples(tokenizer, "report", n=30, block_size=21)
    assert cut.tokens.shape[1] == 20
    for row in range(60):
        kept = whole.tokens[row, : whole.last[row] + 1][-20:]
        assert torch.equal(cut.tokens[row, : cut.last[row] + 1], kept)


def test_truncation_must_not_cut_the_evidence_off(tokenizer: Tokenizer) -> None:
    task = TASKS["single_double_quote"]
    with pytest.raises(
        InputError,
        match="task 'single_double_quote', pair 0: cut to their last 1 tokens, both prompts are the same",
    ):
        task.examples(tokenizer, n=8, block_size=2)
    with pytest.raises(InputError, match="block_size is 1: at least 2"):
        task.examples(tokenizer, n=8, block_size=1)


def test_one_token_columns(tokenizer: Tokenizer) -> None:
    task = Task("t", "d", {"report": (Template("t", "for x", "while x", " in"),)})
    examples = task.examples(tokenizer, n=1)
    token = tokenizer.single_token(" in")
    assert examples.loss == "one_token"
    assert examples.targets.tolist() == [token, ANY]
    assert examples.others.tolist() == [ANY, token]


def test_pick_takes_whole_pairs(tokenizer: Tokenizer) -> None:
    examples = TASKS["for_while"].examples(tokenizer, n=10)
    picked = examples.pick(torch.tensor([7, 2]))
    assert len(picked) == 2
    rows = [7, 2, 17, 12]
    for column in ("tokens", "last", "targets", "others"):
        assert torch.equal(getattr(picked, column), getattr(examples, column)[rows])


def test_at_last_and_to(tokenizer: Tokenizer) -> None:
    examples = TASKS["for_while"].examples(tokenizer, n=4).to("cpu")
    logits = torch.arange(8 * examples.tokens.shape[1] * 3).float().reshape(8, -1, 3)
    expected = torch.stack([logits[row, examples.last[row]] for row in range(8)])
    assert torch.equal(examples.at_last(logits), expected)
