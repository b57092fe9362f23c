r"""One pair of prompts and how it becomes tokens.

Source: arXiv 2511.13653, the binary tasks: two prompts that differ in one thing, and the next token of each.

Steps, in `encode_pair`:
1. settle the completions (the trailing-newline rule, below);
2. encode each prompt, and each prompt with its completion;
3. refuse whatever would make the question another one than it says: see `encode_pair`.

The joined-tail rule. The pre-tokeniser joins punctuation with the newlines or the word after it, so in training
text the token after `print("done` is usually `")\n`, not `")`, and the one after `limit` in a list of parameters
often `=None`. A completion may therefore be written with one trailing newline, or with `None` after punctuation.
If the tokenizer lacks the joined token on either side of the pair, this tail is dropped on both sides. `settle` is
the only place that knows the rule.
"""

import re
from dataclasses import dataclass, replace
from typing import NamedTuple

from sparse_circuits.errors import InputError
from sparse_circuits.tokenizer import Tokenizer

ANY = -1
"""In place of a token: every token of the vocabulary but the other one (see `Examples`)."""


_JOINED = (re.compile(r"(.+)\n", re.DOTALL), re.compile(r"(.*[^\w\s])None"))
"""A completion with a tail: group 1 is what comes before it."""


@dataclass(frozen=True)
class Pair:
    """Two prompts that differ in one thing, and the right next token of each, all as text.

    `completion_b` is None for a one-token question: on side B, anything but `completion_a` is right.
    `template` names where the pair comes from.
    """

    prompt_a: str
    prompt_b: str
    completion_a: str
    completion_b: str | None
    template: str


class EncodedPair(NamedTuple):
    """A pair as token ids; `right_b` is `ANY` for a one-token question."""

    prompt_a: list[int]
    prompt_b: list[int]
    right_a: int
    right_b: int


def settle(pair: Pair, tokenizer: Tokenizer) -> Pair:
    """The pair after the joined-tail rule."""
    for shape in _JOINED:
        texts = (pair.completion_a, pair.completion_b)
        joined = {text: match[1] for text in texts if text is not None and (match := shape.fullmatch(text))}
        if not all(tokenizer.single_token(text) is not None for text in joined):
            a, b = pair.completion_a, pair.completion_b
            pair = replace(pair, completion_a=joined.get(a, a), completion_b=b if b is None else joined.get(b, b))
    return pair


def encode_pair(pair: Pair, tokenizer: Tokenizer) -> EncodedPair:
    """Encode a settled pair.

    Raises:
        InputError: a prompt is empty; the prompts are the same tokens; a completion is not one token, or is not
            a token of its own after its prompt; the completions are the same token.
    """
    where = f"template {pair.template!r}"
    right_a = _completion_token(pair.completion_a, tokenizer, where)
    right_b = ANY if pair.completion_b is None else _completion_token(pair.completion_b, tokenizer, where)
    if right_a == right_b:
        raise InputError(
            f"{where}: both completions are {pair.completion_a!r} (token {right_a}), so nothing is asked;"
            " give the sides different completions"
        )
    prompt_a = _prompt_tokens(pair.prompt_a, pair.completion_a, right_a, tokenizer, where)
    completion_b = pair.completion_a if pair.completion_b is None else pair.completion_b
    prompt_b = _prompt_tokens(pair.prompt_b, completion_b, right_a if right_b == ANY else right_b, tokenizer, where)
    if prompt_a == prompt_b:
        raise InputError(
            f"{where}: both prompts are the same tokens, ending in {pair.prompt_a[-20:]!r};"
            " the sides of a pair must differ in the evidence that decides"
        )
    return EncodedPair(prompt_a, prompt_b, right_a, right_b)


def _completion_token(completion: str, tokenizer: Tokenizer, where: str) -> int:
    """The one token that `completion` is."""
    if not completion:
        raise InputError(f"{where}: a completion is empty; write the one token that comes next")
    token = tokenizer.single_token(completion)
    if token is None:
        pieces = _spelled(tokenizer.encode(completion), tokenizer)
        raise InputError(
            f"{where}: completion {completion!r} is not one token of this tokenizer, it splits into {pieces};"
            " choose a completion that is one token"
        )
    return token


def _prompt_tokens(prompt: str, completion: str, token: int, tokenizer: Tokenizer, where: str) -> list[int]:
    """The tokens of `prompt`, after which `completion` has to come as the single `token`."""
    tokens = tokenizer.encode(prompt)
    if not tokens:
        raise InputError(f"{where}: a prompt is empty; it needs at least one token to predict from")
    joined = tokenizer.encode(prompt + completion)
    if joined != [*tokens, token]:
        raise InputError(
            f"{where}: after the prompt ending in {prompt[-20:]!r} the completion {completion!r} is not a"
            f" token of its own, the text ends in the tokens {_spelled(joined[-4:], tokenizer)};"
            " move the border between prompt and completion"
        )
    return tokens


def _spelled(tokens: list[int], tokenizer: Tokenizer) -> str:
    """Tokens as a reader can tell them apart."""
    return " ".join(f"'{tokenizer.token(token)}'" for token in tokens)
