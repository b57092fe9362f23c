"""A circuit as the one-file page, in the shape that `export` asks of a format."""

from pathlib import Path

from sparse_circuits import checkpoint
from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.viewer.bundle import bundle
from sparse_circuits.viewer.onefile import export_html


def write(circuit: Circuit, out: Path) -> list[str]:
    """Write the page to `out`, or as `circuit.html` in it where `out` names a folder; returns what there is to know.

    The report card that lies beside the circuit is in it.
    """
    if out.suffix == "":
        checkpoint.make_folder(out)
        out = out / "circuit.html"
    found = bundle(circuit, progress=True)
    size = export_html(found, out)
    notes = [f"{out} needs no other file and no network ({size / 1e6:.1f} MB); it opens by double click"]
    if found["circuits"][0]["card"] is None:
        notes.append("no report card lies beside the circuit, so the page has none: `sparse-circuits report` makes it")
    return notes
