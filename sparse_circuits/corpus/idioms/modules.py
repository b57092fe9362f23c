"""Imports from the standard library, each with a line or two that use it."""

from sparse_circuits.corpus.idioms import data, expressions, literals, names
from sparse_circuits.corpus.idioms.author import Author


def use_math(author: Author, pad: str) -> None:
    """Square roots and roundings."""
    value = literals.number(author)
    if author.chance(0.6):
        if not author.need("math"):
            return
        call = author.pick((f"math.sqrt({value})", f"math.floor({value} / 2)", f"math.ceil({value} / 3)", "math.pi"))
    else:
        if not author.need("math", "sqrt"):
            return
        call = f"sqrt({value})"
    name = names.claim(author, author.pick(("root", "result", "distance", "value")), "number")
    author.write(pad, f"{name} = {call}", expressions.show(author, name))
    if name not in author.scope.numbers:
        author.scope.numbers.append(name)


def use_random(author: Author, pad: str) -> None:
    """A choice by chance."""
    if not author.need("random"):
        return
    draw = author.random()
    if draw < 0.4:
        items, element = data.some_words(author, pad)
        name = names.claim(author, author.pick((f"lucky_{element}", "choice", "winner")), "other")
        author.write(pad, f"{name} = random.choice({items})", f"print({name})")
    elif draw < 0.7:
        name = names.claim(author, author.pick(("dice", "roll", "guess", "secret")), "number")
        author.write(pad, f"{name} = random.randint(1, {author.between(6, 100)})", expressions.show(author, name))
    else:
        items, _ = data.some_list(author, pad)
        if items not in author.scope.frozen:
            author.write(pad, f"random.shuffle({items})")
        author.write(pad, f"print({items})")


def use_counter(author: Author, pad: str) -> None:
    """Count the elements of a list."""
    if not author.need("collections", "Counter"):
        return
    items, _ = data.some_words(author, pad)
    name = names.claim(author, author.pick(("counts", "tally", "counter")), "counter")
    author.write(pad, f"{name} = Counter({items})")
    author.write(
        pad,
        author.pick(
            (
                f"print({name}[{literals.word(author)}])",
                f"print(len({name}))",
                f"print({name}.most_common(1))",
            )
        ),
    )


def use_path(author: Author, pad: str) -> None:
    """Join the parts of a path."""
    if not author.need("os"):
        return
    name = names.claim(author, author.pick(("path", "folder", "file_path")), "text")
    parts = ", ".join(author.quote(author.pick(author.theme.things)) for _ in range(author.between(1, 2)))
    author.write(
        pad,
        f"{name} = os.path.join({parts}, {author.quote(author.pick(author.theme.values) + '.txt')})",
        f"print({name})",
    )


def use_json(author: Author, pad: str) -> None:
    """Write a value as text and read it back."""
    if not author.need("json"):
        return
    draw = author.random()
    if draw < 0.4:
        name = names.claim(author, author.pick(("text", "output", "encoded")), "text")
        author.write(pad, f"{name} = json.dumps({literals.row_of(literals.row_items(author, 1, 3))})", f"print({name})")
    else:
        items, _ = data.some_list(author, pad)
        author.write(pad, f"print(json.dumps({items}))")
