"""A circuit small enough to bundle in a second, and one Chromium for all tests of the page."""

import http.client
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from playwright.sync_api import Browser, Page, sync_playwright

from sparse_circuits import kernels
from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.circuits.means import node_means
from sparse_circuits.config import GPTConfig, PruneConfig
from sparse_circuits.model import GPT
from sparse_circuits.tasks import Task, Template
from sparse_circuits.tokenizer import Tokenizer
from sparse_circuits.viewer import bundle, export_html

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"]
NODES = {
    "0.attn.act_in": (0, 3, 7, 17),
    "0.attn.q": (1, 5),
    "0.attn.k": (1,),
    "0.attn.v": (2, 6),
    "0.attn.resid_delta": (3, 7),
    "0.mlp.act_in": (3,),
    "0.mlp.post_act": (4, 9),
    "0.mlp.resid_delta": (7,),
    "1.attn.act_in": (7,),
    "1.attn.v": (0,),
    "1.attn.resid_delta": (2,),
}
WORDS = {
    "prune": "ox elk lynx hyena badger",
    "calibrate": "ant crow eagle falcon",
    "report": "bee wolf otter rabbit",
    "ood": "hippopotamus rhinoceros chameleon wildebeest",
}


@pytest.fixture(autouse=True)
def plain_kernels() -> Iterator[None]:
    """One thread, and kernels that need no compiling."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with kernels.use("reference"):
        yield
    torch.set_num_threads(threads)


def quote_task(name: str = "quotes") -> Task:
    """Close the quote that is open."""
    templates = {s: (Template(f"{s}/0", f'{s[0]}("$word', f"{s[0]}('$word", '"', "'"),) for s in WORDS}
    words = {split: {"word": tuple(words.split())} for split, words in WORDS.items()}
    return Task(name, "Close the quote that is open.", templates, words)


def small_circuit(seed: int = 0, nodes: dict[str, tuple[int, ...]] = NODES, name: str = "quotes") -> Circuit:
    """A circuit of a random model in which every node matters; one edge is dropped."""
    config = GPTConfig(
        vocab_size=257, block_size=24, n_layer=2, d_model=16, n_head=4, d_mlp=24, sink=True, bigram_table="learned",
        positions="sinusoidal_concat", d_position=4,
    )
    model = GPT(config, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.4)
    model.tokenizer = Tokenizer.train([], 257)
    model.eval()
    windows = torch.randint(257, (8, 24), generator=generator)
    link = (("0.mlp.act_in", 3), ("0.mlp.post_act", 4))
    dropped = [link] if "0.mlp.post_act" in nodes else []
    scores = torch.randn(sum_of(config), generator=generator)
    return Circuit(
        model, quote_task(name), nodes, node_means(model, windows), PruneConfig(eval_pairs=4), scores, dropped=dropped
    )


def sum_of(config: GPTConfig) -> int:
    """How many nodes a model has."""
    from sparse_circuits.circuits.nodes import NodeSpace

    return NodeSpace(config.resolved()).total


@pytest.fixture(scope="session")
def circuit() -> Circuit:
    """The circuit most tests look at."""
    with kernels.use("reference"):
        return small_circuit()


@pytest.fixture(scope="session")
def made(circuit: Circuit) -> dict[str, Any]:
    """Its bundle; not to be changed."""
    with kernels.use("reference"):
        return bundle(circuit, text_tokens=2048)


@pytest.fixture
def copied(made: dict[str, Any]) -> dict[str, Any]:
    """Its bundle, to be changed."""
    return json.loads(json.dumps(made))


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One Chromium for the whole session."""
    path = next((found for name in CHROMIUM if (found := shutil.which(name))), None)
    if path is None:
        pytest.fail("no Chromium: `apt-get install chromium` (scripts/test does that where it may)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


Opener = Callable[..., Page]


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Opener]:
    """Opens an address in a window of its own; the test fails if its scripts do."""
    contexts, problems = [], []

    def opened(address: str, **settings: Any) -> Page:
        context = browser.new_context(**({"viewport": {"width": 1280, "height": 800}} | settings))
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(address)
        page.wait_for_selector("header, [role=alert]")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert problems == []


@pytest.fixture(scope="session")
def file_address(made: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> str:
    """The one-file page of the circuit, as an address."""
    path = tmp_path_factory.mktemp("page") / "circuit.html"
    export_html(made, path)
    return path.as_uri()


class Served:
    """A server in a thread."""

    def __init__(self, app: Any):
        import uvicorn

        config = uvicorn.Config(app, port=0, log_level="warning", lifespan="off", timeout_graceful_shutdown=1)
        self.server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        deadline = time.monotonic() + 60
        while not self.server.started:
            assert time.monotonic() < deadline, "the server does not start"
            time.sleep(0.02)
        self.port = self.server.servers[0].sockets[0].getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}/"

    def _run(self) -> None:
        with kernels.use("reference"):
            self.server.run()

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of one request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        content = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {"Content-Type": "application/json"} if body is not None else {}
        try:
            connection.request(method, path, content, given | {k.replace("_", "-"): v for k, v in headers.items()})
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def stop(self) -> None:
        """End it at once."""
        self.server.should_exit = True
        self.server.force_exit = True
        self._thread.join(30)


@pytest.fixture(scope="session")
def served(made: dict[str, Any], circuit: Circuit) -> Iterator[Served]:
    """The page with its model behind it."""
    from sparse_circuits.viewer.server import application

    found = Served(application(made, [circuit]))
    yield found
    found.stop()


@pytest.fixture(scope="session", autouse=True)
def quiet_chromium() -> None:
    """Chromium looks for nothing outside."""
    os.environ.setdefault("PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD", "1")


def saved(circuit: Circuit, folder: Path) -> Path:
    """The circuit in a folder, its model in one beside."""
    from sparse_circuits import checkpoint

    checkpoint.save(circuit.model, folder / "model")
    circuit.save(folder / "circuit")
    return folder / "circuit"
