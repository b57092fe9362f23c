"""The server answers its own page and nobody else."""

import json
from typing import Any

import pytest
from small_circuits import Served

from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.viewer.live import Live
from sparse_circuits.viewer.server import LARGEST_BODY, POLICY, _name


def test_the_page_and_its_files(served: Served, made: dict[str, Any]) -> None:
    status, headers, body = served.ask("GET", "/")
    assert status == 200
    assert b"web/main.js" in body
    assert headers["content-security-policy"] == POLICY
    assert "unsafe-inline" not in POLICY
    assert headers["x-content-type-options"] == "nosniff"
    assert served.ask("GET", "/web/main.js")[1]["content-type"].startswith("text/javascript")
    assert json.loads(served.ask("GET", "/api/bundle")[2]) == made
    assert served.ask("GET", "/api/page")[1]["content-type"].startswith("text/plain")


@pytest.mark.parametrize(
    "path", ["/web/../server.py", "/web/%2e%2e/server.py", "/web//etc/passwd", "/web/..%2f..%2fserver.py", "/server.py"]
)
def test_nothing_outside_is_served(served: Served, path: str) -> None:
    status, _, body = served.ask("GET", path)
    assert status == 404
    assert b"starlette" not in body


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "127.0.0.1.evil.example"}, 421),
        ({"Host": ""}, 421),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
        ({"Content_Type": "text/plain"}, 415),
        ({"Content_Type": "application/x-www-form-urlencoded"}, 415),
    ],
)
def test_other_sites_are_refused(served: Served, headers: dict[str, str], status: int) -> None:
    found, answered, _ = served.ask("POST", "/api/losses", {}, **headers)
    assert found == status
    assert answered["content-security-policy"] == POLICY


def test_names_of_this_machine_are_its_own(served: Served) -> None:
    for host in ("127.0.0.1", "localhost:99", "[::1]:99"):
        assert served.ask("GET", "/api/status", Host=host)[0] == 200
    assert _name("[::1]:8000") == "[::1]"


def test_requests_are_bounded(served: Served) -> None:
    assert served.ask("POST", "/api/run", b"x" * (LARGEST_BODY + 1))[0] == 413
    assert served.ask("PUT", "/api/run", {})[0] == 405
    assert served.ask("POST", "/api/run", b"not json")[0] == 400
    assert served.ask("POST", "/api/run", b"[" * 100_000)[0] == 400
    assert served.ask("POST", "/api/run", [1])[0] == 400


def test_questions_are_answered_as_the_library_does(served: Served, circuit: Circuit) -> None:
    asked = {"prompt": 'r("wolf', "right": '"', "wrong": "'", "changes": [{"node": "0.attn.v:2", "kind": "off"}]}
    status, _, body = served.ask("POST", "/api/run", asked)
    assert status == 200
    assert json.loads(body) == Live(circuit).run(asked)
    losses = json.loads(served.ask("POST", "/api/losses", asked)[2])
    assert losses == Live(circuit).losses(asked)


@pytest.mark.parametrize(
    ("path", "asked", "said"),
    [
        ("run", {"circuit": 7}, "there is no circuit 7"),
        ("run", {"circuit": 0, "prompt": ""}, "prompt must be text"),
        ("prune", {"target_loss": -1}, "between 0 and 10"),
        ("prune", {"target_loss": "x"}, "between 0 and 10"),
        ("cancel", {"job": 12}, "there is no job 12"),
        ("cancel", {"job": "x"}, "must be the number of a job"),
    ],
)
def test_what_is_asked_wrongly_is_told(served: Served, path: str, asked: dict[str, Any], said: str) -> None:
    status, _, body = served.ask("POST", f"/api/{path}", asked)
    assert status == 400
    assert said in json.loads(body)["error"]
