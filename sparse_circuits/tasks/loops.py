"""What a loop needs next: after its variable, and on the line below it.

Source: arXiv 2511.13653, the tasks `for_while`, `enumerate_range` and `indent_for`.
- `for_while`: the sides differ in the keyword alone; the name after it is the same. Out of distribution,
  finished loops of both kinds stand before.
- `enumerate_range`: the sides differ in the second variable of the loop. Out of distribution, finished loops
  of both kinds stand before.
- `indent_for`: the sides differ in the indentation of the line that ends the prompt. It follows a block, so
  that it may belong to the block (depth 1) or stand after it (depth 0). The completion is the white space
  before the next word, without the one space that the pre-tokenizer leaves to the word.
"""

from sparse_circuits.tasks.contexts import deciding
from sparse_circuits.tasks.task import Task
from sparse_circuits.tasks.words import words

# @ is the keyword that decides.
_KEYWORD_LINES = {
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
    templates=deciding(_KEYWORD_LINES, ("for", " in"), ("while", ":\n")),
    words=words("name", "list", "call", "text", "number"),
)

# @ is what runs through the loop: an index and a name, or an index alone.
_INDEX_LINES = {
    "prune": (
        "for @ in",
        "$list1 = $call1($name2)\nfor @ in",
        "$name2 = $number1\nfor @ in",
        "$list1.append($name2)\nfor @ in",
        "print(len($list1))\nfor @ in",
        "# every $text1 of the $name2\nfor @ in",
        "$list1 = [$number1, $number2, $number3]\n$name2 = len($list1)\nfor @ in",
    ),
    "calibrate": (
        "$list1.sort()\nfor @ in",
        "$name2 = min($list1)\nfor @ in",
        "$list1 = []\n$name2 = 0\nfor @ in",
        'print("$text1", $list1)\nfor @ in',
    ),
    "report": (
        "$list1 = list($list2)\nfor @ in",
        "$name2 = sum($list1)\n\nfor @ in",
        '$list1 = ["$text1", "$text2"]\nfor @ in',
        "$name2 = $number1\n$list1 = [$name2, $number2]\nfor @ in",
    ),
    "ood": (
        "for $index2, $name2 in enumerate($list1):\n    print($name2)\n\nfor $index3 in range($number1):\n"
        "    print($index3)\n\nfor @ in",
        "for $index2 in range($number1):\n    $name2 += $index2\n\nfor $index3, $name3 in enumerate($list1):\n"
        "    print($name3)\n\nfor @ in",
        "while $name2 < $number1:\n    for $index2 in range($number2):\n        $name2 += $index2\n    for @ in",
        "for $index2, $name2 in enumerate($list1):\n    print($index2, $name2)\n    $name2 = $name3 * $number1\n"
        "    for @ in",
        "# enumerate the $text1 in a range\n$list1 = [[$number1, $number2], [$number3, $number4]]\n"
        "for $name2 in $list1:\n    print($name2)\n\nfor @ in",
    ),
}

ENUMERATE_RANGE = Task(
    name="enumerate_range",
    description="Loop over ` enumerate` of something with two variables, over a ` range` with one.",
    templates=deciding(_INDEX_LINES, ("$index1, $field1", " enumerate"), ("$index1", " range"), further=True),
    words=words("index", "field", "name", "list", "call", "text", "number"),
)

# @ is the indentation of the last line.
_DEPTH_LINES = {
    "prune": (
        "if $name1 > $number1:\n    $name2 = $number2\n@for $name3 in $list1:\n",
        "if $name1 == $number1:\n    print($name1)\n@for $name2 in range($number2):\n",
        "while $name1 < $number1:\n    $name1 += $number2\n@for $name2 in $list1:\n",
        "for $name1 in $list1:\n    print($name1)\n@for $name2 in $list2:\n",
        "if not $list1:\n    $list1 = [$number1, $number2]\n@for $name1 in $list1:\n",
        "if $flag1:\n    $name1 = $call1($number1)\n@for $name2 in range($name1):\n",
        'if $name1:\n    print("$text1")\nelse:\n    $name1 = $number1\n@for $name2 in $list1:\n',
        "for $name1 in range($number1):\n    $name2 = $name1 * $number2\n@for $name3 in range($name2):\n",
    ),
    "calibrate": (
        "if $name1 != $number1:\n    $list1.append($name1)\n@for $name2 in $list1:\n",
        "while $list1:\n    $name1 = $list1.pop()\n@for $name2 in range($name1):\n",
        "for $name1 in $list1:\n    $list2 = $call1($name1)\n@for $name2 in $list2:\n",
        'if "$text1" in $list1:\n    print("$text2")\n@for $name1 in range($number1):\n',
    ),
    "report": (
        "if $name1 >= $number1:\n    $name2 = $name1 - $number2\n@for $name3 in sorted($list1):\n",
        "while not $flag1:\n    $flag1 = $call1()\n@for $name1 in $list1:\n",
        "for $name1, $name2 in $list1:\n    print($name1 + $name2)\n@for $name3 in $list2:\n",
        "if len($list1) > $number1:\n    $name1 = $list1.pop(0)\n@for $name2 in $list1:\n",
    ),
    "ood": (
        "for $name4 in $list2:\n    print($name4)\n\nif $name1:\n    for $name5 in $list3:\n        print($name5)\n\n"
        "if $name2 > $number1:\n    $name2 = 0\n@for $name3 in $list1:\n",
        'if $flag1:\n    for $name4 in $list2:\n        print($name4)\n    print("$text1")\n\n'
        "while $name1 < $number1:\n    $name1 *= $number2\n@for $name2 in $list1:\n",
        'if $name1 == "$text1":\n    print("$text2")\nelif $name1:\n    $name2 = $number1\n    $name3 = $number2\n'
        "    print($name2, $name3)\n@for $name4 in range($number3):\n",
        "try:\n    $list1 = $call1($name1)\nexcept TypeError:\n    $list1 = []\n    $name2 = $number1\n"
        "    print($name2)\n@for $name3 in $list1:\n",
        "for $name4 in range($number1):\n    if $name4 == $number2:\n        break\n    print($name4)\n"
        "@for $name5 in range($number3):\n",
    ),
}

INDENT_FOR = Task(
    name="indent_for",
    description="Indent the line after a `for` one level deeper than the `for` is.",
    templates=deciding(_DEPTH_LINES, ("    ", " " * 7), ("", " " * 3), where="margin", further=True),
    words=words("flag", "name", "list", "call", "text", "number"),
)
