"""Functions that read and write files. Nothing calls them: a generated program leaves the disk alone."""

from collections.abc import Callable

from sparse_circuits.corpus.idioms import literals, names
from sparse_circuits.corpus.idioms.author import INDENT, Author
from sparse_circuits.corpus.idioms.choices import weighted
from sparse_circuits.corpus.idioms.definition import Definition
from sparse_circuits.corpus.idioms.words import plural

TWICE = INDENT * 2
INPUTS = ("input", "source", "data", "config", "words", "old", "first", "names")
OUTPUTS = ("output", "target", "result", "report", "copy", "new", "summary", "saved")
ENDINGS = (".txt", ".txt", ".csv", ".json", ".log")


def file_name(author: Author, reading: bool) -> str:
    """A literal name of a file that is read, or of one that is written."""
    stem = author.pick(INPUTS if reading else OUTPUTS)
    if author.chance(0.3):
        stem = f"{author.pick(author.theme.things)}_{stem}"
    return author.quote(stem + author.pick(ENDINGS))


def handle(author: Author) -> str:
    return author.pick(("f", "f", "file", "source", "handle", "stream"))


def read_file(author: Author) -> None:
    """Read a file with `with`, or open and close it."""
    theme = author.theme
    definition = Definition(author)
    by_name = author.chance(0.6)
    path = author.pick(("path", "name", "file_name", "path"))
    noun = plural(author.pick(theme.things))
    definition.open(
        author.pick(("read", "load", "open", "count")),
        noun,
        [(path, "path")] if by_name else [],
        f"read the {noun}",
    )
    target = path if by_name else file_name(author, True)
    f = handle(author)
    x = author.pick(("line", "row", "text"))
    mode = f", {author.quote('r')}" if author.chance(0.5) else ""
    draw = author.random()
    found = names.claim(author, author.pick((noun, "lines", "result", "data")), "other")
    if draw < 0.3:
        author.write(
            INDENT,
            f"with open({target}{mode}) as {f}:",
            f"{INDENT}return {f}.{author.pick(('read()', 'readlines()'))}",
        )
    elif draw < 0.6:
        author.write(INDENT, f"{found} = []", f"with open({target}{mode}) as {f}:", f"{INDENT}for {x} in {f}:")
        author.write(INDENT * 3, f"{found}.append({x}.strip())")
        author.write(INDENT, f"return {found}")
    elif draw < 0.8:
        author.write(INDENT, f"{f} = open({target}{mode})", f"{found} = {f}.{author.pick(('read()', 'readlines()'))}")
        author.write(INDENT, f"{f}.close()", f"return {found}")
    else:
        author.write(INDENT, f"{f} = open({target}{mode})", f"{x} = {f}.readline()", f"while {x}:")
        author.write(TWICE, f"print({x}.strip())", f"{x} = {f}.readline()")
        author.write(INDENT, f"{f}.close()")
    definition.close("none", called=False)


def write_file(author: Author) -> None:
    """Write a file with `with`, or open and close it."""
    theme = author.theme
    definition = Definition(author)
    noun = plural(author.pick(theme.things))
    by_name = author.chance(0.5)
    arguments = [("path", "path")] if by_name else []
    definition.open(
        author.pick(("save", "write", "store", "export")),
        noun,
        [*arguments, (noun, "words")],
        f"save the {noun}",
    )
    target = "path" if by_name else file_name(author, False)
    f = handle(author)
    x = names.loop_name(author, "item" if noun == "items" else author.pick(("line", "item", "x")), "text")
    mode = author.quote(author.pick(("w", "w", "w", "a")))
    newline = author.quote("\\n")
    draw = author.random()
    if draw < 0.6:
        author.write(INDENT, f"with open({target}, {mode}) as {f}:")
        if draw < 0.35:
            author.write(TWICE, f"for {x} in {noun}:", f"{INDENT}{f}.write({x} + {newline})")
        else:
            author.write(TWICE, f"{f}.write({literals.string(author)})", f"{f}.write({newline}.join({noun}))")
    else:
        author.write(INDENT, f"{f} = open({target}, {mode})")
        if draw < 0.8:
            author.write(INDENT, f"while {noun}:", f"{INDENT}{f}.write({noun}.pop() + {newline})")
        else:
            author.write(INDENT, f"{f}.write({literals.string(author)})")
        author.write(INDENT, f"{f}.close()")
    definition.close("none", called=False)


def copy_file(author: Author) -> None:
    """Read one file and write another."""
    definition = Definition(author)
    noun = author.pick(author.theme.things)
    definition.open(author.pick(("copy", "convert", "clean")), noun, [], f"copy the {noun}")
    x = author.pick(("text", "data", "content"))
    read, write = author.quote("r"), author.quote("w")
    first, second = handle(author), author.pick(("out", "target", "g"))
    if author.chance(0.6):
        author.write(
            INDENT,
            f"with open({file_name(author, True)}, {read}) as {first}:",
            f"{INDENT}{x} = {first}.read()",
        )
        author.write(
            INDENT,
            f"with open({file_name(author, False)}, {write}) as {second}:",
            f"{INDENT}{second}.write({x})",
        )
    else:
        author.write(INDENT, f"{first} = open({file_name(author, True)}, {read})")
        author.write(INDENT, f"{second} = open({file_name(author, False)}, {write})")
        author.write(
            INDENT,
            f"for line in {first}:",
            f"{INDENT}{second}.write(line)",
            f"{second}.close()",
            f"{first}.close()",
        )
    definition.close("none", called=False)


FILE_FUNCTIONS: tuple[Callable[[Author], None], ...] = weighted((5, read_file), (4, write_file), (2, copy_file))
