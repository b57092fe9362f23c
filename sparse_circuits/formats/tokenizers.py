"""A tokenizer in any of the forms that are read, and whether it fits a model."""

from pathlib import Path

from sparse_circuits.errors import InputError
from sparse_circuits.formats import tiktoken_ranks
from sparse_circuits.tokenizer import Tokenizer


def read_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer in a folder, a `tokenizer.json` or a `.tiktoken` file.

    Raises:
        InputError: none is there, or one that would not give the same ids here.
    """
    if path.is_dir() and not any((path / name).exists() for name in ("tokenizer.json", "encoder.json", "vocab.json")):
        found = sorted(path.glob("*.tiktoken"))
        if len(found) == 1:
            return tiktoken_ranks.read(found[0])
    return tiktoken_ranks.read(path) if path.suffix == ".tiktoken" else Tokenizer.load(path)


def fitting(tokenizer: Tokenizer, vocab_size: int, where: Path) -> Tokenizer:
    """`tokenizer`, unless it has more tokens than a model of `vocab_size`."""
    if tokenizer.vocab_size > vocab_size:
        raise InputError(
            f"{where}: the tokenizer has {tokenizer.vocab_size} tokens, the model {vocab_size}; one of the two "
            "belongs elsewhere"
        )
    return tokenizer
