"""Draws the terminal output of `scripts/demo` as docs/figures/demo.svg, from the circuit it left in runs/demo.

python docs/figures/demo.py
"""

import io
from pathlib import Path

from rich.console import Console

import sparse_circuits as sc
from sparse_circuits.circuits.table import print_circuit

CIRCUIT = Path("runs/demo/model/circuits/single_double_quote")

if __name__ == "__main__":
    console = Console(record=True, width=150, file=io.StringIO(), force_terminal=True, highlight=False)
    print_circuit(sc.Circuit.load(CIRCUIT), console)
    console.save_svg(str(Path(__file__).with_suffix(".svg")), title="scripts/demo")
