"""What every registered task promises: disjoint splits, one deciding difference, balance, one token."""

import re
from collections import Counter
from collections.abc import Callable
from functools import cache
from itertools import combinations
from typing import NamedTuple

import pytest
import torch

from sparse_circuits.errors import InputError
from sparse_circuits.tasks import SPLITS, TASKS, Examples, Task, get_task
from sparse_circuits.tasks.contexts import CONTEXTS, FURTHER
from sparse_circuits.tasks.words import KINDS, words
from sparse_circuits.tokenizer import Tokenizer

# Raise a task's `version` when its fingerprint changes, then write the new pair here.
VERSIONS = {
    "single_double_quote": (1, "f8cbb760bb3e36c2"),
    "bracket_counting": (1, "3eaa0d4e7775e16a"),
    "bracket_brace": (1, "9ca04546c03b27cf"),
    "set_or_string": (1, "545faca8f632a252"),
    "set_or_string_fixedvarname": (1, "5bcdb01be2a42c04"),
    "final_kwarg": (1, "f9595e76769ff984"),
    "class_init": (1, "91c1f3ee5b808b7a"),
    "with_as": (1, "1868bfafa32f67d8"),
    "with_open": (1, "9e347fb0761febd1"),
    "for_while": (1, "272e4123fe743aac"),
    "else_elif": (1, "58484111f4796876"),
    "if_ternary": (1, "66d2836f1d0af9f0"),
    "if_equals": (1, "8d3aa115665620a2"),
    "var_if": (1, "1e6bf1aa180b7692"),
    "while_return_true": (1, "322b527a7d666fb7"),
    "fstring_brace": (1, "cfd57d464a0d721b"),
    "var_swap": (1, "a4b5bbc0c125bd45"),
    "indent_for": (1, "92e06f9530f5a1f5"),
    "lambda_func": (1, "2fd97ae91edd3c36"),
    "enumerate_range": (1, "4ad6c8d7f063050f"),
}


class Evidence(NamedTuple):
    """What decides: the groups `e` and `f` of every match of `pattern` in a prompt, joined.

    `a` and `b` are patterns of it on each side.
    """

    pattern: str
    a: str
    b: str


ANY_WORD = r"\w+"
READ, WRITTEN = (
    "|".join(word for split in SPLITS for word in words(kind)[split][kind]) for kind in ("read", "written")
)
EVIDENCE = {
    "single_double_quote": Evidence(r"(?P<e>['\"])[^'\"]*\Z", '"', "'"),
    "bracket_counting": Evidence(r"(?P<e>[\[\]])(?=[^\n]*\Z)", r"\[\[(\]\[)*", r"\["),
    "bracket_brace": Evidence(r"(?P<e>[\[{])[^\[{]*\Z", r"\{", r"\["),
    "set_or_string": Evidence(r"^ *(?P<n>\w+) = (?P<e>set\(\)|\"\"|'')\n(.*\n)* *(?P=n)\Z", r"set\(\)", "\"\"|''"),
    "set_or_string_fixedvarname": Evidence(
        r"^ *current = (?P<e>set\(\)|\"\"|'')\n(.*\n)* *current\Z", r"set\(\)", "\"\"|''"
    ),
    "final_kwarg": Evidence(r"(?P<e>=[^,=\n]+)(?=,[^\n]*\Z)", "(=.+)+", ""),
    "class_init": Evidence(r"self\.(?P<e>\w+) =\Z", ANY_WORD, ANY_WORD),
    "with_as": Evidence(r"^ *(?P<e>with|\w+ =) open\(\w+\Z", "with", r"\w+ ="),
    "with_open": Evidence(r"(?P<e>[a-z]+)\.\w+['\"], ['\"]\Z", READ, WRITTEN),
    "for_while": Evidence(r"^ *(?P<e>for|while) \w+\Z", "for", "while"),
    "else_elif": Evidence(r"^ *(?P<e>else|elif)\Z", "else", "elif"),
    "if_ternary": Evidence(r"(?P<e>\s+)if [^\n]*\Z", r"\n *", " "),
    "if_equals": Evidence(r"^ *(?P<e>(if )?)\w+\Z", "if ", ""),
    "var_if": Evidence(r"^ *(?P<e>(if )?)\w+ (?P<f>==?) \w+\Z", "if ==", "="),
    "while_return_true": Evidence(r"^ +(?P<e>while|return) True\Z", "while", "return"),
    "fstring_brace": Evidence(r"(?P<e>f?)['\"][^'\"]*\Z", "f", ""),
    "var_swap": Evidence(r"^ *(?P<e>\w+), (?P<n>\w+) = (?P=n),\Z", ANY_WORD, ANY_WORD),
    "indent_for": Evidence(r"^(?P<e> *)for [^\n]*:\n\Z", " {4}", ""),
    "lambda_func": Evidence(r"^ *(?P<e>\w+ = lambda|def) \w+\Z", r"\w+ = lambda", "def"),
    "enumerate_range": Evidence(r"^ *for \w+(?P<e>(, \w+)?) in\Z", r", \w+", ""),
}
# Their sides are as long as each other, or differ by the odd token.
SAME_LENGTH = {"single_double_quote", "for_while", "else_elif", "while_return_true", "class_init", "var_swap"}

PAIRS = 120
Asked = Callable[[str, str], Examples]

every_task = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS.keys())
every_split = pytest.mark.parametrize("split", SPLITS)


def divided(task: str, prompt: str) -> tuple[str, str]:
    """The evidence in a prompt, and the prompt without it."""
    found, rest, end = "", "", 0
    for match in re.finditer(EVIDENCE[task].pattern, prompt, re.MULTILINE):
        for group in ("e", "f") if "f" in match.groupdict() else ("e",):
            found += match[group]
            rest += prompt[end : match.start(group)] + "@"
            end = match.end(group)
    return found, (rest + prompt[end:]).replace("@", "")


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
        fillings = [{w for choices in task.words[split].values() for w in choices} for split in (one, other)]
        assert all(fillings)
        assert not fillings[0] & fillings[1]


@every_task
@every_split
def test_the_evidence_differs_and_nothing_else(task: Task, split: str) -> None:
    for pair in task.draw(split, n=100):
        a, rest_a = divided(task.name, pair.prompt_a)
        b, rest_b = divided(task.name, pair.prompt_b)
        assert rest_a == rest_b
        assert re.fullmatch(EVIDENCE[task.name].a, a)
        assert re.fullmatch(EVIDENCE[task.name].b, b)
        assert a != b


@pytest.mark.parametrize("name", ["class_init", "var_swap"])
@every_split
def test_the_evidence_is_the_completion_where_it_is_a_name(name: str, split: str) -> None:
    for pair in TASKS[name].draw(split, n=200):
        assert pair.completion_a == " " + divided(name, pair.prompt_a)[0]
        assert pair.completion_b == " " + divided(name, pair.prompt_b)[0]
        # What stands before tells of both alike.
        before = pair.prompt_a.rpartition("\n")[0]
        both = [re.findall(rf"\b{word[1:]}\b", before) for word in (pair.completion_a, pair.completion_b)]
        assert len(both[0]) == len(both[1]) > 0


@every_task
@every_split
def test_every_completion_is_one_token_and_joined_with_its_tail(
    task: Task, split: str, each_tokenizer: Tokenizer
) -> None:
    # `pairs` refuses what is not one token of its own; equality says that nothing had to be dropped.
    pairs = task.pairs(each_tokenizer, split, n=40)
    if task.name in ("class_init", "var_swap"):
        assert len(set(pairs)) == 40
    elif task.name == "final_kwarg":
        assert {(pair.completion_a, pair.completion_b) for pair in pairs} in ({("=None", "):\n")}, {("=", "):\n")})
    else:
        assert pairs == task.draw(split, n=40)


@pytest.fixture(scope="module")
def asked(tokenizer: Tokenizer) -> Asked:
    """Pairs of a split of a task, as tensors, made once."""
    return cache(lambda task, split: TASKS[task].examples(tokenizer, split, n=PAIRS))


@every_task
@every_split
def test_both_answers_are_equally_frequent(task: Task, split: str, asked: Asked) -> None:
    # In the table of what is right, every completion is right as often as it is wrong.
    examples = asked(task.name, split)
    assert Counter(examples.targets.tolist()) == Counter(examples.others.tolist())
    assert examples.targets[:PAIRS].tolist() == examples.others[PAIRS:].tolist()


@every_task
@every_split
def test_length_does_not_decide(task: Task, split: str, asked: Asked) -> None:
    # The best rule of the form "side A if longer than x", or if shorter, is nearly blind.
    examples = asked(task.name, split)
    length_a, length_b = examples.last.split(PAIRS)
    lengths = range(examples.tokens.shape[1])
    right = [((length_a > x).sum() + (length_b <= x).sum()).item() / (2 * PAIRS) for x in lengths]
    assert max(map(abs, (share - 0.5 for share in right))) < (0.05 if task.name in SAME_LENGTH else 0.1)


@every_task
def test_prompts_fit_a_short_block(task: Task, asked: Asked) -> None:
    for split in SPLITS:
        assert asked(task.name, split).last.max() < 127


@every_task
def test_out_of_distribution_is_longer(task: Task, asked: Asked) -> None:
    mean = {split: float(asked(task.name, split).last.float().mean()) for split in SPLITS}
    assert mean["ood"] > 1.3 * max(mean[split] for split in SPLITS[:3])
    assert min(mean.values()) > 10
    assert max(mean.values()) < 120


def test_contexts_say_nothing() -> None:
    for contexts in (*CONTEXTS.values(), *FURTHER.values()):
        for context in contexts:
            assert not re.search(r"['\"\[\]{}]|\b(for|while)\b", context)


def test_every_word_has_one_split() -> None:
    homes: dict[str, str] = {}
    for kind in KINDS:
        for split, found in words(kind).items():
            assert found[kind]
            for word in found[kind]:
                assert homes.setdefault(word, split) == split, word


def test_a_word_of_two_kinds_goes_to_the_first() -> None:
    assert "line" in words("field")["report"]["field"]
    both = words("field", "name")["report"]
    assert "line" in both["field"]
    assert "line" not in both["name"]
    assert words("name")["report"]["name"] != both["name"]


def test_truncated_prompts_are_still_pairs(tokenizer: Tokenizer) -> None:
    for task in TASKS.values():
        if task.name.startswith("set_or_string"):
            continue  # Their evidence lies further back.
        examples = task.examples(tokenizer, "ood", n=16, block_size=64)
        assert examples.tokens.shape == (32, 63)
        assert not torch.equal(examples.tokens[:16], examples.tokens[16:])


def test_unknown_names_are_refused_with_the_nearest() -> None:
    with pytest.raises(
        InputError,
        match=re.escape(
            "no task 'for_whil': did you mean 'for_while'? the tasks are single_double_quote, bracket_counting,"
        ),
    ):
        get_task("for_whil")
    with pytest.raises(InputError, match="no task 'zzz': the tasks are"):
        TASKS["zzz"]


def test_known_names() -> None:
    assert get_task("for_while") is TASKS["for_while"]
    assert "zzz" not in TASKS
    assert all(task.name == name for name, task in TASKS.items())
