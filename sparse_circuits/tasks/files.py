"""Opening files: the block that a `with` opens, and the mode that a file's name asks for.

Source: arXiv 2511.13653, the tasks `with_as` and `with_open`.
- `with_as`: the sides differ in what stands before `open`. What comes after the bracket, ` as` or a new line, is
  said by the bracket itself, which the tokenizer joins with a new line after it; so the prompt ends before it.
- `with_open`: the sides differ in the name of the file. The convention is that of the generated programs
  (`sparse_circuits.corpus.idioms`): what is called input, data, source, old, words, ... is read, what is called
  output, target, new, result, report, ... is written. The mode is a token of its own between its quotes, so the
  prompt ends with the opening one. Names of functions and variables say nothing about the use.
Out of distribution, other files are opened before, in both ways.
"""

from sparse_circuits.tasks.contexts import deciding
from sparse_circuits.tasks.task import Task
from sparse_circuits.tasks.words import words

# @ is what stands before `open`.
_OPEN_LINES = {
    "prune": (
        "@open($path1",
        "$list1 = []\n@open($path1",
        "print($path1)\n@open($path1",
        "$path1 = $call1($name1)\n@open($path1",
        "if $path1:\n    @open($path1",
        "def $call1($path1):\n    @open($path1",
        "for $path1 in $list1:\n    @open($path1",
        '$path1 = "$text1.txt"\n@open($path1',
    ),
    "calibrate": (
        "$path1 = input()\n@open($path1",
        "def $call1($path1, $list1):\n    @open($path1",
        "while $path1:\n    @open($path1",
        "$name1 = 0\n$name2 = None\n@open($path1",
    ),
    "report": (
        "$list1 = []\n$name1 = $number1\n@open($path1",
        "def $call1($path1):\n    $name1 = 0\n    @open($path1",
        "if not $path1:\n    $path1 = '$text1.csv'\n@open($path1",
        "for $path1 in sorted($list1):\n    print($path1)\n    @open($path1",
    ),
    "ood": (
        "with open($path2) as $handle2:\n    $name4 = $handle2.read()\n\n$handle2 = open($path3)\n"
        "$name5 = $handle2.read()\n"
        "$handle2.close()\n@open($path1",
        "$handle2 = open($path2)\n$list1 = $handle2.readlines()\n$handle2.close()\n\nwith open($path3) as $handle2:\n"
        "    $name4 = $handle2.read()\n    @open($path1",
        "class $class1:\n    def __init__(self, $path1):\n        self.$name4 = $path1\n"
        "        self.$name5 = $number4\n        @open($path1",
        "# with open($path2) as $text1\ntry:\n    $path1 = $list1.pop()\nexcept IndexError:\n"
        "    $path1 = '$text2.log'\n\n@open($path1",
    ),
}

WITH_AS = Task(
    name="with_as",
    description="Close the call of `open`: `)` alone after `with`, where ` as` is next; `)` and a new line otherwise.",
    templates=deciding(_OPEN_LINES, ("with ", ")"), ("$handle1 = ", ")\n"), further=True),
    words=words("class", "path", "handle", "name", "list", "call", "text", "number"),
)

# @ is the name that says what the file is for.
_MODE_LINES = {
    "prune": (
        'with open("@.txt", "',
        "with open('@.csv', '",
        '$handle1 = open("@.log", "',
        "$handle1 = open('@.txt', '",
        "def $action1():\n    with open('@.txt', '",
        'def $action1():\n    $handle1 = open("@.csv", "',
        'with open("${thing1}_@.txt", "',
        "def $action1($name1):\n    with open('${thing1}_@.log', '",
    ),
    "calibrate": (
        'def $action1():\n    with open("@.log", "',
        "def $action1($name1):\n    $handle1 = open('@.txt', '",
        "$name1 = $number1\nwith open('@.txt', '",
        '$handle1 = open("${thing1}_@.log", "',
    ),
    "report": (
        'def $action1($name1):\n    with open("@.csv", "',
        "def $action1():\n    $handle1 = open('${thing1}_@.txt', '",
        "$name1 = []\nwith open('@.log', '",
        '$name1 = $number1\n$handle1 = open("@.txt", "',
    ),
    "ood": (
        'def $action1($path1):\n    with open($path1, "r") as $handle1:\n        $name1 = $handle1.read()\n'
        '    print($name1)\n    with open("${thing1}_@.txt", "',
        "def $action1($path1, $list1):\n    $handle1 = open($path1, 'w')\n    $handle1.close()\n    print($list1)\n"
        "    $handle1 = open('@.csv', '",
        'with open($path1, "r") as $handle1:\n    $name1 = $handle1.read()\n'
        'with open($path2, "w") as $handle2:\n    $handle2.write($name1)\n'
        'with open("${thing1}_@.txt", "',
        "with open($path1, 'w') as $handle1:\n    $handle1.write('$text1')\n"
        "with open($path1, 'r') as $handle2:\n    $name1 = $handle2.read()\n"
        "with open('${thing1}_@.log', '",
        "$list1 = [$number1, $number2, $number3]\n$name1 = '$text1'\nprint($name1)\n\n\n"
        "def $action1($name2):\n    if $name2 == $number4:\n        print($name2)\n    with open('@.log', '",
    ),
}

WITH_OPEN = Task(
    name="with_open",
    description="Open a file to read, `r`, or to write, `w`, as its name says.",
    templates=deciding(_MODE_LINES, ("$read1", "r"), ("$written1", "w"), where="margin"),
    words=words("read", "written", "thing", "action", "path", "handle", "name", "list", "call", "text", "number"),
)
