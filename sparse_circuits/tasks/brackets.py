"""Brackets: closing as many as are open, and writing what the open one holds.

Source: arXiv 2511.13653, the tasks `bracket_counting` and `bracket_brace`.
- `bracket_counting`: side A is inside a list of lists, side B inside the flat list of the same elements, so the
  sides differ in square brackets of the last line alone. Length hardly decides: a border between rows, `], [`,
  is as many tokens as a comma in most tokenizers, and contexts vary it much more. Out of distribution, closed
  lists, nested ones too, and unmatched brackets in comments and strings stand before.
- `bracket_brace`: the sides differ in the last bracket that was opened, a brace or a square bracket, and the
  first thing after it is the same: the first key of a dictionary, or the first element of a list. Later keys
  would have a second piece of evidence, the colons before them. Out of distribution, closed dictionaries and
  lists stand before, and brackets that stay open around the last one.
"""

from sparse_circuits.tasks.contexts import deciding, in_contexts
from sparse_circuits.tasks.task import SPLITS, Task
from sparse_circuits.tasks.words import words

# What stands before the list, and the rows of the nested one: n a number, v a variable, s a string.
_ROW_LINES = {
    "prune": (
        ("$list1 = ", "nn nn"),
        ("$list1 = ", "n n"),
        ("$list1 = ", "nnn nnn"),
        ("$list1 = ", "nn nn nn"),
        ("$name8 = ", "nnn"),
        ("$list1 = ", "vv vv"),
        ("$list1 = ", "sn sn"),
        ("$list1 += ", "nnn n"),
        ("$list2 = $list1 + ", "vv v"),
        ("$name8 = ", "nn"),
    ),
    "calibrate": (
        ("$list1 = ", "nn n"),
        ("$list1 = ", "n nn"),
        ("$name8 = ", "nnnn"),
        ("$list1 = ", "v v v"),
        ("$list1 += ", "nnn nn"),
        ("$list1 = ", "svn svn"),
    ),
    "report": (
        ("$list1 = ", "n n n"),
        ("$list1 = ", "n nnn"),
        ("$list1 = ", "vn vn"),
        ("$name8 = ", "nnnnn"),
        ("$list1 = $list2 + ", "v vv"),
        ("$list1 = ", "snn snn"),
    ),
    "ood": (
        ("$list1 = [$number4, $number5]\n$list2 = ", "nn n nn"),
        ("$list1 = [[$number4], [$number5]]\n$list2 = ", "vv vv vv"),
        ("# from [$number4 up to $number5\n$list1 = ", "nnn nnn nnn"),
        ('print("[$text1")\n$list1 = ', "n v n v"),
        ("$name1 = $list1[$number4]\n$list2 = ", "sn sn sn"),
        ("$list1 = [[$name4, $name5], [$name6]]\n$list2 = [$number4]\n$list3 = ", "nnnnnn"),
    ),
}


def _sides(before: str, rows: str) -> tuple[str, str]:
    """The nested and the flat list, both unclosed."""
    written: list[list[str]] = [[]]
    for number, element in enumerate(rows, 11):
        if element == " ":
            written.append([])
        else:
            slot = {"n": "$number{}", "v": "$name{}", "s": '"$text{}"'}[element]
            written[-1].append(slot.format(number))
    nested = "], [".join(", ".join(row) for row in written)
    flat = ", ".join(element for row in written for element in row)
    return f"{before}[[{nested}", f"{before}[{flat}"


BRACKET_COUNTING = Task(
    name="bracket_counting",
    description="Close a list with as many brackets as are open: two in a list of lists, one in a flat list.",
    templates={
        split: in_contexts(split, [_sides(*line) for line in _ROW_LINES[split]], right_a="]]\n", right_b="]\n")
        for split in SPLITS
    },
    words=words("name", "list", "call", "text", "number"),
)

# @ is the bracket that decides. The string or number after it is closed by the completion.
_STRING_LINES = {
    "prune": (
        '$name1 = @"$text1',
        '$list1 = @"$text1',
        'print(@"$text1',
        '$call1(@"$text1',
        '$list1.append(@"$text1',
        '$list1 = [@"$text1',
        '$name1 = @\n    "$text1',
        '$call1($name1, @"$text1',
    ),
    "calibrate": (
        '$name1 = $call1(@"$text1',
        '$list1 = [$number1, @"$text1',
        '$name1 = len(@"$text1',
        '$list1 = [\n    @"$text1',
    ),
    "report": (
        'print($name1, @"$text1',
        '$name1 = {"$text2": @"$text1',
        '$name1 = list(@"$text1',
        '$list1.insert($number1, @"$text1',
    ),
    "ood": (
        '$name1 = {"$text2": $number1, "$text3": $number2}\n$list1 = ["$text4", "$text5"]\n$name2 = @"$text1',
        '$list1 = [$number1, $number2, $number3]\n$name1 = {"$text2": [$number4, $number5], "$text3": @"$text1',
        '$list1 = [["$text2", "$text3"], ["$text4", "$text5"]]\n$list2 = [$list1, @"$text1',
        '# {"$text2": $number1} or ["$text3"]\n$name1 = $name2["$text4"]\n$call1($name1, @"$text1',
    ),
}
_NUMBER_LINES = {
    "prune": ("$name1 = @$number1", "$list1 = [@$number1", "print(@$number1"),
    "calibrate": ("$list1 = @$number1", "$call1(@$number1"),
    "report": ("$name1 = $call1(@$number1", "$list1.append(@$number1"),
    "ood": (
        "$name1 = {$number2: $number3}\n$list1 = [$number4, $number5, $number6]\n$name2 = @$number1",
        "$list1 = [[$number2], [$number3, $number4]]\n$list2 = [$list1, @$number1",
    ),
}
_SINGLE_QUOTED = {split: [line.replace('"', "'") for line in lines[::2]] for split, lines in _STRING_LINES.items()}
_BRACES = (
    deciding(_STRING_LINES, ("{", '":'), ("[", '",'), group="double "),
    deciding(_SINGLE_QUOTED, ("{", "':"), ("[", "',"), group="single "),
    deciding(_NUMBER_LINES, ("{", ":"), ("[", ","), group="number "),
)

BRACKET_BRACE = Task(
    name="bracket_brace",
    description="After the first key of a dictionary a colon, after the first element of a list a comma.",
    templates={split: tuple(template for group in _BRACES for template in group[split]) for split in SPLITS},
    words=words("name", "list", "call", "text", "number"),
)
