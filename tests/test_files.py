"""A reader sees the old file or the new one, and one process at a time holds a folder."""

import errno
import os
import resource
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from sparse_circuits.errors import InputError
from sparse_circuits.files import atomic_write, claimed, locked, read_json, sweep, write_json

REPOSITORY = Path(__file__).parents[1]


def test_bytes_text_and_writers_arrive(tmp_path: Path) -> None:
    atomic_write(tmp_path / "bytes", b"\x00\xff")
    atomic_write(str(tmp_path / "text"), "ä\n")
    atomic_write(tmp_path / "writer", lambda path: path.write_text("by hand"))
    assert (tmp_path / "bytes").read_bytes() == b"\x00\xff"
    assert (tmp_path / "text").read_bytes() == "ä\n".encode()
    assert (tmp_path / "writer").read_text() == "by hand"
    assert len(list(tmp_path.iterdir())) == 3


def test_a_reader_of_the_old_file_keeps_it_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with open(path) as reader:
        atomic_write(path, "new and longer")
        assert reader.read() == "old"
    assert path.read_text() == "new and longer"


def test_the_file_is_as_readable_as_any_other(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        atomic_write(tmp_path / "file", b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


def write_to_full_device(path: Path) -> None:
    """What a writer meets on a full disk, halfway through."""
    path.write_bytes(b"half a file")
    with open("/dev/full", "wb", buffering=0) as full:
        full.write(b"the other half")


def fail_without_a_text(path: Path) -> None:
    raise OSError(None, "No space left, says a library")


@pytest.mark.parametrize(
    ("writer", "reason"),
    [
        (write_to_full_device, os.strerror(errno.ENOSPC)),
        (fail_without_a_text, "No space left, says a library"),
    ],
)
def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path, writer: object, reason: str) -> None:
    path = tmp_path / "model"
    path.write_text("old")
    with pytest.raises(InputError) as refused:
        atomic_write(path, writer)  # type: ignore[arg-type]
    assert f"cannot write {path}: " in str(refused.value)
    assert reason in str(refused.value)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_disk_that_refuses_more_bytes_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_text("old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(InputError, match="cannot write"):
            atomic_write(path, b"x" * 10_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_fault_in_the_writer_passes_through_and_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_text("old")

    def writer(temporary: Path) -> None:
        temporary.write_text("new")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        atomic_write(path, writer)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_places_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot write .*absent/file: No such file or directory"):
        atomic_write(tmp_path / "absent" / "file", b"")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match=r"cannot write .*folder: Is a directory"):
        atomic_write(tmp_path / "folder", b"")


def test_sweep_removes_what_a_killed_writer_left_and_no_other_file(tmp_path: Path) -> None:
    script = (
        "import os, signal\nfrom pathlib import Path\nfrom sparse_circuits.files import atomic_write\n"
        "atomic_write('model', lambda path: (path.write_text('half'), os.kill(os.getpid(), signal.SIGKILL)))\n"
    )
    for name in ("model", ".model.tmp", ".other.x.tmp", "model.x.tmp"):
        (tmp_path / name).write_text("kept")
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    killed = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment)
    assert killed.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 5
    sweep(tmp_path / "model")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".model.tmp", ".other.x.tmp", "model", "model.x.tmp"]
    assert (tmp_path / "model").read_text() == "kept"


def test_json_comes_back(tmp_path: Path) -> None:
    value = {"a": [1, 2.5, None, True], "ä": "\n"}
    write_json(tmp_path / "file.json", value)
    assert read_json(tmp_path / "file.json") == value


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"\xff\xfe", b"[" * 100_000])
def test_damaged_json_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file.json").write_bytes(content)
    with pytest.raises(InputError, match=r"file.json is not valid JSON"):
        read_json(tmp_path / "file.json")


def test_json_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read .*file.json: No such file"):
        read_json(tmp_path / "file.json")
    with pytest.raises(InputError, match=r"cannot read .*Is a directory"):
        read_json(tmp_path)


def test_a_second_process_is_kept_out_until_the_first_lets_go_or_is_killed(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom pathlib import Path\nfrom sparse_circuits.files import locked\n"
        "with locked(Path(sys.argv[1])):\n    print('held', flush=True)\n    sys.stdin.read()\n"
    )
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}

    def holder() -> subprocess.Popen[str]:
        started = subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )
        assert started.stdout is not None
        assert started.stdout.readline() == "held\n"
        return started

    for end in ("exit", "kill"):
        with holder() as other:
            with pytest.raises(InputError, match=r"another process is writing to .*; wait for it"), locked(tmp_path):
                pass
            if end == "kill":
                other.send_signal(signal.SIGKILL)
            else:
                other.communicate("")
            other.wait(30)
        with locked(tmp_path):
            pass


def test_a_lock_is_let_go_when_its_block_fails(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), locked(tmp_path):
        raise RuntimeError
    with locked(tmp_path):
        pass


def test_a_folder_that_is_not_there_cannot_be_held(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot write to .*absent: No such file"), locked(tmp_path / "absent"):
        pass


def test_what_is_no_ordinary_file_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="it is no ordinary file"):
        atomic_write(tmp_path / "pipe", "text")
    assert (tmp_path / "pipe").is_fifo()


def test_a_claim_is_ours_until_we_let_go(tmp_path: Path) -> None:
    with claimed(tmp_path) as first:
        with claimed(tmp_path) as second:
            assert (first, second) == (True, False)
        with pytest.raises(InputError, match="another process is writing"), locked(tmp_path):
            pass
    with claimed(tmp_path) as third:
        assert third
    with pytest.raises(InputError, match="cannot write to"), claimed(tmp_path / "nowhere"):
        pass
