"""Loops inside loops, in scripts and in functions, and what stands on each level after them."""

from sparse_circuits.corpus.idioms import actions, data, expressions, literals, names
from sparse_circuits.corpus.idioms.author import INDENT, Author
from sparse_circuits.corpus.idioms.choices import weighted
from sparse_circuits.corpus.idioms.definition import Definition
from sparse_circuits.corpus.idioms.words import plural

INDICES = (("i", "j", "k"), ("x", "y", "z"), ("row", "column", "layer"), ("a", "b", "c"), ("day", "hour", "minute"))


def header(author: Author, wanted: str, outer: list[str]) -> tuple[str, str, str]:
    """The `for` line of one level: the line, its variable and that variable's kind."""
    draw = author.random()
    if draw < 0.45:
        x = names.loop_name(author, wanted, "index")
        bounds = str(author.between(2, 9)) if not outer or author.chance(0.7) else author.pick(outer)
        if bounds == x or (outer and bounds in outer and not author.chance(0.5)):
            bounds = f"1, {author.between(3, 9)}"
        return f"for {x} in range({bounds}):", x, "number"
    if draw < 0.75:
        label = literals.briefly(author.pick(author.theme.labels)) or "word"
        x = names.loop_name(author, label, "text")
        return f"for {x} in [{', '.join(literals.words(author, label, 2, 4))}]:", x, "text"
    x = names.loop_name(author, author.pick(author.theme.measures), "number")
    return f"for {x} in [{', '.join(literals.numbers(author, 2, 4))}]:", x, "number"


def work(author: Author, variables: list[tuple[str, str]]) -> list[str]:
    """The body of the innermost loop."""
    shown = [name for name, _ in variables]
    draw = author.random()
    x, kind = variables[-1]
    if draw < 0.35:
        return [f"print({', '.join(shown)})"]
    if draw < 0.55:
        text = author.pick((" ", "-", ", ")).join(f"{{{name}}}" for name in shown)
        return [f"print(f{author.quote(text)})"]
    if draw < 0.75:
        first, first_kind = variables[0]
        if first_kind == kind and first != x:
            return [f"if {first} {author.pick(('==', '!=', '<'))} {x}:", INDENT + actions.call_with_string(author)]
        return [f"if {expressions.condition(author, x, kind)}:", INDENT + expressions.show(author, first)]
    return [actions.call_with_string(author), expressions.show(author, x)]


def nest(author: Author, pad: str, depth: int) -> None:
    """`depth` loops, one in another; after some of them a line on the level of their body."""
    scope = author.scope
    before = len(scope.frozen)
    variables: list[tuple[str, str]] = []
    triple = author.pick(INDICES)
    closing: list[tuple[str, str]] = []
    for level in range(depth):
        line, x, kind = header(author, triple[level], [name for name, kind in variables if kind == "number"])
        author.write(pad + INDENT * level, line)
        scope.frozen.append(x)
        variables.append((x, kind))
        if level < depth - 1:
            if author.chance(0.2):
                author.write(pad + INDENT * (level + 1), actions.call_with_string(author))
            if author.chance(0.3):
                closing.append((pad + INDENT * (level + 1), author.pick(("print()", expressions.show(author, x)))))
    author.write(pad + INDENT * depth, *work(author, variables))
    for deeper, line in reversed(closing):
        author.write(deeper, line)
    del scope.frozen[before:]


def two_loops(author: Author, pad: str) -> None:
    nest(author, pad, 2)


def three_loops(author: Author, pad: str) -> None:
    nest(author, pad, 3)


def fill_grid(author: Author, pad: str) -> None:
    """A list of rows built by two loops."""
    name, row, _ = names.rows_name(author)
    author.scope.used[name] = "other"
    row = names.loop_name(author, row if row != name else "row", "list")
    author.scope.frozen.append(row)
    i, j, _ = author.pick(INDICES[:2])
    i, j = names.loop_name(author, i, "index"), names.loop_name(author, j, "index")
    if i == j:
        j = names.claim(author, f"{i}_2", "index")
    author.scope.frozen.pop()
    author.write(pad, f"{name} = []", f"for {i} in range({author.between(2, 5)}):", f"{INDENT}{row} = []")
    author.write(pad + INDENT, f"for {j} in range({author.between(2, 5)}):")
    cell = author.pick((f"{i} * {j}", f"{i} + {j}", "0", f"({i}, {j})", f"{i} - {j}", f"[{i}, {j}]"))
    author.write(pad + INDENT * 2, f"{row}.append({cell})")
    author.write(pad + INDENT, f"{name}.append({row})")
    author.write(pad, f"print({name})")


def add_grid(author: Author, pad: str) -> None:
    """Something about every element of every row, with its total."""
    rows, row, cell = data.some_rows(author, pad)
    row = names.loop_name(author, row, "list")
    author.scope.frozen += (rows, row)
    x = names.loop_name(author, cell, "number")
    author.scope.frozen.append(x)
    total = names.claim(author, author.pick(("total", "count", "found", "result")), "number")
    del author.scope.frozen[-3:]
    author.write(pad, f"{total} = 0", f"for {row} in {rows}:", f"{INDENT}for {x} in {row}:")
    inner = pad + INDENT * 2
    if author.chance(0.5):
        author.write(inner, f"{total} += {x}")
    else:
        author.write(inner, f"if {expressions.condition(author, x, 'number')}:", f"{INDENT}{total} += 1")
    if author.chance(0.3):
        author.write(pad + INDENT, f"print({total})")
    author.write(pad, expressions.show(author, total))
    if total not in author.scope.numbers:
        author.scope.numbers.append(total)


def pairs_of(author: Author) -> None:
    """A function with a loop in a loop over two arguments or the same one twice."""
    theme = author.theme
    first, second = plural(author.pick(theme.things)), plural(author.pick(theme.labels))
    definition = Definition(author)
    two = author.chance(0.6) and first != second
    arguments = [(first, "words"), (second, "words")] if two else [(first, "words")]
    definition.open(author.pick(("pairs", "combine", "match", "cross", "compare", "all")), first, arguments)
    x, y = author.pick((("a", "b"), ("left", "right"), ("first", "second"), ("one", "other"), ("x", "y")))
    found = author.pick(("pairs", "found", "result", "matches"))
    if found == first:
        found = "made"
    inner = INDENT * 3
    author.write(INDENT, f"{found} = []", f"for {x} in {first}:", f"{INDENT}for {y} in {second if two else first}:")
    draw = author.random()
    if draw < 0.4:
        author.write(inner, f"{found}.append(({x}, {y}))")
    elif draw < 0.7:
        author.write(inner, f"if {x} {author.pick(('!=', '==', '<'))} {y}:", f"{INDENT}{found}.append([{x}, {y}])")
    else:
        author.write(inner, f"{found}.append({x} + {author.quote(author.pick((' ', '-', ' and ')))} + {y})")
    author.write(INDENT, f"return {found}")
    definition.close("other")


NESTED_LOOPS = weighted((8, two_loops), (5, three_loops), (3, fill_grid), (3, add_grid))
