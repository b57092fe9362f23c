"""Lines of code to stand before the line that decides.

Every context belongs to one split, so tasks built with them are disjoint by construction. A context holds no
quote, no square or curly bracket and no loop, and is the same on both sides of a pair: it says nothing about
what a task asks. Its slots carry the numbers 7, 8 and 9; those of the deciding lines stay below. It ends
where the deciding line begins, after that line's indentation.
"""

from collections.abc import Mapping, Sequence
from textwrap import indent
from typing import Literal

from sparse_circuits.tasks.task import SPLITS, Template

_PRUNE = (
    "",
    "$name7 = $number7\n",
    "$name7 = $number7\n$name8 = $name7 + $number8\n",
    "$name7 = $call7($name8)\nprint($name7)\n",
    "def $call7($name7):\n    ",
    "def $call7($name7, $name8):\n    $name9 = $name7 + $name8\n    print($name9)\n    ",
    "import math\n\n$name7 = math.sqrt($number7)\n",
    "if $name7 > $number7:\n    $name7 -= 1\n\n",
    "$name7 = None\n$name8 = True\n$name9 = $number7\n\n",
)
_CALIBRATE = (
    "$name7 = -$number7\n",
    "$name7 = $call7()\n$name8 = len($name7)\n",
    "def $call7():\n    $name7 = $number7\n    ",
    "from math import pi\n\n$name7 = pi * $number7\n",
    "if $name7:\n    $call7($name7)\n\n$name8 = abs($name7)\n",
    "$name7, $name8 = $number7, $number8\n$name9 = $name7\n",
)
_REPORT = (
    "$name7 = $number7 * $number8\n",
    "$name7 = max($name8, $number7)\n$name9 = $name7 - $number8\n",
    "def $call7($name7):\n    if $name7 is None:\n        return $number7\n    ",
    "import os\n\n$name7 = os.getcwd()\n",
    "$name7 = $call7($number7, $number8)\n$name8 = $name7\n",
    "$name7 = $number7\n$name7 += $number8\nprint($name7)\n\n",
)
_OOD = (
    "import time\n\n\ndef $call7($name7, $name8=$number7):\n    return $name7 + $name8\n\n\n",
    "$name7 = $number7\n$name8 = $number8\nif $name7 >= $number9:\n    print($name7)\nelse:\n    $name7 = $name8\n\n",
    "class Store:\n    def $call7(self, $name7, $name8):\n        self.$name7 = $name8\n        ",
    "try:\n    $name7 = $call7($number7)\nexcept ValueError:\n    $name7 = None\n\nif $name7 is not None:\n    ",
)
CONTEXTS: Mapping[str, tuple[str, ...]] = {
    "prune": _PRUNE,
    "calibrate": _CALIBRATE,
    "report": _REPORT,
    "ood": _OOD,
}


def _in_a_row(first: str, second: str) -> str:
    """One context after another: imports first, two blank lines before a function."""
    if second.startswith(("import ", "from ")):
        first, second = second, first
    return (first.rstrip("\n") + "\n\n\n" if second.startswith("def ") else first) + second


def _further(split: str) -> tuple[str, ...]:
    """Contexts of other lengths: two of the split in a row, of which the first ends at the left margin."""
    closed = [context for context in CONTEXTS[split] if context.endswith("\n")]
    rows = [(closed[(number + 2) % len(closed)], context) for number, context in enumerate(CONTEXTS[split])]
    return tuple(dict.fromkeys(_in_a_row(a, b) for a, b in rows if a != b and b))


# Out of distribution it is short contexts that are missing.
_FURTHER_OOD = (
    "# $name7 and $name8\n",
    "$name7 = $call7($number7) % $number8\n\n",
)
FURTHER: Mapping[str, tuple[str, ...]] = {
    split: _FURTHER_OOD if split == "ood" else _further(split) for split in SPLITS
}
"""For tasks whose sides differ in length, so that lengths vary by more than that."""
Where = Literal["anywhere", "margin", "definition"]
"""Which contexts suit a deciding line: `anywhere` all of them, `margin` those that end at the left margin,
`definition` the same, with the two blank lines that stand before a definition."""


def in_contexts(
    split: str,
    lines: Sequence[tuple[str, str]],
    right_a: str,
    right_b: str | None,
    where: Where = "anywhere",
    further: bool = False,
    group: str = "",
) -> tuple[Template, ...]:
    """Every pair of deciding lines (side A, side B) in every context of `split` that suits, with these completions.

    A deciding "line" may be several, the last unfinished; all are indented as the context demands, and one that
    starts with `def` or `class` is a definition wherever it is asked for. `further` also uses the contexts in
    `FURTHER`. `group` tells the templates' names from those of another call.
    """
    contexts = CONTEXTS[split] + (FURTHER[split] if further else ())
    templates = []
    for line, (a, b) in enumerate(lines):
        for number, context in enumerate(contexts):
            indentation = context.rpartition("\n")[2]
            definition = where == "definition" or a.startswith(("def ", "class "))
            if indentation and (definition or where == "margin"):
                continue
            if definition and context:
                context = context.rstrip("\n") + "\n\n\n"
            side_a, side_b = (context + indent(side, indentation).removeprefix(indentation) for side in (a, b))
            templates.append(Template(f"{split}/{group}{line}.{number}", side_a, side_b, right_a, right_b))
    return tuple(templates)


def deciding(
    lines: Mapping[str, Sequence[str]],
    a: tuple[str, str],
    b: tuple[str, str | None],
    where: Where = "anywhere",
    further: bool = False,
    group: str = "",
) -> Mapping[str, tuple[Template, ...]]:
    """The templates of every split: its `lines` in its contexts, where `@` marks the place of the evidence.

    `a` and `b` are what stands there on each side, and the completion that is then right.
    """
    return {
        split: in_contexts(
            split,
            [(line.replace("@", a[0]), line.replace("@", b[0])) for line in lines[split]],
            a[1],
            b[1],
            where,
            further,
            group,
        )
        for split in SPLITS
    }
