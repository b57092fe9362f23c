"""From text to tokens: the joined-tail rule and what is refused."""

import re

import pytest

from sparse_circuits.errors import InputError
from sparse_circuits.tasks import ANY, Pair, Task, Template
from sparse_circuits.tasks.pair import encode_pair, settle
from sparse_circuits.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def bare() -> Tokenizer:
    """Knows `")` and `')`, but with its newline only the latter."""
    return Tokenizer.train(["x')\nx')x\")x"] * 50, 262)


def pair(a: str = 'print("x', b: str = "print('x", right_a: str = '")\n', right_b: str | None = "')\n") -> Pair:
    return Pair(a, b, right_a, right_b, "t")


def test_what_the_bare_tokenizer_knows(bare: Tokenizer) -> None:
    known = [text for text in ('")', "')", '")\n', "')\n") if bare.single_token(text) is not None]
    assert known == ['")', "')", "')\n"]


def test_newlines_stay_where_both_joined_tokens_are_known(tokenizer: Tokenizer) -> None:
    assert settle(pair(), tokenizer) == pair()


def test_newlines_go_on_both_sides_where_one_joined_token_is_lacking(bare: Tokenizer) -> None:
    assert settle(pair(), bare) == pair(right_a='")', right_b="')")


def test_only_the_newline_of_a_completion_that_has_one_goes(bare: Tokenizer) -> None:
    assert settle(pair(right_b="x"), bare) == pair(right_a='")', right_b="x")
    assert settle(pair(right_b=None), bare) == pair(right_a='")', right_b=None)
    assert settle(pair(right_a="\n", right_b="')\n"), bare) == pair(right_a="\n", right_b="')\n")


def test_none_after_a_mark_goes_where_the_joined_token_is_lacking(bare: Tokenizer) -> None:
    knowing = Tokenizer.train(["limit=None):\n"] * 50, 300)
    assert knowing.single_token("=None") is not None
    parameters = pair("def f(a=1, limit", "def f(a, limit", "=None", "):\n")
    assert settle(parameters, knowing) == parameters
    # Each tail by itself: here the newline goes too.
    assert settle(parameters, bare) == pair(parameters.prompt_a, parameters.prompt_b, "=", "):")
    for words in (pair(right_a=" None", right_b="None"), pair(right_a="isNone", right_b="x None")):
        assert settle(words, bare) == words


def test_encoded_pair(tokenizer: Tokenizer) -> None:
    encoded = encode_pair(pair(), tokenizer)
    assert tokenizer.decode(encoded.prompt_a) == 'print("x'
    assert tokenizer.decode(encoded.prompt_b) == "print('x"
    assert tokenizer.decode([encoded.right_a]) == '")\n'
    assert tokenizer.decode([encoded.right_b]) == "')\n"
    assert encode_pair(pair(right_b=None), tokenizer).right_b == ANY


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"right_a": "\n]]]["},
            r"template 't': completion '\n]]][' is not one token of this tokenizer, it splits into '\n' ",
        ),
        ({"right_a": ""}, "template 't': a completion is empty"),
        ({"right_b": '")\n'}, "template 't': both completions are '\")\\n' (token "),
        ({"a": ""}, "template 't': a prompt is empty"),
        ({"b": 'print("x'}, "template 't': both prompts are the same tokens, ending in 'print(\"x'"),
        (
            {"a": "x = [[1]", "right_a": "]\n"},
            "after the prompt ending in 'x = [[1]' the completion ']\\n' is not a token of its own, the text"
            " ends in the tokens ",
        ),
    ],
)
def test_refusals_spell_out_the_tokens(changes: dict[str, str], message: str, tokenizer: Tokenizer) -> None:
    with pytest.raises(InputError, match=re.escape(message)) as refusal:
        encode_pair(pair(**changes), tokenizer)
    assert "\n" not in str(refusal.value)


def test_a_completion_swallowed_by_the_prompt_shows_the_joined_token(tokenizer: Tokenizer) -> None:
    # `]` + `]\n` is the single token `]]\n`.
    with pytest.raises(InputError, match=re.escape(r"']]\n'")):
        encode_pair(pair(a="x = [[1]", right_a="]\n"), tokenizer)


def test_a_task_names_itself_in_its_refusals(tokenizer: Tokenizer) -> None:
    task = Task("mine", "Mine.", {"report": (Template("t", "x", "x", ":", "="),)})
    with pytest.raises(InputError, match="task 'mine', template 't': both prompts are the same tokens"):
        task.pairs(tokenizer, n=1)
