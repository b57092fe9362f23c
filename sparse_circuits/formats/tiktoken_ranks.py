"""tiktoken's form of a tokenizer: `NAME.tiktoken`, a line a token, its bytes in base64 and its rank, which is its id.

Beside it `NAME.json` says what else makes an encoding: the pattern and the special tokens.

tiktoken joins whatever pair of neighbours makes the token of the lowest rank, the merges of a BPE only the pairs that
were learned. The two agree on every text when each token, spelled out, is made by its own merge; that is checked both
ways (`merges_of`).
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sparse_circuits.errors import InputError
from sparse_circuits.files import atomic_write, read_json, write_json
from sparse_circuits.tokenizer import (
    END_OF_TEXT,
    LARGEST_VOCABULARY,
    PATTERN,
    Tokenizer,
    byte_alphabet,
    placeholder,
)

LONGEST_TOKEN = 1024
"""Bytes; splitting one takes time that grows with the square."""


def write(tokenizer: Tokenizer, path: Path) -> list[str]:
    """Write the ranks to `path` (NAME.tiktoken), pattern and special tokens beside it.

    Raises:
        InputError: its ids are no ranks: tiktoken would give other ids.
    """
    byte_of = {character: byte for byte, character in byte_alphabet().items()}
    ranks = {
        bytes(byte_of[character] for character in token): index
        for token, index in tokenizer.vocabulary.items()
        if token not in (END_OF_TEXT, placeholder(index))
    }
    spelled = byte_alphabet()
    learned = [tuple("".join(spelled[byte] for byte in part) for part in pair) for pair in merges_of(ranks, path)]
    if learned != list(tokenizer.merges):
        raise InputError(f"{path}: the tokenizer's ids are not in the order of its merges, so they are no ranks")
    lines = [f"{base64.b64encode(token).decode()} {rank}" for token, rank in ranks.items()]
    atomic_write(path, "\n".join(lines) + "\n")
    described = {"pat_str": PATTERN, "special_tokens": {END_OF_TEXT: tokenizer.end_of_text}}
    write_json(path.with_suffix(".json"), described)
    return [f"pattern and special tokens are in {path.with_suffix('.json').name}"]


def read(path: Path) -> Tokenizer:
    """The tokenizer of a `.tiktoken` file, and of the `.json` beside it if there is one.

    Without that the end of text is the id after the last.

    Raises:
        InputError: no such file, a line that is no token, another pattern, ranks that no merges give.
    """
    ranks = _read_ranks(path)
    pattern, special = _read_beside(path.with_suffix(".json"), max(ranks.values()) + 1)
    if pattern != PATTERN:
        raise InputError(f"{path.with_suffix('.json')}: it cuts text by another pattern than this library's tokenizers")
    spelled = byte_alphabet()
    vocabulary = {"".join(spelled[byte] for byte in token): rank for token, rank in ranks.items()}
    merges = [
        ("".join(spelled[byte] for byte in left), "".join(spelled[byte] for byte in right))
        for left, right in merges_of(ranks, path)
    ]
    vocabulary[END_OF_TEXT] = special
    taken = set(vocabulary.values())
    vocabulary |= {placeholder(index): index for index in range(special) if index not in taken}
    try:
        return Tokenizer(vocabulary, merges)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def merges_of(ranks: Mapping[bytes, int], where: Path) -> list[tuple[bytes, bytes]]:
    """The pair that makes each token of more than one byte, in the order of the ranks.

    Raises:
        InputError: a token is not made of two others of lower rank.
    """
    merges = []
    for token, rank in sorted(ranks.items(), key=lambda item: item[1]):
        if len(token) == 1:
            continue
        if len(token) > LONGEST_TOKEN:
            raise InputError(f"{where}: a token of {len(token)} bytes; no tokenizer here has one")
        parts = _joined([bytes([byte]) for byte in token], ranks, rank)
        if len(parts) != 2 or any(ranks.get(part, rank) >= rank for part in parts):
            raise InputError(f"{where}: the token of rank {rank} is not made of two tokens of lower rank")
        merges.append((parts[0], parts[1]))
    return merges


def _joined(parts: Sequence[bytes], ranks: Mapping[bytes, int], below: int) -> list[bytes]:
    """`parts` after joining neighbours, the lowest rank first, as far as ranks are lower than `below`."""
    found = list(parts)
    while len(found) > 1:
        best = min(range(len(found) - 1), key=lambda at: ranks.get(found[at] + found[at + 1], below))
        if ranks.get(found[best] + found[best + 1], below) >= below:
            break
        found[best : best + 2] = [found[best] + found[best + 1]]
    return found


def _read_ranks(path: Path) -> dict[bytes, int]:
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            encoded, index = line.split()
            token, rank = base64.b64decode(encoded, validate=True), int(index)
        except (ValueError, binascii.Error):
            raise InputError(f"{path}:{number}: expected a token in base64 and its rank") from None
        if not token or not 0 <= rank < LARGEST_VOCABULARY or token in ranks:
            raise InputError(f"{path}:{number}: an empty token, one that came before, or a rank out of bounds")
        ranks[token] = rank
    if len(set(ranks.values())) != len(ranks) or not ranks:
        raise InputError(f"{path}: expected tokens with a rank of their own each")
    return ranks


def _read_beside(path: Path, after: int) -> tuple[str, int]:
    """Pattern and id of the end of text."""
    if not path.is_file():
        return PATTERN, after
    described: Any = read_json(path)
    try:
        pattern, special = described["pat_str"], described["special_tokens"]
        index = special.get(END_OF_TEXT, after)
    except (TypeError, KeyError, AttributeError):
        raise InputError(f"{path}: expected an object with pat_str and special_tokens") from None
    if not isinstance(index, int) or isinstance(index, bool) or not after <= index < LARGEST_VOCABULARY:
        raise InputError(f"{path}: {END_OF_TEXT} is {str(index)[:20]}; expected an id after the last rank")
    if others := sorted(str(name) for name in special if name != END_OF_TEXT):
        raise InputError(f"{path}: the special token {others[0][:40]!r}; this library's tokenizers have only one")
    return pattern, index
