"""Puts the circuits of a sweep beside the models that ship, each with its quick report card and a table of all.

    python docs/figures/circuits.py runs/pair [--target 0.15]

Of every model of the sweep that ships, the learned circuit of each task is written to
sparse_circuits/models/NAME/circuits/TASK/: the one with the fewest edges of those for the target and for smaller ones,
which meet it, too; where the model itself does not reach it, that for the nearest larger one. The table of all tasks
goes to README.md there. What was there before goes.
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import torch

from sparse_circuits import checkpoint, shipped
from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.circuits.means import means_for
from sparse_circuits.circuits.prune import measure
from sparse_circuits.circuits.report.build import report
from sparse_circuits.files import atomic_write
from sparse_circuits.model import GPT
from sparse_circuits.tasks import TASKS

LARGEST = 1000
"""Nodes; what has more is no circuit that anybody would read."""


def main() -> None:
    """Ship the circuits of every shipped model in the sweep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep", type=Path, help="the folder of the sweep")
    parser.add_argument("--target", type=float, default=0.15, help="of its target losses, in nats")
    arguments = parser.parse_args()
    for folder in sorted(path for path in arguments.sweep.iterdir() if path.is_dir()):
        name, _, digest = folder.name.rpartition("-")
        if name in shipped.names():
            model = checkpoint.load(name, sparse="auto")
            if checkpoint.model_hash(model).startswith(digest):
                ship(model, name, folder, arguments.target)


def ship(model: GPT, name: str, sweep: Path, target: float) -> None:
    """The circuits of one model."""
    out = shipped.FOLDER / name / "circuits"
    means = means_for(model, None, 1)
    shutil.rmtree(out, ignore_errors=True)
    lines = []
    for task in TASKS:
        files = (sweep / task).glob("learned-*-seed0/result.json")
        read = [(path.parent, json.loads(path.read_text())) for path in files]
        results = {result["settings"]["config"]["target_loss"]: (folder, result) for folder, result in read}
        found = {each: folder for each, (folder, result) in results.items() if result["status"] == "found"}
        edges = {each: results[each][1]["sizes"]["edges"] for each in found}
        meet = [each for each in found if each <= target]
        reached = sorted(meet, key=lambda each: (edges[each], -each)) or sorted(found)
        if not reached:
            losses = [result["model_loss"] for _, result in results.values() if "model_loss" in result]
            skipped = [result["reason"] for _, result in results.values() if "reason" in result]
            why = f"not reached: the model's own loss there is {losses[0]:.3f}" if losses else "not looked for"
            why = skipped[0] if skipped else why
            lines.append(f"| {task} | | | | | | {why} |")
            continue
        circuit = Circuit.load(found[reached[0]], model)
        if circuit.size > LARGEST:
            why = f"no small circuit found: {circuit.size:,} nodes, {len(circuit.edges):,} edges"
            lines.append(f"| {task} | | | | | | {why} |")
            continue
        measure(circuit)  # it may have been found before measures changed
        card = report(circuit, progress=True)
        circuit.save(out / task, with_means=not torch.equal(circuit.means.values, means.values))
        card.save(out / task)
        (out / task / "report.html").unlink()  # `report` makes it again
        lines.append(row(circuit, card.to_json()))
        print(f"{name} {lines[-1]}", flush=True)
    atomic_write(out / "README.md", HEAD.format(name=name, target=target) + "\n".join(lines) + "\n")


HEAD = """# Circuits of {name}

The smallest circuits that `sparse-circuits prune` finds for a target loss on the calibration split, as they come, each
with its report card: `sparse-circuits view {name}/TASK` shows one, `sparse-circuits report {name}/TASK --full` judges
it thoroughly. The target is {target:g} nats, a smaller one where that led to fewer edges, and a larger one where the
model itself does not reach it. Losses are on the report split, which nothing was chosen on.

| task | target | nodes | edges | loss | out of distribution | verdict of the quick card |
|---|---:|---:|---:|---:|---:|---|
"""


def row(circuit: Circuit, card: dict[str, Any]) -> str:
    """A line of the table."""
    losses = circuit.found["losses"]
    others = f"{losses['report']['circuit']:.3f} | {losses['ood']['circuit']:.3f}" if "ood" in losses else "|"
    target = f"{circuit.config.target_loss:g}"
    return f"| {circuit.task.name} | {target} | {circuit.size} | {len(circuit.edges)} | {others} | {card['verdict']} |"


if __name__ == "__main__":
    main()
