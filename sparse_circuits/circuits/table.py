"""A circuit as tables a person can read: losses, sizes, each kept node with its edges and what removing it costs."""

import math
from collections import defaultdict

from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor

from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.circuits.edges import Edge, embedding_edges
from sparse_circuits.tokenizer import Tokenizer

FILE_WIDTH = 140
"""Columns where the output is no terminal."""
SHOWN_EDGES = 4
SHOWN_TOKENS = 3


def print_circuit(circuit: Circuit, console: Console | None = None) -> None:
    """Print `circuit` on standard output; what only `prune` records is left out where nodes were picked by hand."""
    console = console or Console(highlight=False)
    if not console.is_terminal:
        console.width = FILE_WIDTH
    tables = [_sizes(circuit), _nodes(circuit)]
    if "losses" in circuit.found:
        tables.insert(0, _losses(circuit))
    for table in tables:
        # Tokens such as "[b" are no markup.
        console.print(table, markup=False)
    for note in notes(circuit):
        console.print(f"note: {note}", markup=False, soft_wrap=True)


def notes(circuit: Circuit) -> list[str]:
    """What speaks against believing the circuit, one sentence each."""
    target = circuit.config.target_loss
    losses = circuit.found.get("losses", {})
    kind = "calibrated" if circuit.config.calibrated else "circuit"
    found = [
        f"on the {split} split the circuit's loss is {losses[split][kind]:.3f} (the model's "
        f"{losses[split]['model']:.3f}), above the target {target:g}"
        for split in ("report", "ood")
        if split in losses and losses[split][kind] > target
    ]
    if losses and min(split["empty"] for split in losses.values()) <= target:
        found.append("the empty circuit meets the target too: the target is too high to say anything")
    if circuit.size and not any(site.endswith((".q", ".k")) for site in circuit.nodes):
        found.append("no q or k node is kept: where the heads look does not depend on the prompt")
    return found


def _losses(circuit: Circuit) -> Table:
    table = Table(title=f"{circuit.task.name}: loss in nats", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("split")
    for name in ("model", "circuit", "circuit, calibrated", "empty circuit", "chance"):
        table.add_column(name, justify="right")
    for split, losses in circuit.found["losses"].items():
        values = [losses.get(key) for key in ("model", "circuit", "calibrated", "empty")]
        table.add_row(split, *("" if value is None else f"{value:.4f}" for value in [*values, math.log(2)]))
    return table


def _sizes(circuit: Circuit) -> Table:
    sizes = circuit.found.get("sizes", {})
    into, out = embedding_edges(circuit.model, circuit.nodes)
    table = Table(title=f"size (of {circuit.space.total:,} nodes in all)", title_justify="left", box=box.SIMPLE_HEAD)
    for name in ("", "nodes", "edges"):
        table.add_column(name, justify="right" if name else "left")
    if "learned" in sizes:
        table.add_row("masks learned", f"{sizes['learned']:,}", "")
    if "discretised" in sizes:
        table.add_row("smallest that meets the target", f"{sizes['discretised']:,}", f"{sizes['discretised_edges']:,}")
    if "connected" in sizes:
        table.add_row("on a path", f"{sizes['connected']:,}", f"{sizes['connected_edges']:,}")
    if "cleaned" in sizes and circuit.dropped:
        table.add_row("its nodes cleaned", f"{sizes['cleaned']:,}", f"{sizes['cleaned_edges']:,}")
    if circuit.dropped:
        table.add_row("with all edges between its nodes", f"{circuit.size:,}", f"{len(circuit.node_edges):,}")
    table.add_row("the circuit", f"{circuit.size:,}", f"{len(circuit.edges):,}", style="bold")
    table.caption = f"beside: {into:,} embedding, {out:,} unembedding weights"
    return table


def _nodes(circuit: Circuit) -> Table:
    incoming: dict[tuple[str, int], list[Edge]] = defaultdict(list)
    outgoing: dict[tuple[str, int], list[Edge]] = defaultdict(list)
    for edge in circuit.edges:
        incoming[edge.target].append(edge)
        outgoing[edge.source].append(edge)
    table = Table(title="nodes", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("node", no_wrap=True)
    table.add_column("cost of\nremoval", justify="right")
    table.add_column("held at", justify="right")
    table.add_column("reads")
    table.add_column("feeds")
    costs = circuit.found.get("costs", {})
    for site, channels in circuit.nodes.items():
        for place, channel in enumerate(channels):
            node = (site, channel)
            table.add_row(
                f"{site}:{channel}",
                f"{costs[site][place]:.4f}" if site in costs else "",
                f"{float(circuit.held[circuit.space.slices[site].start + channel]):+.3f}",
                _edge_list(incoming[node], incoming=True) or _reads(circuit, node),
                _edge_list(outgoing[node], incoming=False) or _feeds(circuit, node),
            )
        table.add_section()
    table.caption = "removal cost: rise of the report-split loss in nats; weights in parentheses"
    return table


def _edge_list(edges: list[Edge], incoming: bool) -> str:
    strongest = sorted(edges, key=lambda edge: -abs(edge.weight))
    names = []
    for edge in strongest[:SHOWN_EDGES]:
        site, channel = edge.source if incoming else edge.target
        # Edges stay inside a sublayer, so the last part of the name says which node.
        names.append(f"{site.rsplit('.', 1)[1]}:{channel} ({edge.weight:+.2f})")
    more = len(edges) - SHOWN_EDGES
    return ", ".join(names) + (f", {more} more" if more > 0 else "")


def _reads(circuit: Circuit, node: tuple[str, int]) -> str:
    """Where a node that reads the residual stream gets its value, with the tokens that write most to that channel."""
    site, channel = node
    if not site.endswith("act_in"):
        return ""
    if channel >= circuit.model.config.d_model:
        return f"position channel {channel - circuit.model.config.d_model}"
    sites = list(circuit.space.slices)
    writers = [
        other.removesuffix(".resid_delta")
        for other, channels in circuit.nodes.items()
        if other.endswith("resid_delta") and channel in channels and sites.index(other) < sites.index(site)
    ]
    written = f" written by {' and '.join(writers)}" if writers else ""
    return _tokens(circuit, circuit.model.wte.weight[:, channel], f"channel {channel}{written}, tokens")


def _feeds(circuit: Circuit, node: tuple[str, int]) -> str:
    """Where a node that writes to the residual stream goes, with the logits that read that channel most."""
    site, channel = node
    if not site.endswith("resid_delta"):
        return ""
    return _tokens(circuit, circuit.model.lm_head.weight[:, channel], f"channel {channel}, logits")


def _tokens(circuit: Circuit, weights: Tensor, what: str) -> str:
    tokenizer = circuit.model.tokenizer
    assert isinstance(tokenizer, Tokenizer)
    weights = weights.detach()[: tokenizer.vocab_size]
    strongest = weights.abs().sort(descending=True, stable=True).indices[:SHOWN_TOKENS].tolist()
    named = [f"{tokenizer.decode([i])!r} ({float(weights[i]):+.2f})" for i in strongest if float(weights[i])]
    return f"{what} {', '.join(named)}" if named else what.split(",")[0]
