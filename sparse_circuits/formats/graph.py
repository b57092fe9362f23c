"""A circuit as a graph for other programs: rows of nodes and edges, and what is made of them.

Nodes are called `site:channel`. Edges of the kind "weight" are the circuit's own. They all lie inside sublayers; edges
of the kind "residual" join them: from a node that writes a channel of the residual stream to every later node that
reads it.
"""

from typing import Any

from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.errors import InputError

Row = dict[str, Any]


def node_name(site: str, channel: int) -> str:
    """What a node is called."""
    return f"{site}:{channel}"


def node_rows(circuit: Circuit) -> list[Row]:
    """One row a kept node, in forward order; what is not known of a node is None."""
    costs = circuit.found.get("costs", {})
    rows = []
    for order, (site, place, channel) in enumerate(
        (site, place, channel) for site, kept in circuit.nodes.items() for place, channel in enumerate(kept)
    ):
        layer, component, kind = site.split(".")
        number = circuit.space.slices[site].start + channel
        rows.append(
            {
                "node": node_name(site, channel),
                "order": order,
                "site": site,
                "layer": int(layer),
                "component": component,
                "kind": kind,
                "channel": channel,
                "head": channel // circuit.model.config.head_width if kind in ("q", "k", "v") else None,
                "held_at": float(circuit.held[number]),
                "standard_error": float(circuit.means.standard_error[number]),
                "score": None if circuit.scores is None else float(circuit.scores[number]),
                "cost": float(costs[site][place]) if site in costs else None,
                "edges_in": sum(edge.target == (site, channel) for edge in circuit.edges),
                "edges_out": sum(edge.source == (site, channel) for edge in circuit.edges),
            }
        )
    return rows


def edge_rows(circuit: Circuit, residual: bool = False) -> list[Row]:
    """One row an edge, in forward order; with `residual` those of the residual stream too."""
    links = [(*edge.source, *edge.target, edge.weight, "weight") for edge in circuit.edges]
    if residual:
        links += [(*source, *target, 1.0, "residual") for source, target in residual_links(circuit)]
    return [
        {
            "source": node_name(a, b),
            "target": node_name(c, d),
            "source_site": a,
            "source_channel": b,
            "target_site": c,
            "target_channel": d,
            "weight": weight,
            "kind": kind,
        }
        for a, b, c, d, weight, kind in links
    ]


def residual_links(circuit: Circuit) -> list[tuple[tuple[str, int], tuple[str, int]]]:
    """Each node that writes a channel of the residual stream with each later one that reads it."""
    order = list(circuit.space.slices)
    writers = [(site, c) for site, kept in circuit.nodes.items() if site.endswith("resid_delta") for c in kept]
    readers = [(site, c) for site, kept in circuit.nodes.items() if site.endswith("act_in") for c in kept]
    return [
        (writer, reader)
        for writer in writers
        for reader in readers
        if writer[1] == reader[1] and order.index(writer[0]) < order.index(reader[0])
    ]


def to_networkx(circuit: Circuit, residual: bool = True) -> Any:
    """The circuit as a `networkx.DiGraph`, with the fields of the rows as attributes where they are known.

    Raises:
        InputError: the package networkx is missing.
    """
    try:
        import networkx
    except ImportError:
        raise InputError("a graph needs the package networkx; pip install networkx") from None
    graph = networkx.DiGraph(task=circuit.task.name)
    for row in node_rows(circuit):
        graph.add_node(row["node"], **{key: value for key, value in row.items() if value is not None and key != "node"})
    for row in edge_rows(circuit, residual):
        graph.add_edge(row["source"], row["target"], weight=row["weight"], kind=row["kind"])
    return graph
