"""A corpus holds every distinct document once, in one split, and is there whole or not at all."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import tyro

from sparse_circuits import presets
from sparse_circuits.corpus import build
from sparse_circuits.corpus.build import build_corpus, pack_sources, sources_of
from sparse_circuits.corpus.config import CorpusConfig
from sparse_circuits.corpus.packed import PackedCorpus
from sparse_circuits.corpus.sources import InstalledSource, Source
from sparse_circuits.errors import InputError
from sparse_circuits.tokenizer import Tokenizer

REPOSITORY = Path(__file__).parents[2]


@dataclass
class Texts:
    """A source of given texts."""

    texts: list[str]
    name: str = "texts"
    left_out: dict[str, int] = field(default_factory=dict)

    def documents(self) -> Iterator[str]:
        yield from self.texts


def documents(corpus: PackedCorpus, split: str) -> list[str]:
    """The documents of a split, cut at end of text."""
    tokens = corpus.tokens(split)
    ends = np.flatnonzero(tokens == corpus.tokenizer.end_of_text)
    assert len(tokens) == 0 or ends[-1] == len(tokens) - 1
    return [corpus.tokenizer.decode(piece[:-1]) for piece in np.split(tokens, ends + 1)[:-1]]


def pack(out: Path, *sources: list[str], **settings: object) -> PackedCorpus:
    named: list[Source] = [Texts(texts, f"texts {n}") for n, texts in enumerate(sources)]
    pack_sources(CorpusConfig(out=out, **settings), named)  # type: ignore[arg-type]
    return PackedCorpus.load(out, verify=True)


def numbered(name: str, count: int) -> list[str]:
    return [f"{name} = {n}\nprint({name})\n" for n in range(count)]


def siblings(out: Path) -> list[str]:
    return sorted(path.name for path in out.parent.iterdir())


def test_the_root_of_the_disk_is_no_place_for_a_corpus() -> None:
    with pytest.raises(InputError, match="is the root of the disk"):
        build_corpus(CorpusConfig(out=Path(Path.cwd().anchor), idioms=0.01), progress=False)


def test_every_document_is_there_once_and_in_one_split(tmp_path: Path) -> None:
    texts = [*numbered("x", 300), "<|endoftext|>\n", "é\r\n\x00", "no line end"]
    corpus = pack(tmp_path / "corpus", texts)
    train, validation = documents(corpus, "train"), documents(corpus, "validation")
    assert sorted(train + validation) == sorted(texts)
    assert 3 <= len(validation) <= 35  # 15 expected
    assert siblings(tmp_path / "corpus") == ["corpus"]
    assert siblings(tmp_path / "corpus" / "any") == [
        "manifest.json",
        "tokenizer.json",
        "train.bin",
        "validation.bin",
    ]


def test_duplicates_are_dropped_within_and_across_sources(tmp_path: Path) -> None:
    corpus = pack(tmp_path / "c", ["a = 1\n", "b = 2\n", "a = 1\n"], ["b = 2\n", "c = 3\n", "a = 1 \n"])
    assert sorted(documents(corpus, "train") + documents(corpus, "validation")) == [
        "a = 1\n",
        "a = 1 \n",
        "b = 2\n",
        "c = 3\n",
    ]
    first, second = corpus.manifest["sources"]
    assert (first["name"], first["documents"], first["duplicates"]) == ("texts 0", 2, 1)
    assert (second["name"], second["documents"], second["duplicates"]) == ("texts 1", 2, 1)


def test_the_manifest_counts_what_is_there(tmp_path: Path) -> None:
    corpus = pack(tmp_path / "c", numbered("é", 50), numbered("y", 70), vocab_size=300, seed=9)
    manifest = json.loads((tmp_path / "c" / "manifest.json").read_text())
    tokens = {split: len(corpus.tokens(split)) for split in ("train", "validation")}
    assert {split: manifest["splits"][split]["tokens"] for split in tokens} == tokens
    assert sum(source["tokens"] for source in manifest["sources"]) == sum(tokens.values()) == manifest["tokens"]
    assert [source["documents"] for source in manifest["sources"]] == [50, 70]
    assert [source["characters"] for source in manifest["sources"]] == [
        sum(map(len, numbered("é", 50))),
        sum(map(len, numbered("y", 70))),
    ]
    assert manifest["splits"]["train"]["documents"] == len(documents(corpus, "train"))
    assert manifest["vocab_size"] == corpus.tokenizer.vocab_size <= 300
    assert (manifest["seed"], manifest["validation_fraction"], manifest["dtype"]) == (9, 0.05, "uint16")
    characters = sum(source["characters"] for source in manifest["sources"])
    assert manifest["tokens_per_character"] == pytest.approx(manifest["tokens"] / characters, abs=1e-4)


def test_adding_a_source_moves_no_document_to_the_other_split(tmp_path: Path) -> None:
    alone = pack(tmp_path / "alone", numbered("x", 400))
    joined = pack(tmp_path / "joined", numbered("y", 300), numbered("x", 400))
    assert set(documents(alone, "validation")) < set(documents(joined, "validation"))
    assert set(documents(alone, "train")) < set(documents(joined, "train"))


def test_sources_mix(tmp_path: Path) -> None:
    corpus = pack(tmp_path / "c", numbered("x", 200), numbered("y", 200))
    order = "".join(text[0] for text in documents(corpus, "train"))
    # 200 of each in random order change sides about every second time; sorted by source, once.
    assert order.count("xy") + order.count("yx") > 120


def test_the_same_sources_give_the_same_bytes_and_another_seed_another_split(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        pack(tmp_path / name, numbered("x", 300), seed=seed)
    for file in ("train.bin", "validation.bin", "tokenizer.json", "manifest.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    a, c = PackedCorpus.load(tmp_path / "a"), PackedCorpus.load(tmp_path / "c")
    assert set(documents(a, "validation")) != set(documents(c, "validation"))


def test_the_size_of_encoding_batches_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack(tmp_path / "whole", numbered("x", 100))
    monkeypatch.setattr(build, "BATCH", 50)
    pack(tmp_path / "pieces", numbered("x", 100))
    for file in ("train.bin", "validation.bin", "manifest.json"):
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "pieces" / file).read_bytes()


def test_the_tokenizer_learns_from_the_training_split_only(tmp_path: Path) -> None:
    corpus = pack(tmp_path / "c", numbered("x", 300), validation_fraction=0.5)
    assert corpus.tokenizer.hash == Tokenizer.train(documents(corpus, "train")).hash


@pytest.mark.parametrize(("fraction", "expected"), [(0.0, 0), (0.01, 1), (0.99, 1)])
def test_both_splits_get_a_document_unless_none_is_wanted(tmp_path: Path, fraction: float, expected: int) -> None:
    corpus = pack(tmp_path / "c", ["a = 1\n", "b = 2\n"], validation_fraction=fraction)
    assert len(documents(corpus, "validation")) == expected
    assert len(documents(corpus, "train")) == 2 - expected


def test_a_given_tokenizer_is_used_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    for n, text in enumerate(numbered("x", 20)):
        (tmp_path / "code" / f"{n}.py").write_text(text)
    first = build_corpus(CorpusConfig(tmp_path / "one", (tmp_path / "code",), vocab_size=270), progress=False)
    config = CorpusConfig(tmp_path / "two", (tmp_path / "code",), idioms=0.01, tokenizer=tmp_path / "one")
    second = build_corpus(config, progress=False)
    assert second["tokenizer_hash"] == first["tokenizer_hash"]
    assert [source["name"] for source in second["sources"]] == [str(tmp_path / "code"), "idioms (seed 0)"]
    assert second["sources"][1]["characters"] >= 10_000
    assert second["seconds"] > 0


def test_progress_goes_to_standard_error_only(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    config = CorpusConfig(tmp_path / "c", idioms=0.01)
    pack_sources(config, sources_of(config), progress=False)
    assert capfd.readouterr() == ("", "")
    build_corpus(CorpusConfig(tmp_path / "d", idioms=0.01), progress=True)
    assert capfd.readouterr().out == ""


def test_the_mixed_corpus_is_the_same_to_the_byte_for_the_same_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(InstalledSource, "roots", staticmethod(lambda: [Path(json.__file__).parent]))
    mix = presets.mix_corpus()
    assert mix.idioms / (mix.idioms + (mix.limit or 0)) == pytest.approx(presets.MIX["idioms"])
    assert sum(presets.MIX.values()) == pytest.approx(1)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        config = replace(mix, out=tmp_path / name, idioms=0.06, limit=0.04, vocab_size=300, seed=seed)
        manifest = build_corpus(config, progress=False)
    for file in ("train.bin", "validation.bin", "tokenizer.json", "manifest.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    assert (tmp_path / "a" / "train.bin").read_bytes() != (tmp_path / "c" / "train.bin").read_bytes()
    installed, idioms = manifest["sources"]
    assert installed["name"].startswith("installed Python")
    assert idioms["name"] == "idioms (full, seed 1)"
    assert installed["characters"] > 30_000
    assert idioms["characters"] > 60_000


def test_its_fields_are_flags() -> None:
    flags = "--out runs/corpus --folder a b --installed --idioms 20 --level full --limit 5 --seed 3 --overwrite"
    assert tyro.cli(CorpusConfig, args=flags.split()) == CorpusConfig(
        Path("runs/corpus"), (Path("a"), Path("b")), True, 20.0, "full", limit=5.0, seed=3, overwrite=True
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "no text to read: name a source with --folder, --installed or --idioms, or a data set with --dataset"),
        ({"folder": (Path("missing"),)}, "no folder missing"),
        ({"idioms": -1.0}, "idioms is -1.0; it must be a number of megabytes"),
        ({"idioms": float("nan")}, "idioms is nan"),
        ({"idioms": 1.0, "limit": -2.0}, "limit is -2.0"),
        (
            {"idioms": 1.0, "validation_fraction": 1.0},
            "validation_fraction is 1.0; it must be at least 0 and below 1",
        ),
        ({"idioms": 1.0, "vocab_size": 200}, "vocab_size is 200; expected 257 or more"),
        ({"idioms": 1.0, "seed": -1}, "seed is -1; it must be from 0"),
        ({"idioms": 1.0, "tokenizer": Path("missing.json")}, r"cannot read missing\.json"),
        ({"idioms": 1e-5}, "hold 1 distinct documents; a corpus needs at least two"),
    ],
)
def test_wrong_settings_are_refused_and_leave_nothing(
    tmp_path: Path, settings: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        build_corpus(CorpusConfig(tmp_path / "c", **settings), progress=False)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("unannotated")
def test_an_unknown_level_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"level is 'hard'; .* 'simple', 'full'"):
        CorpusConfig(tmp_path / "c", idioms=1.0, level="hard")  # type: ignore[arg-type]


def test_a_lone_surrogate_is_refused_with_its_source(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a document of texts 0 holds a lone surrogate"):
        pack(tmp_path / "c", ["a = 1\n", "\ud800"])


def test_an_existing_corpus_is_replaced_only_when_allowed(tmp_path: Path) -> None:
    pack(tmp_path / "c", numbered("x", 10))
    with pytest.raises(InputError, match="exists already; choose another folder, or allow it with --overwrite"):
        pack(tmp_path / "c", numbered("y", 10))
    assert documents(PackedCorpus.load(tmp_path / "c"), "train")[0][0] == "x"
    assert documents(pack(tmp_path / "c", numbered("y", 10), overwrite=True), "train")[0][0] == "y"
    assert siblings(tmp_path / "c") == ["c"]


def test_a_failed_replacement_leaves_the_old_corpus(tmp_path: Path) -> None:
    pack(tmp_path / "c", numbered("x", 10))
    with pytest.raises(InputError, match="distinct documents"):
        pack(tmp_path / "c", [], overwrite=True)
    assert documents(PackedCorpus.load(tmp_path / "c", verify=True), "train")[0][0] == "x"
    assert siblings(tmp_path / "c") == ["c"]


def test_other_peoples_files_are_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    pack(tmp_path / "c", numbered("x", 10))  # an empty folder is fine
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("precious")
    with pytest.raises(InputError, match=r"holds other files \(no manifest\.json among them\)"):
        pack(tmp_path / "thesis", numbered("x", 10), overwrite=True)
    with pytest.raises(InputError, match="is a file"):
        pack(tmp_path / "thesis" / "chapter.tex", numbered("x", 10), overwrite=True)
    assert (tmp_path / "thesis" / "chapter.tex").read_text() == "precious"


def test_a_linked_folder_stays_linked(tmp_path: Path) -> None:
    (tmp_path / "big_disk").mkdir()
    (tmp_path / "c").symlink_to(tmp_path / "big_disk")
    pack(tmp_path / "c", numbered("x", 10))
    assert (tmp_path / "c").is_symlink()
    assert (tmp_path / "big_disk" / "train.bin").exists()


def test_a_second_builder_of_the_same_folder_is_refused(tmp_path: Path) -> None:
    class Nested(Texts):
        def documents(self) -> Iterator[str]:
            with pytest.raises(InputError, match="is being built by another process; wait for it"):
                pack(tmp_path / "c", numbered("y", 10))
            yield from numbered("x", 10)

    pack_sources(CorpusConfig(tmp_path / "c"), [Nested([])])
    assert documents(PackedCorpus.load(tmp_path / "c", verify=True), "train")[0][0] == "x"


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_build_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    class Breaking(Texts):
        def documents(self) -> Iterator[str]:
            yield from numbered("x", 10)
            raise error

    with pytest.raises(error):
        pack_sources(CorpusConfig(tmp_path / "c"), [Breaking([])])
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))  # writing past it fails, as on a full disk
    try:
        with pytest.raises(InputError) as caught:
            pack(tmp_path / "c", numbered("x", 5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(caught.value).startswith(f"cannot write {tmp_path}/c: File too large; free space or")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


SLOW_BUILD = """
import sys, time
from pathlib import Path
from sparse_circuits.corpus.build import pack_sources
from sparse_circuits.corpus.config import CorpusConfig
from tests.corpus.test_build import Texts, numbered

class Slow(Texts):
    def documents(self):
        for text in numbered("y", 10**6):
            yield text
            time.sleep(0.001)

pack_sources(CorpusConfig(Path(sys.argv[1]), overwrite=True), [Slow([])])
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_process_leaves_the_old_corpus_and_does_not_block_the_next(tmp_path: Path, number: int) -> None:
    out = tmp_path / "c"
    pack(out, numbered("x", 10))
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen([sys.executable, "-c", SLOW_BUILD, str(out)], env=environment, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        spool = tmp_path / ".c.tmp" / "documents"
        while not (spool.exists() and process.poll() is None and spool.stat().st_size > 0):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        process.send_signal(number)
        process.wait()
    assert documents(PackedCorpus.load(out, verify=True), "train")[0][0] == "x"
    assert siblings(out) == ([".c.lock", ".c.tmp", "c"] if number == signal.SIGKILL else ["c"])
    assert documents(pack(out, numbered("z", 10), overwrite=True), "train")[0][0] == "z"
    assert siblings(out) == ["c"]


def test_a_process_killed_while_it_swaps_folders_has_its_old_corpus_put_back(tmp_path: Path) -> None:
    pack(tmp_path / "c", numbered("x", 10))
    (tmp_path / "c").rename(tmp_path / ".c.old")
    with pytest.raises(InputError, match="exists already"):
        pack(tmp_path / "c", numbered("y", 10))
    assert documents(PackedCorpus.load(tmp_path / "c", verify=True), "train")[0][0] == "x"


def test_an_interrupt_while_folders_are_swapped_puts_the_old_corpus_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack(tmp_path / "c", numbered("x", 10))
    rename = Path.rename

    def interrupted(path: Path, target: Path) -> Path:
        if path.name == ".c.tmp":
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pack(tmp_path / "c", numbered("y", 10), overwrite=True)
    assert documents(PackedCorpus.load(tmp_path / "c", verify=True), "train")[0][0] == "x"
    assert siblings(tmp_path / "c") == ["c"]
