"""`sparse-circuits generate`: what is shown, when, and where it ends."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from command_line import REPOSITORY, Run, one_line

from sparse_circuits import checkpoint


@pytest.fixture
def endless(model: Path) -> Path:
    """The folder of a model that never ends a document."""
    loaded = checkpoint.load(model)
    loaded.final_logits_bias[-1] = -1e9
    checkpoint.save(loaded, model)
    return model


def test_samples_are_told_apart_and_are_those_of_one_batch(run: Run, model: Path) -> None:
    flags = ["generate", "--model", model, "--prompt", "x = ", "--max-new-tokens", 9]
    continuations = json.loads(run(*flags, "--samples", 3, "--json").out)["continuations"]
    expected = "".join(f"=== sample {number} ===\nx = {text}\n" for number, text in enumerate(continuations, 1))
    assert run(*flags, "--samples", 3).out == expected
    assert json.loads(run(*flags, "--samples", 2, "--json").out)["continuations"] == continuations[:2]
    assert run(*flags).out == f"x = {continuations[0]}\n"


def test_prompts_of_a_file(run: Run, model: Path, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("x = [\n\nwhile é\n")
    flags = ["generate", "--model", model, "--max-new-tokens", 5, "--samples", 2, "--prompts"]
    results = json.loads(run(*flags, tmp_path / "p.txt", "--json").out)
    assert [result["prompt"] for result in results] == ["x = [", "while é"]
    assert [len(result["continuations"]) for result in results] == [2, 2]
    shown = run(*flags, tmp_path / "p.txt").out
    assert "=== prompt 2, sample 1 ===\nwhile é" + results[1]["continuations"][0] + "\n=== prompt 2, s" in shown
    (tmp_path / "p.jsonl").write_text('"x = ["\n{"prompt": "while é", "id": 3}\n')
    assert json.loads(run(*flags, tmp_path / "p.jsonl", "--json").out) == results


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.txt", b"\n \n", "p.txt holds no prompts; write one a line"),
        ("p.txt", b"a\xff", "p.txt is not UTF-8 (byte 1); save it as UTF-8"),
        ("p.jsonl", b'"a"\n{"text": "b"}', 'p.jsonl:2: expected a JSON string or an object {"prompt": ...}'),
        ("p.jsonl", b"\n[", "p.jsonl:2: not JSON"),
        ("nowhere/p.txt", None, "p.txt: No such file or directory"),
    ],
)
def test_wrong_files_of_prompts(run: Run, model: Path, tmp_path: Path, name: str, content: bytes, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert message in one_line(run("generate", "--model", model, "--prompts", tmp_path / name))


def test_a_file_of_prompts_as_windows_writes_it(run: Run, model: Path, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_bytes(b"\xef\xbb\xbfx = 1\r\ny\r\n")
    result = run("generate", "--model", model, "--prompts", tmp_path / "p.txt", "--max-new-tokens", 1, "--json")
    assert [each["prompt"] for each in json.loads(result.out)] == ["x = 1", "y"]


def test_prompts_from_two_places(run: Run, model: Path) -> None:
    flags = ["generate", "--model", model, "--prompt", "x", "--prompts", "y"]
    assert one_line(run(*flags)) == "--prompt and --prompts are both given; choose one"


def test_a_text_ends_with_its_stop_wherever_tokens_are_cut(run: Run, endless: Path) -> None:
    flags = ["generate", "--model", endless, "--prompt", "x = ", "--max-new-tokens", 40, "--json"]
    (whole,) = json.loads(run(*flags).out)["continuations"]
    for stop in (whole[7:11], whole[10:12], whole[9]):
        (text,) = json.loads(run(*flags, "--stop", "not this", stop).out)["continuations"]
        assert text == whole[: whole.index(stop) + len(stop)]
        assert run(*flags[:-1], "--stop", stop).out == f"x = {text}\n"
    assert "--stop holds an empty text" in one_line(run(*flags, "--stop", ""))


@contextmanager
def started(*arguments: object) -> Iterator[subprocess.Popen[bytes]]:
    """A command that goes on by itself."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-m", "sparse_circuits", "generate", *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=REPOSITORY, env=environment, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def test_tokens_come_as_they_are_made_and_ctrl_c_shows_what_is_there(endless: Path) -> None:
    with started("--model", endless, "--prompt", "x =", "--max-new-tokens", 10**8, "--samples", 2) as process:
        assert process.stdout is not None
        begin = process.stdout.read(100)
        assert begin.startswith(b"=== sample 1 ===\nx =")
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == b"sparse-circuits: interrupted\n"
    second = rest.split(b"\n=== sample 2 ===\n")[1]
    assert second.startswith(b"x =")
    assert second.endswith(b"\n")
    # The second sample went on beside the first.
    assert len(second) > 50


def test_a_reader_that_goes_away_ends_it_quietly(endless: Path) -> None:
    with started("--model", endless, "--max-new-tokens", 10**8) as process:
        assert process.stdout is not None
        assert process.stdout.read(50).startswith(b"def ")
        process.stdout.close()
        assert process.wait(timeout=60) == 1
        assert process.stderr is not None
        assert process.stderr.read() == b""
