"""Text to token ids and back.

A byte-level BPE tokenizer in the form the weight-sparse transformer paper uses (arXiv 2511.13653): text is
cut into pieces by `PATTERN`, each piece becomes UTF-8 bytes, and the learned merges join bytes into tokens
inside a piece. Ids 0 to 255 are the single bytes (in GPT-2's order, so 0 is "!"), then come the merges in
the order they were learned, and `<|endoftext|>`, which separates documents and which no text encodes to, is
always the last id.

A tokenizer is its vocabulary and its merges, nothing else; its `hash` covers just these and the pattern, and
`tokenizer.json` is the Hugging Face `tokenizers` file of the same.
"""

import hashlib
import json
import operator
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, SupportsIndex

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from sparse_circuits.errors import InputError
from sparse_circuits.files import atomic_write, read_json

PATTERN = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""How GPT-2 cuts text: of tokenizers that come with such a model, which are read but not trained here."""
END_OF_TEXT = "<|endoftext|>"
SMALLEST_VOCABULARY = 257
"""The 256 bytes and the end of text."""
LARGEST_VOCABULARY = 1 << 24
"""A bound on the ids a file may name; no tokenizer comes near it."""


class Tokenizer:
    """A byte-level BPE tokenizer: `train` or `load` one; `decode(encode(text)) == text` for every text.

    Args:
        vocabulary: token to id, tokens spelled in GPT-2's printable alphabet; ids are 0 to n - 1, all 256
            single bytes are in it, and `<|endoftext|>` has the last id.
        merges: pairs of tokens to join, the earliest learned first.
        pattern: what cuts text into pieces, `PATTERN` or `GPT2_PATTERN`.

    Raises:
        InputError: the vocabulary is not of this form.
    """

    def __init__(self, vocabulary: dict[str, int], merges: Sequence[tuple[str, str]], pattern: str = PATTERN) -> None:
        _check_vocabulary(vocabulary)
        self._pattern = pattern
        self._vocabulary = dict(sorted(vocabulary.items(), key=lambda item: item[1]))
        self._merges = [(left, right) for left, right in merges]
        ordinary = {token: index for token, index in self._vocabulary.items() if token != END_OF_TEXT}
        try:
            self._library = _library_tokenizer(models.BPE(ordinary, self._merges), pattern)
        except Exception as error:  # the library raises a bare Exception for a merge outside the vocabulary
            raise InputError(f"the tokenizer's merges do not fit its vocabulary: {error}") from error
        self._library.add_special_tokens([END_OF_TEXT])
        # Ordinary text that happens to spell the special token stays ordinary text.
        self._library.encode_special_tokens = True
        byte_of = {character: byte for byte, character in byte_alphabet().items()}
        self._bytes = [bytes(byte_of[character] for character in token) for token in self._vocabulary]

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int = 2048, progress: bool = False) -> "Tokenizer":
        """Learn the merges from `texts`; the same texts give the same tokenizer.

        Args:
            texts: read once.
            vocab_size: how many tokens to aim for, end of text included. Texts too small to give so many
                distinct
                pairs give fewer: see `.vocab_size` of the result.
            progress: show the library's progress bar on standard error.

        Raises:
            InputError: `vocab_size` is below 257 (256 bytes and end of text), or a text holds lone
                surrogates.
        """
        check_vocab_size(vocab_size)
        library = _library_tokenizer(models.BPE())
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size - 1,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=progress,
        )
        library.train_from_iterator((_encodable(text) for text in texts), trainer)
        model = json.loads(library.to_str())["model"]
        return cls({**model["vocab"], END_OF_TEXT: len(model["vocab"])}, [tuple(m) for m in model["merges"]])

    @classmethod
    def load(cls, path: str | Path) -> "Tokenizer":
        """Read a `tokenizer.json`, or what the folder `path` holds: that file or a pair in GPT-2's form.

        The pairs are `encoder.json` with `vocab.bpe`, and `vocab.json` with `merges.txt`. Where they do not
        name end of text, it is the id after the last; ids they skip get tokens that no text encodes to.

        Raises:
            InputError: no such file; cut short; not a byte-level BPE tokenizer with one of this module's patterns
                and `<|endoftext|>` as its last token.
        """
        path = Path(path)
        try:
            if path.is_dir() and not (path / "tokenizer.json").exists():
                return cls(*_read_pair(path))
            path = path / "tokenizer.json" if path.is_dir() else path
            tokenizer = cls(*_parse(content := read_json(path)))
            # With this setting a piece of text that is a token needs no merges; it must come to the same.
            if content["model"].get("ignore_merges") and not all(map(tokenizer._is_merged, tokenizer._bytes)):
                raise _FormError("it has tokens that its merges do not make")
            return tokenizer
        except _FormError as error:
            raise InputError(
                f"{path} is not a tokenizer this library reads: {error}; expected a byte-level BPE"
            ) from error
        except InputError as error:
            raise InputError(str(error) if str(path) in str(error) else f"{path}: {error}") from error

    def save(self, path: str | Path) -> None:
        """Write `tokenizer.json` at `path`, readable by the Hugging Face `tokenizers` and `transformers`."""
        atomic_write(path, self._library.to_str(pretty=True) + "\n")

    def encode(self, text: str) -> list[int]:
        """The ids of `text`, without end of text.

        Raises:
            InputError: `text` holds lone surrogates, which have no UTF-8.
        """
        return self._library.encode(_encodable(text), add_special_tokens=False).ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of each text, on all cores."""
        checked = [_encodable(text) for text in texts]
        return [encoding.ids for encoding in self._library.encode_batch(checked, add_special_tokens=False)]

    def decode(self, ids: Iterable[Any]) -> str:
        """The text of a flat sequence of ids (a list, a NumPy array, a tensor).

        Bytes that are not UTF-8, as when a character is cut between tokens, become U+FFFD; end of text is
        spelled out.

        Raises:
            InputError: an id is outside the vocabulary, or `ids` is not flat.
        """
        # A tensor's own elements are tensors again, a thousand times slower than integers.
        flat = ids.tolist() if hasattr(ids, "tolist") else ids
        if not isinstance(flat, Iterable):
            raise InputError(f"token ids must be a flat sequence of integers, not the single {flat!r}")
        return b"".join(self._bytes[self._checked(index)] for index in flat).decode("utf-8", "replace")

    def token(self, index: SupportsIndex) -> str:
        """Token `index` as people read it: its text, line ends, control and partial characters escaped.

        No two tokens read the same. Spaces stay spaces, so put quotes around it.
        """
        content = self._bytes[self._checked(index)]
        pieces = []
        for character in content.decode("utf-8", "surrogateescape"):
            if "\udc80" <= character <= "\udcff":
                pieces.append(f"\\x{ord(character) - 0xDC00:02x}")
            elif character == "\\" or not character.isprintable():
                pieces.append(character.encode("unicode_escape").decode())
            else:
                pieces.append(character)
        return "".join(pieces)

    def single_token(self, text: str) -> int | None:
        """The id of `text` if it encodes to exactly one token, else None."""
        ids = self.encode(text)
        return ids[0] if len(ids) == 1 else None

    @property
    def vocabulary(self) -> dict[str, int]:
        """Every token, spelled in GPT-2's alphabet, and its id, by rising id."""
        return dict(self._vocabulary)

    @property
    def merges(self) -> list[tuple[str, str]]:
        """The pairs that are joined, the earliest learned first."""
        return list(self._merges)

    @property
    def vocab_size(self) -> int:
        """How many tokens there are, end of text included."""
        return len(self._bytes)

    @property
    def end_of_text(self) -> int:
        """The id that follows every document: the last one."""
        return self.vocab_size - 1

    @cached_property
    def hash(self) -> str:
        """SHA-256, in hexadecimal, of the pattern, the vocabulary and the merges."""
        content = [self._pattern, list(self._vocabulary), self._merges]
        return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()

    def __repr__(self) -> str:
        return f"Tokenizer(vocab_size={self.vocab_size}, hash={self.hash[:12]})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Tokenizer, (self._vocabulary, self._merges, self._pattern)

    def _is_merged(self, content: bytes) -> bool:
        """Whether the merges make one token of the bytes of a token (which may be no text: then yes)."""
        try:
            return content == END_OF_TEXT.encode() or self.single_token(content.decode()) is not None
        except UnicodeDecodeError:
            return True

    def _checked(self, index: Any) -> int:
        """`index` as a plain integer inside the vocabulary."""
        try:
            number = operator.index(index)
        except TypeError as error:
            raise InputError(f"token ids must be a flat sequence of integers, not {type(index).__name__}") from error
        if not 0 <= number < self.vocab_size:
            raise InputError(f"token id {number} is outside the vocabulary: ids are 0 to {self.vocab_size - 1}")
        return number


def check_vocab_size(vocab_size: int) -> None:
    """Refuse a vocabulary too small to spell every text, or absurdly large.

    Raises:
        InputError: `vocab_size` is below 257, or beyond what a tokenizer file may name.
    """
    if vocab_size < SMALLEST_VOCABULARY:
        raise InputError(f"vocab_size is {vocab_size}; expected {SMALLEST_VOCABULARY} or more: 256 bytes, end of text")
    if vocab_size > LARGEST_VOCABULARY:
        raise InputError(f"vocab_size is {vocab_size}; expected {LARGEST_VOCABULARY} or less")


class _FormError(ValueError):
    """The file is JSON, but of another tokenizer."""


def _library_tokenizer(model: models.BPE, pattern: str = PATTERN) -> tokenizers.Tokenizer:
    """The library's tokenizer around `model`, with this module's way of cutting text."""
    library = tokenizers.Tokenizer(model)
    library.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(pattern), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    library.decoder = decoders.ByteLevel()
    return library


def placeholder(index: int) -> str:
    """The token that stands for an id which no text encodes to."""
    return f"<|unused{index}|>"


def byte_alphabet() -> dict[int, str]:
    """GPT-2's spelling of each byte: printable Latin-1 stands for itself, the rest for U+0100 onward."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(others)}


def _encodable(text: str) -> str:
    """`text` itself, once it is known to have UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"text has a lone surrogate (U+{ord(text[error.start]):04X}) at character {error.start}, which "
            "has no UTF-8; read the file with its right encoding, or replace the character"
        ) from error
    return text


def _check_ids(vocabulary: dict[str, Any]) -> None:
    ids = list(vocabulary.values())
    if not ids or not all(type(index) is int and 0 <= index < LARGEST_VOCABULARY for index in ids):
        raise InputError(f"the tokenizer's ids are not all whole numbers from 0 to {LARGEST_VOCABULARY - 1}")


def _check_vocabulary(vocabulary: dict[str, int]) -> None:
    size = len(vocabulary)
    alphabet = set(byte_alphabet().values())
    if sorted(vocabulary.values()) != list(range(size)):
        raise InputError(f"the tokenizer's {size} ids are not 0 to {size - 1}, each once")
    if vocabulary.get(END_OF_TEXT) != size - 1:
        raise InputError(f"the tokenizer's last id, {size - 1}, must be {END_OF_TEXT}")
    if missing := alphabet - set(vocabulary):
        raise InputError(f"the tokenizer lacks {len(missing)} of the 256 single bytes; it is not byte-level")
    if foreign := [t for t in vocabulary if t != END_OF_TEXT and not (t and set(t) <= alphabet)]:
        raise InputError(f"the tokenizer's token {foreign[0]!r} is not spelled in bytes; it is not byte-level")


def _parse(content: Any) -> tuple[dict[str, int], list[tuple[str, str]], str]:
    """Vocabulary, merges and pattern out of the Hugging Face JSON, once it is known that they mean the same here."""
    try:
        model = content["model"]
        steps = content["pre_tokenizer"]
        steps = steps["pretokenizers"] if steps["type"] == "Sequence" else [steps]
        patterns = [str(step["pattern"]["Regex"]) for step in steps if step["type"] == "Split"]
        kinds = [step["type"] for step in steps]
        cuts_only = all(step["behavior"] == "Isolated" and not step["invert"] for step in steps if "pattern" in step)
        spells_only = not any(step.get("add_prefix_space") or step.get("use_regex", True) for step in steps[1:])
        vocabulary = dict(model["vocab"])
        spelled = (merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"])
        merges = [(str(left), str(right)) for left, right in spelled]
        vocabulary |= {str(added["content"]): added["id"] for added in content["added_tokens"]}
        kind = model.get("type", "BPE")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _FormError("its parts are not those of a byte-level BPE") from error
    if kind != "BPE":
        raise _FormError(f"its model is {kind}")
    for option in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(option):
            raise _FormError(f"its model has the option {option}")
    if content.get("normalizer") is not None:
        raise _FormError("it changes the text before encoding (a normalizer)")
    # GPT-2's own file leaves its pattern to the step that spells text in bytes.
    whole = kinds == ["ByteLevel"] and steps[0].get("add_prefix_space") is False and steps[0].get("use_regex", True)
    plain = [pattern.replace("\r", r"\r").replace("\n", r"\n") for pattern in patterns]
    if not whole and plain not in ([PATTERN], [GPT2_PATTERN]):
        raise _FormError("it cuts text by another pattern")
    if not whole and (kinds != ["Split", "ByteLevel"] or not cuts_only or not spells_only):
        raise _FormError("it cuts or changes text in further steps (pre-tokenizers)")
    _check_ids(vocabulary)
    return vocabulary, merges, GPT2_PATTERN if whole else plain[0]


def _read_pair(folder: Path) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges out of GPT-2's two files."""
    pairs = [("encoder.json", "vocab.bpe"), ("vocab.json", "merges.txt")]
    for encoder, bpe in pairs:
        if not (folder / encoder).exists():
            continue
        vocabulary = read_json(folder / encoder)
        try:
            lines = (folder / bpe).read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeError) as error:
            raise InputError(f"cannot read {folder / bpe}, which belongs to {encoder}: {error}") from error
        merges = [tuple(line.split(" ")) for line in lines if line and not line.startswith("#version")]
        if not isinstance(vocabulary, dict) or not all(len(merge) == 2 for merge in merges):
            raise _FormError(f"{encoder} and {bpe} are not in GPT-2's form")
        _check_ids(vocabulary)
        vocabulary.setdefault(END_OF_TEXT, max(vocabulary.values()) + 1)
        unused = set(range(max(vocabulary.values()))) - set(vocabulary.values())
        vocabulary |= {placeholder(index): index for index in unused}
        return vocabulary, [(merge[0], merge[1]) for merge in merges]
    choices = " or ".join(" with ".join(pair) for pair in pairs)
    raise InputError(f"no tokenizer in {folder}; expected tokenizer.json, or {choices}")
