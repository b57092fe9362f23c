"""From sources to token files.

1. Read every source; drop documents seen before (by a hash of their text); spool the rest to disk.
2. A seeded hash of a document's text decides its split and its place in that split's order: nothing else
   does, so sources mix, a document is never in both splits, and adding a source moves no document to the
   other split.
3. Train the tokenizer on the start of the training split (a random sample, since the order is), or take one
   as given.
4. Encode each split in its order, on all cores, into `<split>.bin`; write `tokenizer.json` and
   `manifest.json`.

Everything happens in a temporary folder that is renamed at the end. Memory holds one batch of text and some
200 bytes per document, however large the corpus.
"""

import hashlib
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from sparse_circuits import shipped
from sparse_circuits.corpus.config import CorpusConfig
from sparse_circuits.corpus.hub import HubSource
from sparse_circuits.corpus.packed import FORMAT_VERSION, token_dtype
from sparse_circuits.corpus.sources import FolderSource, IdiomsSource, InstalledSource, Source
from sparse_circuits.corpus.staging import staged_folder
from sparse_circuits.errors import InputError
from sparse_circuits.files import write_json
from sparse_circuits.tokenizer import Tokenizer

TOKENIZER_SAMPLE = 32_000_000
"""Bytes of training text that the tokenizer learns from; more changes next to nothing in 2048 tokens."""
BATCH = 2_000_000
"""Bytes of text encoded at a time."""


def build_corpus(config: CorpusConfig, progress: bool = True) -> dict[str, Any]:
    """Make the corpus that `config` describes in `config.out`.

    Args:
        progress: show progress on standard error.

    Returns:
        The manifest, as in `manifest.json`, with `seconds` taken.

    Raises:
        InputError: a wrong setting, nothing to read, `out` in the way, a tokenizer that cannot be read, a
            full disk.
    """
    tokenizer = Tokenizer.load(shipped.locate(config.tokenizer)) if config.tokenizer is not None else None
    return pack_sources(config, sources_of(config), tokenizer, progress)


def sources_of(config: CorpusConfig) -> list[Source]:
    """The sources that `config` names, folders first.

    Raises:
        InputError: none is named, a folder has nothing to read, or a data set cannot be had.
    """
    limit = None if config.limit is None else int(config.limit * 1e6)
    sources: list[Source] = [FolderSource(Path(folder), limit) for folder in config.folder]
    if config.installed:
        sources.append(InstalledSource(limit))
    if config.idioms > 0:
        sources.append(IdiomsSource(config.seed, int(config.idioms * 1e6), config.level))
    if config.dataset is not None:
        sources.append(HubSource(config.dataset, config.column, config.split, config.subset, limit))
    if not sources:
        raise InputError(
            "no text to read: name a source with --folder, --installed or --idioms, or a data set with --dataset"
        )
    return sources


def pack_sources(
    config: CorpusConfig,
    sources: Sequence[Source],
    tokenizer: Tokenizer | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """`build_corpus` from any sources, your own included; `config` says the rest."""
    started = time.perf_counter()
    with staged_folder(config.out, config.overwrite, "manifest.json") as folder, _Progress(progress) as shown:
        with open(folder / "documents", "w+b") as file:
            documents = _Documents(file, config.seed)
            for source in sources:
                documents.read(source, shown)
            splits = documents.split(config.validation_fraction)
            if tokenizer is None:
                shown.start("training the tokenizer")
                sample = documents.texts(splits["train"], TOKENIZER_SAMPLE)
                tokenizer = Tokenizer.train(sample, config.vocab_size)
            tokenizer.save(folder / "tokenizer.json")
            shown.start("packing", documents.size)
            described = {
                name: _pack(folder / f"{name}.bin", documents, chosen, tokenizer, shown)
                for name, chosen in splits.items()
            }
        (folder / "documents").unlink()
        manifest = _manifest(config, sources, documents, tokenizer, described)
        write_json(folder / "manifest.json", manifest)
    return {**manifest, "seconds": time.perf_counter() - started}


@dataclass
class _Counts:
    """What came from one source."""

    documents: int = 0
    characters: int = 0
    tokens: int = 0
    duplicates: int = 0


class _Documents:
    """Every distinct document once, spooled to `file`, with what is known of each in arrays."""

    def __init__(self, file: BinaryIO, seed: int) -> None:
        self._file = file
        self._key = hashlib.sha256(str(seed).encode()).digest()
        self._digests: dict[bytes, None] = {}
        self._ends = [0]
        self._source: list[int] = []
        self.counts: list[_Counts] = []

    @property
    def size(self) -> int:
        """Bytes in all documents."""
        return self._ends[-1]

    def read(self, source: Source, shown: "_Progress") -> None:
        """Spool the documents of the next source."""
        shown.start(f"reading {source.name}")
        counts = _Counts()
        self.counts.append(counts)
        for text in source.documents():
            try:
                content = text.encode()
            except UnicodeEncodeError as error:
                raise InputError(f"a document of {source.name} holds a lone surrogate, which has no UTF-8") from error
            digest = hashlib.blake2b(content, digest_size=16, key=self._key).digest()
            if digest in self._digests:
                counts.duplicates += 1
                continue
            self._digests[digest] = None
            self._file.write(content)
            self._ends.append(self._ends[-1] + len(content))
            self._source.append(len(self.counts) - 1)
            counts.documents += 1
            counts.characters += len(text)
            shown.advance(len(content))

    def split(self, validation_fraction: float) -> dict[str, np.ndarray]:
        """Split to the numbers of its documents, in the order they are packed in.

        Raises:
            InputError: too few documents for two splits.
        """
        # Two independent halves of the digest: one for the split, one for the order.
        halves = np.frombuffer(b"".join(self._digests), dtype=">u8").reshape(-1, 2)
        if len(halves) < (2 if validation_fraction > 0 else 1):
            raise InputError(f"the sources hold {len(halves)} distinct documents; a corpus needs at least two")
        validation = halves[:, 0] < np.uint64(min(validation_fraction * 2.0**64, 2.0**64 - 2.0**11))
        if validation_fraction > 0 and not validation.any():
            validation[halves[:, 0].argmin()] = True
        if validation.all():
            validation[halves[:, 0].argmax()] = False
        order = np.argsort(halves[:, 1], kind="stable")
        return {"train": order[~validation[order]], "validation": order[validation[order]]}

    def texts(self, chosen: np.ndarray, size: int | None = None) -> Iterator[str]:
        """The texts of the documents `chosen`, in that order, up to `size` bytes."""
        read = 0
        for number in chosen.tolist():
            if size is not None and read >= size:
                return
            self._file.seek(self._ends[number])
            content = self._file.read(self._ends[number + 1] - self._ends[number])
            read += len(content)
            yield content.decode()

    def batches(self, chosen: np.ndarray) -> Iterator[tuple[np.ndarray, list[str], int]]:
        """Runs of `chosen` of about `BATCH` bytes: their sources, their texts and their size in bytes."""
        if len(chosen) == 0:
            return
        sizes = np.diff(self._ends)
        sources = np.array(self._source)
        groups = np.cumsum(sizes[chosen]) // BATCH
        for here in np.split(chosen, np.flatnonzero(np.diff(groups)) + 1):
            yield sources[here], list(self.texts(here)), int(sizes[here].sum())

    def count(self, sources: np.ndarray, lengths: np.ndarray) -> None:
        """Add the tokens of some documents to their sources' totals."""
        for number, tokens in enumerate(np.bincount(sources, lengths).tolist()):
            self.counts[number].tokens += int(tokens)


def _pack(
    path: Path, documents: _Documents, chosen: np.ndarray, tokenizer: Tokenizer, shown: "_Progress"
) -> dict[str, Any]:
    """Write the token file of one split and describe it."""
    dtype = token_dtype(tokenizer.vocab_size)
    hashed = hashlib.sha256()
    total = characters = 0
    with open(path, "wb") as file:
        for sources, texts, size in documents.batches(chosen):
            encoded = tokenizer.encode_batch(texts)
            lengths = np.array([len(ids) + 1 for ids in encoded])
            block = np.empty(lengths.sum(), dtype)
            for ids, end in zip(encoded, np.cumsum(lengths).tolist(), strict=True):
                block[end - 1 - len(ids) : end - 1] = ids
                block[end - 1] = tokenizer.end_of_text
            content = block.tobytes()
            file.write(content)
            hashed.update(content)
            documents.count(sources, lengths)
            total += len(block)
            characters += sum(map(len, texts))
            shown.advance(size)
        file.flush()
        os.fsync(file.fileno())
    return {
        "documents": len(chosen),
        "characters": characters,
        "tokens": total,
        "sha256": hashed.hexdigest(),
    }


def _manifest(
    config: CorpusConfig,
    sources: Iterable[Source],
    documents: _Documents,
    tokenizer: Tokenizer,
    splits: dict[str, Any],
) -> dict[str, Any]:
    tokens = sum(split["tokens"] for split in splits.values())
    characters = sum(split["characters"] for split in splits.values())
    return {
        "format_version": FORMAT_VERSION,
        "tokenizer_hash": tokenizer.hash,
        "vocab_size": tokenizer.vocab_size,
        "dtype": token_dtype(tokenizer.vocab_size).name,
        "validation_fraction": config.validation_fraction,
        "seed": config.seed,
        "tokens": tokens,
        "tokens_per_character": round(tokens / max(1, characters), 4),
        "splits": splits,
        "sources": [
            {
                "name": source.name,
                **({"licence": source.licence} if isinstance(source, HubSource) else {}),
                **asdict(counts),
                "left_out": source.left_out,
            }
            for source, counts in zip(sources, documents.counts, strict=True)
        ],
    }


class _Progress:
    """One line on standard error that says what is going on and how far it is; nothing when switched off."""

    def __init__(self, on: bool) -> None:
        self._on = on
        self._stack = ExitStack()
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> "_Progress":
        if self._on:
            from rich import progress
            from rich.console import Console

            columns = (
                progress.TextColumn("{task.description}"),
                progress.BarColumn(),
                progress.DownloadColumn(),
                progress.TimeElapsedColumn(),
                progress.TimeRemainingColumn(),
            )
            self._bar = self._stack.enter_context(
                progress.Progress(*columns, console=Console(stderr=True), transient=True)
            )
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def start(self, description: str, size: int | None = None) -> None:
        """Go on to the next stage, of `size` bytes if that is known."""
        if self._bar is not None:
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._task = self._bar.add_task(description, total=size)

    def advance(self, size: int) -> None:
        """So many more bytes are done."""
        if self._bar is not None:
            self._bar.advance(self._task, size)
