"""Writes the pictures of the viewer that the README and docs/viewer.md show, of the demo's circuit.

    python docs/screenshots.py [CIRCUIT]

CIRCUIT is a circuit folder; that of `scripts/demo` if not given. Needs Chromium and playwright. Look at them after.
"""

import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from sparse_circuits.viewer import export_html
from sparse_circuits.viewer.sources import gather

DEMO = Path("runs/demo/circuits/single_double_quote")
OUT = Path(__file__).parent / "figures"
SHOTS = {
    "viewer-circuit": ("", "light"),
    "viewer-path": ("node=BEST", "light"),
    "viewer-unrolled": ("view=unrolled&pair=1", "light"),
    "viewer-node": ("view=channel&channel=CHANNEL&node=BEST&tab=attention", "dark"),
    "viewer-sizes": ("view=sizes", "dark"),
}


def main() -> None:
    """Take them all."""
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else DEMO
    found, _ = gather([source], progress=True)
    nodes = found["circuits"][0]["nodes"]
    values = [node for node in nodes if node["site"].endswith(".v")] or nodes
    best = max(values, key=lambda node: node["cost"] or 0)
    name = f"{best['site']}:{best['channel']}"
    read = [nodes[a]["channel"] for a, b, _ in found["circuits"][0]["edges"] if nodes[b] is best]
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        page_file = Path(folder) / "page.html"
        export_html(found, page_file)
        chromium = next((path for each in ("chromium", "google-chrome") if (path := shutil.which(each))), None)
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for shot, (state, scheme) in SHOTS.items():
            context = browser.new_context(viewport={"width": 1280, "height": 800}, color_scheme=scheme)
            page: Page = context.new_page()
            page.goto(f"{page_file.as_uri()}#{state.replace('BEST', name).replace('CHANNEL', str(read[0]))}")
            page.wait_for_selector("aside section")
            if shot == "viewer-path":
                page.hover(f'.graph [data-node="{name}"]')
            page.wait_for_timeout(500)
            page.screenshot(path=OUT / f"{shot}.png")
            print(OUT / f"{shot}.png")
            context.close()
        browser.close()


if __name__ == "__main__":
    main()
