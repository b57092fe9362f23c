"""`sparse-circuits convert`: from any form of model folder to any other."""

import json
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional


@dataclass(frozen=True)
class Command:
    """Turn a model folder of any kind into one of another kind."""

    source: Positional[Path]
    """Model folder of any kind, or the name of a model that ships."""
    to: str
    """The form to write; a wrong name lists the choices."""
    out: Path
    """Folder to write."""
    json: bool = False
    """Print sizes and density as JSON."""


def run(command: Command) -> None:
    """Read, write, say what it saves."""
    from sparse_circuits.formats.convert import convert

    done = convert(command.source, command.to, command.out)
    print(json.dumps(done.described(), indent=2) if command.json else "\n".join(done.lines()))
