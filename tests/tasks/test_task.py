"""Drawing pairs: distinct, evenly spread, the same in every process; and the refusals of a malformed task."""

import hashlib
import os
import subprocess
import sys
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparse_circuits.errors import InputError
from sparse_circuits.tasks import TASKS, Task, Template
from sparse_circuits.tasks.task import _distinct, _shares
from sparse_circuits.tokenizer import Tokenizer

WORDS = {"name": ("x", "y", "z"), "number": ("1", "2")}
TEMPLATE = Template("t", "$name = $number1; while $name2", "$name = $number1; $name2", ":\n", " =")


def small(**changes: object) -> Task:
    fields = {
        "name": "small",
        "description": "A small one.",
        "templates": {"prune": (TEMPLATE, Template("u", "while $name", "$name", ":\n", " ="))},
        "words": {"prune": WORDS},
    }
    return Task(**(fields | changes))  # type: ignore[arg-type]


def test_slots_and_capacity() -> None:
    assert TEMPLATE.slots == ("name", "number1", "name2")
    # Three names, two numbers, the two names left.
    assert TEMPLATE.capacity(WORDS) == 3 * 2 * 2


@given(st.integers(1, 4), st.integers(1, 4))
def test_fill_gives_every_pair_once(names: int, numbers: int) -> None:
    words = {"name": tuple("abcde"[: names + 1]), "number": tuple("1234"[:numbers])}
    capacity = TEMPLATE.capacity(words)
    pairs = {TEMPLATE.fill(words, number) for number in range(capacity)}
    assert len(pairs) == capacity == (names + 1) * numbers * names


def test_fill_writes_dollars_and_completions() -> None:
    template = Template("t", "$$ $name1 = $name2 +", "$$ $name2 = $name1 +", " $name1", " $name2")
    pair = template.fill({"name": ("x", "y")}, 1)
    assert (pair.prompt_a, pair.completion_a) == ("$ y = x +", " y")
    assert (pair.prompt_b, pair.completion_b) == ("$ x = y +", " x")
    assert pair.template == "t"


@given(st.integers(1, 60), st.lists(st.integers(0, 20), min_size=1, max_size=6))
def test_shares_are_even_as_far_as_capacities_allow(n: int, capacities: list[int]) -> None:
    shares = _shares(n, capacities)
    assert sum(shares) == min(n, sum(capacities))
    assert all(0 <= share <= capacity for share, capacity in zip(shares, capacities, strict=True))
    most = max(shares)
    assert all(share >= most - 1 for share, capacity in zip(shares, capacities, strict=True) if share < capacity)


@pytest.mark.parametrize("population", [40, 2**31, 2**90])
def test_distinct_numbers_of_any_population(population: int) -> None:
    import random

    numbers = _distinct(random.Random(0), 40, population)
    assert len(set(numbers)) == 40
    assert 0 <= min(numbers) <= max(numbers) < population


def test_pairs_are_spread_evenly_over_templates() -> None:
    task = TASKS["for_while"]
    templates = len(task.templates["report"])
    drawn = [pair.template for pair in task.draw("report", n=3 * templates)]
    assert {drawn.count(template.name) for template in task.templates["report"]} == {3}


def test_seed_and_split_change_the_pairs() -> None:
    task = TASKS["for_while"]
    assert task.draw("report", 20, seed=1) == task.draw("report", 20, seed=1)
    assert task.draw("report", 20, seed=1) != task.draw("report", 20, seed=2)


def test_the_draw_is_the_same_in_another_process() -> None:
    code = (
        "import hashlib; from sparse_circuits.tasks import TASKS;"
        "drawn = repr([task.draw('ood', 50, seed=7) for task in TASKS.values()]);"
        "print(hashlib.sha256(drawn.encode()).hexdigest())"
    )
    other = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONHASHSEED": "1234"},
        capture_output=True,
        text=True,
        check=True,
    )
    here = repr([task.draw("ood", 50, seed=7) for task in TASKS.values()])
    assert other.stdout.strip() == hashlib.sha256(here.encode()).hexdigest()


def test_words_that_would_make_a_completion_several_tokens_are_left_out() -> None:
    tokenizer = Tokenizer.train(["x y zebra = x, y\n zebra y x"] * 50, 300)
    words = {"prune": {"name": ("x", "zebra", "quagga", "y", "okapi"), "other": ("gnu",)}}
    templates = {
        "prune": (Template("t", "$name1, $other = $other,", "$name2, $other = $other,", " $name1", " $name2"),)
    }
    task = small(templates=templates, words=words)
    assert tokenizer.single_token(" quagga") is None
    assert task.size("prune") == 5 * 4
    pairs = task.pairs(tokenizer, "prune", n=6)
    assert {pair.completion_a for pair in pairs} == {" x", " zebra", " y"}
    assert len(set(pairs)) == 3 * 2
    with pytest.warns(UserWarning, match="'small' has 6 distinct pairs in split 'prune', 7 were asked"):
        task.pairs(tokenizer, "prune", n=7)
    bytes_only = Tokenizer.train(["abc"], 257)
    with pytest.raises(
        InputError,
        match=r"^task 'small', template 't': as completions only 0 of the 5 words of kind 'name' are one token",
    ):
        task.pairs(bytes_only, "prune", n=1)


def test_where_all_words_are_tokens_the_tokenizer_changes_nothing(tokenizer: Tokenizer) -> None:
    task = TASKS["for_while"]
    assert task.pairs(tokenizer, "report", n=30, seed=3) == task.draw("report", n=30, seed=3)


def test_asking_for_more_than_there_is_gives_all_and_says_so() -> None:
    task = small()
    assert task.size("prune") == 15
    with pytest.warns(UserWarning, match="'small' has 15 distinct pairs in split 'prune', 64 were asked"):
        pairs = task.draw("prune", 64)
    assert len(set(pairs)) == len(pairs) == 15
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(set(task.draw("prune", 15))) == 15


def test_loss_follows_from_the_templates() -> None:
    assert small().loss == "two_token"
    assert small(templates={"ood": (Template("t", "a", "b", "c"),)}).loss == "one_token"


def test_fingerprint_follows_the_content() -> None:
    prints = {
        small().fingerprint,
        small(name="other").fingerprint,
        small(words={"prune": WORDS | {"number": ("1", "3")}}).fingerprint,
        small(templates={"prune": (TEMPLATE,)}).fingerprint,
    }
    assert len(prints) == 4
    assert small().fingerprint == small(version=2).fingerprint


@pytest.mark.parametrize(
    ("split", "n", "message"),
    [
        ("train", 5, "no split 'train': the splits are prune, calibrate, report, ood"),
        ("ood", 5, "task 'small' has no 'ood' split, only prune; choose one of these, or give"),
        ("prune", 0, "0 pairs asked: ask for at least 1"),
    ],
)
def test_bad_requests_are_refused(split: str, n: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        small().draw(split, n)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"templates": {}}, "task 'small' has no templates"),
        ({"templates": {"train": (TEMPLATE,)}}, "no split 'train': the splits are"),
        ({"words": {"prune": {"name": ("x",)}}}, r"'prune' has no words for \$number1, of kind 'number'"),
        ({"words": {"prune": WORDS | {"name": ("x",)}}}, "'t': 'prune' has too few words for the slots"),
        ({"words": {"prune": WORDS, "ood": {"name": ("x",)}}}, "'x' is in prune/name and in ood/name"),
        ({"words": {"prune": WORDS | {"text": ("x",)}}}, "'x' is in prune/name and in prune/text"),
        (
            {"templates": {"prune": (TEMPLATE,), "ood": (TEMPLATE,)}, "words": {"prune": WORDS, "ood": {
                "name": ("a", "b"), "number": ("3",)}}},
            "template 't': 'prune' and 'ood' share 't'",
        ),
        ({"templates": {"prune": (Template("t", "cost $", "b", "c", "d"),)}}, "template 't': a lone '\\$'"),
        (
            {"templates": {"prune": (TEMPLATE, Template("u", "a", "b", "c"))}},
            "some templates have a completion for side B and some have none",
        ),
    ],
)  # fmt: skip
def test_a_malformed_task_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message) as refusal:
        small(**changes)
    assert "\n" not in str(refusal.value)
