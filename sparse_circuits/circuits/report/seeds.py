"""Point 5: does another seed find the same circuit? Sizes, common nodes, and the same answers out of distribution."""

import itertools
from dataclasses import replace

import torch
from torch import Tensor

from sparse_circuits.circuits.calibration import odds_under
from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.circuits.node_sets import jaccard
from sparse_circuits.circuits.prune import prune
from sparse_circuits.circuits.report.rows import Row
from sparse_circuits.circuits.report.statistics import by_pair
from sparse_circuits.circuits.report.subject import Subject
from sparse_circuits.circuits.report.thresholds import OVERLAP, SAME_ANSWER, SIZE_SPREAD
from sparse_circuits.errors import InputError
from sparse_circuits.tasks import Examples

TITLES = (
    ("size_spread", "size by seed", "edges, largest over smallest"),
    ("overlap", "node overlap of seeds", "Jaccard"),
    ("seed_answers", "seeds agree out of distribution", "share"),
)
RANGE = "range over seeds"


def rows(subject: Subject, full: bool, progress: bool = False) -> list[Row]:
    """Three rows; measured only where `full`."""
    if not full:
        return _not_measured("Prunes anew with other seeds: ask for it with --full.")
    try:
        circuits = [*([subject.circuit] if subject.circuit.scores is not None else []), *_others(subject, progress)]
    except InputError as error:
        return _not_measured(f"Other seeds cannot be tried: {error}.")
    return [_sizes(circuits), _overlap(circuits), _answers(subject, circuits)]


def _not_measured(why: str) -> list[Row]:
    return [Row(5, key, name, why, "not measured", unit=unit, spans=RANGE) for key, name, unit in TITLES]


def _others(subject: Subject, progress: bool) -> list[Circuit]:
    """Circuits of other seeds, pruned with the circuit's own settings."""
    own = subject.circuit.scores is not None
    first = subject.config.loop.seed + (subject.config.runs if own else 0)
    seeds = range(first, first + subject.budget.seeds - own)
    configs = [replace(subject.config, runs=1, loop=replace(subject.config.loop, seed=seed)) for seed in seeds]
    model, task, means = subject.circuit.model, subject.task, subject.circuit.means
    return [prune(model, task, config=config, means=means, progress=progress) for config in configs]


def _sizes(circuits: list[Circuit]) -> Row:
    edges = [max(1, len(circuit.edges)) for circuit in circuits]
    value = max(edges) / min(edges)
    nodes = ", ".join(f"{circuit.size} and {len(circuit.edges)}" for circuit in circuits)
    key, name, unit = TITLES[0]
    sentence = (
        f"{len(circuits)} seeds find circuits of {nodes} nodes and edges; the largest has {value:.2f} times the edges."
    )
    return Row(
        5, key, name, sentence, SIZE_SPREAD.judge(value), value, (value, value), unit, RANGE,
        data={"edges": edges, "nodes": [circuit.size for circuit in circuits]},
    )  # fmt: skip


def _overlap(circuits: list[Circuit]) -> Row:
    pairs = [jaccard(a.kept, b.kept) for a, b in itertools.combinations(circuits, 2)]
    value = sum(pairs) / len(pairs)
    common = torch.stack([circuit.kept for circuit in circuits])
    key, name, unit = TITLES[1]
    sentence = (
        f"Two seeds' circuits have {value:.0%} of their nodes in common (Jaccard); {int(common.all(0).sum())} nodes "
        f"are in all {len(circuits)}, {int(common.any(0).sum())} in any."
    )
    ends = (min(pairs), max(pairs))
    return Row(5, key, name, sentence, OVERLAP.judge(value), value, ends, unit, RANGE, data={"pairs": pairs})


def _odds(subject: Subject, circuit: Circuit, examples: Examples) -> Tensor:
    own = subject.calibration if circuit is subject.circuit else circuit.calibration
    logits = circuit.evaluator(examples).logits(circuit.kept)
    return odds_under(own if subject.config.calibrated else None, logits, examples)


def _answers(subject: Subject, circuits: list[Circuit]) -> Row:
    split = "ood" if "ood" in subject.task.splits else "report"
    examples = subject.examples(split)
    right = torch.stack([_odds(subject, each, examples) > 0 for each in circuits])
    same: list[Tensor] = [by_pair((a == b).double()) for a, b in itertools.combinations(right, 2)]
    pairs = torch.stack(same).mean(0)
    value, interval = float(pairs.mean()), subject.interval(pairs, split)
    key, name, unit = TITLES[2]
    where = "out of distribution" if split == "ood" else "on unseen pairs"
    return Row(
        5,
        key,
        name if split == "ood" else "seeds agree on unseen pairs",
        f"Two seeds' circuits give the same answer on {value:.1%} of the prompts {where}; they are right on "
        f"{', '.join(f'{float(each.double().mean()):.0%}' for each in right)} of them.",
        SAME_ANSWER.judge(value, interval),
        value,
        interval,
        unit,
    )
