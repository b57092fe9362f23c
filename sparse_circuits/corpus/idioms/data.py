"""Statements that set variables to literals, and `some_*`: a variable of a kind, in scope or set now."""

from sparse_circuits.corpus.idioms import expressions, literals, names
from sparse_circuits.corpus.idioms.author import Author


def set_number(author: Author, pad: str) -> str:
    """Set a number and return its name."""
    value = literals.number(author)
    name = names.number_name(author)
    author.write(pad, f"{name} = {value}")
    author.scope.numbers.append(name)
    return name


def set_numbers(author: Author, pad: str) -> None:
    """One to four numbers in a row, perhaps printed."""
    found = [set_number(author, pad) for _ in range(author.between(1, 4))]
    if author.chance(0.4):
        author.write(pad, expressions.show(author, found[-1]) if author.chance(0.6) else f"print({', '.join(found)})")


def set_text(author: Author, pad: str) -> tuple[str, str]:
    """Set a string and return its name and label."""
    name, label = names.text_name(author)
    author.write(pad, f"{name} = {literals.word(author, label) if author.chance(0.6) else literals.string(author)}")
    author.scope.texts.append(name)
    return name, label


def set_texts(author: Author, pad: str) -> None:
    """One to three strings in a row, perhaps printed."""
    found = [set_text(author, pad)[0] for _ in range(author.between(1, 3))]
    if author.chance(0.5):
        author.write(pad, expressions.show(author, found[-1]) if author.chance(0.6) else f"print({', '.join(found)})")


def set_flag(author: Author, pad: str) -> str:
    """Set a flag, from a literal or a comparison, and return its name."""
    scope = author.scope
    if scope.numbers and author.chance(0.3):
        value = f"{author.pick(scope.numbers)} {author.pick(('==', '>', '<', '!='))} {literals.number(author)}"
    else:
        value = author.pick(("True", "False"))
    name = names.flag_name(author)
    author.write(pad, f"{name} = {value}")
    scope.flags.append(name)
    return name


def set_list(author: Author, pad: str) -> tuple[str, str]:
    """Set a list of numbers and return its name and an element's."""
    scope = author.scope
    items = literals.numbers(author, 1, 8)
    if scope.numbers and author.chance(0.25):
        items = [author.pick(scope.numbers) if author.chance(0.7) else item for item in items[:4]]
    name, element = names.list_name(author)
    author.write(pad, *literals.bracketed(author, pad, f"{name} = ", items))
    scope.lists.append((name, element))
    return name, element


def set_words(author: Author, pad: str) -> tuple[str, str]:
    """Set a list of strings and return its name and an element's."""
    name, element = names.words_name(author)
    items = literals.words(author, element, 1, 6)
    if author.chance(0.06) and all(item[1:-1].isalpha() for item in items):
        author.write(pad, f"{name} = {author.quote(' '.join(item[1:-1] for item in items))}.split()")
    else:
        author.write(pad, *literals.bracketed(author, pad, f"{name} = ", items))
    author.scope.words.append((name, element))
    return name, element


def set_rows(author: Author, pad: str) -> tuple[str, str, str]:
    """Set a list of lists of numbers and return its name, a row's and an element's."""
    scope = author.scope
    items = literals.row_items(author)
    if len(scope.numbers) > 1 and author.chance(0.25):
        items = [
            literals.row_of([author.pick(scope.numbers) for _ in range(author.between(1, 3))])
            for _ in range(author.between(1, 3))
        ]
    name, row, cell = names.rows_name(author)
    author.write(pad, *literals.bracketed(author, pad, f"{name} = ", items))
    scope.rows.append((name, row, cell))
    return name, row, cell


def set_word_rows(author: Author, pad: str) -> None:
    """A list of lists of strings, printed or taken apart."""
    label = author.pick((*author.theme.labels, "", ""))
    name, row, _ = names.rows_name(author)
    author.scope.used[name] = "other"
    author.write(pad, *literals.bracketed(author, pad, f"{name} = ", literals.word_rows(author, label)))
    if author.chance(0.5):
        row = names.loop_name(author, row, "words")
        author.write(pad, f"for {row} in {name}:", f"    {expressions.show(author, row)}")


def set_mixed(author: Author, pad: str) -> None:
    """Strings, numbers and variables side by side: in one flat list, or in rows of the same make."""
    scope = author.scope
    label = literals.briefly(author.pick((*author.theme.labels, "")))
    make = author.pick(MIXTURES)
    known = [*scope.numbers[-3:], *scope.texts[-2:]]

    def element(kind: str) -> str:
        if kind == "s":
            return literals.word(author, label)
        return author.pick(known) if kind == "v" and known else literals.number(author)

    rows = [[element(kind) for kind in make] for _ in range(author.between(1, 4))]
    nested = author.random() < 0.5
    if nested:
        name, row, _ = names.rows_name(author)
        items = [literals.row_of(row) for row in rows]
    else:
        name, row = names.chosen(author, names.propose_words, "other")
        items = [item for row in rows for item in row]
    scope.used[name] = "other"
    author.write(pad, *literals.bracketed(author, pad, f"{name} = ", items))
    draw = author.random()
    if draw < 0.3:
        row = names.loop_name(author, row, "other")
        author.write(pad, f"for {row} in {name}:", f"    {expressions.show(author, row)}")
    elif draw < 0.6:
        author.write(pad, f"print({author.pick((name, f'len({name})', f'{name}[0]'))})")


MIXTURES = ("sn", "sn", "ns", "vn", "sv", "vv", "vv", "snn", "svn", "nv", "ss", "ssn", "v", "vvv")
"""What the rows of a mixed list are made of: s a string, n a number, v a variable."""


def set_cube(author: Author, pad: str) -> None:
    """A list of lists of lists."""
    name = names.claim(
        author, author.pick(("cube", "layers", "boxes", "blocks", "data", "x", "space", "levels")), "other"
    )
    author.write(pad, *literals.bracketed(author, pad, f"{name} = ", literals.cube_items(author)))
    if author.chance(0.5):
        author.write(
            pad,
            expressions.show(author, author.pick((name, f"{name}[0]", f"len({name})")))
            if author.chance(0.3)
            else f"print({name}[0][0])",
        )


def set_ragged(author: Author, pad: str) -> None:
    """A list of numbers and lists of numbers."""
    name = names.claim(
        author, author.pick(("tree", "nested", "data", "x", "values", "mixed", "items", "result")), "other"
    )
    author.write(pad, *literals.bracketed(author, pad, f"{name} = ", literals.ragged_items(author)))
    if author.chance(0.4):
        author.write(pad, f"print(len({name}))" if author.chance(0.5) else expressions.show(author, name))


def set_empty(author: Author, pad: str) -> None:
    """Things to be grown: an empty set and an added element, or an empty string and what is appended."""
    if author.chance(0.5):
        name = names.claim(author, author.pick(names.GROWN), "set")
        author.write(pad, f"{name} = set()")
        for _ in range(author.between(1, 3)):
            author.write(pad, f"{name}.add({literals.word(author) if author.chance(0.7) else literals.number(author)})")
    else:
        name = names.claim(author, author.pick(names.GROWN), "text")
        author.write(pad, f"{name} = {author.quote('')}")
        for _ in range(author.between(1, 3)):
            author.write(pad, f"{name} += {literals.string(author)}")
    if author.chance(0.6):
        author.write(pad, expressions.show(author, name))


def set_points(author: Author, pad: str) -> None:
    """A list of pairs, and a loop that takes them apart."""
    name = names.claim(author, author.pick(("points", "pairs", "moves", "corners", "edges")), "points")
    count = author.between(1, 4)
    marks = "()" if author.chance(0.5) else "[]"
    items = [f"{marks[0]}{literals.number(author)}, {literals.number(author)}{marks[1]}" for _ in range(count)]
    author.write(pad, *literals.bracketed(author, pad, f"{name} = ", items))
    first, second = author.pick((("x", "y"), ("a", "b"), ("row", "column"), ("left", "right"), ("start", "end")))
    first = names.loop_name(author, first, "number")
    second = names.loop_name(author, second, "number")
    shown = author.pick((f"{first} + {second}", f"{first}, {second}", f"{first} * {second}", f"{second}, {first}"))
    author.write(pad, f"for {first}, {second} in {name}:", f"    print({shown})")


def set_tuple(author: Author, pad: str) -> None:
    """Several variables set at once."""
    count = author.between(2, 3)
    if author.chance(0.6):
        found = [names.number_name(author) for _ in range(count)]
        author.write(pad, f"{', '.join(found)} = {', '.join(literals.numbers(author, count, count))}")
        author.scope.numbers += found
    else:
        pairs = [names.text_name(author) for _ in range(count)]
        values = [literals.word(author, label) for _, label in pairs]
        author.write(pad, f"{', '.join(name for name, _ in pairs)} = {', '.join(values)}")
        author.scope.texts += [name for name, _ in pairs]


def some_list(author: Author, pad: str) -> tuple[str, str]:
    """A list of numbers: one in scope, or a new one."""
    scope = author.scope
    return author.pick(scope.lists) if scope.lists and author.chance(0.6) else set_list(author, pad)


def some_words(author: Author, pad: str) -> tuple[str, str]:
    """A list of strings: one in scope, or a new one."""
    scope = author.scope
    return author.pick(scope.words) if scope.words and author.chance(0.6) else set_words(author, pad)


def some_rows(author: Author, pad: str) -> tuple[str, str, str]:
    """A list of rows: one in scope, or a new one."""
    scope = author.scope
    return author.pick(scope.rows) if scope.rows and author.chance(0.6) else set_rows(author, pad)


def some_number(author: Author, pad: str) -> str:
    """A number: one in scope, or a new one."""
    scope = author.scope
    return author.pick(scope.numbers) if scope.numbers and author.chance(0.7) else set_number(author, pad)


def some_text(author: Author, pad: str) -> str:
    """A string: one in scope, or a new one."""
    scope = author.scope
    return author.pick(scope.texts) if scope.texts and author.chance(0.7) else set_text(author, pad)[0]


def some_flag(author: Author, pad: str) -> str:
    """A flag: one in scope, or a new one."""
    scope = author.scope
    return author.pick(scope.flags) if scope.flags and author.chance(0.6) else set_flag(author, pad)
