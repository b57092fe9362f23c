"""`report`: a circuit in, the card of how far it can be trusted out."""

import hashlib
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from sparse_circuits import checkpoint
from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.circuits.report import (
    ablations,
    agreement,
    controls,
    identity,
    internals,
    losses,
    necessity,
    seeds,
    sizes,
)
from sparse_circuits.circuits.report.rows import Card, Row
from sparse_circuits.circuits.report.subject import FULL, QUICK, Subject
from sparse_circuits.errors import InputError
from sparse_circuits.model import GPT
from sparse_circuits.progress import Bar


def report(
    circuit: Circuit | str | Path,
    model: GPT | None = None,
    full: bool = False,
    *,
    seed: int = 0,
    progress: bool = False,
) -> Card:
    """Measure how far `circuit` can be trusted (paper, sections 3 and 5; arXiv 2504.13151 for faithfulness).

    Args:
        circuit: a circuit, or the folder of one.
        model: its model, where that is not the circuit's own already; another model is refused.
        full: also prune with other seeds and run the controls that learn masks, each at the circuit's own budget: about
            five times as long as finding it. Without it nothing is learned.
        seed: of random sets, of resampling and of the bootstrap.
        progress: show progress on standard error.

    Returns:
        the card; it prints as a table.

    Raises:
        InputError: `model` is not the circuit's, or the task has no `report` split.
    """
    started = time.monotonic()
    circuit = _circuit(circuit, model)
    if "report" not in circuit.task.splits:
        raise InputError(
            f"task {circuit.task.name!r} has no 'report' split, so there are no unseen pairs to judge by; give it some"
        )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"task .* has \d+ distinct pairs")
        budget = FULL if full else QUICK
        wide, subject = Subject(circuit, budget, seed), Subject(circuit, budget, seed, budget.pairs)
        points: list[Callable[[], list[Row]]] = [
            lambda: losses.rows(wide),
            lambda: ablations.rows(subject),
            lambda: necessity.rows(subject),
            lambda: controls.rows(subject, wide, full, progress),
            lambda: seeds.rows(wide, full, progress),
            lambda: agreement.rows(wide),
            lambda: internals.rows(subject),
            lambda: sizes.rows(subject),
            lambda: identity.rows(subject),
        ]
        found: list[Row] = []
        with Bar("report", len(points), progress) as bar:
            for done, point in enumerate(points, 1):
                found += point()
                bar.update(done)
    return Card(_about(wide, subject, full, time.monotonic() - started), tuple(found))


def _circuit(circuit: Circuit | str | Path, model: GPT | None) -> Circuit:
    if not isinstance(circuit, Circuit):
        return Circuit.load(circuit, model)
    if model is not None and model is not circuit.model:
        own, given = (checkpoint.model_hash(each)[:12] for each in (circuit.model, model))
        if own != given:
            raise InputError(
                f"the circuit is of the model {own}, the one given is {given}; a circuit can be judged only in its own"
            )
    return circuit


def _about(wide: Subject, subject: Subject, full: bool, seconds: float) -> dict[str, object]:
    circuit = subject.circuit
    folder = circuit.model.folder
    return {
        "circuit": fingerprint(circuit),
        "task": circuit.task.name,
        "description": circuit.task.description,
        "version": circuit.task.version,
        "model": checkpoint.model_hash(circuit.model),
        "model_folder": None if folder is None else folder.name,
        "nodes": circuit.size,
        "edges": len(circuit.edges),
        "all_nodes": circuit.space.total,
        "target_loss": subject.config.target_loss,
        "ablation": subject.kind,
        "pairs": len(wide.examples("report")),
        "fewer_pairs": len(subject.examples("report")),
        "by_hand": circuit.scores is None,
        "full": full,
        "seed": subject.seed,
        "seconds": round(seconds, 1),
    }


def fingerprint(circuit: Circuit) -> str:
    """Sixteen hexadecimal digits that say which circuit a card is of: all that decides the card's figures.

    That is its model, task, nodes, edges, ranking and means, how it is ablated and calibrated, the target, and the
    number of pairs. Of the settings of pruning only these: the others show in what was found.
    """
    config = circuit.config
    judged = [config.ablation, config.final_norm, config.target_loss, config.calibrated, config.eval_pairs]
    # The seed chooses whose values are put in the place of others.
    judged += [config.loop.seed] if config.ablation == "resample" else []
    nodes = {site: list(channels) for site, channels in sorted(circuit.nodes.items())}
    calibration = circuit.calibration
    scaled = None if calibration is None else [calibration.scale, _digest(calibration.shift)]
    tensors = [_digest(circuit.means.values), None if circuit.scores is None else _digest(circuit.scores), scaled]
    content = [checkpoint.model_hash(circuit.model), circuit.task.fingerprint, judged, nodes, circuit.dropped, tensors]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def _digest(tensor: Tensor) -> str:
    """Of the numbers, whatever precision they are stored in."""
    return hashlib.sha256(tensor.detach().cpu().float().contiguous().numpy().tobytes()).hexdigest()


def known(circuit: Circuit, folder: Path) -> Card | None:
    """The card in `folder`, if there is one of this circuit."""
    try:
        card = Card.load(folder)
    except InputError:
        return None
    return card if card.about.get("circuit") == fingerprint(circuit) else None
