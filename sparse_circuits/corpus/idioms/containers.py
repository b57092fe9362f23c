"""Lists, dictionaries, tuples and sets inside each other to any depth, on one line or laid out, and ways into them."""

from sparse_circuits.corpus.idioms import expressions, literals, names
from sparse_circuits.corpus.idioms.author import INDENT, LINE_LIMIT, Author
from sparse_circuits.corpus.idioms.choices import weighted
from sparse_circuits.corpus.idioms.words import plural, split

DEEPEST = 5
NAMES = split("data config settings tree menu plan map_data tables records world shop index groups box layout nested")


class Box:
    """A literal: a leaf, or a list, tuple or dictionary of literals."""

    __slots__ = ("keys", "kind", "parts", "text")

    def __init__(self, kind: str, parts: list["Box"], keys: list[str], text: str) -> None:
        self.kind = kind
        """leaf, list, tuple or dict"""
        self.parts = parts
        self.keys = keys
        self.text = text
        """All of it on one line."""

    def laid_out(self, head: str, pad: str, tail: str) -> list[str]:
        """On one line where that fits, else a line for every part."""
        parts = self.parts
        size = len(pad) + len(head) + len(self.text)
        if not parts or (len(parts) < 4 and size < LINE_LIMIT - 10):
            return [f"{pad}{head}{self.text}{tail}"]
        opened, closed = BRACKETS[self.kind]
        lines = [f"{pad}{head}{opened}"]
        for place, part in enumerate(parts):
            key = f"{self.keys[place]}: " if self.keys else ""
            lines += part.laid_out(key, pad + INDENT, ",")
        return [*lines, f"{pad}{closed}{tail}"]


BRACKETS = {"list": ("[", "]"), "tuple": ("(", ")"), "dict": ("{", "}")}
KINDS = ("list", "list", "dict", "dict", "tuple")
LEAVES = ("number", "number", "text", "flag")


def leaf(author: Author, kind: str) -> Box:
    """A number, a string, or True, False or None."""
    if kind == "number":
        return Box("leaf", [], [], literals.number(author))
    if kind == "text":
        return Box("leaf", [], [], author.quote(author.pick(author.theme.values)))
    return Box("leaf", [], [], author.pick(("True", "False", "None")))


def keys(author: Author, count: int) -> list[str]:
    """Different keys: labels and measures, or the theme's own values."""
    theme, draw = author.theme, author.random()
    if draw > 0.8:
        return list(dict.fromkeys([literals.number(author) for _ in range(count)]))
    pool = theme.values if draw < 0.4 else theme.labels if draw < 0.7 else theme.measures
    return [author.quote(key) for key in dict.fromkeys([author.pick(pool) for _ in range(count)])]


def build(author: Author, depth: int) -> Box:
    """A container whose parts are of one make, `depth` levels deep."""
    kind = author.pick(KINDS)
    count = author.between(1, 3)
    found = keys(author, count) if kind == "dict" else []
    same = author.pick(LEAVES)
    deeper = (0.85 if depth > 2 else 0.7) if depth > 1 else 0.0
    parts = [
        build(author, depth - 1) if author.random() < deeper else leaf(author, same)
        for _ in range(len(found) if found else count)
    ]
    texts = [part.text for part in parts]
    if found:
        text = "{" + ", ".join([f"{key}: {value}" for key, value in zip(found, texts, strict=True)]) + "}"
    elif kind == "tuple":
        text = f"({', '.join(texts)}{',' if count == 1 else ''})"
    else:
        text = f"[{', '.join(texts)}]"
    return Box(kind, parts, found, text)


def path_into(author: Author, box: Box) -> str:
    """The brackets that lead from the container to something inside it."""
    path = ""
    while box.parts:
        place = int(author.random() * len(box.parts))
        path += f"[{box.keys[place]}]" if box.kind == "dict" else f"[{place}]"
        box = box.parts[place]
        if author.chance(0.15):
            break
    return path


def changeable(author: Author, box: Box) -> str:
    """A path to a part of a list or dictionary, which may be set; empty when there is none."""
    path, found = "", ""
    while box.parts:
        place = int(author.random() * len(box.parts))
        path += f"[{box.keys[place]}]" if box.kind == "dict" else f"[{place}]"
        found = path if box.kind != "tuple" else found
        box = box.parts[place]
    return found


def nested_literal(author: Author, pad: str) -> None:
    """A container of containers, read and changed by its path."""
    theme = author.theme
    box = build(author, author.pick((2, 2, 3, 3, 3, 4, DEEPEST)))
    wanted = author.pick((*NAMES, f"{author.pick(theme.things)}_data", plural(author.pick(theme.things))))
    name = names.claim(author, wanted, "other")
    lines = box.laid_out(f"{name} = ", "", "")
    author.write(pad, *lines)
    if author.chance(0.6):
        author.write(pad, f"print({name}{path_into(author, box)})")
    if author.chance(0.3):
        path = changeable(author, box)
        if path:
            author.write(pad, f"{name}{path} = {leaf(author, author.pick(('number', 'text'))).text}")
            author.write(pad, f"print({name})" if author.chance(0.5) else f"print({name}{path})")
            return
    if box.kind == "dict" and author.chance(0.4):
        key = names.loop_name(author, author.pick(("key", "name", "part")), "text")
        author.write(pad, f"for {key} in {name}:", f"{INDENT}print({key}, {name}[{key}])")
    elif box.kind != "dict" and author.chance(0.4):
        part = names.loop_name(author, author.pick(("part", "entry", "group")), "other")
        author.write(pad, f"for {part} in {name}:", INDENT + expressions.show(author, part))


def one_line(author: Author, pad: str) -> None:
    """A deep list or dictionary on one line."""
    draw = author.random()
    if draw < 0.4:
        items = literals.cube_items(author)
        if author.chance(0.3):
            items = [f"[{', '.join(literals.cube_items(author))}]"]
        name = names.claim(author, author.pick(("cube", "layers", "blocks", "data", "x", "levels", "values")), "other")
        author.write(pad, f"{name} = [{', '.join(items)}]")
    else:
        box = build(author, author.between(2, 3))
        if len(box.text) > 60:
            return
        name = names.claim(author, author.pick(NAMES), "other")
        author.write(pad, f"{name} = {box.text}")
    author.write(pad, author.pick((f"print({name})", f"print(len({name}))", expressions.show(author, name))))


def in_call(author: Author, pad: str) -> None:
    """A list or dictionary as the argument of a call, or appended to a list."""
    box = build(author, author.pick((1, 1, 1, 2)))
    if len(box.text) > 60:
        return
    draw = author.random()
    if draw < 0.4:
        author.write(
            pad, f"print({author.pick((box.text, f'len({box.text})', f'{literals.word(author)}, {box.text}'))})"
        )
        return
    name = names.claim(author, author.pick(("records", "rows", "items", "found", "history", "events")), "other")
    author.write(pad, f"{name} = []" if draw < 0.7 else f"{name} = [{box.text}]")
    for _ in range(author.between(1, 2)):
        box = build(author, 1)
        author.write(pad, f"{name}.append({box.text})")
    author.write(pad, expressions.show(author, name))


def pairs(author: Author, pad: str) -> None:
    """A dictionary and a list of the same strings, one after the other."""
    label = author.pick(author.theme.labels)
    words = literals.words(author, literals.briefly(label), 2, 4)
    first = names.claim(author, author.pick((plural(label), "names", "keys", "words")), "other")
    second = names.claim(author, author.pick((f"{label}_counts", "counts", "amounts", "table", "lookup")), "other")
    lines = [
        f"{first} = [{', '.join(words)}]",
        f"{second} = {{{', '.join(f'{word}: {literals.number(author)}' for word in words)}}}",
    ]
    if author.chance(0.5):
        lines.reverse()
    author.write(pad, *lines)
    x = names.loop_name(author, label, "text")
    author.write(pad, f"for {x} in {first}:", f"{INDENT}print({x}, {second}[{x}])")


CONTAINERS = weighted((3, nested_literal), (5, one_line), (2, pairs), (3, in_call))
