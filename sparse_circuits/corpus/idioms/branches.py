"""`if`, `elif`, `else`, conditional expressions, and `try`."""

from sparse_circuits.corpus.idioms import actions, data, expressions, literals, names
from sparse_circuits.corpus.idioms.author import INDENT, Author


def subject(author: Author, pad: str) -> tuple[str, str]:
    """A number or a string to decide on, and its kind."""
    if author.random() < 0.5:
        return data.some_number(author, pad), "number"
    return data.some_text(author, pad), "text"


def arm(author: Author, pad: str) -> None:
    """The body of a branch: one or two actions."""
    for _ in range(1 if author.random() < 0.75 else 2):
        author.write(pad, actions.action(author))


def branch(author: Author, pad: str) -> None:
    """if, perhaps elif, perhaps else, on a number or a string."""
    x, kind = subject(author, pad)
    author.comment(pad, f"look at the {expressions.spoken(x)}")
    test = expressions.condition(author, x, kind)
    author.write(pad, f"if {test}:")
    arm(author, pad + INDENT)
    for _ in range(author.pick((0, 0, 0, 1, 1, 2))):
        test = expressions.other_condition(author, x, kind, test)
        author.write(pad, f"elif {test}:")
        arm(author, pad + INDENT)
    if author.chance(0.6):
        author.write(pad, "else:")
        arm(author, pad + INDENT)


def branch_flag(author: Author, pad: str) -> None:
    """if on a flag: bare, negated, compared, joined with another condition."""
    flag = data.some_flag(author, pad)
    draw = author.random()
    if draw < 0.5:
        test = flag
    elif draw < 0.6:
        test = f"not {flag}"
    elif draw < 0.85:
        test = f"{flag} {author.pick(('==', '==', 'is', '!='))} {author.pick(('True', 'True', 'False'))}"
    else:
        number = data.some_number(author, pad)
        test = f"{flag} {author.pick(('and', 'or'))} {number} > {literals.number(author)}"
    author.write(pad, f"if {test}:")
    arm(author, pad + INDENT)
    if author.chance(0.5):
        author.write(pad, "else:")
        arm(author, pad + INDENT)


def branch_set(author: Author, pad: str) -> None:
    """Set the same string or number differently in each branch."""
    x, kind = subject(author, pad)
    if author.chance(0.7):
        name, label = names.text_name(author)
        values = [literals.word(author, label) for _ in range(3)]
        readable = author.scope.texts
    else:
        name = names.number_name(author)
        values = [literals.number(author) for _ in range(3)]
        readable = author.scope.numbers
    test = expressions.condition(author, x, kind)
    author.write(pad, f"if {test}:", f"{INDENT}{name} = {values[0]}")
    if author.chance(0.5):
        author.write(
            pad,
            f"elif {expressions.other_condition(author, x, kind, test)}:",
            f"{INDENT}{name} = {values[1]}",
        )
    author.write(pad, "else:", f"{INDENT}{name} = {values[2]}")
    if author.chance(0.7):
        author.write(pad, expressions.show(author, name))
    readable.append(name)


def nested_branch(author: Author, pad: str) -> None:
    """if inside if."""
    flag = data.some_flag(author, pad)
    x, kind = subject(author, pad)
    inner = pad + INDENT
    author.write(pad, f"if {flag}:")
    author.write(inner, f"if {expressions.condition(author, x, kind)}:")
    arm(author, inner + INDENT)
    if author.chance(0.5):
        author.write(inner, "else:")
        arm(author, inner + INDENT)
    if author.chance(0.5):
        author.write(pad, "else:")
        arm(author, inner)


def ternary(author: Author, pad: str) -> None:
    """A conditional expression."""
    flagged = author.random() < 0.5
    test = data.some_flag(author, pad) if flagged else expressions.condition(author, *subject(author, pad))
    scope = author.scope
    draw = author.random()
    if draw < 0.6:
        name, label = names.text_name(author)
        author.write(pad, f"{name} = {literals.word(author, label)} if {test} else {literals.word(author, label)}")
        scope.texts.append(name)
    elif draw < 0.75 and len(scope.numbers) > 1:
        first, second = author.pick(scope.numbers), author.pick(scope.numbers)
        name = names.number_name(author)
        author.write(pad, f"{name} = {first} if {test} else {second}")
        scope.numbers.append(name)
    elif draw < 0.9:
        name = names.number_name(author)
        author.write(pad, f"{name} = {literals.number(author)} if {test} else {literals.number(author)}")
        scope.numbers.append(name)
    else:
        author.write(pad, f"print({literals.word(author)} if {test} else {literals.word(author)})")
        return
    if author.chance(0.6):
        author.write(pad, expressions.show(author, name))


ERRORS = ("ValueError", "KeyError", "TypeError", "IndexError", "ZeroDivisionError", "Exception")


def attempt(author: Author, pad: str) -> None:
    """try and except around something that may fail."""
    draw = author.random()
    if draw < 0.4:
        name = names.claim(author, author.pick(("value", "number", "result", "count")), "number")
        text = author.pick((str(author.between(0, 99)), literals.phrase(author)))
        body, error = f"{name} = int({author.quote(text)})", "ValueError"
        other = f"{name} = {author.between(0, 9)}"
    elif draw < 0.6:
        items, _ = data.some_list(author, pad)
        body, error = f"print({items}[{author.between(0, 9)}])", "IndexError"
        other = actions.call_with_string(author)
    elif draw < 0.8:
        body, error = f"raise {author.pick(ERRORS[:3])}({literals.string(author)})", "Exception"
        other = "print(error)"
    else:
        first = data.some_number(author, pad)
        name = names.claim(author, author.pick(("rate", "share", "ratio", "part")), "number")
        body, error = f"{name} = {literals.number(author)} / {first}", "ZeroDivisionError"
        other = f"{name} = 0"
    named = other == "print(error)" or author.chance(0.2)
    author.write(pad, "try:", INDENT + body, f"except {error} as error:" if named else f"except {error}:")
    author.write(pad + INDENT, other)
    if named and other != "print(error)":
        author.write(pad + INDENT, "print(error)")
    if author.chance(0.2):
        author.write(pad, author.pick(("else:", "finally:")), INDENT + actions.call_with_string(author))
