"""The language sketches are written in, and the compiler that makes text of them quickly.

A sketch is a function, a class or a few of them, then uses of it after lines of `---`; `===` parts sketches.

- `$name` is a variable: one name throughout the definition or a use, drawn from `$name<a|b|c>` where that is first
  written, else from `WORDS`. `$thing`, `$measure`, `$label` come from the program's theme, with their plural
  `$things` and the class `$Thing`; a number makes another one: `$thing2`.
- `<a|b>` is one or the other, anew each time. `@number` and its like (`MARKS`) write a value, anew each time.
- What stands between backquotes is a string in the program's quoting; `f` may stand before it.
- `def` lines are fully annotated; a program that has no annotations gets them without.
- A line that is a string in double quotes is a docstring, a line that begins with `#` a comment: both are there
  in some programs only, as is a line after `? `. Imports on the first lines go to the top of the program.
- A use that begins with `assert` is a check. A line that ends with a backslash goes on in the next.
"""

import re
from collections.abc import Callable, Sequence
from keyword import kwlist
from typing import NamedTuple

from sparse_circuits.corpus.idioms import literals, names
from sparse_circuits.corpus.idioms.author import Author
from sparse_circuits.corpus.idioms.words import class_name, past, plural, progressive, split

WORDS = {
    "a": split("a first left low"),
    "b": split("b second right high"),
    "c": split("c char letter ch"),
    "best": split("best longest largest top"),
    "count": split("count total number amount"),
    "counts": split("counts tally totals frequencies"),
    "current": split("current place position here"),
    "flag": split("found done changed ok"),
    "grid": split("grid board matrix table field"),
    "i": split("i j k index position"),
    "item": split("item entry element value"),
    "items": split("items entries values elements"),
    "key": split("key name label word"),
    "left": split("left low start first"),
    "line": split("line row entry text_line"),
    "lines": split("lines rows entries text_lines"),
    "n": split("n number count limit size"),
    "node": split("node place vertex city"),
    "graph": split("graph links neighbors roads edges_of"),
    "numbers": split("numbers values data nums amounts scores"),
    "out": split("result out output found made"),
    "parts": split("parts pieces fields columns"),
    "path": split("path route way trail"),
    "queue": split("queue waiting todo pending"),
    "right": split("right high end last"),
    "row": split("row line cells"),
    "rows": split("rows lines table records"),
    "seen": split("seen visited known used done"),
    "stack": split("stack open_items pending_items todo"),
    "text": split("text message string source content"),
    "total": split("total result answer amount"),
    "value": split("value number item amount"),
    "word": split("word name term token"),
    "words": split("words names terms tokens"),
    "x": split("x value number item n"),
    "xs": split("numbers values items data nums"),
}
"""The names offered for a variable that names none itself."""

Mark = Callable[[Author], str]
MARKS: dict[str, Mark] = {
    "number": literals.number,
    "small": lambda a: str(a.between(1, 9)),
    "count": lambda a: str(a.between(2, 12)),
    "big": lambda a: str(a.between(100, 999)),
    "digit": lambda a: str(a.between(0, 9)),
    "price": lambda a: f"{a.between(1, 40)}.{a.pick(('5', '25', '75', '99', '0'))}",
    "numbers": lambda a: literals.row_of(literals.numbers(a, 3, 6)),
    "integers": lambda a: literals.row_of([literals.number(a) for _ in range(a.between(3, 7))]),
    "words": lambda a: literals.row_of(literals.words(a, "", 3, 5)),
    "people": lambda a: literals.row_of(literals.words(a, "person", 3, 5)),
    "rows": lambda a: literals.row_of(literals.row_items(a, 2, 3)),
    "phrase": literals.phrase,
    "word": lambda a: a.pick(a.theme.values),
    "person": lambda a: a.pick(literals.PEOPLE),
    "adjective": lambda a: a.pick(a.theme.adjectives),
    "verb": lambda a: a.pick(a.theme.verbs),
    "past": lambda a: past(a.pick(a.theme.verbs)),
    "doing": lambda a: progressive(a.pick(a.theme.verbs)),
    "noun": lambda a: a.pick(a.theme.things),
    "nouns": lambda a: plural(a.pick(a.theme.things)),
    "letter": lambda a: a.pick("abcdefghiklmnoprstuw"),
}

PATTERN = re.compile(
    r"([fr]?)`([^`]*)`"
    r"|\$([A-Za-z]+\d*)(?:<([^<>\n]*)>)?(=(?![=\s]))?"
    r"|<([^<>\n]*\|[^<>\n]*)>"
    rf"|@({'|'.join(MARKS)})\b"
)
IDENTIFIER = re.compile(r"[A-Za-z_]\w*")
THEMED = re.compile(r"(thing|measure|label)(s?)(\d*)|(Thing)(s?)(\d*)")


class Writing:
    """One sketch being written out: the names chosen so far."""

    __slots__ = ("arguments", "author", "claiming", "excluded", "names")

    def __init__(self, author: Author, excluded: frozenset[str]) -> None:
        self.author = author
        self.excluded = excluded
        self.names: dict[str, str] = {}
        self.arguments: dict[str, str] = {}
        """In a use: the names chosen in the definition."""
        self.claiming = False
        """Whether a name chosen now is a variable of the program, and must be free there."""

    def choose(self, slot: str, pool: Sequence[str]) -> str:
        """A name for a slot that has none yet: none that another slot has, or that the sketch itself writes."""
        author, taken = self.author, self.names.values()
        for _ in range(6):
            name = author.pick(pool)
            if name[0] == "$":
                name = self.themed(name[1:])
            if name not in taken and name not in self.excluded:
                break
        else:
            free = [word for word in pool if word[0] != "$" and word not in taken and word not in self.excluded]
            name = free[0] if free else f"{pool[0]}_{len(self.names)}"
        if self.claiming:
            name = names.claim(author, name, "other")
        self.names[slot] = name
        return name

    def themed(self, slot: str) -> str:
        """A slot that the theme fills: a thing, a measure or a label, its plural, or the class of a thing."""
        found = THEMED.fullmatch(slot)
        assert found is not None
        kind, many, number = (found[1], found[2], found[3]) if found[1] else ("thing", found[5], found[6])
        base = kind + number
        noun = self.names.get(base)
        if noun is None:
            theme = self.author.theme
            pool = {"thing": theme.things, "measure": theme.measures, "label": theme.labels}[kind]
            noun = self.choose(base, pool)
        if found[4]:
            noun = class_name(noun)
        elif many:
            noun = plural(noun)
        self.names[slot] = noun
        return noun


Piece = str | Callable[[Writing], str]
Line = tuple[str, tuple[Piece, ...]]
"""When it is written (always, comment, docstring, perhaps), and the pieces it is made of."""


def join(pieces: Sequence[Piece], writing: Writing) -> str:
    return "".join([piece if piece.__class__ is str else piece(writing) for piece in pieces])  # type: ignore[operator]


def slot_piece(slot: str, pool: tuple[str, ...] | None) -> Piece:
    if pool is None and THEMED.fullmatch(slot):
        return lambda writing: writing.names.get(slot) or writing.themed(slot)
    words = pool or WORDS.get(slot.rstrip("0123456789"))
    if words is None:
        # Named further up, with its words.
        return lambda writing: writing.names[slot]
    return lambda writing: writing.names.get(slot) or writing.choose(slot, words)


def keyword_piece(slot: str, piece: Piece) -> Piece:
    """The name of an argument in a call: the one that the definition gave it."""
    return lambda writing: writing.arguments.get(slot) or join((piece,), writing)


def quoted_piece(prefix: str, inner: tuple[Piece, ...]) -> Piece:
    if len(inner) == 1 and isinstance(inner[0], str):
        text = inner[0]
        return lambda writing: prefix + writing.author.quote(text)
    return lambda writing: prefix + writing.author.quote(join(inner, writing))


def mark_piece(write: Mark) -> Piece:
    return lambda writing: write(writing.author)


def choice_piece(choices: tuple[tuple[Piece, ...], ...]) -> Piece:
    return lambda writing: join(writing.author.pick(choices), writing)


def pieces_of(text: str) -> tuple[Piece, ...]:
    """Compile text without line structure."""
    found: list[Piece] = []
    end = 0
    for match in PATTERN.finditer(text):
        if match.start() > end:
            found.append(text[end : match.start()])
        end = match.end()
        prefix, string, slot, pool, keyword, choices, mark = match.groups()
        if string is not None:
            found.append(quoted_piece(prefix, pieces_of(string) or ("",)))
        elif slot is not None:
            piece = slot_piece(slot, tuple(pool.split("|")) if pool else None)
            found += [keyword_piece(slot, piece), keyword] if keyword else [piece]
        elif choices is not None:
            found.append(choice_piece(tuple(pieces_of(choice) for choice in choices.split("|"))))
        else:
            found.append(mark_piece(MARKS[mark]))
    if end < len(text):
        found.append(text[end:])
    return tuple(found)


def without_types(line: str) -> str:
    """A `def` line without its annotations: `def f(x: int, y: int = 1) -> int:` becomes `def f(x, y=1):`."""
    head, opened, rest = line.partition("(")
    inside = rest[: rest.rindex(")")]
    arguments, depth, start, quoted = [], 0, 0, False
    for place, char in enumerate(inside + ","):
        depth += (char in "([{") - (char in ")]}")
        quoted ^= char == "`"
        if char == "," and depth == 0 and not quoted:
            arguments.append(inside[start:place].strip())
            start = place + 1
    plain = []
    for argument in filter(None, arguments):
        named, _, default = argument.partition(" = ")
        name = named.split(": ")[0]
        plain.append(f"{name}={default}" if default else name)
    return f"{head}{opened}{', '.join(plain)}):"


def lines_of(text: list[str], typed: bool) -> tuple[Line, ...]:
    """Compile lines; those that are always written and stand together become one."""
    found: list[Line] = []
    block: list[str] = []

    def close() -> None:
        if block:
            found.append(("always", pieces_of("\n".join(block))))
            block.clear()

    for line in text:
        stripped = line.strip()
        if stripped.startswith("def ") and not typed:
            block.append(without_types(line))
        elif line.startswith("? "):
            close()
            found.append(("perhaps", pieces_of(line[2:])))
        elif stripped.startswith("# "):
            close()
            found.append(("comment", pieces_of(line)))
        elif stripped.startswith('"') and stripped.endswith('"'):
            close()
            found.append(("docstring", pieces_of(line.replace('"', '"""'))))
        else:
            block.append(line)
    close()
    return tuple(found)


class Section(NamedTuple):
    """The definition of a sketch, or one of its uses."""

    imports: tuple[tuple[str, str], ...]
    """(module, name imported from it or nothing)"""
    plain: tuple[Line, ...]
    typed: tuple[Line, ...]

    def write(self, writing: Writing) -> list[str]:
        """Its lines."""
        author = writing.author
        found: list[str] = []
        dropped = False
        for when, pieces in self.typed if author.typed else self.plain:
            if when == "always":
                lines = join(pieces, writing).split("\n")
                # The blank line below the docstring of a class goes with it.
                found += lines[1:] if dropped and not lines[0] else lines
            elif author.random() < author.shares[when]:
                found.append(join(pieces, writing))
            else:
                dropped = when == "docstring"
                continue
            dropped = False
        return found


class Sketch(NamedTuple):
    """A definition, its uses and its checks."""

    defines: tuple[tuple[str, tuple[str, ...]], ...]
    """The functions, classes and constants it defines: (slot, names offered), or ("", the name itself)."""
    excluded: frozenset[str]
    """Names written in the sketch as they are."""
    definition: Section
    uses: tuple[Section, ...]
    checks: tuple[Section, ...]


DEFINED = re.compile(r"^(?:def|class) (?:\$([A-Za-z]+\d*)(?:<([^<>\n]*)>)?|(\w+))|^([A-Z][A-Z_]+) = ", re.MULTILINE)
CONTINUED = re.compile(r"\\\n *")
IMPORT = re.compile(r"import (\w+)|from (\w+) import (\w+)")


def section(text: str) -> Section:
    lines = text.strip("\n").split("\n")
    imports = []
    while match := IMPORT.fullmatch(lines[0]):
        imports.append((match[1] or match[2], match[3] or ""))
        lines.pop(0)
        while not lines[0]:
            lines.pop(0)
    return Section(tuple(imports), lines_of(lines, False), lines_of(lines, True))


def literal_names(text: str) -> frozenset[str]:
    """The names that stand in the text as they are, keywords too."""
    bare = PATTERN.sub(lambda match: f" {match[6] or ''} ", text)
    return frozenset(IDENTIFIER.findall(bare)).union(kwlist)


def sketch(text: str) -> Sketch:
    """Compile one sketch."""
    text = CONTINUED.sub("", text)
    definition, *uses = re.split(r"^---\n", text.strip("\n") + "\n", flags=re.MULTILINE)
    defines = []
    for slot, pool, name, constant in DEFINED.findall(definition):
        if slot:
            defines.append((slot, tuple(pool.split("|")) if pool else WORDS.get(slot, ())))
        else:
            defines.append(("", (name or constant,)))
    return Sketch(
        tuple(defines),
        literal_names(text),
        section(definition),
        tuple(section(use) for use in uses if not use.startswith("assert ")),
        tuple(section(use) for use in uses if use.startswith("assert ")),
    )


def sketches(text: str) -> tuple[Sketch, ...]:
    """Compile sketches parted by lines of `===`."""
    return tuple(sketch(part) for part in re.split(r"^===\n", text, flags=re.MULTILINE))
