"""The generated programs: the same everywhere, valid, harmless, and balanced where a model must learn a contrast."""

import ast
import builtins
import hashlib
import io
import itertools
import json
import keyword
import os
import re
import subprocess
import sys
import tokenize
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparse_circuits.corpus.idioms import program, programs
from sparse_circuits.corpus.idioms.author import Author
from sparse_circuits.corpus.idioms.classes import CLASSES
from sparse_circuits.corpus.idioms.files import FILE_FUNCTIONS
from sparse_circuits.corpus.idioms.functions import DEFINITIONS
from sparse_circuits.corpus.idioms.loops import FOR_LOOPS, WHILE_LOOPS
from sparse_circuits.corpus.idioms.recipes import RECIPES
from sparse_circuits.corpus.idioms.registry import BASICS, PARAGRAPHS, PARTS
from sparse_circuits.corpus.idioms.words import class_name, past, plural, progressive
from sparse_circuits.errors import InputError


def generated(seed: int, count: int) -> list[str]:
    """The first documents of a stream, from a process of its own: in this one every call has its types checked."""
    code = (
        "import itertools, json; from sparse_circuits.corpus.idioms import programs; "
        f"print(json.dumps(list(itertools.islice(programs({seed}), {count}))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return json.loads(done.stdout)


SAMPLE = generated(seed=11, count=1500)
LINES = "".join(SAMPLE).split("\n")
NUMBERS = st.integers(0, 2**64 - 1)


def digest(seed: int, index: int) -> str:
    return hashlib.sha256(program(seed, index).encode()).hexdigest()[:16]


def rate(pattern: str) -> float:
    """Lines that match, per program."""
    return sum(re.search(pattern, line) is not None for line in LINES) / len(SAMPLE)


# The same document everywhere.


def test_documents_are_fixed() -> None:
    assert [digest(0, 0), digest(0, 1), digest(7, 123456), digest(2**64 - 1, 2**64 - 1)] == [
        "4642a4b99fdb9f55",
        "aeb5be39e500d6eb",
        "7a0f576180670281",
        "2ab6ba0d34309fa7",
    ]


def test_documents_do_not_depend_on_the_process() -> None:
    code = "from sparse_circuits.corpus.idioms import program; print([program(3, i) for i in range(50)])"
    texts = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        for seed in ("1", "2")
    }
    assert texts == {f"{[program(3, index) for index in range(50)]}\n"}


@given(NUMBERS, st.integers(0, 2**64 - 10))
@settings(max_examples=20)
def test_a_stream_is_its_documents(seed: int, start: int) -> None:
    assert list(itertools.islice(programs(seed, start), 3)) == [program(seed, start + place) for place in range(3)]


def test_there_are_no_duplicates() -> None:
    found = Counter(generated(seed=5, count=5000))
    assert found.most_common(1)[0][1] == 1


def test_streams_differ() -> None:
    assert len({program(seed, 0) for seed in range(60)}) == 60


@pytest.mark.parametrize(("seed", "index", "label"), [(-1, 0, "seed"), (0, -1, "index"), (2**64, 0, "seed")])
def test_numbers_out_of_range_are_refused(seed: int, index: int, label: str) -> None:
    with pytest.raises(InputError, match=rf"idioms: {label} is -?\d+, expected 0 to"):
        program(seed, index)


# Valid Python that a person might have written.


@given(NUMBERS, NUMBERS)
@settings(max_examples=100, deadline=None)
def test_every_document_is_a_program(seed: int, index: int) -> None:
    text = program(seed, index)
    ast.parse(text)
    assert text.endswith("\n")
    assert not text.endswith("\n\n")
    assert not text.startswith("\n")
    assert text.isascii()
    assert "\t" not in text
    for line in text.split("\n"):
        assert len(line) <= 100
        assert line == line.rstrip()
        assert (len(line) - len(line.lstrip())) % 4 == 0


def test_lines_are_short_and_programs_of_readable_length() -> None:
    assert sum(len(line) > 90 for line in LINES) / len(LINES) < 0.001
    lengths = sorted(text.count("\n") for text in SAMPLE)
    assert 25 <= lengths[len(lengths) // 2] <= 45
    assert sum(10 <= length <= 60 for length in lengths) / len(lengths) > 0.85
    assert not any("\n\n\n\n" in text for text in SAMPLE)


def bound_names(tree: ast.AST) -> set[str]:
    """Every name that something in the tree binds."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            found.add(node.id)
        elif isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.alias):
            found.add(node.asname or node.name)
        elif isinstance(node, ast.ExceptHandler) and node.name:
            found.add(node.name)
    return found


@pytest.mark.parametrize("start", range(0, 400, 50))
def test_names_are_set_somewhere_and_hide_no_builtin(start: int) -> None:
    for text in SAMPLE[start : start + 50]:
        check_names(ast.parse(text))


def check_names(tree: ast.Module) -> None:
    outside = {name for node in tree.body if not isinstance(node, ast.FunctionDef) for name in bound_names(node)}
    outside |= {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    for node in tree.body:
        inside = bound_names(node) if isinstance(node, ast.FunctionDef) else set()
        used = {found.id for found in ast.walk(node) if isinstance(found, ast.Name)}
        assert used <= outside | inside | set(dir(builtins)) | {"__name__"}
    variables = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    assert not variables & set(dir(builtins))


def test_nearly_all_programs_run() -> None:
    runner = (
        "import contextlib, io, json, logging, sys\n"
        "logging.disable(logging.CRITICAL)\n"
        "failed = []\n"
        "for place, text in enumerate(json.load(sys.stdin)):\n"
        "    try:\n"
        "        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):\n"
        "            exec(compile(text, str(place), 'exec'), {'__name__': '__main__'})\n"
        "    except BaseException as error:\n"
        "        failed.append((place, repr(error)))\n"
        "print(json.dumps(failed))\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", runner],
        input=json.dumps(SAMPLE[:400]),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    failed = json.loads(done.stdout)
    assert len(failed) <= 4, failed


HARMLESS = {"math", "random", "collections", "os", "json", "logging", "sys"}


@pytest.mark.parametrize("start", range(0, 400, 50))
def test_programs_are_harmless(start: int) -> None:
    """Few modules, of os only paths, and a function that opens a file or asks a question is never called."""
    for text in SAMPLE[start : start + 50]:
        check_harmless(ast.parse(text))


def check_harmless(tree: ast.Module) -> None:
    risky: set[str] = set()
    for node in tree.body:
        names = {found.id for found in ast.walk(node) if isinstance(found, ast.Name)}
        assert not names & {"eval", "exec", "compile", "__import__", "globals"}
        if names & {"open", "input"}:
            assert isinstance(node, ast.FunctionDef)
            risky.add(node.name)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert {alias.name for alias in node.names} <= HARMLESS
        elif isinstance(node, ast.ImportFrom):
            assert node.module in HARMLESS
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os":
            assert node.attr == "path"
        elif isinstance(node, ast.Name):
            assert node.id not in risky


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


# Each construct alone.


def written(author: Author) -> str:
    return "\n".join([*author.imports, *author.lines]) + "\n"


@pytest.mark.parametrize(
    "construct", sorted({*PARAGRAPHS, *BASICS, *FOR_LOOPS, *WHILE_LOOPS}, key=lambda f: f.__name__)
)
def test_a_paragraph_is_valid_at_any_indentation(construct: Callable[[Author, str], object]) -> None:
    for seed in range(25):
        author = Author(seed, 0)
        for _ in range(3):
            construct(author, "")
        ast.parse(written(author))
        author = Author(seed, 1)
        author.lines.append("def main():")
        author.lines.append("    pass")
        construct(author, "    ")
        ast.parse(written(author))


@pytest.mark.parametrize(
    "construct", sorted({*PARTS, *DEFINITIONS, *CLASSES, *FILE_FUNCTIONS}, key=lambda f: f.__name__)
)
def test_a_definition_is_valid_and_leaves_the_scope_as_it_was(construct: Callable[[Author], None]) -> None:
    for seed in range(25):
        author = Author(seed, 0)
        scope = author.scope
        for _ in range(3):
            construct(author)
        assert author.scope is scope
        ast.parse(written(author))


def test_recipes_name_every_argument() -> None:
    for recipe in RECIPES:
        assert len(recipe.arguments) == len(recipe.kinds)


# Words.


@pytest.mark.parametrize(
    ("noun", "expected"),
    [("item", "items"), ("box", "boxes"), ("city", "cities"), ("day", "days"), ("child", "children"), ("x", "values")],
)
def test_plurals(noun: str, expected: str) -> None:
    assert plural(noun) == expected


@pytest.mark.parametrize(
    ("verb", "participle", "form"),
    [
        ("pack", "packed", "packing"),
        ("save", "saved", "saving"),
        ("ship", "shipped", "shipping"),
        ("copy", "copied", "copying"),
        ("play", "played", "playing"),
        ("send", "sent", "sending"),
    ],
)
def test_verbs(verb: str, participle: str, form: str) -> None:
    assert past(verb) == participle
    assert progressive(verb) == form


def test_class_names() -> None:
    assert class_name("bus_stop") == "BusStop"
