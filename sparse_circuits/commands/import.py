"""`sparse-circuits import`: a released checkpoint or a Hub folder becomes a model folder of our own."""

import json
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional


@dataclass(frozen=True)
class Command:
    """Take in a model that another program wrote."""

    source: Positional[str]
    """Its folder."""
    out: Path
    """Folder for the model."""
    json: bool = False
    """Print what was read as JSON."""


def run(command: Command) -> None:
    """Read, write our own form, say what it saves."""
    from sparse_circuits.formats.convert import convert

    done = convert(Path(command.source), "native", command.out)
    print(json.dumps(done.described(), indent=2) if command.json else "\n".join(done.lines()))
