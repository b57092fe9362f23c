"""Somebody else's circuit: a JSON file of channels by site, made executable with the means of its model.

Either the channels themselves, {"0.attn.q": [3, 17], ...}, or an object that holds them under `nodes` (as circuit.json
does) or `circuit_data` (as the released toolkit calls them). Sites are those of `sites.NODE_SITES`.
"""

from pathlib import Path
from typing import Any

from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.circuits.config import PruneConfig
from sparse_circuits.circuits.means import means_for
from sparse_circuits.errors import InputError
from sparse_circuits.files import read_json
from sparse_circuits.model import GPT
from sparse_circuits.tasks import Task

KEYS = ("nodes", "circuit_data")


def read_nodes(path: str | Path) -> dict[str, tuple[int, ...]]:
    """The channels by site in the file at `path`.

    Raises:
        InputError: the file is missing, is no JSON, or holds something else; or no node at all.
    """
    values = read_json(path)
    if isinstance(values, dict):
        values = next((values[key] for key in KEYS if key in values), values)
    if not isinstance(values, dict):
        raise InputError(f'{path}: expected an object of channels by site, {{"0.attn.q": [3, 17], ...}}')
    nodes = {site: _channels(path, site, channels) for site, channels in values.items()}
    if not any(nodes.values()):
        raise InputError(f"{path} holds no node; give at least one channel of one site")
    return nodes


def _channels(path: str | Path, site: str, channels: Any) -> tuple[int, ...]:
    whole = isinstance(channels, list) and all(isinstance(c, int) and not isinstance(c, bool) for c in channels)
    if not whole:
        raise InputError(f"{path}: {site} is {str(channels)[:40]}; expected a list of whole numbers, its channels")
    return tuple(channels)


def circuit_of(
    path: str | Path, model: GPT, task: Task, config: PruneConfig, text: Path | None = None, progress: bool = False
) -> Circuit:
    """The circuit of the nodes in the file at `path`.

    Args:
        config: how the nodes are judged (target, ablation, pairs), and with what settings controls learn masks.
        text: a packed corpus for the ablation means; by default the one the model was trained on.

    Raises:
        InputError: as `read_nodes`; a site or channel the model does not have; no text for the means.
    """
    nodes = read_nodes(path)
    means = means_for(model, text, config.mean_tokens, progress)
    try:
        return Circuit(model, task, nodes, means, config)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
