"""Data sets of the Hugging Face Hub as a source: by name, streamed, one column of text, with their licence.

Needs the package `datasets` (the extra `hub`). A local folder of data files (JSON lines, Parquet, CSV, text) is read
the same way. Nothing is fetched before the source is made, and then only what is read.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sparse_circuits.corpus.sources import LARGEST_FILE, unwanted
from sparse_circuits.errors import InputError

UNKNOWN = "not stated"


@dataclass
class HubSource:
    """The texts in one column of a data set, in its order.

    Args:
        dataset: the name on the Hub (`owner/name`), or a local folder of data files.
        column: the column that holds the text.
        split: the split to read.
        subset: the configuration, where the data set has several.
        limit: stop after the document that reaches so many bytes; None for all.

    Raises:
        InputError: the package `datasets` is missing, or the data set, split or column cannot be had.
    """

    dataset: str
    column: str = "text"
    split: str = "train"
    subset: str | None = None
    limit: int | None = None
    licence: str = field(default=UNKNOWN, init=False)
    """As the data set states it."""
    left_out: dict[str, int] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._rows = _stream(self.dataset, self.subset, self.split)
        columns = self._rows.column_names
        if columns is not None and self.column not in columns:
            raise InputError(
                f"the data set {self.dataset} has no column {self.column!r}; choose with --column among "
                f"{', '.join(columns)}"
            )
        self.licence = _licence(self.dataset, self._rows)

    @property
    def name(self) -> str:
        return " ".join(filter(None, ("data set", self.dataset, self.subset, f"({self.split})")))

    def documents(self) -> Iterator[str]:
        counts: dict[str, int] = {}
        read = 0
        for text in self._texts():
            reason, size = _reason(text), 0
            if reason is None:
                size = len(text.encode())
                reason = "over 1 MB" if size > LARGEST_FILE else None
            if reason is not None:
                counts[reason] = counts.get(reason, 0) + 1
                continue
            if self.limit is not None and read >= self.limit:
                break
            read += size
            yield text.replace("\r\n", "\n").replace("\r", "\n")
        self.left_out = dict(sorted(counts.items()))

    def _texts(self) -> Iterator[Any]:
        """What the column holds, row by row."""
        try:
            for row in self._rows:
                if self.column not in row:
                    raise InputError(
                        f"a row of {self.dataset} has no column {self.column!r}; choose with --column among "
                        f"{', '.join(row)}"
                    )
                yield row[self.column]
        except (OSError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"reading the data set {self.dataset} broke off: {_first_line(error)}; try again, or take less "
                "with --limit"
            ) from error


def _reason(text: Any) -> str | None:
    """Why a document is left out, or None."""
    if not isinstance(text, str):
        return "not a text"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "not in UTF-8"
    return unwanted(text)


def _stream(dataset: str, subset: str | None, split: str) -> Any:
    """The rows of a data set as a stream."""
    try:
        import datasets
    except ImportError as error:
        raise InputError(
            f"reading the data set {dataset} needs the package datasets; pip install 'sparse-circuits[hub]'"
        ) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return datasets.load_dataset(dataset, subset, split=split, streaming=True)
        except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
            raise InputError(
                f"cannot read split {split!r} of the data set {dataset}: {_first_line(error)}; choose another name, "
                "--subset or --split, or see that the network is there"
            ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__


def _licence(dataset: str, rows: Any) -> str:
    """The licence as the data set states it: in its information, or at the head of its card."""
    stated = getattr(rows.info, "license", "")
    if not stated:
        from huggingface_hub import DatasetCard

        card = Path(dataset) / "README.md"
        try:
            found = DatasetCard.load(card if Path(dataset).is_dir() else dataset)
        except (OSError, ValueError):
            return UNKNOWN
        stated = found.data.to_dict().get("license", "")
    return ", ".join(stated) if isinstance(stated, list) else str(stated or UNKNOWN)
