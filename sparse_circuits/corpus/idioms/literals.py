"""Literals: numbers, strings of one to five words, flat and nested lists, in one line or laid out over several."""

from sparse_circuits.corpus.idioms.author import INDENT, LINE_LIMIT, Author
from sparse_circuits.corpus.idioms.words import past, plural, progressive

ENDINGS = ("!", ".", ":", "...", "?")


def number(author: Author) -> str:
    """A whole number: mostly small."""
    draw = author.random()
    if draw < 0.5:
        return str(int(author.random() * 10))
    if draw < 0.88:
        return str(10 + int(author.random() * 90))
    return str(100 + int(author.random() * 900))


def positive(author: Author) -> str:
    return str(1 + int(author.random() * (9 if author.random() < 0.6 else 99)))


def phrase(author: Author) -> str:
    """One to five words as a message would have them, without quotes."""
    theme = author.theme
    pick = author.pick
    draw = author.random()
    if draw < 0.12:
        text = pick(theme.values)
    elif draw < 0.22:
        text = pick(theme.adjectives)
    elif draw < 0.30:
        text = past(pick(theme.verbs))
    elif draw < 0.42:
        text = f"{pick(theme.adjectives)} {pick(theme.values)}"
    elif draw < 0.54:
        text = f"{pick(theme.things)} {past(pick(theme.verbs))}"
    elif draw < 0.64:
        text = f"{progressive(pick(theme.verbs))} the {plural(pick(theme.things))}"
    elif draw < 0.74:
        text = f"no {plural(pick(theme.things))} found"
    elif draw < 0.84:
        text = f"the {pick(theme.things)} is {pick(theme.adjectives)}"
    elif draw < 0.92:
        text = f"{pick(theme.verbs)} the {pick(theme.adjectives)} {pick(theme.things)}"
    else:
        text = f"the {pick(theme.measures)} of the {pick(theme.values)}"
    if author.random() < author.capital:
        text = text[0].upper() + text[1:]
    if author.random() < 0.12:
        text += pick(ENDINGS)
    return text


def string(author: Author) -> str:
    """A string literal of one to five words."""
    return author.quote(phrase(author))


def word(author: Author) -> str:
    """A string literal of one word: the name of a thing."""
    return author.quote(author.pick(author.theme.values))


def numbers(author: Author, low: int, high: int) -> list[str]:
    return [number(author) for _ in range(author.between(low, high))]


def bracketed(author: Author, pad: str, head: str, items: list[str], tail: str = "") -> list[str]:
    """`head[items]tail` on one line, or one item a line when that is too long (and now and then anyway)."""
    flat = f"{head}[{', '.join(items)}]{tail}"
    if len(pad) + len(flat) <= LINE_LIMIT and (len(items) < 3 or author.random() > 0.1):
        return [flat]
    return [f"{head}[", *[f"{INDENT}{item}," for item in items], f"]{tail}"]


def row(author: Author, low: int = 1, high: int = 4) -> str:
    return f"[{', '.join(numbers(author, low, high))}]"


def row_items(author: Author) -> list[str]:
    """The rows of a nested list: of equal length or not."""
    count = author.between(1, 4)
    if author.random() < 0.5:
        length = author.between(1, 4)
        return [row(author, length, length) for _ in range(count)]
    return [row(author) for _ in range(count)]
