"""Names for variables that agree with what they hold, and the rules by which a name may be taken.

A `*_name` function proposes names until one is free in the scope, takes it, and returns it (lists also say what to
call one element). Which variables may be read is the scope's own record.
"""

import keyword

from sparse_circuits.corpus.idioms.author import Author
from sparse_circuits.corpus.idioms.words import plural

SHORT = tuple("x y n a b k m i size count total limit start step number value left level".split())
PREFIXES = tuple("total max min new old last first base next".split())
TEXT_NAMES = tuple("name text word message title line label note answer key letter part s".split())
NUMBER_LISTS = (
    ("numbers", "number"),
    ("values", "value"),
    ("nums", "n"),
    ("data", "value"),
    ("x", "n"),
    ("xs", "x"),
    ("a", "n"),
    ("items", "item"),
    ("counts", "count"),
    ("steps", "step"),
    ("sizes", "size"),
    ("levels", "level"),
)
WORD_LISTS = (
    ("words", "word"),
    ("names", "name"),
    ("lines", "line"),
    ("items", "item"),
    ("keys", "key"),
    ("letters", "letter"),
    ("parts", "part"),
    ("x", "part"),
    ("queue", "item"),
    ("stack", "item"),
    ("labels", "label"),
    ("messages", "message"),
)
ROW_LISTS = (
    ("grid", "row", "cell"),
    ("matrix", "row", "value"),
    ("board", "row", "cell"),
    ("table", "row", "value"),
    ("rows", "row", "x"),
    ("pairs", "pair", "n"),
    ("points", "point", "n"),
    ("x", "row", "n"),
    ("groups", "group", "number"),
    ("batches", "batch", "item"),
    ("data", "row", "value"),
    ("image", "row", "pixel"),
)
SPARE = tuple("other extra second final current next_ more last_".split())


def take(author: Author, name: str, kind: str) -> bool:
    """Take a name for a new variable, unless the scope has it."""
    used = author.scope.used
    if name in used or keyword.iskeyword(name):
        return False
    used[name] = kind
    return True


def fallback(author: Author, name: str, kind: str) -> str:
    """A free variant of a name that is taken: other_price, price_2."""
    for prefix in SPARE:
        spare = f"{prefix.rstrip('_')}_{name}"
        if take(author, spare, kind):
            return spare
    number = 2
    while not take(author, f"{name}_{number}", kind):
        number += 1
    return f"{name}_{number}"


def propose_number(author: Author) -> str:
    theme = author.theme
    draw = author.random()
    if draw < 0.35:
        return author.pick(SHORT)
    measure = author.pick(theme.measures)
    if draw < 0.65:
        return measure
    if draw < 0.85:
        return f"{author.pick(theme.things)}_{measure}"
    return f"{author.pick(PREFIXES)}_{measure}"


def number_name(author: Author) -> str:
    """Take a name for a number."""
    for _ in range(4):
        name = propose_number(author)
        if take(author, name, "number"):
            return name
    return fallback(author, name, "number")


def propose_text(author: Author) -> str:
    theme = author.theme
    draw = author.random()
    if draw < 0.4:
        return author.pick(TEXT_NAMES)
    label = author.pick(theme.labels)
    if draw < 0.7:
        return label
    return f"{author.pick(theme.things)}_{label}"


def text_name(author: Author) -> str:
    """Take a name for a string."""
    for _ in range(4):
        name = propose_text(author)
        if take(author, name, "text"):
            return name
    return fallback(author, name, "text")


def propose_list(author: Author) -> tuple[str, str]:
    draw = author.random()
    if draw < 0.4:
        return author.pick(NUMBER_LISTS)
    measure = author.pick(author.theme.measures)
    if draw < 0.75:
        return plural(measure), measure
    return f"{author.pick(author.theme.things)}_{plural(measure)}", measure


def list_name(author: Author) -> tuple[str, str]:
    """Take a name for a list of numbers; returns it and the name of an element."""
    for _ in range(4):
        name, element = propose_list(author)
        if take(author, name, "list"):
            return name, element
    return fallback(author, name, "list"), element


def propose_words(author: Author) -> tuple[str, str]:
    draw = author.random()
    if draw < 0.4:
        return author.pick(WORD_LISTS)
    thing = author.pick(author.theme.things)
    if draw < 0.75:
        return plural(thing), thing
    if draw < 0.9:
        return f"{author.pick(author.theme.adjectives)}_{plural(thing)}", thing
    label = author.pick(author.theme.labels)
    return plural(label), label


def words_name(author: Author) -> tuple[str, str]:
    """Take a name for a list of strings; returns it and the name of an element."""
    for _ in range(4):
        name, element = propose_words(author)
        if take(author, name, "words"):
            return name, element
    return fallback(author, name, "words"), element


def propose_rows(author: Author) -> tuple[str, str, str]:
    draw = author.random()
    if draw < 0.6:
        return author.pick(ROW_LISTS)
    measure = author.pick(author.theme.measures)
    if draw < 0.8:
        return f"{author.pick(author.theme.things)}_rows", "row", measure
    return f"all_{plural(measure)}", plural(measure), measure


def rows_name(author: Author) -> tuple[str, str, str]:
    """Take a name for a list of rows; returns it and the names of a row and of an element."""
    for _ in range(4):
        name, row, cell = propose_rows(author)
        if take(author, name, "rows"):
            return name, row, cell
    return fallback(author, name, "rows"), row, cell


def loop_name(author: Author, name: str, kind: str) -> str:
    """A loop variable: the name itself when it is free or was a loop variable of this kind before."""
    scope = author.scope
    taken = scope.used.get(name)
    if taken is None or (taken == kind and name not in scope.frozen):
        scope.used[name] = kind
        return name
    return fallback(author, name, kind)
