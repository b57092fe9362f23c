"""What became of a variable: a set to add to or a string to append to, and which one takes part in a swap.

Source: arXiv 2511.13653, the tasks `set_or_string`, `set_or_string_fixedvarname` and `var_swap`.
- `set_or_string`: the sides differ in what the variable was set to, one or more lines before it is used again.
  Its names are ones that suit both. Out of distribution, other sets and strings are set and used in between.
- `set_or_string_fixedvarname`: the same lines, the name always `current`, a word of no list.
- `var_swap`: the sides differ in the first variable of the line. Lines before tell of both alike. The names are
  completions, so they are words that most tokenizers have as one token; others are left out (see `Task.pairs`).
  Out of distribution, other variables were swapped before, or both of these in turn.
"""

from collections.abc import Mapping, Sequence

from sparse_circuits.tasks.contexts import deciding
from sparse_circuits.tasks.task import SPLITS, Task, Template
from sparse_circuits.tasks.words import words

# @ is what the variable is set to, $grown1 its name.
_GROWN_LINES = {
    "prune": (
        "$grown1 = @\nfor $name1 in $list1:\n    $grown1",
        "$grown1 = @\nfor $name1 in $list1:\n    print($name1)\n    $grown1",
        "$grown1 = @\nwhile $list1:\n    $name1 = $list1.pop()\n    $grown1",
        "$list1 = [$number1, $number2, $number3]\n$grown1 = @\nfor $name1 in $list1:\n    $grown1",
        "$grown1 = @\n$name1 = $number1\n$name2 = $name1 + $number2\n$grown1",
        "$grown1 = @\nfor $name1 in range($number1):\n    $name2 = $name1 * $number2\n    $grown1",
        "$grown1 = @\nif $name1 > $number1:\n    $grown1",
        "$grown1 = @\nwhile $name1 < $number1:\n    $name1 += $number2\n    $grown1",
    ),
    "calibrate": (
        "$grown1 = @\nfor $name1 in $list1:\n    if $name1 > $number1:\n        $grown1",
        "$grown1 = @\n$list1 = []\nfor $name1 in range($number1):\n    $list1.append($name1)\n    $grown1",
        "$grown1 = @\nprint($name1)\n$grown1",
        "$name1 = $number1\n$grown1 = @\nwhile $name1:\n    $name1 -= 1\n    $grown1",
    ),
    "report": (
        "$grown1 = @\nfor $name1 in sorted($list1):\n    $grown1",
        "$grown1 = @\nwhile len($list1) > 0:\n    $name1 = $list1.pop(0)\n    $grown1",
        "$grown1 = @\n$name1 = $call1($number1)\n$name2 = $name1 - $number2\n$grown1",
        "$list1 = [$number1, $number2]\n$grown1 = @\nprint($list1)\nfor $name1 in $list1:\n    $grown1",
        "$grown1 = @\nfor $name1 in $list1:\n    if $name1 == $number1:\n        continue\n    $grown1",
    ),
    "ood": (
        "$grown2 = set()\n$grown1 = @\n$grown3 = ''\nfor $name1 in $list1:\n    $grown2.add($name1)\n"
        "    $grown3 += $name1\n    $grown1",
        '$grown1 = @\n$grown2 = ""\n$grown3 = set()\nfor $name1 in $list1:\n    $grown3.add($name1)\n    $grown1',
        "$grown1 = @\nif $name1 > $number1:\n    $name1 = $number2\nelse:\n    $name2 = $number3\n"
        "print($name1, $name2)\n"
        "while $list1:\n    $name3 = $list1.pop()\n    print($name3)\n    $grown1",
        "$grown1 = @\n$list1 = [$number1, $number2, $number3]\n$list2 = []\nfor $name1 in $list1:\n"
        "    if $name1 > $number4:\n        $list2.append($name1)\nfor $name2 in $list2:\n    $grown1",
        "$grown2 = set()\nfor $name1 in $list1:\n    $grown2.add($name1)\nprint($grown2)\n$grown1 = @\n"
        "for $name2 in $list2:\n    print($name2)\n    $grown1",
    ),
}


def _set_or_string(lines: Mapping[str, Sequence[str]]) -> dict[str, tuple[Template, ...]]:
    """The templates of every split, with the empty string in double and in single quotes."""
    double, single = (
        deciding(lines, ("set()", ".add"), (empty, " +="), group=group)
        for empty, group in (('""', "double "), ("''", "single "))
    )
    return {split: (*double[split], *single[split]) for split in SPLITS}


SET_OR_STRING = Task(
    name="set_or_string",
    description="Use a variable as what it was set to: `.add` to a set, ` +=` to a string.",
    templates=_set_or_string(_GROWN_LINES),
    words=words("grown", "name", "list", "call", "number"),
)
SET_OR_STRING_FIXEDVARNAME = Task(
    name="set_or_string_fixedvarname",
    description="Use the variable `current` as what it was set to: `.add` to a set, ` +=` to a string.",
    templates=_set_or_string(
        {split: [line.replace("$grown1", "current") for line in lines] for split, lines in _GROWN_LINES.items()}
    ),
    words=words("grown", "name", "list", "call", "number"),
)

# @ is the first of the two that change places.
_SWAP_LINES = {
    "prune": (
        "$field1 = $number1\n$field2 = $number2\n$name1 = $number3\n@, $name1 = $name1,",
        "$name1 = $number1\n$field2 = $number2\n$field1 = $number3\n@, $name1 = $name1,",
        "print($field1, $name1, $field2)\n@, $name1 = $name1,",
        "$field2, $field1 = $number1, $number2\n@, $name1 = $name1,",
        "$name1 = $field1 + $field2\n@, $name1 = $name1,",
        "$field1 = $number1\n$field2 = $number2\nif $name2:\n    @, $name1 = $name1,",
        "$field2 = $number1\n$name1 = $number2\n$field1 = $name1 + $number3\n@, $name1 = $name1,",
        "$field1 = $call1($number1)\n$field2 = $call1($number2)\n@, $name1 = $name1,",
    ),
    "calibrate": (
        "$field1 = $number1\n$name1 = $number2\n$field2 = $number3\n@, $name1 = $name1,",
        "$field1, $field2 = $call1($name1)\n@, $name1 = $name1,",
        "$name1 = $field2 - $field1\n@, $name1 = $name1,",
        "print($field2, $field1)\n@, $name1 = $name1,",
    ),
    "report": (
        "$field2 = $number1\n$field1 = $number2\n$name1 = $number3\n@, $name1 = $name1,",
        "$name1 = max($field1, $field2)\n@, $name1 = $name1,",
        "$field2 = $field1 = $number1\n@, $name1 = $name1,",
        "for $name2 in range($number1):\n    $field1 = $name2\n    $field2 = $number2\n    @, $name1 = $name1,",
    ),
    "ood": (
        "$field1 = $number1\n$field2 = $number2\n$name1 = $number3\n$name2 = $number4\n"
        "$name2, $name1 = $name1, $name2\n"
        "print($name1, $name2)\n@, $name1 = $name1,",
        "$field1, $name1 = $name1, $field1\n$field2, $name1 = $name1, $field2\nprint($field1, $field2, $name1)\n"
        "@, $name1 = $name1,",
        "$field2, $name2 = $name2, $field2\n$field1, $name2 = $name2, $field1\n$name1 = $field1 * $field2\n"
        "@, $name1 = $name1,",
        "$list1 = [$number1, $number2, $number3]\n$field1, $name1, $field2 = $list1\nwhile $name2 > $number4:\n"
        "    $name2 -= $number5\n    @, $name1 = $name1,",
    ),
}

VAR_SWAP = Task(
    name="var_swap",
    description="End the line that exchanges two variables with the one it began with.",
    templates=deciding(_SWAP_LINES, ("$field1", " $field1"), ("$field2", " $field2")),
    words=words("field", "name", "list", "call", "number"),
)
