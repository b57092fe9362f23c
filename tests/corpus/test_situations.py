"""Every behaviour that the tasks ask about stands in the full level in both its forms, often."""

import pytest
from program_samples import sample

from sparse_circuits.corpus.situations import SITUATIONS, count_situations

SAMPLE = sample(11, 1200, "full")
MEGABYTES = sum(map(len, SAMPLE)) / 1e6
COUNTS = count_situations(SAMPLE)
TASKS = [situation.task for situation in SITUATIONS]


@pytest.mark.parametrize("task", TASKS)
def test_both_forms_are_frequent(task: str) -> None:
    """About 300 a megabyte or more; less by what a sample of a megabyte may be off."""
    assert min(COUNTS[task]) / MEGABYTES > 245


@pytest.mark.parametrize(
    ("task", "text", "counts"),
    [
        ("single_double_quote", "print(\"a\")\nf(1, 'b c')\nf('d', e)\n", (1, 1)),
        ("bracket_counting", "x = [[1, 2], [3]]\ny = [1, 2]\nz += [[4]]\nw = []\n", (2, 1)),
        ("bracket_brace", "x = {'a': 1, 2: 'b'}\ny = ['a', 3, 'b']\n", (1, 1)),
        ("set_or_string", "a = set()\nb = ''\na.add(1)\nb += 'x'\nb += a\na += 1\nc.add(2)\n", (1, 2)),
        ("set_or_string_fixedvarname", "current = set()\ncurrent.add(1)\nother = ''\nother += 'x'\n", (1, 0)),
        ("final_kwarg", "def f(a, b=1, c=None):\n    def g(a, b):\n        def h(a=None):\n", (1, 1)),
        ("class_init", "    self.a = a\n    self.b = c\n    self.c = []\n", (1, 2)),
        ("with_as", "with open(a) as f:\nf = open(a)\nopen(a)\n", (1, 1)),
        ("with_open", "f = open('a.txt', 'r')\nwith open(\"b\", \"w\") as f:\nf = open(c, 'r')\n", (1, 1)),
        ("for_while", "for x in y:\nwhile x:\nwhile x > 1:\n", (1, 1)),
        ("else_elif", "else:\nelif x:\n", (1, 1)),
        ("if_ternary", "if x:\ny = 1 if x else 2\n", (1, 1)),
        ("if_equals", "if x == 1:\nx = 1\ny == 1\n", (1, 1)),
        ("var_if", "if x == True:\nx = True\nx = 1\n", (1, 1)),
        ("while_return_true", "while True:\n    return True\n    return False\n", (1, 1)),
        ("fstring_brace", "print(f'total {x}')\nprint(f'total: {x}')\nprint('total', x)\nprint('the total')\n", (2, 1)),
        ("var_swap", "x, y = y, x\nx, y, z = y, z, x\nx, y = y, x + y\n", (1, 1)),
        ("indent_for", "for x in y:\n    print(x)\n    for z in x:\n        print(z)\n", (1, 1)),
        ("lambda_func", "f = lambda x: x\ndef f(x):\n", (1, 1)),
        ("enumerate_range", "for i, x in enumerate(y):\nfor i in range(3):\nfor a, b in y:\n", (1, 1)),
    ],
)
def test_what_counts(task: str, text: str, counts: tuple[int, int]) -> None:
    assert count_situations([text])[task] == counts


def test_every_situation_has_a_hand_counted_example() -> None:
    marks = test_what_counts.pytestmark[0]  # type: ignore[attr-defined]
    assert [case[0] for case in marks.args[1]] == TASKS


def test_a_variable_is_followed_within_a_program_only() -> None:
    assert count_situations(["a = set()\n", "a.add(1)\n"])["set_or_string"] == (0, 0)


def test_the_context_of_a_growing_variable_varies() -> None:
    """Sets and strings share their names, and `current` is not the only one."""
    names: dict[str, set[str]] = {"set()": set(), "''": set()}
    for text in SAMPLE:
        for line in text.split("\n"):
            name, _, value = line.strip().partition(" = ")
            if value.replace('"', "'") in names and name.isidentifier():
                names[value.replace('"', "'")].add(name)
    assert len(names["set()"] & names["''"]) > 25
