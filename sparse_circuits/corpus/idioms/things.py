"""Classes of things with many attributes: long `__init__`s, subclasses, methods over lists, and instances in lists."""

from collections.abc import Callable

from sparse_circuits.corpus.idioms import classes, expressions, growth, literals, names, signatures
from sparse_circuits.corpus.idioms.author import INDENT, Author, Scope
from sparse_circuits.corpus.idioms.choices import weighted
from sparse_circuits.corpus.idioms.classes import BODY, Blueprint
from sparse_circuits.corpus.idioms.signatures import Argument
from sparse_circuits.corpus.idioms.words import class_name, plural, split

CONSTANTS = (
    ("items", "[]"),
    ("count", "0"),
    ("seen", "set()"),
    ("history", "[]"),
    ("total", "0"),
    ("active", "True"),
    ("ready", "False"),
    ("parent", "None"),
    ("log", "[]"),
    ("cache", "{}"),
    ("grid", "[[0, 0], [0, 0]]"),
    ("done", "False"),
    ("notes", "[]"),
    ("place", "0"),
)
PREFIXES = split("old new big small fast open late main best last")


def attributes(author: Author, low: int, high: int) -> list[Argument]:
    """Arguments of `__init__`, the last ones with defaults in some classes."""
    theme = author.theme
    wanted: dict[str, str] = {}
    for _ in range(author.between(low, high)):
        draw = author.random()
        if draw < 0.3:
            wanted[author.pick(theme.measures)] = "number"
        elif draw < 0.6:
            wanted[author.pick(theme.labels)] = "text"
        elif draw < 0.8:
            wanted[author.pick(signatures.NUMBERS)] = "number"
        else:
            wanted[author.pick(signatures.TEXTS)] = "text"
    count = len(wanted)
    given = author.between(1, count) if author.chance(0.4) else 0
    return [
        (
            name,
            kind,
            ""
            if place < count - given
            else "None"
            if author.chance(0.8 if place == count - 1 else 0.4)
            else signatures.default(author, name, kind),
        )
        for place, (name, kind) in enumerate(wanted.items())
    ]


def write_init(author: Author, plan: Blueprint, found: list[Argument], inherited: int = 0) -> None:
    """`__init__`: a line for every argument, and a few attributes with values of their own."""
    author.write(INDENT, *signatures.signature(author, INDENT, "__init__", found, "self"))
    if inherited:
        author.write(BODY, f"super().__init__({', '.join(name for name, _, _ in found[:inherited])})")
    lines = []
    for name, kind, given in found[inherited:]:
        draw = author.random()
        if draw < 0.9 or given == "":
            lines.append(f"self.{name} = {name}")
        elif given == "None":
            lines.append(f"self.{name} = {name} or {signatures.default(author, name, kind)}")
        else:
            lines.append(f"self.{name} = {expressions.value(author, name, kind)}")
    for _ in range(author.pick((0, 0, 1, 2, 3, 3))):
        name, value = author.pick(CONSTANTS)
        if name not in plan.taken:
            plan.taken.add(name)
            lines.append(f"self.{name} = {value}")
    # In some classes the attributes are set in another order than that of the arguments.
    if author.chance(0.3):
        lines.sort(key=lambda _: author.random())
    author.write(BODY, *lines)


def describe_all(author: Author, plan: Blueprint) -> None:
    """A method that says all there is, line by line or in one string."""
    if not plan.method(author.pick(("describe", "show_all", "summary", "report", "card")), call=None):
        return
    name = growth.grown_name(author, "text")
    chosen = plan.attributes[: author.between(2, 4)]
    draw = author.random()
    if draw < 0.4:
        author.write(BODY, f"{name} = {author.quote('')}")
        for attribute, _ in chosen:
            shown = f"{expressions.spoken(attribute)}: {{self.{attribute}}} "
            author.write(BODY, f"{name} += f{author.quote(shown)}")
        author.write(BODY, f"return {name}")
    elif draw < 0.7:
        for attribute, _ in chosen:
            author.write(BODY, f"print(f{author.quote(f'{expressions.spoken(attribute)} {{self.{attribute}}}')})")
    else:
        pairs = [f"{author.quote(attribute)}: self.{attribute}" for attribute, _ in chosen]
        author.write(BODY, *literals.bracketed(author, BODY, "return ", pairs, marks="{}"))


def compare(author: Author, plan: Blueprint) -> None:
    """A method of another thing of the kind."""
    name, _ = author.pick(plan.attributes)
    verb = author.pick(("is_same", "matches", f"same_{name}", "__eq__", "is_like"))
    if plan.method(verb, "other", call=None):
        if author.chance(0.5):
            author.write(BODY, f"return self.{name} == other.{name}")
        else:
            author.write(BODY, f"if self.{name} == other.{name}:", f"{INDENT}return True", "return False")


def swap_with(author: Author, plan: Blueprint) -> None:
    """A method that changes values with another thing."""
    name, _ = author.pick(plan.attributes)
    if plan.method(f"swap_{name}", "other", call=None):
        author.write(BODY, f"self.{name}, other.{name} = other.{name}, self.{name}")


def update(author: Author, plan: Blueprint) -> None:
    """A method that sets what it is given."""
    chosen = plan.attributes[: author.between(2, 3)]
    verb = author.pick(("update", "change", "configure", "reset_to", "edit"))
    if plan.method(verb, ", ".join(f"{name}=None" for name, _ in chosen), call=None):
        for name, _ in chosen:
            author.write(BODY, f"if {name} is not None:", f"{INDENT}self.{name} = {name}")


METHODS: tuple[Callable[[Author, Blueprint], None], ...] = weighted(
    (3, describe_all),
    (2, compare),
    (1, swap_with),
    (2, update),
    (2, classes.test),
    *((1, method) for method in classes.METHODS),
)


def make(author: Author, plan: Blueprint, found: list[Argument]) -> str:
    """An instance of the class as an expression."""
    return f"{plan.name}({signatures.call(author, found)})"


def use(author: Author, plan: Blueprint, found: list[Argument]) -> None:
    """One instance and its methods, or several in a list."""
    if author.chance(0.4):
        name = names.claim(author, plural(plan.thing), "other")
        made = [make(author, plan, found) for _ in range(author.between(2, 3))]
        author.write("", f"{name} = [", *[f"{INDENT}{item}," for item in made], "]")
        x = names.loop_name(author, plan.thing, f"object {plan.name}")
        attribute, _ = author.pick(plan.attributes)
        author.write("", f"for {x} in {name}:", f"{INDENT}print({x}.{attribute})")
        if author.chance(0.4):
            author.write("", f"print([{x}.{attribute} for {x} in {name}])")
        return
    name = names.claim(author, plan.thing, f"object {plan.name}")
    author.write("", f"{name} = {make(author, plan, found)}")
    for _ in range(author.between(1, 3)):
        attribute, kind = author.pick(plan.attributes)
        draw = author.random()
        if draw < 0.3:
            author.write("", f"print({name}.{attribute})")
        elif draw < 0.5:
            author.write("", f"{name}.{attribute} = {signatures.value(author, attribute, kind)}")
        elif draw < 0.65:
            author.write("", f"if {name}.{attribute} == {signatures.value(author, attribute, kind)}:")
            author.write(INDENT, f"print({author.quote(expressions.spoken(attribute))})")
        else:
            text = f"{plan.thing} {expressions.spoken(attribute)}: {{{name}.{attribute}}}"
            author.write("", f"print(f{author.quote(text)})")


def begin(author: Author, name: str, base: str, thing: str) -> None:
    author.write("", f"class {name}({base}):" if base else f"class {name}:")
    if author.random() < author.shares["docstring"]:
        author.write(INDENT, f'"""{author.pick(("One", "A", "Any"))} {expressions.spoken(thing)}."""', "")


def long_class(author: Author) -> None:
    """A class of a thing with many attributes, perhaps one derived from it, and instances."""
    thing = author.pick(author.theme.things)
    plan = Blueprint(author, thing)
    if plan.name in author.scope.used:
        return
    author.reserve(plan.name, "class")
    outer, author.scope = author.scope, Scope(dict(author.reserved))
    found = attributes(author, 3, 8)
    plan.attributes = [(name, kind) for name, kind, _ in found]
    plan.taken.update(name for name, _ in plan.attributes)
    begin(author, plan.name, "", thing)
    write_init(author, plan, found)
    for _ in range(author.between(0, 2)):
        author.pick(METHODS)(author, plan)
    author.scope = outer
    derived = f"{author.pick(PREFIXES)}_{thing}"
    if author.chance(0.2) and class_name(derived) not in author.scope.used:
        plan, found = derive(author, plan, found, derived)
    author.write("", "", "")
    use(author, plan, found)


def derive(author: Author, plan: Blueprint, found: list[Argument], thing: str) -> tuple[Blueprint, list[Argument]]:
    """A class derived from another, with one or two attributes more."""
    child = Blueprint(author, thing)
    author.reserve(child.name, "class")
    outer, author.scope = author.scope, Scope(dict(author.reserved))
    first = [(name, kind, "") for name, kind, _ in found[:3]]
    more = [(name, kind, "") for name, kind, _ in attributes(author, 1, 2) if name not in plan.taken]
    author.write("", "", "")
    begin(author, child.name, plan.name, thing)
    child.attributes = [(name, kind) for name, kind, _ in (*first, *more)]
    child.taken.update(name for name, _ in child.attributes)
    if more or author.chance(0.5):
        required = len([1 for _, _, given in found if not given])
        inherited = max(len(first), required)
        first = [(name, kind, "") for name, kind, _ in found[:inherited]]
        child.attributes = [(name, kind) for name, kind, _ in (*first, *more)]
        write_init(author, child, [*first, *more], inherited)
        author.scope = outer
        return child, [*first, *more]
    author.write(INDENT, "pass")
    author.scope = outer
    return child, found


LONG_CLASSES = weighted((5, long_class), (1, classes.container_class), (1, classes.thing_class))
