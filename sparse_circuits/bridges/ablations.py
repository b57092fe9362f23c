"""From a circuit of the sparse model to the dense one: are the directions its nodes stand for needed there?

At each read where the circuit has nodes, the span of their directions is taken out of what the dense model reads: x
becomes x - Q Q^T (x - mean), with Q an orthonormal basis and the mean over held-out text. If the bridge is true, the
circuit's behaviour breaks in the dense model too, other tasks are spared, and random directions, as many at each read,
break nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sparse_circuits.bridges.bridge import Bridge
from sparse_circuits.bridges.curves import pair_examples
from sparse_circuits.bridges.steering import Node, add_to_stream, directions, is_read
from sparse_circuits.circuits.intervals import Measured, mean_interval
from sparse_circuits.circuits.logits import last_logits
from sparse_circuits.circuits.means import Means
from sparse_circuits.circuits.nodes import NodeSpace
from sparse_circuits.errors import InputError
from sparse_circuits.fields import require
from sparse_circuits.progress import Bar
from sparse_circuits.sites import Tap
from sparse_circuits.tasks import TASKS, Examples, Task, task_losses

Bases = dict[str, Float[Tensor, "D directions"]]


@dataclass(frozen=True)
class AblatedTask:
    """One task: the dense model's loss in nats, whole and with directions taken out."""

    task: str
    whole: Measured | None
    ablated: Measured | None
    random: list[float]
    """With as many random directions taken out of each read, one draw each."""
    skipped: str = ""
    """Why the task could not be put to the model."""


@dataclass(frozen=True)
class Ablated:
    """What taking the circuit's directions out of the dense model does to tasks, the circuit's own first."""

    task: str
    directions: dict[str, int]
    """How many directions by read; fewer than nodes where they depend on each other."""
    left_out: int
    """Nodes of the circuit without a direction: those that no sublayer reads from the stream."""
    tasks: list[AblatedTask]


def circuit_directions(bridge: Bridge, nodes: Mapping[str, Sequence[int]]) -> dict[str, Float[Tensor, "nodes D"]]:
    """The dense direction of each node that is a read of the stream, by site, in the order of the channels.

    Raises:
        InputError: no such node.
    """
    reads: dict[str, list[int]] = {}
    for site, channels in nodes.items():
        own = [channel for channel in channels if is_read((site, channel), bridge)]
        if own:
            reads[site] = own
    require(bool(reads), "none of the circuit's nodes is a channel that a sublayer reads from the stream")
    return {site: directions(bridge, site, own) for site, own in reads.items()}


def ablate_circuit(
    bridge: Bridge,
    task: Task,
    nodes: Mapping[str, Sequence[int]],
    means: Means,
    others: Iterable[Task] | None = None,
    split: str = "report",
    pairs: int = 64,
    samples: int = 4,
    seed: int = 0,
    progress: bool = False,
) -> Ablated:
    """Take the directions of a circuit's `nodes` out of the dense model.

    Args:
        task: the circuit's.
        nodes: its channels by site.
        means: of the *dense* model's nodes (`means_for`).
        others: tasks to be spared; all registered ones by default.
        samples: draws of random directions to compare with.

    Raises:
        InputError: nodes that have no direction, or no sample.
    """
    require(samples >= 1, f"{samples} draws of random directions asked for; compare with at least 1")
    bases = {site: _basis(along) for site, along in circuit_directions(bridge, nodes).items()}
    generator = torch.Generator().manual_seed(seed)
    drawn = [
        {site: _basis(torch.randn(basis.T.shape, generator=generator).to(basis)) for site, basis in bases.items()}
        for _ in range(samples)
    ]
    level = _levels(bridge, means, list(bases))
    tasks = [task, *(one for one in (TASKS.values() if others is None else others) if one.name != task.name)]
    rows = []
    with Bar("tasks", len(tasks), progress) as bar:
        for number, one in enumerate(tasks):
            try:
                examples = pair_examples(bridge, one, split, pairs)
                taps = [None, project_out(bases, level), *(project_out(each, level) for each in drawn)]
                whole, ablated, *random = (_pair_losses(bridge, examples, tap) for tap in taps)
                rows.append(
                    AblatedTask(
                        one.name, mean_interval(whole), mean_interval(ablated), [float(x.mean()) for x in random]
                    )
                )
            except InputError as error:
                if not number:
                    raise
                rows.append(AblatedTask(one.name, None, None, [], str(error)))
            bar.update(number + 1, one.name)
    count = sum(map(len, nodes.values()))
    mapped = sum(is_read((site, channel), bridge) for site, channels in nodes.items() for channel in channels)
    return Ablated(task.name, {site: basis.shape[1] for site, basis in bases.items()}, count - mapped, rows)


def project_out(bases: Bases, levels: Mapping[str, Float[Tensor, "D"]]) -> Tap:
    """The tap that holds the span of each basis at its mean."""

    def project(site: str, x: Tensor) -> Tensor:
        if site not in bases:
            return x
        basis, level = bases[site], levels[site]
        return add_to_stream(x, (level - x[..., : len(level)]) @ basis @ basis.T)

    return project


def node_list(nodes: Mapping[str, Sequence[int]]) -> list[Node]:
    """Channels by site as one list."""
    return [(site, channel) for site, channels in nodes.items() for channel in channels]


def _basis(rows: Float[Tensor, "n D"]) -> Float[Tensor, "D rank"]:
    """An orthonormal basis of what the rows span."""
    left, sizes, _ = torch.linalg.svd(rows.T, full_matrices=False)
    return left[:, sizes > 1e-5 * sizes.max()] if len(sizes) else left


def _levels(bridge: Bridge, means: Means, sites: Sequence[str]) -> dict[str, Tensor]:
    space = NodeSpace(bridge.dense.config)
    space.check("means of the dense model", means.values)
    device = next(bridge.maps.parameters()).device
    return {site: means.values[space.slices[site]][: bridge.dense.config.d_model].to(device) for site in sites}


def _pair_losses(bridge: Bridge, examples: Examples, tap: Tap | None) -> Tensor:
    return task_losses(last_logits(bridge.dense, examples, tap), examples).unflatten(0, (2, -1)).mean(0)
