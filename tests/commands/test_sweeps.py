"""`sweep` and `tune` as commands: what they print, what they leave, and that what is there stays."""

import json
from pathlib import Path

import pytest
from command_line import Run

from sparse_circuits.settings import read_settings

pytestmark = pytest.mark.filterwarnings("ignore:task .* has . distinct pairs")
QUICK = ("--steps", 2, "--eval-pairs", 4, "--batch-pairs", 4, "--mean-tokens", 1000, "--no-clean", "--no-drop-edges")


def test_a_sweep(run: Run, model: Path, task_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    flags = ["sweep", "--out", out, "--models", model, "--tasks", task_file, "--targets", 9, 1e-6, *QUICK]
    flags += ["--methods", "learned", "random"]
    first = run(*flags, "--json")
    assert first.status == 0
    told = json.loads(first.out)
    assert [row["status"] for row in told["results"]] == ["found", "found", "not reached", "not reached"]
    assert told == json.loads((out / "sweep.json").read_text())
    assert (out / "sweep.svg").read_text().startswith("<svg ")
    second = run(*flags)
    assert f"{told['results'][0]['edges']:,} / {told['results'][1]['edges']:,}" in second.out
    assert "model vs model (random) at 9 nats: " in second.out
    assert f"saved to {out}: sweep.json, sweep.svg" in second.out
    assert json.loads((out / "sweep.json").read_text()) == told
    assert "price 0.007, now 0.5" in run(*flags, "--price", 0.5).err


def test_tuning(run: Run, model: Path, task_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    flags = ["tune", "--out", out, "--models", model, "--tasks", task_file, "--target-loss", 9, *QUICK]
    flags += ["--knobs", "price", "temperature"]
    first = run(*flags, "--trials", 2, "--json")
    assert first.status == 0
    told = json.loads(first.out)
    assert told == json.loads((out / "tune.json").read_text())
    assert [trial["default"] for trial in told["trials"]] == [True, False]
    assert told["default"]["knobs"] == {"price": 0.007, "temperature": 1.0}
    assert (out / "tune.svg").read_text().startswith("<svg ")
    settings = read_settings(out / "settings.json")
    assert {"price": settings.price, "temperature": settings.temperature} == told["best"]["knobs"]
    more = run(*flags, "--trials", 3)
    assert "best of 3 trials: " in more.out
    assert f"settings: {out / 'settings.json'}, for --settings; circuits: {out / 'circuits'}" in more.out
    (circuit,) = out.glob("circuits/*/*/circuit.json")
    pruned = run("prune", "--model", model, "--task", task_file, "--settings", out / "settings.json", "--no-report")
    assert pruned.status == 0
    kept = model / "circuits" / "closing" / "circuit.json"
    assert json.loads(kept.read_text())["nodes"] == json.loads(circuit.read_text())["nodes"]
