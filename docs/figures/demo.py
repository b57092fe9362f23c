"""Draws the circuit that `scripts/demo` left in runs/demo, as docs/figures/demo.svg and .png.

    python docs/figures/demo.py

Columns are sites in forward order, dots are kept nodes, lines are weights (blue positive, orange negative, width by
size), dashed lines the residual stream, which carries a channel from where it is written to where it is read.
"""

from pathlib import Path

import matplotlib.pyplot as plt

import sparse_circuits as sc
from sparse_circuits.circuits.edges import Edge

CIRCUIT = Path("runs/demo/circuits/single_double_quote")
POSITIVE, NEGATIVE, STREAM, INK = "#0072b2", "#d55e00", "#b0b0b0", "#202020"
PANES = {"act_in": "reads", "v": "v", "k": "k", "q": "q", "post_act": "neurons", "resid_delta": "writes"}


def residual_links(circuit: sc.Circuit) -> list[tuple[tuple[str, int], tuple[str, int]]]:
    """From each written residual channel to each later read of it."""
    sites = list(circuit.space.slices)
    links = []
    for writer in (site for site in circuit.nodes if site.endswith("resid_delta")):
        for reader in (site for site in circuit.nodes if site.endswith("act_in")):
            if sites.index(reader) > sites.index(writer):
                shared = set(circuit.nodes[writer]) & set(circuit.nodes[reader])
                links += [((writer, channel), (reader, channel)) for channel in sorted(shared)]
    return links


def draw(circuit: sc.Circuit) -> plt.Figure:
    """The circuit as a graph."""
    columns = list(circuit.nodes)
    place = {
        (site, channel): (x, (len(channels) - 1) / 2 - y)
        for x, (site, channels) in enumerate(circuit.nodes.items())
        for y, channel in enumerate(channels)
    }
    tallest = max(map(len, circuit.nodes.values()))
    figure, axes = plt.subplots(figsize=(1.35 * len(columns) + 1, 1.5 + 0.27 * tallest), layout="constrained")
    for start, end in residual_links(circuit):
        (x0, y0), (x1, y1) = place[start], place[end]
        axes.plot([x0, x1], [y0, y1], color=STREAM, linewidth=1, linestyle="--", zorder=1)
    largest = max(abs(edge.weight) for edge in circuit.edges)
    for edge in circuit.edges:
        draw_edge(axes, edge, place, largest)
    for (_, channel), (x, y) in place.items():
        axes.scatter(x, y, s=190, color="white", edgecolors=INK, linewidths=1.0, zorder=3)
        axes.annotate(str(channel), (x, y), ha="center", va="center", fontsize=6.5, color=INK, zorder=4)
    axes.set_xticks(
        range(len(columns)), [f"{site.rsplit('.', 1)[0]}\n{PANES[site.rsplit('.', 1)[1]]}" for site in columns]
    )
    axes.tick_params(length=0, labelsize=8, colors=INK)
    axes.set_yticks([])
    axes.margins(x=0.04, y=0.05)
    axes.spines[:].set_visible(False)
    losses = circuit.found["losses"]["report"]
    axes.set_title(
        f"{circuit.task.name}: {circuit.size} nodes, {len(circuit.edges)} edges; "
        f"loss {losses['circuit']:.3f} nats (model {losses['model']:.3f}, chance 0.693)",
        fontsize=10,
        loc="left",
        color=INK,
    )
    return figure


def draw_edge(axes: plt.Axes, edge: Edge, place: dict[tuple[str, int], tuple[float, float]], largest: float) -> None:
    """One weight as a line."""
    (x0, y0), (x1, y1) = place[edge.source], place[edge.target]
    color = POSITIVE if edge.weight > 0 else NEGATIVE
    axes.plot([x0, x1], [y0, y1], color=color, linewidth=0.5 + 3.5 * abs(edge.weight) / largest, zorder=2)


def write(circuit: sc.Circuit) -> list[Path]:
    """Draw it; returns the files."""
    found = draw(circuit)
    paths = [Path(__file__).with_suffix(suffix) for suffix in (".svg", ".png")]
    for path in paths:
        found.savefig(path, dpi=110)
    return paths


if __name__ == "__main__":
    write(sc.Circuit.load(CIRCUIT))
