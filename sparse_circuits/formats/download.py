"""Fetching one file over HTTP such that what arrives whole is what the server has.

1. What is there already of the file (`NAME.part`, with what the server said of it in `NAME.part.json`) is not fetched
   again: the rest is asked for, on condition that the file is still the same.
2. A connection that breaks, ends early or delivers next to nothing is given up and taken up again.
3. Size and, where the server gives one, checksum are compared; only then does the file get its name.
An interrupted fetch goes on where it was when it is started again.
"""

import base64
import binascii
import hashlib
import http.client
import json
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sparse_circuits.errors import InputError
from sparse_circuits.files import alone, write_json
from sparse_circuits.progress import Bar

CHUNK = 1 << 18
SLOWEST = 1024
"""Bytes that have to arrive within the patience, else the server counts as stalled."""


@dataclass(frozen=True)
class Patience:
    """How long to put up with a server."""

    seconds: float = 30.0
    """Without an answer, or with less than `SLOWEST` bytes."""
    attempts: int = 5
    """In a row that bring nothing new."""
    reconnections: int = 200
    """In all."""
    pause: float = 1.0
    """Seconds before the second attempt in a row; each further one waits twice as long."""


@dataclass(frozen=True)
class Fetched:
    """A file that has arrived."""

    path: Path
    bytes: int
    sha256: str
    checked: str
    """What it was compared with."""

    def line(self) -> str:
        """The same for people."""
        return f"{self.path.name}  {self.bytes:,} bytes  sha256 {self.sha256}  ({self.checked})"


@dataclass
class _Said:
    """What the server said of the file."""

    url: str
    total: int | None = None
    etag: str | None = None
    md5: str | None = None
    sha256: str | None = None


class Missing(InputError):
    """The server has no such file."""


class _Broken(Exception):
    """The connection is of no use any more; what has arrived is kept."""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, and keeps what the Hub says of a file before it sends one to where the file lies."""

    def __init__(self) -> None:
        self.linked: str | None = None

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        self.linked = headers.get("X-Linked-Etag") or self.linked
        check_address(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def check_address(url: str) -> None:
    """Refuse what is no address on the web."""
    if not re.match(r"https?://[^/\s]+", url):
        raise InputError(f"{url[:100]!r} is no address to fetch from; expected https://...")


def fetch(url: str, path: Path, patience: Patience | None = None, progress: bool = False) -> Fetched:
    """The file at `url`, at `path`, whose folder is made.

    Raises:
        Missing: the server has no such file.
        InputError: no web address, the server cannot be reached or does not deliver, what it delivers is not what it
            said, the disk is full, or another process is fetching the file. What has arrived is kept for the next
            time, unless it was wrong.
    """
    check_address(url)
    patience = patience or Patience()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with alone(path, "being fetched"):
            part = path.with_name(f"{path.name}.part")
            said = _remembered(part, url)
            _all(url, part, said, patience, progress)
            return _finish(part, path, said)
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror or error}; free space or choose another folder"
        ) from None


def fetched_before(path: Path) -> Fetched | None:
    """The file at `path` if it is there; it has its name only since all of it arrived as it should."""
    if not path.is_file():
        return None
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    return Fetched(path, path.stat().st_size, digest.hexdigest(), "fetched before")


def _all(url: str, part: Path, said: _Said, patience: Patience, progress: bool) -> None:
    """Ask until everything is there."""
    fruitless, best, reason = 0, _size(part), ""
    with Bar(part.stem, said.total or 1, progress) as bar:
        for _ in range(patience.reconnections):
            if best and _size(part) == said.total:
                return
            try:
                if _some(url, part, said, patience, bar):
                    return
            except _Broken as error:
                reason = str(error)
            # Not beyond where it was before: a server that always starts anew makes no headway.
            fruitless = 0 if _size(part) > best else fruitless + 1
            best = max(best, _size(part))
            if fruitless >= patience.attempts:
                break
            if fruitless:
                time.sleep(patience.pause * 2 ** (fruitless - 1))
    raise InputError(
        f"{url} does not arrive ({reason or 'it ends early'}), {_size(part):,} bytes are kept; run the same again to "
        "go on"
    )


def _some(url: str, part: Path, said: _Said, patience: Patience, bar: Bar) -> bool:
    """One request; whether the file is complete after it."""
    have = _size(part)
    headers = {"User-Agent": "sparse-circuits", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if said.etag:
            headers["If-Range"] = said.etag
    redirects = _Redirects()
    try:
        opener = urllib.request.build_opener(redirects)
        response = opener.open(urllib.request.Request(url, headers=headers), timeout=patience.seconds)
    except urllib.error.HTTPError as error:
        with error:
            return _refused(error, url, part, said)
    except InputError:
        raise
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _Broken(_reason(error)) from None
    with response:
        start = _begin(response, redirects.linked, part, said, have)
        with open(part, "ab" if start else "wb") as file:
            return _copy(response, file, start, said, patience, bar)


def _refused(error: urllib.error.HTTPError, url: str, part: Path, said: _Said) -> bool:
    """An answer that is no file: raises what to make of it, or says that the file is complete."""
    if error.code == 416:  # there is nothing after what we have
        if said.total is not None and _size(part) == said.total:
            return True
        part.unlink(missing_ok=True)
        raise _Broken("the server has less of it than before")
    if error.code in (408, 425, 429) or error.code >= 500:
        raise _Broken(f"status {error.code}")
    if error.code in (404, 410):
        raise Missing(f"{url}: the server has no such file (status {error.code})")
    advice = "; where it asks who you are, fetch with `hf download`, whose cache is looked in" * (
        error.code in (401, 403)
    )
    raise InputError(f"{url}: the server refuses (status {error.code}){advice}")


def _begin(response: Any, linked: str | None, part: Path, said: _Said, have: int) -> int:
    """Take down what the server says; where in the file its answer begins."""
    headers = response.headers
    start, total = 0, _whole(headers.get("Content-Length"))
    if response.status == 206:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", headers.get("Content-Range", ""))
        if found is None or int(found[1]) != have or (said.total is not None and int(found[2]) != said.total):
            part.unlink(missing_ok=True)
            raise _Broken("it sends another part than was asked for")
        start, total = have, int(found[2])
    said.total, said.etag = total, headers.get("ETag")
    if said.etag is not None and said.etag.startswith("W/"):
        said.etag = None  # such a one does not promise the same bytes
    digest = headers.get("x-ms-blob-content-md5") or (headers.get("Content-MD5") if response.status == 200 else None)
    said.md5 = _hex_of_base64(digest) or said.md5
    tag = (linked or headers.get("X-Linked-Etag") or "").strip('"')
    said.sha256 = tag.lower() if re.fullmatch(r"[0-9a-fA-F]{64}", tag) else said.sha256
    free = shutil.disk_usage(part.parent).free
    if total is not None and total - start > free:
        raise InputError(f"{part.stem} needs {total - start:,} bytes and {part.parent} has {free:,}; free space")
    write_json(_memory(part), asdict(said))
    return start


def _copy(response: Any, file: Any, have: int, said: _Said, patience: Patience, bar: Bar) -> bool:
    """Write what arrives; whether that was all of it."""
    window, since = have, time.monotonic()
    while True:
        try:
            piece = response.read1(CHUNK)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _Broken(_reason(error)) from None
        if not piece:
            break
        file.write(piece)
        have += len(piece)
        bar.update(have if said.total else 0, f"{have / 1e6:.1f} MB")
        if time.monotonic() - since > patience.seconds:
            if have - window < SLOWEST:
                raise _Broken("next to nothing arrives")
            window, since = have, time.monotonic()
    if said.total is not None and have != said.total:
        raise _Broken(f"it ends after {have:,} of {said.total:,} bytes")
    return True


def _finish(part: Path, path: Path, said: _Said) -> Fetched:
    """Compare, and give the file its name."""
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with open(part, "rb") as file:
        while piece := file.read(1 << 20):
            sha256.update(piece)
            md5.update(piece)
    given = [(said.sha256, sha256.hexdigest(), "sha256"), (said.md5, md5.hexdigest(), "md5")]
    for expected, found, kind in given:
        if expected is not None and expected != found:
            part.unlink()
            _memory(part).unlink(missing_ok=True)
            raise InputError(
                f"{said.url} arrived with the {kind} {found}, the server says {expected}; it is thrown away, try again"
            )
    kinds = [kind for expected, _, kind in given if expected is not None]
    checked = f"{' and '.join(kinds)} as the server says" if kinds else "the server gives no checksum"
    size = part.stat().st_size
    part.replace(path)
    _memory(part).unlink(missing_ok=True)
    return Fetched(path, size, sha256.hexdigest(), checked)


def _remembered(part: Path, url: str) -> _Said:
    """What the server said when the part at `part` was fetched; the part goes where that is unknown."""
    try:
        content = json.loads(_memory(part).read_text(encoding="utf-8"))
        said = _Said(**content)
        if said.url == url and part.is_file() and isinstance(said.total, int | None):
            return said
    except (OSError, ValueError, TypeError):
        pass
    part.unlink(missing_ok=True)
    return _Said(url)


def _memory(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch(r"\d{1,18}", text) else None


def _hex_of_base64(digest: str | None) -> str | None:
    if digest is None:
        return None
    try:
        return base64.b64decode(digest, validate=True).hex()
    except binascii.Error:
        return None


def _reason(error: Exception) -> str:
    cause: Any = getattr(error, "reason", error)
    return " ".join(str(cause).split())[:100] or type(error).__name__


def as_json(files: Mapping[str, Fetched]) -> dict[str, Any]:
    """Size, checksum and what that was compared with, by name."""
    return {name: {"bytes": f.bytes, "sha256": f.sha256, "checked": f.checked} for name, f in files.items()}
