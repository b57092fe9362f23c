"""Functions whose bodies are made of the same paragraphs as scripts, about their arguments."""

from sparse_circuits.corpus.idioms import signatures
from sparse_circuits.corpus.idioms.author import INDENT, Author
from sparse_circuits.corpus.idioms.definition import Definition
from sparse_circuits.corpus.idioms.repertoire import PARAGRAPHS
from sparse_circuits.corpus.idioms.words import plural

VERBS = ("run", "process", "handle", "check", "prepare", "update", "show", "plan", "work_on", "go_through", "finish")


def arguments(author: Author) -> list[tuple[str, str]]:
    """One to three arguments, which may be read in the body."""
    theme, scope = author.theme, author.scope
    found: dict[str, str] = {}
    thing = author.pick(theme.things)
    for _ in range(author.between(1, 3)):
        draw = author.random()
        if draw < 0.35:
            found[plural(thing)] = "words"
        elif draw < 0.5:
            found[plural(author.pick(theme.measures))] = "list"
        elif draw < 0.75:
            found[author.pick((*theme.measures, "limit", "count"))] = "number"
        else:
            found[author.pick(theme.labels)] = "text"
    for name, kind in found.items():
        if kind == "words":
            scope.words.append((name, thing))
        elif kind == "list":
            scope.lists.append((name, "x" if name.startswith("x") else "value"))
        else:
            (scope.numbers if kind == "number" else scope.texts).append(name)
    return list(found.items())


def open_ended(author: Author, found: list[tuple[str, str]]) -> tuple[str, ...]:
    """The defaults of the last arguments, in some functions: only numbers and strings have one."""
    count = 0
    while count < len(found) and found[-1 - count][1] in ("number", "text"):
        count += 1
    if count == 0 or author.chance(0.4):
        return ()
    return tuple(
        "None" if author.chance(0.7) else signatures.default(author, name, kind) for name, kind in found[-count:]
    )


def finish(author: Author) -> str:
    """The last line: perhaps the value of a variable; returns its kind."""
    scope = author.scope
    made = [name for name in scope.numbers if name not in scope.frozen]
    if made and author.chance(0.5):
        author.write(INDENT, f"return {made[-1]}")
        return "number"
    if scope.texts and author.chance(0.4):
        author.write(INDENT, f"return {scope.texts[-1]}")
        return "text"
    if author.chance(0.3):
        author.write(INDENT, f"return {author.pick(('True', 'True', 'False'))}")
        return "flag"
    return "none"


def procedure(author: Author) -> None:
    """A function of a few paragraphs."""
    definition = Definition(author)
    noun = author.pick((*author.theme.things, plural(author.pick(author.theme.things)), "all", "day"))
    found = arguments(author)
    defaults = open_ended(author, found)
    definition.open(author.pick(VERBS), noun, found, f"deal with {noun}", defaults)
    for (name, kind), default in zip(found[len(found) - len(defaults) :], defaults, strict=True):
        if default == "None":
            author.write(INDENT, f"if {name} is None:", f"{INDENT}{name} = {signatures.default(author, name, kind)}")
    goal = len(author.lines) + author.between(3, 9)
    while len(author.lines) < goal:
        author.pick(PARAGRAPHS)(author, INDENT)
        if author.random() < author.roomy * 0.4 and author.lines[-1]:
            author.lines.append("")
    while not author.lines[-1]:
        author.lines.pop()
    kind = finish(author)
    definition.close(kind)
