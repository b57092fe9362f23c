"""The bigram baseline is modified Kneser-Ney, checked by hand and against what it must beat."""

from math import log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparse_circuits.corpus import bigram
from sparse_circuits.corpus.bigram import bigram_loss
from sparse_circuits.errors import InputError

TRAIN = np.array([0, 1, 0, 1, 0, 2, 0, 1, 1], dtype=np.uint16)
# Transitions: 01 three times, 10 twice, 02, 20 and 11 once. So n1 = 3, n2 = 1, n3 = 1, n4 = 0 and
#   Y = 3 / (3 + 2) = 0.6, D1 = 1 - 2 * 0.6 / 3 = 0.6, D2 = 2 - 3 * 0.6 = 0.2, D3 = 3 - 0 = 3.
# Different tokens before 0, 1 and 2, plus one: 3, 3 and 2; q = 3/8, 3/8, 2/8.
# After 0 (4 times) 3.6 is discounted, after 1 (3 times) 0.8, after 2 (once) 0.6.
BY_HAND = {
    (0, 0): 3.6 * 3 / 8 / 4,
    (0, 1): (3 - 3 + 3.6 * 3 / 8) / 4,
    (0, 2): (1 - 0.6 + 3.6 * 2 / 8) / 4,
    (1, 0): (2 - 0.2 + 0.8 * 3 / 8) / 3,
    (1, 1): (1 - 0.6 + 0.8 * 3 / 8) / 3,
    (1, 2): 0.8 * 2 / 8 / 3,
    (2, 0): 1 - 0.6 + 0.6 * 3 / 8,
    (2, 1): 0.6 * 3 / 8,
    (2, 2): 0.6 * 2 / 8,
}


@pytest.mark.parametrize("pair", BY_HAND)
def test_each_probability_is_the_one_worked_out_by_hand(pair: tuple[int, int]) -> None:
    assert bigram_loss(TRAIN, np.array(pair), 3) == pytest.approx(-log(BY_HAND[pair]))


def test_the_loss_is_the_mean_over_every_transition() -> None:
    expected = -sum(log(BY_HAND[pair]) for pair in [(0, 1), (1, 2), (2, 0), (0, 1)]) / 4
    assert bigram_loss(TRAIN, np.array([0, 1, 2, 0, 1]), 3) == pytest.approx(expected)


def test_a_token_never_seen_falls_back_to_the_continuation() -> None:
    # With a fourth token: q = 3/9, 3/9, 2/9, 1/9, and after the unseen token p is q.
    assert bigram_loss(TRAIN, np.array([3, 2]), 4) == pytest.approx(-log(2 / 9))


@settings(deadline=None)
@given(data=st.data(), vocab_size=st.integers(1, 9))
def test_probabilities_after_any_token_are_positive_and_sum_to_one(data: st.DataObject, vocab_size: int) -> None:
    ids = st.lists(st.integers(0, vocab_size - 1), min_size=2, max_size=60)
    train = np.array(data.draw(ids))
    before = data.draw(st.integers(0, vocab_size - 1))
    losses = [bigram_loss(train, np.array([before, after]), vocab_size) for after in range(vocab_size)]
    assert np.isfinite(losses).all()
    assert np.exp(-np.array(losses)).sum() == pytest.approx(1)


def test_it_comes_close_to_the_entropy_of_a_true_bigram_source() -> None:
    generator = np.random.default_rng(0)
    table = generator.dirichlet(np.full(20, 0.3), size=20)
    tokens = [0]
    for _ in range(60_000):
        tokens.append(generator.choice(20, p=table[tokens[-1]]))
    train, held_out = np.array(tokens[:50_000]), np.array(tokens[50_000:])
    true_loss = -np.log(table[held_out[:-1], held_out[1:]]).mean()
    assert true_loss < bigram_loss(train, held_out, 20) < true_loss + 0.02


def test_counting_in_pieces_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = np.random.default_rng(1).integers(0, 5, size=200)
    whole = bigram_loss(tokens, tokens[::-1], 5)
    monkeypatch.setattr(bigram, "_CHUNK", 7)
    assert bigram_loss(tokens, tokens[::-1], 5) == whole


@pytest.mark.parametrize(
    ("train", "validation", "vocab_size", "message"),
    [
        ([0], [0, 1], 2, "the train split has 1 tokens; the bigram loss needs at least two"),
        ([0, 1], [], 2, "the validation split has 0 tokens"),
        ([0, 2], [0, 1], 2, "the train split holds ids outside 0 to 1"),
        ([0, 1], [0, 1], 20000, "vocab_size is 20000; the bigram loss counts all pairs, up to 16384"),
    ],
)
def test_wrong_input_is_refused(train: list[int], validation: list[int], vocab_size: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        bigram_loss(np.array(train, dtype=int), np.array(validation, dtype=int), vocab_size)
