"""Remakes every picture of the demo's circuit that README and docs show: the viewer's, and its figure as a graph.

    scripts/demo
    python docs/screenshots.py [CIRCUIT]

CIRCUIT is a circuit folder; that of `scripts/demo` if not given. What is pointed at, opened and switched off is found
in the circuit: its value channel that costs most. Needs Chromium, playwright and matplotlib.
Look at the pictures after.
"""

import importlib.util
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from playwright.sync_api import Page, sync_playwright

from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.errors import InputError
from sparse_circuits.viewer.sources import gather

DEMO = Path("runs/demo/circuits/single_double_quote")
OUT = Path(__file__).parent / "figures"
SHOTS: dict[str, tuple[str, Literal["light", "dark"]]] = {
    "viewer-circuit": ("", "light"),
    "viewer-path": ("node=BEST", "light"),
    "viewer-unrolled": ("view=unrolled&pair=1", "light"),
    "viewer-node": ("view=channel&channel=CHANNEL&node=BEST&tab=attention", "dark"),
    "viewer-sizes": ("view=sizes", "dark"),
    "viewer-live": ("view=live&node=BEST", "light"),
}
"""By file name: the page's state, and its theme."""


def main() -> None:
    """Take them all."""
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else DEMO
    try:
        found, circuits = gather([source], progress=True)
    except InputError as error:
        sys.exit(f"{error}\nscripts/demo makes {DEMO}")
    (circuit,) = circuits
    if circuit is None:
        sys.exit(f"{source} is a bundle; the Live view needs the circuit's folder")
    figure(circuit)
    best, channel = told_best(found["circuits"][0])
    chromium = next((path for each in ("chromium", "google-chrome") if (path := shutil.which(each))), None)
    with served(found, circuit) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for shot, (state, scheme) in SHOTS.items():
            context = browser.new_context(viewport={"width": 1280, "height": 800}, color_scheme=scheme)
            page = context.new_page()
            page.goto(f"{address}#{state.replace('BEST', best).replace('CHANNEL', str(channel))}")
            page.wait_for_selector("aside section")
            prepare(page, shot, best)
            page.wait_for_timeout(500)
            page.screenshot(path=OUT / f"{shot}.png")
            print(OUT / f"{shot}.png")
            context.close()
        browser.close()


def told_best(circuit: dict[str, Any]) -> tuple[str, int]:
    """The value channel (or other node) that costs most to remove, and a residual channel that it reads."""
    nodes = circuit["nodes"]
    values = [node for node in nodes if node["site"].endswith(".v")] or nodes
    best = max(values, key=lambda node: node["cost"] or 0)
    read = [nodes[source]["channel"] for source, target, _ in circuit["edges"] if nodes[target] is best]
    return f"{best['site']}:{best['channel']}", (read or [circuit["channels"][0]["channel"]])[0]


def prepare(page: Page, shot: str, best: str) -> None:
    """What the address does not say: where the pointer is, what is switched off."""
    if shot == "viewer-path":
        page.hover(f'.graph [data-node="{best}"]')
    if shot == "viewer-live":
        page.click("[data-switch]")
        page.wait_for_function("() => document.querySelector('[data-live][aria-busy=false] [data-loss=changed]')")


def figure(circuit: Circuit) -> None:
    """The circuit as a graph, by figures/demo.py."""
    spec = importlib.util.spec_from_file_location("demo", OUT / "demo.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for path in module.write(circuit):
        print(path)


@contextmanager
def served(found: dict[str, Any], circuit: Circuit) -> Iterator[str]:
    """The address of the page with its model behind it."""
    import uvicorn

    from sparse_circuits.viewer.server import application

    app = application(found, [circuit], warm=True)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", lifespan="off"))
    threading.Thread(target=server.run, daemon=True).start()
    while not server.started:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    server.should_exit = True


if __name__ == "__main__":
    main()
