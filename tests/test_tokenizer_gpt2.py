"""The tokenizer that comes with a GPT-2 cuts text as GPT-2 does, and stays the same through files and copies."""

import pickle
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Library
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

from sparse_circuits.errors import InputError
from sparse_circuits.tokenizer import GPT2_PATTERN, Tokenizer

TEXT = ["def f(x):\n    return x's + 12345  # don't, they're\n\n", "for i in range(10):\n\tprint('a b')  \n" * 3]


@pytest.fixture(scope="module")
def theirs() -> Library:
    """A tokenizer built as the library builds GPT-2's."""
    library = Library(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    library.post_processor = processors.ByteLevel(trim_offsets=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    library.train_from_iterator(
        TEXT, trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    )
    library.add_special_tokens(["<|endoftext|>"])
    return library


@pytest.fixture(scope="module")
def ours(theirs: Library, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path = tmp_path_factory.mktemp("gpt2") / "tokenizer.json"
    theirs.save(str(path))
    return Tokenizer.load(path)


@settings(max_examples=200, deadline=None)
@given(
    st.one_of(
        st.text(max_size=30), st.lists(st.sampled_from(["'s", " ", "\n", "12345", "x", "(", "é", "\t"])).map("".join)
    )
)
def test_every_text_gets_the_librarys_ids(theirs: Library, ours: Tokenizer, text: str) -> None:
    assert ours.encode(text) == theirs.encode(text, add_special_tokens=False).ids
    assert ours.decode(ours.encode(text)) == text


def test_it_is_another_tokenizer_than_one_of_the_same_tokens_and_stays_it(ours: Tokenizer, tmp_path: Path) -> None:
    plain = Tokenizer(ours._vocabulary, ours._merges)
    assert plain.hash != ours.hash
    assert plain.encode("12345") != ours.encode("12345") or plain.encode("x's") != ours.encode("x's")
    ours.save(tmp_path / "tokenizer.json")
    for again in (Tokenizer.load(tmp_path), pickle.loads(pickle.dumps(ours))):
        assert again.hash == ours.hash == Tokenizer(ours._vocabulary, ours._merges, GPT2_PATTERN).hash
        assert again.encode(TEXT[0]) == ours.encode(TEXT[0])


def test_one_that_adds_a_space_in_front_is_refused(theirs: Library, tmp_path: Path) -> None:
    theirs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    theirs.save(str(tmp_path / "tokenizer.json"))
    theirs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    with pytest.raises(InputError, match="cuts text by another pattern"):
        Tokenizer.load(tmp_path)
