"""How fast the viewer is, in a headless Chromium: opening, pointing, moving a large circuit, live ablation.

    python benchmarks/viewer.py CIRCUIT

CIRCUIT is a circuit folder. The large circuit is drawn from random numbers: 2,000 nodes and 20,000 edges, as a dense
model's circuit can have. Needs Chromium and playwright.
"""

import argparse
import contextlib
import json
import random
import shutil
import statistics
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

POINTED = """async (names) => {
  const graph = document.querySelector(".graph");
  const took = [];
  for (const name of names) {
    const box = document.querySelector(`.graph [data-node="${name}"]`).getBoundingClientRect();
    const at = { bubbles: true, clientX: box.x + box.width / 2, clientY: box.y + box.height / 2, pointerId: 1 };
    const start = performance.now();
    document.querySelector(`.graph [data-node="${name}"] .hit`).dispatchEvent(new PointerEvent("pointermove", at));
    await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
    took.push(performance.now() - start);
    if (!document.querySelector(`.graph [data-node="${name}"].lit`)) throw new Error("not lit");
    graph.dispatchEvent(new PointerEvent("pointerleave"));
  }
  return took;
}"""
OPENED = """async (names) => {
  const took = [];
  for (const name of names) {
    const hit = document.querySelector(`.graph [data-node="${name}"] .hit`);
    const start = performance.now();
    hit.dispatchEvent(new PointerEvent("pointerdown", { bubbles: true, pointerId: 1 }));
    hit.dispatchEvent(new PointerEvent("pointerup", { bubbles: true, pointerId: 1 }));
    const open = () => document.querySelector("aside h2").textContent.includes(name);
    while (!open()) await new Promise((done) => setTimeout(done));
    await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
    took.push(performance.now() - start);
  }
  return took;
}"""
MOVED = """async (kind) => {
  const graph = document.querySelector(".graph");
  const times = [];
  const start = performance.now();
  const down = { bubbles: true, pointerId: 1, clientX: 400, clientY: 400 };
  graph.dispatchEvent(new PointerEvent("pointerdown", down));
  for (let step = 0; performance.now() - start < 3000; step++) {
    const [x, y] = [400 + 200 * Math.sin(step / 20), 400 + 150 * Math.cos(step / 17)];
    const at = { bubbles: true, cancelable: true, pointerId: 1, clientX: x, clientY: y };
    if (kind === "pan") graph.dispatchEvent(new PointerEvent("pointermove", at));
    else graph.dispatchEvent(new WheelEvent("wheel", { ...at, deltaY: step % 60 < 30 ? -40 : 40 }));
    await new Promise((done) => requestAnimationFrame(done));
    times.push(performance.now());
  }
  graph.dispatchEvent(new PointerEvent("pointerup", { bubbles: true, pointerId: 1 }));
  return times.slice(1).map((each, index) => each - times[index]);
}"""


def large_bundle(like: dict[str, Any], nodes: int = 2000, edges: int = 20_000, seed: int = 0) -> dict[str, Any]:
    """A bundle with one circuit of random numbers, in a made-up dense model with the vocabulary of `like`."""
    rng = random.Random(seed)
    layers, width, heads, d_head, hidden = 4, 256, 16, 16, 1024
    widths = {"attn.act_in": width, "attn.q": width, "attn.k": width, "attn.v": width, "attn.resid_delta": width,
              "mlp.act_in": width, "mlp.post_act": hidden, "mlp.resid_delta": width}  # fmt: skip
    per_site = nodes // (layers * len(widths))
    places: dict[str, list[int]] = {}
    described: list[dict[str, Any]] = []
    for layer in range(layers):
        for site, channels in widths.items():
            name = f"{layer}.{site}"
            places[name] = []
            for channel in sorted(rng.sample(range(channels), per_site)):
                places[name].append(len(described))
                value = round(rng.gauss(0, 1), 4)
                described.append(
                    {"site": name, "channel": channel, "mean": value, "standard_error": 0.01, "held": value,
                     "cost": round(rng.expovariate(20), 5), "score": value, "seen": None}
                )  # fmt: skip
    links = [
        (f"{layer}.{source}", f"{layer}.{target}")
        for layer in range(layers)
        for source, targets in (("attn.act_in", ("attn.q", "attn.k", "attn.v")), ("attn.v", ("attn.resid_delta",)),
                                ("mlp.act_in", ("mlp.post_act",)), ("mlp.post_act", ("mlp.resid_delta",)))
        for target in targets
    ]  # fmt: skip
    joined = [
        [source, target, round(rng.gauss(0, 0.3), 4)] for a, b in links for source in places[a] for target in places[b]
    ]
    touched = {each["channel"] for each in described if each["site"].endswith(("act_in", "resid_delta"))}
    channels_described = [
        {"channel": channel, "position": False, "writes": [[rng.randrange(500), 0.2]], "written": 9,
         "reads": [[7, 0.1]], "read": 9, "values": []}
        for channel in sorted(touched)
    ]  # fmt: skip
    model = like["models"][like["circuits"][0]["model"]]
    config = model["config"] | {"n_layer": layers, "n_head": heads, "d_head": d_head, "d_model": width, "d_mlp": hidden}
    circuit = like["circuits"][0] | {
        "title": "a large circuit", "model": 0, "nodes": described,
        "edges": rng.sample(joined, min(edges, len(joined))),
        "dropped": [], "channels": channels_described, "heads": [], "pairs": [], "texts": [], "card": None,
        "sizes": {"nodes": len(described), "edges": edges, "all_nodes": 10_000},
        "curve": like["circuits"][0]["curve"] | {"order": []},
    }  # fmt: skip
    return like | {"models": [model | {"config": config}], "circuits": [circuit]}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("circuit", type=Path)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    from playwright.sync_api import sync_playwright

    from sparse_circuits.viewer import export_html
    from sparse_circuits.viewer.sources import gather

    found, circuits = gather([given.circuit], progress=True)
    rows: dict[str, float] = {}

    def add(found: dict[str, float]) -> None:
        rows.update(found)
        if not given.json:
            for name, value in found.items():
                print(f"{name:68s}{value:10.2f}", flush=True)

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        chromium = next((path for name in ("chromium", "google-chrome") if (path := shutil.which(name))), None)
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=chromium, args=flags)
        small, large = Path(folder) / "small.html", Path(folder) / "large.html"
        add({"size of the page, MB": export_html(found, small) / 1e6})
        export_html(large_bundle(found), large)
        add(_small(browser, small, found))
        add(_large(browser, large))
        browser.close()
    if circuits[0] is not None:
        add(_live(found, circuits))
    if given.json:
        print(json.dumps(rows, indent=2))


def _open(browser: Any, path: Path) -> Any:
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.goto(path.as_uri())
    page.wait_for_selector(".graph .node", state="attached")
    page.wait_for_timeout(500)
    return page


def _small(browser: Any, path: Path, found: dict[str, Any]) -> dict[str, float]:
    shown = []
    for _ in range(5):
        page = _open(browser, path)
        shown.append(
            page.evaluate(
                "performance.getEntriesByName('shown')[0].startTime"
                " - performance.getEntriesByType('navigation')[0].loadEventEnd"
            )
        )
    names = [f"{node['site']}:{node['channel']}" for node in found["circuits"][0]["nodes"]][:30]
    pointed, opened = page.evaluate(POINTED, names), page.evaluate(OPENED, names)
    return {
        "on screen after the load event, ms (median of 5)": statistics.median(shown),
        "pointing at a node lights its paths, ms (median)": statistics.median(pointed),
        "  pointing: the slowest": max(pointed),
        "a node opens, ms (median)": statistics.median(opened),
        "  opening: the slowest": max(opened),
    }


def _large(browser: Any, path: Path) -> dict[str, float]:
    page = _open(browser, path)
    page.wait_for_timeout(2000)
    rows = {}
    for kind in ("pan", "zoom"):
        frames = page.evaluate(MOVED, kind)
        rows[f"2,000 nodes, 20,000 edges: {kind}, frames a second"] = 1000 * len(frames) / sum(frames)
        rows[f"  {kind}: frames of more than 50 ms, percent"] = 100 * sum(each > 50 for each in frames) / len(frames)
        page.wait_for_timeout(500)
    names = page.evaluate("[...document.querySelectorAll('.graph .node')].slice(0, 5).map((each) => each.dataset.node)")
    rows["2,000 nodes, 20,000 edges: pointing at a node, ms (median)"] = statistics.median(
        page.evaluate(POINTED, names)
    )
    return rows


def _live(found: dict[str, Any], circuits: list[Any]) -> dict[str, float]:
    import uvicorn

    from sparse_circuits.viewer.server import application

    config = uvicorn.Config(application(found, circuits), port=0, log_level="warning", lifespan="off")
    server = uvicorn.Server(config)
    threading.Thread(target=server.run, daemon=True).start()
    while not server.started:
        time.sleep(0.02)
    address = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/api/"
    node = found["circuits"][0]["nodes"][0]
    side = found["circuits"][0]["pairs"][0]["sides"][0]
    name = f"{node['site']}:{node['channel']}"
    prompt = {"tokens": side["tokens"], "answers": [side["right"], side["wrong"]]}

    def seconds(path: str, body: dict[str, Any]) -> float:
        request = urllib.request.Request(
            address + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        return _timed(lambda: urllib.request.urlopen(request).read())

    rows = {}
    for path, kind, what in (
        ("run", "off", "a prompt, a node switched off"),
        ("losses", "off", "losses on 24 pairs, a node switched off"),
        ("losses", "set", "losses on 24 pairs, a node set to a value"),
    ):
        asked = prompt | {"changes": [{"node": name, "kind": kind, "value": 1.0}]}
        with contextlib.suppress(urllib.error.HTTPError):  # the first answer may compile kernels
            seconds(path, asked)
        took = [seconds(path, asked) for _ in range(15)]
        rows[f"live: {what}, ms (median of 15)"] = 1000 * statistics.median(took)
        rows[f"  {path}, {kind}: the slowest"] = 1000 * max(took)
    server.should_exit = True
    return rows


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
