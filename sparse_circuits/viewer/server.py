"""The page with a model behind it: files of the page, the bundle, and live questions. Loopback only by default.

What keeps it safe, in `Guard`: the Host header must be one of its own names (so that no site can rebind a name of
theirs to this address), requests that change or compute anything must be JSON from the page's own origin, bodies are
small, questions wait for each other and only so many may wait, and every answer carries a content security policy
without inline script. Nothing is served but the page's own files.
"""

import asyncio
import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.errors import InputError
from sparse_circuits.viewer.bundle import as_json, bundle
from sparse_circuits.viewer.jobs import Jobs
from sparse_circuits.viewer.live import Live
from sparse_circuits.viewer.onefile import page
from sparse_circuits.viewer.reprune import reprune
from sparse_circuits.viewer.schema import WEB
from sparse_circuits.viewer.sources import merge
from sparse_circuits.viewer.steer import Steered

LARGEST_BODY = 256 * 1024
MOST_WAITING = 6
"""Live questions that may wait for the one that is being answered."""
SECONDS = 60.0
"""For a live question to be answered."""
KINDS = {".js": "text/javascript", ".css": "text/css", ".json": "application/json", ".html": "text/html"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob: data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
LOCAL = ("127.0.0.1", "localhost", "[::1]")


class Guard:
    """Refuses requests that do not come from the page, before anything reads them."""

    def __init__(self, app: ASGIApp, hosts: Sequence[str]):
        self._app, self._hosts = app, frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in scope["headers"]}
        refusal = self._refusal(scope["method"], headers)

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message.get("headers", []),
                    (b"content-security-policy", POLICY.encode()),
                    (b"x-content-type-options", b"nosniff"),
                    (b"referrer-policy", b"no-referrer"),
                    (b"cross-origin-resource-policy", b"same-origin"),
                    (b"cross-origin-opener-policy", b"same-origin"),
                    (b"cache-control", b"no-store"),
                ]
            await send(message)

        if refusal is not None:
            status, text = refusal
            await JSONResponse({"error": text}, status)(scope, receive, guarded)
            return
        await self._app(scope, receive, guarded)

    def _refusal(self, method: str, headers: dict[str, str]) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if _name(host) not in self._hosts:
            return 421, "this server answers only under its own name"
        site = headers.get("sec-fetch-site", "same-origin")
        if site not in ("same-origin", "none"):
            return 403, "requests from other sites are refused"
        origin = headers.get("origin")
        if origin is not None and origin != f"http://{host}":
            return 403, "requests from other origins are refused"
        if method == "GET":
            return None
        if method != "POST":
            return 405, "only GET and POST are answered"
        if headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            return 415, "send application/json"
        length = headers.get("content-length", "")
        if not length.isdecimal():
            return 411, "say how long the request is"
        return (413, f"at most {LARGEST_BODY} bytes are read") if int(length) > LARGEST_BODY else None


def _name(host: str) -> str:
    """A Host header without its port."""
    return host[: host.index("]") + 1] if host.startswith("[") and "]" in host else host.partition(":")[0]


class Service:
    """What the routes share: the bundle as it is now, the circuits that can be asked, the jobs."""

    def __init__(
        self,
        found: dict[str, Any],
        circuits: Sequence[Circuit | None],
        out: Path | None = None,
        steered: Steered | None = None,
    ):
        self.bundle, self.steered = found, steered
        self.live = [None if circuit is None else Live(circuit) for circuit in circuits]
        self.jobs = Jobs()
        self.out = out
        self._turn = threading.Semaphore(1)
        self._waiting = 0
        self._adding = threading.Lock()

    def warm(self) -> None:
        """Load the kernels that the first question would wait for."""
        with self._turn:
            for live in self.live[:1]:
                if live is not None:
                    live.run({"tokens": [0], "answers": [0, 1]})
                    live.losses({})

    def of(self, asked: dict[str, Any]) -> Live:
        """The circuit a question is about."""
        place = asked.get("circuit", 0)
        if not isinstance(place, int) or not 0 <= place < len(self.live):
            raise InputError(f"there is no circuit {place!r}; there are {len(self.live)}")
        live = self.live[place]
        if live is None:
            raise InputError("this circuit came from a bundle file, without its model; give its folder to `view`")
        return live

    async def ask(self, question: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Answer one question at a time."""
        if self._waiting >= MOST_WAITING:
            raise Busy
        self._waiting += 1
        try:
            return await asyncio.wait_for(run_in_threadpool(self._in_turn, question), SECONDS)
        finally:
            self._waiting -= 1

    def _in_turn(self, question: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        with self._turn:
            return question()

    def steer(self, asked: dict[str, Any]) -> dict[str, Any]:
        """What a bridged dense model says when it is steered."""
        if self.steered is None:
            raise InputError("there is no bridge here; give its folder to `view` with --bridge")
        return self.steered.sweep(asked)

    def prune(self, live: Live, target: float) -> dict[str, Any]:
        """Prune anew and add what is found to the bundle; runs as a job."""
        circuit, folder = reprune(live.circuit, target, self.out)
        found = bundle(circuit)
        with self._adding:
            self.bundle = merge([self.bundle, found])
            self.live.append(Live(circuit))
            place = len(self.live) - 1
        return {"circuit": place, "nodes": circuit.size, "edges": len(circuit.edges), "folder": str(folder or "")}


class Busy(Exception):
    """Too many questions wait."""


def application(
    found: dict[str, Any],
    circuits: Sequence[Circuit | None],
    hosts: Sequence[str] = LOCAL,
    out: Path | None = None,
    warm: bool = False,
    steered: Steered | None = None,
) -> Guard:
    """The ASGI application.

    Args:
        circuits: those of the bundle, in its order; None for one that cannot be executed.
        hosts: names under which it may be asked.
        out: where circuits that are pruned anew are saved; nowhere if None.
        warm: load at once, beside, what the first question needs.
        steered: a bridge whose dense model can be steered.
    """
    service = Service(found, circuits, out, steered)
    if warm:
        threading.Thread(target=service.warm, daemon=True, name="warm").start()
    files = {f"web/{path.relative_to(WEB).as_posix()}": path for path in WEB.rglob("*") if path.suffix in KINDS}

    async def index(request: Request) -> Response:
        return Response((WEB / "index.html").read_bytes(), media_type="text/html")

    async def file(request: Request) -> Response:
        path = files.get(f"web/{request.path_params['path']}")
        if path is None:
            return JSONResponse({"error": "there is no such file"}, 404)
        return Response(path.read_bytes(), media_type=KINDS[path.suffix])

    async def whole_bundle(request: Request) -> Response:
        return Response(as_json(service.bundle), media_type="application/json")

    async def whole_page(request: Request) -> Response:
        return Response(page(service.bundle), media_type="text/plain")

    async def status(request: Request) -> Response:
        can = [each is not None for each in service.live]
        jobs = [job.described() for job in service.jobs.all()]
        return JSONResponse({"live": can, "jobs": jobs, "steer": service.steered is not None})

    routes = [
        Route("/", index),
        Route("/web/{path:path}", file),
        Route("/api/bundle", whole_bundle),
        Route("/api/page", whole_page),
        Route("/api/status", status),
        Route("/api/run", _answering(service, lambda live, asked: live.run(asked)), methods=["POST"]),
        Route("/api/losses", _answering(service, lambda live, asked: live.losses(asked)), methods=["POST"]),
        Route("/api/steer", _steering(service), methods=["POST"]),
        Route("/api/prune", _pruning(service), methods=["POST"]),
        Route("/api/cancel", _cancelling(service), methods=["POST"]),
    ]
    app = Starlette(routes=routes)
    app.state.service = service
    return Guard(app, hosts)


async def _asked(request: Request) -> dict[str, Any]:
    """The JSON object that a request holds."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > LARGEST_BODY:
            raise InputError(f"at most {LARGEST_BODY} bytes are read")
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InputError("the request is not valid JSON") from error
    if not isinstance(found, dict):
        raise InputError("the request must be a JSON object")
    return found


def _safely(handler: Callable[[Request], Any]) -> Callable[[Request], Any]:
    """What was asked wrongly becomes an answer that says so."""

    async def answered(request: Request) -> Response:
        try:
            return JSONResponse(await handler(request))
        except InputError as error:
            return JSONResponse({"error": str(error)}, 400)
        except Busy:
            return JSONResponse({"error": "too many questions at once; ask again in a moment"}, 503)
        except TimeoutError:
            return JSONResponse({"error": f"no answer within {SECONDS:g} seconds"}, 504)
        except asyncio.CancelledError:
            return JSONResponse({"error": "the server is stopping"}, 503)

    return answered


def _answering(service: Service, answer: Callable[[Live, dict[str, Any]], dict[str, Any]]) -> Callable[..., Any]:
    async def handler(request: Request) -> dict[str, Any]:
        asked = await _asked(request)
        live = service.of(asked)
        return await service.ask(lambda: answer(live, asked))

    return _safely(handler)


def _steering(service: Service) -> Callable[..., Any]:
    async def handler(request: Request) -> dict[str, Any]:
        asked = await _asked(request)
        return await service.ask(lambda: service.steer(asked))

    return _safely(handler)


def _pruning(service: Service) -> Callable[..., Any]:
    async def handler(request: Request) -> dict[str, Any]:
        asked = await _asked(request)
        live, target = service.of(asked), asked.get("target_loss")
        if not isinstance(target, int | float) or isinstance(target, bool) or not 0 < target < 10:
            raise InputError("target_loss must be a number of nats between 0 and 10")
        title = f"{live.circuit.task.name} at {target:g} nats"
        return service.jobs.add(title, lambda: service.prune(live, float(target))).described()

    return _safely(handler)


def _cancelling(service: Service) -> Callable[..., Any]:
    async def handler(request: Request) -> dict[str, Any]:
        asked = await _asked(request)
        number = asked.get("job")
        if not isinstance(number, int):
            raise InputError("job must be the number of a job")
        return service.jobs.cancel(number).described()

    return _safely(handler)


def serve(
    found: dict[str, Any],
    circuits: Sequence[Circuit | None],
    host: str,
    port: int,
    out: Path | None,
    ready: Callable[[str], None],
    steered: Steered | None = None,
) -> None:
    """Serve until Ctrl-C.

    Args:
        port: 0 for any free one.
        ready: called with the address once it can be opened.

    Raises:
        InputError: the port is taken.
    """
    import socket

    import uvicorn

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise InputError(f"cannot listen on {host}, port {port}: {error.strerror}; choose another --port") from error
    name = f"[{host}]" if ":" in host else host
    address = f"http://{name}:{listening.getsockname()[1]}/"
    app = application(found, circuits, (*LOCAL, name), out, warm=True, steered=steered)
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=5,
        limit_concurrency=64,
        lifespan="off",
        timeout_graceful_shutdown=2,
    )
    with listening:
        ready(address)
        uvicorn.Server(config).run(sockets=[listening])
