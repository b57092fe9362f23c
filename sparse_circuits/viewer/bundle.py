"""Circuits, their models and their tasks in; one JSON value out, which is all that the page knows.

1. Each model once: sizes, matrices, health, vocabulary (`models`).
2. Each circuit: nodes with means and costs, edges, residual channels (`channels`), what its nodes fire on in text
   (`texts`), the task's pairs in model and circuit with attention (`prompts`), size against loss (`sizes`), its report
   card where there is one.
3. Checked against the schema (`schema`).
"""

import json
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from sparse_circuits import checkpoint, shipped
from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.circuits.edge_search import MEASURED
from sparse_circuits.circuits.report import Card
from sparse_circuits.circuits.report.build import known
from sparse_circuits.corpus.packed import PackedCorpus
from sparse_circuits.errors import InputError
from sparse_circuits.fields import to_json
from sparse_circuits.files import read_json
from sparse_circuits.viewer.channels import channels
from sparse_circuits.viewer.models import describe
from sparse_circuits.viewer.numbers import Number, number
from sparse_circuits.viewer.prompts import prompts
from sparse_circuits.viewer.schema import FORMAT, VERSION, check
from sparse_circuits.viewer.sizes import curve, learning
from sparse_circuits.viewer.texts import Text, text_for, watch
from sparse_circuits.viewer.titles import distinguish

TEXT_TOKENS = 32_768


def bundle(
    circuits: Circuit | Sequence[Circuit],
    cards: Sequence[Card | None] | None = None,
    *,
    text: PackedCorpus | Path | None = None,
    text_tokens: int = TEXT_TOKENS,
    progress: bool = False,
) -> dict[str, Any]:
    """One or several circuits as the JSON value that the page shows.

    Args:
        cards: the report card of each, or None; by default those that lie beside them (`card_beside`).
        text: a packed corpus to watch the nodes on; by default the one each model was trained on, and where that is not
            here text of its kind (see `texts`).
        text_tokens: how many tokens of it.

    Raises:
        InputError: no circuit, or a model without a tokenizer.
    """
    given = [circuits] if isinstance(circuits, Circuit) else list(circuits)
    if not given:
        raise InputError("no circuit to show; give at least one")
    if cards is not None and len(cards) != len(given):
        raise InputError(f"{len(cards)} cards for {len(given)} circuits; give one for each, or None in its place")
    texts: dict[str, Text] = {}
    models: list[dict[str, Any]] = []
    places: dict[str, int] = {}
    described = []
    for circuit, card in zip(given, cards or map(card_beside, given), strict=True):
        identity = checkpoint.model_hash(circuit.model)
        if identity not in places:
            texts[identity] = text_for(circuit.model, text, text_tokens)
            places[identity] = len(models)
            models.append(describe(circuit.model, texts[identity]))
        described.append(_circuit(circuit, places[identity], texts[identity], card, progress))
    distinguish(described, models)
    found = {
        "format": FORMAT,
        "version": VERSION,
        "made_by": f"sparse-circuits {_version()}",
        "models": models,
        "circuits": described,
    }
    check(found, "the bundle just made")
    return found


def card_beside(circuit: Circuit) -> Card | None:
    """The report card of this circuit in its folder, or where what belongs to one that ships is written."""
    if circuit.folder is None:
        return None
    return known(circuit, shipped.writable(circuit.folder)) or known(circuit, circuit.folder)


def read_bundle(path: str | Path) -> dict[str, Any]:
    """The bundle in a JSON file.

    Raises:
        InputError: no such file, or it is no bundle of this version.
    """
    found = read_json(path)
    check(found, str(path))
    return found


def as_json(value: Any) -> str:
    """Compact JSON of a bundle."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _circuit(circuit: Circuit, model: int, text: Text, card: Card | None, progress: bool) -> dict[str, Any]:
    pairs, heads = prompts(circuit)
    named = [token for pair in pairs for side in pair["sides"] for token in (side["right"], side["wrong"])]
    costs = _costs(circuit)
    seen, windows = watch(circuit, text, costs, progress)
    task = circuit.task
    return {
        "title": task.name,
        "model": model,
        "task": {"name": task.name, "description": task.description, "version": task.version, "loss": task.loss},
        "config": to_json(circuit.config),
        "sizes": circuit.description()["sizes"] | {"all_nodes": circuit.space.total},
        "losses": {
            split: {name: number(value) for name, value in found.items()}
            for split, found in circuit.found.get("losses", {}).items()
        },
        "nodes": _nodes(circuit, costs, seen),
        **_edges(circuit),
        "channels": channels(circuit, named),
        "text": text.source,
        "texts": windows,
        "pairs": pairs,
        "heads": heads,
        "curve": curve(circuit, progress=progress),
        "learning": learning(circuit),
        "card": None if card is None else card.to_json(),
    }


def _costs(circuit: Circuit) -> list[Number | None]:
    """What removing each kept node costs, as pruning found, else measured here if that is no long work."""
    found = circuit.found.get("costs") or {}
    if all(len(found.get(site, ())) == len(kept) for site, kept in circuit.nodes.items()):
        return [cost for site in circuit.nodes for cost in found[site]]
    if circuit.size > MEASURED:
        return [None] * circuit.size
    evaluate = circuit.on_its_scale(circuit.evaluator(circuit.examples("report")))
    measured = evaluate.costs(circuit.kept)[circuit.kept]
    return [number(cost) for cost in measured]


def _nodes(circuit: Circuit, costs: list[Number | None], seen: list[Any]) -> list[dict[str, Any]]:
    numbers = circuit.kept.nonzero().squeeze(1).tolist()
    found = []
    for node, cost, watched in zip(numbers, costs, seen, strict=True):
        site, channel = circuit.space.name(node)
        found.append(
            {
                "site": site,
                "channel": channel,
                "mean": number(circuit.means.values[node]),
                "standard_error": number(circuit.means.standard_error[node]),
                "held": number(circuit.held[node]),
                "cost": None if cost is None else number(cost),
                "score": None if circuit.scores is None else number(circuit.scores[node]),
                "seen": watched,
            }
        )
    return found


def _edges(circuit: Circuit) -> dict[str, Any]:
    names = [(site, channel) for site, kept in circuit.nodes.items() for channel in kept]
    place = {name: index for index, name in enumerate(names)}
    gone = set(circuit.dropped)
    kept: list[list[float]] = []
    dropped: list[list[float]] = []
    for edge in circuit.node_edges:
        row = [place[edge.source], place[edge.target], number(edge.weight)]
        (dropped if (edge.source, edge.target) in gone else kept).append(row)
    return {"edges": kept, "dropped": dropped}


def _version() -> str:
    try:
        return version("sparse-circuits")
    except PackageNotFoundError:
        return "(not installed)"
