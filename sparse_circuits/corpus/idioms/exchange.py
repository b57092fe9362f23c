"""Values that change places: swaps and rotations of variables, elements, attributes and entries."""

from sparse_circuits.corpus.idioms import data, expressions, literals, names
from sparse_circuits.corpus.idioms.author import INDENT, Author
from sparse_circuits.corpus.idioms.choices import weighted

PAIRS = (
    ("x", "y"),
    ("a", "b"),
    ("left", "right"),
    ("first", "second"),
    ("low", "high"),
    ("start", "end"),
    ("old", "new"),
    ("source", "target"),
    ("width", "height"),
    ("top", "bottom"),
    ("n", "m"),
    ("i", "j"),
    ("before", "after"),
    ("smaller", "larger"),
    ("row", "column"),
)
TRIPLES = (("x", "y", "z"), ("a", "b", "c"), ("first", "second", "third"), ("red", "green", "blue"), ("i", "j", "k"))


def fresh(author: Author, count: int) -> list[str]:
    """Names for numbers that belong together, or any numbers."""
    pool = PAIRS if count == 2 else TRIPLES
    if author.chance(0.55):
        found = [names.claim(author, name, "number") for name in author.pick(pool)]
    else:
        found = [names.number_name(author) for _ in range(count)]
    if author.chance(0.3):
        found.reverse()
    return found


def set_values(author: Author, pad: str, found: list[str]) -> None:
    """Set them one by one or at once, in this or another order."""
    if author.chance(0.4):
        values = ", ".join(literals.number(author) for _ in found)
        author.write(pad, f"{', '.join(found)} = {values}")
    else:
        order = found if author.chance(0.6) else found[::-1]
        author.write(pad, *(f"{name} = {literals.number(author)}" for name in order))
    author.scope.numbers += [name for name in found if name not in author.scope.numbers]


def rotated(found: list[str], by: int) -> str:
    return f"{', '.join(found)} = {', '.join(found[by:] + found[:by])}"


def swap_new(author: Author, pad: str) -> None:
    """Set two numbers and swap them, perhaps only when they are out of order."""
    found = fresh(author, 2)
    set_values(author, pad, found)
    if author.chance(0.4):
        author.write(pad, f"if {found[0]} {author.pick('<>')} {found[1]}:", INDENT + rotated(found, 1))
    else:
        author.write(pad, rotated(found, 1))
    author.write(pad, f"print({found[0]}, {found[1]})" if author.chance(0.6) else expressions.show(author, found[1]))


def swap_known(author: Author, pad: str) -> None:
    """Swap two numbers that are there, or two strings."""
    scope = author.scope
    pool = scope.texts if len(scope.texts) > 1 and author.chance(0.5) else scope.numbers
    free = [name for name in dict.fromkeys(pool) if name not in scope.frozen]
    if len(free) < 2:
        swap_new(author, pad)
        return
    first = author.pick(free)
    second = author.pick([name for name in free if name != first])
    author.write(pad, f"{first}, {second} = {second}, {first}")
    if author.chance(0.7):
        author.write(pad, f"print({first}, {second})")


def rotate_three(author: Author, pad: str) -> None:
    """Set three numbers and rotate them."""
    found = fresh(author, 3)
    set_values(author, pad, found)
    author.write(pad, rotated(found, author.pick((1, 1, 2))))
    author.write(pad, f"print({', '.join(found)})")


def swap_in_loop(author: Author, pad: str) -> None:
    """Swap two numbers again and again, or hand one on."""
    found = fresh(author, 2)
    set_values(author, pad, found)
    i = names.loop_name(author, author.pick(("i", "turn", "step", "k")), "index")
    if i in found:
        i = names.claim(author, "round_number", "index")
    a, b = found
    author.write(pad, f"for {i} in range({author.between(2, 6)}):")
    line = rotated(found, 1) if author.chance(0.6) else f"{a}, {b} = {b}, {author.pick((f'{a} + {b}', f'{a} - {b}'))}"
    author.write(pad + INDENT, line)
    if author.chance(0.5):
        author.write(pad + INDENT, f"print({a}, {b})")
    else:
        author.write(pad, f"print({a}, {b})")


def swap_elements(author: Author, pad: str) -> None:
    """Swap two elements of a list."""
    items = (data.set_list if author.chance(0.5) else data.set_words)(author, pad)[0]
    place = author.pick(("0", "0", "-1"))
    other = "-1" if place == "0" else "0"
    author.write(pad, f"{items}[{place}], {items}[{other}] = {items}[{other}], {items}[{place}]")
    author.write(pad, expressions.show(author, items))


EXCHANGES = weighted((5, swap_new), (5, swap_known), (11, rotate_three), (2, swap_in_loop), (2, swap_elements))
