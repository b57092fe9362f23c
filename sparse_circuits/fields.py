"""What all dataclasses of settings share: checks of their fields, and their way to JSON and back.

`from_json` refuses what it does not know, with the file, the key and the choices. Nothing here waits for PyTorch.
"""

import dataclasses
import difflib
import operator
import types
import typing
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, SupportsIndex, TypeVar

from sparse_circuits.errors import InputError

T = TypeVar("T")


def require(condition: bool, message: str) -> None:
    """Raise `InputError(message)` unless `condition` holds."""
    if not condition:
        raise InputError(message)


def shown(value: Any) -> str:
    """The beginning of `value` as it is written in code, on one line, for error messages."""
    return " ".join(repr(value).split())[:40].rstrip()


def whole(value: Any, name: str) -> int:
    """`value`, of Python, NumPy or PyTorch, as an int; InputError where it is no whole number."""
    try:
        return operator.index(value)
    except TypeError:
        raise InputError(f"{name} is {shown(value)}; expected a whole number") from None


def is_one(value: Any) -> bool:
    """Whether `value` is one whole number, and not several in an array."""
    return isinstance(value, int) or (isinstance(value, SupportsIndex) and not getattr(value, "ndim", 0))


def several(value: Any, name: str, expected: str) -> list[Any]:
    """`value` as a list, be it one whole number or several things; InputError where it is neither."""
    if is_one(value):
        return [value]
    require(isinstance(value, Iterable), f"{name} is {shown(value)}; expected {expected}")
    return list(value)


def require_choices(config: Any) -> None:
    """Raise `InputError` where a field of the dataclass `config` is none of its annotated choices."""
    for name, hint in typing.get_type_hints(type(config)).items():
        if typing.get_origin(hint) is Literal:
            _typed(hint, getattr(config, name), name)


def part_of(command: Any, kind: type[T]) -> T:
    """The settings of the dataclass `kind`, out of a command that adds flags of its own to them."""
    return kind(**{field.name: getattr(command, field.name) for field in dataclasses.fields(kind)})  # type: ignore[arg-type]


def nearest(name: str, choices: Sequence[str]) -> str:
    """A sentence piece naming the closest choice and all of them, for error messages."""
    close = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}choose among {', '.join(sorted(choices))}"


def to_json(config: Any) -> dict[str, Any]:
    """The config as plain JSON values; paths become strings, tuples lists."""

    def plain(value: Any) -> Any:
        if isinstance(value, Path):
            return str(value)
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [plain(item) for item in value]
        return value

    return {key: plain(value) for key, value in dataclasses.asdict(config).items()}


def from_json(kind: type[T], values: Any, where: str) -> T:
    """Build the dataclass `kind` from parsed JSON.

    Args:
        where: the file, for error messages.

    Raises:
        InputError: not an object, an unknown or missing key, or a value of the wrong type.
    """
    require(isinstance(values, dict), f"{where}: expected a JSON object for {kind.__name__}")
    hints = typing.get_type_hints(kind)
    fields = {item.name: item for item in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for key in values:
        if key not in fields:
            raise InputError(f"{where}: unknown key {key!r}; {nearest(key, list(fields))}")
    for name, item in fields.items():
        absent = item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
        require(name in values or not absent, f"{where}: the key {name!r} is missing")
    try:
        made = {key: _typed(hints[key], value, f"{where}: {key}") for key, value in values.items()}
        return kind(**made)
    except InputError as error:
        text = str(error)
        raise InputError(text if text.startswith(where) else f"{where}: {text}") from None


def _typed(hint: Any, value: Any, where: str) -> Any:
    """`value` as the annotated type `hint`; raises InputError when it is another."""
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in options:
            return None
        return _typed(next(option for option in options if option is not type(None)), value, where)
    if origin is Literal:
        require(value in options, f"{where} is {value!r}; choose among {', '.join(map(repr, options))}")
        return value
    if origin is tuple:
        require(isinstance(value, list), f"{where} is {value!r}; expected a list")
        return tuple(_typed(options[0], item, where) for item in value)
    if dataclasses.is_dataclass(hint):
        return from_json(typing.cast(type, hint), value, where)
    if hint is Path:
        require(isinstance(value, str), f"{where} is {value!r}; expected a path")
        return Path(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        require(abs(value) < 2**1023, f"{where} is a number too large for a float")
        return float(value)
    require(
        isinstance(value, hint) and not (hint is int and isinstance(value, bool)),
        f"{where} is {value!r}; expected {hint.__name__}",
    )
    return value
