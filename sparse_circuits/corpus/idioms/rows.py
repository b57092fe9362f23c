"""Nested lists at work: loops over rows, over the elements of rows, and over lists of lists to be drained."""

from sparse_circuits.corpus.idioms import actions, bodies, data, expressions, literals, names
from sparse_circuits.corpus.idioms.author import INDENT, Author
from sparse_circuits.corpus.idioms.loops import Loop


def for_row(author: Author, pad: str) -> None:
    """Something about every row as a whole."""
    rows, row, _ = data.some_rows(author, pad)
    row = names.loop_name(author, row, "list")
    value = author.pick((row, f"sum({row})", f"len({row})", f"max({row})", f"{row}[0]", f"{row}[-1]", f"sorted({row})"))
    draw = author.random()
    author.comment(pad, f"go through the {expressions.spoken(rows)}")
    if draw < 0.2:
        i = names.loop_name(author, "i", "index")
        author.write(pad, f"for {i}, {row} in enumerate({rows}):", f"{INDENT}print({i}, {value})")
    elif draw < 0.4:
        total = names.claim(author, author.pick(("total", "count", "size")), "number")
        author.write(pad, f"{total} = 0", f"for {row} in {rows}:")
        author.write(pad + INDENT, f"{total} += {author.pick((f'len({row})', f'sum({row})', f'{row}[0]'))}")
        author.write(pad, expressions.show(author, total))
    elif draw < 0.55:
        author.write(
            pad,
            f"for {row} in {rows}:",
            f"{INDENT}if {row} == {literals.row_of(literals.numbers(author, 1, 3))}:",
        )
        author.write(pad + INDENT * 2, actions.call_with_string(author))
    elif draw < 0.65:
        found = names.claim(author, author.pick(("sizes", "sums", "firsts", "result")), "other")
        author.write(
            pad,
            f"{found} = []",
            f"for {row} in {rows}:",
            f"{INDENT}{found}.append({value})",
            f"print({found})",
        )
    else:
        author.write(pad, f"for {row} in {rows}:")
        if author.chance(0.3):
            author.write(pad + INDENT, actions.call_with_string(author))
        author.write(pad + INDENT, f"print({value})")


def for_cell(author: Author, pad: str) -> None:
    """Some work on every element of every row."""
    rows, row, cell = data.some_rows(author, pad)
    row = names.loop_name(author, row, "list")
    author.scope.frozen.append(row)
    x = names.loop_name(author, cell, "number")
    loop = Loop(author, pad, x, "number", rows, row)
    author.scope.frozen.pop()
    body = [f"for {x} in {row}:", *[INDENT + line for line in loop.work.body]]
    if author.chance(0.2):
        body.append(author.pick(("print()", f"print({author.quote('---')})")))
    loop.work.body[:] = body
    loop.write(f"for {row} in {rows}:")


def for_cell_index(author: Author, pad: str) -> None:
    """Every element by its two indices."""
    rows, _, _ = data.some_rows(author, pad)
    i = names.loop_name(author, author.pick(("i", "y", "row_index")), "index")
    author.scope.frozen.append(i)
    j = names.loop_name(author, author.pick(("j", "column", "column_index")), "index")
    author.scope.frozen.pop()
    cell = f"{rows}[{i}][{j}]"
    head = (f"for {i} in range(len({rows})):", f"{INDENT}for {j} in range(len({rows}[{i}])):")
    draw = author.random()
    if draw < 0.4:
        total = names.claim(author, "total", "number")
        author.write(pad, f"{total} = 0", *head, f"{INDENT}{INDENT}{total} += {cell}", f"print({total})")
    elif draw < 0.7:
        author.write(pad, *head, f"{INDENT}{INDENT}print({author.pick((cell, f'{i}, {j}, {cell}'))})")
    else:
        author.write(pad, *head, f"{INDENT}{INDENT}if {cell} == {literals.number(author)}:")
        author.write(pad + INDENT * 3, actions.call_with_string(author))


def drain_rows(author: Author, pad: str) -> None:
    """A `while` inside a `for`: every row is emptied. The rows are made for it and not read again."""
    rows, row, cell = data.set_rows(author, pad)
    author.scope.rows.pop()
    author.scope.used[rows] = "drained"
    row = names.loop_name(author, row, "list")
    pop = f"{row}.{author.pick(('pop()', 'pop(0)'))}"
    author.write(pad, f"for {row} in {rows}:", f"{INDENT}while {row}:")
    inner = pad + INDENT * 2
    if author.chance(0.5):
        author.write(inner, f"print({pop})")
        return
    author.scope.frozen.append(row)
    x = names.loop_name(author, cell, "number")
    author.scope.frozen.append(x)
    author.write(inner, f"{x} = {pop}", *bodies.show(author, x, "number").body)
    del author.scope.frozen[-2:]


def while_rows(author: Author, pad: str) -> None:
    """Take rows off a list of rows until it is empty."""
    rows, row, cell = data.set_rows(author, pad)
    author.scope.rows.pop()
    author.scope.used[rows] = "drained"
    row = names.loop_name(author, row, "list")
    author.write(pad, f"while {rows}:", f"{INDENT}{row} = {rows}.{author.pick(('pop()', 'pop(0)'))}")
    draw = author.random()
    inner = pad + INDENT
    if draw < 0.4:
        author.write(inner, f"print({author.pick((row, f'sum({row})', f'len({row})'))})")
    else:
        author.scope.frozen.append(row)
        x = names.loop_name(author, cell, "number")
        author.scope.frozen.pop()
        author.write(inner, f"for {x} in {row}:", INDENT + expressions.show(author, x))


def for_group(author: Author, pad: str) -> None:
    """Lists of strings, one after the other."""
    items, element = names.chosen(author, names.propose_words, "other")
    name = names.claim(author, author.pick((f"{element}_groups", f"all_{items}", "groups", "lists")), "other")
    author.write(pad, *literals.bracketed(author, pad, f"{name} = ", literals.word_rows(author, element)))
    x = names.loop_name(author, element, "text")
    draw = author.random()
    if draw < 0.4:
        author.write(pad, f"for {items} in {name}:", f"{INDENT}for {x} in {items}:")
        author.write(pad + INDENT * 2, expressions.show(author, x))
    elif draw < 0.8:
        author.write(pad, f"for {items} in {name}:", f"{INDENT}while {items}:")
        author.write(pad + INDENT * 2, f"{x} = {items}.pop()", expressions.show(author, x))
    else:
        author.write(pad, f"for {items} in {name}:", f"{INDENT}{expressions.show(author, items)}")


def build_rows(author: Author, pad: str) -> None:
    """Rows built by a loop."""
    name, row, _ = names.rows_name(author)
    author.scope.used[name] = "other"
    row = names.loop_name(author, row, "list")
    i = names.loop_name(author, author.pick(("i", "y", "n")), "index")
    draw = author.random()
    count = author.between(2, 5)
    author.write(pad, f"{name} = []", f"for {i} in range({count}):")
    if draw < 0.5:
        author.write(pad + INDENT, f"{name}.append([{i}, {i} * {author.between(2, 9)}])")
    else:
        author.write(
            pad + INDENT,
            f"{row} = [{author.pick(('0', i, f'{i} + 1'))}] * {author.between(2, 4)}",
            f"{name}.append({row})",
        )
    author.write(pad, f"print({name})")


def nested_call(author: Author, pad: str) -> None:
    """A value found through an index that is itself in a list."""
    items, element = data.some_words(author, pad) if author.chance(0.5) else data.some_list(author, pad)
    order = names.claim(author, author.pick(("order_list", "places", "picks", "indices")), "indices")
    author.write(pad, f"{order} = [{', '.join('0' for _ in range(author.between(1, 4)))}]")
    if author.chance(0.5):
        author.write(pad, f"print({items}[{order}[0]])")
    else:
        name = names.claim(author, author.pick((f"first_{element}", "chosen", "picked")), "other")
        author.write(pad, f"{name} = {items}[{order}[-1]]", f"print({name})")
