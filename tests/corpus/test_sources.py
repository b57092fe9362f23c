"""File sources read what Python reads, in a fixed order, and count what they leave out."""

import os
import sys
import sysconfig
from pathlib import Path

import pytest

from sparse_circuits.corpus import sources
from sparse_circuits.corpus.sources import FolderSource, IdiomsSource, InstalledSource
from sparse_circuits.errors import InputError


def write(root: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def test_files_come_in_the_order_of_their_paths_and_only_python_files(tmp_path: Path) -> None:
    write(
        tmp_path,
        {"b.py": "b = 1\n", "a/z.py": "z = 1\n", "a.py": "a = 1\n", "a/notes.txt": "no", "c.pyc": b"\x00"},
    )
    source = FolderSource(tmp_path)
    assert list(source.documents()) == ["z = 1\n", "a = 1\n", "b = 1\n"]
    assert list(source.documents()) == ["z = 1\n", "a = 1\n", "b = 1\n"]
    assert source.left_out == {}
    assert source.name == str(tmp_path)


def test_one_file_is_a_source_too(tmp_path: Path) -> None:
    write(tmp_path, {"a.py": "a = 1\n"})
    assert list(FolderSource(tmp_path / "a.py").documents()) == ["a = 1\n"]


def test_text_is_what_python_reads(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "a_bom.py": b"\xef\xbb\xbfx = 1\n",
            "b_latin.py": "# coding: latin-1\nx = 'é'\n".encode("latin-1"),
            "c_crlf.py": b"x = 1\r\ny = 2\r\n",
            "d_utf8.py": "x = '日本'\n",
        },
    )
    assert list(FolderSource(tmp_path).documents()) == [
        "x = 1\n",
        "# coding: latin-1\nx = 'é'\n",
        "x = 1\ny = 2\n",
        "x = '日本'\n",
    ]


def test_files_in_no_known_encoding_are_left_out_with_one_warning_that_names_the_first(
    tmp_path: Path,
) -> None:
    write(
        tmp_path,
        {
            "fine.py": "x = 1\n",
            "latin.py": "x = 'é'\n".encode("latin-1"),
            "rot.py": "# coding: rot13\nk = 1\n",
            "surrogate.py": b"# coding: raw_unicode_escape\nx = '\\ud800'\n",
            "unknown.py": "# coding: klingon\nx = 1\n",
        },
    )
    source = FolderSource(tmp_path)
    with pytest.warns(UserWarning, match=r"left out 4 files .* the first of them .*latin\.py") as caught:
        assert list(source.documents()) == ["x = 1\n"]
    assert len(caught) == 1
    assert source.left_out == {"not in the declared encoding": 4}


def test_what_is_no_source_is_left_out_and_counted(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "empty.py": "",
            "blank.py": " \n\n",
            "table.py": "x = [" + "1, " * 500 + "]\n",
            "huge.py": "x = 1\n" * 200_000,
            "long_enough.py": "#" * 1000 + "\n",
        },
    )
    os.mkfifo(tmp_path / "pipe.py")
    (tmp_path / "dangling.py").symlink_to(tmp_path / "nowhere.py")
    source = FolderSource(tmp_path)
    assert list(source.documents()) == ["#" * 1000 + "\n"]
    assert source.left_out == {
        "a line over 1000 characters": 1,
        "empty": 2,
        "not a file": 1,
        "over 1 MB": 1,
        "unreadable": 1,
    }


def test_folders_without_source_of_their_own_are_not_entered(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "kept/build/a.py": "a = 1\n",
            "tests/b.py": "b = 1\n",
            ".git/c.py": "c = 1\n",
            "__pycache__/d.py": "d = 1\n",
            "env/pyvenv.cfg": "",
            "env/lib/e.py": "e = 1\n",
            "lib/site-packages/f.py": "f = 1\n",
            ".hidden.py": "g = 1\n",
        },
    )
    assert list(FolderSource(tmp_path).documents()) == ["a = 1\n", "b = 1\n"]
    assert list(FolderSource(tmp_path, tests=False).documents()) == ["a = 1\n"]
    # What is named outright is read, whatever it is called.
    assert list(FolderSource(tmp_path / "env").documents()) == ["e = 1\n"]


def test_linked_folders_are_followed_once_and_loops_end(tmp_path: Path) -> None:
    write(tmp_path, {"a/x.py": "x = 1\n", "elsewhere/y.py": "y = 1\n"})
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    (tmp_path / "a" / "other").symlink_to(tmp_path / "elsewhere")
    assert sorted(FolderSource(tmp_path / "a").documents()) == ["x = 1\n", "y = 1\n"]


@pytest.mark.parametrize("files", [{}, {"readme.md": "no"}, {".hidden/a.py": "a = 1\n"}])
def test_a_folder_without_python_files_is_refused(tmp_path: Path, files: dict[str, str | bytes]) -> None:
    with pytest.raises(InputError) as caught:
        FolderSource(write(tmp_path, files))
    assert str(caught.value) == f"{tmp_path} holds no .py file; expected a folder of Python files"


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no folder .*missing; expected a folder of Python files"):
        FolderSource(tmp_path / "missing")


def test_a_limit_takes_whole_files_and_the_same_ones_again(tmp_path: Path) -> None:
    write(tmp_path, {f"{n:02}.py": f"x = {n:02}\n" * 100 for n in range(30)})  # 700 bytes each
    some = list(FolderSource(tmp_path, limit=5000).documents())
    assert len(some) == 8  # the eighth file passes 5000 bytes
    assert some == list(FolderSource(tmp_path, limit=5000).documents())
    everything = list(FolderSource(tmp_path).documents())
    assert some == [text for text in everything if text in some]
    assert set(FolderSource(tmp_path, limit=2000).documents()) < set(some)
    assert some != everything[:8]
    assert list(FolderSource(tmp_path, limit=10**9).documents()) == everything


def test_the_installation_is_the_standard_library_and_the_packages_without_tests() -> None:
    source = InstalledSource(limit=300_000)
    texts = list(source.documents())
    assert 100_000 < sum(map(len, texts)) < 1_300_000
    assert texts == list(InstalledSource(limit=300_000).documents())
    assert source.name == f"installed Python {sys.version.split()[0]}"
    roots = InstalledSource.roots()
    assert Path(sysconfig.get_paths()["stdlib"]).resolve() in roots
    assert Path(pytest.__file__).resolve().parents[1] in roots


def test_the_installation_has_known_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    library = write(tmp_path / "lib", {"json.py": "j = 1\n", "test/t.py": "t = 1\n", "site-packages/p.py": "p = 1\n"})
    monkeypatch.setattr(InstalledSource, "roots", staticmethod(lambda: [library, library / "site-packages"]))
    assert list(InstalledSource().documents()) == ["j = 1\n", "p = 1\n"]


def test_the_installation_leaves_this_package_out_which_holds_the_templates_of_the_tasks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    library = write(tmp_path.resolve(), {"sparse_circuits/tasks/quotes.py": "q = 1\n", "json.py": "j = 1\n"})
    monkeypatch.setattr(InstalledSource, "roots", staticmethod(lambda: [library]))
    assert "q = 1\n" in list(InstalledSource().documents())
    monkeypatch.setattr(sources, "OWN", library / "sparse_circuits")
    assert list(InstalledSource().documents()) == ["j = 1\n"]


def test_idioms_stop_at_the_program_that_reaches_the_size() -> None:
    texts = list(IdiomsSource(seed=3, characters=5000).documents())
    assert sum(map(len, texts)) >= 5000 > sum(map(len, texts[:-1]))
    assert texts == list(IdiomsSource(seed=3, characters=5000).documents())
    assert texts != list(IdiomsSource(seed=4, characters=5000).documents())
    assert list(IdiomsSource(seed=3, characters=0).documents()) == []


def test_idioms_come_in_two_levels() -> None:
    simple, full = IdiomsSource(seed=3, characters=2000), IdiomsSource(seed=3, characters=2000, level="full")
    assert list(simple.documents()) != list(full.documents())
    assert (simple.name, full.name) == ("idioms (seed 3)", "idioms (full, seed 3)")
