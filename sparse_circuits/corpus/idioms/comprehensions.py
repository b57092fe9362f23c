"""Comprehensions, lambdas, and built-in functions over whole collections."""

from sparse_circuits.corpus.idioms import data, expressions, literals, names
from sparse_circuits.corpus.idioms.author import Author
from sparse_circuits.corpus.idioms.loops import source
from sparse_circuits.corpus.idioms.tables import some_table
from sparse_circuits.corpus.idioms.words import plural, split

LAMBDAS = split("double add square change key_of test step_up shorten rate_of combine scale check first_of compute")


def comprehension(author: Author, pad: str) -> None:
    """A list, set or dictionary made of a list."""
    items, element, kind = source(author, pad)
    x = names.loop_name(author, author.pick((element, element, "x")) if len(element) < 12 else "x", kind)
    value = x if author.chance(0.4) else expressions.value(author, x, kind)
    test = f" if {expressions.condition(author, x, kind)}" if value == x or author.chance(0.3) else ""
    draw = author.random()
    if draw < 0.65:
        made = f"[{value} for {x} in {items}{test}]"
    elif draw < 0.8:
        made = f"{{{value} for {x} in {items}{test}}}"
    else:
        made = f"{{{x}: {value} for {x} in {items}{test}}}"
    other = f"new_{plural(element)}" if len(element) < 12 else "made"
    name = names.claim(author, author.pick(("result", other, "kept", "found")), "other")
    author.write(pad, f"{name} = {made}")
    if author.chance(0.7):
        author.write(pad, expressions.show(author, name))


def comprehend_rows(author: Author, pad: str) -> None:
    """Rows made by a comprehension, or a list of rows made flat."""
    draw = author.random()
    if draw < 0.5:
        name, _, _ = names.rows_name(author)
        author.scope.used[name] = "other"
        height, width = author.between(2, 5), author.between(2, 5)
        cell = author.pick(("0", "x", "x * y", "1", "x + y", author.quote("."), author.quote(" ")))
        author.write(pad, f"{name} = [[{cell} for x in range({width})] for y in range({height})]", f"print({name})")
    else:
        rows, row, cell = data.some_rows(author, pad)
        row = names.loop_name(author, row, "list")
        name = names.claim(author, author.pick(("flat", "cells", "sums", "sizes")), "other")
        made = (
            f"[{author.pick((f'sum({row})', f'len({row})', f'{row}[0]'))} for {row} in {rows}]"
            if author.chance(0.5)
            else f"[{cell} for {row} in {rows} for {cell} in {row}]"
        )
        author.write(pad, f"{name} = {made}", expressions.show(author, name))


def summary(author: Author, pad: str) -> None:
    """sum, max, len, any and the like of a list."""
    items, element, kind = source(author, pad)
    x = names.loop_name(author, author.pick((element, "x")), kind)
    if kind == "number":
        value = author.pick(
            (
                f"sum({items})",
                f"max({items})",
                f"min({items})",
                f"len({items})",
                f"sum({items}) / len({items})",
                f"sum({x} for {x} in {items})",
                f"any({x} > {literals.number(author)} for {x} in {items})",
            )
        )
    else:
        value = author.pick(
            (
                f"len({items})",
                f"max({items}, key=len)",
                f"sorted({items})[0]",
                f"sum(len({x}) for {x} in {items})",
                f"any({x} == {literals.word(author, element)} for {x} in {items})",
            )
        )
    name = names.claim(author, author.pick(("total", "best", "result", "size", f"{element}_total")), "other")
    if author.chance(0.6):
        author.write(pad, f"{name} = {value}", expressions.show(author, name))
    else:
        author.write(pad, f"print({value})")


def lambda_line(author: Author, pad: str) -> None:
    """A lambda with a name, and a call of it."""
    name = names.claim(author, author.pick(("f", "g", *LAMBDAS)), "lambda")
    if author.chance(0.6):
        x = author.pick(("x", "n", author.pick(author.theme.measures)))
        if author.chance(0.3):
            y = "y" if x != "y" else "z"
            author.write(pad, f"{name} = lambda {x}, {y}: {x} {author.pick('+-*')} {y}")
            call = f"{name}({literals.number(author)}, {literals.number(author)})"
        else:
            author.write(pad, f"{name} = lambda {x}: {expressions.value(author, x, 'number')}")
            call = f"{name}({literals.number(author)})"
    else:
        x = author.pick(("s", "text", author.pick(author.theme.labels)))
        author.write(pad, f"{name} = lambda {x}: {expressions.value(author, x, 'text')}")
        call = f"{name}({literals.word(author, x)})"
    author.write(pad, f"print({call})")


def by_key(author: Author, pad: str) -> None:
    """Sort, map or filter with a lambda."""
    items, _, kind = source(author, pad)
    x = author.pick(("x", "n", "item")) if kind == "number" else author.pick(("s", "w", "word"))
    name = names.claim(author, author.pick(("ordered", "ranked", "result", "chosen")), "other")
    draw = author.random()
    if draw < 0.4:
        key = author.pick((f"-{x}", f"{x} % {author.between(2, 9)}")) if kind == "number" else f"len({x})"
        author.write(pad, f"{name} = sorted({items}, key=lambda {x}: {key})")
    elif draw < 0.7:
        author.write(pad, f"{name} = list(map(lambda {x}: {expressions.value(author, x, kind)}, {items}))")
    else:
        author.write(pad, f"{name} = list(filter(lambda {x}: {expressions.condition(author, x, kind)}, {items}))")
    author.write(pad, f"print({name})")


def best_key(author: Author, pad: str) -> None:
    """The largest entry of a dictionary, or the dictionary turned round."""
    table, key, value = some_table(author, pad)
    draw = author.random()
    if draw < 0.4:
        name = names.claim(author, author.pick((f"best_{key}", "best", "winner")), "text")
        author.write(
            pad,
            f"{name} = {author.pick(('max', 'min'))}({table}, key={table}.get)",
            expressions.show(author, name),
        )
    elif draw < 0.7:
        name = names.claim(author, author.pick((f"{key}_by_{value}", "turned", "by_value")), "other")
        author.write(pad, f"{name} = {{v: k for k, v in {table}.items()}}", f"print({name})")
    else:
        name = names.claim(author, author.pick(("large", "small", "kept")), "other")
        test = expressions.condition(author, "v", "number")
        author.write(pad, f"{name} = {{k: v for k, v in {table}.items() if {test}}}", f"print(len({name}))")


def sort_in_place(author: Author, pad: str) -> None:
    """Sort or reverse a list."""
    items, _, _ = source(author, pad)
    if items in author.scope.frozen:
        return
    author.write(pad, f"{items}.{author.pick(('sort()', 'sort(reverse=True)', 'reverse()'))}", f"print({items})")
