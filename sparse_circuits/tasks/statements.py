"""Whether a line opens a block, which takes a colon at its end, or is a statement of its own.

Source: arXiv 2511.13653, the tasks `else_elif`, `if_ternary`, `if_equals`, `var_if` and `while_return_true`.
- `else_elif`: the sides differ in the keyword. After `elif` any token is right but the colon.
- `if_ternary`: the sides differ in what separates a value from the `if`: a new line, so that the `if` is a
  statement, or a space, so that it belongs to the value.
- `if_equals`: the sides differ in the `if` before a name that was set or used before.
- `var_if`: the sides differ in `if` with `==` around a name, or `=` after it.
- `while_return_true`: the sides differ in the keyword, inside a function.
Out of distribution, finished statements of both kinds stand before.
"""

from sparse_circuits.tasks.contexts import deciding, in_contexts
from sparse_circuits.tasks.task import SPLITS, Task
from sparse_circuits.tasks.words import words

# @ is the keyword that decides.
_ARM_LINES = {
    "prune": (
        "if $name1 > $number1:\n    print($name1)\n@",
        "if $name1 == $number1:\n    $name2 = $number2\n@",
        "if $flag1:\n    $call1($name1)\n@",
        'if not $list1:\n    print("$text1")\n@',
        "if $name1 < $number1:\n    $name1 += $number2\n    print($name1)\n@",
        "for $name1 in $list1:\n    if $name1:\n        print($name1)\n    @",
        'if $name1 == "$text1":\n    $name2 = "$text2"\n@',
        "if $name1 % $number1 == 0:\n    $list1.append($name1)\n@",
    ),
    "calibrate": (
        "if $name1 != $number1:\n    $name2 = $name1\n@",
        "if $flag1 == True:\n    print('$text1')\n@",
        "while $name1:\n    $name1 -= 1\n    if $name1 < $number1:\n        print($name1)\n    @",
        "if $name1 in $list1:\n    $list1.remove($name1)\n@",
    ),
    "report": (
        "if $name1 >= $number1:\n    $name1 = $number2\n@",
        'if len($list1) > $number1:\n    print("$text1", $name1)\n@',
        "if $name1 is None:\n    $name1 = $call1($name2)\n@",
        "def $call1($name1):\n    if $name1 <= $number1:\n        return $number2\n    @",
    ),
    "ood": (
        'if $flag2:\n    print("$text1")\nelif $name4:\n    print($name4)\nelse:\n    print("$text2")\n\n'
        "if $name1 > $number1:\n    $name1 = $name2\n@",
        "if $flag2:\n    if $name4 == $number4:\n        $name4 = $number5\n    else:\n        $name5 = $number4\n"
        "    print($name4, $name5)\n@",
        'for $name1 in $list1:\n    if $name1 == "$text1":\n        break\n    if $name1 != "$text2":\n'
        "        print($name1)\n    @",
        "if $name1 < $number1:\n    $name2 = $name1\nelif $name1 == $number2:\n    $name2 = $number3\n"
        "    print($name2)\n@",
        '$name3 = "$text1" if $flag1 else "$text2"\n# else $text3\nif not $flag1:\n    $list1.append($name3)\n@',
    ),
}

ELSE_ELIF = Task(
    name="else_elif",
    description="A colon right after `else`; anything but a colon right after `elif`.",
    templates=deciding(_ARM_LINES, ("else", ":\n"), ("elif", None)),
    words=words("flag", "name", "list", "call", "text", "number"),
)

# @ is what stands between a value and the `if`.
_TERNARY_LINES = {
    "prune": (
        "$name1 = $number1@if $flag1",
        '$name1 = "$text1"@if $flag1',
        "$name1 = $name2@if $name3 > $number1",
        "$name1 = $number1@if $name2 == $number2",
        "$name1 = '$text1'@if not $flag1",
        "$name1 = $number1@if $name2 < $name3",
        '$name1 = "$text1"@if $name2 in $list1',
        "$name1 = $name2@if len($list1) > $number1",
    ),
    "calibrate": (
        "$name1 = '$text1'@if $name2 != $number1",
        "$flag2 = $name1 > $number1\n$name2 = $number2@if $flag2",
        "$name1 = $number1@if $name2 >= $number2",
        "$name1 = $name2 + $number1@if $flag1",
    ),
    "report": (
        '$name1 = "$text1"@if $name2 <= $number1',
        "$name1 = len($list1)@if $flag1",
        "$name1 = $number1@if $name2 % $number2 == 0",
        "$name1 = '$text1'@if $flag1 and $name2 > $number1",
    ),
    "ood": (
        "$name4 = $number4 if $flag2 else $number5\nif $name4:\n    print($name4)\n\n$name1 = $name4@if $flag1",
        "if $flag2:\n    print($name4)\nelse:\n    $name4 = $number4\n\n$name5 = $name4 if $name4 else $number5\n"
        "$name1 = $number1@if $name2 > $number2",
        "$list1 = [$number1, $number2, $number3]\n$name3 = '$text1' if $name4 in $list1 else '$text2'\nprint($name3)\n"
        "$name1 = '$text3'@if $name3 != $name5",
        'if $name4 == $number4 or $name5 == $number5:\n    $name4 = "$text4" if $flag1 else "$text5"\n\n'
        '$name1 = "$text1"@if not $flag1 or $name2',
    ),
}

IF_TERNARY = Task(
    name="if_ternary",
    description="After the condition of an `if`: `:` where it is a statement, ` else` where it belongs to a value.",
    templates=deciding(_TERNARY_LINES, ("\n", ":\n"), (" ", " else"), further=True),
    words=words("flag", "name", "list", "call", "text", "number"),
)

# @ is the `if`, or nothing.
_NAME_LINES = {
    "prune": (
        "@$name1",
        "$name1 = $number1\n@$name1",
        "$name1 = $call1()\n@$name1",
        "print($name1)\n@$name1",
        "for $name1 in $list1:\n    @$name1",
        "while $name2:\n    @$name1",
        "$name2 = $name1 * $number1\n@$name1",
        "for $name2 in $list1:\n    print($name2)\n    @$name1",
    ),
    "calibrate": (
        "$name1 = len($list1)\n@$name1",
        "while $name1:\n    @$name1",
        "$list1.append($name1)\n@$name1",
        "for $name1 in range($number1):\n    $name2 = $name1\n    @$name1",
    ),
    "report": (
        "$name1 = $number1 + $number2\n@$name1",
        "print($name2, $name1)\n@$name1",
        "for $name2 in range($number1):\n    @$name1",
        'print("$text1")\n@$name1',
    ),
    "ood": (
        "if $name4 == $number4:\n    $name4 = $number5\n\n$name1 = $name4 + $number6\n@$name1",
        "$name4 = $number4\n$name5 = $number5\nif $name4 == $name5:\n    print($name4)\n    @$name1",
        "for $name4 in $list1:\n    $name5 = $name4 * $number4\n    if $name5 == $number5:\n        continue\n"
        "    @$name1",
        "# if the $text1 == $text2\nwhile $name4 < $number4:\n    $name4 = $name4 + $number5\n"
        '    print("$text3")\n    @$name1',
        "if $name1 > $number1:\n    $name1 = $name2\nelif $name1 == $number2:\n    print($name1)\n\n@$name1",
    ),
}

IF_EQUALS = Task(
    name="if_equals",
    description="After the first name of a line: ` ==` if `if` stands before it, ` =` if nothing does.",
    templates=deciding(_NAME_LINES, ("if ", " =="), ("", " ="), further=True),
    words=words("name", "list", "call", "text", "number"),
)

# What stands before the line, and the value it ends with.
_VALUE_LINES = {
    "prune": (
        ("", "True"),
        ("", "False"),
        ("$flag1 = $name1 > $number1\n", "True"),
        ("print($flag1)\n", "True"),
        ("$name1 = $number1\n", "True"),
        ("for $name1 in $list1:\n    ", "True"),
        ("for $name1 in $list1:\n    print($name1)\n    ", "False"),
        ("$flag1 = False\n", "True"),
    ),
    "calibrate": (
        ("$flag1 = True\n", "False"),
        ("while $name1:\n    ", "True"),
        ("$flag1 = $call1($name1)\n", "True"),
        ("$list1.append($name1)\n", "False"),
    ),
    "report": (
        ("$flag1 = not $flag2\n", "True"),
        ("$name1 = len($list1)\n", "False"),
        ("for $name1 in range($number1):\n    ", "True"),
        ('print("$text1")\n', "True"),
    ),
    "ood": (
        ("if $flag2 == True:\n    print($name4)\n\n$flag3 = True\n", "True"),
        (
            "$flag2 = False\nfor $name4 in $list1:\n    if $name4 == $number4:\n        $flag2 = True\n        break\n",
            "False",
        ),
        ("for $name4 in $list1:\n    if $flag2 == False:\n        $name5 += $name4\n    $flag2 = False\n    ", "True"),
        (
            "if $flag2 == False:\n    $flag2 = True\nelse:\n    $name4 = $number4\n    print($name4, $flag2)\n    ",
            "True",
        ),
        ("# if $text1 == True\n$flag2 = $name4 == $number4\nprint('$text2', $flag2)\n", "False"),
    ),
}

VAR_IF = Task(
    name="var_if",
    description="After the value at the end of a line: `:` if the line compares, a new line if it assigns.",
    templates={
        split: in_contexts(
            split,
            [(f"{before}if $flag1 == {value}", f"{before}$flag1 = {value}") for before, value in _VALUE_LINES[split]],
            right_a=":\n",
            right_b="\n",
            further=True,
        )
        for split in SPLITS
    },
    words=words("flag", "name", "list", "call", "text", "number"),
)

# @ is the keyword that decides.
_TRUE_LINES = {
    "prune": (
        "def $call1($name1):\n    @ True",
        "def $call1($name1):\n    $name2 = $number1\n    @ True",
        "def $call1($name1, $name2):\n    print($name1, $name2)\n    @ True",
        "def $call1($name1):\n    if $name1 > $number1:\n        @ True",
        "def $call1($list1):\n    $list1.append($number1)\n    @ True",
        "def $call1($name1):\n    if not $name1:\n        return False\n    @ True",
        'def $call1():\n    print("$text1")\n    @ True',
        "def $call1($list1):\n    for $name1 in $list1:\n        if $name1 == $number1:\n            @ True",
    ),
    "calibrate": (
        "def $call1($name1):\n    $name1 -= $number1\n    @ True",
        "def $call1($list1):\n    if $list1:\n        @ True",
        "def $call1($name1, $name2):\n    if $name1 < $name2:\n        return False\n    @ True",
        "def $call1($name1):\n    print('$text1', $name1)\n    @ True",
    ),
    "report": (
        "def $call1($name1):\n    if $name1 != $number1:\n        @ True",
        "def $call1($list1):\n    $name1 = len($list1)\n    @ True",
        "def $call1():\n    $name1 = $number1\n    @ True",
        'def $call1($name1):\n    if $name1 == "$text1":\n        print($name1)\n        @ True',
    ),
    "ood": (
        "class $class1:\n    def $call1(self, $name1):\n        self.$name1 = $name1\n\n"
        "    def $call2(self):\n        print(self.$name1)\n        @ True",
        "def $call2($name2):\n    while True:\n        $name2 -= $number2\n        if $name2 < 0:\n"
        "            return True\n\n\n"
        "def $call1($name1):\n    @ True",
        "def $call2($name2):\n    if $name2:\n        return True\n    while True:\n        $name2 += $number2\n\n\n"
        "def $call1($name1):\n    print($name1)\n    @ True",
        "def $call1($list1):\n    for $name1 in $list1:\n        if $name1 < $number1:\n            return False\n"
        "        print($name1, $name2)\n    @ True",
    ),
}

WHILE_RETURN_TRUE = Task(
    name="while_return_true",
    description="After `True`: `:` if it is the condition of a `while`, a new line if it is returned.",
    templates=deciding(_TRUE_LINES, ("while", ":\n"), ("return", "\n"), where="definition"),
    words=words("class", "name", "list", "call", "text", "number"),
)
