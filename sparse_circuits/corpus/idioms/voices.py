"""Functions with short names that take the program's strings: to say one, to make one of one, to say one of a value.

Once such a function is defined, the program's messages go through it here and there.
"""

from sparse_circuits.corpus.idioms import expressions, literals
from sparse_circuits.corpus.idioms.author import INDENT, Author
from sparse_circuits.corpus.idioms.definition import Definition
from sparse_circuits.corpus.idioms.words import split

SPEAKERS = split(
    """say show report announce notify tell warn greet write_line display speak shout whisper publish send_text
    log_line show_message print_title add_note emit broadcast mention output_line record_event trace alert"""
)
MAKERS = split(
    """load build update read check find make get parse fetch process create convert prepare collect choose clean change
    start stop open_one search pick move shape wrap solve look_up translate encode decode"""
)


def speaker(author: Author) -> None:
    """A function that says one string; the program's messages may go through it from here on."""
    verb = author.pick(SPEAKERS)
    if taken(author, verb):
        return
    x = author.pick(("text", "message", "line", "words", "note", "title", "name"))
    definition = Definition(author)
    definition.open(verb, "", [(x, "text")], "print a message")
    draw = author.random()
    if draw < 0.3:
        lines = [f"print({x})"]
    elif draw < 0.5:
        lines = [f"print({literals.string(author)}, {x})"]
    elif draw < 0.7:
        lines = [f"print(f{author.quote(expressions.braced(author, x))})"]
    elif draw < 0.85:
        lines = [f"{x} = {expressions.value(author, x, 'text')}", f"print({x})"]
    else:
        lines = [f"print({author.quote(author.pick(('* ', '- ', '> ', '# ')))} + {x})"]
    author.write(INDENT, *lines)
    definition.close("none")
    author.speakers += [verb] * 4


def taken(author: Author, verb: str) -> bool:
    return verb in author.scope.used or verb in author.reserved


def maker(author: Author) -> None:
    """A function with a short name that makes a string of a string."""
    verb = author.pick(MAKERS)
    if taken(author, verb):
        return
    x = author.pick((*author.theme.labels, "text", "name", "word", "x"))
    definition = Definition(author)
    definition.open(verb, "", [(x, "text")], f"make a new {expressions.spoken(x)}")
    if author.chance(0.3):
        author.write(INDENT, f"{x} = {expressions.value(author, x, 'text')}")
    if author.chance(0.4):
        author.write(INDENT, expressions.show(author, x))
    author.write(INDENT, f"return {expressions.value(author, x, 'text') if author.chance(0.7) else x}")
    definition.close("text")
    author.makers.append(verb)


def pairer(author: Author) -> None:
    """A function of a value and a message."""
    verb = author.pick((*SPEAKERS, *MAKERS))
    if taken(author, verb):
        return
    x = author.pick(("value", "x", "n", "amount", "size"))
    y = author.pick(("text", "label", "message", "note", "name"))
    definition = Definition(author)
    definition.open(verb, "", [(x, "number"), (y, "text")], f"show a {x} with its {y}")
    author.write(INDENT, author.pick((f"print({x}, {y})", f"print({y}, {x})", f"print({author.quote('-')}, {y}, {x})")))
    definition.close("none")
    author.pairers.append(verb)
