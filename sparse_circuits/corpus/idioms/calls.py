"""Calls: with lists, of methods, of the program's own functions; and small computations."""

from collections.abc import Callable

from sparse_circuits.corpus.idioms import actions, data, expressions, literals, names
from sparse_circuits.corpus.idioms.author import Author, Function


def grow_list(author: Author, pad: str) -> None:
    """Add a literal list to a list, flat or nested, in place or under a new name."""
    scope = author.scope
    nested = author.random() < 0.5
    if nested:
        items, row, cell = data.some_rows(author, pad)
        more = literals.row_of(literals.row_items(author, 1, 2))
    else:
        items, element = data.some_list(author, pad)
        more = literals.row_of(literals.numbers(author, 1, 5))
    draw = author.random()
    if draw < 0.5 and items not in scope.frozen:
        author.write(pad, f"{items} += {more}")
        name = items
    elif nested:
        name, _, _ = names.rows_name(author)
        author.write(pad, f"{name} = {items} + {more}")
        scope.rows.append((name, row, cell))
    else:
        name, _ = names.list_name(author)
        author.write(pad, f"{name} = {items} + {more}")
        scope.lists.append((name, element))
    if author.chance(0.6):
        author.write(pad, f"print(len({name}))" if author.chance(0.5) else expressions.show(author, name))


def append_row(author: Author, pad: str) -> None:
    """Append a row to a list of rows, or write whole rows as arguments."""
    items, _, _ = data.some_rows(author, pad)
    row = literals.row_of(literals.numbers(author, 1, 4))
    if items not in author.scope.frozen and author.chance(0.7):
        author.write(pad, f"{items}.append({row})")
        author.write(pad, f"print(len({items}))" if author.chance(0.5) else expressions.show(author, items))
    else:
        author.write(pad, f"print({items} + [{row}])")


def print_list(author: Author, pad: str) -> None:
    """A list, flat or nested, as the argument of a call."""
    draw = author.random()
    if draw < 0.35:
        items = literals.row_of(literals.numbers(author, 1, 6))
        call = author.pick(("print", "print", "len", "sum", "max", "min", "sorted"))
    elif draw < 0.8:
        items = literals.row_of(literals.row_items(author, 1, 3))
        call = author.pick(("print", "print", "print", "len"))
    else:
        items = literals.row_of(literals.words(author, literals.briefly(author.pick(author.theme.labels)), 1, 4))
        call = author.pick(("print", "len", "sorted"))
    if call == "print":
        author.write(pad, f"print({items})")
    elif author.chance(0.5):
        author.write(pad, f"print({call}({items}))")
    else:
        author.write(pad, f"{names.claim(author, author.pick(names.SHORT), 'other')} = {call}({items})")


def show_several(author: Author, pad: str) -> None:
    """Print what there is, one line each."""
    scope = author.scope
    found = [*scope.numbers[-3:], *scope.texts[-2:], *scope.flags[-1:]]
    for name in found or [data.set_number(author, pad)]:
        author.write(pad, expressions.show(author, name))


def measure_string(author: Author, pad: str) -> None:
    """A number made from a string."""
    text = data.some_text(author, pad)
    draw = author.random()
    value = (
        f"len({literals.string(author)})"
        if draw < 0.4
        else f"len({text})"
        if draw < 0.6
        else f"{text}.count({author.quote(author.pick('aeiorst'))})"
        if draw < 0.8
        else f"{text}.find({literals.word(author)})"
    )
    name = names.claim(author, author.pick(("length", "size", "count", "n", "position")), "number")
    author.write(pad, f"{name} = {value}", expressions.show(author, name))


def change_string(author: Author, pad: str) -> None:
    """A string made from a string."""
    text = data.some_text(author, pad)
    name = text if text not in author.scope.frozen and author.chance(0.4) else names.text_name(author)[0]
    author.write(pad, f"{name} = {expressions.value(author, text, 'text')}")
    if author.chance(0.6):
        author.write(pad, expressions.show(author, name))
    if name != text:
        author.scope.texts.append(name)


def compute(author: Author, pad: str) -> None:
    """A number made from numbers."""
    scope = author.scope
    first = data.some_number(author, pad)
    others = [name for name in scope.numbers if name != first]
    if others and author.chance(0.6):
        value = f"{first} {author.pick('+-*')} {author.pick(others)}"
    else:
        value = expressions.value(author, first, "number")
    name = names.number_name(author)
    author.write(pad, f"{name} = {value}")
    if author.chance(0.6):
        author.write(pad, expressions.show(author, name))
    scope.numbers.append(name)


def join(author: Author, pad: str) -> None:
    """Join a list of strings, or split one."""
    if author.chance(0.6):
        items, _ = data.some_words(author, pad)
        name = names.claim(author, author.pick(("line", "text", "joined", "row_text")), "text")
        author.write(pad, f"{name} = {author.quote(author.pick((', ', ' ', '-', '/', ',')))}.join({items})")
    else:
        text = data.some_text(author, pad)
        name = names.claim(author, author.pick(("parts", "pieces", "fields")), "other")
        separator = author.quote(author.pick((" ", ",", "-"))) if author.chance(0.6) else ""
        author.write(
            pad,
            f"{name} = {text}.split({separator})",
        )
    author.write(pad, expressions.show(author, name))


def look_inside(author: Author, pad: str) -> None:
    """Index and slice lists and rows."""
    if author.chance(0.5):
        items, element = data.some_list(author, pad) if author.chance(0.5) else data.some_words(author, pad)
        value = author.pick((f"{items}[0]", f"{items}[-1]", f"{items}[:2]", f"{items}[1:]", f"{items}[::-1]"))
    else:
        items, _, element = data.some_rows(author, pad)
        value = author.pick(
            (
                f"{items}[0][0]",
                f"{items}[-1][-1]",
                f"{items}[0]",
                f"len({items}[0])",
                f"{items}[len({items}) - 1][0]",
            )
        )
    name = names.claim(author, author.pick((f"first_{element}", f"last_{element}", "first", "last", "part")), "other")
    if author.chance(0.5):
        author.write(pad, f"{name} = {value}", expressions.show(author, name))
    else:
        author.write(pad, f"print({value})")


def swap(author: Author, pad: str) -> None:
    """Swap two numbers, or rotate three."""
    scope = author.scope
    while len(scope.numbers) < 2:
        data.set_number(author, pad)
    first = author.pick(scope.numbers)
    second, *others = [name for name in scope.numbers if name != first]
    if others and author.chance(0.2):
        author.write(pad, f"{first}, {second}, {others[0]} = {second}, {others[0]}, {first}")
    else:
        author.write(pad, f"{first}, {second} = {second}, {first}")
    if author.chance(0.7):
        author.write(pad, f"print({first}, {second})")


def shift(author: Author, pad: str) -> None:
    """Hand one value on: a, b = b, a + b."""
    first = data.set_number(author, pad)
    second = data.set_number(author, pad)
    value = author.pick((f"{first} + {second}", f"{first} - {second}", f"{first} * 2", literals.number(author)))
    author.write(pad, f"{first}, {second} = {second}, {value}", f"print({first}, {second})")


ARGUMENTS: dict[str, Callable[[Author], str]] = {
    "number": lambda a: a.pick(a.scope.numbers) if a.scope.numbers and a.chance(0.4) else literals.number(a),
    "count": lambda a: str(a.between(1, 9)),
    "text": lambda a: a.pick(a.scope.texts) if a.scope.texts and a.chance(0.3) else literals.word(a),
    "word": literals.word,
    "flag": lambda a: a.pick(("True", "False")),
    "list": lambda a: (
        a.pick(a.scope.lists)[0] if a.scope.lists and a.chance(0.5) else literals.row_of(literals.numbers(a, 1, 5))
    ),
    "words": lambda a: (
        a.pick(a.scope.words)[0] if a.scope.words and a.chance(0.5) else literals.row_of(literals.words(a, "", 1, 4))
    ),
    "own_list": lambda a: literals.row_of(literals.numbers(a, 1, 5)),
    "own_words": lambda a: literals.row_of(literals.words(a, "", 1, 4)),
    "own_rows": lambda a: literals.row_of(literals.row_items(a, 1, 3)),
    "rows": lambda a: (
        a.pick(a.scope.rows)[0] if a.scope.rows and a.chance(0.4) else literals.row_of(literals.row_items(a, 1, 3))
    ),
}


def call(author: Author, function: Function) -> str:
    """A call of a function the program has defined."""
    return f"{function.name}({', '.join(ARGUMENTS[kind](author) for kind in function.arguments)})"


def call_function(author: Author, pad: str) -> None:
    """Use one of the program's own functions, or compute something when there is none."""
    if not author.functions:
        compute(author, pad)
        return
    function = author.pick(author.functions)
    written = call(author, function)
    draw = author.random()
    if function.result == "none":
        author.write(pad, written)
    elif function.result == "flag" and draw < 0.5:
        author.write(pad, f"if {written}:", f"    {actions.action(author)}")
    elif draw < 0.5 or len(written) > 60:
        author.write(pad, f"print({written})")
    else:
        kind = function.result
        name = names.claim(author, author.pick(("result", "answer", "value", "output")), kind)
        author.write(pad, f"{name} = {written}", expressions.show(author, name))
