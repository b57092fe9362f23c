"""What a model must learn from the simple level stands in both forms, often, and about equally often."""

import ast
import io
import itertools
import keyword
import re
import tokenize
from collections import Counter

import pytest
from program_samples import sample

SAMPLE = list(sample(11, 1500, "simple"))
LINES = "".join(SAMPLE).split("\n")


def rate(pattern: str) -> float:
    """Lines that match, per program."""
    return sum(re.search(pattern, line) is not None for line in LINES) / len(SAMPLE)


# Quotes.


def closings() -> Counter[tuple[str, str]]:
    """(closing quote, what follows it at once) of every ordinary string."""
    found: Counter[tuple[str, str]] = Counter()
    for text in SAMPLE:
        tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
        for token, following in itertools.pairwise(tokens):
            if token.type == tokenize.STRING and token.string[-3:] not in ('"""', "'''"):
                found[token.string[-1], following.string if following.start == token.end else " "] += 1
    return found


CLOSINGS = closings()


@pytest.mark.parametrize("follower", [")", ",", "]", ":", "\n"])
def test_both_quotes_close_strings_equally_often_before(follower: str) -> None:
    single, double = CLOSINGS["'", follower], CLOSINGS['"', follower]
    assert single + double > 0.5 * len(SAMPLE)
    assert 0.45 <= single / (single + double) <= 0.55


def test_most_programs_mix_quotes_and_some_have_a_habit() -> None:
    mixed = habitual = 0
    for text in SAMPLE:
        marks = Counter(mark for mark in re.findall(r"\((\"|')\w[^\"'\n]*\1\)", text))
        if sum(marks.values()) >= 6:
            mixed += min(marks.values()) >= 2 and len(marks) == 2
            habitual += len(marks) == 1
    assert 0.45 <= mixed / (mixed + habitual) <= 0.75


def test_calls_with_one_string_are_frequent_in_both_quotings_and_of_many_functions() -> None:
    found = [re.fullmatch(r"\s*(?:raise |\w+ = )?([\w.]+)\((\"[^\"]*\"|'[^']*')\)", line) for line in LINES]
    calls = [match for match in found if match]
    assert len(calls) / len(SAMPLE) > 3
    assert 0.45 <= sum(match[2][0] == "'" for match in calls) / len(calls) <= 0.55
    assert len({match[1] for match in calls}) > 150
    assert 0.3 < sum(match[1] == "print" for match in calls) / len(calls) < 0.7
    words = Counter(len(match[2].split()) for match in calls)
    assert set(range(1, 6)) <= set(words)
    assert min(words[count] for count in range(1, 6)) / len(calls) > 0.04


def test_strings_hold_the_other_quote_now_and_then() -> None:
    apostrophes, spoken = rate(r"\"[^\"']*'[^\"']*\""), rate(r"'[^\"']*\"[^\"']*\"[^\"']*'")
    assert apostrophes > 0.05
    assert spoken > 0.05


# Brackets.


def depth(node: ast.expr) -> int:
    """How deep lists are nested in an expression."""
    if not isinstance(node, ast.List):
        return 0
    return 1 + max((depth(item) for item in node.elts), default=0)


def leaves(node: ast.expr) -> int:
    return sum(map(leaves, node.elts)) if isinstance(node, ast.List) else 1


def last_depth(node: ast.expr) -> int:
    """How many lists close together at the end of a list literal."""
    return 1 + last_depth(node.elts[-1]) if isinstance(node, ast.List) and node.elts else 0


ASSIGNED = [
    node.value
    for text in SAMPLE
    for node in ast.walk(ast.parse(text))
    if isinstance(node, ast.Assign)
    and isinstance(node.value, ast.List)
    and node.value.elts
    and node.value.lineno == node.value.end_lineno
]


def test_flat_and_nested_lists_are_assigned_about_equally_often() -> None:
    ends = Counter(last_depth(node) for node in ASSIGNED)
    assert len(ASSIGNED) / len(SAMPLE) > 2
    assert 0.45 <= ends[1] / len(ASSIGNED) <= 0.6
    assert 0.33 <= ends[2] / len(ASSIGNED) <= 0.5
    assert ends[3] / len(ASSIGNED) > 0.04


@pytest.mark.parametrize("kinds", [{int}, {str}, {int, str}])
def test_lists_of_every_kind_of_element_are_flat_and_nested(kinds: set[type]) -> None:
    depths = Counter(
        last_depth(node)
        for node in ASSIGNED
        if {type(leaf.value) for leaf in ast.walk(node) if isinstance(leaf, ast.Constant)} == kinds
    )
    assert depths.total() > 60
    assert 0.25 <= depths[1] / depths.total() <= 0.75


def test_the_number_of_elements_does_not_tell_the_depth() -> None:
    flat = Counter(leaves(node) for node in ASSIGNED if depth(node) == 1)
    nested = Counter(leaves(node) for node in ASSIGNED if depth(node) == 2)
    for count in range(1, 8):
        assert 0.15 <= flat[count] / (flat[count] + nested[count]) <= 0.85


def test_the_first_bracket_does_not_tell_the_last() -> None:
    """Lists that hold lists may end flat, and lists that begin flat may end deep."""
    mixed = [
        node for node in ASSIGNED if isinstance(node.elts[0], ast.List) and not isinstance(node.elts[-1], ast.List)
    ]
    assert len(mixed) > 15


def test_rows_and_columns_vary() -> None:
    rows = [node for node in ASSIGNED if all(isinstance(item, ast.List) for item in node.elts)]
    counts = Counter(len(node.elts) for node in rows)
    widths = Counter(len(item.elts) for node in rows for item in node.elts)
    assert min(counts[count] for count in range(1, 5)) > 0.08 * len(rows)
    assert min(widths[width] for width in range(1, 5)) > 0.08 * widths.total()
    equal = sum(len({len(item.elts) for item in node.elts}) == 1 for node in rows)
    assert 0.4 < equal / len(rows) < 0.9


def test_the_same_names_hold_flat_and_nested_lists() -> None:
    held: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
    for text in SAMPLE:
        for name, opened in re.findall(r"^ *(\w+) = (\[\[?)[\w'\"-]", text, flags=re.MULTILINE):
            held[opened == "[["][name] += 1
    shared = [name for name, count in held[True].items() if count >= 5 and held[False][name] >= 5]
    assert {"x", "a", "data", "items", "result", "values"} <= set(shared)


@pytest.mark.parametrize("ending", ["])", "]])", "']]", '"]]', "]]]", "']", '"]', "],", "]:", "}]", ")]", "]}"])
def test_endings_of_lists_are_frequent(ending: str) -> None:
    assert rate(re.escape(ending)) > 0.008


# Loops.


def test_for_and_while_are_about_equally_frequent() -> None:
    loops, whiles = rate(r"^ *for "), rate(r"^ *while ")
    assert whiles > 1
    assert 0.45 <= loops / (loops + whiles) <= 0.6
    assert rate(r"^ *while \w+:$") > 0.6 * whiles
    assert rate(r"^ *while not \w+:$") > 0.01
    assert rate(r"^ *while \w+ <=? \w+:$") > 0.05


def test_the_same_names_follow_for_and_while() -> None:
    after_for = Counter(re.findall(r"^ *for (\w+) in ", "\n".join(LINES), flags=re.MULTILINE))
    after_while = Counter(re.findall(r"^ *while (\w+)(?: [<>!=]|:)", "\n".join(LINES), flags=re.MULTILINE))
    both = set(after_for) & set(after_while)
    assert len(both) > 150
    assert sum(after_for[name] for name in both) > 0.75 * after_for.total()
    assert sum(after_while[name] for name in both) > 0.5 * after_while.total()
    assert sum(min(after_for[name], after_while[name]) for name in both) > 0.4 * after_while.total()


@pytest.mark.parametrize("pad", [0, 4, 8])
def test_loops_stand_at_every_depth(pad: int) -> None:
    for word in ("for", "while"):
        assert rate(rf"^ {{{pad}}}{word} ") > 0.015


# The other constructs, less often.

CONSTRUCTS = {
    "set grown": r"\w+\.add\(",
    "empty set": r" = set\(\)$",
    "empty string": r" = (''|\"\")$",
    "text grown": r"^ *\w+ \+= ['\"\w]",
    "default": r"^def \w+\(.*=\w",
    "default None": r"^def \w+\(.*=None",
    "plain arguments": r"^def \w+\(\w+, \w+(, \w+)*\):$",
    "attribute": r"^ +self\.(\w+) = \1$",
    "with": r"^ *with open\(.*\) as \w+:$",
    "open": r"^ *\w+ = open\(",
    "read mode": r"open\(.*, (\"r\"|'r')\)",
    "write mode": r"open\(.*, (\"w\"|'w')\)",
    "else": r"^ *else:$",
    "elif": r"^ *elif .*:$",
    "conditional": r" = .* if .* else ",
    "if name": r"^ *if \w+:$",
    "if equals": r"^ *if \w+ == ",
    "equals True": r"^ *if \w+ == True:$",
    "while True": r"^ *while True:$",
    "return True": r"^ *return True$",
    "f-string": r"f[\"'].*\{\w+\}",
    "swap": r"^ *(\w+), (\w+) = \2, \1$",
    "lambda": r"^ *\w+ = lambda ",
    "def": r"^ *def ",
    "enumerate": r"^ *for \w+, \w+ in enumerate\(",
    "range": r"^ *for \w+ in range\(",
    "dictionary": r"^ *\w+ = \{['\"]",
    "comprehension": r" = \[.* for .* in ",
    "try": r"^ *try:$",
    "import": r"^import ",
    "from": r"^from \w+ import ",
    "docstring": r"^ *\"\"\"",
    "comment": r"^ *# ",
    "class": r"^class ",
    "trailing comma": r"^    .*,$",
}


@pytest.mark.parametrize("name", CONSTRUCTS)
def test_a_construct_is_there(name: str) -> None:
    assert rate(CONSTRUCTS[name]) > 0.01


def test_names_are_many() -> None:
    names = {
        token.string
        for text in SAMPLE[:500]
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.NAME and not keyword.iskeyword(token.string)
    }
    assert len(names) > 1500
