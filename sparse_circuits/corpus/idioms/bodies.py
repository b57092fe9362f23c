"""What a loop is for: the lines before it, the lines inside it, and the result it leaves behind.

Each purpose is a function of the loop variable alone, so that the same work is done in `for` and in `while`
loops, in scripts and in functions.
"""

from collections.abc import Callable
from typing import NamedTuple

from sparse_circuits.corpus.idioms import actions, expressions, names
from sparse_circuits.corpus.idioms.author import INDENT, Author
from sparse_circuits.corpus.idioms.choices import weighted
from sparse_circuits.corpus.idioms.words import plural


class Work(NamedTuple):
    """The work of a loop."""

    before: list[str]
    body: list[str]
    result: str
    """The variable that holds the result; empty when the loop only shows things."""
    kind: str
    """The kind of the result: number, text, flag or other."""
    verb: str
    """What a function that does this is called: its name starts so."""
    note: str
    """A comment."""


Purpose = Callable[[Author, str, str], Work]
"""Plans the work of a loop over variables of this name and kind (number or text)."""


def show(author: Author, x: str, kind: str) -> Work:
    return Work([], [expressions.show(author, x)], "", "", author.pick(("show", "print", "list")), f"show every {x}")


def say_and_show(author: Author, x: str, kind: str) -> Work:
    lines = [actions.call_with_string(author), expressions.show(author, x)]
    return Work([], lines, "", "", "report", f"go through every {x}")


def show_value(author: Author, x: str, kind: str) -> Work:
    line = f"print({expressions.value(author, x, kind)})"
    return Work([], [line], "", "", author.pick(("show", "print", "display")), f"show something for every {x}")


def set_and_show(author: Author, x: str, kind: str) -> Work:
    name = names.claim(author, author.pick((f"new_{x}", f"next_{x}", "result", "copy")), kind)
    lines = [f"{name} = {expressions.value(author, x, kind)}", expressions.show(author, name)]
    return Work([], lines, "", "", "change", f"change every {x}")


def test_and_say(author: Author, x: str, kind: str) -> Work:
    test = expressions.condition(author, x, kind)
    lines = [f"if {test}:", INDENT + actions.action(author)]
    if author.chance(0.35):
        lines += [
            f"elif {expressions.other_condition(author, x, kind, test)}:",
            INDENT + actions.action(author),
        ]
    if author.chance(0.6):
        lines += ["else:", INDENT + actions.action(author)]
    return Work([], lines, "", "", "check", f"check every {x}")


def count_matches(author: Author, x: str, kind: str) -> Work:
    name = names.claim(author, author.pick(("count", f"{x}_count", "found_count", "matches")), "number")
    lines = [f"if {expressions.condition(author, x, kind)}:", f"{INDENT}{name} += 1"]
    return Work([f"{name} = 0"], lines, name, "number", "count", f"count what we need of the {plural(x)}")


def collect_matches(author: Author, x: str, kind: str) -> Work:
    name = names.claim(
        author,
        author.pick(
            (
                "result",
                "found",
                "kept",
                f"good_{plural(x)}",
                f"{author.pick(author.theme.adjectives)}_{plural(x)}",
            )
        ),
        "other",
    )
    lines = [f"if {expressions.condition(author, x, kind)}:", f"{INDENT}{name}.append({x})"]
    return Work(
        [f"{name} = []"],
        lines,
        name,
        "other",
        author.pick(("select", "filter", "keep")),
        f"keep some {plural(x)}",
    )


def collect_values(author: Author, x: str, kind: str) -> Work:
    name = names.claim(author, author.pick(("result", f"new_{plural(x)}", "output", "changed_list")), "other")
    lines = [f"{name}.append({expressions.value(author, x, kind)})"]
    return Work(
        [f"{name} = []"],
        lines,
        name,
        "other",
        author.pick(("change", "convert", "update")),
        f"make new {plural(x)}",
    )


def grow_set(author: Author, x: str, kind: str) -> Work:
    name = names.claim(author, author.pick(names.GROWN), "other")
    lines = [f"{name}.add({x})"]
    if author.chance(0.3):
        lines = [f"if {x} in {name}:", f"{INDENT}{actions.call_with_string(author)}", *lines]
    return Work([f"{name} = set()"], lines, name, "other", "unique", f"every {x} once")


def grow_text(author: Author, x: str, kind: str) -> Work:
    name = names.claim(author, author.pick(names.GROWN), "text")
    piece = f"str({x})" if kind == "number" else x
    draw = author.random()
    if draw < 0.5:
        piece += f" + {author.quote(author.pick((' ', ', ', '-', ';')))}"
    elif draw < 0.65:
        piece = f"f{author.quote('{' + x + '} ')}"
    elif draw < 0.8 and kind == "text":
        piece = expressions.value(author, x, kind)
    return Work(
        [f"{name} = {author.quote('')}"],
        [f"{name} += {piece}"],
        name,
        "text",
        "join",
        f"join the {plural(x)}",
    )


def grow_table(author: Author, x: str, kind: str) -> Work:
    name = names.claim(author, author.pick(("counts", "tally", "seen_times", "lookup")), "other")
    draw = author.random()
    if draw < 0.4:
        lines = [f"{name}[{x}] = {name}.get({x}, 0) + 1"]
    elif draw < 0.6:
        lines = [f"if {x} not in {name}:", f"{INDENT}{name}[{x}] = 0", f"{name}[{x}] += 1"]
    else:
        lines = [f"{name}[{x}] = {expressions.value(author, x, kind)}"]
    return Work([f"{name} = {{}}"], lines, name, "other", "group", f"a table of the {plural(x)}")


def find(author: Author, x: str, kind: str) -> Work:
    name = names.claim(author, author.pick(("found", "ok", "done", "matched")), "flag")
    lines = [f"if {expressions.condition(author, x, kind)}:", f"{INDENT}{name} = True"]
    if author.chance(0.7):
        lines.append(f"{INDENT}break")
    return Work([f"{name} = False"], lines, name, "flag", author.pick(("has", "contains", "any")), f"look for one {x}")


def stop_at(author: Author, x: str, kind: str) -> Work:
    lines = [f"if {expressions.condition(author, x, kind)}:"]
    if author.chance(0.6):
        lines.append(f"{INDENT}{actions.call_with_string(author)}")
    return Work([], [*lines, f"{INDENT}break", expressions.show(author, x)], "", "", "scan", f"stop at the right {x}")


def add_up(author: Author, x: str, kind: str) -> Work:
    name = names.claim(author, author.pick(("total", f"total_{x}", f"{x}_sum", "result")), "number")
    draw = author.random()
    if draw < 0.65:
        lines = [f"{name} += {x}"]
    elif draw < 0.8:
        lines = [f"{name} = {name} + {x}"]
    else:
        lines = [f"{name} += {expressions.value(author, x, kind)}"]
    return Work(
        [f"{name} = 0"],
        lines,
        name,
        "number",
        author.pick(("total", "sum", "add_up")),
        f"add up the {plural(x)}",
    )


def add_up_some(author: Author, x: str, kind: str) -> Work:
    name = names.claim(author, author.pick(("total", f"total_{x}", "extra")), "number")
    lines = [f"if {expressions.condition(author, x, kind)}:", f"{INDENT}{name} += {x}"]
    if author.chance(0.3):
        lines += ["else:", f"{INDENT}{name} -= {author.between(1, 9)}"]
    return Work([f"{name} = 0"], lines, name, "number", "total", f"add up some {plural(x)}")


def largest(author: Author, x: str, kind: str) -> Work:
    name = names.claim(author, author.pick((f"best_{x}", "best", "largest", f"max_{x}")), "number")
    lines = [f"if {x} > {name}:", f"{INDENT}{name} = {x}"]
    return Work(
        [f"{name} = 0"],
        lines,
        name,
        "number",
        author.pick(("max", "largest", "best")),
        f"find the largest {x}",
    )


def multiply(author: Author, x: str, kind: str) -> Work:
    name = names.claim(author, author.pick(("product", "result", "factor")), "number")
    return Work([f"{name} = 1"], [f"{name} *= {x}"], name, "number", "multiply", f"multiply the {plural(x)}")


def add_lengths(author: Author, x: str, kind: str) -> Work:
    name = names.claim(author, author.pick(("length", "total_length", "size")), "number")
    return Work([f"{name} = 0"], [f"{name} += len({x})"], name, "number", "measure", f"measure the {plural(x)}")


def longest(author: Author, x: str, kind: str) -> Work:
    name = names.claim(author, author.pick(("longest", f"longest_{x}", f"best_{x}")), "text")
    lines = [f"if len({x}) > len({name}):", f"{INDENT}{name} = {x}"]
    return Work([f"{name} = {author.quote('')}"], lines, name, "text", "longest", f"find the longest {x}")


def spell(author: Author, x: str, kind: str) -> Work:
    letter = names.loop_name(author, author.pick(("letter", "char", "c")), "text")
    return Work(
        [],
        [f"for {letter} in {x}:", INDENT + expressions.show(author, letter)],
        "",
        "",
        "spell",
        f"spell every {x}",
    )


def count_steps(author: Author, x: str, kind: str) -> Work:
    step = names.loop_name(author, author.pick(("i", "j", "step", "k")), "index")
    lines = [
        f"for {step} in range({author.between(2, 4)}):",
        f"{INDENT}{expressions.show(author, author.pick((step, x)))}",
    ]
    return Work([], lines, "", "", "repeat", f"repeat every {x}")


COMMON: tuple[tuple[int, Purpose], ...] = (
    (8, show),
    (6, say_and_show),
    (4, show_value),
    (3, set_and_show),
    (6, test_and_say),
    (4, count_matches),
    (4, collect_matches),
    (4, collect_values),
    (4, grow_set),
    (4, grow_text),
    (3, grow_table),
    (3, find),
    (2, stop_at),
    (1, count_steps),
)
NUMBER_PURPOSES: tuple[Purpose, ...] = weighted(*COMMON, (7, add_up), (2, add_up_some), (2, largest), (1, multiply))
TEXT_PURPOSES: tuple[Purpose, ...] = weighted(*COMMON, (3, add_lengths), (2, longest), (2, spell))


def plan(author: Author, x: str, kind: str) -> Work:
    """Draw a purpose for a loop over variables of this name and kind (number or text)."""
    return author.pick(NUMBER_PURPOSES if kind == "number" else TEXT_PURPOSES)(author, x, kind)
