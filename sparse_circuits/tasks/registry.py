"""Every task by its name, and the way from what a user writes to a task."""

from difflib import get_close_matches
from pathlib import Path

from sparse_circuits.errors import InputError
from sparse_circuits.tasks.brackets import BRACKET_BRACE, BRACKET_COUNTING
from sparse_circuits.tasks.custom import task_from_python
from sparse_circuits.tasks.definitions import CLASS_INIT, FINAL_KWARG, LAMBDA_FUNC
from sparse_circuits.tasks.files import WITH_AS, WITH_OPEN
from sparse_circuits.tasks.loops import ENUMERATE_RANGE, FOR_WHILE, INDENT_FOR
from sparse_circuits.tasks.quotes import FSTRING_BRACE, SINGLE_DOUBLE_QUOTE
from sparse_circuits.tasks.statements import ELSE_ELIF, IF_EQUALS, IF_TERNARY, VAR_IF, WHILE_RETURN_TRUE
from sparse_circuits.tasks.task import Task
from sparse_circuits.tasks.variables import SET_OR_STRING, SET_OR_STRING_FIXEDVARNAME, VAR_SWAP


class Registry(dict[str, Task]):
    """Tasks by name. Asking for an unknown one raises `InputError` with all names and the nearest."""

    def __missing__(self, name: str) -> Task:
        near = get_close_matches(name, self, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise InputError(f"no task {name!r}: {hint}the tasks are {', '.join(self)}; or give a .jsonl or .py file")


_THE_TWENTY = (
    SINGLE_DOUBLE_QUOTE,
    BRACKET_COUNTING,
    BRACKET_BRACE,
    SET_OR_STRING,
    SET_OR_STRING_FIXEDVARNAME,
    FINAL_KWARG,
    CLASS_INIT,
    WITH_AS,
    WITH_OPEN,
    FOR_WHILE,
    ELSE_ELIF,
    IF_TERNARY,
    IF_EQUALS,
    VAR_IF,
    WHILE_RETURN_TRUE,
    FSTRING_BRACE,
    VAR_SWAP,
    INDENT_FOR,
    LAMBDA_FUNC,
    ENUMERATE_RANGE,
)
TASKS = Registry({task.name: task for task in _THE_TWENTY})


def get_task(name_or_path: str | Path) -> Task:
    """The registered task of this name, or the one in this `.jsonl` file or `.py` file (which is run).

    Raises:
        InputError: no such name (the message lists them), or a file that holds no task.
    """
    suffix = Path(name_or_path).suffix
    if suffix == ".jsonl":
        return Task.from_jsonl(name_or_path)
    if suffix == ".py":
        return task_from_python(name_or_path)
    return TASKS[str(name_or_path)]
