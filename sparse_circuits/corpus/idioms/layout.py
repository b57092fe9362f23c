"""The plan of a program: which parts it has, in what order, and the blank lines between them."""

from sparse_circuits.corpus.idioms import literals, names
from sparse_circuits.corpus.idioms.author import INDENT, Author, Scope
from sparse_circuits.corpus.idioms.choices import weighted
from sparse_circuits.corpus.idioms.classes import CLASSES
from sparse_circuits.corpus.idioms.registry import BASICS, PARAGRAPHS, PARTS, Paragraph, Part
from sparse_circuits.corpus.idioms.strings import log
from sparse_circuits.corpus.idioms.voices import maker, pairer, speaker
from sparse_circuits.corpus.idioms.words import plural, progressive


def paragraphs(author: Author, pad: str, lines: int, registry: tuple[Paragraph, ...] = PARAGRAPHS) -> None:
    """Write paragraphs until about so many more lines are there."""
    goal = len(author.lines) + lines
    while len(author.lines) < goal:
        if author.random() < 0.15:
            author.comment(pad, literals.phrase(author))
        author.pick(registry)(author, pad)
        if author.random() < author.roomy and author.lines and author.lines[-1]:
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
    """A few names in capitals at the top; no one changes them."""
    scope, theme = author.scope, author.theme
    for _ in range(author.between(1, 3)):
        draw = author.random()
        measure, label = author.pick(theme.measures), author.pick(theme.labels)
        limit = f"{author.pick(LIMITS)}_{measure.upper()}"
        if draw < 0.5 and names.take(author, limit, "constant"):
            author.write("", f"{limit} = {literals.positive(author)}")
            author.constants.append(limit)
        elif draw < 0.8 and names.take(author, plural(label).upper(), "constant"):
            items = literals.words(author, label, 2, 5)
            author.write("", *literals.bracketed(author, "", f"{plural(label).upper()} = ", items))
            scope.words.append((plural(label).upper(), label))
            scope.frozen.append(plural(label).upper())
        elif draw >= 0.8 and names.take(author, "GRID", "constant"):
            author.write("", *literals.bracketed(author, "", "GRID = ", literals.row_items(author, 2, 3)))
            scope.rows.append(("GRID", "row", measure))
            scope.frozen.append("GRID")
    if author.lines:
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
    lines = []
    blank = ["", ""] if author.lines[0].startswith(("def ", "class ")) else [""]
    draw = author.random()
    if draw < 0.16:
        theme = author.theme
        title = f"{progressive(author.pick(theme.verbs))} {plural(author.pick(theme.things))}".capitalize()
        lines += [f'"""{title}."""', *([""] if author.imports else blank)] if draw < 0.08 else [f"# {title}"]
    imports = sorted(author.imports, key=lambda line: (line.startswith("from"), line))
    if imports:
        lines += [*imports, *blank]
    return lines


def draft(author: Author) -> list[str]:
    """Write a whole program, line by line."""
    shape = author.pick(SHAPES)
    if author.random() < 0.12:
        constants(author)
    draw = author.random()
    if draw < 0.25:
        part(author, speaker)
    elif draw < 0.45:
        part(author, maker)
    elif draw < 0.55:
        part(author, pairer)
    elif draw < 0.65:
        log(author, "")
    shape(author)
    lines = author.lines
    while not lines[-1]:
        lines.pop()
    return [*heading(author), *lines]
