"""A bridged model in the form that ships: its sparse model rounded as any, the maps to half precision, and checked."""

from pathlib import Path

import torch

from sparse_circuits import shipped
from sparse_circuits.bridges.bridge import Bridge
from sparse_circuits.card.card import ship
from sparse_circuits.checkpoint import load
from sparse_circuits.corpus.packed import PackedCorpus
from sparse_circuits.errors import InputError
from sparse_circuits.files import read_json, write_json


def ship_bridge(source: Path, corpus: PackedCorpus, out: Path) -> Bridge:
    """Write the bridge in the folder `source`, with its sparse model, to the folder `out`.

    Returns:
        the bridge as it ships.

    Raises:
        InputError: no bridge in `source`, or one to a dense model that does not ship, which nobody else would have.
    """
    bridge = Bridge.load(source)
    if bridge.dense.folder is None or shipped.name_of(bridge.dense.folder) is None:
        raise InputError(
            f"the bridge in {source} is to {bridge.dense.folder}, which does not ship; ship that one first"
        )
    ship(source, corpus, out)
    with torch.no_grad():
        for parameter in bridge.maps.parameters():
            parameter.copy_(parameter.half().float())
    ours = Bridge(bridge.dense, load(out, sparse="auto"), bridge.maps, bridge.encoder_topk, bridge.scales)
    ours.save(out)
    described = read_json(out / "train.json")
    # The sparse model it was begun from may have lain anywhere.
    start = described["bridge"]["start"]
    described["bridge"] |= {"dense": shipped.name_of(bridge.dense.folder), "start": start and Path(start).name}
    write_json(out / "train.json", described)
    return ours
