"""`sparse-circuits models`: what ships with the package, from the models' cards."""

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Command:
    """List the models that ship with the package, and their circuits; commands take their names."""

    json: bool = False
    """Print as JSON, cards included."""


def run(command: Command) -> None:
    """Print what the cards say; nothing is loaded or measured."""
    from sparse_circuits import shipped

    found = shipped.listing()
    if command.json:
        print(json.dumps(found, indent=2))
        return
    if not found:
        print(f"no models ship with this installation ({shipped.FOLDER} holds none)")
        return
    name = max(len(entry["name"]) for entry in found)
    columns = (
        ("loss", 7),
        ("bigram", 8),
        ("density", 9),
        ("layers x width", 16),
        ("size", 9),
        ("tasks", 8),
        ("circuits", 10),
    )
    print(" " * name + "".join(f"{title:>{width}}" for title, width in columns))
    for entry in found:
        cells = [*_cells(entry["card"], entry["bytes"]), str(len(entry["circuits"]))]
        print(
            entry["name"].ljust(name)
            + "".join(f"{cell:>{width}}" for cell, (_, width) in zip(cells, columns, strict=True))
        )
    print(
        "loss in nats per token beside the bigram model's, density over all matrices, tasks of report loss at most "
        f"0.15; the cards are in {shipped.FOLDER}/NAME/card.md"
    )
    for entry in found:
        if entry["circuits"]:
            print(f"circuits of {entry['name']}: {', '.join(entry['circuits'])}")
            print(f"  see one: sparse-circuits view {entry['name']}/{entry['circuits'][0]}")


def _cells(card: dict[str, Any] | None, size: int) -> list[str]:
    room = f"{size / 1e6:.1f} MB"
    if card is None:
        return ["", "", "", "no card", room, ""]
    return [
        f"{card['loss']['model']:.3f}",
        f"{card['loss']['bigram']:.3f}",
        f"{card['density']['all']:.4f}",
        f"{card['model']['layers']} x {card['model']['width']}",
        room,
        f"{len(card['tasks']) - len(card['above'])}/{len(card['tasks'])}",
    ]
