"""The language of sketches, and the sketches: each is valid, runs, and keeps the promises it writes as checks."""

import ast
import contextlib
import io
import json
import subprocess
import sys

import pytest

from sparse_circuits.corpus.idioms.author import Author
from sparse_circuits.corpus.idioms.sketches import SKETCHES, Written, check_sketches, take_in, use_sketch
from sparse_circuits.corpus.idioms.sketches.language import sketch, sketches, without_types


def author(seed: int = 0, typed: bool = False) -> Author:
    made = Author(seed, 0, 0, True)
    made.typed = typed
    return made


def taken(text: str, seed: int = 0, typed: bool = False) -> tuple[str, Author, Written]:
    """The definition of a sketch as a program writes it."""
    made = author(seed, typed)
    written = take_in(made, sketch(text))
    assert written is not None
    return "\n".join(made.lines), made, written


DOUBLE = """
def $f<double|twice>($n<n|x>: int, $times<times|count>: int = 2) -> int:
    return $n * $times
---
$out = $f(3, $times=4)
print($out)
---
assert $f(2) == 4
"""


def test_a_variable_has_one_name_throughout() -> None:
    seen = set()
    for seed in range(30):
        text, _, _ = taken(DOUBLE, seed)
        first, second = text.split("\n")
        name, n, times = first.removeprefix("def ").replace("(", " ").replace(", ", " ").replace("=", " ").split()[:3]
        assert second == f"    return {n} * {times}"
        seen.add((name, n, times))
    assert len(seen) == 8


def test_annotations_are_there_in_annotated_programs_only() -> None:
    assert "-> int:" in taken(DOUBLE, typed=True)[0]
    assert ": int = 2" in taken(DOUBLE, typed=True)[0]
    plain = taken(DOUBLE)[0]
    assert "int" not in plain
    assert "=2):" in plain


@pytest.mark.parametrize(
    ("line", "plain"),
    [
        ("def f(a: int, b: dict[str, int] = {}) -> list[int]:", "def f(a, b={}):"),
        ("    def g(self, x: int | None = None, *rest) -> None:", "    def g(self, x=None, *rest):"),
        ("def h(mark: str = `,`):", "def h(mark=`,`):"),
        ("def k() -> int:", "def k():"),
    ],
)
def test_annotations_are_taken_off(line: str, plain: str) -> None:
    assert without_types(line) == plain


def test_a_use_names_the_arguments_as_the_definition_does_and_its_own_variables_freely() -> None:
    for seed in range(20):
        text, made, written = taken(DOUBLE, seed)
        made.scope.used["result"] = "list"
        start = len(made.lines)
        assert written.write("", written.uses[0])
        use = made.lines[start:]
        times = text.split(", ")[1].split("=")[0]
        assert f"(3, {times}=4)" in use[0]
        assert not use[0].startswith("result =")
        assert use[1] == f"print({use[0].split(' = ')[0]})"


def test_a_sketch_whose_name_is_taken_is_refused_and_writes_nothing() -> None:
    made = author()
    made.reserve("only", "function")
    assert take_in(made, sketch("def $f<only>():\n    return 1\n")) is None
    assert made.lines == []


def test_names_that_the_sketch_writes_itself_are_not_drawn() -> None:
    for seed in range(20):
        assert "b, b" not in taken("def $f<f>($x<a|b>):\n    b = 2\n    return $x, b\n", seed)[0]


def test_alternatives_marks_and_quotes() -> None:
    texts = {taken("def f():\n    return `<yes|no>`, @small, f`{1} it's`\n", seed)[0] for seed in range(60)}
    assert {text.split("return ")[1][1:3] for text in texts} == {"ye", "no"}
    for text in texts:
        value, small, said = ast.literal_eval(text.split("return ")[1].replace('f"{1}', '"{1}'))
        assert value in ("yes", "no")
        assert 1 <= small <= 9
        assert said == "{1} it's"


def test_comments_docstrings_and_optional_lines_come_and_go() -> None:
    text = 'def f():\n    "Say one."\n    # first\n?     x = 2\n    return 1\n'
    found = {taken(text, seed)[0] for seed in range(200)}
    assert "def f():\n    return 1" in found
    assert any('"""Say one."""' in one for one in found)
    assert any("# first" in one for one in found)
    assert any("x = 2" in one for one in found)


def test_a_blank_line_goes_with_the_docstring_above_it() -> None:
    text = 'class $A<A>:\n    "One."\n\n    def f(self):\n        return 1\n'
    found = {taken(text, seed)[0] for seed in range(100)}
    assert found == {
        'class A:\n    """One."""\n\n    def f(self):\n        return 1',
        "class A:\n    def f(self):\n        return 1",
    }


def test_a_backslash_joins_lines_and_imports_move_to_the_top() -> None:
    text, made, _ = taken("import math\n\n\ndef f(a, \\\n      b):\n    return math.sqrt(a + b)\n")
    assert text == "def f(a, b):\n    return math.sqrt(a + b)"
    assert made.imports == ["import math"]


def test_sketches_are_parted() -> None:
    assert len(sketches("def f():\n    return 1\n===\ndef g():\n    return 2\n")) == 2


def test_checks_become_tests() -> None:
    made = author()
    written = take_in(made, sketch(DOUBLE))
    assert written is not None
    made.sketches.append(written)
    check_sketches(made)
    assert made.lines[-2].startswith("def test_")
    assert made.lines[-1].startswith("    assert ")


def whole(place: int, seed: int) -> str | None:
    """A program of one sketch with all its uses and checks; None when a name it needs was taken."""
    made = Author(seed, place, 0, True)
    written = take_in(made, SKETCHES[place])
    if written is None:
        return None
    made.sketches.append(written)
    while use_sketch(made, ""):
        pass
    check_sketches(made)
    calls = [line[4:-1] for line in made.lines if line.startswith("def test_")]
    return "\n".join([*made.imports, *made.lines, *calls]) + "\n"


def test_every_sketch_runs_with_its_uses_and_checks() -> None:
    """All in one process of its own, since each has been read by its authors."""
    programs = {
        f"{place}/{seed}": text for place in range(len(SKETCHES)) for seed in range(2) if (text := whole(place, seed))
    }
    assert len(programs) > 1.9 * len(SKETCHES)
    code = (
        "import contextlib, io, json, sys\n"
        "failed = {}\n"
        "for name, text in json.load(sys.stdin).items():\n"
        "    try:\n"
        "        with contextlib.redirect_stdout(io.StringIO()):\n"
        "            exec(compile(text, name, 'exec'), {'__name__': '__main__'})\n"
        "    except BaseException as error:\n"
        "        failed[name] = repr(error)\n"
        "print(json.dumps(failed))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(programs), capture_output=True, text=True, check=True, timeout=60
    )
    assert json.loads(done.stdout) == {}


def test_there_are_many_and_no_two_define_the_same() -> None:
    assert len(SKETCHES) > 150
    first = [made.defines[0][1] for made in SKETCHES if made.defines[0][1]]
    assert len(set(first)) == len(first)


def test_lines_are_short() -> None:
    for place in range(len(SKETCHES)):
        text = whole(place, 5)
        if text is not None:
            assert max(map(len, text.split("\n"))) <= 100


def test_running_them_prints_something() -> None:
    """A sketch without a use that shows a result would teach definitions that nothing calls."""
    silent = []
    for place, made in enumerate(SKETCHES):
        assert made.uses
        text = whole(place, 1)
        if text is not None and "print(" not in text:
            silent.append(place)
    assert silent == []
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        exec(compile(str(whole(0, 3)), "sketch", "exec"), {})
    assert shown.getvalue()
