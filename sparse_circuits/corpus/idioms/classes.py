"""Classes: `__init__` with many attributes, methods that read and change them, and instances at work."""

from collections.abc import Callable

from sparse_circuits.corpus.idioms import actions, expressions, literals, names
from sparse_circuits.corpus.idioms.author import INDENT, Author, Scope
from sparse_circuits.corpus.idioms.choices import weighted
from sparse_circuits.corpus.idioms.words import class_name, plural

BODY = INDENT * 2
DEEP = INDENT * 3


class Blueprint:
    """A class being written: its attributes by name and kind (number or text), and its methods."""

    def __init__(self, author: Author, thing: str) -> None:
        self.author = author
        self.thing = thing
        self.name = class_name(thing)
        self.attributes: list[tuple[str, str]] = []
        self.methods: list[tuple[str, str]] = []
        """(name, arguments as written in a call)"""
        self.taken: set[str] = set()
        """Names of attributes and methods."""

    def texts(self) -> list[str]:
        return [name for name, kind in self.attributes if kind == "text"]

    def numbers(self) -> list[str]:
        return [name for name, kind in self.attributes if kind == "number"]

    def method(self, name: str, arguments: str = "", call: str | None = "") -> bool:
        """Open a method unless the name is taken; `call` is what stands in the brackets of a call."""
        if name in self.taken:
            return False
        self.taken.add(name)
        self.author.write("", "")
        self.author.write(INDENT, f"def {name}(self{', ' + arguments if arguments else ''}):")
        if call is not None:
            self.methods.append((name, call))
        return True


def attributes_of(author: Author) -> list[tuple[str, str]]:
    """Two to five attributes of the theme, in the order in which they are given."""
    theme = author.theme
    found: dict[str, str] = {}
    for _ in range(author.between(2, 5)):
        if author.random() < 0.5:
            found[author.pick(theme.labels)] = "text"
        else:
            found[author.pick(theme.measures)] = "number"
    return list(found.items())


def value_of(author: Author, name: str, kind: str) -> str:
    return literals.number(author) if kind == "number" else literals.word(author, name)


def write_init(author: Author, plan: Blueprint) -> None:
    """`__init__`: one line for every argument, and a few attributes with a value of their own."""
    arguments = list(plan.attributes)
    plan.taken.update(name for name, _ in arguments)
    defaults = author.between(1, len(arguments)) if author.chance(0.2) else 0
    written = [name for name, _ in arguments]
    for place in range(len(arguments) - defaults, len(arguments)):
        name, kind = arguments[place]
        written[place] += f"={'None' if author.chance(0.2) and kind == 'text' else value_of(author, name, kind)}"
    author.write(INDENT, f"def __init__(self, {', '.join(written)}):")
    lines = [f"self.{name} = {name}" for name, _ in arguments]
    extras = {
        f"is_{author.pick(author.theme.adjectives)}": author.pick(("True", "False")),
        "count": "0",
        "items": "[]",
        "seen": "set()",
        "log": "[]",
        "parts": "{}",
        "total": "0",
        "status": literals.word(author, "status"),
        "parent": "None",
        "grid": "[[0, 0], [0, 0]]",
    }
    for name in (author.pick(tuple(extras)) for _ in range(author.between(0, 2))):
        if name not in plan.taken:
            plan.taken.add(name)
            lines.append(f"self.{name} = {extras[name]}")
    author.write(BODY, *lines)


def describe(author: Author, plan: Blueprint) -> None:
    """A method that tells about the object."""
    if not plan.method(author.pick(("describe", "show", "info", "text")), call=None if author.chance(0.2) else ""):
        return
    name, _ = author.pick(plan.attributes)
    other, _ = author.pick(plan.attributes)
    draw = author.random()
    if draw < 0.35:
        author.write(BODY, f"print(self.{name}, self.{other})")
    elif draw < 0.6:
        author.write(BODY, f"return f{author.quote(f'{{self.{name}}}: {{self.{other}}}')}")
    elif draw < 0.8:
        author.write(BODY, f"print({author.quote(expressions.spoken(name))}, self.{name})")
    else:
        author.write(BODY, f"return {literals.string(author)}")


def representation(author: Author, plan: Blueprint) -> None:
    """`__repr__` or `__str__`."""
    if plan.method(author.pick(("__repr__", "__str__")), call=None):
        name, _ = author.pick(plan.attributes)
        shown = f"{plan.name}({{self.{name}}})" if author.chance(0.6) else f"{plan.thing} {{self.{name}}}"
        author.write(BODY, f"return f{author.quote(shown)}")


def setter(author: Author, plan: Blueprint) -> None:
    """A method that sets one attribute."""
    name, kind = author.pick(plan.attributes)
    if plan.method(f"set_{name}", name, value_of(author, name, kind)):
        if kind == "text" and author.chance(0.3):
            author.write(BODY, f"if not {name}:", f"{INDENT}raise ValueError({literals.string(author)})")
        author.write(BODY, f"self.{name} = {name}")


def getter(author: Author, plan: Blueprint) -> None:
    """A method that returns one attribute, or something made of it."""
    name, kind = author.pick(plan.attributes)
    if plan.method(f"get_{name}"):
        value = f"self.{name}" if author.chance(0.6) else expressions.value(author, f"self.{name}", kind)
        author.write(BODY, f"return {value}")


def changer(author: Author, plan: Blueprint) -> None:
    """A method that adds to a number."""
    if not plan.numbers():
        return
    name = author.pick(plan.numbers())
    argument = author.pick(("amount", "n", "value", "change", "step"))
    up = author.chance(0.7)
    verb = author.pick(("add", "raise", "increase", "change")) if up else author.pick(("lower", "reduce", "drop"))
    if plan.method(f"{verb}_{name}", argument, literals.positive(author)):
        if author.chance(0.3):
            author.write(BODY, f"if {argument} < 0:", f"{INDENT}raise ValueError({literals.string(author)})")
        author.write(BODY, f"self.{name} {'+=' if up else '-='} {argument}")
        if author.chance(0.3):
            author.write(BODY, f"return self.{name}")


def test(author: Author, plan: Blueprint) -> None:
    """A method that returns True or False."""
    name, kind = author.pick(plan.attributes)
    if plan.method(f"is_{author.pick(author.theme.adjectives)}"):
        condition = expressions.condition(author, f"self.{name}", kind)
        if author.chance(0.4):
            author.write(BODY, f"return {condition}")
        else:
            author.write(BODY, f"if {condition}:", f"{INDENT}return True", "return False")


def act(author: Author, plan: Blueprint) -> None:
    """A method that says something, and may count or loop."""
    verb = author.pick(author.theme.verbs)
    verb = f"{verb}_it" if verb in names.FORBIDDEN else verb
    if not plan.method(verb):
        return
    author.write(BODY, actions.call_with_string(author))
    draw = author.random()
    if draw < 0.3 and plan.numbers():
        author.write(BODY, f"self.{author.pick(plan.numbers())} += {author.between(1, 9)}")
    elif draw < 0.5 and plan.texts():
        name = author.pick(plan.texts())
        author.write(BODY, f"self.{name} = {literals.word(author, name)}")
    elif draw < 0.65:
        author.write(BODY, f"for i in range({author.between(2, 5)}):", INDENT + actions.call_with_string(author))
    elif draw < 0.75 and plan.numbers():
        name = author.pick(plan.numbers())
        author.write(
            BODY,
            f"while self.{name} > {literals.number(author)}:",
            f"{INDENT}self.{name} -= {author.between(1, 9)}",
        )


METHODS: tuple[Callable[[Author, Blueprint], None], ...] = weighted(
    (4, describe), (2, representation), (3, setter), (3, getter), (4, changer), (3, test), (4, act)
)


def use(author: Author, plan: Blueprint) -> None:
    """Make an instance and call its methods."""
    name = names.claim(author, plan.thing, f"object {plan.name}")
    values = [value_of(author, attribute, kind) for attribute, kind in plan.attributes]
    if author.chance(0.3):
        values = [f"{attribute}={value}" for (attribute, _), value in zip(plan.attributes, values, strict=True)]
    author.write("", f"{name} = {plan.name}({', '.join(values)})")
    for _ in range(author.between(1, 3)):
        draw = author.random()
        attribute, kind = author.pick(plan.attributes)
        if draw < 0.25 or not plan.methods:
            author.write("", f"print({name}.{attribute})")
        elif draw < 0.32:
            author.write("", f"{names.claim(author, 'value', 'other')} = getattr({name}, {author.quote(attribute)})")
        elif draw < 0.45:
            author.write("", f"{name}.{attribute} = {value_of(author, attribute, kind)}")
        else:
            method, call = author.pick(plan.methods)
            written = f"{name}.{method}({call})"
            author.write("", f"print({written})" if method.startswith(("get_", "is_")) else written)


def thing_class(author: Author) -> None:
    """A class of a thing of the theme, and its use."""
    thing = author.pick(author.theme.things)
    plan = Blueprint(author, thing)
    if plan.name in author.scope.used:
        return
    author.reserve(plan.name, "class")
    outer, author.scope = author.scope, Scope(dict(author.reserved))
    plan.attributes = attributes_of(author)
    author.write("", f"class {plan.name}:")
    if author.chance(0.2 + author.comments / 2):
        author.write(INDENT, f'"""One {thing} with its {plural(plan.attributes[0][0])}."""', "")
    write_init(author, plan)
    for _ in range(author.between(1, 3)):
        author.pick(METHODS)(author, plan)
    author.scope = outer
    author.write("", "", "")
    use(author, plan)


def container_class(author: Author) -> None:
    """A class that holds a list, set or string and grows it: a stack, a queue, a box, a log."""
    theme = author.theme
    thing = author.pick(theme.things)
    name = author.pick(
        ("Stack", "Queue", "Box", "Log", "Shelf", f"{class_name(thing)}List", "Basket", "Notebook", "Team")
    )
    if name in author.scope.used:
        return
    author.reserve(name, "class")
    held = author.pick(("items", plural(thing), "values", "data", "lines", "parts"))
    author.write("", f"class {name}:")
    author.write(INDENT, "def __init__(self):")
    kind = author.pick(("list", "list", "set", "text"))
    start = {"list": "[]", "set": "set()", "text": author.quote("")}[kind]
    author.write(BODY, f"self.{held} = {start}")
    x = author.pick(("item", "value", thing, "x"))
    verb = author.pick(("add", "write", "put", "push", "store"))
    grow = {"list": f".append({x})", "set": f".add({x})", "text": f" += {x}"}[kind]
    author.write("", "")
    author.write(INDENT, f"def {verb}(self, {x}):", f"{INDENT}self.{held}{grow}")
    if author.chance(0.6):
        author.write("", "")
        author.write(
            INDENT,
            "def is_empty(self):",
            f"{INDENT}return {author.pick((f'len(self.{held}) == 0', f'not self.{held}'))}",
        )
    if author.chance(0.6):
        author.write("", "")
        author.write(
            INDENT,
            f"def {author.pick(('size', 'count', 'length'))}(self):",
            f"{INDENT}return len(self.{held})",
        )
    if kind == "list" and author.chance(0.7):
        author.write("", "")
        author.write(INDENT, "def take(self):")
        if author.chance(0.5):
            author.write(BODY, f"if not self.{held}:", f"{INDENT}return None")
        elif author.chance(0.5):
            author.write(BODY, f"if not self.{held}:", f"{INDENT}raise IndexError({literals.string(author)})")
        author.write(BODY, f"return self.{held}.pop()")
    if author.chance(0.5):
        author.write("", "")
        author.write(INDENT, "def show(self):")
        if author.chance(0.5):
            author.write(BODY, f"for {x} in self.{held}:", f"{INDENT}print({x})")
        else:
            author.write(BODY, f"print(self.{held})")
    author.write("", "", "")
    lower = f"{thing}_list" if name.endswith("List") else name.lower()
    instance = names.claim(author, "box" if lower == "log" else lower, f"object {name}")
    author.write("", f"{instance} = {name}()")
    for _ in range(author.between(1, 4)):
        author.write("", f"{instance}.{verb}({literals.string(author)})")
    author.write("", f"print(len({instance}.{held}))")
    author.speakers += [f"{instance}.{verb}"] * 3


def linked_class(author: Author) -> None:
    """Nodes that point at the next one, and a walk along them."""
    name = author.pick(("Node", "Link", "Step", "Stop"))
    if name in author.scope.used:
        return
    author.reserve(name, "class")
    value, following = (
        author.pick(("value", "data", "name", "label")),
        author.pick(("next", "next_node", "after")),
    )
    node = names.claim(author, author.pick(("node", "current", "n", "x", "link")), "node")
    author.write("", f"class {name}:")
    author.write(INDENT, f"def __init__(self, {value}, {'next_node' if following == 'next' else following}=None):")
    author.write(
        BODY,
        f"self.{value} = {value}",
        f"self.{following} = {'next_node' if following == 'next' else following}",
    )
    author.write("", "", "")
    last = names.claim(author, author.pick(("last", "tail", "end")), "node")
    author.write("", f"{last} = {name}({literals.word(author) if author.chance(0.5) else literals.number(author)})")
    first = literals.word(author) if author.chance(0.5) else literals.number(author)
    author.write("", f"{node} = {name}({first}, {last})", f"while {node}:")
    author.write(INDENT, f"print({node}.{value})", f"{node} = {node}.{following}")


CLASSES: tuple[Callable[[Author], None], ...] = weighted((8, thing_class), (4, container_class), (2, linked_class))
