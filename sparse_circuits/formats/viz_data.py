"""Released circuit files, `viz_data.pt`: everything in them, in this library's units, and back without loss.

Source: the files published with the paper and the viewer that opens them. Three things differ from what they hold:
- losses there are sums over the two sides of a pair, here they are means over sides, in nats: half as much;
- prompts there are padded with zeros, which is a real token; here `TaskSamples.lengths` says where they end;
- all ages come out alike: lists nested by rank are joined, boolean masks become channels.

A file lacks the ablation means, so it is no circuit yet: see `released_circuit`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparse_circuits.checkpoint import write_torch
from sparse_circuits.errors import InputError
from sparse_circuits.fields import shown
from sparse_circuits.formats.tensor_files import read_torch
from sparse_circuits.sites import FINAL_SITE

FRACTIONS = (0.001, 0.01, 0.1, 0.5)
"""Of each node's activations, from either end, that its samples come from."""

BIAS = "bias"
"""Stands for a source that is no channel: what the layer adds whatever it reads."""

OWN = "sparse_circuits"
"""The key under which a file that this library wrote carries what a released one lacks."""

LARGEST_CHANNEL = 1 << 32


@dataclass(frozen=True)
class Sample:
    """A piece of pretraining text on which a node is low or high."""

    tokens: Tensor
    """[T]"""
    activations: Tensor
    """Of the node, [T]."""
    position: int
    """Where it is as low or high as it was picked for."""


@dataclass(frozen=True)
class TaskSamples:
    """The prompts of a task and what the nodes are on them; row i and row i + n are the sides of a pair."""

    tokens: Tensor
    """[2n, T], zeros after the end of a prompt."""
    lengths: tuple[int, ...]
    values: dict[str, dict[int, Tensor]]
    """[2n, T] by site and channel."""

    def prompts(self) -> list[list[int]]:
        """The prompts without padding."""
        return [row[:length] for row, length in zip(self.tokens.tolist(), self.lengths, strict=True)]

    def activations(self, site: str, channel: int) -> list[Tensor]:
        """What a node is at each token of each prompt."""
        found = self.values[site][channel]
        return [row[:length] for row, length in zip(found, self.lengths, strict=True)]


@dataclass(frozen=True)
class Block:
    """Numbers from one site's channels to another's."""

    matrix: Tensor
    """[sources, targets]"""
    sources: tuple[int | str, ...]
    """Channels; the last may be `BIAS`."""
    targets: tuple[int, ...]
    between: tuple[str, str]


@dataclass(frozen=True)
class Importances:
    """What was measured of a circuit. Losses in nats, means over both sides of all pairs."""

    model_loss: float
    circuit_loss: float
    node_losses: dict[str, tuple[float, ...]]
    """The circuit's loss without one more node, in the order of `VizData.nodes`."""
    layer_losses: dict[str, float]
    """Without all nodes of a sublayer, such as "3.attn"."""
    site_losses: dict[str, float]
    """Without all nodes of a site."""
    edge_effects: tuple[Block, ...]
    """By how much the loss rises without an edge."""
    connections: tuple[Block, ...]
    """The weights."""
    model_config: dict[str, Any]
    """The released config of the model."""
    task: TaskSamples | None = None
    """In the model."""
    task_circuit: TaskSamples | None = None
    """In the circuit."""


@dataclass(frozen=True)
class VizData:
    """A released circuit file."""

    nodes: dict[str, tuple[int, ...]]
    """Kept channels by site; the final residual stream counts as one there (`FINAL_SITE`)."""
    total_nodes: int | None = None
    history: tuple[tuple[float, float], ...] = ()
    """(step, loss) of the pruning; losses in nats, means over both sides."""
    settings: dict[str, Any] = field(default_factory=dict)
    """What it was pruned with."""
    samples: dict[str, dict[int, dict[float, tuple[list[Sample], list[Sample]]]]] = field(default_factory=dict)
    """By site, channel and fraction: low and high ones."""
    importances: Importances | None = None
    other: dict[str, Any] = field(default_factory=dict)
    """What else is in the file."""


def read(path: Path) -> VizData:
    """The circuit file at `path`.

    Raises:
        InputError: missing, damaged, a pickle of before `.pt`, or no circuit file.
    """
    if path.suffix == ".pkl":
        raise InputError(f"{path} is a pickle, which can run anything when read; take the viz_data.pt beside it")
    content = read_torch(path)
    if not isinstance(content, dict) or not isinstance(content.get("circuit_data"), dict):
        raise InputError(f"{path} is no circuit file: it has no circuit_data")
    try:
        return _parse(content)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except (
        KeyError,
        TypeError,
        ValueError,
        IndexError,
        AttributeError,
        RuntimeError,
        OverflowError,
        RecursionError,
    ) as error:
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"{path} is no circuit file as released: {type(error).__name__} {reason}") from None


def write(data: VizData, path: Path) -> None:
    """Write `data` as a released circuit file, in the units and with the padding of those."""
    content: dict[str, Any] = dict(data.other)
    content["circuit_data"] = {site: torch.tensor(kept, dtype=torch.int64) for site, kept in data.nodes.items()}
    if data.total_nodes is not None:
        content["num_total_nodes"] = data.total_nodes
    content["all_loss"] = [(step, 2 * loss) for step, loss in data.history]
    content["prune_config"] = data.settings
    content["samples"] = {
        site: {
            channel: {
                fraction: tuple([(s.tokens, s.activations, s.position) for s in side] for side in sides)
                for fraction, sides in fractions.items()
            }
            for channel, fractions in channels.items()
        }
        for site, channels in data.samples.items()
    }
    if data.importances is not None:
        content["importances"] = _released(data.importances)
    write_torch(path, content)


def _released(found: Importances) -> dict[str, Any]:
    def blocks(given: Sequence[Block], scale: float) -> list[list[Any]]:
        return [[scale * b.matrix, list(b.sources), list(b.targets), b.between] for b in given]

    content: dict[str, Any] = {
        "beeg_model_config": found.model_config,
        "loss": 2 * found.model_loss,
        "interv_loss": 2 * found.circuit_loss,
        "ch_interv_losses": {site: [2 * each for each in losses] for site, losses in found.node_losses.items()},
        "layer_interv_losses": {name: 2 * loss for name, loss in found.layer_losses.items()},
        "loc_interv_losses": {site: 2 * loss for site, loss in found.site_losses.items()},
        "pair_data": blocks(found.edge_effects, 2.0),
        "pair_data_connections": blocks(found.connections, 1.0),
    }
    for key, samples in (("task_samples", found.task), ("task_samples_circuit", found.task_circuit)):
        if samples is not None:
            content[key] = (samples.tokens, samples.values)
    return content


_KEYS = ("circuit_data", "num_total_nodes", "all_loss", "prune_config", "samples", "importances")


def _parse(content: dict[Any, Any]) -> VizData:
    circuit = dict(content["circuit_data"])
    # Some files keep the settings among the sites.
    settings = content.get("prune_config") or circuit.pop("prune_config", None) or {}
    circuit.pop("prune_config", None)
    history = content.get("all_loss") or []
    own = content.get(OWN)
    lengths = own.get("lengths") if isinstance(own, dict) else None
    return VizData(
        nodes={_site(site): _channels(kept) for site, kept in circuit.items()},
        total_nodes=None if content.get("num_total_nodes") is None else _whole(content["num_total_nodes"]),
        history=tuple((float(step), float(loss) / 2) for step, loss in history),
        settings=_plain(settings),
        samples=_samples(content.get("samples") or {}),
        importances=None if content.get("importances") is None else _importances(content["importances"], lengths),
        other={str(key): value for key, value in content.items() if key not in _KEYS},
    )


def _importances(given: Any, lengths: Any) -> Importances:
    return Importances(
        model_loss=float(given["loss"]) / 2,
        circuit_loss=float(given["interv_loss"]) / 2,
        node_losses={
            _site(site): tuple(float(each) / 2 for each in losses)
            for site, losses in (given.get("ch_interv_losses") or {}).items()
        },
        layer_losses=_halves(given.get("layer_interv_losses")),
        site_losses=_halves(given.get("loc_interv_losses")),
        edge_effects=_blocks(given.get("pair_data"), 0.5),
        connections=_blocks(given.get("pair_data_connections"), 1.0),
        model_config=_plain(given.get("beeg_model_config") or {}),
        task=_task(given.get("task_samples"), lengths),
        task_circuit=_task(given.get("task_samples_circuit"), lengths),
    )


def _halves(given: Any) -> dict[str, float]:
    return {str(name): float(loss) / 2 for name, loss in (given or {}).items()}


def _blocks(given: Any, scale: float) -> tuple[Block, ...]:
    """The blocks of a list, or of one such list from every rank."""
    listed = list(given or [])
    if listed and not isinstance(listed[0][0], Tensor):
        listed = [block for rank in listed for block in rank]
    found = []
    for matrix, sources, targets, between in listed:
        if not isinstance(matrix, Tensor) or not matrix.is_floating_point():
            raise InputError("the matrix of a block of edges is no tensor of numbers")
        source, target = between
        if matrix.numel() and matrix.ndim == 2 and matrix.shape != (len(sources), len(targets)):
            raise InputError(
                f"the matrix of a block of edges has shape {tuple(matrix.shape)}, and the block {len(sources)} sources "
                f"and {len(targets)} targets"
            )
        block = Block(
            scale * matrix.reshape(len(sources), len(targets)),
            tuple(BIAS if each == BIAS else _whole(each) for each in sources),
            tuple(map(_whole, targets)),
            (_site(source), _site(target)),
        )
        if BIAS in block.sources[:-1]:
            raise InputError("the bias of a block of edges is not its last source")
        found.append(block)
    return tuple(found)


def _samples(given: Any) -> dict[str, dict[int, dict[float, tuple[list[Sample], list[Sample]]]]]:
    def sample(each: Any) -> Sample:
        tokens, activations, position = each
        if tokens.ndim != 1 or tokens.shape != activations.shape or not 0 <= int(position) < len(tokens):
            raise InputError("a sample's tokens, activations and position do not fit each other")
        return Sample(tokens, activations, int(position))

    return {
        _site(site): {
            _whole(channel): {
                float(fraction): ([sample(each) for each in low], [sample(each) for each in high])
                for fraction, (low, high) in fractions.items()
            }
            for channel, fractions in channels.items()
        }
        for site, channels in given.items()
    }


def _task(given: Any, lengths: Any) -> TaskSamples | None:
    """Prompts and values; their `lengths` where the file says them: token 0 may end a prompt."""
    if given is None:
        return None
    tokens, values = given
    tokens = torch.as_tensor(tokens)
    if tokens.ndim != 2 or len(tokens) % 2 or tokens.is_floating_point():
        raise InputError(f"task samples of shape {tuple(tokens.shape)}; expected whole numbers [2n, T]")
    found: dict[str, dict[int, Tensor]] = {}
    for site, channels in values.items():
        found[_site(site)] = {_whole(channel): value for channel, value in channels.items()}
        for channel, value in found[site].items():
            if value.shape != tokens.shape:
                raise InputError(f"task samples of {site}:{channel} have shape {tuple(value.shape)}, not the prompts'")
    ends = lengths_of(tokens)
    if lengths is None:
        return TaskSamples(tokens, ends, found)
    said = tuple(map(_whole, lengths))
    if len(said) != len(ends) or any(not end <= told <= tokens.shape[1] for end, told in zip(ends, said, strict=True)):
        raise InputError("the lengths of prompts are not those of the task samples")
    return TaskSamples(tokens, said, found)


def lengths_of(tokens: Tensor) -> tuple[int, ...]:
    """How long each row is without the zeros at its end."""
    ends = torch.arange(1, tokens.shape[1] + 1)
    return tuple(int(length) for length in ((tokens != 0) * ends).amax(1).tolist()) if tokens.numel() else ()


def _channels(kept: Any) -> tuple[int, ...]:
    """Kept channels, from a list of them or a mask."""
    kept = torch.as_tensor(kept)
    if kept.dtype == torch.bool:
        kept = kept.nonzero()
    elif kept.is_floating_point() or kept.is_complex():
        if kept.numel():
            raise InputError("kept channels are no whole numbers")
        kept = kept.long()
    channels = tuple(map(int, kept.flatten().tolist()))
    if any(not 0 <= channel < LARGEST_CHANNEL for channel in channels) or len(set(channels)) != len(channels):
        raise InputError("kept channels are negative, too large or come twice")
    return channels


def _site(name: Any) -> str:
    if not isinstance(name, str) or not (name == FINAL_SITE or name.split(".")[0].isdigit()) or len(name) > 60:
        raise InputError(f"{shown(name)} is no site")
    return name


def _whole(value: Any) -> int:
    number = value.item() if isinstance(value, Tensor) else value
    if isinstance(number, bool) or int(number) != number:
        raise InputError(f"{shown(value)} is no whole number")
    return int(number)


def _plain(value: Any) -> Any:
    """Plain values only, as they go to JSON; what else there is as text."""
    kinds: Mapping[type, Callable[[Any], Any]] = {
        dict: lambda v: {str(key): _plain(each) for key, each in v.items()},
        list: lambda v: [_plain(each) for each in v],
        tuple: lambda v: [_plain(each) for each in v],
    }
    for kind, convert in kinds.items():
        if isinstance(value, kind):
            return convert(value)
    if isinstance(value, Tensor):
        return value.tolist()
    return value if isinstance(value, str | int | float | bool | None) else str(value)
