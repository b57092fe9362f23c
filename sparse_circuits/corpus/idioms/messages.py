"""Messages with and without values: f-strings and plain strings that begin with the same words."""

from sparse_circuits.corpus.idioms import data, expressions, literals, names
from sparse_circuits.corpus.idioms.author import INDENT, Author
from sparse_circuits.corpus.idioms.choices import weighted
from sparse_circuits.corpus.idioms.definition import Definition
from sparse_circuits.corpus.idioms.words import past, plural


def value_name(author: Author, pad: str) -> str:
    """A number or a string in scope, or one set now."""
    scope = author.scope
    pool = [*scope.numbers, *scope.texts]
    if pool and author.chance(0.8):
        return author.pick(pool)
    return data.set_number(author, pad) if author.chance(0.6) else data.set_text(author, pad)[0]


def opening(author: Author, name: str) -> str:
    """The words before a value."""
    theme, draw = author.theme, author.random()
    text = expressions.spoken(name)
    if draw < 0.2:
        return text
    if draw < 0.3:
        return f"the {text} is"
    if draw < 0.4:
        return f"{author.pick(theme.things)} {text}"
    if draw < 0.5:
        return f"{author.pick(theme.adjectives)} {text}"
    if draw < 0.6:
        return f"{author.pick(theme.things)} {past(author.pick(theme.verbs))}"
    return author.pick((f"we have {text}", f"{text} of", "total", "now", "found", "got"))


def with_value(author: Author, name: str) -> str:
    """The text of an f-string: words, a value in braces, perhaps more words."""
    value = f"{{{name}}}"
    draw = author.random()
    start = opening(author, name)
    if draw < 0.55:
        return f"{start} {value}"
    if draw < 0.7:
        return f"{start}: {value}"
    if draw < 0.9:
        end = author.pick((plural(author.pick(author.theme.things)), author.pick(author.theme.adjectives), "now"))
        return f"{start} {value} {end}"
    return f"{value} {start}"


def without_value(author: Author, name: str) -> str:
    """A plain string that begins as the others do."""
    start = opening(author, name)
    theme = author.theme
    draw = author.random()
    if draw < 0.4:
        return f"{start} {author.pick(theme.adjectives)}"
    if draw < 0.6:
        return f"{start} {past(author.pick(theme.verbs))}"
    return f"{start} {author.pick(theme.values) if draw < 0.8 else author.pick(('ready', 'not known'))}"


def capital(author: Author, text: str) -> str:
    return text[0].upper() + text[1:] if author.random() < author.capital else text


def tell(author: Author, pad: str) -> None:
    """One or two messages with a value and perhaps one without, in any order."""
    name = value_name(author, pad)
    lines = [f"print(f{author.quote(capital(author, with_value(author, name)))})"]
    if author.chance(0.5):
        lines.append(f"print({author.quote(capital(author, without_value(author, name)))})")
    if author.chance(0.25):
        other = value_name(author, pad)
        lines.append(f"print(f{author.quote(f'{opening(author, name)} {{{name}}} and {{{other}}}')})")
    if author.chance(0.5):
        lines.reverse()
    author.write(pad, *lines)


def make_text(author: Author, pad: str) -> None:
    """A string variable set from an f-string or a plain string, then printed or appended to."""
    value = value_name(author, pad)
    name = names.claim(author, author.pick(("message", "line", "text", "label", "title", "note", "report")), "text")
    if name == value:
        return
    if author.chance(0.6):
        author.write(pad, f"{name} = f{author.quote(with_value(author, value))}")
    else:
        author.write(pad, f"{name} = {author.quote(without_value(author, value))}")
    if author.chance(0.25):
        author.write(pad, f"{name} += {author.quote(author.pick(('!', '.', ' today', ' again')))}")
    author.write(pad, f"print({name})")
    if name not in author.scope.texts:
        author.scope.texts.append(name)


def formatted(author: Author, pad: str) -> None:
    """Numbers with a width or with decimals, and expressions inside braces."""
    number = data.some_number(author, pad)
    inside = author.pick(
        (f"{number}:>5", f"{number}:.2f", f"{number} * 2", f"{number} + 1", f"{number}:03", f"abs({number})")
    )
    if inside.endswith(":03"):
        inside = f"{number}:6"
    author.write(pad, f"print(f{author.quote(f'{opening(author, number)} {{{inside}}}')})")


def report(author: Author, pad: str) -> None:
    """A headline and a few lines below it."""
    theme = author.theme
    author.write(pad, f"print({author.quote(f'{author.pick(theme.things)} report')})")
    for _ in range(author.between(2, 3)):
        name = value_name(author, pad)
        author.write(pad, f"print(f{author.quote(with_value(author, name))})")


def greeter(author: Author) -> None:
    """A function that puts its arguments into words."""
    theme = author.theme
    x, y = author.pick(theme.labels), author.pick(theme.measures)
    definition = Definition(author)
    noun = author.pick((*theme.things, "line", "message"))
    definition.open(author.pick(("describe", "show", "announce", "label", "tell")), noun, [(x, "text"), (y, "number")])
    spoken = expressions.spoken
    text = author.pick((f"{{{x}}} has {spoken(y)} {{{y}}}", f"{spoken(x)} {{{x}}}: {{{y}}}", f"{spoken(y)} of {{{x}}}"))
    if author.chance(0.3):
        author.write(INDENT, f"if not {x}:", f"{INDENT}print({literals.string(author)})")
    printed = author.chance(0.5)
    author.write(INDENT, f"print(f{author.quote(text)})" if printed else f"return f{author.quote(text)}")
    definition.close("none" if printed else "text")


MESSAGES = weighted((6, tell), (3, make_text), (1, formatted), (2, report))
