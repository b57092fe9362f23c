"""A circuit as GraphML, which Gephi, Cytoscape, yEd and networkx open."""

from pathlib import Path

from sparse_circuits.checkpoint import make_folder
from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.files import atomic_write
from sparse_circuits.formats.graph import to_networkx


def write(circuit: Circuit, out: Path) -> list[str]:
    """Write `circuit` to the file `out`."""
    graph = to_networkx(circuit)
    import networkx

    make_folder(out.parent)
    atomic_write(out, "\n".join(networkx.generate_graphml(graph)) + "\n")
    return ["edges of the kind residual are no weights: they join what writes a channel to what reads it"]
