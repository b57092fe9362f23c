"""The plan of a program: which parts it has, in what order, and the blank lines between them."""

from sparse_circuits.corpus.idioms import literals
from sparse_circuits.corpus.idioms.author import INDENT, Author, Scope
from sparse_circuits.corpus.idioms.calls import log
from sparse_circuits.corpus.idioms.choices import weighted
from sparse_circuits.corpus.idioms.classes import CLASSES
from sparse_circuits.corpus.idioms.functions import speaker
from sparse_circuits.corpus.idioms.registry import BASICS, PARAGRAPHS, PARTS, Paragraph, Part
from sparse_circuits.corpus.idioms.words import plural, progressive


def paragraphs(author: Author, pad: str, count: int, registry: tuple[Paragraph, ...] = PARAGRAPHS) -> None:
    """Write paragraphs until about `count` more lines are there."""
    goal = len(author.lines) + count
    while len(author.lines) < goal:
        author.pick(registry)(author, pad)
        if author.random() < author.roomy:
            author.lines.append("")


def part(author: Author, write: Part) -> None:
    """Write a definition with two blank lines around it."""
    gap(author)
    write(author)
    gap(author)


def gap(author: Author) -> None:
    """Two blank lines, unless nothing is written yet."""
    lines = author.lines
    while lines and not lines[-1]:
        lines.pop()
    if lines:
        lines += ("", "")


LIMITS = ("MAX", "MIN", "BASE", "START")


def constants(author: Author) -> None:
    """A few names in capitals at the top."""
    for _ in range(author.between(1, 3)):
        draw = author.random()
        measure, label = author.pick(author.theme.measures), author.pick(author.theme.labels)
        if draw < 0.4:
            author.write(
                "",
                f"{author.pick(LIMITS)}_{measure.upper()} = {literals.number(author)}",
            )
        elif draw < 0.6:
            author.write("", f"{label.upper()} = {literals.word(author, label)}")
        elif draw < 0.8:
            items = literals.words(author, label, 2, 5)
            author.write("", *literals.bracketed(author, "", f"{plural(label).upper()} = ", items))
        else:
            items = literals.row_items(author, 2, 3)
            author.write(
                "",
                *literals.bracketed(
                    author, "", f"{author.pick(('GRID', 'TABLE', 'STEPS', 'MOVES'))} = ", items
                ),
            )
    author.lines.append("")


def script(author: Author) -> None:
    paragraphs(author, "", author.between(15, 50))


def basic_script(author: Author) -> None:
    paragraphs(author, "", author.between(12, 50), BASICS)


def short_script(author: Author) -> None:
    paragraphs(author, "", author.between(5, 14))


def functions_and_script(author: Author) -> None:
    for _ in range(author.between(1, 3)):
        part(author, author.pick(PARTS))
    paragraphs(author, "", author.between(8, 28))


def functions_only(author: Author) -> None:
    for _ in range(author.between(2, 6)):
        part(author, author.pick(PARTS))


def class_and_script(author: Author) -> None:
    part(author, author.pick(CLASSES))
    if author.chance(0.3):
        part(author, author.pick(PARTS))
    paragraphs(author, "", author.between(2, 20))


def main_program(author: Author) -> None:
    """Everything in main(), called at the end or behind the usual test."""
    for _ in range(author.between(0, 3)):
        part(author, author.pick(PARTS))
    gap(author)
    author.reserve("main", "function")
    outer, author.scope = author.scope, Scope(dict(author.reserved))
    author.lines.append("def main():")
    paragraphs(author, INDENT, author.between(8, 26))
    author.scope = outer
    gap(author)
    if author.chance(0.7):
        author.write("", f"if __name__ == {author.quote('__main__')}:", f"{INDENT}main()")
    else:
        author.lines.append("main()")


SHAPES = weighted(
    (9, basic_script),
    (6, script),
    (2, short_script),
    (5, functions_and_script),
    (2, functions_only),
    (3, class_and_script),
    (3, main_program),
)


def heading(author: Author) -> list[str]:
    """A docstring or comment on the first line, and the imports."""
    theme = author.theme
    lines = []
    blank = ["", ""] if author.lines[0].startswith(("def ", "class ")) else [""]
    draw = author.random()
    title = f"{progressive(author.pick(theme.verbs))} {plural(author.pick(theme.things))}".capitalize()
    if draw < 0.08:
        lines += [f'"""{title}."""', *([""] if author.imports else blank)]
    elif draw < 0.16:
        lines += [f"# {title}"]
    imports = sorted(author.imports, key=lambda line: (line.startswith("from"), line))
    if imports:
        lines += [*imports, *blank]
    return lines


def compose(seed: int, index: int) -> str:
    """Write document `index` of the stream `seed`."""
    author = Author(seed, index)
    shape = author.pick(SHAPES)
    if author.random() < 0.12:
        constants(author)
    if author.random() < 0.35:
        part(author, speaker)
    elif author.random() < 0.15:
        log(author, "")
    shape(author)
    lines = author.lines
    while not lines[-1]:
        lines.pop()
    return "\n".join([*heading(author), *lines]) + "\n"
