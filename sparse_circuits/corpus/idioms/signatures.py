"""Functions and methods with several arguments: plain ones, and ones with defaults, mostly None towards the end."""

from sparse_circuits.corpus.idioms import expressions, literals
from sparse_circuits.corpus.idioms.author import INDENT, LINE_LIMIT, Author
from sparse_circuits.corpus.idioms.choices import weighted
from sparse_circuits.corpus.idioms.definition import Definition, annotated
from sparse_circuits.corpus.idioms.words import split

TWICE = INDENT * 2
NUMBERS = split(
    """limit depth start end step count size width height timeout delay offset length level total score price amount
    weight speed index page year age rate max_size min_size retries lines_per_page top_n first_row port rank"""
)
TEXTS = split(
    """name title mode label text color prefix suffix unit status owner message key sender city language style kind
    separator header path folder target source comment note default_name user format_name ending"""
)
FLAGS = split("verbose quiet strict active reverse sort_first force debug visible open_now exact repeat")
VERBS = split(
    """make add create show build print send load save find draw open_file move start update write read check plan
    describe order set_up get format count book connect search measure change register prepare export"""
)

Argument = tuple[str, str, str]
"""Name, kind (number, text or flag), default ("" for none)."""


def default(author: Author, name: str, kind: str) -> str:
    """A default that is not None."""
    if kind == "flag":
        return author.pick(("False", "False", "True"))
    if kind == "number":
        return author.pick(("0", "1", "10", literals.number(author)))
    return author.quote("") if author.chance(0.2) else literals.word(author, name)


def arguments(author: Author) -> list[Argument]:
    """Two to five arguments: none with a default, all, or the last ones."""
    theme = author.theme
    wanted: dict[str, str] = {}
    for _ in range(author.pick((2, 2, 3, 3, 3, 4, 5))):
        draw = author.random()
        if draw < 0.25:
            wanted[author.pick(theme.measures)] = "number"
        elif draw < 0.5:
            wanted[author.pick(theme.labels)] = "text"
        elif draw < 0.75:
            wanted[author.pick(NUMBERS)] = "number"
        elif draw < 0.95:
            wanted[author.pick(TEXTS)] = "text"
        else:
            wanted[author.pick(FLAGS)] = "flag"
    count = len(wanted)
    draw = author.random()
    given = 0 if draw < 0.15 else count if draw < 0.65 else author.between(min(2, count), count)
    found = []
    for place, (name, kind) in enumerate(wanted.items()):
        if place < count - given:
            found.append((name, kind, ""))
        elif kind != "flag" and author.chance(0.85 if place == count - 1 else 0.5):
            found.append((name, kind, "None"))
        else:
            found.append((name, kind, default(author, name, kind)))
    return found


def signature(author: Author, pad: str, name: str, found: list[Argument], first: str = "") -> list[str]:
    """The `def` line, or lines where it is long, with annotations in a program that has them."""
    written = [first] if first else []
    for argument, kind, value in found:
        if author.typed:
            hint = annotated(argument, kind) + (" | None" if value == "None" else "")
            written.append(f"{hint} = {value}" if value else hint)
        else:
            written.append(f"{argument}={value}" if value else argument)
    line = f"def {name}({', '.join(written)}):"
    if len(pad) + len(line) <= LINE_LIMIT:
        return [line]
    return [f"def {name}(", *[f"{INDENT}{argument}," for argument in written], "):"]


def fill_in(author: Author, pad: str, found: list[Argument]) -> None:
    """Replace what is None."""
    for name, kind, value in found:
        if value == "None" and author.chance(0.5):
            other = default(author, name, kind)
            if author.chance(0.7):
                author.write(pad, f"if {name} is None:", f"{INDENT}{name} = {other}")
            else:
                author.write(pad, f"{name} = {name} or {other}")


def body(author: Author, pad: str, found: list[Argument]) -> str:
    """Use every argument; returns the kind of the result."""
    fill_in(author, pad, found)
    required = [name for name, kind, value in found if kind == "number" and not value]
    if required and author.chance(0.2):
        error = author.pick(("ValueError", "ValueError", "TypeError"))
        test = f"if {author.pick(required)} < 0:"
        author.write(pad, test, f"{INDENT}raise {error}({literals.string(author)})")
    for name, kind, _ in found:
        if kind == "flag":
            author.write(pad, f"if {name}:", INDENT + expressions.show(author, found[0][0]))
    shown = [name for name, kind, _ in found if kind != "flag"] or [found[0][0]]
    draw = author.random()
    if draw < 0.3:
        author.write(pad, f"print({', '.join(shown)})")
        return "none"
    if draw < 0.55:
        text = f"f{author.quote(', '.join(f'{expressions.spoken(name)} {{{name}}}' for name in shown[:3]))}"
        printed = author.chance(0.5)
        author.write(pad, f"print({text})" if printed else f"return {text}")
        return "none" if printed else "text"
    if draw < 0.8:
        pairs = [f"{author.quote(name)}: {name}" for name in shown]
        author.write(pad, *literals.bracketed(author, pad, "return ", pairs, marks="{}"))
    else:
        author.write(pad, f"return [{', '.join(shown)}]" if author.chance(0.5) else f"return {', '.join(shown)}")
    return "other"


def value(author: Author, name: str, kind: str) -> str:
    """What a call gives for an argument."""
    if kind == "flag":
        return author.pick(("True", "False"))
    return literals.number(author) if kind == "number" else literals.word(author, name)


def call(author: Author, found: list[Argument]) -> str:
    """The arguments of a call: by place or by name; those with defaults may be left out."""
    written = []
    by_name = False
    for name, kind, given in found:
        if given and author.chance(0.5):
            by_name = True
            continue
        by_name = by_name or author.chance(0.2)
        written.append(f"{name}={value(author, name, kind)}" if by_name else value(author, name, kind))
    return ", ".join(written)


def many_arguments(author: Author) -> None:
    """A function of several arguments, and a call of it perhaps."""
    found = arguments(author)
    definition = Definition(author)
    name = definition.fresh_name(author.pick(VERBS), author.pick(author.theme.things))
    if any(name == argument for argument, _, _ in found):
        author.scope = definition.outer
        return
    for argument, kind, _ in found:
        author.scope.used[argument] = kind
    definition.place = len(author.lines)
    author.write("", *signature(author, "", name, found))
    if author.random() < author.shares["docstring"]:
        author.write(INDENT, *docstring(author, name, found))
    result = body(author, INDENT, found)
    definition.name, definition.kinds = name, ()
    definition.close(result, called=False)
    for _ in range(author.pick((0, 1, 1, 2))):
        written = f"{name}({call(author, found)})"
        author.calls.append(written if result == "none" else f"print({written})")


def docstring(author: Author, name: str, found: list[Argument]) -> list[str]:
    """One line, or a paragraph for every argument."""
    title = expressions.spoken(name).capitalize()
    if author.chance(0.7):
        return [f'"""{title}."""']
    lines = [f'"""{title}.', "", "Args:"]
    for argument, _, given in found:
        lines.append(f"{INDENT}{argument}: the {expressions.spoken(argument)}{', if any' if given == 'None' else ''}.")
    return [*lines, '"""']


def many_methods(author: Author) -> None:
    """A class whose methods have several arguments."""
    thing = author.pick(("Maker", "Helper", "Client", "Writer", "Reader", "Manager", "Builder", "Printer", "Service"))
    name = f"{author.pick(author.theme.things).replace('_', ' ').title().replace(' ', '')}{thing}"
    if name in author.scope.used:
        return
    author.reserve(name, "class")
    author.write("", f"class {name}:")
    verbs: list[str] = []
    for _ in range(author.between(2, 3)):
        verb = author.pick(VERBS)
        if verb in verbs:
            continue
        found = arguments(author)
        if verbs:
            author.write("", "")
        verbs.append(verb)
        author.write(INDENT, *signature(author, INDENT, verb, found, "self"))
        result = body(author, TWICE, found)
        written = f"{name}().{verb}({call(author, found)})"
        if author.chance(0.5):
            author.calls.append(written if result == "none" else f"print({written})")


SIGNATURES = weighted((5, many_arguments), (2, many_methods))
