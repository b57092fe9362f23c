"""Sketches: well-known functions and classes in the language of language.py, and how a program takes one in."""

from sparse_circuits.corpus.idioms.author import INDENT, Author
from sparse_circuits.corpus.idioms.sketches.callables import CALLABLES
from sparse_circuits.corpus.idioms.sketches.graphs import GRAPHS
from sparse_circuits.corpus.idioms.sketches.holders import HOLDERS
from sparse_circuits.corpus.idioms.sketches.language import THEMED, Section, Sketch, Writing
from sparse_circuits.corpus.idioms.sketches.machines import MACHINES
from sparse_circuits.corpus.idioms.sketches.numbers import NUMBERS
from sparse_circuits.corpus.idioms.sketches.parsing import PARSERS
from sparse_circuits.corpus.idioms.sketches.records import RECORDS
from sparse_circuits.corpus.idioms.sketches.sorting import LISTS
from sparse_circuits.corpus.idioms.sketches.text import TEXTS

SKETCHES: tuple[Sketch, ...] = (
    *NUMBERS,
    *LISTS,
    *TEXTS,
    *PARSERS,
    *GRAPHS,
    *MACHINES,
    *CALLABLES,
    *RECORDS,
    *HOLDERS,
)


class Written:
    """A sketch that a program has taken in, and what may still be done with it."""

    def __init__(self, sketch: Sketch, writing: Writing, defined: list[str]) -> None:
        self.writing = writing
        writing.arguments = dict(writing.names)
        writing.claiming = True
        self.names = {slot: name for slot, name in writing.names.items() if name in defined or THEMED.fullmatch(slot)}
        """What the definition and its uses have in common."""
        self.uses = list(sketch.uses)
        self.checks = list(sketch.checks)

    def write(self, pad: str, section: Section) -> bool:
        """Write a use or a check at this indentation; False when an import it needs cannot be had."""
        writing, author = self.writing, self.writing.author
        if not all(author.need(module, name) for module, name in section.imports):
            return False
        writing.names = dict(self.names)
        author.write(pad, *section.write(writing))
        return True


def take_in(author: Author, sketch: Sketch) -> Written | None:
    """Write the definition of a sketch at the left margin; None when a name it needs is taken."""
    writing = Writing(author, sketch.excluded)
    taken = author.scope.used
    for slot, offered in sketch.defines:
        if not slot:
            name = offered[0]
        elif THEMED.fullmatch(slot):
            name = writing.themed(slot)
        else:
            name = author.pick(offered)
            if name in taken or name in sketch.excluded:
                return None
            writing.names[slot] = name
        if name in taken:
            return None
    if not all(author.need(module, name) for module, name in sketch.definition.imports):
        return None
    defined = [writing.names[slot] if slot else offered[0] for slot, offered in sketch.defines]
    author.write("", *sketch.definition.write(writing))
    for name in defined:
        author.reserve(name, "function")
    return Written(sketch, writing, defined)


def define_sketch(author: Author) -> None:
    """Take in a sketch that the program has not; its uses are kept for later."""
    for _ in range(3):
        written = take_in(author, author.pick(SKETCHES))
        if written is not None:
            author.sketches.append(written)
            return


def use_sketch(author: Author, pad: str) -> bool:
    """Write a use of the sketch that has waited longest; False when none is left."""
    for written in author.sketches:
        while written.uses:
            if written.write(pad, written.uses.pop(int(author.random() * len(written.uses)))):
                return True
    return False


def check_sketches(author: Author) -> None:
    """Tests of the sketches that have checks: as functions, or as bare lines."""
    for written in author.sketches:
        for section in written.checks:
            name = f"test_{next(iter(written.names.values()))}"
            if name in author.scope.used:
                continue
            while author.lines and not author.lines[-1]:
                author.lines.pop()
            author.write("", "", "", f"def {name}():")
            author.reserve(name, "function")
            written.write(INDENT, section)
        written.checks.clear()
