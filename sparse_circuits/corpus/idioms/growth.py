"""Sets that are added to and strings that are appended to, under the same names and in the same places.

Nothing but the line that sets the variable tells which of the two it is: not its name, not the loop around it.
"""

from sparse_circuits.corpus.idioms import actions, expressions, literals, names
from sparse_circuits.corpus.idioms.author import INDENT, Author
from sparse_circuits.corpus.idioms.choices import weighted
from sparse_circuits.corpus.idioms.definition import Definition
from sparse_circuits.corpus.idioms.loops import source
from sparse_circuits.corpus.idioms.words import plural, split

KINDS = ("set", "text")
VERBS = split("collect gather read take build make find scan join merge list_of get pick_up")


def grown_name(author: Author, kind: str) -> str:
    """A name that a set and a string may both have."""
    draw = author.random()
    if draw < 0.6:
        name = "current"
    elif draw < 0.9:
        name = author.pick(names.GROWN)
    else:
        theme = author.theme
        name = author.pick(
            (
                f"all_{plural(author.pick(theme.things))}",
                f"{author.pick(theme.labels)}_{author.pick(('seen', 'text', 'found', 'parts'))}",
                f"{author.pick(theme.adjectives)}_{plural(author.pick(theme.things))}",
                plural(author.pick(theme.labels)),
            )
        )
    return names.claim(author, name, kind)


def empty(author: Author, kind: str) -> str:
    return "set()" if kind == "set" else author.quote("")


def grow(author: Author, name: str, kind: str, piece: str, piece_kind: str) -> str:
    """The line that adds a piece (a number or a text) to the set or string."""
    if kind == "set":
        return f"{name}.add({piece})"
    piece = piece if piece_kind == "text" else f"str({piece})"
    if author.chance(0.33):
        piece += f" + {author.quote(author.pick((' ', ', ', '-')))}"
    return f"{name} += {piece}"


def look(author: Author, pad: str, name: str, kind: str) -> None:
    """What is done with it in the end."""
    draw = author.random()
    if draw < 0.3:
        author.write(pad, f"print(len({name}))")
    elif draw < 0.6:
        author.write(pad, expressions.show(author, name))
    elif draw < 0.7:
        author.write(pad, f"if {literals.word(author)} in {name}:", INDENT + actions.call_with_string(author))
    elif draw < 0.8 and kind == "set":
        author.write(pad, f"print(sorted({name}, key=str))")
    elif draw < 0.8:
        author.write(pad, f"print({name}{author.pick(('.strip()', '.upper()', '[:5]'))})")
    else:
        author.write(pad, f"if not {name}:", INDENT + actions.call_with_string(author))
    if kind == "text" and name not in author.scope.texts:
        author.scope.texts.append(name)


def grow_in_lines(author: Author, pad: str) -> None:
    """Set it, do something else perhaps, and add to it line by line."""
    kind = author.pick(KINDS)
    name = grown_name(author, kind)
    author.write(pad, f"{name} = {empty(author, kind)}")
    for _ in range(author.pick((0, 0, 1, 2))):
        author.write(pad, actions.call_with_string(author))
    for _ in range(author.between(1, 3)):
        author.write(pad, grow(author, name, kind, literals.word(author), "text"))
    look(author, pad, name, kind)


def grow_in_loop(author: Author, pad: str) -> None:
    """Add every element of a list, or some."""
    items, element, kind = source(author, pad)
    x = names.loop_name(author, element, kind)
    frozen = author.scope.frozen
    frozen += (items, x)
    made = author.pick(KINDS)
    name = grown_name(author, made)
    author.write(pad, f"{name} = {empty(author, made)}", f"for {x} in {items}:")
    inner = pad + INDENT
    draw = author.random()
    if draw < 0.3:
        author.write(inner, f"if {expressions.condition(author, x, kind)}:")
        inner += INDENT
    elif draw < 0.45:
        author.write(inner, actions.call_with_string(author))
    author.write(inner, grow(author, name, made, x, kind))
    if draw > 0.85:
        author.write(inner, expressions.show(author, x))
    del frozen[-2:]
    look(author, pad, name, made)


def grow_two(author: Author, pad: str) -> None:
    """A set and a string (or two of a kind) that grow in one loop."""
    items, element, kind = source(author, pad)
    x = names.loop_name(author, element, kind)
    frozen = author.scope.frozen
    frozen += (items, x)
    first, second = author.pick((KINDS, KINDS, KINDS[::-1], KINDS[::-1], ("set", "set"), ("text", "text")))
    a = grown_name(author, first)
    frozen.append(a)
    b = grown_name(author, second)
    author.write(pad, f"{a} = {empty(author, first)}", f"{b} = {empty(author, second)}", f"for {x} in {items}:")
    lines = [grow(author, a, first, x, kind), grow(author, b, second, x, kind)]
    if author.chance(0.5):
        lines.reverse()
    if author.chance(0.3):
        lines = [f"if {expressions.condition(author, x, kind)}:", INDENT + lines[0], "else:", INDENT + lines[1]]
    author.write(pad + INDENT, *lines)
    del frozen[-3:]
    author.write(pad, f"print({a}, {b})")


def grow_letters(author: Author, pad: str) -> None:
    """Letter by letter, by `for` or by an index."""
    made = author.pick(KINDS)
    word = literals.word(author)
    name = grown_name(author, made)
    author.scope.frozen.append(name)
    author.write(pad, f"{name} = {empty(author, made)}")
    if author.chance(0.5):
        x = names.loop_name(author, author.pick(("letter", "c", "char")), "text")
        author.write(pad, f"for {x} in {word}:")
        if author.chance(0.4):
            author.write(pad + INDENT, f"if {x} == {author.quote(author.pick('aeiorst'))}:", f"{INDENT}continue")
        author.write(pad + INDENT, grow(author, name, made, x, "text"))
    else:
        i = names.loop_name(author, author.pick(("i", "n", "k", "step")), "index")
        author.write(pad, f"for {i} in range({author.between(2, 9)}):")
        author.write(pad + INDENT, grow(author, name, made, author.pick((i, f"{i} * {i}", f"{i} % 3")), "number"))
    author.scope.frozen.pop()
    look(author, pad, name, made)


def grow_while(author: Author, pad: str) -> None:
    """Count down, and add to it every time."""
    made = author.pick(KINDS)
    count = names.number_name(author)
    author.scope.frozen.append(count)
    name = grown_name(author, made)
    lines = [f"{count} = {author.between(2, 9)}", f"{name} = {empty(author, made)}"]
    if author.chance(0.5):
        lines.reverse()
    author.write(pad, *lines, f"while {count}:" if author.chance(0.7) else f"while {count} > 0:")
    author.write(pad + INDENT, grow(author, name, made, count, "number"), f"{count} -= 1")
    author.scope.frozen.pop()
    look(author, pad, name, made)


def grow_function(author: Author) -> None:
    """A function that returns a set or a string grown from its argument."""
    kind = "number" if author.random() < 0.4 else "text"
    items, element = names.propose_list(author) if kind == "number" else names.propose_words(author)
    made = author.pick(KINDS)
    definition = Definition(author)
    definition.open(
        author.pick(VERBS), items, [(items, "list" if kind == "number" else "words")], f"go through {items}"
    )
    x = names.loop_name(author, element, kind)
    frozen = author.scope.frozen
    frozen += (items, x)
    name = grown_name(author, made)
    author.write(INDENT, f"{name} = {empty(author, made)}", f"for {x} in {items}:")
    inner = INDENT * 2
    if author.chance(0.4):
        author.write(inner, f"if {expressions.condition(author, x, kind)}:")
        inner += INDENT
    author.write(inner, grow(author, name, made, x, kind))
    author.write(INDENT, f"return {name}")
    definition.close("text" if made == "text" else "other")


GROWTH = weighted((4, grow_in_lines), (5, grow_in_loop), (2, grow_two), (2, grow_letters), (2, grow_while))
