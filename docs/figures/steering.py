"""Steers the dense model by a node of the bridged one, for two tasks: docs/figures/steering_TASK.svg and steering.json.

    python docs/figures/steering.py [BRIDGE]

BRIDGE is a bridge folder or a shipped name, small-bridged unless given. For each task: the circuit is pruned (and kept
in runs/), its best node steers 200 report pairs, side effects on the other tasks are measured, and the circuit's
directions are taken out of the dense model.
"""

import json
import sys
from pathlib import Path
from typing import Any

import sparse_circuits as sc
from sparse_circuits import presets, shipped
from sparse_circuits.bridges.ablations import ablate_circuit, node_list
from sparse_circuits.bridges.curves import best_nodes, steering_curves
from sparse_circuits.bridges.pictures import steering_picture
from sparse_circuits.bridges.side_effects import side_effects
from sparse_circuits.bridges.tables import ablated_table, side_effect_tables, steered_table
from sparse_circuits.circuits.experiment_tables import plain, show
from sparse_circuits.circuits.means import means_for

FOLDER = Path(__file__).parent
TASKS = ("single_double_quote", "while_return_true")


def circuit_of(bridge: sc.Bridge, task: sc.Task) -> sc.Circuit:
    """The task's circuit in the sparse model, pruned unless that was done before."""
    assert bridge.sparse.folder is not None
    kept = shipped.writable(bridge.sparse.folder) / "circuits" / task.name
    if not (kept / "circuit.json").is_file():
        sc.prune(bridge.sparse, task, config=presets.shipped_prune(), progress=True).save(kept)
    return sc.Circuit.load(kept, bridge.sparse)


def measure(bridge: sc.Bridge, task: sc.Task) -> dict[str, Any]:
    """All that is measured of one task; its curves are drawn and its tables printed."""
    circuit = circuit_of(bridge, task)
    ranked = best_nodes(bridge, task, node_list(circuit.nodes), progress=True)
    (site, channel), _ = ranked[0]
    nodes = {site: (channel,)}
    curves = steering_curves(bridge, task, nodes, progress=True)
    effects = side_effects(bridge, task, nodes, progress=True)
    ablated = ablate_circuit(bridge, task, circuit.nodes, means_for(bridge.dense, None, 65_536), progress=True)
    (FOLDER / f"steering_{task.name}.svg").write_text(steering_picture(curves))
    show([steered_table(curves), *side_effect_tables(effects), ablated_table(ablated)])
    return plain({"curves": curves, "ranked": ranked, "side_effects": effects, "ablated": ablated})


def main() -> None:
    """Measure both tasks."""
    bridge = sc.Bridge.load(sys.argv[1] if len(sys.argv) > 1 else "small-bridged")
    found = {name: measure(bridge, sc.TASKS[name]) for name in TASKS}
    (FOLDER / "steering.json").write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
