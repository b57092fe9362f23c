"""`for` and `while` loops: every kind of header over every kind of work."""

from collections.abc import Callable

from sparse_circuits.corpus.idioms import actions, bodies, data, expressions, literals, names
from sparse_circuits.corpus.idioms.author import INDENT, Author
from sparse_circuits.corpus.idioms.bodies import Work
from sparse_circuits.corpus.idioms.choices import weighted
from sparse_circuits.corpus.idioms.words import plural

Paragraph = Callable[[Author, str], None]


class Loop:
    """A loop being written: what it depends on is frozen while its work is planned."""

    def __init__(self, author: Author, pad: str, x: str, kind: str, *depends: str) -> None:
        frozen = author.scope.frozen
        before = len(frozen)
        frozen += (x, *depends)
        self.work = bodies.plan(author, x, kind)
        del frozen[before:]
        self.author, self.pad, self.shown = author, pad, True

    def write(self, head: str, first: tuple[str, ...] = (), last: tuple[str, ...] = ()) -> None:
        """Write it out: `head` opens the loop, `first` and `last` are lines around the work inside it."""
        author, pad, work = self.author, self.pad, self.work
        author.comment(pad, work.note)
        author.write(pad, *work.before, head)
        author.write(pad + INDENT, *first, *work.body, *last)
        if self.shown:
            finish(author, pad, work)


def finish(author: Author, pad: str, work: Work) -> None:
    """After a loop: its result is shown, and may be read from here on."""
    if not work.result:
        return
    scope = author.scope
    if work.kind == "number" and work.result not in scope.numbers:
        scope.numbers.append(work.result)
    elif work.kind == "text" and work.result not in scope.texts:
        scope.texts.append(work.result)
    elif work.kind == "flag" and work.result not in scope.flags:
        scope.flags.append(work.result)
    draw = author.random()
    if draw < 0.55:
        author.write(pad, expressions.show(author, work.result))
    elif draw < 0.65 and work.kind == "flag":
        author.write(pad, f"if {work.result}:", INDENT + actions.action(author))
    elif draw < 0.65 and work.kind == "other":
        author.write(pad, f"print(len({work.result}))")


def source(author: Author, pad: str) -> tuple[str, str, str]:
    """A list to go through: its name, an element's name, an element's kind."""
    if author.random() < 0.5:
        return *data.some_list(author, pad), "number"
    return *data.some_words(author, pad), "text"


def for_each(author: Author, pad: str) -> None:
    items, element, kind = source(author, pad)
    x = names.loop_name(author, element, kind)
    Loop(author, pad, x, kind, items).write(f"for {x} in {items}:")


def for_each_of(author: Author, pad: str) -> None:
    """Over a part or another order of a list, or over a literal."""
    items, element, kind = source(author, pad)
    x = names.loop_name(author, element, kind)
    part = author.pick((f"{items}[1:]", f"{items}[:2]", f"reversed({items})", f"sorted({items})", f"{items}[::-1]"))
    Loop(author, pad, x, kind, items).write(f"for {x} in {part}:")


def for_literal(author: Author, pad: str) -> None:
    """Over a list written in the header."""
    if author.chance(0.5):
        x = names.loop_name(author, author.pick(author.theme.measures), "number")
        Loop(author, pad, x, "number").write(f"for {x} in [{', '.join(literals.numbers(author, 1, 6))}]:")
    else:
        label = literals.briefly(author.pick(author.theme.labels)) or "word"
        x = names.loop_name(author, label, "text")
        Loop(author, pad, x, "text").write(f"for {x} in [{', '.join(literals.words(author, label, 1, 4))}]:")


def for_skip(author: Author, pad: str) -> None:
    """Go on to the next element at once for some of them."""
    items, element, kind = source(author, pad)
    x = names.loop_name(author, element, kind)
    loop = Loop(author, pad, x, kind, items)
    first = (f"if {expressions.condition(author, x, kind)}:", f"{INDENT}continue")
    loop.write(f"for {x} in {items}:", first)


def for_enumerate(author: Author, pad: str) -> None:
    items, element, kind = source(author, pad)
    x = names.loop_name(author, element, kind)
    i = names.loop_name(author, author.pick(("i", "index", "i", "n", "number", "position")), "index")
    start = f", {author.between(1, 2)}" if author.chance(0.1) else ""
    loop = Loop(author, pad, x, kind, items, i)
    first = (f"print({author.pick((f'{i}, {x}', i, f'{i} + 1, {x}'))})",) if author.chance(0.6) else ()
    loop.write(f"for {i}, {x} in enumerate({items}{start}):", first)


def for_range(author: Author, pad: str) -> None:
    i = names.loop_name(author, author.pick(("i", "j", "k", "step", "index", "n", "x", "round_number", "day")), "index")
    draw = author.random()
    if draw < 0.6:
        bounds = str(author.between(2, 12))
    elif draw < 0.85:
        low = author.between(0, 5)
        bounds = f"{low}, {low + author.between(2, 10)}"
    elif draw < 0.95:
        bounds = f"0, {author.between(5, 30)}, {author.between(2, 5)}"
    else:
        bounds = f"{author.between(3, 10)}, 0, -1"
    Loop(author, pad, i, "number").write(f"for {i} in range({bounds}):")


def for_index(author: Author, pad: str) -> None:
    items, element, kind = source(author, pad)
    i = names.loop_name(author, author.pick(("i", "j", "index", "k", "i")), "index")
    x = names.loop_name(author, element, kind)
    Loop(author, pad, x, kind, items, i).write(f"for {i} in range(len({items})):", (f"{x} = {items}[{i}]",))


def for_pairs(author: Author, pad: str) -> None:
    """Two lists side by side."""
    items, element, kind = source(author, pad)
    others, other_element, other_kind = source(author, pad)
    x = names.loop_name(author, element, kind)
    author.scope.frozen.append(x)
    y = names.loop_name(author, other_element, other_kind)
    author.scope.frozen.pop()
    author.write(pad, f"for {x}, {y} in zip({items}, {others}):")
    draw = author.random()
    if draw < 0.5:
        author.write(pad + INDENT, f"print({x}, {y})")
    elif draw < 0.8:
        author.write(pad + INDENT, f"print(f{author.quote(f'{{{x}}}: {{{y}}}')})")
    else:
        author.write(pad + INDENT, expressions.show(author, x), expressions.show(author, y))


def while_items(author: Author, pad: str) -> None:
    """Drain a list made for it: the list is not registered, since it is empty afterwards."""
    scope = author.scope
    kind = "number" if author.random() < 0.5 else "text"
    if kind == "number":
        items, element = data.set_list(author, pad)
        scope.lists.pop()
    else:
        items, element = data.set_words(author, pad)
        scope.words.pop()
    scope.used[items] = "drained"
    x = names.loop_name(author, element, kind)
    popped = author.pick(("pop()", "pop()", "pop(0)"))
    loop = Loop(author, pad, x, kind, items)
    draw = author.random()
    if draw < 0.7:
        loop.write(f"while {items}:", (f"{x} = {items}.{popped}",))
    elif draw < 0.8:
        loop.write(f"while len({items}) > 0:", (f"{x} = {items}.{popped}",))
    elif draw < 0.9:
        loop.write(f"while {items} and len({items}) < 10:", (f"{x} = {items}.{popped}",))
    else:
        author.write(pad, f"while {items}:", f"{INDENT}print({items}.{popped})")


def while_deque(author: Author, pad: str) -> None:
    """A queue that is served from the front, and may grow while it is served."""
    if not author.need("collections", "deque"):
        while_items(author, pad)
        return
    label = author.pick((*author.theme.labels, *author.theme.things))
    queue = names.claim(author, author.pick(("queue", "waiting", "todo", "pending", plural(label))), "deque")
    x = names.loop_name(author, label, "text")
    loop = Loop(author, pad, x, "text", queue)
    author.write(pad, f"{queue} = deque([{', '.join(literals.words(author, literals.briefly(label), 1, 4))}])")
    if author.chance(0.3):
        author.write(pad, f"{queue}.append({literals.word(author, label)})")
    loop.write(f"while {queue}:", (f"{x} = {queue}.{author.pick(('popleft()', 'popleft()', 'pop()'))}",))


def while_pair(author: Author, pad: str) -> None:
    """Two conditions at once."""
    count = names.number_name(author)
    items, element = data.set_words(author, pad)
    author.scope.words.pop()
    author.scope.used[items] = "drained"
    x = names.loop_name(author, element, "text")
    author.write(pad, f"{count} = 0", f"while {items} and {count} < {author.between(2, 9)}:")
    author.write(pad + INDENT, f"{x} = {items}.pop()", expressions.show(author, x), f"{count} += 1")


def while_next(author: Author, pad: str) -> None:
    """Take elements from an iterator until it runs out (or an element is false): it ends as None."""
    items, element, kind = source(author, pad)
    stream = names.claim(
        author, author.pick(("stream", "source", "rest", "reader", "feed", f"{element}_stream")), "stream"
    )
    x = names.loop_name(author, element, kind)
    readable = author.scope.numbers if kind == "number" else author.scope.texts
    if x in readable:
        readable.remove(x)
    step = f"{x} = next({stream}, None)"
    loop = Loop(author, pad, x, kind, items, stream)
    author.write(pad, f"{stream} = iter({items})")
    loop.work.before.append(step)
    head = f"while {x}:" if author.chance(0.8) else f"while {x} is not None:"
    loop.write(head, (), (step,))


def while_number(author: Author, pad: str) -> None:
    """Count a number down to nothing."""
    name = names.number_name(author) if author.chance(0.8) else names.loop_name(author, author.pick("ijkn"), "index")
    author.write(pad, f"{name} = {literals.positive(author)}")
    draw = author.random()
    head = f"while {name}:" if draw < 0.75 else f"while {name} > 0:"
    last = f"{name} //= {author.between(2, 10)}" if author.chance(0.12) else f"{name} -= 1"
    Loop(author, pad, name, "number").write(head, (), (last,))


def while_text(author: Author, pad: str) -> None:
    """Shorten a string to nothing."""
    name, _ = data.set_text(author, pad)
    author.scope.texts.pop()
    last = author.pick((f"{name} = {name}[1:]", f"{name} = {name}[:-1]", f"{name} = {name}[2:]"))
    Loop(author, pad, name, "text").write(f"while {name}:", (), (last,))


def while_below(author: Author, pad: str) -> None:
    """Count up to a limit."""
    name = names.number_name(author)
    first = author.between(0, 3)
    author.write(pad, f"{name} = {first}")
    if author.chance(0.5):
        wanted = [word for word in ("limit", "goal", "end", "top", f"max_{name}") if word != name]
        limit = names.claim(author, author.pick(wanted), "number")
        author.write(pad, f"{limit} = {author.between(5, 30)}")
    else:
        limit = str(author.between(5, 30))
    head = f"while {name} {author.pick(('<', '<', '<='))} {limit}:"
    step = author.pick(("1", "1", "2", "3", "5"))
    last = f"{name} = {name} + {step}" if author.chance(0.2) else f"{name} += {step}"
    Loop(author, pad, name, "number", limit).write(head, (), (last,))


def while_index(author: Author, pad: str) -> None:
    """Walk along a list by index."""
    items, element, kind = source(author, pad)
    i = names.loop_name(author, author.pick(("i", "j", "index", "position")), "index")
    x = names.loop_name(author, element, kind)
    author.write(pad, f"{i} = 0")
    loop = Loop(author, pad, x, kind, items, i)
    loop.write(f"while {i} < len({items}):", (f"{x} = {items}[{i}]",), (f"{i} += 1",))


def while_flag(author: Author, pad: str) -> None:
    """Go on until a flag says stop."""
    flag = names.flag_name(author)
    count = names.claim(
        author, author.pick(("count", "tries", "turns", "step", author.pick(author.theme.measures))), "number"
    )
    stop = author.chance(0.5)
    lines = [f"{flag} = {not stop}", f"{count} = {author.pick(('0', '0', '1'))}"]
    if author.chance(0.5):
        lines.reverse()
    author.write(pad, *lines, f"while not {flag}:" if stop else f"while {flag}:")
    inner = [f"{count} += {author.between(1, 3)}"]
    if author.chance(0.5):
        inner.insert(author.between(0, 1), actions.call_with_string(author))
    end = [f"if {count} > {author.between(2, 20)}:", f"{INDENT}{flag} = {stop}"]
    if author.chance(0.3):
        end.insert(1, INDENT + actions.call_with_string(author))
    author.write(pad + INDENT, *inner, *end)
    if author.chance(0.3):
        author.write(pad, expressions.show(author, count))


def while_true(author: Author, pad: str) -> None:
    """Go round until a break."""
    count = names.number_name(author)
    up = author.chance(0.6)
    author.write(pad, f"{count} = {author.between(0, 3) if up else author.between(10, 30)}", "while True:")
    step = f"{count} += {author.between(1, 4)}" if up else f"{count} -= {author.between(1, 4)}"
    test = f"if {count} > {author.between(5, 20)}:" if up else f"if {count} < {author.between(1, 5)}:"
    lines = [step, test]
    if author.chance(0.5):
        lines.append(INDENT + actions.call_with_string(author))
    author.write(pad + INDENT, *lines, f"{INDENT}break")
    if author.chance(0.6):
        author.write(pad + INDENT, expressions.show(author, count))


FOR_LOOPS: tuple[Paragraph, ...] = weighted(
    (10, for_each),
    (2, for_each_of),
    (2, for_literal),
    (5, for_enumerate),
    (5, for_range),
    (2, for_skip),
    (2, for_index),
    (1, for_pairs),
)
WHILE_LOOPS: tuple[Paragraph, ...] = weighted(
    (6, while_items),
    (1, while_deque),
    (1, while_pair),
    (5, while_next),
    (7, while_number),
    (4, while_text),
    (3, while_below),
    (1, while_index),
    (3, while_flag),
    (2, while_true),
)
