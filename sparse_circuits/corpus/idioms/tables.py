"""Dictionaries: literals, look-ups, loops over keys and items, records, and lists of records."""

from sparse_circuits.corpus.idioms import actions, data, expressions, literals, names
from sparse_circuits.corpus.idioms.author import INDENT, Author


def entries(author: Author, key: str, low: int, high: int) -> list[str]:
    """Entries from a string to a number."""
    return [f"{word}: {literals.number(author)}" for word in literals.words(author, key, low, high)]


def set_table(author: Author, pad: str) -> tuple[str, str, str]:
    """Set a dictionary of numbers and return its name, a key's and a value's."""
    name, key, value = names.table_name(author)
    items = entries(author, key, 1, 5)
    if len(items) > 1 and author.chance(0.35):
        author.write(pad, f"{name} = {{", *[f"{INDENT}{item}," for item in items], "}")
    else:
        author.write(pad, *literals.bracketed(author, pad, f"{name} = ", items, marks="{}"))
    author.scope.tables.append((name, key, value))
    return name, key, value


def some_table(author: Author, pad: str) -> tuple[str, str, str]:
    scope = author.scope
    return author.pick(scope.tables) if scope.tables and author.chance(0.6) else set_table(author, pad)


def for_items(author: Author, pad: str) -> None:
    """Loop over keys, values, or both."""
    table, key, value = some_table(author, pad)
    key = names.loop_name(author, key, "text")
    value = names.loop_name(author, value, "number")
    draw = author.random()
    if draw < 0.55:
        author.write(pad, f"for {key}, {value} in {table}.items():")
        shown = author.random()
        if shown < 0.4:
            author.write(pad + INDENT, f"print({key}, {value})")
        elif shown < 0.7:
            author.write(pad + INDENT, f"print(f{author.quote(f'{{{key}}}: {{{value}}}')})")
        else:
            author.write(pad + INDENT, f"if {expressions.condition(author, value, 'number')}:")
            author.write(pad + INDENT * 2, author.pick((actions.call_with_string(author), f"print({key})")))
    elif draw < 0.8:
        author.write(pad, f"for {key} in {table}:", f"{INDENT}print({key}, {table}[{key}])")
    else:
        author.write(pad, f"for {value} in {table}.values():", INDENT + expressions.show(author, value))


def look_up(author: Author, pad: str) -> None:
    """Set, read and test one key."""
    table, key, value = some_table(author, pad)
    word = literals.example(author, key)
    draw = author.random()
    if draw < 0.35:
        author.write(pad, f"{table}[{author.quote(word)}] = {literals.number(author)}")
        if author.chance(0.6):
            author.write(pad, f"print({table}[{author.quote(word)}])")
    elif draw < 0.6:
        author.write(pad, f"if {author.quote(word)} in {table}:", INDENT + actions.action(author))
        if author.chance(0.4):
            author.write(pad, "else:", INDENT + actions.action(author))
    elif draw < 0.8:
        default = f", {literals.number(author)}" if author.chance(0.6) else ""
        name = names.claim(author, value, "number" if default else "other")
        author.write(pad, f"{name} = {table}.get({author.quote(word)}{default})", expressions.show(author, name))
    else:
        author.write(pad, f"print(len({table}))" if author.chance(0.5) else f"print(sum({table}.values()))")


def record_entries(author: Author) -> list[tuple[str, str]]:
    """What a record holds: (key without quotes, value)."""
    theme = author.theme
    found: dict[str, str] = {}
    for _ in range(author.between(2, 4)):
        if author.chance(0.55):
            label = author.pick(theme.labels)
            found[label] = literals.word(author, label)
        else:
            found[author.pick(theme.measures)] = literals.number(author)
    if author.chance(0.2):
        found[author.pick(("tags", "notes", "marks", "history"))] = (
            literals.row_of(literals.numbers(author, 1, 3))
            if author.chance(0.5)
            else literals.row_of(literals.words(author, "", 1, 3))
        )
    return list(found.items())


def record(author: Author, pad: str) -> None:
    """A record of one thing, read and changed by key."""
    name = names.claim(author, author.pick(author.theme.things), "record")
    found = record_entries(author)
    items = [f"{author.quote(key)}: {value}" for key, value in found]
    draw = author.random()
    if draw < 0.5:
        author.write(pad, f"{name} = {{", *[f"{INDENT}{item}," for item in items], "}")
    elif draw < 0.75:
        author.write(pad, *literals.bracketed(author, pad, f"{name} = ", items, marks="{}"))
    else:
        pairs = [f"{key}={value}" for key, value in found]
        author.write(pad, *literals.bracketed(author, pad, f"{name} = dict", pairs, marks="()"))
    for _ in range(author.between(0, 2)):
        author.write(pad, f"print({name}[{author.quote(author.pick(found)[0])}])")
    if author.chance(0.4):
        label = author.pick(author.theme.labels)
        author.write(pad, f"{name}[{author.quote(label)}] = {literals.word(author, label)}")


def records(author: Author, pad: str) -> None:
    """A list of records with the same keys, and a loop over them."""
    theme = author.theme
    thing = author.pick(theme.things)
    name = names.claim(author, author.pick((f"{thing}_list", f"{thing}_records", "records")), "records")
    label, measure = author.pick(theme.labels), author.pick(theme.measures)
    found = [
        f"{{{author.quote(label)}: {literals.word(author, label)}, {author.quote(measure)}: {literals.number(author)}}}"
        for _ in range(author.between(1, 4))
    ]
    author.write(pad, *literals.bracketed(author, pad, f"{name} = ", found))
    x = names.loop_name(author, thing, "record")
    draw = author.random()
    if draw < 0.5:
        author.write(pad, f"for {x} in {name}:", f"{INDENT}print({x}[{author.quote(label)}])")
    elif draw < 0.8:
        author.write(
            pad,
            f"for {x} in {name}:",
            f"{INDENT}if {x}[{author.quote(measure)}] > {literals.number(author)}:",
        )
        author.write(pad + INDENT * 2, f"print({x}[{author.quote(label)}])")
    else:
        total = names.claim(author, f"total_{measure}", "number")
        author.write(pad, f"{total} = 0", f"for {x} in {name}:", f"{INDENT}{total} += {x}[{author.quote(measure)}]")
        author.write(pad, expressions.show(author, total))


def lists_by_key(author: Author, pad: str) -> None:
    """A dictionary of lists."""
    thing, label = author.pick(author.theme.things), author.pick(author.theme.labels)
    name = names.claim(author, f"{thing}_by_{label}", "lists")
    keys = literals.words(author, label, 1, 3)
    rows = [f"{key}: {literals.row_of(literals.numbers(author, 1, 4))}" for key in keys]
    author.write(pad, *literals.bracketed(author, pad, f"{name} = ", rows, marks="{}"))
    key = names.loop_name(author, label, "text")
    draw = author.random()
    if draw < 0.5:
        author.write(pad, f"for {key} in {name}:", f"{INDENT}print({key}, {name}[{key}])")
    elif draw < 0.8:
        author.write(pad, f"{name}[{literals.word(author, label)}] = {literals.row_of(literals.numbers(author, 1, 3))}")
    else:
        author.write(pad, f"print({name}[{keys[0]}])")


def branch_on_key(author: Author, pad: str) -> None:
    """A dictionary as a choice of what to say."""
    label = author.pick(author.theme.labels)
    name = names.claim(author, author.pick((f"{label}_messages", "answers", "replies", "notes_by_key")), "texts")
    words = literals.words(author, label, 2, 4)
    author.write(pad, f"{name} = {{", *[f"{INDENT}{word}: {literals.string(author)}," for word in words], "}")
    key = data.some_text(author, pad) if author.chance(0.3) else literals.word(author, label)
    author.write(pad, f"print({name}.get({key}, {literals.string(author)}))")
