"""Token files: a corpus as a folder that training reads at random, at no cost per step.

On disk: `train.bin` and `validation.bin` (raw little-endian token ids, documents one after another, each
followed by end of text), `tokenizer.json` that made them, and `manifest.json` that says what they are.

How a batch is drawn, from its step number alone:
1. The split's n tokens are a ring; window w of an epoch is the block_size + 1 tokens from offset + w ·
   block_size on, so windows share one token and every transition between tokens is predicted at most once
   an epoch.
2. The offset is drawn anew for each epoch.
3. The windows of an epoch are visited in a pseudo-random order: a Feistel network over their numbers, which
   is a permutation that can be asked for any place in it, with nothing stored and nothing to restore on
   resuming.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sparse_circuits.errors import InputError
from sparse_circuits.files import read_json
from sparse_circuits.tokenizer import Tokenizer

FORMAT_VERSION = 1
SPLITS = ("train", "validation")
_ROUNDS = 6
"""Feistel rounds: four make a pseudo-random permutation, two more for the tiny domains of small corpora."""


@dataclass(frozen=True)
class PackedCorpus:
    """A corpus opened for reading; get one with `PackedCorpus.load`."""

    folder: Path
    tokenizer: Tokenizer
    train: np.ndarray
    """The training tokens, a read-only memory map, uint16 or uint32 [n]."""
    validation: np.ndarray
    """The validation tokens, likewise."""
    manifest: dict[str, Any]

    @classmethod
    def load(cls, folder: str | Path, tokenizer: Tokenizer | None = None, verify: bool = False) -> "PackedCorpus":
        """Open the corpus in `folder`.

        Args:
            folder: as `build_corpus` wrote it.
            tokenizer: the tokenizer the corpus must have been packed with, if there is one already (a
                model's).
            verify: also compare each token file's SHA-256 with the manifest (reads the files once).

        Raises:
            InputError: no corpus there; a file is missing, cut short or altered; packed with another
                tokenizer.
        """
        folder = Path(folder)
        manifest = _read_manifest(folder)
        own = Tokenizer.load(folder / "tokenizer.json")
        if own.hash != manifest["tokenizer_hash"]:
            raise InputError(
                f"{folder}/tokenizer.json (hash {own.hash}) is not the tokenizer the corpus was packed with "
                f"(hash {manifest['tokenizer_hash']}); build the corpus again"
            )
        if tokenizer is not None and tokenizer.hash != own.hash:
            raise InputError(
                f"corpus {folder} was packed with the tokenizer of hash {own.hash}, not the given one of "
                f"hash {tokenizer.hash}; pack it again with that one, `sparse-circuits corpus --tokenizer MODEL_FOLDER`"
            )
        dtype = token_dtype(own.vocab_size)
        train, validation = (_open_tokens(folder, split, manifest, dtype, verify) for split in SPLITS)
        return cls(folder, own, train, validation, manifest)

    def tokens(self, split: str) -> np.ndarray:
        """The tokens of `split`.

        Raises:
            InputError: there is no such split.
        """
        if split not in SPLITS:
            raise InputError(f"no split {split!r}; the splits are {', '.join(SPLITS)}")
        return self.train if split == "train" else self.validation

    def windows_per_epoch(self, split: str, block_size: int) -> int:
        """How many windows of `block_size` predictions one pass over `split` has.

        Raises:
            InputError: not even one.
        """
        count = len(self.tokens(split))
        if block_size < 1:
            raise InputError(f"block_size is {block_size}; it must be at least 1")
        if count < block_size + 1:
            raise InputError(
                f"the {split} split of {self.folder} has {count} tokens, too few for one window of "
                f"{block_size + 1}; add text, or lower the block size"
            )
        return count // block_size

    def batch(self, split: str, step: int, batch_size: int, block_size: int, seed: int) -> np.ndarray:
        """The batch of step `step` (from 0): the same for the same arguments, whatever was asked before.

        Args:
            seed: chooses the order; every window of an epoch comes once before the next epoch starts.

        Returns:
            int64 [batch_size, block_size + 1]: inputs are `[:, :-1]`, targets `[:, 1:]`.

        Raises:
            InputError: the split is smaller than one window.
        """
        windows = self.windows_per_epoch(split, block_size)
        tokens = self.tokens(split)
        places = step * batch_size + np.arange(batch_size, dtype=np.int64)
        starts = np.empty(batch_size, dtype=np.int64)
        for epoch in np.unique(places // windows):
            here = places // windows == epoch
            keys = _keys(seed, split, int(epoch))
            offset = int(keys[0] % np.uint64(len(tokens)))
            starts[here] = offset + block_size * _shuffled(places[here] % windows, windows, keys[1:])
        positions = (starts[:, None] + np.arange(block_size + 1)) % len(tokens)
        return tokens[positions].astype(np.int64)

    def validation_windows(self, block_size: int, max_tokens: int | None = None) -> np.ndarray:
        """The validation split in order, in windows that share one token: no prediction comes twice.

        Args:
            max_tokens: at most so many predictions (and at least one window); None for all.

        Returns:
            int64 [n, block_size + 1].

        Raises:
            InputError: the split is smaller than one window.
        """
        self.windows_per_epoch("validation", block_size)
        count = (len(self.validation) - 1) // block_size
        if max_tokens is not None:
            count = max(1, min(count, max_tokens // block_size))
        starts = block_size * np.arange(count, dtype=np.int64)
        return self.validation[starts[:, None] + np.arange(block_size + 1)].astype(np.int64)


def token_dtype(vocab_size: int) -> np.dtype:
    """The type of ids on disk: two bytes where they suffice."""
    return np.dtype("<u4" if vocab_size > 65535 else "<u2")


def file_hash(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / "manifest.json"
    if not path.is_file():
        raise InputError(
            f"no corpus in {folder}: it has no manifest.json; make one with `sparse-circuits corpus --installed "
            f"--out {folder}`"
        )
    manifest = read_json(path)
    version = manifest.get("format_version") if isinstance(manifest, dict) else None
    if version != FORMAT_VERSION:
        raise InputError(
            f"{path} has corpus format version {version}; this library reads version {FORMAT_VERSION}: "
            "build the corpus again"
        )
    if missing := {"tokenizer_hash", "splits"} - set(manifest):
        raise InputError(f"{path} lacks {', '.join(sorted(missing))}; build the corpus again")
    return manifest


def _open_tokens(folder: Path, split: str, manifest: dict[str, Any], dtype: np.dtype, verify: bool) -> np.ndarray:
    path = folder / f"{split}.bin"
    try:
        expected = manifest["splits"][split]["tokens"] * dtype.itemsize
        digest = manifest["splits"][split]["sha256"]
        size = path.stat().st_size
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; build the corpus again") from error
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{folder}/manifest.json does not describe the {split} split; build the corpus again"
        ) from error
    if size != expected:
        raise InputError(f"{path} has {size} bytes, its manifest says {expected}; build the corpus again")
    if verify and file_hash(path) != digest:
        raise InputError(f"{path} is not what its manifest says (SHA-256 differs); build the corpus again")
    return np.memmap(path, dtype=dtype, mode="r") if size else np.empty(0, dtype)


def _keys(seed: int, split: str, epoch: int) -> np.ndarray:
    """Pseudo-random uint64 for one epoch: the offset, then a key for each Feistel round."""
    digest = hashlib.shake_256(f"{seed}/{split}/{epoch}".encode()).digest(8 * (_ROUNDS + 1))
    return np.frombuffer(digest, dtype="<u8")


def _shuffled(places: np.ndarray, count: int, keys: np.ndarray) -> np.ndarray:
    """Where `places` (int64, each in 0..count-1) go under a keyed permutation of 0..count-1."""
    half = max(1, ((count - 1).bit_length() + 1) // 2)
    width, mask = np.uint64(half), np.uint64((1 << half) - 1)
    numbers = places.astype(np.uint64)
    outside = np.ones(numbers.shape, dtype=bool)
    # The network permutes the next power of four; walking on from a number outside returns inside in the end.
    while outside.any():
        left, right = numbers[outside] >> width, numbers[outside] & mask
        for key in keys:
            left, right = right, left ^ (_mixed(right + key) & mask)
        numbers[outside] = (left << width) | right
        outside = numbers >= np.uint64(count)
    return numbers.astype(np.int64)


def _mixed(numbers: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser: every input bit reaches every output bit."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))
