"""A web server on this machine that serves files, badly where it is told to."""

import base64
import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Web:
    """What there is to serve, and how."""

    files: dict[str, bytes] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    """What goes wrong with the next answers, one each; then nothing does."""
    ranges: bool = True
    checksum: bool = True
    etag: bool = True
    lie: str = ""
    """What every answer lies about."""
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    """Path and range of each request."""
    address: str = ""
    reached: threading.Event = field(default_factory=threading.Event)
    """Set when half of an answer with the fault "wait" is on its way; the rest follows when `go_on` is set."""
    go_on: threading.Event = field(default_factory=threading.Event)
    redirects: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Path to the address and the checksum it is sent on with."""


@contextmanager
def serve(web: Web) -> Iterator[Web]:
    """`web` at `web.address`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: object) -> None:
            pass

        def do_GET(self) -> None:
            answer(self, web)
            self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    web.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def answer(handler: BaseHTTPRequestHandler, web: Web) -> None:
    given = handler.headers.get("Range")
    web.asked.append((handler.path, given))
    fault = web.faults.pop(0) if web.faults else ""
    if fault.isdigit():
        handler.send_error(int(fault))
        return
    if handler.path in web.redirects:
        address, checksum = web.redirects[handler.path]
        handler.send_response(302)
        handler.send_header("Location", address)
        handler.send_header("X-Linked-Etag", f'"{checksum}"')
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return
    content = web.files.get(handler.path)
    if content is None:
        handler.send_error(404)
        return
    tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
    start = 0
    condition = handler.headers.get("If-Range")
    if given is not None and web.ranges and condition in (None, tag):
        start = int(given.removeprefix("bytes=").rstrip("-"))
        if start >= len(content):
            handler.send_error(416)
            return
    body = content[start:]
    handler.send_response(206 if start else 200)
    if start:
        shift = 1 if web.lie == "range" else 0
        handler.send_header("Content-Range", f"bytes {start + shift}-{len(content) - 1}/{len(content)}")
    extra = {"length": 10, "terabytes": 1 << 50}.get(web.lie, 0)
    if web.lie != "no length":
        handler.send_header("Content-Length", str(len(body) + extra))
    if web.etag:
        handler.send_header("ETag", tag)
    if web.checksum:
        digest = hashlib.md5(b"other" if web.lie == "checksum" else content, usedforsecurity=False).digest()
        handler.send_header("x-ms-blob-content-md5" if start else "Content-MD5", base64.b64encode(digest).decode())
    handler.end_headers()
    if web.lie == "content":
        body = bytes(len(body))
    if fault in ("cut", "stall", "drip"):
        half = len(body) // 2
        handler.wfile.write(body[:half])
        handler.wfile.flush()
        for at in range({"cut": 0, "stall": 1, "drip": 8}[fault]):
            time.sleep(0.4 if fault == "stall" else 0.08)
            handler.wfile.write(body[half + at :][:1] if fault == "drip" else b"")
            handler.wfile.flush()
        return
    if fault == "wait":
        handler.wfile.write(body[:1000])
        handler.wfile.flush()
        web.reached.set()
        web.go_on.wait(60)
        body = body[1000:]
    handler.wfile.write(body)
