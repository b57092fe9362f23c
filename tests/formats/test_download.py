"""Fetching from a server that stalls, cuts off and lies: what arrives is what there is, or it is refused in a line."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from server import Web, serve

from sparse_circuits.errors import InputError
from sparse_circuits.formats import download
from sparse_circuits.formats.download import Missing, Patience, fetch

CONTENT = bytes(range(256)) * 2000
HASTY = Patience(seconds=0.3, attempts=3, reconnections=40, pause=0.01)


@pytest.fixture
def web() -> Iterator[Web]:
    with serve(Web({"/tree/file.pt": CONTENT})) as running:
        yield running


def test_a_file_arrives_with_size_and_checksum(web: Web, tmp_path: Path) -> None:
    fetched = fetch(f"{web.address}/tree/file.pt", tmp_path / "new" / "file.pt", HASTY)
    assert fetched.path.read_bytes() == CONTENT
    assert fetched.bytes == len(CONTENT)
    assert fetched.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert fetched.line() == f"file.pt  512,000 bytes  sha256 {fetched.sha256}  (md5 as the server says)"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file.pt"]


@pytest.mark.parametrize("fault", ["cut", "stall", "drip", "503", "429"])
@pytest.mark.parametrize("ranges", [True, False])
def test_a_connection_that_fails_is_taken_up_again(fault: str, ranges: bool, web: Web, tmp_path: Path) -> None:
    web.faults, web.ranges = [fault, fault], ranges
    fetched = fetch(f"{web.address}/tree/file.pt", tmp_path / "file.pt", HASTY)
    assert fetched.path.read_bytes() == CONTENT
    asked = [given for _, given in web.asked]
    assert len(asked) == 3
    if not fault.isdigit():
        assert asked[1] is not None
        assert int(asked[1].removeprefix("bytes=").rstrip("-")) >= len(CONTENT) // 2
    # Where the server knows no ranges everything comes again.
    assert (asked[-1] is not None) == (not fault.isdigit())


def test_what_was_interrupted_goes_on_another_time(web: Web, tmp_path: Path) -> None:
    web.faults = ["cut"] + ["503"] * 9
    with pytest.raises(InputError, match=r"does not arrive .*256,000 bytes are kept; run the same again"):
        fetch(f"{web.address}/tree/file.pt", tmp_path / "file.pt", HASTY)
    assert not (tmp_path / "file.pt").exists()
    web.faults = []
    assert fetch(f"{web.address}/tree/file.pt", tmp_path / "file.pt", HASTY).path.read_bytes() == CONTENT
    assert web.asked[-1][1] == "bytes=256000-"


def test_a_file_that_has_changed_meanwhile_comes_anew(web: Web, tmp_path: Path) -> None:
    web.faults = ["cut"] + ["503"] * 9
    with pytest.raises(InputError):
        fetch(f"{web.address}/tree/file.pt", tmp_path / "file.pt", HASTY)
    web.faults, web.files["/tree/file.pt"] = [], CONTENT[::-1]
    assert fetch(f"{web.address}/tree/file.pt", tmp_path / "file.pt", HASTY).path.read_bytes() == CONTENT[::-1]


def test_a_file_that_has_shrunk_meanwhile_comes_anew(web: Web, tmp_path: Path) -> None:
    web.etag = False
    web.faults = ["cut"] + ["503"] * 9
    with pytest.raises(InputError):
        fetch(f"{web.address}/tree/file.pt", tmp_path / "file.pt", HASTY)
    web.faults, web.files["/tree/file.pt"] = [], CONTENT[:1000]
    assert fetch(f"{web.address}/tree/file.pt", tmp_path / "file.pt", HASTY).path.read_bytes() == CONTENT[:1000]


@pytest.mark.parametrize("memory", ["", "[]", '{"url": "http://elsewhere"}', '{"url": 3, "zeta": 4}'])
def test_a_part_of_unknown_origin_is_not_used(memory: str, web: Web, tmp_path: Path) -> None:
    (tmp_path / "file.pt.part").write_bytes(b"something else")
    (tmp_path / "file.pt.part.json").write_text(memory)
    assert fetch(f"{web.address}/tree/file.pt", tmp_path / "file.pt", HASTY).path.read_bytes() == CONTENT
    assert web.asked[0][1] is None


def test_what_is_complete_is_not_asked_for_again(web: Web, tmp_path: Path) -> None:
    url = f"{web.address}/tree/file.pt"
    (tmp_path / "file.pt.part").write_bytes(CONTENT)
    (tmp_path / "file.pt.part.json").write_text(json.dumps({"url": url, "total": len(CONTENT)}))
    assert fetch(url, tmp_path / "file.pt", HASTY).checked == "the server gives no checksum"
    assert web.asked == []


@pytest.mark.parametrize(
    ("lie", "message"),
    [
        ("checksum", r"arrived with the md5 [0-9a-f]{32}, the server says [0-9a-f]{32}; it is thrown away"),
        ("content", "arrived with the md5"),
        ("length", r"does not arrive \(it ends after 512,000 of 512,010 bytes\)|does not arrive"),
        ("terabytes", "needs .* bytes and .* has .*; free space"),
        ("range", "does not arrive"),
    ],
)
def test_lies_are_found_out(lie: str, message: str, web: Web, tmp_path: Path) -> None:
    web.lie = lie
    web.faults = ["cut"] * 9 if lie == "range" else []
    with pytest.raises(InputError, match=message) as refused:
        fetch(f"{web.address}/tree/file.pt", tmp_path / "file.pt", HASTY)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "file.pt").exists()


def test_a_server_that_gives_no_length_is_believed_until_it_closes(web: Web, tmp_path: Path) -> None:
    web.lie = "no length"
    assert fetch(f"{web.address}/tree/file.pt", tmp_path / "file.pt", HASTY).bytes == len(CONTENT)


def test_a_server_that_always_cuts_off_is_given_up(web: Web, tmp_path: Path) -> None:
    web.faults, web.ranges = ["cut"] * 99, False
    with pytest.raises(InputError, match="does not arrive"):
        fetch(f"{web.address}/tree/file.pt", tmp_path / "file.pt", HASTY)
    assert len(web.asked) <= HASTY.reconnections


def test_the_checksum_of_the_hub_is_kept_when_it_sends_one_on(web: Web, tmp_path: Path) -> None:
    there = f"{web.address}/tree/file.pt"
    web.checksum = False
    web.redirects = {
        "/right": (there, hashlib.sha256(CONTENT).hexdigest()),
        "/wrong": (there, "0" * 64),
        "/disk": ("file:///etc/passwd", "0" * 64),
        "/other": ("ftp://127.0.0.1/x", "0" * 64),
    }
    assert fetch(f"{web.address}/right", tmp_path / "a", HASTY).checked == "sha256 as the server says"
    with pytest.raises(InputError, match="arrived with the sha256"):
        fetch(f"{web.address}/wrong", tmp_path / "b", HASTY)
    for path in ("disk", "other"):
        with pytest.raises(InputError, match=r"is no address to fetch from|the server refuses"):
            fetch(f"{web.address}/{path}", tmp_path / "c", HASTY)
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ""] == ["a"]


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://x/y", "csp_yolo2", "http://", "", "http:// x"])
def test_only_the_web_is_fetched_from(url: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no address to fetch from"):
        fetch(url, tmp_path / "file", HASTY)


def test_two_processes_do_not_fetch_the_same_file(web: Web, tmp_path: Path) -> None:
    """A second one is told so, and spoils nothing of the first one's."""
    url, path = f"{web.address}/tree/file.pt", tmp_path / "file.pt"
    script = (
        "import sys, pathlib\n"
        "from sparse_circuits.formats.download import Patience, fetch\n"
        "print(fetch(sys.argv[1], pathlib.Path(sys.argv[2]), Patience(seconds=30, attempts=2)).bytes)\n"
    )
    web.faults = ["wait"]
    first = subprocess.Popen([sys.executable, "-c", script, url, str(path)], stdout=subprocess.PIPE, text=True)
    assert web.reached.wait(60)
    with pytest.raises(InputError, match=r"file\.pt is being fetched by another process; wait for it"):
        fetch(url, path, HASTY)
    web.go_on.set()
    assert first.communicate(timeout=60)[0] == f"{len(CONTENT)}\n"
    assert path.read_bytes() == CONTENT
    assert [each.name for each in tmp_path.iterdir()] == ["file.pt"]
    assert fetch(url, path, HASTY).bytes == len(CONTENT)


def test_what_is_not_there_is_said_at_once(web: Web, tmp_path: Path) -> None:
    with pytest.raises(Missing, match=r"the server has no such file \(status 404\)"):
        fetch(f"{web.address}/tree/other.pt", tmp_path / "other.pt", HASTY)
    web.faults = ["403"]
    with pytest.raises(InputError, match=r"the server refuses \(status 403\); .* fetch with `hf download`"):
        fetch(f"{web.address}/tree/file.pt", tmp_path / "file.pt", HASTY)
    with pytest.raises(InputError, match=r"does not arrive .*refused"):
        fetch("http://127.0.0.1:9/x", tmp_path / "x", HASTY)


def test_a_full_disk_is_told(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(InputError, match=r"file\.pt needs 512,000 bytes and .* has 1,000; free space"):
        fetch(f"{web.address}/tree/file.pt", tmp_path / "file.pt", HASTY)
    (tmp_path / "occupied").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        fetch(f"{web.address}/tree/file.pt", tmp_path / "occupied" / "file.pt", HASTY)
    assert download.Patience().seconds >= 10
