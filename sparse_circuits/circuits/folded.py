"""A circuit evaluated at the price of its size: what its removed nodes bring is folded into constants.

With all but a few nodes held, most of a forward pass computes what does not depend on the prompt. So

1. `Folds`, once for a model and the values nodes are held at: for every matrix what all its inputs bring when held, and
   for attention, head by head, the constant scores and so the weight that is left beside the sink.
2. `Folds.fold`, for one choice of nodes (and dropped edges): take the kept ones out of those sums, and look up their
   columns.
3. `kernels.folded`: what is left, position by position.

The forward pass under `nodes.keep_only` on the model (`twin.without` its dropped edges) is the meaning; the results
agree to rounding. Models it does not know (on a GPU, in other dtypes, with hooks or modules of one's own) are left to
that.
"""

import weakref
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import cast

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from sparse_circuits import kernels
from sparse_circuits.activations import normed
from sparse_circuits.circuits.nodes import NodeSpace
from sparse_circuits.circuits.twin import Link, place
from sparse_circuits.kernels import folded_table as columns
from sparse_circuits.kernels.decode import is_known, weights
from sparse_circuits.kernels.folded import Streams, Table
from sparse_circuits.linear import Linear
from sparse_circuits.model import GPT, Attention, Block
from sparse_circuits.tasks import Examples

Cuts = Sequence[tuple[int, int]]
"""Edges that are cut in one matrix, as (output, input)."""
PART = 1 / 12
"""Of the nodes; with more kept, the ordinary forward pass is as fast."""
MOST_BYTES = 256 << 20
"""Of streams that are kept."""


def folds(model: GPT, held: Float[Tensor, "nodes"]) -> "Folds | None":
    """What can be added up beforehand; None where the model is not known well enough, or anything is not finite."""
    return Folds(model, held) if known(model, held) else None


def known(model: GPT, held: Float[Tensor, "nodes"]) -> bool:
    """Whether compiled code can do what the model does."""
    return is_known(model) and wanted(model) and all(bool(x.detach().isfinite().all()) for x in (held, *weights(model)))


def wanted(model: GPT) -> bool:
    """Whether compiled float32 is what the model would be computed with now."""
    return kernels.choose(cast(Tensor, model.final_logits_bias)).name == "cpu" and not torch.is_autocast_enabled("cpu")


class Folds:
    """Sums over all nodes of a model, each held at its value in `held`."""

    def __init__(self, model: GPT, held: Float[Tensor, "nodes"]):
        self.model, self.space, self.held = model, NodeSpace(model.config), held.float()
        self.layers = [self.layer(number, block) for number, block in enumerate(model.blocks)]
        self.wte = model.wte.weight.detach().contiguous()
        positions = model.config.positions
        self.wpe = model.wpe.weight.detach().contiguous() if positions == "learned" else None

    def at(self, site: str) -> Float[Tensor, "channels"]:
        """What the nodes of a site are held at."""
        return self.held[self.space.slices[site]]

    def suits(self, kept: Bool[Tensor, "nodes"]) -> bool:
        """Whether `kept` are few enough for this to be the faster way."""
        return int(kept.sum()) <= PART * self.space.total

    def layer(self, number: int, block: Block) -> "Layer":
        """What one block brings."""
        return Layer(self, number, block)

    def table(self) -> Table:
        """One to be filled in."""
        return Table(self.model, self.wte, self.wpe)

    def fold(self, kept: Bool[Tensor, "nodes"], dropped: Iterable[Link], longest: int) -> Table:
        """What is left of the model with only `kept` alive, for prompts of at most `longest` tokens.

        Args:
            dropped: edges that carry what their source is held at.
        """
        table = self.table()
        cuts: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for source, target in sorted(set(dropped)):
            name, row = place(self.model, target)
            cuts[name].append((row, source[1]))
        for layer in self.layers:
            layer.fold(table, kept, cuts, longest)
        return table

    def batches_of_logits(
        self,
        kept: Bool[Tensor, "nodes"],
        dropped: Iterable[Link],
        examples: Examples,
        batches: Iterable[Int64[Tensor, " _"]],
        streams: Streams | None = None,
        enter: int = 0,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """As of `logits.batches_of_logits`.

        Args:
            batches: numbers of the rows to compute together, in this order.
            streams: of a choice of nodes and edges that is the same before the sublayer `enter`.
        """
        table = self.fold(kept, dropped, int(examples.last.max()) + 1)
        for rows in batches:
            width, last = int(examples.last[rows].max()) + 1, examples.last[rows]
            tokens = examples.tokens[rows, :width]
            self.model.check(tokens, last)  # compiled code reads whatever lies there
            with torch.no_grad():
                final = tokens.gather(1, last.unsqueeze(1)).squeeze(1)
                logits = self.model.unembed(table.last_residuals(tokens, last, streams, rows, enter), final)
            yield rows, logits

    def streams(self, kept: Bool[Tensor, "nodes"], dropped: Iterable[Link], examples: Examples) -> Streams:
        """The residual stream of every prompt with only `kept` alive."""
        rows, longest = len(examples.last), int(examples.last.max()) + 1
        found = Streams(2 * len(self.layers), rows, longest, self.model.config.d_model, MOST_BYTES)
        if len(found.values):
            tokens = examples.tokens[:, :longest]
            self.model.check(tokens, examples.last)
            table = self.fold(kept, dropped, longest)
            table.last_residuals(tokens, examples.last, found, torch.arange(rows), store=True)
        return found


class Columns:
    """One matrix: what it makes of held inputs, and its columns."""

    def __init__(self, layer: Linear, held: Float[Tensor, "inputs"]):
        self.layer, self.held = layer, held
        weight = layer.weight.detach()
        self.turned = None if layer.matrix is not None else weight.T.contiguous()
        self.bias = torch.zeros(weight.shape[0]) if layer.bias is None else layer.bias.detach()
        self.total = self.bias.double() + weight.double() @ held.double()

    def of(self, channels: Tensor) -> Float[Tensor, "channels outputs"]:
        """What each of some inputs brings per unit."""
        if self.turned is not None:
            return self.turned[channels]
        assert self.layer.matrix is not None
        return self.layer.matrix.transposed().rows(channels)

    def split(self, channels: Tensor, cuts: Cuts) -> tuple[Tensor, Tensor]:
        """The columns of the kept inputs, and the sum of what all else brings.

        Args:
            cuts: where kept inputs bring what they are held at.
        """
        found = self.of(channels)
        rest = self.total - found.double().T @ self.held[channels].double()
        position = {channel: i for i, channel in enumerate(channels.tolist())}
        for row, column in cuts:
            if column in position:
                i = position[column]
                rest[row] += found[i, row].double() * self.held[column].double()
                found[i, row] = 0.0
        return found, rest


class Layer:
    """One block."""

    def __init__(self, whole: Folds, number: int, block: Block):
        # A proxy: in a circle the gigabytes that may hang on it would wait for the garbage collector.
        self.whole: Folds = weakref.proxy(whole)
        self.number, self.block = number, block
        position = whole.model.config.positions
        table = whole.model.wpe.weight if position.endswith("_concat") else None
        self.positions = [
            None if table is None else normed(getattr(block, name), table).detach() for name in ("ln_p1", "ln_p2")
        ]
        self.c_attn = Columns(block.attn.c_attn, self._held("attn.act_in"))
        self.c_fc = Columns(block.mlp.c_fc, self._held("mlp.act_in"))
        self.c_proj = Columns(block.mlp.c_proj, self._held("mlp.post_act"))
        self.out = Columns(block.attn.c_proj, self._held("attn.v"))
        self._fold_heads(block.attn)

    def _held(self, site: str) -> Tensor:
        return self.whole.at(f"{self.number}.{site}")

    def _fold_heads(self, attention: Attention) -> None:
        """What each head brings per unit of weight on keys, and its weight by position, with all its nodes held."""
        config = self.whole.model.config
        heads, d_head = config.n_head, config.head_width
        q, k, v = (self._held(f"attn.{name}").double().view(heads, d_head) for name in "qkv")
        self.brings = (self.out.layer.weight.detach().double() * v.flatten()).view(-1, heads, d_head).sum(2).T
        scores = (q * k).sum(1) / d_head**0.5
        seen = torch.arange(1, config.block_size + 1).double().log().unsqueeze(1)
        # n keys of equal score weigh as one whose score is log n higher.
        sink = attention.sink_logit
        against = scores + seen - (0 if sink is None else sink.detach().double())
        self.weight = torch.ones_like(against) if sink is None else against.sigmoid()
        self.rest = self.out.bias.double() + self.weight @ self.brings

    def _kept(self, kept: Tensor, site: str) -> Tensor:
        return kept[self.whole.space.slices[f"{self.number}.{site}"]].nonzero().squeeze(1)

    def fold(self, table: Table, kept: Tensor, cuts: dict[str, list[tuple[int, int]]], longest: int) -> None:
        """Fill in this layer's line."""
        number, name = self.number, f"h.{self.number}"
        self._fold_writes(table, 0, kept, "attn.resid_delta")
        self._fold_writes(table, columns.MLP, kept, "mlp.resid_delta")
        if table.lines[number, columns.ACTS]:
            self._fold_reads(table, 0, kept)
            self._fold_projections(table, self._kept(kept, "attn.act_in"), cuts[f"{name}.attn.c_attn"])
            heads = self._fold_heads_alive(table, kept, cuts[f"{name}.attn.c_proj"])
            self._fold_mixed(table, heads, self._kept(kept, "attn.v"), cuts[f"{name}.attn.c_proj"], longest)
        if table.lines[number, columns.MLP + columns.ACTS]:
            self._fold_reads(table, columns.MLP, kept)
            self._fold_hidden(table, self._kept(kept, "mlp.act_in"), cuts[f"{name}.mlp.c_fc"])
            neurons = self._kept(kept, "mlp.post_act")
            self._put_channels(table, columns.NEURONS, neurons)
            self._fold_neurons(table, neurons, cuts[f"{name}.mlp.c_proj"])

    def _put_channels(self, table: Table, column: int, channels: Tensor) -> None:
        """A count and, in the next column, which."""
        table.lines[self.number, column] = len(channels)
        table.put(self.number, column + 1, channels.int())

    def _fold_writes(self, table: Table, first: int, kept: Tensor, site: str) -> None:
        written = self._kept(kept, site)
        self._put_channels(table, first + columns.WRITES, written)
        self._put_written(table, first, site, written)
        table.lines[self.number, first + columns.ACTS] = len(written) > 0

    def _put_written(self, table: Table, first: int, site: str, written: Tensor) -> None:
        """What is written where nothing is kept, without what is."""
        table.put(self.number, first + columns.HELD, self._held(site).index_fill(0, written, 0.0))

    def _fold_reads(self, table: Table, first: int, kept: Tensor) -> None:
        """What a sublayer reads."""
        norm = cast("nn.RMSNorm | nn.LayerNorm", self.block.ln_2 if first else self.block.ln_1)
        self._put_channels(table, first + columns.READS, self._kept(kept, "mlp.act_in" if first else "attn.act_in"))
        table.put(self.number, first + columns.NORM, norm.weight.detach())
        table.put(self.number, first + columns.NORM_BIAS, getattr(norm, "bias", None))
        table.put(self.number, first + columns.POSITIONS, self.positions[1 if first else 0])

    def _fold_projections(self, table: Table, read: Tensor, cuts: Cuts) -> None:
        """The matrix from what attention reads to q, k and v."""
        found, rest = self.c_attn.split(read, cuts)
        table.put(self.number, columns.SPREAD, found)
        table.put(self.number, columns.BASE, rest.float())
        for name, held_at in zip("qkv", (columns.Q_HELD, columns.K_HELD, columns.V_HELD), strict=True):
            table.put(self.number, held_at, self._held(f"attn.{name}"))

    def _fold_heads_alive(self, table: Table, kept: Tensor, cuts: Cuts) -> list[int]:
        """The heads that are not constant."""
        d_head = self.whole.model.config.head_width
        alive: set[int] = set()
        for name, place_of in zip("qkv", (columns.Q, columns.K, columns.V), strict=True):
            channels = self._kept(kept, f"attn.{name}")
            self._put_channels(table, place_of, channels)
            alive |= {channel // d_head for channel in channels.tolist()}
        # A cut channel brings its held value whatever its head weighs, so its head is no constant.
        heads = sorted(alive | {channel // d_head for _, channel in cuts})
        self._put_channels(table, columns.HEADS, torch.tensor(heads, dtype=torch.int64))
        sink = self.block.attn.sink_logit
        table.put(self.number, columns.SINK, None if sink is None else sink.detach())
        return heads

    def _fold_mixed(self, table: Table, heads: list[int], values: Tensor, cuts: Cuts, longest: int) -> None:
        """What heads make of values, kept ones and others, and the matrix behind it."""
        number, d_head = self.number, self.whole.model.config.head_width
        slot = {head: i for i, head in enumerate(heads)}
        brings = self.brings[heads]
        rest = self.rest[:longest] - self.weight[:longest, heads] @ brings
        found, held = self.out.of(values), self.out.held.double()
        position = {channel: i for i, channel in enumerate(values.tolist())}
        for channel, i in position.items():
            brings[slot[channel // d_head]] -= found[i].double() * held[channel]
        for row, channel in cuts:
            brought = float(self.out.of(torch.tensor([channel]))[0, row]) * held[channel]
            rest[:, row] += brought
            if channel in position:
                found[position[channel], row] = 0.0
            else:
                brings[slot[channel // d_head], row] -= brought
        self._put_channels(table, columns.MIXES, values)
        table.put(number, columns.HEAD_BRINGS, brings.float())
        table.put(number, columns.VALUE_BRINGS, found)
        table.put(number, columns.REST, rest.float())

    def _fold_hidden(self, table: Table, read: Tensor, cuts: Cuts) -> None:
        """The matrix from what the MLP reads to its neurons."""
        found, rest = self.c_fc.split(read, cuts)
        base = rest.float()
        table.put(self.number, columns.MLP + columns.SPREAD, found)
        table.put(self.number, columns.MLP + columns.BASE, base)
        relu = self.whole.model.config.activation == "relu"
        table.put(self.number, columns.AT_REST, base.relu() if relu else nn.functional.gelu(base))

    def _fold_neurons(self, table: Table, neurons: Tensor, cuts: Cuts) -> None:
        """The matrix from neurons to what the MLP writes."""
        found, rest = self.c_proj.split(neurons, cuts)
        table.put(self.number, columns.NEURON_BRINGS, found)
        table.put(self.number, columns.MLP_REST, rest.float())
