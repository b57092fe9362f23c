"""Compiled kernels on disk: what is whole is loaded without Numba, what is not is compiled again."""

import mmap
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sparse_circuits.kernels import (
    attention_cpu,
    cpu,
    decode,
    folded,
    fused_cpu,
    jobs,
    kept,
    matrix,
    sources,
    update_cpu,
)
from sparse_circuits.kernels.image import Image, Refused, check_machine, link, load
from sparse_circuits.kernels.kept import Kernel, Place, compiled
from sparse_circuits.kernels.threads import run

ROOT = Path(__file__).parents[2]
C_LIBRARY = {"malloc", "free", "memset", "memcpy", "memmove", "exp2", "logf"}
SMALL = Kernel("fused_loops", "combine")
JOB = np.dtype(fused_cpu._SUMS)  # type: ignore[arg-type]
FILES = f"{SMALL.module}.{SMALL.name}.*.kernel"
# Sums two rows, prints whether Numba has been loaded for it.
SCRIPT = """
import sys, torch
from sparse_circuits.kernels import fused_cpu
result = fused_cpu._sum(torch.tensor([[1.0, 2.0], [3.0, 5.0]]))
assert result.tolist() == [4.0, 7.0], result
print("numba" in sys.modules or "llvmlite" in sys.modules)
"""


def _images_load() -> bool:
    try:
        check_machine()
    except Refused:
        return False
    return True


pytestmark = pytest.mark.skipif(not _images_load(), reason="images are for Linux on x86-64")


def _all() -> Iterator[tuple[Kernel, Any]]:
    """Every kernel with every type of job that it is started with."""
    for form in {form.job for form in cpu.FORMATS.values()}:
        for module, names in [
            ("bits", "force_rows force_columns split histogram cut zero"),
            ("candidates", "sample gather settle clear put"),
            ("row_loops", "rows masked"),
        ]:
            yield from ((Kernel(module, name), form) for name in names.split())
    for job in (fused_cpu._JOBS[dtype] for dtype in fused_cpu.DTYPES):
        yield from ((Kernel("fused_loops", name), job) for name in ("forward", "by_bits", "backward"))
    yield SMALL, fused_cpu._SUMS
    for job in fused_cpu._OUTPUT_JOBS.values():
        yield from ((Kernel("output_loops", name), job) for name in ("add_rows", "cross_entropy"))
    yield Kernel("output_loops", "sum_rows"), fused_cpu._OUTPUT_JOBS[torch.float32]
    for name in ["count", "fill", "spread", "transpose", "tiles", "scatter", "sample"]:
        yield Kernel("product_loops", name), matrix.Job
    yield Kernel("decode_loops", "step"), decode._JOB
    yield Kernel("update_loops", "squares"), update_cpu._SQUARES
    for name in ["move", "sample", "ranks", "settle", "rows_again", "columns_again"]:
        yield Kernel("update_loops", name), update_cpu._JOB
    yield Kernel("attention_few", "few"), attention_cpu.Job
    yield from ((Kernel("attention_loops", name), attention_cpu.Job) for name in ("forward", "backward"))
    yield Kernel("folded_loops", "last_residuals"), folded._JOB


def test_all_kernels_are_looked_at() -> None:
    sources = (path.read_text() for path in Path(decode.__file__).parent.glob("*.py"))
    modules = {name for source in sources for name in re.findall(r'\bLoops\("(\w+)"\)', source)}
    assert len(modules) > 5
    assert modules <= {kernel.module for kernel, _ in _all()}


@pytest.mark.parametrize(("kernel", "job"), [pytest.param(*pair, id=".".join(pair[0])) for pair in _all()])
def test_needs_the_c_library_only(kernel: Kernel, job: Any) -> None:
    place = Place.of(kernel, np.dtype(job))
    assert isinstance(compiled(kernel, np.dtype(job)).owner, mmap.mmap)
    image = place.read()
    assert image is not None
    assert set(image.imports) <= C_LIBRARY


def test_a_second_process_generates_without_numba(tmp_path: Path) -> None:
    code = """
import sys, torch
import sparse_circuits as sc
from sparse_circuits.config import GPTConfig
from sparse_circuits.sparsity import project_topk_
torch.manual_seed(0)
model = sc.GPT(GPTConfig(vocab_size=50, block_size=32, n_layer=1, d_model=64, n_head=4, d_head=16))
for weight in model.parameters():
    if weight.ndim == 2:
        project_topk_(weight.data, weight.numel() // 10)
written = model.sparsify().generate(torch.arange(12)[None], 8, temperature=0.0)
print("numba" in sys.modules or "llvmlite" in sys.modules, written)
"""
    first, second = (_run(code) for _ in range(2))
    assert second == first.replace("True", "False", 1)
    assert second.startswith("False")


def _run(code: str, **environment: str) -> str:
    command = [sys.executable, "-P", "-c", code]
    told = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=told, cwd=ROOT).stdout


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with nothing but the image of SMALL."""
    compiled(SMALL, JOB)
    image = Place.of(SMALL, JOB).read()
    assert image is not None
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    Place.of(SMALL, JOB).write(image)
    (folder,) = tmp_path.iterdir()
    return folder


def _only_file(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


class TestFiles:
    def test_is_read_as_written(self, folder: Path) -> None:
        image = Place.of(SMALL, JOB).read()
        assert image is not None
        assert Image.decode(image.encode()) == image

    @pytest.mark.parametrize("length", [0, 1, 31, 32, 33, 1000, -1])
    def test_cut_short(self, folder: Path, length: int) -> None:
        path = _only_file(folder)
        path.write_bytes(path.read_bytes()[:length])
        assert Place.of(SMALL, JOB).read() is None

    @pytest.mark.parametrize("place", [0, 31, 32, 60, 1000, -1])
    def test_damaged(self, folder: Path, place: int) -> None:
        path = _only_file(folder)
        content = bytearray(path.read_bytes())
        content[place] ^= 4
        path.write_bytes(content)
        assert Place.of(SMALL, JOB).read() is None

    def test_longer_than_any_kernel(self, folder: Path) -> None:
        os.truncate(_only_file(folder), 1 << 40)
        assert Place.of(SMALL, JOB).read() is None

    def test_of_another_kernel(self, folder: Path) -> None:
        other = Place.of(Kernel("fused_loops", "forward"), JOB)
        _only_file(folder).rename(folder / other.name)
        assert other.read() is None

    def test_a_folder_in_its_place(self, folder: Path) -> None:
        path = _only_file(folder)
        path.unlink()
        path.mkdir()
        assert Place.of(SMALL, JOB).read() is None

    def test_a_pipe_in_its_place(self, folder: Path) -> None:
        path = _only_file(folder)
        path.unlink()
        os.mkfifo(path)
        assert Place.of(SMALL, JOB).read() is None  # reading it would wait for a writer

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"no head",
            b"[]\n" + bytes(64),
            b'{"entry": 0}\n' + bytes(64),
            b'{"entry": "0", "imports": {}, "addresses": []}\n' + bytes(64),
            b'{"entry": 64, "imports": {}, "addresses": []}\n' + bytes(64),
            b'{"entry": 0, "imports": {"exp2": 60}, "addresses": []}\n' + bytes(64),
            b'{"entry": 0, "imports": {}, "addresses": [-8]}\n' + bytes(64),
            b"\xff\n" + bytes(64),
        ],
    )
    def test_a_right_checksum_of_what_is_no_image(self, folder: Path, content: bytes) -> None:
        place = Place.of(SMALL, JOB)
        _only_file(folder).write_bytes(place._checksum(content) + content)
        assert place.read() is None

    def test_no_image_is_compiled_again_and_mended(self, folder: Path) -> None:
        place, path = Place.of(SMALL, JOB), _only_file(folder)
        whole = path.read_bytes()
        path.write_bytes(place._checksum(b"[]\n") + b"[]\n")
        assert isinstance(compiled(SMALL, JOB).owner, mmap.mmap)
        assert path.read_bytes() == whole

    def test_what_cannot_be_removed_sends_the_file_to_no_other_folder(
        self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        place = Place.of(SMALL, JOB)
        image = place.read()
        assert image is not None
        stuck = folder / f"{SMALL.module}.{SMALL.name}.old.kernel"
        stuck.mkdir()
        monkeypatch.setattr(kept, "_folders", lambda: [folder, tmp_path / "second"])
        place.write(image)
        assert stuck.exists()
        assert not (tmp_path / "second").exists()

    def test_is_compiled_again_and_mended(self, folder: Path) -> None:
        path = _only_file(folder)
        whole = path.read_bytes()
        path.write_bytes(whole[:-1])
        assert _run(SCRIPT) == "True\n"
        assert path.stat().st_size == len(whole)
        assert _run(SCRIPT) == "False\n"

    def test_what_a_killed_process_left_is_removed_in_time(self, folder: Path) -> None:
        place = Place.of(SMALL, JOB)
        image = place.read()
        assert image is not None
        old, new = (folder / f".{place.name}.{name}.tmp" for name in ("old", "new"))
        for left in (old, new):
            left.mkdir()
        os.utime(old, (time.time() - kept.ABANDONED - 60,) * 2)
        place.write(image)
        assert not old.exists()
        assert new.exists()


class TestSources:
    @pytest.fixture
    def copy(self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A copy of the kernels' sources, which are looked at instead; kept files lie in `folder` all the same."""
        copy = tmp_path / "sources"
        shutil.copytree(sources.FOLDER, copy, ignore=shutil.ignore_patterns("__pycache__"))
        monkeypatch.setattr(sources, "FOLDER", copy)
        monkeypatch.setattr(kept, "_folders", lambda: [folder])
        assert sources.digest() == sources.IMPORTED
        return copy

    def test_a_change_in_any_module_counts_and_old_files_go(
        self, folder: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        image, before = Place.of(SMALL, JOB).read(), _only_file(folder)
        assert image is not None
        with open(copy / "floats.py", "a") as file:
            file.write("# changed\n")
        monkeypatch.setattr(sources, "IMPORTED", sources.digest())
        changed = Place.of(SMALL, JOB)
        assert changed.read() is None
        changed.write(image)
        assert _only_file(folder).name == changed.name != before.name

    def test_nothing_is_kept_of_sources_that_changed_meanwhile(self, folder: Path, copy: Path) -> None:
        place = Place.of(SMALL, JOB)
        image = place.read()
        assert image is not None
        _only_file(folder).unlink()
        (copy / "new.py").write_text("")
        place.write(image)
        assert not list(folder.iterdir())

    def test_nothing_is_kept_of_sources_that_changed_before_the_first_kernel(self, tmp_path: Path) -> None:
        """A process that imported one half before and compiles the other after keeps nothing that others would load."""
        package = tmp_path / "sparse_circuits"
        shutil.copytree(sources.FOLDER.parent, package, ignore=shutil.ignore_patterns("__pycache__"))
        change = f"""
import sparse_circuits.model
with open({str(package / "kernels" / "sizes.py")!r}, "a") as file:
    file.write("LANES = 8")
"""
        told = {"PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "kept")}
        for before, count in ((change, 0), ("", 1)):
            _run(before + SCRIPT, **told)
            assert len(list((tmp_path / "kept").rglob(FILES))) == count

    def test_are_read_before_what_depends_on_them(self) -> None:
        code = """
import sys
import sparse_circuits.kernels.sources
print(sorted(set(sys.modules) & {f"sparse_circuits.kernels.{name}" for name in ("sizes", "jobs", "kept", "claims")}))
"""
        assert _run(code) == "[]\n"

    def test_numbas_file_of_settings_and_what_is_set_in_it_by_hand_count(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import numba

        monkeypatch.chdir(tmp_path)
        names = [Place.of(SMALL, JOB).name]
        (tmp_path / kept.NUMBA_FILE).write_text("opt: '2'\n")
        names.append(Place.of(SMALL, JOB).name)
        (tmp_path / kept.NUMBA_FILE).write_text("opt: '1'\n")
        names.append(Place.of(SMALL, JOB).name)
        (tmp_path / kept.NUMBA_FILE).unlink()
        assert Place.of(SMALL, JOB).name == names[0]
        monkeypatch.setattr(numba.config, "OPT", 0)
        names.append(Place.of(SMALL, JOB).name)
        assert len(set(names)) == 4

    def test_whether_numba_is_loaded_does_not_count(self) -> None:
        code = """
import numpy as np
from sparse_circuits.kernels.kept import Kernel, Place
name = Place.of(Kernel("bits", "zero"), np.dtype(np.int64)).name
import numba, sparse_circuits.kernels.compiler
assert Place.of(Kernel("bits", "zero"), np.dtype(np.int64)).name == name
"""
        _run(code)

    def test_settings_of_numba_and_the_type_of_job_count(self, monkeypatch: pytest.MonkeyPatch) -> None:
        names = {Place.of(SMALL, JOB).name, Place.of(SMALL, np.dtype(np.int64)).name}
        monkeypatch.setenv("NUMBA_OPT", "1")
        names.add(Place.of(SMALL, JOB).name)
        assert len(names) == 3


def test_two_processes_at_once(tmp_path: Path) -> None:
    told = os.environ | {"PYTHONPATH": str(ROOT), "NUMBA_CACHE_DIR": str(tmp_path)}
    both = [subprocess.Popen([sys.executable, "-c", SCRIPT], env=told, cwd=ROOT) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert len(list(tmp_path.rglob("*"))) == 2  # the folder and one file
    assert _run(SCRIPT, NUMBA_CACHE_DIR=str(tmp_path)) == "False\n"


def test_a_package_that_cannot_be_written_to_keeps_kernels_among_the_users_caches(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = Place.of(SMALL, JOB).read()
    assert image is not None
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    monkeypatch.setattr(sources, "digest", lambda: sources.IMPORTED)
    # Nobody, not even root, makes a folder in a file.
    monkeypatch.setattr(sources, "FOLDER", _only_file(folder))
    Place.of(SMALL, JOB).write(image)
    assert len(list((tmp_path / "caches" / "sparse_circuits").rglob(FILES))) == 1
    assert Place.of(SMALL, JOB).read() == image


class TestFallback:
    """What Numba compiles and keeps where images cannot be had."""

    SCRIPT = """
import torch
from sparse_circuits.kernels import fallback, fused_cpu, jobs, kept
def fail(*arguments):
    raise RuntimeError
kept.check_machine = fail
if {unknown}:
    fallback._kept = fail
x, y = torch.tensor([[1.0, 2.0], [3.0, 5.0]]), torch.zeros(2)
job = fused_cpu._SUMS(x=x.data_ptr(), y=y.data_ptr(), rows=2, total=2, claim=2)
jobs.start(fused_cpu.fused_loops.combine, job)
assert y.tolist() == [4.0, 7.0]
job.claim = 1 << 57
try:
    jobs.start(fused_cpu.fused_loops.combine, job)
except MemoryError:
    print("told", jobs._work(fused_cpu.fused_loops.combine, type(job)).owner.cache_hits)
"""

    def test_a_lack_of_memory_is_told_by_what_is_compiled_and_by_what_was_kept(self, tmp_path: Path) -> None:
        for hits in range(2):
            told = _run(self.SCRIPT.format(unknown=False), NUMBA_CACHE_DIR=str(tmp_path))
            assert told == f"told {hits}\n"

    def test_a_lack_of_memory_is_told_with_an_unknown_numba(self, tmp_path: Path) -> None:
        assert _run(self.SCRIPT.format(unknown=True), NUMBA_CACHE_DIR=str(tmp_path)) == "told 0\n"


class TestImages:
    Work = jobs.job_type("size bytes")

    def test_memory_is_given_back_and_its_lack_is_told(self) -> None:
        from numba import carray

        from sparse_circuits.kernels.claims import pointer
        from sparse_circuits.kernels.compiler import image_of

        def hungry(job_at: Any) -> None:
            job = carray(job_at, 1)[0]
            space = np.ones(job.size, np.float64)
            pointer(job.address + 8, np.int64(0))[0] = np.int64(space.sum())

        work = load(image_of(hungry, np.dtype(self.Work)))
        before = _resident()
        for _ in range(100):
            job = self.Work(size=1 << 20, total=1, claim=1)
            run(work, job)
            assert job.bytes == 1 << 20
        assert _resident() - before < 100 << 20  # 800 MiB were written
        with pytest.raises(MemoryError, match="found no memory"):
            run(work, self.Work(size=1 << 57, total=1, claim=1))

    def test_what_is_no_object_is_refused(self) -> None:
        with pytest.raises(Refused, match="no relocatable ELF object"):
            link(b"\x7fELF" + bytes(100), "kernel")

    def test_an_unknown_function_is_an_error_not_a_crash(self) -> None:
        with pytest.raises(AttributeError):
            load(Image(0, {"no_such_function_anywhere": 0}, [], bytes(16)))

    def test_nothing_writes_into_code(self) -> None:
        image = Image(0, {}, [], b"\xc3" + bytes(7))  # ret
        work = load(image)
        work.call(0)
        lines = Path("/proc/self/maps").read_text().splitlines()
        (there,) = [line for line in lines if line.startswith(f"{work.address:x}-")]
        assert there.split()[1] == "r-xp"

    def test_a_system_that_gives_no_memory_for_code_leaves_it_to_numba(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(image: Image) -> None:
            raise OSError("no memory for code")

        monkeypatch.setattr(kept, "load", refuse)
        work = compiled(SMALL, JOB)
        assert not isinstance(work.owner, mmap.mmap)
        rows, y = torch.ones(3, 2), torch.empty(2)
        run(work, fused_cpu._SUMS(x=rows.data_ptr(), y=y.data_ptr(), rows=3, total=2, claim=2))
        assert y.tolist() == [3.0, 3.0]


def _resident() -> int:
    """Bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE
