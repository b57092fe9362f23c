"""Sets of nodes: written as text, read from files, drawn at random, compared.

Text names a site and channels of it: "3.mlp.post_act:17,204", "0.attn.q:4-7", and "*.mlp.post_act:*" for all channels
of all sites that match. A JSON file holds channels by site, as a circuit folder's `circuit.json` does under "nodes".
"""

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import torch
from jaxtyping import Bool
from torch import Tensor

from sparse_circuits import shipped
from sparse_circuits.circuits.nodes import NodeSpace
from sparse_circuits.errors import InputError
from sparse_circuits.fields import nearest
from sparse_circuits.files import read_json

Mask = Bool[Tensor, "nodes"]


def read_nodes(space: NodeSpace, given: str | Sequence[str]) -> dict[str, tuple[int, ...]]:
    """The channels by site that `given` names: texts, JSON files and circuit folders, all together.

    Raises:
        InputError: what is neither, or names a site or channel the model does not have.
    """
    kept = torch.zeros(space.total, dtype=torch.bool)
    for one in [given] if isinstance(given, str) else given:
        folder = shipped.locate_circuit(one)
        path = folder / "circuit.json" if folder.is_dir() else folder
        kept |= _from_file(space, path) if path.suffix == ".json" else _from_text(space, one)
    return space.by_site(kept)


def _from_text(space: NodeSpace, text: str) -> Mask:
    pattern, colon, channels = text.rpartition(":")
    if not colon:
        raise InputError(
            f"cannot read the nodes {text!r}: write site:channels as in 3.mlp.post_act:17,204 (or 4-7, or *), or name "
            "a .json file or a circuit folder"
        )
    sites = [site for site in space.widths if fnmatchcase(site, pattern)]
    if not sites:
        raise InputError(f"no site of nodes matches {pattern!r}; {nearest(pattern, list(space.widths))}")
    kept = torch.zeros(space.total, dtype=torch.bool)
    for site in sites:
        kept |= space.flat({site: _channels(channels, space.widths[site], text)})
    return kept


def _channels(written: str, width: int, text: str) -> list[int]:
    """The channels that "17,204", "4-7" or "*" stand for."""
    found: list[int] = []
    for part in written.split(","):
        first, dash, last = part.strip().partition("-")
        if first == "*" and not dash:
            found += range(width)
        elif first.isdecimal() and (last.isdecimal() if dash else True):
            stop = int(last) if dash else int(first)
            # Not the range itself, which may be longer than memory; its end is looked at by `flat`.
            if stop >= width or int(first) > stop:
                raise InputError(f"{text!r}: channels {part.strip()} of a site that has 0..{width - 1}")
            found += range(int(first), stop + 1)
        else:
            raise InputError(f"cannot read the channels {part!r} of {text!r}: write numbers, as in 17,204 or 4-7, or *")
    return found


def _from_file(space: NodeSpace, path: Path) -> Mask:
    content = read_json(path)
    described = content.get("nodes", content) if isinstance(content, Mapping) else None
    if not isinstance(described, Mapping):
        raise InputError(f'{path} holds no nodes: expected channels by site, as in {{"3.mlp.post_act": [17, 204]}}')
    try:
        return space.flat({site: [operator.index(c) for c in channels] for site, channels in described.items()})
    except TypeError as error:
        raise InputError(f"{path}: {error}; expected a list of channels for each site") from error
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def random_like(space: NodeSpace, kept: Mask, generator: torch.Generator) -> Mask:
    """Nodes drawn at random, as many of each site as `kept` has."""
    drawn = torch.zeros_like(kept)
    for part in space.slices.values():
        width = part.stop - part.start
        chosen = torch.randperm(width, generator=generator)[: int(kept[part].sum())]
        drawn[part.start + chosen.to(kept.device)] = True
    return drawn


def jaccard(a: Mask, b: Mask) -> float:
    """Nodes in both over nodes in either; 1 for two empty sets, which are the same."""
    either = int((a | b).sum())
    return int((a & b).sum()) / either if either else 1.0


@dataclass(frozen=True)
class Overlap:
    """How many nodes two sets share."""

    first: int
    second: int
    shared: int
    expected: float
    """How many random sets would share that have as many nodes of each site."""
    jaccard: float


def overlap(space: NodeSpace, a: Mask, b: Mask) -> dict[str, Overlap]:
    """What the sets share at each site where either has nodes, and under "all" what they share altogether."""
    rows = {}
    for site, part in space.slices.items():
        if (a[part] | b[part]).any():
            sizes = int(a[part].sum()), int(b[part].sum())
            shared = int((a[part] & b[part]).sum())
            by_chance = sizes[0] * sizes[1] / (part.stop - part.start)
            rows[site] = Overlap(*sizes, shared, by_chance, jaccard(a[part], b[part]))
    expected = sum((row.expected for row in rows.values()), 0.0)
    total = Overlap(int(a.sum()), int(b.sum()), int((a & b).sum()), expected, jaccard(a, b))
    return {"all": total, **rows}
