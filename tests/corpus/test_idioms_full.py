"""The full level: valid, readable programs that run, made of constructs that each stand on their own."""

import ast
import builtins
import hashlib
import re
import subprocess
import sys
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from program_samples import sample

from sparse_circuits.corpus.idioms import program
from sparse_circuits.corpus.idioms.author import Author
from sparse_circuits.corpus.idioms.procedures import procedure
from sparse_circuits.corpus.idioms.repertoire import CLASSES, FUNCTIONS, PARAGRAPHS
from sparse_circuits.corpus.sandbox import failures
from sparse_circuits.errors import InputError
from sparse_circuits.tasks import TASKS

SAMPLE = sample(11, 1200, "full")
NUMBERS = st.integers(0, 2**64 - 1)


def digest(seed: int, index: int) -> str:
    return hashlib.sha256(program(seed, index, "full").encode()).hexdigest()[:16]


def test_documents_are_fixed() -> None:
    assert [digest(0, 0), digest(0, 1), digest(7, 123456), digest(2**64 - 1, 2**64 - 1)] == DIGESTS


DIGESTS = [
    "8a02585d5ada4bc8",
    "def2da2b62c62956",
    "dcf4c74a6b1adeaa",
    "7f2f3870d9af5807",
]


@pytest.mark.usefixtures("unannotated")
def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(InputError, match="level is 'hard'; choose among simple, full"):
        program(0, 0, "hard")  # type: ignore[arg-type]


@given(NUMBERS, NUMBERS)
@settings(max_examples=60, deadline=None)
def test_every_document_is_a_program(seed: int, index: int) -> None:
    text = program(seed, index, "full")
    ast.parse(text)
    assert text.endswith("\n")
    assert not text.endswith("\n\n")
    assert not text.startswith("\n")
    assert text.isascii()
    assert "\t" not in text
    assert "\n\n\n\n" not in text
    for line in text.split("\n"):
        assert len(line) <= 100
        assert line == line.rstrip()
        assert (len(line) - len(line.lstrip())) % 4 == 0


def test_there_are_no_duplicates_and_programs_are_of_readable_length() -> None:
    assert len(set(SAMPLE)) == len(SAMPLE)
    lengths = sorted(text.count("\n") for text in SAMPLE)
    assert 30 <= lengths[len(lengths) // 2] <= 55
    assert lengths[-1] < 250


def test_nearly_all_programs_run() -> None:
    """Every program is meant to run, given the input files it names; at least 19 in 20 must."""
    chosen = SAMPLE[:150]
    failed = failures(chosen)
    assert len(failed) <= 0.05 * len(chosen), failed


HARMLESS = {
    *("collections", "copy", "dataclasses", "datetime", "enum", "functools", "heapq", "itertools", "json", "logging"),
    *("math", "os", "pathlib", "random", "re", "statistics", "sys", "typing"),
}


@pytest.mark.parametrize("start", range(0, 600, 100))
def test_programs_are_harmless_and_hide_no_builtin(start: int) -> None:
    """Few modules, of os only paths, and no code from strings; no variable takes the name of a builtin."""
    for text in SAMPLE[start : start + 100]:
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                assert {alias.name for alias in node.names} <= {*HARMLESS, "unittest"}
            elif isinstance(node, ast.ImportFrom):
                assert node.module in HARMLESS
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os":
                assert node.attr == "path"
            elif isinstance(node, ast.Name):
                assert node.id not in {"eval", "exec", "compile", "__import__", "globals"}
                assert isinstance(node.ctx, ast.Load) or node.id not in dir(builtins)


def test_input_files_are_only_read_and_output_files_only_written() -> None:
    modes: dict[str, set[str]] = {}
    for name, mode in re.findall(r"open\(['\"]([a-z]+)\.\w+['\"], ['\"](\w)['\"]\)", "".join(SAMPLE)):
        modes.setdefault(name, set()).add(mode)
    assert {"input", "source", "data", "original"} <= set(modes)
    assert {"output", "target", "result", "summary"} <= set(modes)
    for name, used in modes.items():
        assert used == {"r"} or used <= {"w", "a"}, name


def test_most_variables_are_read() -> None:
    stored, unread = 0, 0
    for text in SAMPLE[:300]:
        names = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)]
        found = {node.id for node in names if isinstance(node.ctx, ast.Store)} - {"_"}
        stored += len(found)
        unread += len(found - {node.id for node in names if isinstance(node.ctx, ast.Load)})
    assert unread / stored < 0.08


def test_the_templates_of_the_tasks_are_not_in_it() -> None:
    """No three lines of a prompt follow each other in a program."""
    seen = {run for text in SAMPLE for run in runs(text)}
    looked_for = 0
    for task in TASKS.values():
        for split, templates in task.templates.items():
            for template in templates[::5]:
                found = runs(template.fill(task.words[split], 12345).prompt_a)
                looked_for += len(found)
                assert not seen.intersection(found), template.name
    assert looked_for > 50


def runs(text: str) -> list[tuple[str, ...]]:
    """Every three lines in a row that are not blank; the last, unfinished one left out."""
    lines = [line.strip() for line in text.split("\n")[:-1] if line.strip()]
    return list(zip(lines, lines[1:], lines[2:], strict=False))


def test_the_corpus_knows_nothing_of_the_tasks() -> None:
    code = (
        "import sys; import sparse_circuits.corpus.build; from sparse_circuits.corpus.idioms import program; "
        "program(0, 0, 'full'); print([name for name in sys.modules if name.startswith('sparse_circuits.tasks')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"


# Each construct alone.


def written(author: Author) -> str:
    return "\n".join([*author.imports, *author.lines, *author.calls]) + "\n"


@pytest.mark.parametrize(
    "construct", sorted({*PARAGRAPHS}, key=lambda f: (f.__module__, f.__name__)), ids=lambda f: f.__name__
)
def test_a_paragraph_is_valid_at_any_indentation(construct: Callable[[Author, str], object]) -> None:
    for seed in range(10):
        author = Author(seed, 0, 0, True)
        for _ in range(3):
            construct(author, "")
        ast.parse(written(author))
        author = Author(seed, 1, 0, True)
        author.lines += ["def main():", "    pass"]
        construct(author, "    ")
        ast.parse(written(author))


@pytest.mark.parametrize(
    "construct",
    sorted({*FUNCTIONS, *CLASSES, procedure}, key=lambda f: (f.__module__, f.__name__)),
    ids=lambda f: f.__name__,
)
def test_a_definition_is_valid_and_leaves_the_scope_as_it_was(construct: Callable[[Author], None]) -> None:
    for seed in range(10):
        author = Author(seed, 0, 0, True)
        scope = author.scope
        for _ in range(3):
            construct(author)
        assert author.scope is scope
        ast.parse(written(author))


def test_programs_are_annotated_throughout_or_not_at_all() -> None:
    kept = 0
    for text in SAMPLE[:300]:
        functions = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef) and node.args.args]
        known = {argument.annotation is not None for node in functions for argument in node.args.args}
        kept += len(known) < 2
    assert kept / 300 > 0.95
