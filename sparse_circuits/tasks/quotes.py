"""Strings: closing one with the quote that opened it, and showing a value in one.

Source: arXiv 2511.13653, the tasks `single_double_quote` and `fstring_brace`.
- `single_double_quote`: the sides differ in the opening quote alone. Strings are the last argument of a call,
  so that the completion closes string and call in one token. Out of distribution, closed strings in both
  quotes and apostrophes stand before.
- `fstring_brace`: the sides differ in the `f` before the quote. The text names a variable, so that an f-string
  has nothing left to say but its value. Out of distribution, closed strings of both kinds stand before.
"""

from sparse_circuits.tasks.contexts import deciding
from sparse_circuits.tasks.task import Task
from sparse_circuits.tasks.words import words

# @ is the quote that decides.
_QUOTE_LINES = {
    "prune": (
        "print(@$text1",
        "print(@$text1 $text2",
        "print(@the $text1 is $text2",
        "$list1.append(@$text1",
        "$list1.remove(@$text1 $text2",
        "$name1 = input(@$text1",
        "$name1 = $call1(@$text1",
        "$call1($name1, @$text1",
        "$name1 = $name2.get(@$text1",
        "raise ValueError(@$text1 $text2",
    ),
    "calibrate": (
        "print($name1, @$text1",
        "$list1.insert(0, @$text1",
        "$name1 = len(@$text1",
        "log(@$text1 $text2",
        "$name1 = $list1.index(@$text1",
        "assert $name1.startswith(@$text1",
    ),
    "report": (
        "print(@not $text1 $text2",
        "$name1.write(@$text1 $text2",
        "$name1 = $list1.count(@$text1",
        "$call1(@$text1",
        "$list1.add(@$text1",
        "$name1 = getattr($name2, @$text1",
    ),
    "ood": (
        "$name1 = \"$text4\"\n$name2 = '$text5'\nprint(@$text1 $text2",
        "print('$text4 $text5')\nprint(\"$text6\")\n$list1.extend(@$text1",
        "# it isn't $text4 yet\n$name1 = $call1(@$text1 $text2 $text3",
        "$name1 = dict(first='$text4', second=\"$text5\", third=@$text1",
        "$call1(\"$text4\", '$text5', $name1, $number1, @$text1",
        "$list1 = ['$text4', \"$text5\", \"$text6\", '$text7']\n$list1.append(@$text1",
    ),
}

SINGLE_DOUBLE_QUOTE = Task(
    name="single_double_quote",
    description="Close a string, and the call around it, with the quote that opened the string.",
    templates=deciding(_QUOTE_LINES, ('"', '")\n'), ("'", "')\n")),
    words=words("name", "list", "call", "text", "number"),
)

# @ is the place of the f.
_BRACE_LINES = {
    "prune": (
        'print(@"$name1:',
        "print(@'$name1:",
        '$name1 = $number1\nprint(@"$name1:',
        "$name1 = $name2 * $number1\nprint(@'$name1:",
        'print(@"the $name1 is',
        "$name1 = $number1\nprint(@'the $name1 is",
        'print("$text1")\nprint(@"$name1:',
        'for $name1 in $list1:\n    print(@"$name1:',
        "$name1 = $call1($name2)\nprint(@'the $name1 is",
    ),
    "calibrate": (
        'print($name1)\nprint(@"$name1:',
        "$name1 = len($list1)\nprint(@'$name1:",
        '$name1 -= $number1\nprint(@"the $name1 is',
        "while $name1:\n    print(@'$name1:",
    ),
    "report": (
        '$name1 = max($list1)\nprint(@"$name1:',
        "if $name1 > $number1:\n    print(@'$name1:",
        '$name1 += $number1\nprint(@"the $name1 is',
        "print('$text1', $name2)\nprint(@'the $name1 is",
    ),
    "ood": (
        'print(f"$name2: {$name2}")\nprint("$name3:", $name3)\nprint(f"the $name4 is {$name4}")\nprint(@"$name1:',
        "print('$name3:', $name3)\nprint(f'$name2: {$name2}')\nprint('the $name4 is', $name4)\nprint(@'$name1:",
        "$list1 = {'$text1': $number1, '$text2': $number2}\n$name1 = $list1['$text1']\nprint('$text3')\n"
        "print(@'$name1:",
        'for $name2 in $list1:\n    print(f"{$name2} $text1")\n    print("$text2 of the $text3")\n'
        'print(@"the $name1 is',
        "# print {$name2} as $text1\n$name1 = $name2 // $number1\n$name3 = f'{$name1} $text2'\nprint(@'$name1:",
    ),
}

FSTRING_BRACE = Task(
    name="fstring_brace",
    description="After the words that announce a variable: a brace in an f-string, no brace in a plain string.",
    templates=deciding(_BRACE_LINES, ("f", " {"), ("", None), further=True),
    words=words("name", "list", "call", "text", "number"),
)
