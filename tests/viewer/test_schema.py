"""A bundle is checked against what is written down, and what is refused is named."""

from typing import Any

import pytest
from small_circuits import SPOILED, spoil

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


@pytest.mark.parametrize(("place", "value", "said"), SPOILED)
def test_the_first_broken_place_is_named(copied: dict[str, Any], place: str, value: object, said: str) -> None:
    spoil(copied, place, value)
    with pytest.raises(InputError) as refused:
        check(copied)
    assert said in str(refused.value)


def test_what_a_later_writer_adds_is_let_pass(copied: dict[str, Any]) -> None:
    copied["circuits"][0]["mood"] = "good"
    check(copied)
