"""How often a text holds the situations that the twenty tasks ask about (arXiv 2511.13653), each in both its forms.

A situation is counted by a pattern on lines, or, for a set or string that grows, by following the variable. The
counts say what a model can have learnt from the text, not that it has.
"""

import re
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

STRING = r"(?:\"[^\"\n]*\"|'[^'\n]*')"
VALUE = r"(?:[^\s,()]+|\"[^\"\n]*\"|'[^'\n]*')"


class Situation(NamedTuple):
    """One behaviour: what stands on its two sides."""

    task: str
    side_a: str
    side_b: str
    pattern_a: re.Pattern[str] | None
    pattern_b: re.Pattern[str] | None


def situation(task: str, side_a: str, pattern_a: str, side_b: str, pattern_b: str) -> Situation:
    return Situation(task, side_a, side_b, re.compile(pattern_a, re.MULTILINE), re.compile(pattern_b, re.MULTILINE))


SITUATIONS = (
    situation(
        "single_double_quote",
        'a call ends with `")`',
        r"\((?:[^()\n]*, )?\"[^\"'\n]*\"\)$",
        "a call ends with `')`",
        r"\((?:[^()\n]*, )?'[^\"'\n]*'\)$",
    ),
    situation(
        "bracket_counting",
        "a list ends with `]]`",
        r"^ *\w+ \+?= (?:\w+ \+ )?\[.*\]\]$",
        "a flat list ends with `]`",
        r"^ *\w+ \+?= (?:\w+ \+ )?\[[^\[\]\n]+\]$",
    ),
    situation(
        "bracket_brace",
        "the first key, then `:`",
        rf"\{{\n? *(?:{STRING}|\d+): ",
        "the first element of a list, then `,`",
        rf"\[\n? *(?:{STRING}|\d+),(?: |$)",
    ),
    Situation("set_or_string", "`x = set()`, later `x.add`", '`x = ""`, later `x +=`', None, None),
    Situation("set_or_string_fixedvarname", "the same with `current`", "the same with `current`", None, None),
    situation(
        "final_kwarg",
        "the last parameter has `=None`, one before it a default",
        rf"^ *def \w+\((?:\w+, )*(?:\w+={VALUE}, )+\w+=None\):$",
        "two or more parameters without defaults",
        r"^ *def \w+\(\w+(?:, \w+)+\):$",
    ),
    situation(
        "class_init",
        "`self.x = x`",
        r"^ +self\.(\w+) = \1$",
        "`self.x =` another value",
        r"^ +self\.(\w+) = (?!\1$)",
    ),
    situation("with_as", "`with open(...) as`", r"^ *with open\(.*\) as ", "`f = open(...)`", r"^ *\w+ = open\(.*\)$"),
    situation(
        "with_open",
        'the name of a file, then `"r"`',
        rf"open\({STRING}, ['\"]r['\"]\)",
        'the name of a file, then `"w"`',
        rf"open\({STRING}, ['\"]w['\"]\)",
    ),
    situation("for_while", "`for x in`", r"^ *for \w+ in ", "`while x:`", r"^ *while \w+:$"),
    situation("else_elif", "`else:`", r"^ *else:$", "`elif` and a condition", r"^ *elif .*:$"),
    situation(
        "if_ternary",
        "`if` and a condition as a statement",
        r"^ *if .*:$",
        "a value, `if`, a condition, `else`",
        r" = .* if .* else ",
    ),
    situation("if_equals", "`if x ==`", r"^ *if \w+ == ", "`x =`", r"^ *\w+ = "),
    situation(
        "var_if",
        "`if x == True:` or False",
        r"^ *if \w+ == (?:True|False):$",
        "`x = True` or False",
        r"^ *\w+ = (?:True|False)$",
    ),
    situation("while_return_true", "`while True:`", r"^ *while True:$", "`return True`", r"^ *return True$"),
    situation(
        "fstring_brace",
        "`print(f`, a string with words, then `{`",
        r"^ *print\(f['\"]\w[\w ]*:? \{",
        "`print(`, a plain string of words",
        r"^ *print\(['\"]\w+[ :]",
    ),
    situation(
        "var_swap",
        "`x, y = y, x`",
        r"^ *(\w+), (\w+) = \2, \1$",
        "three variables in turn",
        r"^ *(\w+), (\w+), (\w+) = (?:\2, \3, \1|\3, \1, \2)$",
    ),
    situation(
        "indent_for",
        "`for` at depth 1, its body at 2",
        r"^    for .*:\n {8}\S",
        "`for` at depth 0, its body at 1",
        r"^for .*:\n {4}\S",
    ),
    situation("lambda_func", "`f = lambda x:`", r"^ *\w+ = lambda \w+(?:, \w+)*:", "`def f(`", r"^ *def \w+\("),
    situation(
        "enumerate_range",
        "`for i, x in enumerate(`",
        r"^ *for \w+, \w+ in enumerate\(",
        "`for i in range(`",
        r"^ *for \w+ in range\(",
    ),
)
"""One for each task, in the order of the paper's table."""

STARTED = re.compile(r" *(\w+) = (set\(\)|\"\"|'')")
GROWN = re.compile(r" *(\w+)(\.add\(| \+= )")


def grown(text: str) -> Counter[tuple[str, bool]]:
    """How often a variable last set to an empty set or string is added to: (set or text, whether it is `current`)."""
    found: Counter[tuple[str, bool]] = Counter()
    kinds: dict[str, str] = {}
    for line in text.split("\n"):
        match = STARTED.fullmatch(line)
        if match:
            kinds[match[1]] = "set" if match[2] == "set()" else "text"
            continue
        match = GROWN.match(line)
        if match and kinds.get(match[1]) == ("set" if match[2] == ".add(" else "text"):
            found[kinds[match[1]], match[1] == "current"] += 1
    return found


def count_situations(texts: Iterable[str]) -> dict[str, tuple[int, int]]:
    """How often each task's situation occurs in some programs: {task: (in the form of side A, of side B)}."""
    programs = list(texts)
    joined = "\n".join(programs)
    sums: Counter[tuple[str, bool]] = Counter()
    for program in programs:
        sums += grown(program)
    found = {}
    for task, _, _, pattern_a, pattern_b in SITUATIONS:
        if pattern_a is not None and pattern_b is not None:
            found[task] = sum(1 for _ in pattern_a.finditer(joined)), sum(1 for _ in pattern_b.finditer(joined))
        elif task == "set_or_string":
            found[task] = sums["set", False] + sums["set", True], sums["text", False] + sums["text", True]
        else:
            found[task] = sums["set", True], sums["text", True]
    return found
