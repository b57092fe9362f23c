"""The sandbox tells programs that run from programs that do not, and stops what a program has no use for."""

from pathlib import Path

import pytest

from sparse_circuits.corpus.sandbox import failures, inputs_of


def test_places_and_last_lines_of_errors() -> None:
    found = failures(
        ["print(1)\n", "x = 1 / 0\n", "import sys\n\nsys.exit(0)\n", "import sys\n\nsys.exit(3)\n", "x =\n"]
    )
    assert found[1] == "ZeroDivisionError: division by zero"
    assert found[3] == "stopped with status 1"
    assert "invalid syntax" in found[4]
    assert set(found) == {1, 3, 4}


def test_programs_find_the_files_they_name_and_answers_to_their_questions() -> None:
    text = (
        "with open('input.txt', 'r') as f:\n    print(sum(int(line) for line in f))\n"
        "a, b = open('prices.csv').readline().split(',')\n"
        "assert int(input('how many')) == 5\n"
        "with open('output.txt', 'w') as f:\n    f.write('done')\n"
        "assert open('output.txt').read() == 'done'\n"
    )
    assert failures([text]) == {}
    assert inputs_of(text) == {
        "input.txt": "3\n14\n15\n",
        "prices.csv": "7,12\n3,40\n5,8\n",
        "output.txt": "3\n14\n15\n",
    }


def test_each_program_starts_afresh() -> None:
    assert set(failures(["import math\n\nmath.pi = 3\nopen('left.txt', 'w').close()\n", LOOKING])) == set()


LOOKING = "import math\nimport os\n\nassert math.pi > 3.1\nassert not os.path.exists('left' + '.txt')\n"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("import socket\n\nsocket.socket()\n", "socket"),
        ("import os\n\nos.system('true')\n", "os.system is not allowed"),
        ("import subprocess\n\nsubprocess.run(['true'])\n", "subprocess.Popen is not allowed"),
        ("import os\n\nos.fork()\n", "os.fork is not allowed"),
        ("x = bytearray(2 ** 31)\n", "MemoryError"),
        ("with open('big.txt', 'wb') as f:\n    f.write(bytes(2 ** 21))\n", "File too large"),
    ],
)
def test_what_is_refused(text: str, error: str) -> None:
    assert error in failures([text])[0]


def test_writing_elsewhere_is_refused(tmp_path: Path) -> None:
    found = failures([f"open({str(tmp_path / 'out')!r}, 'w')\n", "open('../out', 'a')\n"])
    assert "is not allowed here" in found[0]
    assert "is not allowed here" in found[1]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "change",
    [
        "os.remove({0!r})",
        "os.rename({0!r}, 'taken.txt')",
        "os.rename('errors', {0!r})",
        "os.truncate({0!r}, 0)",
        "os.chmod({0!r}, 0)",
        "os.rmdir(os.path.dirname({0!r}))",
        "os.mkdir({0!r} + '.new')",
        "os.symlink({0!r}, 'link')\nopen('link', 'w')",
        "shutil.rmtree(os.path.dirname({0!r}))",
        "open({0!r}.encode(), 'w')",
        "os.open(pathlib.Path({0!r}), os.O_WRONLY)",
        "pathlib.Path({0!r}).unlink()",
    ],
)
def test_nothing_elsewhere_is_changed(change: str, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_text("kept")
    mode = kept.stat().st_mode
    found = failures([f"import os, pathlib, shutil\n\n{change.format(str(kept))}\n"])
    assert "not allowed here" in found[0]
    assert (kept.read_text(), kept.stat().st_mode, len(list(tmp_path.iterdir()))) == ("kept", mode, 1)


def test_a_program_has_its_own_folder_to_itself() -> None:
    text = (
        "import os, shutil\n\nos.mkdir('a')\nopen('a/b', 'w').close()\nos.rename('a/b', 'a/c')\n"
        "os.symlink('a', 'l')\nos.remove('l')\nos.remove('a/c')\nos.mkdir('a/d')\nshutil.rmtree('a')\nprint('é')\n"
    )
    assert failures([text]) == {}


def test_an_endless_loop_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    assert failures(["while True:\n    pass\n", "print(1)\n"], seconds=1) == {0: "stopped by signal 24"}
