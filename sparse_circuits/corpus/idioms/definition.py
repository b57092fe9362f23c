"""The frame of a function definition: its free name, its arguments, its own scope."""

from sparse_circuits.corpus.idioms.author import INDENT, Author, Function, Scope


class Definition:
    """A function being written: it has a scope of its own; at the end the module's scope returns."""

    def __init__(self, author: Author) -> None:
        self.author = author
        self.outer = author.scope
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
        written = [name for name, _ in arguments]
        for place, default in enumerate(defaults, len(written) - len(defaults)):
            written[place] += f"={default}"
        for name, kind in arguments:
            scope.used[name] = kind
        author.write("", f"def {self.name}({', '.join(written)}):")
        if note and author.random() < author.comments + 0.1:
            author.write(INDENT, f'"""{note[0].upper()}{note[1:]}."""')

    def close(self, result: str, called: bool = True) -> None:
        """The end of the definition: `result` is the kind of what it returns."""
        author = self.author
        author.scope = self.outer
        author.reserve(self.name, "function")
        if called:
            author.functions.append(Function(self.name, self.kinds, result))
