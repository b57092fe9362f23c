"""The models that ship inside the package, by name, and where commands write what belongs beside one.

Each is a model folder `sparse_circuits/models/NAME/` as `sparse-circuits card --ship` writes it. Its text, `card.md`,
and the data of it, `card.json`, are described in `card`. Nothing is ever written there: results go to `./runs/NAME/`.
"""

from pathlib import Path
from typing import Any

from sparse_circuits.files import read_json

FOLDER = Path(__file__).parent / "models"


def names() -> list[str]:
    """The models that ship, in alphabetical order."""
    return sorted(path.parent.name for path in FOLDER.glob("*/config.json"))


def locate(source: str | Path) -> Path:
    """The folder that `source` means: the folder of that name if there is one, else the shipped model so called."""
    folder = Path(source)
    return FOLDER / folder if not folder.is_dir() and str(folder) in names() else folder


def name_of(folder: Path) -> str | None:
    """The name of the shipped model in `folder`; None where that is any other folder."""
    resolved = folder.resolve()
    return resolved.name if resolved.parent == FOLDER.resolve() and resolved.name in names() else None


def writable(folder: Path) -> Path:
    """Where to write what belongs beside the model in `folder`: there, but for a shipped one in `./runs/NAME/`."""
    name = name_of(folder)
    return folder if name is None else Path("runs") / name


def hint(source: str | Path) -> str:
    """What to say beside "no such folder": the shipped names, where `source` could have been one."""
    if len(Path(source).parts) != 1:
        return ""
    return f"; the models that ship are {', '.join(names())}" if names() else "; no models ship with this installation"


def listing() -> list[dict[str, Any]]:
    """Each shipped model's name, folder, size in bytes and card (None where it has none)."""
    found = []
    for name in names():
        folder = FOLDER / name
        card = folder / "card.json"
        found.append(
            {
                "name": name,
                "folder": str(folder),
                "bytes": sum(path.stat().st_size for path in folder.iterdir() if path.is_file()),
                "card": read_json(card) if card.is_file() else None,
            }
        )
    return found
