"""Calls with strings: messages, logs, methods of lists of strings, tests of a string, values made of one."""

from collections.abc import Callable

from sparse_circuits.corpus.idioms import actions, data, expressions, literals, names
from sparse_circuits.corpus.idioms.author import INDENT, Author
from sparse_circuits.corpus.idioms.choices import weighted


def say(author: Author, pad: str) -> None:
    author.write(pad, actions.call_with_string(author))


def say_several(author: Author, pad: str) -> None:
    """Two to four messages in a row, mostly through the same function."""
    speaker = author.pick(author.speakers)
    for _ in range(author.between(2, 4)):
        author.write(pad, f"{speaker}({literals.string(author)})")


def say_two(author: Author, pad: str) -> None:
    """Two strings in one call, each in its own quotes, on one line or on several."""
    first, second = literals.string(author), literals.string(author)
    if author.chance(0.3):
        last = [second] if author.chance(0.6) else [second, actions.readable(author)]
        author.write(pad, "print(", *[f"{INDENT}{item}," for item in (first, *last)], ")")
    else:
        author.write(pad, f"print({first}, {second})")


def log(author: Author, pad: str) -> None:
    """Messages to a log that the program sets up now, unless it is inside a function."""
    if pad or "log" in author.scope.used or not author.need("logging"):
        say(author, pad)
        return
    name = author.pick(("log", "logger"))
    author.reserve(name, "log")
    argument = "__name__" if author.chance(0.5) else author.quote(author.pick(author.theme.things))
    author.write(pad, f"{name} = logging.getLogger({argument})")
    author.speakers += [f"{name}.info", f"{name}.debug", f"{name}.error", f"{name}.warning"]
    for _ in range(author.between(1, 2)):
        author.write(pad, f"{name}.{author.pick(('info', 'debug', 'warning', 'error'))}({literals.string(author)})")


def write_out(author: Author, pad: str) -> None:
    """sys.stdout.write, with the newline inside the string."""
    if not author.need("sys"):
        return
    stream = author.pick(("stdout", "stdout", "stderr"))
    text = literals.phrase(author) + ("\\n" if author.chance(0.6) else "")
    author.write(
        pad,
        f"sys.{stream}.write({author.quote(text)})",
    )


def append(author: Author, pad: str) -> None:
    """Append strings or numbers to a list in scope or a new one."""
    if author.chance(0.7):
        items, element = data.some_words(author, pad)
        if items not in author.scope.frozen:
            for _ in range(author.between(1, 3)):
                author.write(pad, f"{items}.append({literals.word(author, element)})")
    else:
        items, _ = data.some_list(author, pad)
        if items not in author.scope.frozen:
            for _ in range(author.between(1, 3)):
                author.write(pad, f"{items}.append({literals.number(author)})")
    after = author.random()
    if after < 0.3:
        author.write(pad, expressions.show(author, items))
    elif after < 0.5:
        author.write(pad, f"print(len({items}))")


def show_variable(author: Author, pad: str) -> None:
    author.write(pad, actions.show_something(author))


def edit_words(author: Author, pad: str) -> None:
    """A new list of strings, and a few of a list's methods with one string."""
    name, element = names.words_name(author)
    known = list(
        dict.fromkeys(literals.example(author, literals.briefly(element)) for _ in range(author.between(3, 6)))
    )
    author.write(pad, *literals.bracketed(author, pad, f"{name} = ", [author.quote(text) for text in known]))
    for _ in range(author.between(1, 3)):
        draw = author.random()
        if draw < 0.3 and len(known) > 1:
            author.write(pad, f"{name}.remove({author.quote(known.pop(int(author.random() * len(known))))})")
        elif draw < 0.55:
            place = names.claim(author, author.pick(("place", "index", "position", "i", "found_at")), "number")
            author.write(pad, f"{place} = {name}.index({author.quote(author.pick(known))})")
        elif draw < 0.75:
            author.write(pad, f"{name}.insert({author.between(0, 2)}, {literals.word(author, element)})")
        else:
            count = names.claim(author, author.pick(("count", "times", f"{element}_count")), "number")
            author.write(pad, f"{count} = {name}.count({literals.word(author, element)})")
    if author.chance(0.6):
        author.write(pad, expressions.show(author, name))
    author.scope.words.append((name, element))


def check_text(author: Author, pad: str) -> None:
    """Set a string and assert something true about it."""
    text = author.pick(literals.PHRASES)(author)
    name, _ = names.text_name(author)
    first, last = text.split()[0], text.split()[-1]
    author.write(pad, f"{name} = {author.quote(text)}")
    author.write(
        pad,
        author.pick(
            (
                f"assert {name}.startswith({author.quote(first)})",
                f"assert {name}.endswith({author.quote(last)})",
                f"assert {name} == {author.quote(text)}",
                f"assert {name} != {author.quote(text + 's')}",
                f"assert {author.quote(first)} in {name}",
                f"assert len({name}) == {len(text)}",
            )
        ),
    )
    author.scope.texts.append(name)


def make_of_string(author: Author, pad: str) -> None:
    """Set a variable to what a call makes of a string."""
    kinds = ("len", "str") if not author.makers else (author.pick(author.makers),)
    call = author.pick(kinds)
    if call == "len":
        name = names.claim(author, author.pick(("size", "length", "n", "width", "x")), "number")
    else:
        name = names.claim(author, author.pick((*author.theme.labels, *names.TEXT_NAMES)), "text")
    author.write(pad, f"{name} = {call}({literals.string(author)})")
    if author.chance(0.5):
        author.write(pad, expressions.show(author, name))


def say_with(author: Author, pad: str) -> None:
    """A call with a variable first and a string last."""
    name = actions.readable(author)
    text = author.quote(expressions.remark(author))
    if author.pairers and author.chance(0.7):
        author.write(pad, f"{author.pick(author.pairers)}({name}, {text})")
    else:
        author.write(pad, f"print({name}, {text})")


STRING_CALLS: tuple[Callable[[Author, str], None], ...] = weighted(
    (14, say),
    (8, say_several),
    (2, say_two),
    (4, say_with),
    (5, make_of_string),
    (2, log),
    (1, write_out),
    (6, append),
    (3, edit_words),
    (2, check_text),
    (2, show_variable),
)
"""Paragraphs that mostly are calls with one string."""
