"""Literals: numbers, strings of one to five words, flat and nested lists, on one line or on several."""

from collections.abc import Callable

from sparse_circuits.corpus.idioms.author import INDENT, LINE_LIMIT, Author
from sparse_circuits.corpus.idioms.choices import weighted
from sparse_circuits.corpus.idioms.words import (
    GENERAL_ADJECTIVES,
    GENERAL_NOUNS,
    LABEL_VALUES,
    MOMENTS,
    PEOPLE,
    past,
    plural,
    progressive,
)

ENDINGS = ("!", ".", ":", "...", "?")
SENTENCES = frozenset(["message", "line", "text", "note", "reminder", "comment", "answer", "question"])

Phrase = Callable[[Author], str]

PHRASES: tuple[Phrase, ...] = weighted(
    (8, lambda a: a.pick(a.theme.values)),
    (4, lambda a: a.pick(a.theme.adjectives)),
    (3, lambda a: a.pick(GENERAL_ADJECTIVES)),
    (3, lambda a: a.pick(GENERAL_NOUNS)),
    (3, lambda a: a.pick(a.theme.things)),
    (3, lambda a: past(a.pick(a.theme.verbs))),
    (2, lambda a: a.pick(PEOPLE)),
    (1, lambda a: a.pick(MOMENTS)),
    (5, lambda a: f"{a.pick(a.theme.adjectives)} {a.pick(a.theme.values)}"),
    (5, lambda a: f"{a.pick(a.theme.things)} {past(a.pick(a.theme.verbs))}"),
    (4, lambda a: f"{a.pick(a.theme.verbs)} {plural(a.pick(a.theme.things))}"),
    (3, lambda a: f"{a.pick(GENERAL_ADJECTIVES)} {a.pick(GENERAL_NOUNS)}"),
    (2, lambda a: f"{a.pick(a.theme.measures)} {a.between(1, 99)}"),
    (2, lambda a: f"hello {a.pick(PEOPLE)}"),
    (2, lambda a: f"{a.pick(a.theme.verbs)} {a.pick(MOMENTS)}"),
    (5, lambda a: f"{progressive(a.pick(a.theme.verbs))} the {plural(a.pick(a.theme.things))}"),
    (3, lambda a: f"no {plural(a.pick(a.theme.things))} found"),
    (3, lambda a: f"{a.pick(a.theme.things)} is {a.pick(a.theme.adjectives)}"),
    (2, lambda a: f"not {a.pick(GENERAL_ADJECTIVES)} {a.pick(MOMENTS)}"),
    (4, lambda a: f"the {a.pick(a.theme.things)} is {a.pick(a.theme.adjectives)}"),
    (3, lambda a: f"{a.pick(a.theme.verbs)} the {a.pick(a.theme.adjectives)} {a.pick(a.theme.things)}"),
    (2, lambda a: f"{a.pick(PEOPLE)} has no {plural(a.pick(a.theme.things))}"),
    (1, lambda a: f"({a.pick(a.theme.adjectives)}) {a.pick(a.theme.values)}"),
    (1, lambda a: f"[{a.pick(GENERAL_NOUNS)}] {a.pick(a.theme.things)} {past(a.pick(a.theme.verbs))}"),
    (3, lambda a: f"the {a.pick(a.theme.measures)} of the {a.pick(a.theme.values)}"),
    (2, lambda a: f"all {plural(a.pick(a.theme.things))} are {a.pick(a.theme.adjectives)} {a.pick(MOMENTS)}"),
)
"""Ways to say something in one to five words."""

APOSTROPHES: tuple[Phrase, ...] = (
    lambda a: f"don't {a.pick(a.theme.verbs)}",
    lambda a: f"it's {a.pick(a.theme.adjectives)}",
    lambda a: f"{a.pick(PEOPLE)}'s {a.pick(a.theme.things)}",
    lambda a: f"the {a.pick(a.theme.things)} isn't {a.pick(a.theme.adjectives)}",
    lambda a: f"can't {a.pick(a.theme.verbs)} the {a.pick(a.theme.things)}",
)
SPOKEN: tuple[Phrase, ...] = (
    lambda a: f'say "{a.pick(a.theme.values)}"',
    lambda a: f'{a.pick(PEOPLE)} said "{a.pick(MOMENTS)}"',
    lambda a: f'the "{a.pick(a.theme.adjectives)}" {a.pick(a.theme.things)}',
    lambda a: f'"{a.pick(a.theme.values)}" is {a.pick(a.theme.adjectives)}',
)


def number(author: Author) -> str:
    """A whole number: mostly small."""
    draw = author.random()
    if draw < 0.5:
        return str(int(author.random() * 10))
    if draw < 0.94:
        return str(10 + int(author.random() * 90))
    return str(100 + int(author.random() * 900))


def threshold(author: Author) -> str:
    """A whole number that small numbers lie on both sides of."""
    return str(int(author.random() * (10 if author.random() < 0.7 else 50)))


def positive(author: Author) -> str:
    """A whole number from 1 to 99, mostly below 10."""
    return str(1 + int(author.random() * (9 if author.random() < 0.7 else 99)))


def phrase(author: Author) -> str:
    """One to five words as a message would have them, without quotes."""
    draw = author.random()
    if draw < 0.04:
        return author.pick(APOSTROPHES if draw < 0.02 else SPOKEN)(author)
    text = author.pick(PHRASES)(author)
    if author.random() < author.capital:
        text = text[0].upper() + text[1:]
    if draw > 0.9:
        text += author.pick(ENDINGS)
    return text


def string(author: Author) -> str:
    """A string literal of one to five words."""
    return author.quote(phrase(author))


def example(author: Author, label: str) -> str:
    """What a variable of this name may hold, without quotes: a color for `color`, a phrase for `message`."""
    values = LABEL_VALUES.get(label)
    if values is not None:
        return author.pick(values)
    if label in SENTENCES:
        return phrase(author)
    return author.pick(PEOPLE if label == "name" and author.random() < 0.6 else author.theme.values)


def briefly(label: str) -> str:
    """The label itself, or none when it stands for whole phrases."""
    return "" if label in SENTENCES else label


def word(author: Author, label: str = "") -> str:
    """A string literal that a variable of this name may hold."""
    return author.quote(example(author, label))


def words(author: Author, label: str, low: int, high: int) -> list[str]:
    """Different string literals."""
    found: list[str] = []
    for _ in range(author.between(low, high)):
        text = example(author, label)
        if text not in found:
            found.append(text)
    return [author.quote(text) for text in found]


def numbers(author: Author, low: int, high: int) -> list[str]:
    """Number literals: small ones, large ones, a run, zeros, fractions or negatives."""
    count = author.between(low, high)
    draw = author.random()
    if draw < 0.45:
        return [number(author) for _ in range(count)]
    if draw < 0.75:
        return [str(int(author.random() * 10)) for _ in range(count)]
    if draw < 0.87:
        first = author.between(1, 5)
        return [str(value) for value in range(first, first + count)]
    if draw < 0.91:
        return ["0"] * count
    if draw < 0.95:
        return [f"{int(author.random() * 10)}.{author.between(1, 9)}" for _ in range(count)]
    return [str(author.between(-9, 9)) for _ in range(count)]


def bracketed(author: Author, pad: str, head: str, items: list[str], tail: str = "", marks: str = "[]") -> list[str]:
    """`head[items]tail` on one line, or one item a line when that is too long (and now and then anyway)."""
    flat = f"{head}{marks[0]}{', '.join(items)}{marks[1]}{tail}"
    if len(pad) + len(flat) <= LINE_LIMIT and (len(items) < 3 or author.random() > 0.08):
        return [flat]
    return [f"{head}{marks[0]}", *[f"{INDENT}{item}," for item in items], f"{marks[1]}{tail}"]


def row_of(items: list[str]) -> str:
    return f"[{', '.join(items)}]"


def row_items(author: Author, low: int = 1, high: int = 4) -> list[str]:
    """The rows of a nested list of numbers: of equal length or not."""
    count = author.between(low, high)
    if author.random() < 0.5:
        length = author.between(1, 4)
        return [row_of(numbers(author, length, length)) for _ in range(count)]
    return [row_of(numbers(author, 1, 4)) for _ in range(count)]


def word_rows(author: Author, label: str) -> list[str]:
    """The rows of a nested list of strings."""
    return [row_of(words(author, briefly(label), 1, 3)) for _ in range(author.between(1, 3))]


def cube_items(author: Author) -> list[str]:
    """The layers of a list of lists of lists."""
    return [
        row_of([row_of(numbers(author, 1, 3)) for _ in range(author.between(1, 2))])
        for _ in range(author.between(1, 3))
    ]


def ragged_items(author: Author) -> list[str]:
    """Numbers and lists of numbers side by side, to any depth up to three; the last one may be either."""
    items: list[str] = []
    for _ in range(author.between(2, 5)):
        draw = author.random()
        if draw < 0.5:
            items.append(number(author))
        elif draw < 0.85:
            items.append(row_of(numbers(author, 1, 3)))
        else:
            items.append(row_of([number(author), row_of(numbers(author, 1, 2))]))
    return items
