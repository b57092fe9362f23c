"""Conditions, values computed from a variable, and ways to print one."""

from collections.abc import Callable

from sparse_circuits.corpus.idioms import literals
from sparse_circuits.corpus.idioms.author import Author
from sparse_circuits.corpus.idioms.choices import weighted
from sparse_circuits.corpus.idioms.words import MOMENTS, past, plural

Expression = Callable[[Author, str], str]
"""Writes an expression about the variable of this name."""


def against_scope(author: Author, name: str) -> str:
    """Compare a number with another variable, or with a literal when there is none."""
    others = author.constants or [other for other in author.scope.numbers if other != name]
    other = author.pick(others) if others else literals.number(author)
    return f"{name} {author.pick(('<', '>', '==', '<=', '!='))} {other}"


NUMBER_CONDITIONS: tuple[Expression, ...] = weighted(
    (4, lambda a, x: f"{x} > {literals.threshold(a)}"),
    (3, lambda a, x: f"{x} < {literals.threshold(a)}"),
    (5, lambda a, x: f"{x} == {literals.threshold(a)}"),
    (1, lambda a, x: f"{x} >= {literals.threshold(a)}"),
    (1, lambda a, x: f"{x} <= {literals.threshold(a)}"),
    (2, lambda a, x: f"{x} != {literals.threshold(a)}"),
    (2, lambda a, x: f"{x} % {a.between(2, 5)} == 0"),
    (2, against_scope),
    (3, lambda a, x: x),
    (1, lambda a, x: f"not {x}"),
    (1, lambda a, x: f"{x} in ({', '.join(literals.numbers(a, 2, 3))})"),
    (1, lambda a, x: f"{x} in [{', '.join(literals.numbers(a, 1, 4))}]"),
    (1, lambda a, x: f"{a.between(0, 5)} < {x} < {a.between(6, 99)}"),
)
TEXT_CONDITIONS: tuple[Expression, ...] = weighted(
    (6, lambda a, x: f"{x} == {literals.word(a, x)}"),
    (3, lambda a, x: f"{x} != {literals.word(a, x)}"),
    (1, lambda a, x: f"{literals.word(a, x)} == {x}"),
    (2, lambda a, x: f"len({x}) > {a.between(2, 7)}"),
    (1, lambda a, x: f"len({x}) == {a.between(2, 7)}"),
    (1, lambda a, x: f"{x}.startswith({a.quote(a.pick('abcdeghlmprstw'))})"),
    (1, lambda a, x: f"{x}.endswith({a.quote(a.pick('aeglnrsty'))})"),
    (1, lambda a, x: f"{a.quote(a.pick('aeiolrst'))} in {x}"),
    (2, lambda a, x: f"{x} in [{', '.join(literals.words(a, literals.briefly(x), 1, 3))}]"),
    (1, lambda a, x: f"{x} in ({literals.word(a, literals.briefly(x))}, {literals.word(a)})"),
    (3, lambda a, x: x),
    (1, lambda a, x: f"not {x}"),
)
NUMBER_VALUES: tuple[Expression, ...] = weighted(
    (4, lambda a, x: f"{x} * {a.between(2, 10)}"),
    (4, lambda a, x: f"{x} + {literals.positive(a)}"),
    (3, lambda a, x: f"{x} - {literals.positive(a)}"),
    (2, lambda a, x: f"{x} * {x}"),
    (1, lambda a, x: f"{x} ** 2"),
    (1, lambda a, x: f"{x} // {a.between(2, 10)}"),
    (1, lambda a, x: f"{x} % {a.between(2, 10)}"),
    (1, lambda a, x: f"{x} / {a.between(2, 10)}"),
    (1, lambda a, x: f"abs({x})"),
    (1, lambda a, x: f"min({x}, {literals.number(a)})"),
    (1, lambda a, x: f"max({x}, {literals.number(a)})"),
    (1, lambda a, x: f"-{x}"),
    (1, lambda a, x: f"({x} + {a.between(1, 9)}) * {a.between(2, 9)}"),
)
TEXT_VALUES: tuple[Expression, ...] = weighted(
    (3, lambda a, x: f"{x}.upper()"),
    (2, lambda a, x: f"{x}.lower()"),
    (2, lambda a, x: f"{x}.title()"),
    (2, lambda a, x: f"{x}.strip()"),
    (1, lambda a, x: f"{x}.capitalize()"),
    (2, lambda a, x: f"{x} + {a.quote(a.pick(('!', '?', '.', '...', ' ', ', ', 's')))}"),
    (
        2,
        lambda a, x: f"{a.quote(a.pick(('the', 'my', 'hello', 'dear', 'no', *a.theme.adjectives)) + ' ')} + {x}",
    ),
    (1, lambda a, x: f"{x}[:{a.between(1, 4)}]"),
    (1, lambda a, x: f"{x}[::-1]"),
    (1, lambda a, x: f"{x}[1:]"),
    (2, lambda a, x: f"{x} + {a.quote(f' is {a.pick(a.theme.adjectives)}')}"),
    (1, lambda a, x: f"{x} + {literals.word(a)}"),
    (2, lambda a, x: f"f{a.quote(braced(a, x))}"),
    (1, lambda a, x: f"{x}.replace({a.quote(a.pick('aeiou'))}, {a.quote(a.pick('xyz_-'))})"),
    (1, lambda a, x: f"{x} * {a.between(2, 4)}"),
)


def spoken(name: str) -> str:
    """A variable's name as words: item_count -> item count."""
    return name.replace("_", " ")


def described(author: Author, name: str) -> str:
    """What to say before the value of a variable: price, the price is, price of the lamp."""
    text = spoken(name)
    draw = author.random()
    if draw < 0.3:
        return text
    if draw < 0.5:
        return f"the {text} is"
    if draw < 0.65:
        return f"{text} of the {author.pick(author.theme.things)}"
    if draw < 0.75:
        return f"{author.pick(author.theme.things)} {text}"
    if draw < 0.85:
        return f"{author.pick(PREFIXES)} {text}"
    return f"{text} {author.pick(MOMENTS)}"


def remark(author: Author) -> str:
    """What to say after a value."""
    theme = author.theme
    draw = author.random()
    if draw < 0.3:
        return author.pick(theme.adjectives)
    if draw < 0.5:
        return plural(author.pick(theme.things))
    if draw < 0.65:
        return past(author.pick(theme.verbs))
    if draw < 0.8:
        return f"is {author.pick(theme.adjectives)}"
    return f"for the {author.pick(theme.things)}"


PREFIXES = ("current", "new", "last", "next", "our", "your", "final", "the")


def braced(author: Author, name: str) -> str:
    """The text of an f-string that shows a variable: "price: {price}"."""
    draw = author.random()
    if draw < 0.35:
        return f"{spoken(name)}: {{{name}}}"
    if draw < 0.7:
        return f"{described(author, name)} {{{name}}}"
    if draw < 0.8:
        return f"{{{name}}} {author.pick(author.theme.adjectives)}"
    if draw < 0.9:
        return f"{{{name}}}"
    return f"{{{name}}} {plural(author.pick(author.theme.things))}"


SHOWS: tuple[Expression, ...] = weighted(
    (7, lambda a, x: f"print({x})"),
    (5, lambda a, x: f"print({a.quote(spoken(x))}, {x})"),
    (3, lambda a, x: f"print({a.quote(spoken(x) + ':')}, {x})"),
    (4, lambda a, x: f"print({a.quote(described(a, x))}, {x})"),
    (7, lambda a, x: f"print(f{a.quote(braced(a, x))})"),
    (2, lambda a, x: f"print({x}, {a.quote(remark(a))})"),
    (1, lambda a, x: f"print({x}, end={a.quote(a.pick((' ', ', ', '')))})"),
    (1, lambda a, x: f"print({a.quote(spoken(x))}, {x}, sep={a.quote(a.pick((': ', '=', ' ')))})"),
    (1, lambda a, x: f"print({a.quote(spoken(x) + ' is ')} + str({x}))"),
    (1, lambda a, x: f"print({a.quote(spoken(x) + ' = {}')}.format({x}))"),
)
"""Statements that print any variable."""


def condition(author: Author, name: str, kind: str) -> str:
    """A condition on a variable of kind number or text."""
    return author.pick(NUMBER_CONDITIONS if kind == "number" else TEXT_CONDITIONS)(author, name)


def other_condition(author: Author, name: str, kind: str, taken: str) -> str:
    """A condition that is not the one before."""
    for _ in range(3):
        test = condition(author, name, kind)
        if test != taken:
            return test
    return f"{name} is not None"


def value(author: Author, name: str, kind: str) -> str:
    """A value of the same kind computed from a variable of kind number or text."""
    return author.pick(NUMBER_VALUES if kind == "number" else TEXT_VALUES)(author, name)


def show(author: Author, name: str) -> str:
    """A statement that prints a variable."""
    return author.pick(SHOWS)(author, name)
