"""A bundle is checked against what is written down, and what is refused is named."""

from typing import Any

import pytest

from sparse_circuits.errors import InputError
from sparse_circuits.viewer.schema import VERSION, check


def test_what_is_made_fits(made: dict[str, Any]) -> None:
    check(made)


@pytest.mark.parametrize(
    ("version", "said"), [(VERSION + 1, "update sparse-circuits"), (0, "make it again"), ("x", "make it again")]
)
def test_another_version_says_what_to_do(copied: dict[str, Any], version: object, said: str) -> None:
    copied["version"] = version
    with pytest.raises(InputError, match=said):
        check(copied, "old.json")


@pytest.mark.parametrize("value", [None, 3, [], {}, {"format": "something else"}])
def test_what_is_no_bundle_is_refused(value: object) -> None:
    with pytest.raises(InputError, match="is no bundle of circuits"):
        check(value)


def spoil(bundle: dict[str, Any], place: str, value: object) -> None:
    *path, last = [int(part) if part.isdecimal() else part for part in place.split(".")]
    for part in path:
        bundle = bundle[part]
    if value is KeyError:
        del bundle[last]
    else:
        bundle[last] = value


SPOILED: list[tuple[str, object, str]] = [
    ("circuits.0.nodes.0.mean", "much", "nodes[0].mean is no number"),
    ("circuits.0.nodes.0.mean", float("nan"), "nodes[0].mean is no number"),
    ("circuits.0.nodes.0.channel", -1, "nodes[0].channel is below 0"),
    ("circuits.0.nodes.1.cost", "none", "nodes[1].cost is none of what it may be"),
    ("circuits.0.title", KeyError, "circuits[0] lacks 'title'"),
    ("circuits.0.edges.0", [0, 1], "edges[0] has 2 items, fewer than 3"),
    ("circuits.0.edges.0", [0, 999, 1.0], "edges name a node it has not"),
    ("circuits.0.model", 5, "circuits[0].model is no model of it"),
    ("circuits.0.task.loss", "other", "task.loss is none of 'two_token', 'one_token'"),
    ("models.0.tokens.3", 7, "tokens[3] is no string"),
    ("models.0.health.kurtosis", {"a": "b"}, "kurtosis.a is no number"),
    ("models", [], "models has 0 items"),
]


@pytest.mark.parametrize(("place", "value", "said"), SPOILED)
def test_the_first_broken_place_is_named(copied: dict[str, Any], place: str, value: object, said: str) -> None:
    spoil(copied, place, value)
    with pytest.raises(InputError) as refused:
        check(copied)
    assert said in str(refused.value)


def test_what_a_later_writer_adds_is_let_pass(copied: dict[str, Any]) -> None:
    copied["circuits"][0]["mood"] = "good"
    check(copied)
