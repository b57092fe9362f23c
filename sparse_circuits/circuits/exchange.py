"""Activation patching between the two sides of pairs: how much of what decides do a set of nodes carry?

Side A's prompt is run with the nodes' values from side B's run, and the other way around; the log-odds of the prompt's
own answer then move from what they are to, at most, what the other side's run makes of them. Prompts differ in length:
they are aligned at the last token, and a token without a counterpart gets the other prompt's first.

For a pair whose sides answer with log-odds d_A and d_B of being right, patching that brings A's log-odds down to p
moved the fraction (d_A - p) / (d_A + d_B): 0 where nothing happened, 1 where A's prompt is now answered as B's is.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sparse_circuits.circuits.ablation import Replace
from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.circuits.intervals import Measured, mean_interval, ratio_interval
from sparse_circuits.circuits.logits import RowTap, last_logits
from sparse_circuits.circuits.node_sets import Mask, random_like
from sparse_circuits.circuits.nodes import NodeSpace
from sparse_circuits.errors import InputError
from sparse_circuits.model import GPT
from sparse_circuits.progress import Bar
from sparse_circuits.sites import Record, Tap, compose
from sparse_circuits.tasks import Examples, log_odds

Within = Literal["model", "circuit"]


@dataclass(frozen=True)
class Moved:
    """What patching did to the log-odds of the right answers of one side's prompts, in nats, means over pairs."""

    before: Measured
    after: Measured
    fraction: Measured
    """Of the way to the other side's answer; NaN where the model does not tell the sides apart."""
    flipped: float
    """The part of the answers that were right and are not any more."""


@dataclass(frozen=True)
class Exchange:
    """Patching a set of nodes from side B's run into side A's prompt (`a`), and back (`b`)."""

    a: Moved
    b: Moved
    both: Moved
    rest: Moved
    """Both sides, with all nodes but the set patched, and those of the set kept at the prompt's own values: what goes
    around the set."""
    random: list[float]
    """The fraction moved, both sides together, by random sets of as many nodes of each site."""


def exchange(
    circuit: Circuit,
    split: str = "report",
    within: Within = "model",
    samples: int = 8,
    seed: int = 0,
    progress: bool = False,
) -> Exchange:
    """Patch the circuit's nodes between the sides of each pair.

    Args:
        within: in the whole model, or in the circuit, with all other nodes removed (there is no rest to patch then,
            and nothing for random sets to be drawn from but removed nodes: both move nothing).
        samples: random sets to compare with.

    Raises:
        InputError: a negative number of samples.
    """
    if samples < 0:
        raise InputError(f"{samples} random sets asked for; it must not be negative")
    examples = circuit.examples(split)
    base = circuit.tap() if within == "circuit" else None
    model = circuit.runner if within == "circuit" else circuit.full
    before = log_odds(last_logits(model, examples, base), examples)

    nothing = torch.zeros_like(circuit.kept)

    def after(nodes: Mask, own: Mask = nothing) -> Float[Tensor, "rows"]:
        return log_odds(last_logits(model, examples, OtherSide(model, examples, nodes, own, base)), examples)

    patched, rest = after(circuit.kept), after(~circuit.kept, circuit.kept)
    generator = torch.Generator().manual_seed(seed)
    random = []
    with Bar("exchange", samples, progress) as bar:
        for number in range(samples):
            found = after(random_like(circuit.space, circuit.kept, generator))
            random.append(moved(before, found, slice(None)).fraction.value)
            bar.update(number + 1)
    pairs = len(examples)
    a, b, both = slice(0, pairs), slice(pairs, None), slice(None)
    return Exchange(
        moved(before, patched, a),
        moved(before, patched, b),
        moved(before, patched, both),
        moved(before, rest, both),
        random,
    )


class OtherSide(RowTap):
    """For `last_logits`: each row's chosen nodes take the values they have in the run of its pair's other side."""

    def __init__(self, model: GPT, examples: Examples, nodes: Mask, own: Mask, base: Tap | None = None):
        """Nodes that are `own` keep the values of the row's own run, whatever happens before them; `base` acts first,
        in the runs that values are taken from as in the one they are put into."""
        self._model, self._examples, self._base = model, examples, base
        self._space = NodeSpace(model.config)
        self._nodes, self._own = nodes.to(examples.last.device), own.to(examples.last.device)

    @torch.no_grad()
    def at(self, rows: Int64[Tensor, "some"], width: int) -> Tap:
        pairs = len(self._examples)
        other = self._values(self._nodes, (rows + pairs) % (2 * pairs), rows, width)
        own = self._values(self._own, rows, rows, width)
        space = self._space
        tap = compose(self._base, Replace(space, ~self._nodes, other), Replace(space, ~self._own, own))
        assert tap is not None
        return tap

    def _values(self, nodes: Mask, source: Tensor, rows: Tensor, width: int) -> dict[str, Tensor]:
        """What `nodes` are in the runs of the rows `source`, their last token where that of `rows` is."""
        examples = self._examples
        recorder = Record(list(self._space.by_site(nodes)))
        last = examples.last[source]
        if nodes.any():
            tokens = examples.tokens[source, : int(last.max()) + 1]
            self._model(tokens, tap=compose(self._base, recorder), at=last)
        places = torch.arange(width, device=last.device) + (last - examples.last[rows]).unsqueeze(1)
        # After the last token nothing is asked; there any value serves.
        places = torch.minimum(places.clamp(min=0), last.unsqueeze(1)).unsqueeze(2)
        return {site: x.gather(1, places.expand(-1, -1, x.shape[2])) for site, x in recorder.sites.items()}


def moved(before: Float[Tensor, "rows"], after: Float[Tensor, "rows"], side: slice) -> Moved:
    """What happened to the log-odds of the rows of `side`; rows as in `Examples`, A sides before B sides."""
    pairs = len(before) // 2
    way = before + before.roll(pairs)
    step = before - after

    def by_pair(values: Tensor) -> Tensor:
        """One number a pair: both sides are as sure as their pairs allow, not twice as sure."""
        chosen = values[side]
        return chosen.unflatten(0, (-1, pairs)).mean(0)

    right = before[side] > 0
    flipped = float((right & (after[side] <= 0)).sum() / right.sum()) if right.any() else torch.nan
    return Moved(
        mean_interval(by_pair(before)),
        mean_interval(by_pair(after)),
        ratio_interval(by_pair(step), by_pair(way)),
        flipped,
    )
