"""Small well-known algorithms, each written out with names that vary.

A recipe is an entry of `RECIPES`. In its text, a name in capitals is replaced by one of the names offered for
it, SELF by the function's own name, and what stands between backquotes by a string literal in the program's
quoting (a lone star by any message).
"""

import re
from typing import NamedTuple

from sparse_circuits.corpus.idioms import literals
from sparse_circuits.corpus.idioms.author import INDENT, Author
from sparse_circuits.corpus.idioms.choices import weighted
from sparse_circuits.corpus.idioms.definition import Definition
from sparse_circuits.corpus.idioms.words import split

MARKED = re.compile("`([^`]*)`|[A-Z]{2,}")


class Recipe(NamedTuple):
    """A function with a name of its own."""

    names: tuple[str, ...]
    """What the function may be called."""
    kinds: tuple[str, ...]
    """The kinds of its arguments, as in `Function`."""
    result: str
    arguments: tuple[str, ...]
    lines: tuple[str, ...]


def recipe(text: str) -> Recipe:
    """Read a recipe: "its names: its arguments: their kinds -> its result", then the lines of its body."""
    head, *lines = text.strip().split("\n")
    signature, result = head.split(" -> ")
    names, arguments, kinds = (split(field) for field in signature.split(":"))
    return Recipe(names, kinds, result, arguments, tuple(lines))


WORDS = {
    "NN": split("n number x limit count"),
    "XS": split("numbers values items nums a data"),
    "XX": split("x item value entry"),
    "TEXT": split("text word s line name"),
    "TOTAL": split("total result count answer"),
    "OUT": split("result out output current made"),
    "CC": split("c char letter"),
    "ROWS": split("rows lists grid matrix table"),
    "ROW": split("row part line"),
    "SEEN": split("seen known found used visited"),
    "QUEUE": split("queue stack todo pending waiting"),
    "NODE": split("node place spot"),
    "OTHER": split("other neighbor following"),
    "CHANGED": split("changed swapped busy moved"),
    "GOAL": split("target goal wanted key"),
    "FIRST": split("a first current low"),
    "SECOND": split("b second following high"),
    "DEPTH": split("depth level open_count"),
    "STEP": split("i divisor d step"),
}
"""The names offered for each word in capitals."""

FACTORIAL = recipe("""
factorial fact multiply_down: NN: count -> number
OUT = 1
while NN:
    OUT *= NN
    NN -= 1
return OUT
""")
FACTORIAL_AGAIN = recipe("""
factorial fact: NN: count -> number
if NN <= 1:
    return 1
return NN * SELF(NN - 1)
""")
FIBONACCI = recipe("""
fibonacci fib: NN: count -> number
FIRST, SECOND = 0, 1
for i in range(NN):
    FIRST, SECOND = SECOND, FIRST + SECOND
return FIRST
""")
FIBONACCI_WHILE = recipe("""
fibonacci fib next_fib: NN: count -> number
FIRST, SECOND = 0, 1
while NN:
    FIRST, SECOND = SECOND, FIRST + SECOND
    NN -= 1
return FIRST
""")
GREATEST_DIVISOR = recipe("""
gcd greatest_divisor common_divisor: FIRST SECOND: count count -> number
while SECOND:
    FIRST, SECOND = SECOND, FIRST % SECOND
return FIRST
""")
PRIME = recipe("""
is_prime: NN: count -> flag
if NN < 2:
    return False
for STEP in range(2, NN):
    if NN % STEP == 0:
        return False
return True
""")
PRIME_WHILE = recipe("""
is_prime check_prime: NN: count -> flag
if NN < 2:
    return False
STEP = 2
while STEP * STEP <= NN:
    if NN % STEP == 0:
        return False
    STEP += 1
return True
""")
BUBBLE_SORT = recipe("""
bubble_sort sort_list put_in_order: XS: own_list -> other
CHANGED = True
while CHANGED:
    CHANGED = False
    for i in range(len(XS) - 1):
        if XS[i] > XS[i + 1]:
            XS[i], XS[i + 1] = XS[i + 1], XS[i]
            CHANGED = True
return XS
""")
INSERTION_SORT = recipe("""
insertion_sort sort_by_hand: XS: own_list -> other
for i in range(len(XS)):
    for j in range(len(XS) - 1):
        if XS[j] > XS[j + 1]:
            XS[j], XS[j + 1] = XS[j + 1], XS[j]
return XS
""")
BINARY_SEARCH = recipe("""
binary_search find_index: XS GOAL: list count -> number
FIRST = 0
SECOND = len(XS) - 1
while FIRST <= SECOND:
    middle = (FIRST + SECOND) // 2
    if XS[middle] == GOAL:
        return middle
    if XS[middle] < GOAL:
        FIRST = middle + 1
    else:
        SECOND = middle - 1
return -1
""")
VOWELS = recipe("""
count_vowels vowels_in: TEXT: text -> number
TOTAL = 0
for CC in TEXT:
    if CC in `aeiou`:
        TOTAL += 1
return TOTAL
""")
BACKWARDS = recipe("""
reverse_text backwards turn_round: TEXT: text -> text
OUT = ``
for CC in TEXT:
    OUT = CC + OUT
return OUT
""")
BACKWARDS_WHILE = recipe("""
reverse_text backwards flip: TEXT: text -> text
OUT = ``
while TEXT:
    OUT += TEXT[-1]
    TEXT = TEXT[:-1]
return OUT
""")
PALINDROME = recipe("""
is_palindrome same_backwards: TEXT: text -> flag
while len(TEXT) > 1:
    if TEXT[0] != TEXT[-1]:
        return False
    TEXT = TEXT[1:-1]
return True
""")
UNIQUE = recipe("""
unique without_repeats first_times: XS: list -> other
SEEN = set()
OUT = []
for XX in XS:
    if XX not in SEEN:
        SEEN.add(XX)
        OUT.append(XX)
return OUT
""")
FLATTEN = recipe("""
flatten make_flat all_cells: ROWS: rows -> other
OUT = []
for ROW in ROWS:
    for XX in ROW:
        OUT.append(XX)
return OUT
""")
TRANSPOSE = recipe("""
transpose turn_rows columns_of: ROWS: rows -> other
OUT = []
width = min(len(ROW) for ROW in ROWS)
for i in range(width):
    OUT.append([ROW[i] for ROW in ROWS])
return OUT
""")
COUNTDOWN = recipe("""
countdown count_down wait_for_start: NN: count -> none
while NN:
    print(NN)
    NN -= 1
print(`*`)
""")
DIGITS = recipe("""
digit_sum sum_digits add_digits: NN: count -> number
TOTAL = 0
while NN:
    TOTAL += NN % 10
    NN //= 10
return TOTAL
""")
COLLATZ = recipe("""
collatz count_steps steps_to_one: NN: count -> number
TOTAL = 0
while NN != 1:
    if NN % 2 == 0:
        NN = NN // 2
    else:
        NN = 3 * NN + 1
    TOTAL += 1
return TOTAL
""")
BALANCED = recipe("""
is_balanced check_brackets: TEXT: text -> flag
DEPTH = 0
for CC in TEXT:
    if CC == `(`:
        DEPTH += 1
    elif CC == `)`:
        DEPTH -= 1
    if DEPTH < 0:
        return False
return DEPTH == 0
""")
WALK = recipe("""
visit_all walk reach: ROWS: rows -> other
SEEN = set()
QUEUE = [0]
while QUEUE:
    NODE = QUEUE.pop(0)
    if NODE in SEEN:
        continue
    SEEN.add(NODE)
    if NODE in range(len(ROWS)):
        for OTHER in ROWS[int(NODE)]:
            QUEUE.append(OTHER)
return SEEN
""")
FIZZ = recipe("""
fizz_buzz fizz: NN: count -> none
for i in range(1, NN + 1):
    if i % 15 == 0:
        print(`FizzBuzz`)
    elif i % 3 == 0:
        print(`Fizz`)
    elif i % 5 == 0:
        print(`Buzz`)
    else:
        print(i)
""")

RECIPES: tuple[Recipe, ...] = weighted(
    (1, FACTORIAL),
    (1, FACTORIAL_AGAIN),
    (1, FIBONACCI),
    (1, FIBONACCI_WHILE),
    (1, GREATEST_DIVISOR),
    (1, PRIME),
    (1, PRIME_WHILE),
    (1, BUBBLE_SORT),
    (1, INSERTION_SORT),
    (1, BINARY_SEARCH),
    (1, VOWELS),
    (1, BACKWARDS),
    (1, BACKWARDS_WHILE),
    (1, PALINDROME),
    (2, UNIQUE),
    (2, FLATTEN),
    (1, TRANSPOSE),
    (1, COUNTDOWN),
    (1, DIGITS),
    (1, COLLATZ),
    (1, BALANCED),
    (1, WALK),
    (1, FIZZ),
)


def define_recipe(author: Author) -> None:
    """Write one of the algorithms, unless the program has a function of its name."""
    drawn = author.pick(RECIPES)
    name = author.pick(drawn.names)
    definition = Definition(author)
    if not definition.free(name):
        author.scope = definition.outer
        return
    chosen = {"SELF": name}

    def fill(found: re.Match[str]) -> str:
        if found[1] is not None:
            return literals.string(author) if found[1] == "*" else author.quote(found[1])
        mark = found[0]
        if mark not in chosen:
            taken = chosen.values()
            chosen[mark] = author.pick([word for word in WORDS[mark] if word not in taken])
        return chosen[mark]

    lines = [MARKED.sub(fill, line) for line in (*drawn.arguments, *drawn.lines)]
    count = len(drawn.arguments)
    definition.open(name, "", list(zip(lines[:count], drawn.kinds, strict=True)))
    author.write(INDENT, *lines[count:])
    definition.close(drawn.result)
