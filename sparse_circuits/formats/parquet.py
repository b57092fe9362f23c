"""A circuit as two tables, its nodes and its edges, in Parquet files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sparse_circuits.checkpoint import make_folder
from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.errors import InputError
from sparse_circuits.files import atomic_write
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
    make_folder(out)
    for name, columns, rows in (
        ("nodes", NODE_COLUMNS, node_rows(circuit)),
        ("edges", EDGE_COLUMNS, edge_rows(circuit)),
    ):
        table = _table(pyarrow, columns, rows)
        atomic_write(out / f"{name}.parquet", lambda path, table=table: parquet.write_table(table, path))  # type: ignore[misc]
    return []


def _table(pyarrow: Any, columns: Mapping[str, type], rows: Sequence[Row]) -> Any:
    kinds = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64()}
    schema = pyarrow.schema([(name, kinds[kind]) for name, kind in columns.items()])
    return pyarrow.Table.from_pylist(list(rows), schema=schema)
