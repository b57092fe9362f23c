"""Folding where removed nodes take other prompts' values: what is constant differs from place to place.

A place is a position of one of the examples' prompts. Once, for all places, the pass in which every node is removed is
computed: what each node takes there, what that makes of every matrix, and what attention mixes. A choice of nodes then
costs what its kept ones change in that, as in `folded`: a kept channel brings what it is beyond what it would be if
removed.

Dropped edges carry the mean of their source, wherever that is and whether it is kept or not (`twin`).

`Resampled` as the tap of the model's own forward pass is the meaning; the results agree to rounding.
"""

from typing import cast

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from sparse_circuits.circuits.ablation import Counterparts
from sparse_circuits.circuits.folded import Columns, Cuts, Folds, Layer, known
from sparse_circuits.circuits.logits import rows_by_length
from sparse_circuits.kernels import folded_table as columns
from sparse_circuits.kernels.attention import attention
from sparse_circuits.kernels.folded import Table
from sparse_circuits.model import GPT, Block
from sparse_circuits.tasks import Examples

MOST_BYTES = 5 << 29
"""Of all that is kept; examples that need more are left to the forward pass."""


def resampled_folds(
    model: GPT, held: Float[Tensor, "nodes"], others: Counterparts, examples: Examples
) -> "ResampledFolds | None":
    """What can be computed beforehand; None where the model is not known well enough, or that takes too much room."""
    if not known(model, held) or bytes_needed(model, examples) > MOST_BYTES:
        return None
    return ResampledFolds(model, held, others, examples)


def bytes_needed(model: GPT, examples: Examples) -> int:
    """Room for what is kept of all places."""
    config = model.config
    nodes = 2 * config.read_width + 3 * config.heads_width + config.mlp_width + 2 * config.d_model
    between = 4 * config.heads_width + config.mlp_width + 2 * config.d_model
    return 4 * int((examples.last + 1).sum()) * config.n_layer * (nodes + between)


class ResampledFolds(Folds):
    """The pass without any node, at every place.

    Args:
        held: the means, which dropped edges carry.
        others: what removed nodes become.
        examples: the only prompts it is for.
    """

    def __init__(self, model: GPT, held: Float[Tensor, "nodes"], others: Counterparts, examples: Examples):
        super().__init__(model, held)
        lengths = examples.last + 1
        self.starts = lengths.cumsum(0) - lengths
        self.places = int(lengths.sum())
        for rows in rows_by_length(examples.last):
            width = int(examples.last[rows].max()) + 1
            inside = torch.arange(width) <= examples.last[rows].unsqueeze(1)
            places = (self.starts[rows].unsqueeze(1) + torch.arange(width))[inside]
            values = others.at(rows, width)
            for layer in self.layers:
                cast(_There, layer).note(places, inside, values)

    def layer(self, number: int, block: Block) -> "Layer":
        return _There(self, number, block)

    def table(self) -> Table:
        return Table(self.model, self.wte, self.wpe, self.starts)


class _There(Layer):
    """One block."""

    def __init__(self, whole: Folds, number: int, block: Block):
        super().__init__(whole, number, block)
        self.there: dict[str, Tensor] = {}

    @torch.no_grad()
    def note(
        self, places: Int64[Tensor, "places"], inside: Bool[Tensor, "B T"], values: dict[str, Float[Tensor, "B T _"]]
    ) -> None:
        """Take over what removed nodes are in some prompts, and what follows from that."""
        block = self.block
        found = {site: values[f"{self.number}.{site}"] for site in (*_ATTENTION, *_MLP)}
        found["projected"] = block.attn.c_attn(found["attn.act_in"])
        q, k, v = (found[f"attn.{name}"] for name in "qkv")
        found["mixed"] = attention(q, k, v, block.attn.config.n_head, block.attn.sink_logit)
        found["attended"] = block.attn.c_proj(found["mixed"])
        found["hidden"] = block.mlp.c_fc(found["mlp.act_in"])
        found["computed"] = block.mlp.c_proj(found["mlp.post_act"])
        for name, value in found.items():
            if name not in self.there:
                self.there[name] = torch.empty(cast(ResampledFolds, self.whole).places, value.shape[2])
            self.there[name][places] = value[inside]

    def _put(self, table: Table, column: int, name: str) -> None:
        table.put(self.number, column, self.there[name])

    def _put_matrix(self, table: Table, column: int, matrix: Columns, channels: Tensor, cuts: Cuts, first: int) -> None:
        """What each of some inputs brings, and the edges that are cut (from column `first`)."""
        found = matrix.of(channels)
        position = {channel: i for i, channel in enumerate(channels.tolist())}
        for row, channel in cuts:
            if channel in position:
                found[position[channel], row] = 0.0
        table.put(self.number, column, found)
        weights = [float(matrix.of(torch.tensor([channel]))[0, row]) for row, channel in cuts]
        values = [(weight, float(matrix.held[channel])) for weight, (_, channel) in zip(weights, cuts, strict=True)]
        table.lines[self.number, first] = len(cuts)
        table.put(self.number, first + 1, torch.tensor(list(cuts), dtype=torch.int32))
        table.put(self.number, first + 2, torch.tensor(values, dtype=torch.float32))

    def _put_written(self, table: Table, first: int, site: str, written: Tensor) -> None:
        self._put(table, first + columns.HELD, site)

    def _fold_projections(self, table: Table, read: Tensor, cuts: Cuts) -> None:
        self._put(table, columns.READ_THERE, "attn.act_in")
        self._put(table, columns.BASE, "projected")
        self._put_matrix(table, columns.SPREAD, self.c_attn, read, cuts, columns.IN_CUTS)
        for name, held_at in zip("qkv", (columns.Q_HELD, columns.K_HELD, columns.V_HELD), strict=True):
            self._put(table, held_at, f"attn.{name}")

    def _fold_mixed(self, table: Table, heads: list[int], values: Tensor, cuts: Cuts, longest: int) -> None:
        d_head = self.whole.model.config.head_width
        mixed = (torch.tensor(heads, dtype=torch.int64).unsqueeze(1) * d_head + torch.arange(d_head)).flatten()
        self._put_channels(table, columns.MIXES, mixed)
        self._put(table, columns.OUT_THERE, "mixed")
        self._put(table, columns.REST, "attended")
        self._put_matrix(table, columns.VALUE_BRINGS, self.out, mixed, cuts, columns.OUT_CUTS)

    def _fold_hidden(self, table: Table, read: Tensor, cuts: Cuts) -> None:
        first = columns.MLP
        self._put(table, first + columns.READ_THERE, "mlp.act_in")
        self._put(table, first + columns.BASE, "hidden")
        self._put_matrix(table, first + columns.SPREAD, self.c_fc, read, cuts, first + columns.IN_CUTS)

    def _fold_neurons(self, table: Table, neurons: Tensor, cuts: Cuts) -> None:
        first = columns.MLP
        self._put(table, first + columns.OUT_THERE, "mlp.post_act")
        self._put(table, columns.MLP_REST, "computed")
        self._put_matrix(table, columns.NEURON_BRINGS, self.c_proj, neurons, cuts, first + columns.OUT_CUTS)


_ATTENTION = ("attn.act_in", "attn.q", "attn.k", "attn.v", "attn.resid_delta")
_MLP = ("mlp.act_in", "mlp.post_act", "mlp.resid_delta")
