"""The registry of constructs: what a program is drawn from, and how often.

To add a construct, write one function and give it one entry here (or in the registry of its family).
"""

from collections.abc import Callable

from sparse_circuits.corpus.idioms import (
    branches,
    calls,
    comprehensions,
    data,
    files,
    loops,
    modules,
    recipes,
    rows,
    strings,
    tables,
)
from sparse_circuits.corpus.idioms.author import Author
from sparse_circuits.corpus.idioms.choices import weighted
from sparse_circuits.corpus.idioms.functions import DEFINITIONS

Paragraph = Callable[[Author, str], object]
"""Appends a few lines at the given indentation."""
Part = Callable[[Author], None]
"""Appends a definition at the left margin."""


def for_loop(author: Author, pad: str) -> None:
    author.pick(loops.FOR_LOOPS)(author, pad)


def while_loop(author: Author, pad: str) -> None:
    author.pick(loops.WHILE_LOOPS)(author, pad)


def string_call(author: Author, pad: str) -> None:
    author.pick(strings.STRING_CALLS)(author, pad)


PARAGRAPHS: tuple[Paragraph, ...] = weighted(
    # Setting variables.
    (4, data.set_numbers),
    (2, data.set_texts),
    (5, data.set_list),
    (2, data.set_words),
    (16, data.set_rows),
    (7, data.set_word_rows),
    (5, data.set_cube),
    (4, data.set_ragged),
    (10, data.set_mixed),
    (2, data.set_points),
    (2, data.set_tuple),
    (5, data.set_empty),
    (3, tables.set_table),
    # Calls.
    (50, string_call),
    (8, calls.print_list),
    (3, calls.append_row),
    (6, calls.grow_list),
    (2, calls.show_several),
    (3, calls.measure_string),
    (3, calls.change_string),
    (3, calls.compute),
    (2, calls.join),
    (2, calls.look_inside),
    (5, calls.swap),
    (1, calls.shift),
    (6, calls.call_function),
    # Loops.
    (16, for_loop),
    (32, while_loop),
    (3, rows.for_row),
    (2, rows.for_cell),
    (1, rows.for_cell_index),
    (3, rows.drain_rows),
    (2, rows.while_rows),
    (4, rows.for_group),
    (1, rows.build_rows),
    (1, rows.nested_call),
    # Branches.
    (5, branches.branch),
    (6, branches.branch_flag),
    (2, branches.branch_set),
    (2, branches.nested_branch),
    (8, branches.ternary),
    (2, branches.attempt),
    # Dictionaries.
    (3, tables.for_items),
    (2, tables.look_up),
    (2, tables.record),
    (2, tables.records),
    (1, tables.lists_by_key),
    (2, tables.branch_on_key),
    # Whole collections.
    (3, comprehensions.comprehension),
    (1, comprehensions.comprehend_rows),
    (2, comprehensions.summary),
    (6, comprehensions.lambda_line),
    (1, comprehensions.by_key),
    (1, comprehensions.best_key),
    (1, comprehensions.sort_in_place),
    # The standard library.
    (1, modules.use_math),
    (1, modules.use_random),
    (1, modules.use_counter),
    (1, modules.use_path),
    (1, modules.use_json),
)
"""What scripts and the bodies of functions are made of."""


BASICS: tuple[Paragraph, ...] = weighted(
    (20, string_call),
    (2, data.set_numbers),
    (2, data.set_list),
    (8, data.set_rows),
    (2, data.set_word_rows),
    (2, data.set_cube),
    (1, data.set_ragged),
    (3, data.set_mixed),
    (1, data.set_empty),
    (3, calls.print_list),
    (1, calls.append_row),
    (2, calls.grow_list),
    (7, for_loop),
    (12, while_loop),
    (1, rows.for_row),
    (1, rows.drain_rows),
    (1, rows.while_rows),
    (2, rows.for_group),
    (2, branches.branch),
    (2, branches.branch_flag),
    (1, branches.ternary),
    (1, calls.swap),
)
"""What the simplest scripts are made of: messages, lists, loops and tests."""


def define_function(author: Author) -> None:
    author.pick(DEFINITIONS)(author)


def define_file_function(author: Author) -> None:
    author.pick(files.FILE_FUNCTIONS)(author)


PARTS: tuple[Part, ...] = weighted((8, define_function), (2, recipes.define_recipe), (3, define_file_function))
"""Definitions of functions; classes have a registry of their own."""
