"""`sparse-circuits bench`."""

import json

import pytest
import torch

from sparse_circuits.__main__ import main
from sparse_circuits.bench import cases
from sparse_circuits.bench.cases import CASES, Case
from sparse_circuits.bench.plan import Plan
from sparse_circuits.bench.timing import Row
from sparse_circuits.commands.bench import amount


def test_cases_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(CASES)
    assert main(["bench", "--list", "--json", "--only", "memory"]) == 0
    assert list(json.loads(capsys.readouterr().out)) == ["memory"]


def test_an_unknown_case_is_refused_with_the_choices(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--only", "generat"]) == 2
    error = capsys.readouterr().err
    assert "did you mean 'generate'?" in error
    assert all(name in error for name in CASES)
    assert error.count("\n") == 1


def rows(plan: Plan) -> list[Row]:
    plan.say("made up: begins")
    return [
        Row("made up", "met", "other", 0.01, 0.002, "s", plan.target(5.0), "equal", first=3.0),
        Row("made up", "missed", "other", 4e9, 1e9, "B", plan.target(5.0), "DIFFER", agree=False),
    ]


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cases.CASES, "made-up", Case("nothing at all", rows))


@pytest.mark.usefixtures("made_up")
def test_the_table_says_what_was_missed_and_what_differs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--only", "made-up"]) == 0
    out, error = capsys.readouterr()
    assert error == "made up: begins\n"
    assert "10 ms" in out
    assert "5.0, MISSED" in out
    assert "missed: made up (missed, against other)" in out
    assert "RESULTS DIFFER: made up (missed)" in out
    assert "made up: compile, once: 3.0 s" in out
    assert "threads 1" in out


@pytest.mark.usefixtures("made_up")
def test_json_has_ratio_and_verdict_and_a_quick_run_no_targets(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--only", "made-up", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(row["ratio"], row["met"]) for row in found["rows"]] == [(5.0, True), (4.0, False)]
    assert found["machine"]["torch"] == torch.__version__
    assert main(["bench", "--only", "made-up", "--json", "--quick"]) == 0
    assert [row["met"] for row in json.loads(capsys.readouterr().out)["rows"]] == [None, None]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_its_rows_say_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--json", "--only", *(name for name in CASES if name.startswith("cuda"))]) == 0
    found = json.loads(capsys.readouterr().out)["rows"]
    assert [(row["results"], row["met"], row["target"]) for row in found] == [
        ("not measured", None, 5.0),
        ("not measured", None, 5.0),
        ("not measured", None, 2.0),
    ]


def test_the_kernels_are_measured_and_agree(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--quick", "--json", "--only", "abs-topk", "projection"]) == 0
    found = json.loads(capsys.readouterr().out)["rows"]
    assert all(row["agree"] and row["ratio"] > 0 and row["theirs"] > 0 for row in found)
    assert {row["case"] for row in found} == {"abs-topk", "projection"}


def test_amounts_have_fitting_units() -> None:
    assert amount(0.0123, "s") == "12.3 ms"
    assert amount(1.234, "s") == "1.23 s"
    assert amount(1.5e9, "B") == "1,500 MB"
