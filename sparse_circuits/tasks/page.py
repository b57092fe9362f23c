"""docs/twenty_tasks.md, written from the registry.

Run `python -m sparse_circuits.tasks.page docs/twenty_tasks.md` after a task has changed: the page is written anew.
It has a table of all tasks, and for each what it asks, its tokens, its size, and three pairs.
"""

import math
import sys
from collections.abc import Sequence
from pathlib import Path

from sparse_circuits.errors import InputError
from sparse_circuits.files import atomic_write
from sparse_circuits.tasks.pair import Pair
from sparse_circuits.tasks.registry import TASKS
from sparse_circuits.tasks.task import SPLITS, Task

_HEAD = """# The twenty tasks

Written from the registry by `python -m sparse_circuits.tasks.page docs/twenty_tasks.md`; do not edit. What a task is
and how its loss is computed: [tasks.md](tasks.md).

Each pair below shows the lines that both sides share once, then what is left of side A and of side B, each with the
token that is right. A completion that ends in a new line, or in `None`, is written as tokenizers join it; see
[the joined tail](tasks.md#the-joined-tail).
"""


def page() -> str:
    """The whole page."""
    return "\n".join([_HEAD, _table(), *(_section(task) for task in TASKS.values())])


def _table() -> str:
    """One line a task."""
    lines = ["| task | side A | side B | templates | pairs |", "|---|---|---|---|---|"]
    for task in TASKS.values():
        a, b = _tokens(task)
        templates = " / ".join(str(len(task.templates[split])) for split in SPLITS)
        pairs = " / ".join(f"10^{math.floor(math.log10(task.size(split)))}" for split in SPLITS)
        lines.append(f"| [{task.name}](#{task.name}) | {a} | {b} | {templates} | {pairs} |")
    splits = ", ".join(SPLITS)
    return "\n".join([*lines, "", f"Templates, and the order of magnitude of distinct pairs, of {splits}.\n"])


def _tokens(task: Task) -> tuple[str, str]:
    """The completions of each side; a slot is written as its kind."""
    templates = [template for split in task.splits for template in task.templates[split]]
    a = dict.fromkeys(_code(template.right_a) for template in templates)
    b = dict.fromkeys(
        f"not {_code(template.right_a)}" if template.right_b is None else _code(template.right_b)
        for template in templates
    )
    return " or ".join(a), " or ".join(b)


def _code(text: str) -> str:
    """Text as Markdown code, with its line ends visible."""
    return f"`{text!r}`"


def _section(task: Task) -> str:
    """What one task asks, with three of its pairs of different templates."""
    pairs = "\n\n".join(_shown(pair) for pair in task.draw("report", n=3))
    a, b = _tokens(task)
    return f"""### `{task.name}`

{task.description}

Side A: {a}. Side B: {b}. Question: {task.loss}. Version {task.version}.

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
    """Write the page named by the one argument; returns the exit status."""
    try:
        if len(arguments) != 1:
            raise InputError("name one page: python -m sparse_circuits.tasks.page docs/twenty_tasks.md")
        path = Path(arguments[0])
        if not path.parent.is_dir():
            raise InputError(f"no folder {path.parent}; run from the root of the repository: docs/twenty_tasks.md")
        atomic_write(path, page())
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
