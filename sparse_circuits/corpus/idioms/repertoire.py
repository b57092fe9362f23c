"""The registry of the full level: what its programs are drawn from, and how often.

It has all that the simple level has (registry.py), and more. To add a construct, write one function and give it
one entry here or in the registry of its family; a well-known algorithm or class is a sketch (sketches/).
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

from sparse_circuits.corpus.idioms import (
    branches,
    calls,
    checks,
    classes,
    comprehensions,
    containers,
    data,
    decisions,
    disk,
    exchange,
    functional,
    functions,
    growth,
    library,
    loops,
    messages,
    modules,
    nesting,
    rows,
    signatures,
    strings,
    tables,
    things,
)
from sparse_circuits.corpus.idioms.choices import weighted
from sparse_circuits.corpus.idioms.registry import Paragraph, Part, for_loop, string_call, while_loop

Construct = TypeVar("Construct", bound=Callable[..., object])
TABLE = 8192
"""How many entries a blend has: drawing from one is one look-up, and shares are true to a few per mille."""


def blend(*families: tuple[int, Sequence[Construct]]) -> tuple[Construct, ...]:
    """One registry of several families, each with its weight; inside a family, its own weights hold."""
    total = sum(weight for weight, _ in families)
    found: list[Construct] = []
    for weight, registry in families:
        share = TABLE * weight // total
        found += (registry[place * len(registry) // share] for place in range(share))
    return tuple(found)


LITERALS = weighted(
    (4, data.set_numbers),
    (3, data.set_texts),
    (3, data.set_list),
    (2, data.set_words),
    (16, data.set_rows),
    (6, data.set_word_rows),
    (1, data.set_cube),
    (2, data.set_ragged),
    (4, data.set_mixed),
    (2, data.set_points),
    (2, data.set_tuple),
    (3, tables.set_table),
)
CALLS = weighted(
    (30, string_call),
    (4, calls.print_list),
    (2, calls.append_row),
    (4, calls.grow_list),
    (2, calls.measure_string),
    (3, calls.change_string),
    (3, calls.compute),
    (2, calls.join),
    (2, calls.look_inside),
    (6, calls.call_function),
    (3, strings.append),
)
LOOPS = weighted(
    (10, for_loop),
    (19, while_loop),
    (2, rows.for_row),
    (2, rows.for_cell),
    (2, rows.drain_rows),
    (1, rows.while_rows),
    (2, rows.for_group),
    (1, loops.for_pairs),
    (3, decisions.search_or_else),
)
BRANCHES = weighted(
    (3, branches.branch),
    (3, branches.branch_flag),
    (2, branches.branch_set),
    (1, branches.nested_branch),
    (2, branches.ternary),
    (5, branches.attempt),
)
TABLES = weighted(
    (4, tables.for_items),
    (3, tables.look_up),
    (3, tables.record),
    (3, tables.records),
    (2, tables.lists_by_key),
    (2, tables.branch_on_key),
)
COLLECTIONS = weighted(
    (5, comprehensions.comprehension),
    (2, comprehensions.comprehend_rows),
    (3, comprehensions.summary),
    (2, comprehensions.by_key),
    (1, comprehensions.best_key),
    (1, comprehensions.sort_in_place),
)
MODULES = weighted(
    (2, modules.use_math),
    (2, modules.use_random),
    (2, modules.use_counter),
    (1, modules.use_path),
    (1, modules.use_json),
)

PARAGRAPHS: tuple[Paragraph, ...] = blend(
    (14, LITERALS),
    (8, CALLS),
    (10, LOOPS),
    (6, nesting.NESTED_LOOPS),
    (8, BRANCHES),
    (4, TABLES),
    (7, COLLECTIONS),
    (3, MODULES),
    (6, library.LIBRARY),
    (47, growth.GROWTH),
    (41, exchange.EXCHANGES),
    (15, functional.LAMBDAS),
    (8, messages.MESSAGES),
    (17, containers.CONTAINERS),
    (49, disk.FILE_WORK),
    (55, decisions.DECISIONS),
    (22, functional.COUNTED_LOOPS),
)
"""What scripts and the bodies of functions are made of."""


FUNCTIONS: tuple[Part, ...] = blend(
    (10, functions.DEFINITIONS),
    (150, signatures.SIGNATURES),
    (105, decisions.DECIDERS),
    (8, (growth.grow_function,)),
    (5, (nesting.pairs_of,)),
    (5, (messages.greeter,)),
    (6, (functional.small_function,)),
    (10, disk.FILE_FUNCTIONS),
    (6, checks.TESTED),
)
"""Functions of a theme; sketches and procedures come on top."""
CLASSES: tuple[Part, ...] = weighted((5, things.long_class), (1, classes.container_class), (1, classes.thing_class))
