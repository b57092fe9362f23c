"""How well the last token alone predicts the next: the loss to beat before anything else is learned.

Interpolated modified Kneser-Ney smoothing (Chen and Goodman 1999, section 2), the strongest of the usual
bigram estimates on this project's corpora; all from counts, nothing to fit. With c(a, b) the count of the
transition a, b:

1. Discounts from the numbers n_k of transitions seen exactly k times: Y = n_1 / (n_1 + 2 n_2) and
   D_k = k - (k + 1) Y n_(k+1) / n_k for k = 1, 2 and 3 (for 3 and more).
2. Continuation q(b): in proportion to one more than the number of different tokens seen before b.
3. p(b | a) = (c(a, b) - D_c(a, b) + q(b) · (all that was discounted after a)) / c(a), and q(b) if a was
   never seen.
"""

import numpy as np

from sparse_circuits.errors import InputError

LARGEST_VOCABULARY = 16384
"""Every pair of tokens has a counter: 2 GB at this size."""
_CHUNK = 1 << 24


def bigram_loss(train: np.ndarray, validation: np.ndarray, vocab_size: int) -> float:
    """Mean nats per transition of `validation` under the bigram estimate from `train`.

    Args:
        train, validation: token ids [n], documents one after another, as in a packed corpus. Every transition
            counts, those into and out of end of text too.
        vocab_size: ids are 0 to vocab_size - 1.

    Raises:
        InputError: a split has fewer than two tokens, an id is outside the vocabulary, or the vocabulary is
            over
            16384.
    """
    if not 1 <= vocab_size <= LARGEST_VOCABULARY:
        raise InputError(f"vocab_size is {vocab_size}; the bigram loss counts all pairs, up to {LARGEST_VOCABULARY}")
    counts = _transitions(train, vocab_size, "train")
    held_out = _transitions(validation, vocab_size, "validation")
    before, after = np.nonzero(held_out)
    weights = held_out[before, after]
    return float(-(weights @ np.log(_probability(counts, before, after))) / weights.sum())


def bigram_log_probabilities(train: np.ndarray, vocab_size: int) -> np.ndarray:
    """float32 [vocab_size, vocab_size]: log p(column | row) of the same estimate, every entry finite.

    Raises:
        InputError: as `bigram_loss`.
    """
    if not 1 <= vocab_size <= LARGEST_VOCABULARY:
        raise InputError(f"vocab_size is {vocab_size}; a bigram table holds all pairs, up to {LARGEST_VOCABULARY}")
    counts = _transitions(train, vocab_size, "train")
    before, after = np.divmod(np.arange(vocab_size * vocab_size), vocab_size)
    return np.log(_probability(counts, before, after)).astype(np.float32).reshape(vocab_size, vocab_size)


def _transitions(tokens: np.ndarray, vocab_size: int, name: str) -> np.ndarray:
    """int64 [vocab_size, vocab_size]: how often each token follows each."""
    if len(tokens) < 2:
        raise InputError(f"the {name} split has {len(tokens)} tokens; the bigram loss needs at least two")
    counts = np.zeros(vocab_size * vocab_size, dtype=np.int64)
    for start in range(0, len(tokens) - 1, _CHUNK):
        piece = np.asarray(tokens[start : start + _CHUNK + 1]).astype(np.int64)
        if piece.min() < 0 or piece.max() >= vocab_size:
            raise InputError(f"the {name} split holds ids outside 0 to {vocab_size - 1}; give the vocabulary's size")
        counts += np.bincount(piece[:-1] * vocab_size + piece[1:], minlength=len(counts))
    return counts.reshape(vocab_size, vocab_size)


def _probability(counts: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """p(after | before), elementwise, from transition counts."""
    # Step 1. n_4 counts exactly four; the discount for three serves every larger count.
    seen = [int((counts == times).sum()) for times in range(1, 5)]
    base = seen[0] / (seen[0] + 2 * seen[1]) if seen[0] else 0.5
    discounts = [0.0]
    for times in range(1, 4):
        ratio = seen[times] / seen[times - 1] if seen[times - 1] else 1.0
        # Few counts can give discounts that leave nothing for the unseen, or take more than there is.
        discounts.append(float(np.clip(times - (times + 1) * base * ratio, 0.1, times)))
    capped = np.minimum(counts, 3)
    # Step 2.
    continuation = (counts > 0).sum(axis=0) + 1.0
    continuation /= continuation.sum()
    # Step 3.
    discounted = sum(discounts[times] * (capped == times).sum(axis=1) for times in range(1, 4))
    total = counts.sum(axis=1)
    kept = counts[before, after] - np.array(discounts)[capped[before, after]]
    shared = np.asarray(discounted)[before] * continuation[after]
    return np.where(total[before] > 0, (kept + shared) / np.maximum(total[before], 1), continuation[after])
