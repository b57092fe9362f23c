"""One-line statements: calls with one string, and small changes to what is in scope."""

from collections.abc import Callable

from sparse_circuits.corpus.idioms import expressions, literals, names
from sparse_circuits.corpus.idioms.author import Author
from sparse_circuits.corpus.idioms.choices import weighted


def call_with_string(author: Author) -> str:
    """A call with one string: print, or another function in reach."""
    return f"{author.pick(author.speakers)}({literals.string(author)})"


def show_something(author: Author) -> str:
    """Print a variable in scope, or a message when there is none."""
    scope = author.scope
    choices = [*scope.numbers, *scope.texts, *scope.flags]
    if not choices:
        return call_with_string(author)
    return expressions.show(author, author.pick(choices))


def readable(author: Author) -> str:
    """A variable in scope, or a number when there is none."""
    scope = author.scope
    choices = [*scope.numbers, *scope.texts]
    return author.pick(choices) if choices else literals.number(author)


def change_number(author: Author) -> str:
    """Add to a number in scope that no loop depends on."""
    scope = author.scope
    free = [name for name in scope.numbers if name not in scope.frozen]
    if not free:
        return call_with_string(author)
    name = author.pick(free)
    draw = author.random()
    if draw < 0.5:
        return f"{name} += {literals.positive(author)}"
    if draw < 0.75:
        return f"{name} -= {literals.positive(author)}"
    return f"{name} = {literals.number(author)}"


def set_label(author: Author) -> str:
    """Set a string."""
    name = names.claim(author, author.pick(author.theme.labels), "text")
    return f"{name} = {literals.word(author, name) if author.chance(0.6) else literals.string(author)}"


def append_word(author: Author) -> str:
    """Append to a list of strings in scope that no loop depends on."""
    scope = author.scope
    free = [(name, element) for name, element in scope.words if name not in scope.frozen]
    if not free:
        return call_with_string(author)
    name, element = author.pick(free)
    return f"{name}.append({literals.word(author, element)})"


ACTIONS: tuple[Callable[[Author], str], ...] = weighted(
    (10, call_with_string),
    (4, show_something),
    (2, change_number),
    (2, set_label),
    (2, append_word),
)


def action(author: Author) -> str:
    """One line for the body of a branch or loop."""
    return author.pick(ACTIONS)(author)
