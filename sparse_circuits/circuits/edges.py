"""The graph of a circuit: its edges, and which nodes no path connects (paper, section 3).

An edge is a nonzero weight between two kept nodes: of the q, k and v projections, the attention output (its inputs are
the v channels, which attention carries over unchanged), the MLP's two matrices. Not counted: embedding and unembedding
(reported beside), biases, the q-k match and the residual stream's identity.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from sparse_circuits.model import GPT

Nodes = Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class Edge:
    """One weight from a node to a node, each (site, channel)."""

    source: tuple[str, int]
    target: tuple[str, int]
    weight: float


def matrices(model: GPT) -> Iterator[tuple[str, str, Tensor]]:
    """Every matrix between node sites as (source site, target site, weight [targets, sources]), in forward order."""
    for layer, block in enumerate(model.blocks):
        projections = block.attn.c_attn.weight.detach().chunk(3)
        for name, weight in zip("qkv", projections, strict=True):
            yield f"{layer}.attn.act_in", f"{layer}.attn.{name}", weight
        yield f"{layer}.attn.v", f"{layer}.attn.resid_delta", block.attn.c_proj.weight.detach()
        yield f"{layer}.mlp.act_in", f"{layer}.mlp.post_act", block.mlp.c_fc.weight.detach()
        yield f"{layer}.mlp.post_act", f"{layer}.mlp.resid_delta", block.mlp.c_proj.weight.detach()


def edges(model: GPT, nodes: Nodes) -> list[Edge]:
    """All edges between `nodes` (channels by site), in forward order."""
    found = []
    for source, target, weight in matrices(model):
        rows, columns = list(nodes.get(target, ())), list(nodes.get(source, ()))
        part = weight[rows][:, columns].cpu()
        for row, column in part.nonzero().tolist():
            found.append(Edge((source, columns[column]), (target, rows[row]), float(part[row, column])))
    return found


def edge_count(model: GPT, nodes: Nodes) -> int:
    """How many edges there are between `nodes`, without making a list of them."""
    parts = (weight[list(nodes.get(b, ()))][:, list(nodes.get(a, ()))] for a, b, weight in matrices(model))
    return sum(int(part.count_nonzero()) for part in parts)


def embedding_edges(model: GPT, nodes: Nodes) -> tuple[int, int]:
    """Nonzeros of the embedding into residual channels that `nodes` read, and of the unembedding from those written."""
    read = {c for site, kept in nodes.items() if site.endswith("act_in") for c in kept}
    written = {c for site, kept in nodes.items() if site.endswith("resid_delta") for c in kept}
    stream = model.config.d_model
    embedding = model.wte.weight[:, sorted(c for c in read if c < stream)]
    unembedding = model.lm_head.weight[:, sorted(written)]
    return int(embedding.count_nonzero()), int(unembedding.count_nonzero())


def connected(model: GPT, nodes: Nodes) -> dict[str, tuple[int, ...]]:
    """The nodes that lie on a path from the tokens (or positions) to the logits.

    A q or k channel is on a path when its head has a v channel that is: it decides what that channel carries. (With a
    sink a head whose v channels are all held still sends a constant by more or less; that is no path here, and the loss
    decides whether such nodes stay.)
    """
    kept = {site: set(channels) for site, channels in nodes.items()}
    reached = _reached(model, kept)
    useful = _useful(model, reached)
    return {site: tuple(sorted(useful[site])) for site in nodes if useful.get(site)}


def _reached(model: GPT, kept: dict[str, set[int]]) -> dict[str, set[int]]:
    """The kept nodes that something flows into, going forward."""
    width = model.config.d_model
    written = model.wte.weight.detach().count_nonzero(0) > 0
    if model.config.positions == "learned":
        written |= model.wpe.weight.detach().count_nonzero(0) > 0
    residual = set(written.nonzero().squeeze(1).tolist()) | set(range(width, model.config.read_width))
    reached: dict[str, set[int]] = {}
    for source, target, weight in matrices(model):
        if source.endswith("act_in") and source not in reached:
            reached[source] = kept.get(source, set()) & residual
        linked = _linked(weight, kept.get(target, set()), reached.get(source, set()))
        reached[target] = linked
        if target.endswith("resid_delta"):
            residual |= linked
    return reached


def _useful(model: GPT, reached: dict[str, set[int]]) -> dict[str, set[int]]:
    """The reached nodes that flow into the logits, going backward."""
    read = model.lm_head.weight.detach().count_nonzero(0) > 0
    residual = set(read.nonzero().squeeze(1).tolist())
    d_head = model.config.d_head
    assert d_head is not None
    useful: dict[str, set[int]] = {}
    pending: list[tuple[str, set[int]]] = []
    for source, target, weight in reversed(list(matrices(model))):
        if target.endswith("resid_delta"):
            _flush(residual, pending)
            useful[target] = reached[target] & residual
        elif target.endswith((".q", ".k")):
            heads = {channel // d_head for channel in useful[target[:-1] + "v"]}
            useful[target] = {channel for channel in reached[target] if channel // d_head in heads}
        linked = _linked(weight.T, reached[source], useful.get(target, set()))
        useful[source] = useful.get(source, set()) | linked
        if source.endswith("act_in"):
            pending.append((source, useful[source]))
    return useful


def _flush(residual: set[int], pending: list[tuple[str, set[int]]]) -> None:
    """Let a sublayer's reads count for the sublayers before it, once all its matrices are seen."""
    for _, channels in pending:
        residual |= channels
    pending.clear()


def _linked(weight: Tensor, targets: set[int], sources: set[int]) -> set[int]:
    """The `targets` (rows of `weight`) with a nonzero weight from any of the `sources` (columns)."""
    rows, columns = sorted(targets), sorted(sources)
    if not rows or not columns:
        return set()
    hits = (weight[rows][:, columns] != 0).any(dim=1)
    return {row for row, hit in zip(rows, hits.tolist(), strict=True) if hit}
