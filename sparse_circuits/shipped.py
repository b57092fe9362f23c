"""The models and circuits that ship inside the package, by name, and where commands write what belongs beside one.

Each model is a folder `sparse_circuits/models/NAME/` as `sparse-circuits card --ship` writes it. Its text, `card.md`,
and the data of it, `card.json`, are described in `card`. Its circuits, as `sparse-circuits prune` writes them, are in
`circuits/TASK/` there, and called NAME/TASK. Nothing is ever written there: results go to `./runs/NAME/`.
"""

import difflib
from pathlib import Path
from typing import Any

from sparse_circuits.errors import InputError
from sparse_circuits.files import read_json

FOLDER = Path(__file__).parent / "models"


def names() -> list[str]:
    """The models that ship, in alphabetical order."""
    return sorted(path.parent.name for path in FOLDER.glob("*/config.json"))


def locate(source: str | Path) -> Path:
    """The folder that `source` means: that of this name if a model is in it, else the shipped model so called."""
    folder = Path(source)
    return FOLDER / folder if not (folder / "config.json").is_file() and str(folder) in names() else folder


def name_of(folder: Path) -> str | None:
    """The name of the shipped model in `folder`; None where that is any other folder."""
    resolved = folder.resolve()
    return resolved.name if resolved.parent == FOLDER.resolve() and resolved.name in names() else None


def circuits(name: str) -> list[str]:
    """The tasks of which the shipped model `name` has a circuit that ships, in alphabetical order."""
    return sorted(path.parent.name for path in (FOLDER / name / "circuits").glob("*/circuit.json"))


def locate_circuit(source: str | Path) -> Path:
    """The circuit folder that `source` means: that folder if there is one, else the shipped circuit MODEL/TASK."""
    folder = Path(source)
    if (folder / "circuit.json").is_file() or len(folder.parts) != 2 or folder.parts[0] not in names():
        return folder
    name, task = folder.parts
    return FOLDER / name / "circuits" / task if task in circuits(name) else folder


def circuit_file(source: str | Path) -> Path:
    """The description of the circuit that `source` means.

    Raises:
        InputError: there is none.
    """
    folder = locate_circuit(source)
    path = folder / "circuit.json"
    if not path.is_file():
        raise InputError(
            f"no circuit at {folder}: expected a folder with circuit.json, as `prune` writes it{_circuit_hint(folder)}"
        )
    return path


def _circuit_hint(source: Path) -> str:
    """What to say beside "no such circuit", where `source` could have been one that ships."""
    parts = source.parts
    if len(parts) != 2 or parts[0] not in names():
        return ""
    shipped = circuits(parts[0])
    if not shipped:
        return f"; {parts[0]} ships none"
    close = difflib.get_close_matches(parts[1], shipped, n=1)
    hint = f"; did you mean {parts[0]}/{close[0]}?" if close else ";"
    return f"{hint} those of {parts[0]} that ship are {', '.join(shipped)}"


def writable(folder: Path) -> Path:
    """Where to write what belongs beside the model or circuit in `folder`: there, but for a shipped one in `./runs/`.

    What belongs to the model NAME is in `./runs/NAME/`, to its circuit of TASK in `./runs/NAME/shipped/TASK/`: one's
    own circuits of the model are in `./runs/NAME/circuits/`, with cards of their own.
    """
    resolved = folder.resolve()
    for name in names():
        model = (FOLDER / name).resolve()
        if resolved == model:
            return Path("runs") / name
        if model / "circuits" in resolved.parents:
            return Path("runs") / name / "shipped" / resolved.relative_to(model / "circuits")
    return folder


def hint(source: str | Path) -> str:
    """What to say beside "no such folder": the shipped names, where `source` could have been one."""
    parts = Path(source).parts
    if len(parts) == 2 and parts[1] in circuits(parts[0]):
        return f"; that is a circuit of {parts[0]}"
    if len(parts) != 1:
        return ""
    close = "".join(f"; did you mean {name!r}?" for name in difflib.get_close_matches(str(source), names(), n=1))
    ships = f"the models that ship are {', '.join(names())}" if names() else "no models ship with this installation"
    return f"{close} {ships}" if close else f"; {ships}"


def listing() -> list[dict[str, Any]]:
    """Each shipped model's name, folder, circuits, size in bytes and card (None where it has none)."""
    found = []
    for name in names():
        folder = FOLDER / name
        card = folder / "card.json"
        found.append(
            {
                "name": name,
                "folder": str(folder),
                "circuits": circuits(name),
                "bytes": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
                "card": read_json(card) if card.is_file() else None,
            }
        )
    return found
