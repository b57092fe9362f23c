"""Paragraphs: one to eight lines that set something up and use it."""

from collections.abc import Callable

from sparse_circuits.corpus.idioms import literals, names
from sparse_circuits.corpus.idioms.author import INDENT, Author


def say(author: Author, pad: str) -> None:
    author.write(pad, f"{author.pick(author.speakers)}({literals.string(author)})")


def assign_number(author: Author, pad: str) -> None:
    value = literals.number(author)
    name = names.number_name(author)
    author.write(pad, f"{name} = {value}")
    author.scope.numbers.append(name)


def assign_text(author: Author, pad: str) -> None:
    name = names.text_name(author)
    author.write(pad, f"{name} = {literals.string(author)}")
    author.scope.texts.append(name)


def assign_list(author: Author, pad: str) -> None:
    name, element = names.list_name(author)
    author.write(pad, *literals.bracketed(author, pad, f"{name} = ", literals.numbers(author, 1, 8)))
    author.scope.lists.append((name, element))


def assign_words(author: Author, pad: str) -> None:
    name, element = names.words_name(author)
    items = [literals.word(author) for _ in range(author.between(1, 5))]
    author.write(pad, *literals.bracketed(author, pad, f"{name} = ", items))
    author.scope.words.append((name, element))


def assign_rows(author: Author, pad: str) -> None:
    name, row, cell = names.rows_name(author)
    author.write(pad, *literals.bracketed(author, pad, f"{name} = ", literals.row_items(author)))
    author.scope.rows.append((name, row, cell))


def for_each(author: Author, pad: str) -> None:
    if not author.scope.words:
        assign_words(author, pad)
    items, element = author.pick(author.scope.words)
    name = names.loop_name(author, element, "text")
    author.write(pad, f"for {name} in {items}:")
    author.write(pad + INDENT, f"print({name})")


def while_count(author: Author, pad: str) -> None:
    name = names.number_name(author)
    author.write(pad, f"{name} = {literals.positive(author)}", f"while {name}:")
    author.write(pad + INDENT, f"print({name})", f"{name} -= 1")


def while_items(author: Author, pad: str) -> None:
    name, element = names.words_name(author)
    items = [literals.word(author) for _ in range(author.between(1, 5))]
    author.write(pad, *literals.bracketed(author, pad, f"{name} = ", items))
    element = names.loop_name(author, element, "text")
    author.write(pad, f"while {name}:", f"{INDENT}{element} = {name}.pop()", f"{INDENT}print({element})")


STATEMENTS: list[Callable[[Author, str], None]] = [
    say,
    say,
    assign_number,
    assign_text,
    assign_list,
    assign_words,
    assign_rows,
    assign_rows,
    for_each,
    while_count,
    while_items,
]
