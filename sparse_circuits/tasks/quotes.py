"""Closing a string with the quote that opened it.

Source: arXiv 2511.13653, the task `single_double_quote`. The sides differ in the opening quote alone. Strings
are the last argument of a call, so that the completion closes string and call in one token. Out of
distribution, closed strings in both quotes and apostrophes stand before.
"""

from sparse_circuits.tasks.contexts import in_contexts
from sparse_circuits.tasks.task import SPLITS, Task
from sparse_circuits.tasks.words import words

# @ is the quote that decides.
_LINES = {
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
    templates={
        split: in_contexts(
            split,
            [(line.replace("@", '"'), line.replace("@", "'")) for line in _LINES[split]],
            right_a='")\n',
            right_b="')\n",
        )
        for split in SPLITS
    },
    words=words("name", "list", "call", "text", "number"),
)
