"""The tokenizer loses nothing, never invents the special token, and is the same for the same text."""

import copy
import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tokenizers
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparse_circuits.errors import InputError
from sparse_circuits.tokenizer import END_OF_TEXT, Tokenizer

TEXTS = [
    "def total(values):\n    result = 0\n    for value in values:\n        result += value\n    return result\n",
    "with open(path) as file:\n    print('done', 12345, [[1, 2], [3, 4]])\n",
    'class Café:\r\n\tname = "naïve"  # 日本\n',
] * 5


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(TEXTS, vocab_size=350)


any_text = st.text() | st.text(alphabet=" \t\r\n\x00abé日😀\u0301\u200d<|endoftext>", max_size=40)


@settings(deadline=None)
@given(text=any_text)
def test_decoding_gives_back_any_text(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.end_of_text not in ids


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\r",
        "\r\n",
        "\r",
        "\x00",
        "e\u0301",
        "👩‍👩‍👧",
        "\ufeffx",
        "a  \n\n  b",
        "\ud7ff\ue000",
        "\U0010ffff",
        "\u2028",
    ],
)
def test_awkward_texts_come_back(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


@settings(deadline=None)
@given(texts=st.lists(any_text, max_size=6))
def test_a_batch_is_its_texts_one_by_one(tokenizer: Tokenizer, texts: list[str]) -> None:
    assert tokenizer.encode_batch(texts) == [tokenizer.encode(text) for text in texts]


def test_text_that_spells_the_special_token_stays_text(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode(f"x{END_OF_TEXT}y")
    assert tokenizer.end_of_text not in ids
    assert tokenizer.decode(ids) == f"x{END_OF_TEXT}y"
    assert tokenizer.single_token(END_OF_TEXT) is None


def test_end_of_text_is_the_last_id_and_bytes_are_the_first(tokenizer: Tokenizer) -> None:
    assert tokenizer.vocab_size == 350
    assert tokenizer.end_of_text == 349
    assert tokenizer.token(349) == tokenizer.decode([349]) == END_OF_TEXT
    assert tokenizer.encode("!~") == [0, 93]  # GPT-2's order: printable ASCII from "!" on
    assert sorted(tokenizer.encode(chr(n))[0] for n in range(128)) == sorted({*range(94), *range(188, 222)})


def test_the_first_merge_is_the_most_frequent_pair() -> None:
    # In "aab aab aac": a a comes 3 times, a b twice, " a" twice: a a is merged first, then " aa" and "aab".
    trained = Tokenizer.train(["aab aab aac"], vocab_size=258)
    assert trained.token(256) == "aa"
    assert trained.encode("aab") == [256, trained.encode("b")[0]]


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("hello world", ["hello", " world"]),
        ("x1234567", ["x", "123", "456", "7"]),
        ("a = b", ["a", " =", " b"]),
        ("f(x):\n", ["f", "(x", "):\n"]),
        ("]]\n", ["]]\n"]),
        ("x\n    y", ["x", "\n", "   ", " y"]),
        ("\n\n\n", ["\n\n\n"]),
        ("#!/usr\n//", ["#!/", "usr", "\n", "//"]),
        ("a   ", ["a", "   "]),
    ],
)
def test_text_is_cut_by_the_papers_pattern(text: str, pieces: list[str]) -> None:
    # Trained on the text alone until no pair is left, each piece is one token and nothing crosses pieces.
    trained = Tokenizer.train([text], vocab_size=2048)
    assert [trained.decode([index]) for index in trained.encode(text)] == pieces


def test_too_small_a_text_gives_a_smaller_vocabulary() -> None:
    trained = Tokenizer.train(["ab"], vocab_size=2048)
    assert trained.vocab_size == 258
    assert trained.end_of_text == 257
    assert Tokenizer.train([], vocab_size=300).vocab_size == 257


def test_training_gives_the_same_file_in_other_processes_and_thread_counts(tmp_path: Path) -> None:
    script = (
        "import sys; sys.path.insert(0, 'tests'); from sparse_circuits.tokenizer import Tokenizer;"
        "texts = [open(sys.argv[1]).read()[i::7] for i in range(7)];"
        "Tokenizer.train(texts, 700).save(sys.argv[2])"
    )
    files = []
    for threads in ("1", "3"):
        files.append(tmp_path / f"{threads}.json")
        subprocess.run(
            [sys.executable, "-c", script, __file__, str(files[-1])],
            check=True,
            env={"RAYON_NUM_THREADS": threads, "PATH": "", "PYTHONPATH": str(Path(__file__).parents[1])},
        )
    assert files[0].read_bytes() == files[1].read_bytes()


def test_saved_and_loaded_it_is_the_same(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "tokenizer.json")
    for path in (tmp_path / "tokenizer.json", tmp_path):
        loaded = Tokenizer.load(path)
        assert loaded.hash == tokenizer.hash
        assert loaded.encode(TEXTS[0] + END_OF_TEXT) == tokenizer.encode(TEXTS[0] + END_OF_TEXT)
    loaded.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "tokenizer.json").read_bytes()


def test_the_file_is_the_tokenizers_librarys_own(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "tokenizer.json")
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert theirs.encode(TEXTS[2]).ids == tokenizer.encode(TEXTS[2])
    assert theirs.token_to_id(END_OF_TEXT) == tokenizer.end_of_text
    assert theirs.decode(tokenizer.encode(TEXTS[2])) == TEXTS[2]


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))])
def test_copies_treat_the_special_token_as_text_too(tokenizer: Tokenizer, duplicate: object) -> None:
    copied = duplicate(tokenizer)  # type: ignore[operator]
    assert copied.hash == tokenizer.hash
    assert copied.encode(END_OF_TEXT) == tokenizer.encode(END_OF_TEXT)


def test_another_vocabulary_has_another_hash(tokenizer: Tokenizer) -> None:
    assert Tokenizer.train(TEXTS, vocab_size=349).hash != tokenizer.hash
    assert Tokenizer.train(TEXTS, vocab_size=350).hash == tokenizer.hash


def test_decode_takes_any_flat_integers(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("for x in y")
    array = np.array(ids, dtype=np.uint16)
    for given_ids in (tuple(ids), iter(ids), array, list(array), torch.tensor(ids), list(torch.tensor(ids))):
        assert tokenizer.decode(given_ids) == "for x in y"
    assert tokenizer.decode([]) == ""


def test_broken_characters_decode_to_the_replacement_character(tokenizer: Tokenizer) -> None:
    euro = tokenizer.encode("€")
    assert len(euro) == 3
    assert tokenizer.decode([*euro[:2], *tokenizer.encode("a")]) == "\ufffda"


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([350], "token id 350 is outside the vocabulary: ids are 0 to 349"),
        ([-1], "token id -1 is outside the vocabulary: ids are 0 to 349"),
        ([1.5], "token ids must be a flat sequence of integers, not float"),
        ([[1]], "token ids must be a flat sequence of integers, not list"),
        (np.zeros((1, 2), dtype=np.int64), "token ids must be a flat sequence of integers, not list"),
        (torch.tensor(5), "token ids must be a flat sequence of integers, not the single 5"),
        ("ab", "token ids must be a flat sequence of integers, not str"),
    ],
)
def test_wrong_ids_are_refused(tokenizer: Tokenizer, ids: object, message: str) -> None:
    with pytest.raises(InputError) as caught:
        tokenizer.decode(ids)  # type: ignore[arg-type]
    assert str(caught.value) == message


def test_lone_surrogates_are_refused_everywhere(tokenizer: Tokenizer) -> None:
    for attempt in (
        lambda: tokenizer.encode("ab\ud800"),
        lambda: tokenizer.encode_batch(["fine", "ab\ud800"]),
        lambda: Tokenizer.train(["ab\ud800"], 300),
    ):
        with pytest.raises(InputError, match=r"lone surrogate \(U\+D800\) at character 2"):
            attempt()


def test_tokens_read_differently_from_each_other(tokenizer: Tokenizer) -> None:
    assert tokenizer.token(tokenizer.encode("\n")[0]) == r"\n"
    assert tokenizer.token(tokenizer.encode("\\")[0]) == r"\\"
    assert tokenizer.token(tokenizer.encode("€")[0]) == r"\xe2"
    assert tokenizer.token(tokenizer.single_token(" result")) == " result"
    printed = [tokenizer.token(index) for index in range(tokenizer.vocab_size)]
    assert len(set(printed)) == tokenizer.vocab_size
    assert all(text.isprintable() for text in printed)


def test_single_token(tokenizer: Tokenizer) -> None:
    index = tokenizer.single_token(" result")
    assert index is not None
    assert tokenizer.encode(" result") == [index]
    assert tokenizer.single_token("resultx") is None
    assert tokenizer.single_token("") is None


@pytest.mark.parametrize("size", [256, 0, -5])
def test_a_vocabulary_without_room_for_all_bytes_is_refused(size: int) -> None:
    with pytest.raises(InputError, match=f"vocab_size is {size}; expected 257 or more"):
        Tokenizer.train(TEXTS, vocab_size=size)


@pytest.mark.parametrize("size", [1 << 25, 10**12, 10**30])
def test_an_absurd_vocabulary_is_refused_before_the_library_aborts(size: int) -> None:
    with pytest.raises(InputError, match=f"vocab_size is {size}; expected 16777216 or less"):
        Tokenizer.train(TEXTS, vocab_size=size)


@settings(deadline=None, max_examples=40)
@given(cut=st.floats(0, 0.99))
def test_a_file_cut_short_is_refused(
    tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory, cut: float
) -> None:
    path = tmp_path_factory.mktemp("cut") / "tokenizer.json"
    tokenizer.save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(cut * len(content))])
    with pytest.raises(InputError, match=r"tokenizer\.json"):
        Tokenizer.load(path)


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        (("model", "type"), "Unigram", "its model is Unigram"),
        (("model", "dropout"), 0.1, "option dropout"),
        (("model", "merges"), [["x", "qq"]], "merges do not fit"),
        (("model", "vocab", "!"), "zero", "not all whole numbers"),
        (("model", "vocab", "!"), 5, "not 0 to 349, each once"),
        (("model", "ignore_merges"), True, None),
        (("added_tokens",), [], "last id, 348, must be <|endoftext|>"),
        (("normalizer",), {"type": "NFC"}, "changes the text before encoding"),
        (("pre_tokenizer",), {"type": "ByteLevel"}, "cuts text by another pattern"),
        (("pre_tokenizer", "pretokenizers", 0, "pattern", "Regex"), 5, "cuts text by another pattern"),
        (("pre_tokenizer", "pretokenizers", 0, "behavior"), "Removed", "further steps"),
        (("pre_tokenizer", "pretokenizers", 0, "invert"), True, "further steps"),
        (("pre_tokenizer", "pretokenizers", 1, "add_prefix_space"), True, "further steps"),
        (("pre_tokenizer", "pretokenizers", 1, "use_regex"), True, "further steps"),
        (("pre_tokenizer", "pretokenizers", 1), {"type": "Digits", "individual_digits": True}, "further steps"),
        (("added_tokens", 0, "content"), 5, "not 0 to 348, each once"),
        (("pre_tokenizer",), None, "its parts are not those of a byte-level BPE"),
        (("model",), None, "its parts are not those of a byte-level BPE"),
    ],
)
def test_foreign_files_are_refused_by_what_is_wrong(
    tokenizer: Tokenizer, tmp_path: Path, part: tuple[str, ...], value: object, message: str | None
) -> None:
    tokenizer.save(tmp_path / "tokenizer.json")
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    place = content
    for key in part[:-1]:
        place = place[key]
    place[part[-1]] = value
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    if message is None:
        assert Tokenizer.load(tmp_path).hash == tokenizer.hash
        return
    with pytest.raises(InputError) as caught:
        Tokenizer.load(tmp_path)
    assert message in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_tokens_that_only_the_files_own_rule_reaches_are_refused(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "tokenizer.json")
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    content["model"] |= {"merges": [], "ignore_merges": True}
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="tokens that its merges do not make"):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize("names", [("encoder.json", "vocab.bpe"), ("vocab.json", "merges.txt")])
@pytest.mark.parametrize("with_special", [True, False])
def test_gpt2_pairs_load(tokenizer: Tokenizer, tmp_path: Path, names: tuple[str, str], with_special: bool) -> None:
    tokenizer.save(tmp_path / "whole.json")
    model = json.loads((tmp_path / "whole.json").read_text())["model"]
    vocabulary = model["vocab"] | ({END_OF_TEXT: 349} if with_special else {})
    (tmp_path / names[0]).write_text(json.dumps(vocabulary))
    (tmp_path / names[1]).write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in model["merges"]))
    assert Tokenizer.load(tmp_path).hash == tokenizer.hash


def test_ids_that_a_gpt2_pair_skips_are_tokens_no_text_encodes_to(tmp_path: Path) -> None:
    plain = Tokenizer.train(["ab"], vocab_size=257)
    plain.save(tmp_path / "whole.json")
    vocabulary = json.loads((tmp_path / "whole.json").read_text())["model"]["vocab"] | {END_OF_TEXT: 299}
    (tmp_path / "encoder.json").write_text(json.dumps(vocabulary))
    (tmp_path / "vocab.bpe").write_text("#version: 0.2\n")
    loaded = Tokenizer.load(tmp_path)
    assert (loaded.vocab_size, loaded.end_of_text) == (300, 299)
    assert loaded.token(298) == "<|unused298|>"
    assert loaded.encode("<|unused298|>") == plain.encode("<|unused298|>")


def test_a_folder_without_a_tokenizer_says_what_it_looked_for(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected tokenizer\.json, or encoder\.json with vocab\.bpe"):
        Tokenizer.load(tmp_path)
    with pytest.raises(InputError, match="No such file"):
        Tokenizer.load(tmp_path / "missing.json")
