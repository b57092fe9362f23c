"""Names for variables that agree with what they hold, and the rules by which a name may be taken.

A `*_name` function proposes names until one is free in the scope, takes it, and returns it; lists also say
what to call one element. Which variables may be read is the scope's own record.
"""

from collections.abc import Callable
from keyword import kwlist

from sparse_circuits.corpus.idioms.author import Author
from sparse_circuits.corpus.idioms.words import plural, split

FORBIDDEN = frozenset(kwlist)
SHORT = split("x y n a b k m size count total limit start step number value left level index result current")
PREFIXES = split("total max min new old last first base next")
TEXT_NAMES = split("name text word message title line label answer key letter x value result current item")
FLAGS = split("done found ready running active empty valid changed waiting finished open_now enabled busy")
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
    ("result", "x"),
    ("row", "cell"),
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
    ("colors", "color"),
    ("data", "word"),
    ("result", "word"),
    ("values", "value"),
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
    ("a", "row", "n"),
    ("groups", "group", "number"),
    ("batches", "batch", "item"),
    ("data", "row", "value"),
    ("values", "row", "value"),
    ("items", "group", "item"),
    ("result", "row", "cell"),
    ("image", "row", "pixel"),
    ("lists", "numbers", "number"),
    ("queues", "queue", "item"),
    ("stacks", "stack", "item"),
)
TABLES = (
    ("counts", "word", "count"),
    ("ages", "name", "age"),
    ("scores", "name", "score"),
    ("prices", "item", "price"),
    ("stock", "item", "amount"),
    ("totals", "key", "total"),
    ("data", "key", "value"),
    ("table", "key", "value"),
)
LOOP_NAMES = {
    "number": ("n", "value", "number", "v"),
    "text": ("word", "item", "entry", "part"),
    "list": ("row", "group", "part"),
    "index": ("i", "j", "k", "index"),
}
GROWN = split(
    """seen current result found text letters line output unique buffer known visited message parts
    all_words left total_text used"""
)
"""Names for what may be a set that is added to or a string that is appended to."""
SPARE = split("other extra second final current more last my new")


def take(author: Author, name: str, kind: str) -> bool:
    """Take a name for a new variable, unless the scope has it."""
    used = author.scope.used
    if name in used or name in FORBIDDEN:
        return False
    used[name] = kind
    return True


def fallback(author: Author, name: str, kind: str) -> str:
    """A free variant of a name that is taken: other_price, price_2."""
    for prefix in SPARE:
        spare = f"{prefix}_{name}"
        if take(author, spare, kind):
            return spare
    number = 2
    while not take(author, f"{name}_{number}", kind):
        number += 1
    return f"{name}_{number}"


def claim(author: Author, name: str, kind: str) -> str:
    """A name for something set anew: the name itself, if free or of this kind and needed by no open loop."""
    scope = author.scope
    if take(author, name, kind):
        return name
    if scope.used.get(name) == kind and name not in scope.frozen:
        return name
    return fallback(author, name, kind)


def loop_name(author: Author, name: str, kind: str) -> str:
    """A name for a loop variable of this kind: the one asked for, or a general one when that is taken."""
    used = author.scope.used
    for candidate in (name, *LOOP_NAMES.get(kind, ())):
        if used.get(candidate, kind) == kind and candidate not in author.scope.frozen:
            used[candidate] = kind
            return candidate
    return fallback(author, name, kind)


def chosen(author: Author, propose: Callable[[Author], tuple[str, ...]], kind: str) -> tuple[str, ...]:
    """Take the first free name of a few proposals; the rest of the proposal comes along."""
    for _ in range(4):
        proposal = propose(author)
        if take(author, proposal[0], kind):
            return proposal
    return (fallback(author, proposal[0], kind), *proposal[1:])


def propose_number(author: Author) -> tuple[str, ...]:
    theme = author.theme
    draw = author.random()
    if draw < 0.35:
        return (author.pick(SHORT),)
    measure = author.pick(theme.measures)
    if draw < 0.65:
        return (measure,)
    if draw < 0.85:
        return (f"{author.pick(theme.things)}_{measure}",)
    return (f"{author.pick(PREFIXES)}_{measure}",)


def propose_text(author: Author) -> tuple[str, ...]:
    draw = author.random()
    if draw < 0.4:
        name = author.pick(TEXT_NAMES)
        return name, name
    label = author.pick(author.theme.labels)
    if draw < 0.7:
        return label, label
    return f"{author.pick(author.theme.things)}_{label}", label


def propose_flag(author: Author) -> tuple[str, ...]:
    draw = author.random()
    if draw < 0.7:
        return (author.pick(FLAGS),)
    if draw < 0.9:
        return (f"is_{author.pick(author.theme.adjectives)}",)
    return (f"has_{plural(author.pick(author.theme.things))}",)


def propose_list(author: Author) -> tuple[str, ...]:
    draw = author.random()
    if draw < 0.45:
        return author.pick(NUMBER_LISTS)
    measure = author.pick(author.theme.measures)
    if draw < 0.75:
        return plural(measure), measure
    return f"{author.pick(author.theme.things)}_{plural(measure)}", measure


def propose_words(author: Author) -> tuple[str, ...]:
    draw = author.random()
    if draw < 0.45:
        return author.pick(WORD_LISTS)
    thing = author.pick(author.theme.things)
    if draw < 0.8:
        return plural(thing), thing
    if draw < 0.9:
        return f"{author.pick(author.theme.adjectives)}_{plural(thing)}", thing
    label = author.pick(author.theme.labels)
    return plural(label), label


def propose_rows(author: Author) -> tuple[str, ...]:
    draw = author.random()
    if draw < 0.55:
        return author.pick(ROW_LISTS)
    measure = author.pick(author.theme.measures)
    if draw < 0.7:
        return f"{author.pick(author.theme.things)}_rows", "row", measure
    if draw < 0.85:
        return f"{measure}_groups", plural(measure), measure
    return f"all_{plural(measure)}", plural(measure), measure


def propose_table(author: Author) -> tuple[str, ...]:
    draw = author.random()
    if draw < 0.4:
        return author.pick(TABLES)
    measure = author.pick(author.theme.measures)
    thing = author.pick(author.theme.things)
    if draw < 0.7:
        return f"{thing}_{plural(measure)}", thing, measure
    return f"{measure}_by_{thing}", thing, measure


def number_name(author: Author) -> str:
    """Take a name for a number."""
    return chosen(author, propose_number, "number")[0]


def text_name(author: Author) -> tuple[str, str]:
    """Take a name for a string; returns it and the label that says what it holds."""
    name, label = chosen(author, propose_text, "text")
    return name, label


def flag_name(author: Author) -> str:
    """Take a name for True or False."""
    return chosen(author, propose_flag, "flag")[0]


def list_name(author: Author) -> tuple[str, str]:
    """Take a name for a list of numbers; returns it and the name of an element."""
    name, element = chosen(author, propose_list, "list")
    return name, element


def words_name(author: Author) -> tuple[str, str]:
    """Take a name for a list of strings; returns it and the name of an element."""
    name, element = chosen(author, propose_words, "words")
    return name, element


def rows_name(author: Author) -> tuple[str, str, str]:
    """Take a name for a list of rows; returns it and the names of a row and of an element."""
    name, row, cell = chosen(author, propose_rows, "rows")
    return name, row, cell


def table_name(author: Author) -> tuple[str, str, str]:
    """Take a name for a dictionary of numbers; returns it and the names of a key and of a value."""
    name, key, value = chosen(author, propose_table, "table")
    return name, key, value
