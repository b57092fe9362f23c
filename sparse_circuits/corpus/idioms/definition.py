"""The frame of a function definition: its free name, its arguments, its own scope."""

from sparse_circuits.corpus.idioms.author import INDENT, Author, Function, Scope

TYPES = {
    "number": "int",
    "count": "int",
    "text": "str",
    "word": "str",
    "path": "str",
    "flag": "bool",
    "list": "list[int]",
    "own_list": "list[int]",
    "words": "list[str]",
    "own_words": "list[str]",
    "rows": "list[list[int]]",
    "own_rows": "list[list[int]]",
}
"""The annotation of an argument of each kind."""
RESULTS = {"number": "float", "text": "str", "flag": "bool", "none": "None"}


def annotated(name: str, kind: str) -> str:
    """An argument with its annotation, if its kind has one."""
    return f"{name}: {TYPES[kind]}" if kind in TYPES else name


class Definition:
    """A function being written: it has a scope of its own; at the end the module's scope returns."""

    def __init__(self, author: Author) -> None:
        self.author = author
        self.outer = author.scope
        self.place = 0
        author.scope = Scope(dict(author.reserved))

    def free(self, name: str) -> bool:
        return name not in self.outer.used and name not in self.author.reserved

    def fresh_name(self, verb: str, noun: str) -> str:
        """A free name for a function: verb_noun, or one with an adjective or a number."""
        for name in (f"{verb}_{noun}", f"{verb}_{self.author.pick(self.author.theme.adjectives)}_{noun}"):
            if self.free(name):
                return name
        number = 2
        while not self.free(f"{verb}_{noun}_{number}"):
            number += 1
        return f"{verb}_{noun}_{number}"

    def open(
        self,
        verb: str,
        noun: str,
        arguments: list[tuple[str, str]],
        note: str = "",
        defaults: tuple[str, ...] = (),
    ) -> None:
        """The `def` line, with arguments given as (name, kind); the last ones have these defaults.

        Without a noun, the verb is the whole name and the caller has made sure that it is free.
        """
        author, scope = self.author, self.author.scope
        self.name = self.fresh_name(verb, noun) if noun else verb
        self.kinds = tuple(kind for _, kind in arguments)
        written = [annotated(name, kind) if author.typed else name for name, kind in arguments]
        equals = " = " if author.typed else "="
        for place, default in enumerate(defaults, len(written) - len(defaults)):
            written[place] += f"{' | None' if author.typed and default == 'None' else ''}{equals}{default}"
        for name, kind in arguments:
            scope.used[name] = kind
        self.place = len(author.lines)
        author.write("", f"def {self.name}({', '.join(written)}):")
        if note and author.random() < author.notes:
            author.write(INDENT, f'"""{note[0].upper()}{note[1:]}."""')

    def close(self, result: str, called: bool = True) -> None:
        """The end of the definition: `result` is the kind of what it returns."""
        author = self.author
        author.scope = self.outer
        known = result in RESULTS and (called or result != "none")
        if author.typed and known and author.lines[self.place].endswith("):"):
            author.lines[self.place] = f"{author.lines[self.place][:-1]} -> {RESULTS[result]}:"
        author.reserve(self.name, "function")
        if called:
            author.functions.append(Function(self.name, self.kinds, result))
