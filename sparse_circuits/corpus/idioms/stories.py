"""The plan of a program of the full level: its shape, its parts, and what calls them.

A program defines things (functions, classes, sketches) and then uses them; what is set and never read is read in
the end. Definitions leave calls behind (`author.calls`, the uses of sketches), which stand among the other
paragraphs of the script.
"""

from sparse_circuits.corpus.idioms import layout, literals
from sparse_circuits.corpus.idioms.author import INDENT, Author, Scope
from sparse_circuits.corpus.idioms.choices import weighted
from sparse_circuits.corpus.idioms.layout import gap, part
from sparse_circuits.corpus.idioms.procedures import procedure
from sparse_circuits.corpus.idioms.registry import Part
from sparse_circuits.corpus.idioms.repertoire import CLASSES, FUNCTIONS, PARAGRAPHS, blend
from sparse_circuits.corpus.idioms.sketches import check_sketches, define_sketch, use_sketch
from sparse_circuits.corpus.idioms.strings import log
from sparse_circuits.corpus.idioms.voices import maker, pairer, speaker
from sparse_circuits.corpus.idioms.words import plural, progressive

READABLE = frozenset(("number", "text", "flag", "list", "words", "rows", "table", "other", "set"))

PARTS: tuple[Part, ...] = blend((8, FUNCTIONS), (3, (define_sketch,)), (3, (procedure,)))


def blank(author: Author) -> None:
    """A blank line between paragraphs, more often in some programs than in others."""
    lines = author.lines
    if lines and lines[-1] and author.random() < author.roomy:
        lines.append("")


def paragraphs(author: Author, pad: str, lines: int) -> None:
    """Write paragraphs until about so many more lines are there, the calls of what is defined among them."""
    goal = len(author.lines) + lines
    while len(author.lines) < goal:
        draw = author.random()
        if draw < 0.12 and author.calls:
            author.write(pad, author.calls.pop(0))
        elif draw > 0.3 or not author.sketches or not use_sketch(author, pad):
            if draw > 1 - author.comments * 0.6:
                theme = author.theme
                doing = progressive(author.pick(theme.verbs)).capitalize()
                author.write(pad, f"# {doing} the {plural(author.pick(theme.things))}.")
            author.pick(PARAGRAPHS)(author, pad)
        blank(author)


def leftover(author: Author, pad: str, calls: int = 4) -> None:
    """Calls and uses that still wait, and a look at what has been set and not read."""
    for call in author.calls[:calls]:
        author.write(pad, call)
    author.calls.clear()
    if author.random() < 0.8 and use_sketch(author, pad):
        blank(author)
    read_the_rest(author, pad)


def read_the_rest(author: Author, pad: str) -> None:
    """Print the variables that stand in the program only once."""
    text = "\n" + "\n".join(author.lines)
    unread = [
        name
        for name, kind in author.scope.used.items()
        if kind in READABLE and text.count(name) == 1 and f"\n{pad}{name} = " in text
    ]
    for start in range(0, min(len(unread), 6), 3):
        author.write(pad, f"print({', '.join(unread[start : start + 3])})")


def script(author: Author) -> None:
    """Paragraphs only."""
    paragraphs(author, "", author.between(16, 56))
    leftover(author, "")


def parts_and_script(author: Author) -> None:
    """A few definitions and a script that uses them."""
    for _ in range(author.between(1, 4)):
        part(author, author.pick(PARTS))
    paragraphs(author, "", author.between(12, 34))
    leftover(author, "")


def parts_only(author: Author) -> None:
    """A module: definitions, perhaps with tests."""
    for _ in range(author.between(2, 5)):
        part(author, author.pick(PARTS))
    if author.chance(0.5):
        check_sketches(author)
    if author.chance(0.4):
        gap(author)
        leftover(author, "", 2)


def sketch_and_uses(author: Author) -> None:
    """One or two well-known functions or classes, and what they do."""
    for _ in range(author.pick((1, 1, 2))):
        part(author, define_sketch)
    if author.chance(0.3):
        check_sketches(author)
        gap(author)
    if author.chance(0.4):
        paragraphs(author, "", author.between(1, 6))
    while use_sketch(author, ""):
        blank(author)
    leftover(author, "")


def classes_and_script(author: Author) -> None:
    """A class or two, their instances, and a script."""
    part(author, author.pick(CLASSES))
    if author.chance(0.35):
        part(author, author.pick((*CLASSES, *PARTS)))
    paragraphs(author, "", author.between(5, 22))
    leftover(author, "")


def main_program(author: Author) -> None:
    """Everything in main(), called at the end or behind the usual test."""
    for _ in range(author.between(0, 3)):
        part(author, author.pick(PARTS))
    gap(author)
    author.reserve("main", "function")
    outer, author.scope = author.scope, Scope(dict(author.reserved))
    author.write("", "def main() -> None:" if author.typed else "def main():")
    paragraphs(author, INDENT, author.between(12, 34))
    leftover(author, INDENT)
    author.scope = outer
    gap(author)
    if author.chance(0.7):
        author.write("", f"if __name__ == {author.quote('__main__')}:", f"{INDENT}main()")
    else:
        author.lines.append("main()")
    author.ending = ""


SHAPES = weighted(
    (11, script),
    (6, parts_and_script),
    (2, parts_only),
    (3, sketch_and_uses),
    (5, classes_and_script),
    (4, main_program),
)


def draft(author: Author) -> list[str]:
    """Write a whole program, line by line."""
    shape = author.pick(SHAPES)
    if author.random() < 0.1:
        layout.constants(author)
    draw = author.random()
    if draw < 0.12:
        part(author, speaker)
    elif draw < 0.2:
        part(author, maker)
    elif draw < 0.25:
        part(author, pairer)
    elif draw < 0.3:
        log(author, "")
    shape(author)
    lines = author.lines
    if author.ending:
        gap(author)
        author.write("", f"if __name__ == {author.quote('__main__')}:", INDENT + author.ending)
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        author.write("", f"print({literals.string(author)})")
    head = layout.heading(author)
    if head and head[-1].startswith("#"):
        head += ("", "") if lines[0].startswith(("def ", "class ", "@")) else ("",)
    return [*head, *lines]
