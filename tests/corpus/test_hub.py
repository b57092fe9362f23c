"""Data sets of the Hub, from a local folder in the Hub's own form: nothing here needs a network."""

import json
import sys
from pathlib import Path

import pytest

from sparse_circuits.corpus.build import build_corpus
from sparse_circuits.corpus.config import CorpusConfig
from sparse_circuits.corpus.hub import HubSource
from sparse_circuits.errors import InputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data set of two splits, with a card."""
    pytest.importorskip("datasets")
    rows: list[dict[str, object]] = [{"text": f"x = {n}\nprint(x)\n", "n": n} for n in range(40)]
    rows += [{"text": "", "n": 0}, {"text": None, "n": 1}, {"text": "a = 1\r\nb = 2\r\n", "n": 2}]
    out = tmp_path / "data"
    out.mkdir()
    (out / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (out / "test.jsonl").write_text(json.dumps({"text": "t = 1\n", "n": 0}) + "\n")
    (out / "README.md").write_text("---\nlicense: apache-2.0\n---\n\nPrograms.\n")
    return out


needs_no_warnings = pytest.mark.filterwarnings("ignore")


@needs_no_warnings
def test_texts_come_in_order_and_the_rest_is_counted(folder: Path) -> None:
    source = HubSource(str(folder))
    texts = list(source.documents())
    assert texts == [f"x = {n}\nprint(x)\n" for n in range(40)] + ["a = 1\nb = 2\n"]
    assert source.left_out == {"empty": 1, "not a text": 1}
    assert source.licence == "apache-2.0"
    assert source.name == f"data set {folder} (train)"
    assert list(source.documents()) == texts


@needs_no_warnings
def test_other_splits_columns_and_a_limit(folder: Path) -> None:
    assert list(HubSource(str(folder), split="test").documents()) == ["t = 1\n"]
    assert len(list(HubSource(str(folder), limit=100).documents())) == 7
    (folder / "README.md").unlink()
    assert HubSource(str(folder)).licence == "not stated"


@needs_no_warnings
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"column": "body"}, "has no column 'body'; choose with --column among text, n"),
        ({"split": "validation"}, "cannot read split 'validation' of the data set"),
        ({"subset": "other"}, "cannot read split 'train' of the data set .*: BuilderConfig 'other' not found"),
    ],
)
def test_what_is_not_there_is_named_in_one_line(folder: Path, settings: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        HubSource(str(folder), **settings)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


@needs_no_warnings
def test_a_corpus_of_a_data_set_states_its_licence(folder: Path, tmp_path: Path) -> None:
    config = CorpusConfig(tmp_path / "corpus", dataset=str(folder), vocab_size=300)
    manifest = build_corpus(config, progress=False)
    (source,) = manifest["sources"]
    assert (source["documents"], source["licence"]) == (41, "apache-2.0")


def test_without_the_package_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    config = CorpusConfig(tmp_path / "corpus", dataset="owner/name")
    with pytest.raises(InputError, match=r"needs the package datasets; pip install 'sparse-circuits\[hub\]'"):
        build_corpus(config, progress=False)
    assert list(tmp_path.iterdir()) == []
