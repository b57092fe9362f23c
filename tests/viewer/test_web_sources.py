"""`view` takes folders and bundles, keeps what it made, and writes what it is asked to."""

import json
from pathlib import Path
from typing import Any

import pytest
from small_circuits import quote_task, saved

from sparse_circuits.__main__ import main
from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.errors import InputError
from sparse_circuits.viewer import sources
from sparse_circuits.viewer.bundle import as_json, read_bundle
from sparse_circuits.viewer.sources import gather, merge


@pytest.fixture
def folder(circuit: Circuit, made: dict[str, Any], tmp_path: Path) -> Path:
    """A circuit's folder with the bundle that was made of it."""
    found = saved(circuit, tmp_path)
    (found / sources.FILE).write_text(as_json({"key": sources._key(found, None), "bundle": made}))
    return found


@pytest.fixture(autouse=True)
def own_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder's task, as `--task` would read it from a file."""
    monkeypatch.setattr("sparse_circuits.tasks.get_task", lambda name: TASK)


TASK = quote_task()


def test_what_was_made_is_used_again_until_the_circuit_changes(
    folder: Path, made: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "bundle", lambda *_, **__: pytest.fail("made anew"))
    found, circuits = gather([folder], task=TASK)
    assert found == made
    assert circuits[0] is not None
    text = (folder / "circuit.json").read_text()
    (folder / "circuit.json").write_text(text + " ")
    calls = []
    monkeypatch.setattr(sources, "bundle", lambda *_, **__: calls.append(1) or made)
    gather([folder], task=TASK)
    assert calls == [1]
    gather([folder], task=TASK)
    assert calls == [1]


def test_a_task_of_ones_own_has_to_be_given(folder: Path) -> None:
    with pytest.raises(InputError, match="pruned for a task of your own"):
        gather([folder])


def test_bundles_are_read_and_merged(made: dict[str, Any], folder: Path, tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text(as_json(made))
    assert read_bundle(tmp_path / "one.json") == made
    found, circuits = gather([folder, tmp_path / "one.json"], task=TASK)
    assert [each is None for each in circuits] == [False, True]
    assert len(found["models"]) == 1
    assert [each["title"] for each in found["circuits"]] == ["quotes (1)", "quotes (2)"]


def test_circuits_are_told_apart_by_what_differs(made: dict[str, Any], copied: dict[str, Any]) -> None:
    copied["models"][0] |= {"hash": "0" * 64, "name": "another"}
    found = merge([made, copied])
    assert [each["model"] for each in found["circuits"]] == [0, 1]
    assert [each["title"] for each in found["circuits"]] == [
        f"quotes in {made['models'][0]['name']}",
        "quotes in another",
    ]


def test_no_source_and_wrong_ones_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing to show"):
        gather([])
    with pytest.raises(InputError, match="no circuit at"):
        gather([tmp_path], task=TASK)
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(InputError, match="is no bundle"):
        gather([tmp_path / "x.json"])


def test_the_command_writes_one_file(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, data = tmp_path / "page.html", tmp_path / "data.json"
    assert (
        main(["view", str(folder), "--html", str(out), "--bundle", str(data), "--json", "--no-open", "--task", "x"])
        == 0
    )
    told = json.loads(capsys.readouterr().out)
    assert told["html"] == {"path": str(out), "bytes": out.stat().st_size}
    assert told["bundle"]["bytes"] == data.stat().st_size
    assert read_bundle(data)["circuits"][0]["title"] == "quotes"
    assert main(["view", str(folder), "--html", str(tmp_path / "no" / "page.html")]) == 2
    assert "does not exist" in capsys.readouterr().err
    assert main(["view", str(folder), "--port", "99999"]) == 2
    assert "ports are 0 to 65535" in capsys.readouterr().err
