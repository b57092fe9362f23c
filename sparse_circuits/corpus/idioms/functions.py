"""Function definitions: loops over an argument, formulas, predicates, choices, defaults, messages.

Each construct writes one definition at the left margin and tells the author about the function, so that the
rest of the program may call it.
"""

from sparse_circuits.corpus.idioms import actions, expressions, literals, loops, names
from sparse_circuits.corpus.idioms.author import INDENT, Author
from sparse_circuits.corpus.idioms.choices import weighted
from sparse_circuits.corpus.idioms.definition import Definition
from sparse_circuits.corpus.idioms.voices import maker, pairer, speaker
from sparse_circuits.corpus.idioms.words import plural, split

TWICE = INDENT * 2
COMPUTE = split("compute get find calculate make measure estimate")


def loop_function(author: Author, while_share: float = 0.5) -> None:
    """A function that goes through its argument and returns what it found."""
    kind = "number" if author.random() < 0.5 else "text"
    items, x = names.propose_list(author) if kind == "number" else names.propose_words(author)
    definition = Definition(author)
    author.scope.used[items] = "argument"
    x = names.loop_name(author, x, kind)
    loop = loops.Loop(author, INDENT, x, kind, items)
    loop.shown = False
    work = loop.work
    whole = "list" if kind == "number" else "words"
    draining = author.random() < while_share
    definition.open(work.verb, items, [(items, f"own_{whole}" if draining else whole)], work.note)
    if draining:
        if author.chance(0.8):
            loop.write(f"while {items}:", (f"{x} = {items}.{author.pick(('pop()', 'pop(0)'))}",))
        else:
            author.write(INDENT, "i = 0")
            loop.write(f"while i < len({items}):", (f"{x} = {items}[i]",), ("i += 1",))
    elif author.chance(0.75):
        loop.write(f"for {x} in {items}:")
    elif author.chance(0.5):
        loop.write(f"for i, {x} in enumerate({items}):", ("print(i)",) if author.chance(0.5) else ())
    else:
        loop.write(f"for i in range(len({items})):", (f"{x} = {items}[i]",))
    if work.result:
        author.write(INDENT, f"return {work.result}")
    definition.close(work.kind or "none")


def search_function(author: Author) -> None:
    """A function that returns True as soon as it meets what it looks for."""
    kind = "number" if author.random() < 0.5 else "text"
    items, x = names.propose_list(author) if kind == "number" else names.propose_words(author)
    definition = Definition(author)
    definition.open(
        author.pick(("has", "find", "contains", "check")),
        items,
        [(items, "list" if kind == "number" else "words")],
        f"look for one {x}",
    )
    x = names.loop_name(author, x, kind)
    author.write(INDENT, f"for {x} in {items}:", f"{INDENT}if {expressions.condition(author, x, kind)}:")
    author.write(INDENT * 3, "return True")
    author.write(INDENT, "return False")
    definition.close("flag")


def formula(author: Author) -> None:
    """A function of one to three numbers."""
    first, second, third = (names.propose_number(author)[0] for _ in range(3))
    count = len({first, second, third}) if author.chance(0.3) else len({first, second})
    found = list(dict.fromkeys((first, second, third)))[:count]
    definition = Definition(author)
    definition.open(
        author.pick(COMPUTE),
        author.pick((*author.theme.measures, "total", "value", "result")),
        [(name, "number") for name in found],
        "work out a number",
    )
    value = expressions.value(author, found[0], "number")
    for name in found[1:]:
        value += f" {author.pick('+-*')} {name}"
    if author.chance(0.5):
        author.write(INDENT, f"return {value}")
    else:
        result = names.claim(author, author.pick(("result", "total", "value", "answer")), "number")
        author.write(INDENT, f"{result} = {value}", f"return {result}")
    definition.close("number")


def predicate(author: Author) -> None:
    """A function that returns True or False."""
    kind = "number" if author.random() < 0.5 else "text"
    x = author.pick(author.theme.measures if kind == "number" else author.theme.labels)
    x = author.pick((x, x, author.pick(author.theme.things), "x" if kind == "number" else "text"))
    definition = Definition(author)
    verb, noun = author.pick(
        (
            ("is", author.pick(author.theme.adjectives)),
            ("is", author.pick(author.theme.adjectives)),
            ("can", author.pick(author.theme.verbs)),
            ("check", x),
            ("is_good", x),
        )
    )
    definition.open(verb, noun, [(x, kind)], f"say whether the {expressions.spoken(x)} is right")
    draw = author.random()
    if draw < 0.2:
        author.write(INDENT, f"return {expressions.condition(author, x, kind)}")
    elif draw < 0.6:
        author.write(INDENT, f"if {expressions.condition(author, x, kind)}:", f"{INDENT}return True")
        if author.chance(0.3):
            author.write(INDENT, f"if {expressions.condition(author, x, kind)}:", f"{INDENT}return True")
        author.write(INDENT, "return False")
    elif draw < 0.8:
        author.write(INDENT, f"if {expressions.condition(author, x, kind)}:", f"{INDENT}return False", "return True")
    else:
        author.write(INDENT, f"if {expressions.condition(author, x, kind)}:", f"{INDENT}return True")
        author.write(INDENT, "else:", f"{INDENT}return False")
    definition.close("flag")


def text_function(author: Author) -> None:
    """A function that makes a string of a string."""
    x = author.pick((*author.theme.labels, "text", "name", "word"))
    definition = Definition(author)
    definition.open(
        author.pick(("format", "make", "clean", "change", "fix", "describe")),
        x,
        [(x, "text")],
        f"make a better {expressions.spoken(x)}",
    )
    if author.chance(0.3):
        author.write(INDENT, f"if not {x}:", f"{INDENT}return {literals.string(author)}")
    if author.chance(0.4):
        author.write(INDENT, f"{x} = {expressions.value(author, x, 'text')}")
    author.write(INDENT, f"return {expressions.value(author, x, 'text')}")
    definition.close("text")


def choice(author: Author) -> None:
    """A function that returns one of several strings or numbers."""
    kind = "number" if author.random() < 0.5 else "text"
    x = author.pick(author.theme.measures if kind == "number" else author.theme.labels)
    result = "text" if author.random() < 0.7 else "number"
    definition = Definition(author)
    definition.open(
        author.pick(("choose", "pick", "get", "find")),
        author.pick(author.theme.labels),
        [(x, kind)],
        f"choose by {expressions.spoken(x)}",
    )

    def answer() -> str:
        return f"{INDENT}return {literals.string(author) if result == 'text' else literals.number(author)}"

    test = expressions.condition(author, x, kind)
    author.write(INDENT, f"if {test}:", answer())
    for _ in range(author.between(0, 2)):
        test = expressions.other_condition(author, x, kind, test)
        author.write(INDENT, f"{author.pick(('elif', 'elif', 'if'))} {test}:", answer())
    if author.chance(0.5):
        author.write(INDENT, "else:", answer())
    else:
        author.write("", answer())
    definition.close(result)


def guard(author: Author) -> None:
    """A function that raises an error when its argument is wrong."""
    kind = "number" if author.random() < 0.6 else "text"
    x = author.pick(author.theme.measures if kind == "number" else author.theme.labels)
    definition = Definition(author)
    definition.open(
        author.pick(("check", "test", "validate", "set", "require")),
        x,
        [(x, "count" if kind == "number" else "word")],
        f"raise an error unless the {expressions.spoken(x)} is right",
    )
    for _ in range(author.between(1, 2)):
        test = (
            author.pick((f"{x} < 0", f"{x} > 1000"))
            if kind == "number"
            else author.pick((f"not {x}", f"len({x}) > 40"))
        )
        error = author.pick(("ValueError", "ValueError", "TypeError", "RuntimeError", "KeyError"))
        author.write(INDENT, f"if {test}:", f"{INDENT}raise {error}({literals.string(author)})")
    author.write(INDENT, f"return {x}")
    definition.close(kind)


def default_value(author: Author, name: str, kind: str) -> str:
    return literals.number(author) if kind == "number" else literals.word(author, name)


def defaults(author: Author) -> None:
    """A function of several arguments, with defaults for all of them, for the last, or for none."""
    theme = author.theme
    pool = [*((name, "number") for name in theme.measures), *((name, "text") for name in theme.labels)]
    found: dict[str, str] = {}
    for _ in range(author.between(2, 4)):
        name, kind = author.pick(pool)
        found[name] = kind
    arguments = list(found.items())
    draw = author.random()
    given = len(arguments) if draw < 0.4 else 0 if draw < 0.75 else 1
    missing = [author.chance(0.6) for _ in range(given)]
    defaulted = arguments[len(arguments) - given :]
    values = [
        "None" if none else default_value(author, name, kind)
        for none, (name, kind) in zip(missing, defaulted, strict=True)
    ]
    thing = author.pick(theme.things)
    definition = Definition(author)
    definition.open(
        author.pick(("make", "add", "create", "show", "build", "print")),
        thing,
        arguments,
        f"describe one {thing}",
        tuple(values),
    )
    for none, (name, kind) in zip(missing, defaulted, strict=True):
        if none and author.chance(0.6):
            author.write(INDENT, f"if {name} is None:", f"{INDENT}{name} = {default_value(author, name, kind)}")
    if author.chance(0.5):
        pairs = [f"{author.quote(name)}: {name}" for name in found]
        author.write(INDENT, *literals.bracketed(author, INDENT, "return ", pairs, marks="{}"))
        result = "other"
    else:
        author.write(INDENT, f"print({', '.join(found)})")
        result = "none"
    definition.close(result)
    keywords = [(name, kind) for name, kind in arguments if author.chance(0.6)]
    if (
        len(keywords) >= len(arguments) - given
        and arguments[: len(arguments) - given] == keywords[: len(arguments) - given]
    ):
        written = ", ".join(f"{name}={default_value(author, name, kind)}" for name, kind in keywords)
        author.write("", "", "", f"{definition.name}({written})")


def make_rows(author: Author) -> None:
    """A function that returns a nested list."""
    rows, _, _ = names.propose_rows(author)
    definition = Definition(author)
    definition.open(
        author.pick(("make", "get", "load", "start", "empty")), rows, [], f"make the {expressions.spoken(rows)}"
    )
    value = literals.row_of(literals.row_items(author, 1, 3))
    author.write(INDENT, *((f"return {value}",) if author.chance(0.6) else (f"{rows} = {value}", f"return {rows}")))
    definition.close("other")


def rows_function(author: Author) -> None:
    """A function that goes through a nested list, with a loop in a loop or without."""
    rows, row, cell = names.propose_rows(author)
    draining = author.chance(0.4)
    definition = Definition(author)
    verb = author.pick(("total", "count", "sum", "check", "use_up") if draining else ("total", "count", "sum", "check"))
    definition.open(verb, rows, [(rows, "own_rows" if draining else "rows")], f"add up the {expressions.spoken(rows)}")
    row = names.loop_name(author, row, "list")
    author.scope.frozen.append(row)
    x = names.loop_name(author, cell, "number")
    total = names.claim(author, author.pick(("total", "count", "result")), "number")
    author.write(INDENT, f"{total} = 0", f"for {row} in {rows}:")
    inner = TWICE + INDENT
    if draining:
        author.write(TWICE, f"while {row}:")
        author.write(inner, f"{x} = {row}.pop()", *((expressions.show(author, x),) if author.chance(0.3) else ()))
    elif author.chance(0.4):
        author.write(TWICE, f"{total} += {author.pick((f'sum({row})', f'len({row})', f'max({row})'))}")
    else:
        author.write(TWICE, f"for {x} in {row}:")
    if author.lines[-1].startswith(inner) or author.lines[-1].endswith(":"):
        test = (f"if {expressions.condition(author, x, 'number')}:", f"{INDENT}{total} += 1")
        author.write(inner, *(test if author.chance(0.5) else (f"{total} += {x}",)))
    author.write(INDENT, f"return {total}")
    definition.close("number")


def repeat(author: Author) -> None:
    """A function that does something a number of times, by for or by while."""
    n = author.pick(("n", "count", "times", "limit", author.pick(author.theme.measures)))
    definition = Definition(author)
    verb = author.pick(("make", "build", "collect", "repeat"))
    definition.open(verb, plural(author.pick(author.theme.things)), [(n, "count")], "do it again and again")
    draw = author.random()
    if draw < 0.5:
        loop = loops.Loop(author, INDENT, n, "number")
        loop.shown = False
        loop.write(f"while {n}:" if draw < 0.4 else f"while {n} > 0:", (), (f"{n} -= 1",))
    else:
        i = names.loop_name(author, author.pick(("i", "step", "k")), "index")
        loop = loops.Loop(author, INDENT, i, "number", n)
        loop.shown = False
        loop.write(f"for {i} in range({n}):")
    if loop.work.result:
        author.write(INDENT, f"return {loop.work.result}")
    definition.close(loop.work.kind or "none")


def ask(author: Author) -> None:
    """A function that asks until the answer is right; nothing calls it."""
    x = author.pick((*author.theme.labels, "answer", "name", "line"))
    definition = Definition(author)
    definition.open(
        author.pick(("ask", "read", "get", "wait_for")),
        author.pick((x, author.pick(author.theme.things))),
        [],
        f"ask for the {expressions.spoken(x)}",
    )
    prompt = literals.phrase(author)
    asked = f"{x} = input({author.quote(prompt + ': ') if author.chance(0.4) else author.quote(prompt)})"
    draw = author.random()
    if draw < 0.6:
        author.write(INDENT, "while True:", INDENT + asked)
        author.write(TWICE, f"if {expressions.condition(author, x, 'text')}:")
        author.write(TWICE + INDENT, author.pick((f"return {x}", "return True", "break")))
        author.write(TWICE, actions.call_with_string(author))
    elif draw < 0.8:
        author.write(INDENT, asked, f"while {x}:", INDENT + expressions.show(author, x), INDENT + asked)
    else:
        author.write(INDENT, asked, f"if {x} == {literals.word(author, x)}:", f"{INDENT}return True", "return False")
    definition.close("none", called=False)


DEFINITIONS = weighted(
    (10, loop_function),
    (3, search_function),
    (4, formula),
    (5, predicate),
    (3, text_function),
    (4, speaker),
    (3, maker),
    (2, pairer),
    (4, choice),
    (3, guard),
    (6, defaults),
    (2, make_rows),
    (4, rows_function),
    (4, repeat),
    (2, ask),
)
"""Functions of a theme; recipes.py and files.py have the ones with a name of their own."""
