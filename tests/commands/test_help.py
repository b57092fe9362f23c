"""Help explains every command at once."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import REPOSITORY, Result, Run

from sparse_circuits import presets
from sparse_circuits.__main__ import VERBS


def test_the_overview_names_every_command_and_fits_the_terminal(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "72")
    for flag in ("--help", "-h"):
        result = run(flag)
        assert result.status == 0
        assert result.err == ""
        for verb, summary in VERBS.items():
            assert f"{verb} {summary}" in " ".join(result.out.split())
        assert max(map(len, result.out.splitlines())) <= 72
    nothing = run()
    assert nothing == Result(2, "", result.out)
    assert run("--version").out.startswith("sparse-circuits ")


@pytest.mark.parametrize("verb", VERBS)
def test_every_command_explains_itself(run: Run, verb: str) -> None:
    for flags in (["--help"], ["-h"]):
        result = run(verb, *flags)
        assert result.status == 0
        assert result.err == ""
        assert f"usage: sparse-circuits {verb}" in result.out
        assert "--json" in result.out
        assert "--config." not in result.out


def test_a_preset_is_what_help_shows_and_flags_change(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from sparse_circuits.commands import train

    assert "--preset NAME starts from one of: demo" in run("train", "--help").out
    shown = run("train", "--preset", "demo", "--help").out
    assert "(default: 128)" in shown
    given: list[train.Command] = []
    monkeypatch.setattr(train, "run", given.append)
    assert run("train", "--preset=demo", "--steps", 3, "--out", "x").status == 0
    preset = presets.demo_train()
    config = given[0].config
    assert config.loop.steps == 3
    assert config.out == Path("x")
    assert config.model == preset.model
    assert config.loop.learning_rate == preset.loop.learning_rate


def test_help_is_quick_and_loads_no_torch() -> None:
    program = (
        "import sys; from sparse_circuits.__main__ import VERBS, main;"
        "main(['--help']); [main([verb, '--help']) for verb in VERBS];"
        "sys.exit(bool({'torch', 'numba', 'matplotlib', 'optuna', 'transformers'} & set(sys.modules)))"
    )

    def processor_seconds(*arguments: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *arguments], cwd=REPOSITORY, stdout=subprocess.DEVNULL, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    processor_seconds("-c", program)
    start = processor_seconds("-c", "pass")
    # Half a second each, the slowest being the one with most flags.
    assert processor_seconds("-m", "sparse_circuits", "--help") - start < 0.5
    assert processor_seconds("-m", "sparse_circuits", "train", "--help") - start < 0.5
