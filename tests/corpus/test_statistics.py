"""Measures of text, by hand on a small program, and of the two levels."""

import pytest
from program_samples import sample

from sparse_circuits.corpus.statistics import CONSTRUCTS, describe

TEXT = '''"""A note
in two lines."""

x = 1
y = [[2], [x]]
# swap
x, y = y, x


def f(a, b=2):
    if a:
        return f"{b}"
'''
FOUND = describe([TEXT, "not python (\n"])
"""8 lines of code, 3 blank ones, and one that goes on with a string."""


@pytest.mark.parametrize(
    ("measure", "value"),
    [
        ("programs", 1),
        ("programs that do not parse", 1),
        ("lines a program (median)", 12),
        ("blank lines (%)", 100 * 3 / 12),
        ("lines inside a string (%)", 100 / 12),
        ("comment lines (%)", 100 / 8),
        ("indentation (mean level)", (1 + 2) / 8),
        ("lines at level 3 or deeper (%)", 0),
        ("brackets inside two others (%)", 0),
        ("arguments with a default (%)", 50),
        ("definitions with a docstring (%)", 0),
        ("variables that are read somewhere (%)", 100),
        ("assignment", 1000 * 3 / 8),
        ("swap", 1000 / 8),
        ("list", 1000 * 3 / 8),
        ("`def`", 1000 / 8),
        ("`if` and `elif`", 1000 / 8),
        ("f-string", 1000 / 8),
        ("`class`", 0),
    ],
)
def test_measures_of_a_small_program(measure: str, value: float) -> None:
    assert FOUND[measure] == pytest.approx(value)


def test_entropy_of_names() -> None:
    assert describe(["a = b\nc = d\n"])["entropy of names (bits)"] == pytest.approx(2.0)
    assert describe(["a = a\n"])["entropy of names (bits)"] == 0.0


def test_tokens_and_characters_a_line() -> None:
    found = describe(["x = 1\nprint(x)\n"])
    assert found["tokens a line"] == (3 + 4) / 2
    assert found["characters a line (mean)"] == (5 + 8) / 2


def test_nothing_to_describe_is_refused() -> None:
    with pytest.raises(ValueError, match="no program that parses"):
        describe(["x = (\n"])


def test_the_full_level_has_every_construct() -> None:
    found = describe(sample(11, 1200, "full")[:250])
    assert found["programs that do not parse"] == 0
    assert [name for name in CONSTRUCTS if found[name] == 0] == []
    assert found["variables that are read somewhere (%)"] > 92
