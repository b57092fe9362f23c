"""What the log-odds of a task's two sides say about it."""

import dataclasses
import math

import pytest
import torch

from sparse_circuits.card.answers import Answers, _tendency, answer, why
from sparse_circuits.config import GPTConfig
from sparse_circuits.corpus.packed import PackedCorpus
from sparse_circuits.model import GPT
from sparse_circuits.tasks import TASKS, Task, Template

LN3 = math.log(3)


def answers(a: list[float], b: list[float]) -> Answers:
    return Answers(torch.tensor([*a, *b]))


def test_scores_by_hand() -> None:
    found = answers([LN3, LN3], [-LN3, 3 * LN3])
    # Right with probability 3/4, 3/4, 1/4 and 27/28.
    assert found.loss == pytest.approx(-math.log(3 / 4 * 3 / 4 * 1 / 4 * 27 / 28) / 4)
    assert found.accuracy == 0.75
    assert found.margin == pytest.approx(LN3)
    # Side A's answer is ahead by ln 3 where it is right, and by -ln 3 on average where it is wrong.
    assert found.preference == pytest.approx(0)
    assert answers([5.0, 3.0], [-1.0, -3.0]).preference == pytest.approx(3)
    assert answers([5.0, 3.0], [-1.0, -3.0]).margin == pytest.approx(1)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (
            answers([5.0, 3.0], [-1.0, -3.0]),
            "the completion of side A is preferred by 3.00 nats whatever the evidence, which moves the answer by 1.00 "
            "(100% of the A sides and 0% of the B sides are right)",
        ),
        (
            answers([-1.0], [2.0]),
            "the completion of side B is preferred by 1.50 nats whatever the evidence, which moves",
        ),
        (answers([0.2, -0.1], [-0.1, 0.1]), "the evidence moves the answer by 0.03 nats only, accuracy 50%"),
        (answers([1.0, 1.0], [1.5, 1.5]), "100% of the answers are right, but by 1.25 nats only on average"),
        (answers([4.0, -1.0], [4.0, 4.0]), "75% of the answers are right (50% of the A sides and 100% of the B sides"),
    ],
)
def test_what_a_high_loss_comes_from(found: Answers, said: str) -> None:
    assert _tendency(TASKS["for_while"], found).startswith(said)


def test_templates_of_a_split_smaller_than_asked_for_are_told_apart(packed_corpus: PackedCorpus) -> None:
    templates = (
        Template("easy", "$name1 = [$number1", "$name1 = ($number1", "]", ")"),
        Template("hard", "print($name1, [$number1", "print($name1, ($number1", "]", ")"),
    )
    words = {"name": tuple("abcd"), "number": tuple("123456")}
    task = Task("closing", "Close what is open.", {"report": templates}, {"report": words})
    model = GPT(GPTConfig(vocab_size=packed_corpus.tokenizer.vocab_size, n_layer=1, d_model=8, n_head=1))
    model.tokenizer = packed_corpus.tokenizer
    with pytest.warns(UserWarning, match="48 distinct pairs"):
        answered = answer(model, [task], 128, ["report"])[0]["closing"]["report"]
    with pytest.warns(UserWarning, match="48 distinct pairs"):
        pairs = task.pairs(packed_corpus.tokenizer, "report", 128)
    right = torch.tensor([4.0 if pair.template == "easy" else 0.0 for pair in pairs])
    found = dataclasses.replace(answered, odds=torch.cat([right, right]))
    assert "the loss goes from 0.02 ('easy') to 0.69 ('hard')" in why(model, task, {"report": found})
