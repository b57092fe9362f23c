"""A circuit small enough to bundle in a second, and one Chromium for all tests of the page."""

import json
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from small_circuits import Served, small_circuit
from small_models import plainly

from sparse_circuits import kernels
from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.viewer import bundle, export_html

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"]


@pytest.fixture(autouse=True)
def plain_kernels() -> Iterator[None]:
    """One thread, and kernels that need no compiling."""
    with plainly():
        yield


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
        page.set_default_timeout(60_000)  # for busy machines
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


@pytest.fixture(scope="session")
def served(made: dict[str, Any], circuit: Circuit) -> Iterator[Served]:
    """The page with its model behind it."""
    from sparse_circuits.viewer.server import application

    found = Served(application(made, [circuit]))
    yield found
    found.stop()
