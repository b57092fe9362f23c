"""More of the standard library, each with a line or two that use it: see modules.py for the rest."""

from sparse_circuits.corpus.idioms import data, expressions, literals, names
from sparse_circuits.corpus.idioms.author import INDENT, Author
from sparse_circuits.corpus.idioms.choices import weighted


def use_itertools(author: Author, pad: str) -> None:
    """Pairs of a list, of two lists, or running totals."""
    draw = author.random()
    if draw < 0.35:
        if author.need("itertools", "combinations"):
            items, _ = data.some_words(author, pad)
            pair = names.loop_name(author, author.pick(("pair", "two", "both")), "pair")
            author.write(pad, f"for {pair} in combinations({items}, 2):", f"{INDENT}print({pair})")
    elif draw < 0.7:
        if author.need("itertools", "product"):
            items, x = data.some_words(author, pad)
            x = names.loop_name(author, x, "text")
            y = names.loop_name(author, author.pick(("i", "k", "n")), "index")
            author.write(pad, f"for {x}, {y} in product({items}, range({author.between(2, 4)})):")
            author.write(pad + INDENT, f"print({x}, {y})")
    elif author.need("itertools", "accumulate"):
        items, _ = data.some_list(author, pad)
        name = names.claim(author, author.pick(("totals", "sums", "running_totals")), "other")
        author.write(pad, f"{name} = list(accumulate({items}))", f"print({name})")


def use_defaultdict(author: Author, pad: str) -> None:
    """Lists by key that need no beginning."""
    if not author.need("collections", "defaultdict"):
        return
    items, x = data.some_words(author, pad)
    x = names.loop_name(author, x, "text")
    name = names.claim(author, author.pick(("groups", "by_letter", "found", "index_of")), "other")
    if author.chance(0.6):
        key = author.pick((f"{x}[0]", f"len({x})"))
        lines = (f"{name} = defaultdict(list)", f"for {x} in {items}:", f"{INDENT}{name}[{key}].append({x})")
    else:
        lines = (f"{name} = defaultdict(int)", f"for {x} in {items}:", f"{INDENT}{name}[{x}] += 1")
    author.write(pad, *lines, f"print(dict({name}))")


def use_re(author: Author, pad: str) -> None:
    """Find, replace or test by a pattern."""
    if not author.need("re"):
        return
    text = data.some_text(author, pad)
    draw = author.random()
    pattern = author.quote(author.pick(("\\w+", "[a-z]+", "\\d+", "[aeiou]", "\\s")))
    if draw < 0.4:
        name = names.claim(author, author.pick(("found", "parts", "matches")), "other")
        author.write(pad, f"{name} = re.findall(r{pattern}, {text})", f"print({name})")
    elif draw < 0.7:
        name = names.claim(author, author.pick(("clean", "changed", "masked")), "text")
        mark = author.quote(author.pick(("-", "_", "*", "")))
        author.write(pad, f"{name} = re.sub(r{pattern}, {mark}, {text})", f"print({name})")
    else:
        author.write(pad, f"if re.search(r{pattern}, {text}):", f"{INDENT}print({literals.string(author)})")


def use_date(author: Author, pad: str) -> None:
    """A day of a year, and the days between two."""
    if not author.need("datetime", "date"):
        return

    def day() -> str:
        return f"date({author.between(1990, 2030)}, {author.between(1, 12)}, {author.between(1, 28)})"

    first = names.claim(author, author.pick(("start", "birthday", "opened", "first_day")), "date")
    author.write(pad, f"{first} = {day()}")
    if author.chance(0.5):
        second = names.claim(author, author.pick(("end", "today", "closed", "last_day")), "date")
        author.write(pad, f"{second} = {day()}", f"print(({second} - {first}).days)")
    else:
        author.write(pad, f"print({first}.{author.pick(('year', 'month', 'day', 'isoformat()'))})")


def use_reduce(author: Author, pad: str) -> None:
    """Fold a list into one number."""
    if not author.need("functools", "reduce"):
        return
    items, _ = data.some_list(author, pad)
    a, b = author.pick((("a", "b"), ("x", "y"), ("left", "right"), ("total", "value")))
    name = names.claim(author, author.pick(("product", "total", "largest", "folded")), "other")
    step = author.pick((f"{a} * {b}", f"{a} + {b}", f"max({a}, {b})", f"{a} if {a} > {b} else {b}"))
    author.write(pad, f"{name} = reduce(lambda {a}, {b}: {step}, {items})", expressions.show(author, name))


def use_statistics(author: Author, pad: str) -> None:
    """The mean or the median of a list."""
    call = author.pick(("mean", "median"))
    if author.need("statistics", call):
        items, element = data.some_list(author, pad)
        name = names.claim(author, author.pick((f"average_{element}", "middle", "average", "typical")), "other")
        author.write(pad, f"{name} = {call}({items})", f"print({name})")


def use_deepcopy(author: Author, pad: str) -> None:
    """A copy of a grid that can be changed without it."""
    if not author.need("copy", "deepcopy"):
        return
    rows, _, _ = data.some_rows(author, pad)
    name = names.claim(author, author.pick(("saved", "before", "backup", f"{rows}_copy")), "other")
    author.write(pad, f"{name} = deepcopy({rows})", f"{name}[0][0] = {literals.number(author)}")
    author.write(pad, f"print({rows}, {name})")


def use_pathlib(author: Author, pad: str) -> None:
    """The parts of a path."""
    if not author.need("pathlib", "Path"):
        return
    name = names.claim(author, author.pick(("path", "folder", "place", "target")), "pathlib")
    parts = f"{author.pick(author.theme.things)}/{author.pick(author.theme.values)}.txt"
    author.write(pad, f"{name} = Path({author.quote(parts)})")
    author.write(pad, f"print({name}.{author.pick(('name', 'stem', 'suffix', 'parent'))})")


LIBRARY = weighted(
    (3, use_itertools),
    (2, use_defaultdict),
    (3, use_re),
    (2, use_date),
    (2, use_reduce),
    (2, use_statistics),
    (1, use_deepcopy),
    (1, use_pathlib),
)
