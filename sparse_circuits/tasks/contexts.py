"""Lines of code to stand before the line that decides.

Every context belongs to one split, so tasks built with them are disjoint by construction. A context holds no
quote, no square or curly bracket and no loop, and is the same on both sides of a pair: it says nothing about
what a task asks. Its slots carry the numbers 7, 8 and 9; those of the deciding lines stay below. It ends
where the deciding line begins, after that line's indentation.
"""

from collections.abc import Mapping, Sequence
from textwrap import indent

from sparse_circuits.tasks.task import Template

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


def in_contexts(
    split: str, lines: Sequence[tuple[str, str]], right_a: str, right_b: str | None
) -> tuple[Template, ...]:
    """Every pair of deciding lines (side A, side B) in every context of `split`, with the same completions.

    A deciding "line" may be several, the last unfinished; all are indented as the context demands.
    """
    templates = []
    for line, (a, b) in enumerate(lines):
        for number, context in enumerate(CONTEXTS[split]):
            indentation = context.rpartition("\n")[2]
            side_a, side_b = (context + indent(side, indentation).removeprefix(indentation) for side in (a, b))
            templates.append(Template(f"{split}/{line}.{number}", side_a, side_b, right_a, right_b))
    return tuple(templates)
