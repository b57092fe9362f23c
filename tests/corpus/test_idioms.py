"""The generated programs of the simple level: the same everywhere, valid, readable and harmless."""

import ast
import builtins
import hashlib
import itertools
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from program_samples import sample

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

SAMPLE = list(sample(11, 1500, "simple"))
LINES = "".join(SAMPLE).split("\n")
NUMBERS = st.integers(0, 2**64 - 1)


def digest(seed: int, index: int) -> str:
    return hashlib.sha256(program(seed, index).encode()).hexdigest()[:16]


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
@settings(max_examples=20, deadline=None)
def test_a_stream_is_its_documents(seed: int, start: int) -> None:
    assert list(itertools.islice(programs(seed, start), 3)) == [program(seed, start + place) for place in range(3)]


def test_there_are_no_duplicates() -> None:
    found = Counter(sample(5, 5000, "simple"))
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
