"""The bundle's schema, `web/schema.json`, and the check of a bundle against it.

The page reads the same file and checks by the same rules (`web/schema.js`). Of JSON Schema (draft 2020-12) they know
`type`, `const`, `enum`, `properties`, `required`, `additionalProperties` (a schema), `items`, `prefixItems`,
`minItems`, `minimum`, `anyOf` and `$ref` to `#/$defs/...`. Properties that the schema does not name are let pass, so
that a reader of this version can read what a later one of the same number adds.
"""

import json
import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from sparse_circuits.errors import InputError

WEB = Path(__file__).parent / "web"
FORMAT = "sparse-circuits-bundle"
VERSION = 1


@cache
def schema() -> dict[str, Any]:
    """The schema, as written down."""
    return json.loads((WEB / "schema.json").read_text(encoding="utf-8"))


def check(value: Any, where: str = "the bundle") -> None:
    """Refuse what is no bundle of this version.

    Raises:
        InputError: another format, another version, or the first place that breaks the schema.
    """
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise InputError(f"{where} is no bundle of circuits: its format must be {FORMAT!r}")
    version = value.get("version")
    if version != VERSION:
        newer = isinstance(version, int) and version > VERSION
        mend = "update sparse-circuits" if newer else "make it again from its circuit"
        raise InputError(f"{where} has version {version!r}; this is a reader of version {VERSION}: {mend}")
    problem = next(_problems(value, schema(), "bundle"), None)
    if problem is not None:
        raise InputError(f"{where} breaks its schema: {problem}")
    for place, circuit in enumerate(value["circuits"]):
        if circuit["model"] >= len(value["models"]):
            raise InputError(f"{where} breaks its schema: bundle.circuits[{place}].model is no model of it")
        count = len(circuit["nodes"])
        if any(source >= count or target >= count for source, target, _ in circuit["edges"]):
            raise InputError(f"{where} breaks its schema: bundle.circuits[{place}].edges name a node it has not")


_KINDS = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value),
}


def _problems(value: Any, rule: dict[str, Any], where: str) -> Iterator[str]:
    """Every place of `value` that breaks `rule`."""
    if "$ref" in rule:
        rule = schema()["$defs"][rule["$ref"].rsplit("/", 1)[1]]
    if "anyOf" in rule:
        if all(any(True for _ in _problems(value, each, where)) for each in rule["anyOf"]):
            yield f"{where} is none of what it may be"
        return
    kind = rule.get("type")
    if kind is not None and not _KINDS[kind](value):
        yield f"{where} is no {kind}"
        return
    if "const" in rule and value != rule["const"]:
        yield f"{where} is not {rule['const']!r}"
    if "enum" in rule and value not in rule["enum"]:
        yield f"{where} is none of {', '.join(map(repr, rule['enum']))}"
    if "minimum" in rule and value < rule["minimum"]:
        yield f"{where} is below {rule['minimum']}"
    if kind == "object":
        yield from _object_problems(value, rule, where)
    elif kind == "array":
        yield from _array_problems(value, rule, where)


def _object_problems(value: dict[str, Any], rule: dict[str, Any], where: str) -> Iterator[str]:
    known = rule.get("properties", {})
    for name in rule.get("required", ()):
        if name not in value:
            yield f"{where} lacks {name!r}"
    for name, item in value.items():
        if name in known:
            yield from _problems(item, known[name], f"{where}.{name}")
        elif "additionalProperties" in rule:
            yield from _problems(item, rule["additionalProperties"], f"{where}.{name}")


def _array_problems(value: list[Any], rule: dict[str, Any], where: str) -> Iterator[str]:
    if len(value) < rule.get("minItems", 0):
        yield f"{where} has {len(value)} items, fewer than {rule['minItems']}"
    first = rule.get("prefixItems", [])
    for place, (item, each) in enumerate(zip(value, first, strict=False)):
        yield from _problems(item, each, f"{where}[{place}]")
    if "items" in rule:
        for place, item in enumerate(value[len(first) :], len(first)):
            yield from _problems(item, rule["items"], f"{where}[{place}]")
