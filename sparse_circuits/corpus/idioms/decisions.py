"""Decisions: the same flag or number after `if` as a statement, in a conditional expression, and at a line's start."""

from collections.abc import Callable

from sparse_circuits.corpus.idioms import actions, branches, data, expressions, literals, names
from sparse_circuits.corpus.idioms.author import INDENT, Author
from sparse_circuits.corpus.idioms.choices import weighted
from sparse_circuits.corpus.idioms.definition import Definition
from sparse_circuits.corpus.idioms.loops import source
from sparse_circuits.corpus.idioms.words import split

CHOSEN = split("label text color mode size answer message status result name kind sign mark level title")


def set_and_test(author: Author, pad: str) -> None:
    """A flag: set, tested, set again; bare or compared with True and False."""
    known = author.scope.flags
    if known and author.chance(0.5):
        flag = author.pick(known)
        if flag in author.scope.frozen:
            return
        if author.chance(0.5):
            author.write(pad, f"{flag} = {author.pick(('True', 'False'))}")
    else:
        flag = data.set_flag(author, pad)
    author.write(pad, f"if {flag} == {author.pick(('True', 'True', 'True', 'False'))}:")
    branches.arm(author, pad + INDENT)
    if author.chance(0.2):
        author.write(pad, f"if {flag} == {author.pick(('True', 'False'))}:", INDENT + actions.action(author))
        return
    if author.chance(0.4):
        author.write(pad + INDENT, f"{flag} = {author.pick(('False', 'True'))}")
    if author.chance(0.4):
        author.write(pad, "else:")
        author.write(pad + INDENT, f"{flag} = True" if author.chance(0.4) else actions.action(author))


def flag_both_ways(author: Author, pad: str) -> None:
    """A flag as a statement's condition and inside an expression, in either order."""
    flag = data.some_flag(author, pad)
    name = names.claim(author, author.pick(CHOSEN), "text")
    values = f"{literals.word(author)} if {flag} else {literals.word(author)}"

    def expression() -> None:
        author.write(pad, f"{name} = {values}")
        if name not in author.scope.texts:
            author.scope.texts.append(name)

    def statement() -> None:
        author.write(pad, f"if {flag}:")
        branches.arm(author, pad + INDENT)

    for step in (expression, statement) if author.chance(0.5) else (statement, expression):
        step()
    if author.chance(0.6):
        author.write(pad, expressions.show(author, name))


def some_test(author: Author, pad: str) -> str:
    """A condition: a flag, or something about a number, a string or a list."""
    draw = author.random()
    if draw < 0.4:
        flag = data.some_flag(author, pad)
        return flag if draw < 0.3 else f"not {flag}"
    if draw < 0.85:
        return expressions.condition(author, *branches.subject(author, pad))
    items, _ = data.some_words(author, pad)
    if draw < 0.93:
        return f"len({items}) {author.pick('<>')} {author.between(1, 6)}"
    return f"{literals.word(author)} in {items}"


def other_than(taken: str, draw: Callable[[], str]) -> str:
    """Something else than what is taken, if a few draws find it."""
    for _ in range(4):
        found = draw()
        if found != taken:
            break
    return found


def choose_between(author: Author, pad: str) -> None:
    """A conditional expression of names or literals, in an assignment or in a call."""
    scope = author.scope
    test = some_test(author, pad)
    pool = scope.numbers if author.chance(0.5) else scope.texts
    kind = "number" if pool is scope.numbers else "text"

    def choice() -> str:
        if pool and author.chance(0.5):
            return author.pick(pool)
        return literals.number(author) if kind == "number" else literals.word(author)

    first = choice()
    value = f"{first} if {test} else {other_than(first, choice)}"
    if author.chance(0.15):
        author.write(pad, f"print({value})")
        return
    name = names.number_name(author) if kind == "number" else names.text_name(author)[0]
    author.write(pad, f"{name} = {value}")
    if author.chance(0.3):
        other = names.claim(author, author.pick(CHOSEN), "other")
        first = choice()
        author.write(pad, f"{other} = {first} if {some_test(author, pad)} else {other_than(first, choice)}")
        author.write(pad, f"print({name}, {other})")
    else:
        author.write(pad, expressions.show(author, name))
    pool.append(name)


def compare_and_set(author: Author, pad: str) -> None:
    """A number or string compared with ==, and set with =."""
    before = len(author.lines)
    x, kind = branches.subject(author, pad)
    if x in author.scope.frozen:
        return

    def value() -> str:
        return literals.threshold(author) if kind == "number" else literals.word(author, x)

    if len(author.lines) == before and author.chance(0.6):
        author.write(pad, f"{x} = {value()}")
    author.write(pad, f"if {x} == {value()}:")
    author.write(pad + INDENT, f"{x} = {value()}" if author.chance(0.4) else actions.action(author))
    if author.chance(0.3):
        author.write(pad, f"elif {x} == {value()}:", INDENT + actions.action(author))
    if author.chance(0.4):
        author.write(pad, "else:", INDENT + actions.action(author))


def chain(author: Author, pad: str) -> None:
    """if, elif, elif, else on one variable."""
    x, kind = branches.subject(author, pad)
    name = names.claim(author, author.pick(CHOSEN), "text") if author.chance(0.5) else ""

    def arm() -> str:
        return f"{name} = {literals.word(author)}" if name else actions.action(author)

    if kind == "number":
        bounds = sorted({author.between(1, 99) for _ in range(author.between(2, 4))})
        tests = [f"{x} < {bound}" for bound in bounds]
        if author.chance(0.4):
            tests = [f"{x} > {bound}" for bound in reversed(bounds)]
    else:
        tests = [f"{x} == {word}" for word in literals.words(author, literals.briefly(x), 2, 4)]
    for place, test in enumerate(tests):
        author.write(pad, f"{'elif' if place else 'if'} {test}:", INDENT + arm())
    if name or author.chance(0.7):
        author.write(pad, "else:", INDENT + arm())
    if name:
        if name not in author.scope.texts:
            author.scope.texts.append(name)
        author.write(pad, expressions.show(author, name))


def match_value(author: Author, pad: str) -> None:
    """`match` on a string or a number."""
    x, kind = branches.subject(author, pad)
    words = literals.words(author, literals.briefly(x), 2, 3)
    cases = words if kind == "text" else [str(author.between(0, 9)), str(author.between(10, 99))]
    author.write(pad, f"match {x}:")
    for case in (*cases, "_"):
        author.write(pad + INDENT, f"case {case}:", INDENT + actions.action(author))


def ask_again(author: Author, pad: str) -> None:
    """`while True` with a way out in the middle."""
    count = names.claim(
        author, author.pick(("count", "tries", "turn", "n", author.pick(author.theme.measures))), "number"
    )
    scope = author.scope
    scope.frozen.append(count)
    author.write(pad, f"{count} = {author.between(0, 3)}", "while True:")
    inner = pad + INDENT
    lines = [f"{count} += {author.between(1, 3)}"]
    if author.chance(0.4):
        lines.append(expressions.show(author, count))
    end = [f"if {count} {author.pick(('>', '>='))} {author.between(3, 12)}:", f"{INDENT}break"]
    if author.chance(0.4):
        end.insert(1, INDENT + actions.call_with_string(author))
    author.write(inner, *(lines + end if author.chance(0.7) else end + lines))
    scope.frozen.pop()
    if count not in scope.numbers:
        scope.numbers.append(count)


def search_or_else(author: Author, pad: str) -> None:
    """A loop that stops at what it looks for, and `else` for when there is none."""
    items, element, kind = source(author, pad)
    x = names.loop_name(author, element, kind)
    author.write(pad, f"for {x} in {items}:", f"{INDENT}if {expressions.condition(author, x, kind)}:")
    author.write(pad + INDENT * 2, expressions.show(author, x), "break")
    author.write(pad, "else:", INDENT + actions.call_with_string(author))


def until_true(author: Author) -> None:
    """A function that loops without a condition and returns True or False from inside."""
    theme = author.theme
    x = author.pick((*theme.measures, "n", "count", "number", "level"))
    definition = Definition(author)
    verb = author.pick(("can", "will", "reach", "try", "wait_until", "check", "is", "has"))
    noun = author.pick(theme.adjectives if author.chance(0.5) else theme.verbs)
    definition.open(verb, noun, [(x, "count")], f"go on until the {x} says")
    twice = INDENT * 2
    step = author.pick((f"{x} -= {author.between(1, 3)}", f"{x} = {x} - 1", f"{x} -= 1"))
    author.write(INDENT, "while True:")
    test = [f"if {x} < {author.between(1, 4)}:", f"{INDENT}return True"]
    if author.chance(0.4):
        test += [f"if {x} == {author.between(4, 90)}:", f"{INDENT}return {author.pick(('True', 'False'))}"]
    author.write(twice, *([*test, step] if author.chance(0.6) else [step, *test]))
    definition.close("flag")


def yes_or_no(author: Author) -> None:
    """A function of one or two arguments that returns True or False at several places."""
    theme = author.theme
    x, y = author.pick(theme.measures), author.pick(theme.labels)
    two = author.chance(0.4)
    definition = Definition(author)
    verb = author.pick(("is", "can", "has", "should", "may", "check", "needs"))
    noun = author.pick(theme.adjectives if author.chance(0.5) else theme.verbs)
    arguments = [(x, "number"), (y, "text")] if two else [author.pick(((x, "number"), (y, "text")))]
    definition.open(verb, noun, arguments, f"say {verb} or no")
    last = author.pick(("True", "True", "False"))
    for name, kind in arguments:
        test = expressions.condition(author, name, kind)
        author.write(INDENT, f"if {test}:", f"{INDENT}return {'False' if last == 'True' else 'True'}")
    draw = author.random()
    if draw < 0.3:
        name, kind = arguments[0]
        author.write(INDENT, f"if {expressions.condition(author, name, kind)}:")
        author.write(INDENT * 2, actions.call_with_string(author), f"return {last}")
    author.write(
        INDENT, f"return {last}" if draw < 0.9 else f"return {x if (x, 'number') in arguments else y} is not None"
    )
    definition.close("flag")


def either_word(author: Author) -> None:
    """A function that returns one thing or another, by statement or by expression."""
    theme = author.theme
    flag = author.pick((*names.FLAGS[:6], f"is_{author.pick(theme.adjectives)}"))
    x = author.pick(theme.labels)
    definition = Definition(author)
    definition.open(author.pick(("name", "choose", "pick", "show", "label")), x, [(flag, "flag"), (x, "text")])
    other = literals.word(author, x)
    if author.chance(0.5):
        author.write(INDENT, f"return {x} if {flag} else {other}")
    else:
        author.write(INDENT, f"if {flag}:" if author.chance(0.6) else f"if {flag} == True:", f"{INDENT}return {x}")
        author.write(INDENT, f"return {other}")
    definition.close("text")


DECISIONS = weighted(
    (13, set_and_test),
    (5, flag_both_ways),
    (9, choose_between),
    (3, compare_and_set),
    (6, chain),
    (1, match_value),
    (14, ask_again),
)
DECIDERS = weighted((6, until_true), (15, yes_or_no), (3, either_word))
