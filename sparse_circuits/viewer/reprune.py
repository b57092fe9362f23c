"""The same model and task pruned anew for another target loss."""

from dataclasses import replace
from pathlib import Path

from sparse_circuits import checkpoint
from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.circuits.prune import prune


def reprune(circuit: Circuit, target: float, out: Path | None = None) -> tuple[Circuit, Path | None]:
    """Prune again with the circuit's own settings and means, another target, and its scores to start from.

    Args:
        out: folder in which the new circuit's folder is made; nothing is saved if None.

    Returns:
        the new circuit and the folder it was saved to.
    """
    found = prune(
        circuit.model,
        circuit.task,
        config=replace(circuit.config, target_loss=target),
        means=circuit.means,
        warm_start=circuit if circuit.scores is not None else None,
    )
    if out is None:
        return found, None
    folder = out / f"{circuit.task.name}-{target:g}"
    number = 1
    while folder.exists():
        number += 1
        folder = out / f"{circuit.task.name}-{target:g}-{number}"
    checkpoint.make_folder(folder)
    found.save(folder)
    return found, folder
