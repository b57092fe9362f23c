"""A circuit as two tables, its nodes and its edges, in CSV files."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.files import atomic_write, written_together
from sparse_circuits.formats.graph import Row, edge_rows, node_rows

NODE_COLUMNS = {
    "node": str,
    "order": int,
    "site": str,
    "layer": int,
    "component": str,
    "kind": str,
    "channel": int,
    "head": int,
    "held_at": float,
    "standard_error": float,
    "score": float,
    "cost": float,
    "edges_in": int,
    "edges_out": int,
}
EDGE_COLUMNS = {
    "source": str,
    "target": str,
    "source_site": str,
    "source_channel": int,
    "target_site": str,
    "target_channel": int,
    "weight": float,
    "kind": str,
}


def write(circuit: Circuit, out: Path) -> list[str]:
    """Write nodes.csv and edges.csv to the folder `out`; what is not known is empty."""
    with written_together(out, "nodes.csv") as folder:
        atomic_write(folder / "nodes.csv", _text(list(NODE_COLUMNS), node_rows(circuit)))
        atomic_write(folder / "edges.csv", _text(list(EDGE_COLUMNS), edge_rows(circuit)))
    return []


def _text(columns: Sequence[str], rows: Sequence[Row]) -> str:
    text = io.StringIO()
    # Floats as Python writes them: the shortest text that is read as the same number.
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
