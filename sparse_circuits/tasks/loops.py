"""What comes after the variable of a loop.

Source: arXiv 2511.13653, the task `for_while`. The sides differ in the keyword alone; the name after it is
the same. Out of distribution, finished loops of both kinds stand before.
"""

from sparse_circuits.tasks.contexts import in_contexts
from sparse_circuits.tasks.task import SPLITS, Task
from sparse_circuits.tasks.words import words

# @ is the keyword that decides.
_LINES = {
    "prune": (
        "@ $name1",
        "$list1 = $call1($number1)\n@ $name1",
        "print($list1)\n@ $name1",
        "$list1.sort()\n\n@ $name1",
    ),
    "calibrate": (
        "@ $name1",
        "$list1.reverse()\n@ $name1",
        "$list1 = list($name2)\n@ $name1",
    ),
    "report": (
        "@ $name1",
        "$list1 = sorted($list2)\n@ $name1",
        "# $text1 the $name2\n@ $name1",
    ),
    "ood": (
        "for $name4 in $list1:\n    print($name4)\n\nwhile $name5:\n    $name5 -= $number1\n\n@ $name1",
        "while $name4:\n    $name4 = $call1()\n\nfor $name5 in $list1:\n    print($name5)\n\n@ $name1",
        "for $name4 in $list1:\n    @ $name1",
        "while $name4 > $number1:\n    @ $name1",
        "# for $text1, while $text2\n$list1.clear()\n@ $name1",
    ),
}

FOR_WHILE = Task(
    name="for_while",
    description="After the first name of a loop: ` in` if the loop is a `for`, `:` if it is a `while`.",
    templates={
        split: in_contexts(
            split,
            [(line.replace("@", "for"), line.replace("@", "while")) for line in _LINES[split]],
            right_a=" in",
            right_b=":\n",
        )
        for split in SPLITS
    },
    words=words("name", "list", "call", "text", "number"),
)
