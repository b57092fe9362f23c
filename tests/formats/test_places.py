"""Where models and circuits are written: nothing else is destroyed, nothing half-written stays, nothing old remains."""

import errno
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from small_models import randomised, small

from sparse_circuits import checkpoint, files
from sparse_circuits.__main__ import main
from sparse_circuits.errors import InputError
from sparse_circuits.files import atomic_write, written_together
from sparse_circuits.formats import viz_data
from sparse_circuits.formats.convert import convert
from sparse_circuits.formats.registry import FORMATS, recognise
from sparse_circuits.model import GPT
from sparse_circuits.tokenizer import Tokenizer

MODELS = [name for name, each in FORMATS.items() if each.holds == "model"]
Failing = Callable[[int, BaseException], None]


def made(seed: int = 0, **changes: Any) -> GPT:
    model = randomised(small(vocab_size=262, **changes), seed, torch.float32)
    model.tokenizer = Tokenizer.train(["for x in range(10):\n"], 262)
    return model


def content(folder: Path) -> dict[str, bytes]:
    """Every file under `folder`, hidden ones too."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Failing:
    """Makes the writing of the so-manyth file fail, after its bytes were written."""

    def fail(number: int, error: BaseException) -> None:
        left = [number]

        def fsync(handle: int) -> None:
            left[0] -= 1
            if left[0] == 0:
                raise error

        monkeypatch.setattr(files.os, "fsync", fsync)

    return fail


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("kind", MODELS)
def test_what_is_cut_short_leaves_what_was_there(
    kind: str, error: BaseException, failing: Failing, tmp_path: Path
) -> None:
    writer = FORMATS[kind].module
    writer.write(made(), tmp_path / "old")
    before, number, told = content(tmp_path), 1, set[str]()
    while True:  # at each file
        failing(number, error)
        try:
            for out in (tmp_path / "new", tmp_path / "old"):
                writer.write(made(1), out)
            break
        except (InputError, KeyboardInterrupt) as raised:
            told.add(str(raised).partition(": ")[2])
        if not (tmp_path / "new").exists():
            assert content(tmp_path) == before
        else:  # the first of the two was complete
            written = {name: each for name, each in content(tmp_path).items() if not name.startswith("new/")}
            assert written == before
            assert checkpoint.model_hash(checkpoint.load(tmp_path / "new")) == checkpoint.model_hash(made(1))
        number += 1
    assert number > 4
    assert told == ({"No space left on device; free space or choose another folder"} if error.args else {""})
    assert checkpoint.model_hash(checkpoint.load(tmp_path / "old")) == checkpoint.model_hash(made(1))


@contextmanager
def small_disk(size: int) -> Iterator[None]:
    """No file gets larger than that many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("kind", MODELS)
def test_a_disk_that_takes_no_more_is_told_in_a_line(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint.save(made(bigram_table="none"), tmp_path / "model")
    with small_disk(10_000):
        code = main(["convert", str(tmp_path / "model"), "--to", kind, "--out", str(tmp_path / "out")])
    err = capsys.readouterr().err
    assert code == 2
    assert err.startswith(f"sparse-circuits: cannot write {tmp_path / 'out'}")
    assert err.endswith("free space or choose another folder\n")
    assert err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_circuit_file_that_the_disk_refuses_is_told_in_a_line(tmp_path: Path) -> None:
    data = viz_data.VizData({"0.attn.q": (1,)}, other={"more": torch.zeros(10_000)})
    with small_disk(10_000), pytest.raises(InputError, match=r"viz_data\.pt: PyTorch's writer fails .* free space"):
        viz_data.write(data, tmp_path / "viz_data.pt")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", MODELS)
def test_an_earlier_models_tokenizer_does_not_stay(kind: str, tmp_path: Path) -> None:
    checkpoint.save(made(), tmp_path / "one")
    checkpoint.save(randomised(small(vocab_size=300), dtype=torch.float32), tmp_path / "other")
    convert(tmp_path / "one", kind, tmp_path / "out")
    convert(tmp_path / "other", kind, tmp_path / "out")
    assert checkpoint.load(tmp_path / "out").tokenizer is None
    convert(tmp_path / "other", kind, tmp_path / "fresh")
    assert set(content(tmp_path / "out")) == set(content(tmp_path / "fresh"))


@pytest.mark.parametrize("there", MODELS)
@pytest.mark.parametrize("kind", MODELS)
def test_models_of_other_forms_are_not_written_over(
    kind: str, there: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint.save(made(), tmp_path / "model")
    FORMATS[there].module.write(made(1), tmp_path / "out")
    before = content(tmp_path / "out")
    for arguments in (
        ["export", kind, "--model", str(tmp_path / "model")],
        ["convert", str(tmp_path / "model"), "--to", kind],
    ):
        code = main([*arguments, "--out", str(tmp_path / "out")])
        if kind == there:
            assert code == 0
            found = recognise(tmp_path / "out", "model")
            assert found is not None
            assert found.name == kind
            assert checkpoint.model_hash(checkpoint.load(tmp_path / "out")) == checkpoint.model_hash(made())
        else:
            assert code == 2
            assert f"holds a model of the form {there}; choose another folder" in capsys.readouterr().err
            assert content(tmp_path / "out") == before


def test_a_trained_model_is_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint.save(made(), tmp_path / "model")
    checkpoint.save(made(1), tmp_path / "trained")
    (tmp_path / "trained" / "train.json").write_text("{}")
    before = content(tmp_path / "trained")
    assert main(["convert", str(tmp_path / "model"), "--to", "native", "--out", str(tmp_path / "trained")]) == 2
    assert "holds a model that was trained there" in capsys.readouterr().err
    assert content(tmp_path / "trained") == before


def test_files_get_their_places_together(tmp_path: Path) -> None:
    out = tmp_path / "made" / "out"
    with written_together(out, "sign", stale=("old",)) as folder:
        for name in ("a", "sign"):
            atomic_write(folder / name, name)
        assert not out.exists()
    assert content(tmp_path) == {"made/out/a": b"a", "made/out/sign": b"sign"}
    for name in ("old", "other"):
        (out / name).write_text("")

    def broken() -> None:
        with written_together(out, "sign", stale=("old",)) as folder:
            atomic_write(folder / "a", "b")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken()
    assert content(out) == {"a": b"a", "sign": b"sign", "old": b"", "other": b""}
    with written_together(out, "sign", stale=("old",)) as folder:
        atomic_write(folder / "sign", "new")
    assert content(out) == {"a": b"a", "sign": b"new", "other": b""}
    killed = out.with_name(".out.abc.tmp")
    killed.mkdir()
    other = out.with_name(".out.v2.abc.tmp")  # of a folder out.v2
    other.mkdir()
    with written_together(out, "sign") as folder:
        assert not killed.exists()
        with pytest.raises(InputError, match="out is being written by another process"), written_together(out, "sign"):
            pass
        atomic_write(folder / "sign", "new")
    other.rmdir()
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="it is a file"), written_together(tmp_path / "file", "sign"):
        pass
    with pytest.raises(InputError, match="cannot write"), written_together(tmp_path / "file" / "x", "sign"):
        pass
