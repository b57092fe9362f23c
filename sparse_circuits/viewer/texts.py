"""What nodes fire on: the full model over pretraining text, and places from the highest and lowest part of it.

A model that ships does not bring its corpus. What it was trained on can be made again: generated programs (of a seed no
training uses) and the standard library of the running Python.
"""

import itertools
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.circuits.means import training_corpus
from sparse_circuits.corpus.idioms import program
from sparse_circuits.corpus.packed import PackedCorpus
from sparse_circuits.errors import InputError
from sparse_circuits.model import GPT
from sparse_circuits.progress import Bar
from sparse_circuits.sites import Record
from sparse_circuits.viewer.numbers import Number, number, numbers

PARTS = (0.001, 0.01, 0.1, 0.5)
"""Of all positions, at either end."""
PLACES = 4
"""Shown of each part."""
BEFORE, AFTER = 18, 6
"""Tokens shown around each."""
BINS = 40
SEED = 20251113
ROWS_PER_BATCH = 16
MOST_NUMBERS = 48_000_000
"""Values watched at once, so that a circuit of thousands of nodes is watched on less text instead of filling memory."""
MOST_SAMPLED = 400
"""Nodes of which places are kept: those that cost most to remove."""


@dataclass(frozen=True)
class Text:
    """Windows of tokens and where they are from, in words."""

    windows: Int64[Tensor, "n T"]
    source: str


def text_for(model: GPT, corpus: PackedCorpus | Path | None, tokens: int) -> Text:
    """`tokens` held-out tokens for `model`, in windows of its block size.

    Args:
        corpus: a packed corpus; by default the one it was trained on, and where that is not here generated programs
            and this Python's standard library.
    """
    size = model.config.block_size
    if corpus is None:
        try:
            corpus = training_corpus(model)
        except InputError:
            return _remade(model, tokens)
    packed = PackedCorpus.load(corpus.folder if isinstance(corpus, PackedCorpus) else corpus, model.tokenizer)
    windows = torch.from_numpy(packed.validation_windows(size - 1, tokens))
    return Text(windows, f"held-out text of {packed.folder.name}")


def _remade(model: GPT, tokens: int) -> Text:
    tokenizer, size = model.tokenizer, model.config.block_size
    if tokenizer is None:
        raise InputError("the model has no tokenizer, so it cannot be watched on text; set model.tokenizer")
    ids: list[int] = []
    wanted = max(1, tokens // size) * size
    for document in _documents():
        ids += [*tokenizer.encode(document), tokenizer.end_of_text]
        if len(ids) >= wanted:
            break
    return Text(torch.tensor(ids[:wanted]).view(-1, size), "generated programs and the Python standard library")


def _documents() -> Iterator[str]:
    """A generated program and a piece of a file of the standard library in turn, without end."""
    library = Path(sysconfig.get_paths()["stdlib"])
    files = sorted(path for path in library.glob("*.py") if path.stat().st_size < 100_000)
    pieces = (file.read_text(encoding="utf-8", errors="replace")[2000:4000] for file in files)
    for index, piece in zip(itertools.count(), itertools.chain(pieces, itertools.repeat(None)), strict=False):
        yield program(SEED, index, "full")
        if piece:
            yield piece


def watch(circuit: Circuit, text: Text, costs: list[Number | None], progress: bool = False) -> tuple[list[Any], Any]:
    """What each kept node is over `text` (a `seen` of the schema, or None), and the windows that these show.

    Args:
        costs: of removing each node; None: not measured.
    """
    windows = text.windows[: max(1, MOST_NUMBERS // max(1, circuit.size * text.windows.shape[1]))]
    values = _values(circuit, windows, progress)
    order = sorted(range(circuit.size), key=lambda node: -(costs[node] or 0))
    sampled = set(order[:MOST_SAMPLED])
    used: dict[int, int] = {}
    generator = torch.Generator().manual_seed(SEED)
    seen = [
        _seen(values[node], windows.shape[1], used, generator if node in sampled else None)
        for node in range(circuit.size)
    ]
    return seen, [windows[window].tolist() for window in used]


@torch.no_grad()
def _values(circuit: Circuit, windows: Tensor, progress: bool) -> Float[Tensor, "nodes positions"]:
    """Every kept node of the full model at every position, windows one after another."""
    channels = {site: list(each) for site, each in circuit.nodes.items()}
    device = next(circuit.model.parameters()).device
    parts = []
    batches = windows.split(ROWS_PER_BATCH)
    with Bar("watching nodes", len(batches), progress) as bar:
        for done, batch in enumerate(batches, 1):
            recorder = Record(list(channels))
            circuit.full(batch.to(device), tap=recorder)
            kept = [recorder.sites[site].flatten(0, 1)[:, each].T.float().cpu() for site, each in channels.items()]
            parts.append(torch.cat(kept) if kept else torch.empty(0, batch.numel()))
            bar.update(done)
    return torch.cat(parts, dim=1)


def _seen(values: Tensor, width: int, used: dict[int, int], generator: torch.Generator | None) -> dict[str, Any]:
    nonzero = values[values != 0]
    low, high = (float(nonzero.min()), float(nonzero.max())) if len(nonzero) else (0.0, 0.0)
    counts = torch.histc(nonzero.double(), BINS, low, high) if high > low else torch.tensor([float(len(nonzero))])
    return {
        "positions": len(values),
        "zeros": number(1 - len(nonzero) / len(values)),
        "low": number(low),
        "high": number(high),
        "counts": [int(count) for count in counts],
        "samples": [] if generator is None else _samples(values, width, used, generator),
    }


def _samples(values: Tensor, width: int, used: dict[int, int], generator: torch.Generator) -> list[dict[str, Any]]:
    """Places drawn from each part, the furthest out first; no two of a part from one window while there are others."""
    order = values.sort(descending=True, stable=True).indices
    found = []
    for end, ranks in (("top", order), ("bottom", order.flip(0))):
        for part in PARTS:
            count = max(1, int(part * len(values)))
            drawn = ranks[torch.randperm(count, generator=generator)[: 4 * PLACES]].tolist()
            first = {place // width: place for place in reversed(drawn)}
            apart = [place for place in drawn if first[place // width] == place]
            chosen = (apart + [place for place in drawn if place not in apart])[:PLACES]
            chosen.sort(key=lambda place: float(values[place]), reverse=end == "top")
            places = [_place(values, place, width, used) for place in chosen]
            found.append({"part": part, "end": end, "bound": number(values[ranks[count - 1]]), "places": places})
    return found


def _place(values: Tensor, place: int, width: int, used: dict[int, int]) -> list[Any]:
    window, at = divmod(place, width)
    start, stop = max(0, at - BEFORE), min(width, at + AFTER + 1)
    shown = numbers(values[window * width + start : window * width + stop])
    return [used.setdefault(window, len(used)), start, at, shown]
