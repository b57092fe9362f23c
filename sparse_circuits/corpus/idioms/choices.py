"""Weighted registries: adding a construct is one function and one entry."""

from typing import TypeVar

Item = TypeVar("Item")


def weighted(*entries: tuple[int, Item]) -> tuple[Item, ...]:
    """A tuple that has each item as often as its weight says, so that drawing from it is one look-up."""
    return tuple(item for weight, item in entries for _ in range(weight))
