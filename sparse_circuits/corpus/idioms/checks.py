"""Tests: small functions whose results are known, and what is asserted of them."""

import re
from collections.abc import Callable
from typing import NamedTuple

from sparse_circuits.corpus.idioms import literals, signatures
from sparse_circuits.corpus.idioms.author import INDENT, Author
from sparse_circuits.corpus.idioms.choices import weighted
from sparse_circuits.corpus.idioms.definition import Definition
from sparse_circuits.corpus.idioms.words import class_name, plural

MARKED = re.compile(r"\b[XN]\b")


class Known(NamedTuple):
    """A function of one argument and what it returns."""

    verbs: tuple[str, ...]
    argument: str
    """number, text or words"""
    result: str
    body: tuple[str, ...]
    """Its lines; X is the argument, N a small number."""
    answer: Callable[..., object]
    """The result, from the argument and the small number."""


KNOWN = (
    Known(("add_to", "lift", "more"), "number", "number", ("return X + N",), lambda x, n: x + n),
    Known(("times", "scale", "grow"), "number", "number", ("return X * N",), lambda x, n: x * n),
    Known(("lower", "less", "reduce"), "number", "number", ("return X - N",), lambda x, n: x - n),
    Known(("share", "split", "part_of"), "number", "number", ("return X // N",), lambda x, n: x // n),
    Known(("rest_of", "left_over"), "number", "number", ("return X % N",), lambda x, n: x % n),
    Known(("limit", "cap"), "number", "number", ("if X > N:", "    return N", "return X"), lambda x, n: min(x, n)),
    Known(("square", "area_of"), "number", "number", ("return X * X",), lambda x, n: x * x),
    Known(("is_large", "is_over"), "number", "flag", ("return X > N",), lambda x, n: x > n),
    Known(
        ("is_enough", "is_full", "can_stop"),
        "number",
        "flag",
        ("if X >= N:", "    return True", "return False"),
        lambda x, n: x >= n,
    ),
    Known(("is_even", "is_pair"), "number", "flag", ("return X % 2 == 0",), lambda x, n: x % 2 == 0),
    Known(("shout", "loud"), "text", "text", ("return X.upper()",), lambda x, n: x.upper()),
    Known(("title", "headline"), "text", "text", ("return X.title()",), lambda x, n: x.title()),
    Known(("turn", "mirror"), "text", "text", ("return X[::-1]",), lambda x, n: x[::-1]),
    Known(("start_of", "short"), "text", "text", ("return X[:N]",), lambda x, n: x[:n]),
    Known(("length_of", "size_of"), "text", "number", ("return len(X)",), lambda x, n: len(x)),
    Known(("is_long", "is_wide"), "text", "flag", ("return len(X) > N",), lambda x, n: len(x) > n),
    Known(
        ("first_letter", "initial"), "text", "text", ("if not X:", "    return None", "return X[0]"), lambda x, n: x[0]
    ),
    Known(("count_all", "number_of"), "words", "number", ("return len(X)",), lambda x, n: len(x)),
    Known(("first_of", "top"), "words", "text", ("return X[0]",), lambda x, n: x[0]),
    Known(("join_all", "line_of"), "words", "text", ("return ` `.join(X)",), lambda x, n: " ".join(x)),
    Known(
        ("letters_in", "total_length"),
        "words",
        "number",
        ("total = 0", "for item in X:", "    total += len(item)", "return total"),
        lambda x, n: sum(map(len, x)),
    ),
    Known(
        ("glue", "run_together"),
        "words",
        "text",
        ("text = ``", "for item in X:", "    text += item", "return text"),
        lambda x, n: "".join(x),
    ),
    Known(
        ("distinct", "count_different"),
        "words",
        "number",
        ("seen = set()", "for item in X:", "    seen.add(item)", "return len(seen)"),
        lambda x, n: len(set(x)),
    ),
)


def write_value(author: Author, value: object) -> str:
    """A value as the program would write it."""
    if isinstance(value, str):
        return author.quote(value)
    if isinstance(value, list):
        return f"[{', '.join(author.quote(item) for item in value)}]"
    return str(value)


def example(author: Author, kind: str) -> object:
    """An argument of this kind."""
    theme = author.theme
    if kind == "number":
        return author.between(0, 60)
    if kind == "text":
        return author.pick(theme.values)
    return [author.pick(theme.values) for _ in range(author.between(1, 3))]


def statement(author: Author, call: str, expected: object, style: str) -> str:
    """One thing that is asserted."""
    written = write_value(author, expected)
    if style == "unittest":
        if isinstance(expected, bool):
            return f"self.assert{expected}({call})"
        return f"self.assertEqual({call}, {written})"
    if isinstance(expected, bool) and author.chance(0.5):
        return f"assert {call}" if expected else f"assert not {call}"
    return f"assert {call} == {written}"


def tested_function(author: Author) -> None:
    """A small function and its tests: bare, in functions, or in a class."""
    known = author.pick(KNOWN)
    pool = {"number": author.theme.measures, "text": author.theme.labels}.get(known.argument)
    argument = author.pick(pool) if pool else plural(author.pick(author.theme.things))
    definition = Definition(author)
    verb = author.pick(known.verbs)
    name = verb if author.chance(0.4) and definition.free(verb) else ""
    if argument in ("total", "text", "item", "seen", verb):
        author.scope = definition.outer
        return
    n = author.between(2, 9)
    kind = {"number": "number", "text": "text", "words": "words"}[known.argument]
    noun = "" if name else argument
    definition.open(name or verb, noun, [(argument, kind)], f"{verb.replace('_', ' ')} of the {argument}")
    for line in known.body:
        text = MARKED.sub(lambda found: {"X": argument, "N": str(n)}[found[0]], line)
        author.write(INDENT, text.replace("``", author.quote("")).replace("` `", author.quote(" ")))
    definition.close(known.result)
    name = definition.name
    style = author.pick(("assert", "function", "function", "unittest"))
    cases = [example(author, known.argument) for _ in range(author.between(1, 3))]
    lines = [statement(author, f"{name}({write_value(author, case)})", known.answer(case, n), style) for case in cases]
    write_tests(author, name, lines, style)


def write_tests(author: Author, name: str, lines: list[str], style: str) -> None:
    """The tests after the function, in the style drawn."""
    if style == "unittest" and not author.need("unittest"):
        style, lines = "assert", []
    if style == "assert":
        author.calls += lines
        return
    author.write("", "", "")
    if style == "function":
        test = f"test_{name}"
        if test in author.scope.used:
            return
        author.reserve(test, "function")
        author.write("", f"def {test}():")
        author.write(INDENT, *lines)
        if author.chance(0.5):
            author.calls.append(f"{test}()")
        return
    group = f"Test{class_name(name)}"
    if group in author.scope.used:
        return
    author.reserve(group, "class")
    author.write("", f"class {group}(unittest.TestCase):")
    for place, line in enumerate(lines):
        if place:
            author.write("", "")
        author.write(INDENT, f"def test_{('one', 'two', 'three')[place]}(self):", INDENT + line)
    author.ending = "unittest.main()"


def tested_class(author: Author) -> None:
    """A small counter or store and a test that walks through it."""
    thing = author.pick(author.theme.things)
    name = f"{class_name(thing)}{author.pick(('Counter', 'Store', 'Box', 'Shelf'))}"
    if name in author.scope.used or f"test_{thing}" in author.scope.used:
        return
    author.reserve(name, "class")
    author.reserve(f"test_{thing}", "function")
    held = author.pick(("items", plural(thing), "content"))
    made = author.pick(("list", "set", "text"))
    start = {"list": "[]", "set": "set()", "text": author.quote("")}[made]
    grow = {"list": ".append(item)", "set": ".add(item)", "text": " += item"}[made]
    author.write("", f"class {name}:")
    author.write(
        INDENT, *signatures.signature(author, INDENT, "__init__", [("label", "text", author.quote(""))], "self")
    )
    author.write(INDENT * 2, "self.label = label", f"self.{held} = {start}")
    author.write("", "")
    author.write(INDENT, "def add(self, item):", f"{INDENT}self.{held}{grow}")
    first, second = author.pick(author.theme.values), author.pick(author.theme.values)
    size = len(first + second) if made == "text" else len({first, second}) if made == "set" else 2
    store = author.pick(("store", "box", "shelf"))
    author.write("", "", "", f"def test_{thing}():")
    author.write(INDENT, f"{store} = {name}({literals.word(author) if author.chance(0.5) else ''})")
    author.write(INDENT, f"{store}.add({author.quote(first)})", f"{store}.add({author.quote(second)})")
    author.write(INDENT, f"assert len({store}.{held}) == {size}")
    if author.chance(0.6):
        author.write(INDENT, f"assert {author.quote(first)} in {store}.{held}")
    author.calls.append(f"test_{thing}()")


TESTED = weighted((6, tested_function), (2, tested_class))
