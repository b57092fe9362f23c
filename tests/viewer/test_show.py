"""`circuit.show()`."""

import html
import webbrowser
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

import pytest
from small_circuits import small_circuit

from sparse_circuits.viewer import bundle, show


def test_it_opens_the_browser_or_stands_in_the_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    circuit = small_circuit(nodes={"0.mlp.post_act": (4,)})
    monkeypatch.setattr(show, "bundle", lambda circuits, cards: bundle(circuits, cards, text_tokens=240))
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda address: opened.append(address) or True)
    shown = circuit.show()
    (address,) = opened
    path = Path(url2pathname(urlparse(address).path))
    assert path.read_text() == shown.text
    assert "MB" in repr(shown)
    frame = shown._repr_html_()
    assert html.escape(shown.text) in frame
    assert 'sandbox="allow-scripts' in frame
    assert "allow-same-origin" not in frame
    monkeypatch.setattr(show, "_in_notebook", lambda: True)
    circuit.show()
    assert len(opened) == 1
