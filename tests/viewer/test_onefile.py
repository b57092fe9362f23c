"""One file holds all, and nothing in its data can become markup."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sparse_circuits.viewer.onefile import _harmless, _joined, export_html, page
from sparse_circuits.viewer.schema import WEB


class Blocks(HTMLParser):
    """The scripts and styles of a page, as a browser would see them."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks: list[tuple[str, dict[str, str | None], str]] = []
        self._open: tuple[str, dict[str, str | None]] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "style"):
            self._open = (tag, dict(attrs))
            self.blocks.append((tag, dict(attrs), ""))

    def handle_data(self, data: str) -> None:
        if self._open is not None:
            tag, attributes, before = self.blocks[-1]
            self.blocks[-1] = (tag, attributes, before + data)

    def handle_endtag(self, tag: str) -> None:
        self._open = None


@given(st.text() | st.sampled_from(["</script>", "<!--", "<script>", "\u2028", "\\u003c/script>"]))
def test_json_in_the_page_holds_no_markup_and_says_the_same(text: str) -> None:
    written = _harmless(json.dumps({"text": text}, ensure_ascii=False))
    assert "<" not in written
    assert "\u2028" not in written
    assert json.loads(written) == {"text": text}


def test_it_names_nothing_outside_and_runs_one_script(made: dict[str, Any]) -> None:
    parsed = Blocks()
    text = page(made, {"node": "0.attn.q:1"})
    parsed.feed(text)
    data = {attributes["id"]: json.loads(content) for _, attributes, content in parsed.blocks if "id" in attributes}
    assert data["bundle"] == made
    assert data["state"] == {"node": "0.attn.q:1"}
    scripts = [content for tag, attributes, content in parsed.blocks if tag == "script" and "id" not in attributes]
    assert len(scripts) == 1
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    for content in (scripts[0], *(c for tag, _, c in parsed.blocks if tag == "style")):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy[1]
    assert "unsafe" not in policy[1]
    assert policy[1].startswith("default-src 'none'")
    assert not re.search(r'(src|href)="(?!#)', text.replace("data:", ""))


def test_every_module_is_inside_once() -> None:
    script = _joined("main.js")
    assert not re.search(r"^(import|export) ", script, re.MULTILINE)
    for path in WEB.glob("*.js"):
        first = path.read_text().split("\n")[0]
        assert script.count(first) == 1, f"{path.name} is not needed by the page, or twice in it"


def test_it_is_small(made: dict[str, Any], tmp_path: Path) -> None:
    size = export_html(made, tmp_path / "page.html")
    assert size == (tmp_path / "page.html").stat().st_size
    assert size - len(json.dumps(made)) < 300_000
