"""Batches are a function of the step alone, visit everything once an epoch, and come from whole files."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparse_circuits.corpus.packed import PackedCorpus, _keys, _shuffled, token_dtype
from sparse_circuits.errors import InputError
from sparse_circuits.tokenizer import Tokenizer

TOKENIZER = Tokenizer.train([], vocab_size=257)


def write_corpus(folder: Path, train: np.ndarray, validation: np.ndarray) -> Path:
    """A corpus folder written by hand, as the format says."""
    folder.mkdir(exist_ok=True)
    splits = {}
    for name, tokens in (("train", train), ("validation", validation)):
        content = tokens.astype("<u2").tobytes()
        (folder / f"{name}.bin").write_bytes(content)
        splits[name] = {"tokens": len(tokens), "sha256": hashlib.sha256(content).hexdigest()}
    TOKENIZER.save(folder / "tokenizer.json")
    manifest = {"format_version": 1, "tokenizer_hash": TOKENIZER.hash, "splits": splits}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture
def corpus(tmp_path: Path) -> PackedCorpus:
    """Training tokens 0, 1, 2, … 102, so that a token is its own position; validation 0 … 19."""
    return PackedCorpus.load(write_corpus(tmp_path / "corpus", np.arange(103), np.arange(20)))


def in_memory(tokens: int) -> PackedCorpus:
    ramp = np.arange(tokens, dtype=np.uint32)
    return PackedCorpus(Path("memory"), TOKENIZER, ramp, ramp, {})


def test_a_batch_is_windows_of_consecutive_tokens(corpus: PackedCorpus) -> None:
    batch = corpus.batch("train", step=0, batch_size=4, block_size=10, seed=0)
    assert batch.shape == (4, 11)
    assert batch.dtype == np.int64
    assert (np.diff(batch, axis=1) % 103 == 1).all()  # the end of the stream is followed by its start


@settings(max_examples=50, deadline=None)
@given(
    tokens=st.integers(2, 400),
    block_size=st.integers(1, 40),
    batch_size=st.integers(1, 9),
    seed=st.integers(0, 2**64),
    epoch=st.integers(0, 3),
)
def test_an_epoch_predicts_every_transition_at_most_once_and_leaves_out_less_than_a_window(
    tokens: int, block_size: int, batch_size: int, seed: int, epoch: int
) -> None:
    block_size = min(block_size, tokens - 1)
    corpus = in_memory(tokens)
    windows = corpus.windows_per_epoch("train", block_size)
    assert windows == tokens // block_size
    first, last = epoch * windows, (epoch + 1) * windows
    steps = range(first // batch_size, -(-last // batch_size))
    rows = np.concatenate([corpus.batch("train", step, batch_size, block_size, seed) for step in steps])
    rows = rows[first - steps[0] * batch_size :][:windows]
    predicted = rows[:, 1:].ravel()
    assert len(set(predicted.tolist())) == len(predicted) == windows * block_size > tokens - block_size


def test_the_same_step_gives_the_same_batch_whatever_came_before(corpus: PackedCorpus) -> None:
    late = corpus.batch("train", 7, 4, 10, seed=1)
    for step in range(7):
        corpus.batch("train", step, 4, 10, seed=1)
    reopened = PackedCorpus.load(corpus.folder)
    assert (reopened.batch("train", 7, 4, 10, seed=1) == late).all()


def test_a_larger_batch_is_two_smaller_ones(corpus: PackedCorpus) -> None:
    # Ten windows an epoch, so this crosses epochs too.
    both = np.concatenate([corpus.batch("train", step, 4, 10, seed=5) for step in (4, 5)])
    assert (corpus.batch("train", 2, 8, 10, seed=5) == both).all()


def test_seeds_epochs_and_splits_differ_in_order_and_offset(corpus: PackedCorpus) -> None:
    epochs = [corpus.batch("train", step, 10, 10, seed=0)[:, 0].tolist() for step in range(4)]
    epochs += [corpus.batch("train", 0, 10, 10, seed=seed)[:, 0].tolist() for seed in range(1, 4)]
    assert len({tuple(starts) for starts in epochs}) == 7
    assert len({starts[0] % 10 for starts in epochs}) > 2  # the offset moves
    assert all(starts != sorted(starts) for starts in epochs)


@settings(max_examples=100, deadline=None)
@given(count=st.integers(1, 700), seed=st.integers(0, 10**6))
def test_the_shuffle_is_a_permutation(count: int, seed: int) -> None:
    places = np.arange(count, dtype=np.int64)
    assert sorted(_shuffled(places, count, _keys(seed, "train", 0)[1:]).tolist()) == places.tolist()


def test_the_shuffle_reaches_every_place_evenly() -> None:
    # 3000 shuffles of 7: each number comes first 429 times on average, with standard deviation 19.
    firsts = [int(_shuffled(np.array([0]), 7, _keys(seed, "train", 0)[1:])[0]) for seed in range(3000)]
    assert (abs(np.bincount(firsts, minlength=7) - 3000 / 7) < 5 * 19).all()


def test_the_shuffle_of_a_huge_epoch_costs_nothing() -> None:
    count = 10**12 + 7
    spread = _shuffled(np.arange(1000, dtype=np.int64), count, _keys(0, "train", 0)[1:])
    assert len(np.unique(spread)) == 1000
    assert 0.4 < spread.mean() / count < 0.6
    assert spread.max() < count


def test_validation_windows_are_in_order_and_share_one_token(corpus: PackedCorpus) -> None:
    windows = corpus.validation_windows(block_size=6)
    assert windows.tolist() == [list(range(0, 7)), list(range(6, 13)), list(range(12, 19))]
    assert windows.dtype == np.int64
    assert corpus.validation_windows(6, max_tokens=13).tolist() == windows[:2].tolist()
    assert corpus.validation_windows(6, max_tokens=1).tolist() == windows[:1].tolist()
    assert corpus.validation_windows(19).shape == (1, 20)


def test_a_split_smaller_than_one_window_is_refused(corpus: PackedCorpus) -> None:
    message = r"the validation split of .* has 20 tokens, too few for one window of 21; add text, or lower"
    with pytest.raises(InputError, match=message):
        corpus.validation_windows(20)
    with pytest.raises(InputError, match=r"the train split of .* has 103 tokens, too few for one window of 104"):
        corpus.batch("train", 0, 1, 103, 0)
    assert corpus.batch("train", 0, 1, 102, 0).shape == (1, 103)
    with pytest.raises(InputError, match="block_size is 0; it must be at least 1"):
        corpus.validation_windows(0)


def test_an_empty_split_opens_and_says_so_when_used(tmp_path: Path) -> None:
    corpus = PackedCorpus.load(write_corpus(tmp_path, np.arange(9), np.arange(0)))
    assert len(corpus.validation) == 0
    with pytest.raises(InputError, match="has 0 tokens"):
        corpus.validation_windows(2)


def test_tokens_are_memory_mapped_and_cannot_be_written(corpus: PackedCorpus) -> None:
    assert isinstance(corpus.train, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        corpus.train[0] = 1


@pytest.mark.parametrize(("vocab_size", "name"), [(257, "<u2"), (65535, "<u2"), (65536, "<u4")])
def test_ids_take_two_bytes_while_they_fit(vocab_size: int, name: str) -> None:
    assert token_dtype(vocab_size) == np.dtype(name)


def test_a_corpus_packed_with_another_tokenizer_is_refused_with_both_hashes(corpus: PackedCorpus) -> None:
    assert PackedCorpus.load(corpus.folder, TOKENIZER).tokenizer.hash == TOKENIZER.hash
    other = Tokenizer.train(["ab"], vocab_size=258)
    with pytest.raises(InputError) as caught:
        PackedCorpus.load(corpus.folder, other)
    assert TOKENIZER.hash in str(caught.value)
    assert other.hash in str(caught.value)
    other.save(corpus.folder / "tokenizer.json")
    with pytest.raises(InputError, match="is not the tokenizer the corpus was packed with"):
        PackedCorpus.load(corpus.folder)


@pytest.mark.parametrize("name", ["train.bin", "validation.bin", "tokenizer.json", "manifest.json"])
@pytest.mark.parametrize("left", [0.0, 0.5, None])
def test_a_corpus_with_a_file_cut_short_or_missing_is_refused(
    corpus: PackedCorpus, name: str, left: float | None
) -> None:
    path = corpus.folder / name
    if left is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: int(left * path.stat().st_size)])
    with pytest.raises(InputError, match=name.replace(".", r"\.")):
        PackedCorpus.load(corpus.folder)


def test_altered_tokens_are_found_when_asked(corpus: PackedCorpus) -> None:
    PackedCorpus.load(corpus.folder, verify=True)
    path = corpus.folder / "train.bin"
    path.write_bytes(b"\x01" + path.read_bytes()[1:])
    PackedCorpus.load(corpus.folder)
    with pytest.raises(InputError, match=r"train\.bin is not what its manifest says"):
        PackedCorpus.load(corpus.folder, verify=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 2}, "has corpus format version 2; this library reads version 1"),
        ({"splits": None}, "does not describe the train split"),
        ({"splits": {"train": {"tokens": "many"}}}, "does not describe the train split"),
    ],
)
def test_a_manifest_of_another_form_is_refused(corpus: PackedCorpus, change: dict[str, object], message: str) -> None:
    path = corpus.folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=message):
        PackedCorpus.load(corpus.folder)
    path.write_text("[]")
    with pytest.raises(InputError, match="format version None"):
        PackedCorpus.load(corpus.folder)


def test_a_folder_that_is_no_corpus_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no corpus in .*; make one with `sparse-circuits corpus --installed --out "):
        PackedCorpus.load(tmp_path / "nothing")


def test_an_unknown_split_lists_the_splits(corpus: PackedCorpus) -> None:
    with pytest.raises(InputError, match="no split 'test'; the splits are train, validation"):
        corpus.tokens("test")
