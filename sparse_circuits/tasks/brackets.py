"""Closing as many brackets as are open.

Source: arXiv 2511.13653, the task `bracket_counting`. Side A is inside a list of lists, side B inside the
flat list of the same elements, so the sides differ in square brackets of the last line alone. Length
hardly decides: a border between rows, `], [`, is as many tokens as a comma in most tokenizers, and
contexts vary it much more. Out of distribution, closed lists, nested ones too, and unmatched brackets in
comments and strings stand before.
"""

from sparse_circuits.tasks.contexts import in_contexts
from sparse_circuits.tasks.task import SPLITS, Task
from sparse_circuits.tasks.words import words

# What stands before the list, and the rows of the nested one: n a number, v a variable, s a string.
_LINES = {
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
        split: in_contexts(split, [_sides(*line) for line in _LINES[split]], right_a="]]\n", right_b="]\n")
        for split in SPLITS
    },
    words=words("name", "list", "call", "text", "number"),
)
