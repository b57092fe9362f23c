"""`sparse-circuits view`: see circuits in the browser, with the model behind them, or write the page as one file."""

import json
import sys
import webbrowser
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from sparse_circuits.errors import InputError


@dataclass(frozen=True)
class Command:
    """Open the page of one or several circuits: the whole graph, any prompt token by token, live ablation."""

    circuits: Positional[tuple[Path, ...]]
    """Circuit folders as `prune` writes them, MODEL/TASK for one that ships (small-sparse/single_double_quote), or
    bundles (.json) that --bundle wrote."""
    html: Path | None = None
    """Write the page as one offline HTML file there and stop: no server, no model, opens by double click."""
    bundle: Path | None = None
    """Write the page's data as JSON there and stop."""
    corpus: Path | None = None
    """Packed corpus to look for what nodes fire on; by default the one the model was trained on, or where that is not
    here generated programs and Python's standard library."""
    task: str | None = None
    """The circuits' task where it is one of your own: its .jsonl or .py file."""
    bridge: Path | None = None
    """A bridge (`sparse-circuits bridge`) between the circuits' model and a dense one, which can then be steered."""
    open: bool = True
    """Open the browser."""
    host: str = "127.0.0.1"
    """Address to listen on. Anybody who reaches it can make this machine compute: keep it on loopback."""
    port: int = 0
    """Port to listen on; 0 takes any free one."""
    json: bool = False
    """Print the address, or what was written, as JSON."""


def run(command: Command) -> None:
    """Make the bundle, then write it or serve it."""
    if command.html is None and command.bundle is None:
        _need_server()
    for path in (command.html, command.bundle):
        if path is not None and not path.absolute().parent.is_dir():
            raise InputError(f"{path} is in a folder that does not exist; choose another")
    if not 0 <= command.port <= 65535:
        raise InputError(f"--port is {command.port}; ports are 0 to 65535")
    from sparse_circuits.tasks import get_task
    from sparse_circuits.viewer.sources import gather

    task = None if command.task is None else get_task(command.task)
    found, circuits = gather(command.circuits, command.corpus, task, progress=True)
    written = {}
    if command.bundle is not None:
        from sparse_circuits.files import atomic_write
        from sparse_circuits.viewer.bundle import as_json

        text = as_json(found)
        atomic_write(command.bundle, text)
        written["bundle"] = {"path": str(command.bundle), "bytes": len(text.encode())}
    if command.html is not None:
        from sparse_circuits.viewer.onefile import export_html

        written["html"] = {"path": str(command.html), "bytes": export_html(found, command.html)}
    if written:
        _tell(command, written)
        return
    from sparse_circuits.viewer.server import serve

    steered = None
    if command.bridge is not None:
        from sparse_circuits import checkpoint
        from sparse_circuits.bridges.bridge import Bridge
        from sparse_circuits.viewer.steer import Steered

        bridge = Bridge.load(command.bridge)
        if checkpoint.model_hash(bridge.sparse) not in {model["hash"] for model in found["models"]}:
            raise InputError(f"{command.bridge} bridges another sparse model than the circuits'; prune its own first")
        steered = Steered(bridge)
    folders = [path for path in command.circuits if path.is_dir()]
    out = folders[0].absolute().parent if folders else None

    def ready(address: str) -> None:
        if command.json:
            print(json.dumps({"address": address}), flush=True)
        else:
            print(f"{address} (Ctrl-C ends it)", flush=True)
        if command.open:
            webbrowser.open(address)

    serve(found, circuits, command.host, command.port, out, ready, steered)


def _tell(command: Command, written: dict[str, dict[str, object]]) -> None:
    if command.json:
        print(json.dumps(written))
        return
    for kind, each in written.items():
        print(f"{kind}: {each['path']} ({int(str(each['bytes'])) / 1e6:.1f} MB)")
    if command.html is not None and command.open and sys.stdout.isatty():
        webbrowser.open(command.html.absolute().as_uri())


def _need_server() -> None:
    from importlib.util import find_spec

    if find_spec("starlette") is None or find_spec("uvicorn") is None:
        raise InputError(
            "the server needs starlette and uvicorn: pip install 'sparse-circuits[viewer]'; or write one file that "
            "needs neither with --html PAGE.html"
        )
