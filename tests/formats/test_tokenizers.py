"""Tokenizers go out in GPT-2's and tiktoken's form and come back with the same ids on any text."""

import base64
import json
from pathlib import Path

import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st

from sparse_circuits.errors import InputError
from sparse_circuits.formats import gpt2_pair, tiktoken_ranks
from sparse_circuits.formats.tokenizers import fitting, read_tokenizer
from sparse_circuits.tokenizer import END_OF_TEXT, PATTERN, Tokenizer, placeholder

CODE = [
    "for number in range(10):\n    print(number, 'naïve', \"日本語\")\n",
    "def total(values):\n    return sum(values) + 1  # aaaa aaa aa\n",
    "if x == [[1, 2], [3]]:\n\n\n        raise ValueError(f'{x}')\r\n",
]
TEXTS = st.one_of(
    st.text(),
    st.text(alphabet="ab \n(\"'1é日"),
    st.lists(st.sampled_from([*CODE, "range", "aaaa", "\n", " ", END_OF_TEXT, "<|unused260|>"])).map("".join),
)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(CODE * 3, 330)


@pytest.fixture(scope="module")
def gaps(tokenizer: Tokenizer) -> Tokenizer:
    """One whose last id lies beyond its merges, as the published tokenizer's does."""
    vocabulary = tokenizer.vocabulary
    end = vocabulary.pop(END_OF_TEXT)
    vocabulary |= {placeholder(index): index for index in range(end, end + 5)}
    return Tokenizer({**vocabulary, END_OF_TEXT: end + 5}, tokenizer.merges)


@pytest.fixture(scope="module")
def copies(tokenizer: Tokenizer, gaps: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, ...]]:
    """Each tokenizer, with what its files are read as."""
    made = []
    for name, each in (("plain", tokenizer), ("gaps", gaps)):
        folder = tmp_path_factory.mktemp(name)
        gpt2_pair.write(each, folder)
        (folder / "ranks").mkdir()
        tiktoken_ranks.write(each, folder / "ranks" / "code.tiktoken")
        made += [(each, read_tokenizer(folder)), (each, read_tokenizer(folder / "ranks"))]
    return made  # type: ignore[return-value]


def official(tokenizer: Tokenizer, path: Path) -> tiktoken.Encoding:
    """The encoding that tiktoken itself makes of the file."""
    lines = [line.split() for line in path.read_bytes().splitlines()]
    ranks = {base64.b64decode(token): int(rank) for token, rank in lines}
    described = json.loads(path.with_suffix(".json").read_text())
    return tiktoken.Encoding("code", mergeable_ranks=ranks, **described)


def test_the_files_say_all_there_is(copies: list[tuple[Tokenizer, Tokenizer]]) -> None:
    for one, other in copies:
        assert other.hash == one.hash
        assert (other.vocab_size, other.end_of_text) == (one.vocab_size, one.end_of_text)


@settings(deadline=None, max_examples=150)
@given(text=TEXTS)
def test_tiktoken_gives_the_same_ids(text: str, tokenizer: Tokenizer, gaps: Tokenizer, encodings: dict) -> None:
    for each in (tokenizer, gaps):
        encoding = encodings[each.hash]
        ids = each.encode(text)
        assert encoding.encode(text, disallowed_special=()) == ids
        assert encoding.decode(ids) == each.decode(ids) == text
        assert encoding.encode(END_OF_TEXT, allowed_special="all") == [each.end_of_text]


@pytest.fixture(scope="module")
def encodings(tokenizer: Tokenizer, gaps: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> dict:
    found = {}
    for each in (tokenizer, gaps):
        path = tmp_path_factory.mktemp("ranks") / "code.tiktoken"
        tiktoken_ranks.write(each, path)
        found[each.hash] = official(each, path)
    return found


def test_the_pair_is_in_the_form_of_gpt2(gaps: Tokenizer, tmp_path: Path) -> None:
    gpt2_pair.write(gaps, tmp_path)
    lines = (tmp_path / "vocab.bpe").read_text(encoding="utf-8").split("\n")
    assert lines[0].startswith("#version")
    assert lines[-1] == ""
    assert len(lines) == len(gaps.merges) + 2
    encoder = json.loads((tmp_path / "encoder.json").read_text())
    assert encoder[END_OF_TEXT] == gaps.end_of_text
    assert not [token for token in encoder if token.startswith("<|unused")]


def test_ids_that_are_no_ranks_are_refused(tokenizer: Tokenizer, tmp_path: Path) -> None:
    vocabulary = tokenizer.vocabulary
    one, other = [token for token, index in vocabulary.items() if index in (300, 310)]
    vocabulary[one], vocabulary[other] = vocabulary[other], vocabulary[one]
    swapped = Tokenizer(vocabulary, tokenizer.merges)
    with pytest.raises(InputError, match=r"so they are no ranks|is not made of two tokens"):
        tiktoken_ranks.write(swapped, tmp_path / "code.tiktoken")
    gpt2_pair.write(swapped, tmp_path)
    assert read_tokenizer(tmp_path).encode(CODE[0]) == swapped.encode(CODE[0])


def test_without_what_lies_beside_it_the_end_of_text_comes_last(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tiktoken_ranks.write(tokenizer, tmp_path / "code.tiktoken")
    (tmp_path / "code.json").unlink()
    assert read_tokenizer(tmp_path / "code.tiktoken").hash == tokenizer.hash


DAMAGE = {
    b"": "expected tokens with a rank",
    b"IQ== zero\n": ":1: expected a token in base64 and its rank",
    b"IQ==\n": ":1: expected a token",
    b"!!!! 3\n": ":1: expected a token",
    b"IQ== -1\n": ":1: an empty token, one that came before",
    b"IQ== 0\nIQ== 1\n": ":2: an empty token, one that came before",
    b"IQ== 0\nIg== 0\n": "with a rank of their own each",
    b"IQ== 99999999999999\n": "out of bounds",
    b"IQ== 0\nIg== 1\nISIh 2\n": "the token of rank 2 is not made of two",
    b"IQ== 0\nIg== 1\n": "lacks 254 of the 256 single bytes",
    base64.b64encode(b"a" * 2000) + b" 0\n": "a token of 2000 bytes",
}


@pytest.mark.parametrize(("content", "message"), DAMAGE.items(), ids=range(len(DAMAGE)))
def test_damaged_ranks_are_told_in_one_line(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "code.tiktoken").write_bytes(content)
    with pytest.raises(InputError, match=message) as refused:
        read_tokenizer(tmp_path)
    assert "\n" not in str(refused.value)
    assert str(tmp_path) in str(refused.value)


BESIDE = {
    "[]": "expected an object with pat_str",
    '{"pat_str": "x", "special_tokens": {}}': "by another pattern",
    json.dumps({"pat_str": PATTERN, "special_tokens": {END_OF_TEXT: 0}}): "expected an id after the last rank",
    json.dumps({"pat_str": PATTERN, "special_tokens": {END_OF_TEXT: True}}): "expected an id after the last rank",
    json.dumps({"pat_str": PATTERN, "special_tokens": {"<|pad|>": 400}}): r"the special token '<\|pad\|>'",
}


@pytest.mark.parametrize(("content", "message"), BESIDE.items(), ids=range(len(BESIDE)))
def test_another_encoding_is_refused(content: str, message: str, tokenizer: Tokenizer, tmp_path: Path) -> None:
    tiktoken_ranks.write(tokenizer, tmp_path / "code.tiktoken")
    (tmp_path / "code.json").write_text(content)
    with pytest.raises(InputError, match=message):
        read_tokenizer(tmp_path)


def test_a_tokenizer_with_more_tokens_than_the_model_belongs_elsewhere(tokenizer: Tokenizer) -> None:
    assert fitting(tokenizer, tokenizer.vocab_size, Path("x")) is tokenizer
    with pytest.raises(InputError, match=r"the tokenizer has .* tokens, the model 300"):
        fitting(tokenizer, 300, Path("x"))
