"""Tables of experiments on a narrow terminal."""

import io

from rich.console import Console

from sparse_circuits.circuits.experiment_tables import edges_table
from sparse_circuits.circuits.experiments import OutsideEdges


def test_names_of_sites_are_not_cut_short_at_80_columns() -> None:
    found = [OutsideEdges("0.mlp.post_act", "0.mlp.resid_delta", 6, 148, 950, 154_623)]
    written = io.StringIO()
    Console(file=written, width=80).print(edges_table("Circuit(single_double_quote: 44 nodes, 57 edges)", found))
    text = written.getvalue()
    assert "…" not in text
    assert "154,623" in text
    assert all(len(line) <= 80 for line in text.splitlines())
