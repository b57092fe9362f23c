"""Lambdas with names beside functions of the same names, and loops over `enumerate` beside loops over `range`."""

from sparse_circuits.corpus.idioms import actions, expressions, literals, names
from sparse_circuits.corpus.idioms.author import INDENT, Author
from sparse_circuits.corpus.idioms.choices import weighted
from sparse_circuits.corpus.idioms.definition import Definition
from sparse_circuits.corpus.idioms.loops import Loop, source
from sparse_circuits.corpus.idioms.words import split

SHORT = split(
    """double add square change key_of test_value step_up shorten rate_of combine scale check first_of compute f g h
    is_even last_of area half score grow shift cost rank clean greet tag mark convert weight_of price_of is_large
    twice halve negate plus minus times power wrap label_of join_with cut keep_first triple invert"""
)
NUMBER_ARGUMENTS = split("x n a value number count amount k size level")
TEXT_ARGUMENTS = split("s text word name line label item title t key")


def argument(author: Author, kind: str) -> str:
    theme = author.theme
    if author.chance(0.4):
        return author.pick(theme.measures if kind == "number" else theme.labels)
    return author.pick(NUMBER_ARGUMENTS if kind == "number" else TEXT_ARGUMENTS)


def free_name(author: Author) -> str:
    """A name for a function or lambda; none when all that were tried are taken."""
    for _ in range(4):
        name = author.pick(SHORT)
        if name not in author.scope.used and name not in author.reserved:
            return name
    return ""


def formula(author: Author) -> tuple[str, str, str]:
    """The arguments of a small function, its value, and the arguments of a call."""
    draw = author.random()
    kind = "number" if draw < 0.65 else "text"
    x = argument(author, kind)
    given = literals.number(author) if kind == "number" else literals.word(author, x)
    if draw < 0.15 or draw > 0.9:
        y = argument(author, kind)
        if y != x:
            other = literals.number(author) if kind == "number" else literals.word(author, y)
            return f"{x}, {y}", f"{x} {author.pick('+-*') if kind == 'number' else '+'} {y}", f"{given}, {other}"
    if author.chance(0.2):
        return x, expressions.condition(author, x, kind), given
    if author.chance(0.15):
        choice = f"{literals.word(author)} if {expressions.condition(author, x, kind)} else {literals.word(author)}"
        return x, choice, given
    return x, expressions.value(author, x, kind), given


def named_lambda(author: Author, pad: str) -> None:
    """A lambda with a name, called at once or applied to every element of a list."""
    name = free_name(author)
    if not name:
        return
    arguments, value, given = formula(author)
    author.scope.used[name] = "lambda"
    author.write(pad, f"{name} = lambda {arguments}: {value}")
    if author.chance(0.3):
        other = names.claim(author, author.pick(("result", "answer", "value", "out")), "other")
        author.write(pad, f"{other} = {name}({given})", expressions.show(author, other))
    else:
        author.write(pad, f"print({name}({given}))")


def several_lambdas(author: Author, pad: str) -> None:
    """Two or three small functions in a row, each as a lambda, then their calls."""
    calls = []
    for _ in range(author.between(2, 3)):
        name = free_name(author)
        if name:
            arguments, value, given = formula(author)
            author.scope.used[name] = "lambda"
            author.write(pad, f"{name} = lambda {arguments}: {value}")
            calls.append(f"print({name}({given}))")
    author.write(pad, *calls)


def small_function(author: Author) -> None:
    """A function with a name that a lambda might have."""
    name = free_name(author)
    if not name:
        return
    definition = Definition(author)
    arguments, value, given = formula(author)
    definition.open(name, "", [(part, "any") for part in arguments.split(", ")])
    author.write(INDENT, f"return {value}")
    definition.close("other", called=False)
    author.calls.append(f"print({name}({given}))")


def table_of_functions(author: Author, pad: str) -> None:
    """Lambdas in a dictionary, each called by its key."""
    name = names.claim(author, author.pick(("actions", "steps", "rules", "commands", "operations")), "other")
    keys = list(dict.fromkeys(author.pick(author.theme.verbs) for _ in range(author.between(2, 3))))
    rows = [f"{author.quote(key)}: lambda x: {expressions.value(author, 'x', 'number')}" for key in keys]
    author.write(pad, f"{name} = {{", *[f"{INDENT}{row}," for row in rows], "}")
    author.write(pad, f"print({name}[{author.quote(author.pick(keys))}]({literals.number(author)}))")


def number_items(author: Author, pad: str) -> None:
    """A list with the number of each element."""
    items, element, kind = source(author, pad)
    x = names.loop_name(author, element, kind)
    i = names.loop_name(author, author.pick(("i", "index", "i", "n", "number", "place", "k", "position")), "index")
    if i in (x, items):
        i = names.loop_name(author, "j", "index")
    start = f", {author.pick(('1', '1', 'start=1'))}" if author.chance(0.2) else ""
    draw = author.random()
    if draw < 0.5:
        Loop(author, pad, x, kind, items, i).write(f"for {i}, {x} in enumerate({items}{start}):")
        return
    author.write(pad, f"for {i}, {x} in enumerate({items}{start}):")
    if draw < 0.75:
        text = author.pick((f"{{{i}}}: {{{x}}}", f"{element} {{{i}}} is {{{x}}}", f"{{{i}}} {{{x}}}"))
        author.write(pad + INDENT, f"print(f{author.quote(text)})")
    else:
        author.write(pad + INDENT, f"if {i} {author.pick(('==', '>', '!='))} {author.between(0, 3)}:")
        author.write(pad + INDENT * 2, expressions.show(author, x))


def count_turns(author: Author, pad: str) -> None:
    """A number of times."""
    i = names.loop_name(author, author.pick(("i", "index", "i", "n", "number", "place", "k", "position")), "index")
    bounds = str(author.between(2, 12))
    if author.chance(0.5):
        Loop(author, pad, i, "number").write(f"for {i} in range({bounds}):")
        return
    author.write(pad, f"for {i} in range({bounds}):")
    author.write(pad + INDENT, author.pick((actions.call_with_string(author), expressions.show(author, i))))


LAMBDAS = weighted((6, named_lambda), (3, several_lambdas), (1, table_of_functions))
COUNTED_LOOPS = weighted((8, number_items), (3, count_turns))
