"""The list of tasks in docs/tasks.md, written from the registry.

Run `python -m sparse_circuits.tasks.page docs/tasks.md` after a task has changed: what stands between the two
markers is replaced. For each task: what it asks, its completions, its size, and three pairs.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from sparse_circuits.errors import InputError
from sparse_circuits.files import atomic_write
from sparse_circuits.tasks.pair import Pair
from sparse_circuits.tasks.registry import TASKS
from sparse_circuits.tasks.task import Task

BEGIN = "<!-- tasks: written by python -m sparse_circuits.tasks.page, do not edit -->"
END = "<!-- end of tasks -->"


def rewrite(page: str) -> str:
    """`page` with the text between the markers written anew.

    Raises:
        InputError: the page does not hold both markers.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise InputError(f"the page lacks the line {END if begin else BEGIN!r}; put both markers back")
    sections = "\n".join(_section(task) for task in TASKS.values())
    return f"{before}{BEGIN}\n\n{sections}\n{END}{after}"


def _section(task: Task) -> str:
    """What one task asks, with three of its pairs."""
    pairs = "\n\n".join(_shown(pair) for pair in task.draw("report", n=3))
    written = {(t.right_a, t.right_b) for split in task.splits for t in task.templates[split]}
    completions = ", ".join(f"`{a!r}` or {'any other' if b is None else f'`{b!r}`'}" for a, b in sorted(written))
    templates = ", ".join(f"{split} {len(task.templates[split])}" for split in task.splits)
    return f"""### `{task.name}`

{task.description}

Completions: {completions} ({task.loss}). Version {task.version}. Templates: {templates}.

```text
{pairs}
```
"""


def _shown(pair: Pair) -> str:
    """The lines both sides share once, then what is left of each side, with its completion."""
    lines_a, lines_b = pair.prompt_a.split("\n"), pair.prompt_b.split("\n")
    same = [a == b for a, b in zip(lines_a, lines_b, strict=False)]
    shared = [*same, False].index(False)
    context = "".join(line + "\n" for line in lines_a[:shared])
    a, b = "\n".join(lines_a[shared:]), "\n".join(lines_b[shared:])
    right_b = f"not {pair.completion_a!r}" if pair.completion_b is None else repr(pair.completion_b)
    return f"{context}{a}  →  {pair.completion_a!r}\n{b}  →  {right_b}"


def main(arguments: Sequence[str]) -> int:
    """Rewrite the page named by the one argument; returns the exit status."""
    try:
        if len(arguments) != 1:
            raise InputError("name one page: python -m sparse_circuits.tasks.page docs/tasks.md")
        page = Path(arguments[0])
        if not page.is_file():
            raise InputError(f"no file {page}; run from the root of the repository: docs/tasks.md")
        atomic_write(page, rewrite(page.read_text(encoding="utf-8")))
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
