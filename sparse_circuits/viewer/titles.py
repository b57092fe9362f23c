"""Titles that tell the circuits of one bundle apart."""

from typing import Any


def distinguish(circuits: list[dict[str, Any]], models: list[dict[str, Any]]) -> None:
    """Give circuits of one bundle different titles: by their models, then by their sizes, then by number."""
    _add_where_equal(circuits, lambda circuit: f" in {models[circuit['model']]['name']}")
    _add_where_equal(circuits, lambda circuit: f", {circuit['sizes']['nodes']} nodes")
    titles = [circuit["title"] for circuit in circuits]
    for number, circuit in enumerate(circuits, 1):
        if titles.count(circuit["title"]) > 1:
            circuit["title"] += f" ({number})"


def _add_where_equal(circuits: list[dict[str, Any]], ending: Any) -> None:
    titles = [circuit["title"] for circuit in circuits]
    groups: dict[str, set[str]] = {}
    for title, circuit in zip(titles, circuits, strict=True):
        groups.setdefault(title, set()).add(ending(circuit))
    for title, circuit in zip(titles, circuits, strict=True):
        if titles.count(title) > 1 and len(groups[title]) > 1:
            circuit["title"] += ending(circuit)
