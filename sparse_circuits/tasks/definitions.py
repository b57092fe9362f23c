"""Definitions: the last parameter of a function, what follows a name that is being defined, and `__init__`.

Source: arXiv 2511.13653, the tasks `final_kwarg`, `lambda_func` and `class_init`.
- `final_kwarg`: the sides differ in the defaults of the parameters before the last one. Out of distribution,
  functions with defaults and without stand before.
- `lambda_func`: the sides differ in what stands before a name that is the same on both: the start of a lambda,
  so that the name is its parameter, or `def`, so that it is a function's. Out of distribution, finished
  definitions of both kinds stand before.
- `class_init`: the sides differ in the attribute that is set. Both attributes are parameters and neither is set
  yet, so parameters and lines before tell of both alike. The names are completions, so they are words that most
  tokenizers have as one token; others are left out (see `Task.pairs`). Out of distribution, there are more
  attributes, other values, and another class.
"""

import re

from sparse_circuits.tasks.contexts import deciding, in_contexts
from sparse_circuits.tasks.task import SPLITS, Task
from sparse_circuits.tasks.words import words

# As on side A; side B has no defaults on the last line.
_DEFAULT_LINES = {
    "prune": (
        "def $call1($name1=None, $name2",
        "def $call1($name1, $name2=None, $name3",
        "def $call1($name1=$number1, $name2",
        "def $call1($name1, $name2=$number1, $name3",
        'def $call1($name1="$text1", $name2',
        "def $call1($name1=$number1, $name2=None, $name3",
        "def $call1($name1, $name2, $name3=True, $name4",
        "class $class1:\n    def $call1(self, $name1=None, $name2",
    ),
    "calibrate": (
        "def $call1($list1=None, $name1",
        "def $call1($name1, $name2='$text1', $name3",
        "def $call1($list1, $name1=$number1, $name2",
        "class $class1:\n    def $call1(self, $name1, $name2=$number1, $name3",
    ),
    "report": (
        "def $call1($name1=None, $name2=None, $name3",
        "def $call1($name1=False, $name2",
        "def $call1($list1, $name1, $name2=None, $name3",
        "class $class1:\n    def __init__(self, $name1=$number1, $name2",
    ),
    "ood": (
        "def $call2($name4=$number4, $name5=None):\n    print($name4, $name5)\n\n\n"
        "def $call3($name6):\n    return $name6\n\n\ndef $call1($name1=$number1, $name2",
        "class $class1:\n    def $call2(self, $name4, $name5):\n        self.$name4 = $name5\n\n"
        "    def $call1(self, $name1=None, $name2",
        "def $call2($name4, $name5):\n    return $name4 + $name5\n\n\n$name4 = $call2($number4, $number5)\n\n\n"
        "def $call1($list1, $name1, $name2=None, $name3",
        "# $call1 has no $text1=$text2\ndef $call2($name4=None):\n    return $name4\n\n\n"
        "def $call1($name1, $name2, $name3=$number1, $name5",
        "def $call2($name4, $name5, $name6):\n    print($name6, $name4, $name5)\n\n\ndef $call1($name1=None, $name2",
    ),
}


def _sides(line: str) -> tuple[str, str]:
    """The line with its defaults, and without those of the function that is being defined."""
    before, newline, last = line.rpartition("\n")
    return line, before + newline + re.sub(r"=[^,]+,", ",", last)


FINAL_KWARG = Task(
    name="final_kwarg",
    description="A default for the last parameter if one before it has a default; else the end of the line.",
    templates={
        split: in_contexts(
            split, [_sides(line) for line in _DEFAULT_LINES[split]], "=None", "):\n", "definition", further=True
        )
        for split in SPLITS
    },
    words=words("class", "name", "list", "call", "text", "number"),
)

# @ is what stands before the name.
_NAMED_LINES = {
    "prune": (
        "@ $name1",
        "def $call2($name2):\n    return $name2 * $number1\n\n\n@ $name1",
        "$name2 = $number1\n\n\n@ $name1",
        "# make a $name2\n@ $name1",
        "print($name2)\n\n\n@ $name1",
        "import random\n\n\n@ $name1",
        "def $call2($name2, $name3):\n    @ $name1",
        "$list1 = [$number1, $number2]\n\n\n@ $name1",
    ),
    "calibrate": (
        "# for $name2 and $name3\n@ $name1",
        "from random import choice\n\n\n@ $name1",
        "def $call2():\n    return $number1\n\n\n@ $name1",
        '$name2 = "$text1"\n\n\n@ $name1',
    ),
    "report": (
        "import sys\n\n\n@ $name1",
        '# "$text1" or $name2\n@ $name1',
        "def $call2($list1):\n    return len($list1)\n\n\n@ $name1",
        "$list1 = []\n$name2 = $number1\n\n\n@ $name1",
    ),
    "ood": (
        "def $call2($name2):\n    $name2 = $name2 + $number1\n    return $name2\n\n\n"
        "$call3 = lambda $name3: $name3 * $number2\nprint($call3($number3))\n\n\n@ $name1",
        "$call2 = lambda $name2, $name3: $name2 - $name3\n\n\ndef $call3($name2):\n    print($name2)\n"
        "    return $call2($name2, $number1)\n\n\n"
        "@ $name1",
        "# def or lambda, $text1\nclass $class1:\n    def __init__(self, $name2):\n"
        "        self.$name2 = $name2\n\n\n@ $name1",
        "def $call2($name2):\n    if $name2:\n        return $number1\n"
        "    $name3 = sorted($list1, key=lambda $name4: -$name4)\n"
        "    return $name3\n\n\n@ $name1",
    ),
}

LAMBDA_FUNC = Task(
    name="lambda_func",
    description="After a name: `:` if it is the parameter of a lambda, `(` if it is the name of a function.",
    templates=deciding(_NAMED_LINES, ("$short1 = lambda", ":"), ("def", "("), where="definition", further=True),
    words=words("class", "short", "name", "list", "call", "text", "number"),
)

_INIT = "class $class1:\n    def __init__(self, "
_SET1 = "        self.$name1 = $name1\n"
_SET2 = "        self.$name2 = $name2\n"
_SET3 = "        self.$name3 = $name3\n"
_LAST = "        self.@ ="
# @ is the attribute that is set.
_ATTRIBUTE_LINES = {
    "prune": (
        f"{_INIT}$field1, $field2):\n{_LAST}",
        f"{_INIT}$name1, $field1, $field2):\n{_SET1}{_LAST}",
        f"{_INIT}$name1, $name2, $field2, $field1):\n{_SET1}{_SET2}{_LAST}",
        f"{_INIT}$field1, $name1, $field2):\n{_SET1}{_LAST}",
        f"{_INIT}$field2, $field1, $name1):\n{_SET1}{_LAST}",
        f"{_INIT}$name1, $field1, $name2, $field2):\n{_SET1}{_SET2}{_LAST}",
        f"{_INIT}$name1, $name2, $name3, $field1, $field2):\n{_SET1}{_SET2}{_SET3}{_LAST}",
        f"{_INIT}$field1, $field2):\n        self.$list1 = []\n{_LAST}",
    ),
    "calibrate": (
        f"{_INIT}$field1, $name1, $name2, $field2):\n{_SET1}{_SET2}{_LAST}",
        f"{_INIT}$name1, $field2, $field1, $name2):\n{_SET1}{_SET2}{_LAST}",
        f"{_INIT}$field2, $field1):\n        self.$list1 = set()\n{_LAST}",
        f"{_INIT}$name1, $name2, $field1, $field2, $name3):\n{_SET1}{_SET2}{_SET3}{_LAST}",
    ),
    "report": (
        f"{_INIT}$name1, $field2, $name2, $field1):\n{_SET2}{_SET1}{_LAST}",
        f"{_INIT}$field1, $field2, $name1, $name2):\n{_SET1}{_SET2}{_LAST}",
        f"{_INIT}$name1, $field1, $field2):\n{_SET1}        self.$list1 = []\n{_LAST}",
        f"{_INIT}$field1, $field2, $name1=None):\n{_SET1}{_LAST}",
    ),
    "ood": (
        f"{_INIT}$name1, $field1, $field2):\n        self.$list1 = [[0, 0]]\n{_SET1}{_LAST}",
        "class $class2:\n    def __init__(self, $name5):\n        self.$name5 = $name5\n\n\n"
        f"{_INIT}$field1, $field2, $name1):\n{_LAST}",
        "class $class1:\n    def $call1(self, $field2, $field1):\n        print($field1, $field2)\n\n"
        f"    def __init__(self, $name1, $field1, $field2):\n{_SET1}{_LAST}",
        f"{_INIT}$name1=None, $field2=$number1, $field1=$number2):\n        self.$name1 = $name1 or $number3\n{_LAST}",
    ),
}

CLASS_INIT = Task(
    name="class_init",
    description="Set an attribute to the parameter of the same name.",
    templates=deciding(_ATTRIBUTE_LINES, ("$field1", " $field1"), ("$field2", " $field2"), where="definition"),
    words=words("class", "field", "name", "list", "call", "number"),
)
