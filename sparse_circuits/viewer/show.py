"""`circuit.show()`: the page inside a notebook, or in the browser from anywhere else."""

import html
import sys
import tempfile
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.circuits.report import Card
from sparse_circuits.viewer.bundle import bundle
from sparse_circuits.viewer.onefile import page


class Shown:
    """The page of some circuits; a notebook shows it, `save` writes it."""

    def __init__(self, text: str):
        self.text = text

    def save(self, path: str | Path) -> None:
        """Write the page as one HTML file."""
        from sparse_circuits.files import atomic_write

        atomic_write(path, self.text)

    def __repr__(self) -> str:
        return f"<page of circuits, {len(self.text.encode()) / 1e6:.1f} MB>"

    def _repr_html_(self) -> str:
        """What a notebook shows: the page in a frame of its own that reaches neither the notebook nor the network."""
        return (
            f'<iframe srcdoc="{html.escape(self.text)}" sandbox="allow-scripts allow-downloads allow-modals" '
            'title="circuit" style="width:100%;height:760px;border:1px solid #ccc"></iframe>'
        )


def show(circuits: Sequence[Circuit], cards: Sequence[Card | None] | None = None, open_browser: bool = True) -> Shown:
    """The page of `circuits`; outside a notebook it is also opened in the browser, from a temporary file."""
    shown = Shown(page(bundle(circuits, cards)))
    if open_browser and not _in_notebook():
        path = Path(tempfile.mkdtemp(prefix="circuit-")) / "circuit.html"
        shown.save(path)
        if not webbrowser.open(path.as_uri()):
            print(f"no browser was found; open {path}", file=sys.stderr)
    return shown


def _in_notebook() -> bool:
    module = sys.modules.get("IPython")
    shell = module.get_ipython() if module is not None else None
    return shell is not None and shell.__class__.__name__ == "ZMQInteractiveShell"
