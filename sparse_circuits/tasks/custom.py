"""Your own task: a file of pairs, or a Python file that defines `TASK`.

A `.jsonl` file holds one pair a line:

    {"a": "print(\\"done", "b": "print('done", "right_a": "\\")", "right_b": "')"}

with, if wanted, `"split"` and `"template"`. Without `right_b` (or with null) the question is one-token: on
side B, anything but `right_a` is right. The steps:
1. parse and check each line;
2. give a pair without a split one by the SHA-256 of its template's name, or of its text if it names no
   template: half of the pairs go to prune, a quarter each to calibrate and report, none to ood, and it stays
   so when others come;
3. refuse the same pair twice, and a template in two splits;
4. number the version by the content, so that a circuit knows whether its task has changed.
"""

import hashlib
import json
import runpy
from collections.abc import Iterator
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from sparse_circuits.errors import InputError
from sparse_circuits.tasks.task import SPLITS, Task, Template

_KEYS = ("a", "b", "right_a", "right_b", "split", "template")
_BY_HASH = ("prune", "prune", "calibrate", "report")


class _Line(NamedTuple):
    """One checked line of the file."""

    where: str
    split: str
    template: Template


def task_from_jsonl(path: str | Path) -> Task:
    """The task in the file at `path`, named after it.

    Raises:
        InputError: the file cannot be read; a line is not a pair (the message names file and line); a pair
            comes twice; a template is in two splits.
    """
    path = Path(path)
    lines = [_parse(where, text) for where, text in _numbered(path)]
    if not lines:
        raise InputError(f"{path} holds no pairs; write one JSON object a line, with the keys a, b, right_a, right_b")
    _check(lines)
    task = Task(
        name=path.stem,
        description=f"The pairs of {path.name}.",
        templates={split: tuple(line.template for line in lines if line.split == split) for split in SPLITS},
    )
    return replace(task, version=int(task.fingerprint[:8], 16))


def task_from_python(path: str | Path) -> Task:
    """Run the Python file at `path` and take its `TASK`.

    Raises:
        InputError: the file cannot be read, raises an exception, or defines no `TASK` that is a `Task`.
    """
    try:
        found = runpy.run_path(str(path)).get("TASK")
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except (Exception, SystemExit) as error:
        raise InputError(f"{path} raises {type(error).__name__}: {error}; run it by itself to see where") from error
    if not isinstance(found, Task):
        what = "no TASK" if found is None else f"a TASK that is a {type(found).__name__}"
        raise InputError(
            f"{path} defines {what}; write TASK = Task(name=..., description=..., templates=..., words=...)"
        )
    return found


def _numbered(path: Path) -> Iterator[tuple[str, str]]:
    """The lines that are not blank, each with its place as `file:line`."""
    try:
        text = path.read_text(encoding="utf-8-sig")  # some editors begin with a mark
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8") from error
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield f"{path}:{number}", line


def _parse(where: str, text: str) -> _Line:
    """Step 1 and 2 of this module."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not JSON ({error}); write one object a line") from error
    if not isinstance(content, dict):
        raise InputError(f"{where}: expected an object with the keys {', '.join(_KEYS)}, found {text.strip()[:40]}")
    _check_keys(where, content)
    a, b, right_a, right_b = content["a"], content["b"], content["right_a"], content.get("right_b")
    if a == b:
        raise InputError(f"{where}: a and b are the same prompt; they must differ in the evidence that decides")
    if right_a == right_b:
        raise InputError(f"{where}: right_a and right_b are both {right_a!r}, so nothing is asked")
    group = content.get("template")
    split = content.get("split")
    if split is None:
        split = _split_by_hash(group if group is not None else json.dumps([a, b, right_a, right_b]))
    name = group if group is not None else f"line {where.rpartition(':')[2]}"
    a, b, right_a = (text.replace("$", "$$") for text in (a, b, right_a))
    return _Line(where, split, Template(name, a, b, right_a, right_b and right_b.replace("$", "$$")))


def _check_keys(where: str, content: dict[str, Any]) -> None:
    """Every key is known, every value is text that has UTF-8, what is needed is there."""
    for key, value in content.items():
        if key not in _KEYS:
            near = get_close_matches(key, _KEYS, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise InputError(f"{where}: unknown key {key!r}; {hint}the keys are {', '.join(_KEYS)}")
        if value is None and key not in ("a", "b", "right_a"):
            continue
        if not isinstance(value, str) or not value:
            raise InputError(f"{where}: {key!r} is {json.dumps(value)}; expected text")
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise InputError(f"{where}: {key!r} holds a lone surrogate, which has no UTF-8; replace the character")
    missing = [key for key in ("a", "b", "right_a") if key not in content]
    if missing:
        raise InputError(f"{where}: {missing[0]!r} is missing; a pair needs a, b, right_a and right_b")
    split = content.get("split")
    if split is not None and split not in SPLITS:
        raise InputError(f"{where}: no split {split!r}: the splits are {', '.join(SPLITS)}")


def _split_by_hash(content: str) -> str:
    """Half prune, a quarter calibrate, a quarter report; the same on every machine."""
    return _BY_HASH[hashlib.sha256(content.encode()).digest()[0] % len(_BY_HASH)]


def _check(lines: list[_Line]) -> None:
    """Step 3 of this module, and one question for all pairs."""
    pairs: dict[tuple[str, ...], str] = {}
    homes: dict[str, _Line] = {}
    one_token = lines[0].template.right_b is None
    for line in lines:
        template = line.template
        content = (template.a, template.b, template.right_a, template.right_b or "")
        if content in pairs:
            raise InputError(f"{line.where}: the same pair as at {pairs[content]}; keep one of them")
        pairs[content] = line.where
        home = homes.setdefault(template.name, line)
        if home.split != line.split:
            raise InputError(
                f"{line.where}: template {template.name!r} is in split {line.split!r} here and in"
                f" {home.split!r} at {home.where}; splits must not share templates"
            )
        if (template.right_b is None) != one_token:
            raise InputError(
                f"{line.where}: right_b is {'given' if one_token else 'absent'} here but"
                f" {'absent' if one_token else 'given'} at {lines[0].where}; a task asks one kind of question"
            )
