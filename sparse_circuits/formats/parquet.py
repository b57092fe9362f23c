"""A circuit as two tables, its nodes and its edges, in Parquet files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.errors import InputError
from sparse_circuits.files import written_together
from sparse_circuits.formats.graph import Row, edge_rows, node_rows
from sparse_circuits.formats.tables import EDGE_COLUMNS, NODE_COLUMNS


def write(circuit: Circuit, out: Path) -> list[str]:
    """Write nodes.parquet and edges.parquet to the folder `out`; what is not known is null.

    Raises:
        InputError: the package pyarrow is missing.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise InputError("Parquet needs the package pyarrow; pip install 'sparse-circuits[tables]'") from None
    tables = {"nodes": (NODE_COLUMNS, node_rows(circuit)), "edges": (EDGE_COLUMNS, edge_rows(circuit))}
    with written_together(out, "nodes.parquet") as folder:
        for name, (columns, rows) in tables.items():
            parquet.write_table(_table(pyarrow, columns, rows), folder / f"{name}.parquet")
    return []


def _table(pyarrow: Any, columns: Mapping[str, type], rows: Sequence[Row]) -> Any:
    kinds = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64()}
    schema = pyarrow.schema([(name, kinds[kind]) for name, kind in columns.items()])
    return pyarrow.Table.from_pylist(list(rows), schema=schema)
