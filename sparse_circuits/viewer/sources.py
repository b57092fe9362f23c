"""What `view` is given: circuit folders and bundle files; each folder's bundle is kept beside its circuit."""

import contextlib
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sparse_circuits import shipped
from sparse_circuits.checkpoint import make_folder
from sparse_circuits.circuits.circuit import Circuit, own_task
from sparse_circuits.errors import InputError
from sparse_circuits.files import atomic_write, read_json
from sparse_circuits.tasks import Task
from sparse_circuits.viewer.bundle import as_json, bundle, read_bundle
from sparse_circuits.viewer.schema import VERSION, check
from sparse_circuits.viewer.titles import distinguish

FILE = "viewer.json"
"""In a circuit's folder: its bundle, and what it was made of."""
KEYED = ("circuit.json", "circuit.safetensors", "report.json")


def gather(
    sources: Sequence[Path], corpus: Path | None = None, task: Task | None = None, progress: bool = False
) -> tuple[dict[str, Any], list[Circuit | None]]:
    """One bundle of all `sources`, and each of its circuits where it can be executed (None: from a bundle file).

    Args:
        task: of circuits whose task is none that is registered.

    Raises:
        InputError: no source, or one that is neither a circuit folder nor a bundle.
    """
    if not sources:
        raise InputError("nothing to show; give a circuit folder, as `sparse-circuits prune` writes it")
    bundles: list[dict[str, Any]] = []
    circuits: list[Circuit | None] = []
    for source in sources:
        if source.suffix == ".json":
            found = read_bundle(source)
            circuits += [None] * len(found["circuits"])
        else:
            source = shipped.locate_circuit(source)
            circuit = Circuit.load(source, task=own_task(source, task))
            circuits.append(circuit)
            found = _of_folder(source, circuit, corpus, progress)
        bundles.append(found)
    return merge(bundles), circuits


def _of_folder(folder: Path, circuit: Circuit, corpus: Path | None, progress: bool) -> dict[str, Any]:
    key = _key(folder, corpus)
    path = shipped.writable(folder) / FILE
    if path.is_file():
        try:
            kept = read_json(path)
            if kept["key"] == key:
                check(kept["bundle"], str(path))
                return kept["bundle"]
        except (InputError, KeyError, TypeError):
            pass  # of another version, or cut short: made again
    found = bundle(circuit, text=corpus, progress=progress)
    with contextlib.suppress(InputError):  # a folder that cannot be written to only costs the time to make it again
        make_folder(path.parent)
        atomic_write(path, as_json({"key": key, "bundle": found}))
    return found


def _key(folder: Path, corpus: Path | None) -> str:
    digest = hashlib.sha256(json.dumps([VERSION, str(corpus)]).encode())
    for path in (*(folder / name for name in KEYED), shipped.writable(folder) / "report.json"):
        digest.update(path.read_bytes() if path.is_file() else b"-")
    return digest.hexdigest()


def merge(bundles: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One bundle with the circuits of all, each model once, titles told apart."""
    if len(bundles) == 1:
        return bundles[0]
    models: list[dict[str, Any]] = []
    places: dict[str, int] = {}
    circuits: list[dict[str, Any]] = []
    for each in bundles:
        for circuit in each["circuits"]:
            model = each["models"][circuit["model"]]
            if model["hash"] not in places:
                places[model["hash"]] = len(models)
                models.append(model)
            circuits.append({**circuit, "model": places[model["hash"]], "title": circuit["task"]["name"]})
    distinguish(circuits, models)
    return {**bundles[0], "models": models, "circuits": circuits}
