"""Continuing token sequences: sampling, and the loop around one forward pass a token.

1. The prompts, or the last `block_size` tokens of longer ones, are read into a `Cache` as one batch, padded on the
   right, where nothing sees the padding.
2. From each row's logits one token is chosen. Row r draws its random numbers from PCG64 seeded with (seed, r), one a
   token, and no other row's: what else is in the batch changes a continuation only as far as it changes the rounding
   of matrix products.
3. Rows that are finished leave the batch, the others read their new token after the keys and values of all before it.
4. A row that has filled the block is read anew from its last `block_size` tokens for each further token. What a key
   means depends on all tokens before it, so no cache can leave out the oldest.
"""

import math
import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Protocol, SupportsIndex, TypeVar, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sparse_circuits.cache import Cache
from sparse_circuits.config import GPTConfig, check_seed
from sparse_circuits.errors import InputError
from sparse_circuits.fields import is_one, require, several, shown, whole
from sparse_circuits.sites import Tap
from sparse_circuits.tokenizer import Tokenizer

Prompts = TypeVar("Prompts", Int64[Tensor, "B _"], list[list[int]])
Stop = int | Sequence[int | Sequence[int]]
Stream = Callable[[int, int], object]

_CANDIDATES = 64
"""How many of the likeliest tokens are looked at first for those that hold `top_p`."""
_DRAWS = 64
"""Random numbers drawn at a time."""


@runtime_checkable
class Model(Protocol):
    """What generation needs of a model: a `GPT`, or anything that is called as one."""

    config: GPTConfig

    def __call__(self, tokens: Tensor, *, at: Tensor | None, tap: Tap | None, cache: Cache | None) -> Tensor: ...

    def parameters(self) -> Iterable[Tensor]: ...


@dataclass(frozen=True)
class Sampling:
    """How a token is chosen from logits."""

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        for name in ("temperature", "top_p"):
            value = getattr(self, name)
            is_number = isinstance(value, Real) or (name == "top_p" and value is None)
            require(is_number, f"{name} is {shown(value)}; expected a number")
        require(
            0 <= self.temperature < math.inf,
            f"temperature is {self.temperature}; it must be 0 or a finite number above",
        )
        require(self.top_k is None or self.top_k >= 1, f"top_k is {self.top_k}; it must be at least 1")
        require(self.top_p is None or 0 < self.top_p <= 1, f"top_p is {self.top_p}; it must be above 0 and at most 1")

    def choose(self, logits: Float[Tensor, "B V"], uniform: Float[Tensor, "B 1"] | None) -> Int64[Tensor, "B"]:
        """One token for each row: the first at which the sum of weights exceeds that share of the whole.

        Args:
            uniform: a number in [0, 1) for each row; not looked at when the temperature is 0.

        Raises:
            InputError: a row's largest logit is NaN or infinite.
        """
        if self.temperature == 0:
            largest, ids = logits.max(-1)
            _check_finite(largest)
            return ids
        assert uniform is not None
        largest = logits.amax(-1, keepdim=True)
        _check_finite(largest.squeeze(1))
        if self.top_k is None and self.top_p in (None, 1):
            # u <= 1 - 2**-53, so u * total < total: a token is always found, and never one of weight zero.
            sums = self._weights(logits, largest).cumsum(-1)
            return torch.searchsorted(sums, uniform * sums[:, -1:], right=True).squeeze(1)
        ids, sums, share = self._likeliest(logits, largest)
        return ids.gather(-1, torch.searchsorted(sums, uniform * share, right=True)).squeeze(1)

    def _weights(self, logits: Float[Tensor, "B V"], largest: Float[Tensor, "B 1"]) -> Float[Tensor, "B V"]:
        """exp(logit / temperature), relative to the likeliest, so that no temperature, however low, overflows."""
        return (logits.double() - largest).div_(self.temperature).exp_()

    def _likeliest(self, logits: Tensor, largest: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens from the likeliest on, the sums of their weights, and the sum up to the last that may be chosen."""
        vocabulary = logits.shape[-1]
        width = min(self.top_k or _CANDIDATES, vocabulary)
        total = None if self.top_k else self._weights(logits, largest).sum(-1, keepdim=True)
        while True:
            values, ids = logits.topk(width)
            sums = self._weights(values, largest).cumsum(-1)
            if self.top_p is None:
                return ids, sums, sums[:, -1:]
            share = self.top_p * (sums[:, -1:] if total is None else total)
            if width == vocabulary or self.top_k or bool((sums[:, -1:] >= share).all()):
                break
            width = min(8 * width, vocabulary)
        # A token stays while the likelier ones together fall short of top_p, so the likeliest always stays.
        last = torch.searchsorted(sums, share).clamp_(max=width - 1)
        return ids, sums, sums.gather(-1, last)


@torch.no_grad()
def generate(
    model: Model,
    prompts: Prompts,
    max_new_tokens: SupportsIndex = 64,
    temperature: float = 1.0,
    top_k: SupportsIndex | None = None,
    top_p: float | None = None,
    seed: SupportsIndex | Sequence[SupportsIndex] = 0,
    stop: Stop = (),
    stream: Stream | None = None,
    tap: Tap | None = None,
) -> Prompts:
    """Continue each prompt by up to `max_new_tokens` tokens.

    A prompt longer than the block size is read from its end. A row's continuation depends on its prompt, the settings
    and its random numbers: those of (seed, number of the row), or with one seed for each row those of (seed, 0), so
    that a row is continued as it would be alone with that seed.

    Args:
        prompts: token ids, int64 [B, T] or lists of any lengths; what is returned is of the same kind.
        temperature: divides the logits; 0 takes the likeliest token.
        top_k: sample among the k likeliest tokens only.
        top_p: sample among the likeliest tokens (of those `top_k` leaves) that together hold this probability only.
        stop: a row ends after one of these, which stays its last: a token id, or several ids and sequences of ids.
        stream: called as `stream(row, token)` with each token when it is chosen; the row ends where it returns
            something true.
        tap: sees and changes activations as in `model(tokens, tap)`. It must treat all rows alike: each call has
            those that are not finished, in any order, and of each the positions that are read anew.

    Returns:
        the prompts with their continuations. As a tensor it is as wide as the longest row; the others, which were
        stopped earlier, are filled up with their own last token.

    Raises:
        InputError: no prompt, an empty one, ids outside the vocabulary, a setting of another kind or out of its
            range, or logits of NaN or infinity.
    """
    config = model.config
    sampling = Sampling(temperature, None if top_k is None else whole(top_k, "top_k"), top_p)
    count = whole(max_new_tokens, "max_new_tokens")
    require(count >= 0, f"max_new_tokens is {count}; it must not be negative")
    for name, function in (("stream", stream), ("tap", tap)):
        require(function is None or callable(function), f"{name} is {shown(function)}; expected a function")
    texts = _checked(prompts, config.vocab_size)
    seeds = _seeds(seed, len(texts))
    ends = _Ends(stop, config.vocab_size)
    if count:
        batch = _Batch(model, texts, count, tap)
        draws = None if temperature == 0 else _Draws(seeds, batch.device)
        _continue(batch, sampling, draws, ends, stream, count)
    if isinstance(prompts, Tensor):
        width = max(map(len, texts))
        filled = [text + text[-1:] * (width - len(text)) for text in texts]
        return torch.tensor(filled, device=prompts.device)
    return texts


class TextStream:
    """The text of tokens that come one by one: whole characters only, since a token may hold part of one.

    The pieces put together are what `tokenizer.decode` makes of all tokens at once.
    """

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        self._held: list[int] = []
        self._shown = 0

    def push(self, token: int) -> str:
        """The characters that `token` completes."""
        self._held.append(token)
        text = self._tokenizer.decode(self._held)
        # The start of a character decodes to one replacement character at the end, which more bytes may mend.
        whole = text.removesuffix("\ufffd")
        new = whole[self._shown :]
        if whole == text:
            self._held, self._shown = [], 0
        else:
            self._shown = len(whole)
        return new

    def finish(self) -> str:
        """What is left of a character that was not completed."""
        return self._tokenizer.decode(self._held)[self._shown :]


def _continue(
    batch: "_Batch",
    sampling: Sampling,
    draws: "_Draws | None",
    ends: "_Ends",
    stream: Stream | None,
    count: int,
) -> None:
    """Steps 2 to 4 of this module, `count` times at most; the texts of `batch` grow."""
    prompt_lengths = [len(text) for text in batch.texts]
    logits = batch.start()
    for left in reversed(range(count)):
        ids = sampling.choose(logits, None if draws is None else draws.next())
        finished = set()
        for row, token in zip(batch.rows, ids.tolist(), strict=True):
            text = batch.texts[row]
            text.append(token)
            ended = stream is not None and stream(row, token)
            if ended or ends.here(text, prompt_lengths[row]):
                finished.add(row)
        if not left or len(finished) == len(batch.rows):
            return
        order = batch.drop(finished)
        if order is not None:
            index = torch.tensor(order, device=ids.device)
            ids = ids[index]
            if draws is not None:
                draws.take(order)
        logits = batch.read(ids)


class _Batch:
    """The rows that are not finished: first those in the cache, then those that fill the block without it."""

    def __init__(self, model: Model, texts: list[list[int]], max_new_tokens: int, tap: Tap | None):
        self.texts = texts
        self.rows = list(range(len(texts)))
        self.device = next(iter(model.parameters())).device
        self._model, self._tap, self._block = model, tap, model.config.block_size
        self._cached = len(texts)
        longest = min(max(map(len, texts)), self._block)
        self._capacity = min(longest + max_new_tokens, self._block)

    def start(self) -> Float[Tensor, "B V"]:
        """Read the prompts, equal ones once."""
        windows = [tuple(text[-self._block :]) for text in self.texts]
        distinct = {window: number for number, window in enumerate(dict.fromkeys(windows))}
        lengths = [len(window) for window in distinct]
        width = max(lengths)
        padded = torch.tensor([[*window, *[0] * (width - len(window))] for window in distinct], device=self.device)
        self._cache = Cache(self._model.config, len(distinct), self._capacity)
        at = torch.tensor(lengths, device=self.device) - 1
        logits = self._model(padded, at=at, tap=self._tap, cache=self._cache)
        self._cache.advance(lengths)
        if len(distinct) == len(windows):
            return logits
        order = [distinct[window] for window in windows]
        self._cache.take(order)
        return logits[torch.tensor(order, device=self.device)]

    def drop(self, finished: set[int]) -> list[int] | None:
        """Part with the rows that are finished, and in the cache with those that fill the block.

        Returns:
            where each of `rows` was before, or None where nothing moved.
        """
        full = self._cache.full()
        if not finished and not full:
            return None
        going = [slot for slot, row in enumerate(self.rows) if row not in finished]
        staying = [slot for slot in going if slot < self._cached and slot not in full]
        # Those at the end take the places that are free, so that few move.
        count = len(staying)
        from_the_end = [slot for slot in staying if slot >= count]
        kept = set(staying)
        order = [slot if slot in kept else from_the_end.pop() for slot in range(count)]
        self._cache.take(order)
        order += [slot for slot in going if slot >= self._cached or slot in full]
        self.rows, self._cached = [self.rows[slot] for slot in order], count
        return order

    def read(self, ids: Int64[Tensor, "B"]) -> Float[Tensor, "B V"]:
        """The logits after each row's last token, which `ids` holds too."""
        parts = []
        if self._cached:
            tokens = ids[: self._cached, None]
            parts.append(self._model(tokens, at=None, tap=self._tap, cache=self._cache).squeeze(1))
            self._cache.advance(1)
        if self._cached < len(self.rows):
            windows = [self.texts[row][-self._block :] for row in self.rows[self._cached :]]
            tokens = torch.tensor(windows, device=self.device)
            at = torch.full((len(windows),), self._block - 1, device=self.device)
            parts.append(self._model(tokens, at=at, tap=self._tap, cache=None))
        return parts[0] if len(parts) == 1 else torch.cat(parts)


class _Draws:
    """Random numbers, of each row its own."""

    def __init__(self, seeds: Sequence[tuple[int, int]], device: torch.device):
        self._generators = [np.random.Generator(np.random.PCG64(seed)) for seed in seeds]
        self._device = device
        self._used = _DRAWS
        self._drawn = torch.empty(0)

    def next(self) -> Float[Tensor, "B 1"]:
        """The next of each row, in [0, 1)."""
        if self._used == _DRAWS:
            drawn = np.stack([generator.random(_DRAWS) for generator in self._generators])
            self._drawn, self._used = torch.from_numpy(drawn).to(self._device), 0
        self._used += 1
        return self._drawn[:, self._used - 1 : self._used]

    def take(self, rows: Sequence[int]) -> None:
        """Let row i be what row `rows[i]` was."""
        self._generators = [self._generators[row] for row in rows]
        self._drawn = self._drawn[torch.tensor(rows)]


class _Ends:
    """What ends a row."""

    def __init__(self, stop: Stop, vocab_size: int):
        each = several(stop, "stop", "a token id, or several ids and sequences of ids")
        sequences = [_ids(one if isinstance(one, Sequence) else [one], "stop", vocab_size) for one in each]
        self._tokens = {sequence[0] for sequence in sequences if len(sequence) == 1}
        self._sequences = [sequence for sequence in sequences if len(sequence) > 1]

    def here(self, text: list[int], start: int) -> bool:
        """Whether `text` ends in a stop of which no token comes before `start`."""
        return text[-1] in self._tokens or any(
            text[-len(sequence) :] == sequence and len(text) - len(sequence) >= start for sequence in self._sequences
        )


def _checked(prompts: Any, vocab_size: int) -> list[list[int]]:
    """The prompts as lists of their own."""
    if isinstance(prompts, Tensor):
        if prompts.ndim != 2 or prompts.dtype != torch.int64:
            raise InputError(
                f"prompts have shape {tuple(prompts.shape)} and dtype {prompts.dtype}; "
                "expected int64 [rows, positions], or a list of one list of token ids for each row"
            )
        prompts = prompts.tolist()
    if not isinstance(prompts, Iterable):
        raise InputError(f"prompts are {shown(prompts)}; expected a list of one list of token ids for each row")
    prompts = list(prompts)
    require(len(prompts) > 0, "there are no prompts; expected one or more, each of one or more token ids")
    return [_ids(prompt, f"prompt {row}", vocab_size) for row, prompt in enumerate(prompts)]


def _ids(given: Any, what: str, vocab_size: int) -> list[int]:
    """`given` as a new list of token ids, once it is known to be one."""
    try:
        ids = [operator.index(token) for token in given]
    except TypeError as error:
        raise InputError(
            f"{what} is {str(given)[:40]!r}; expected a list of token ids (model.tokenizer.encode makes one of text)"
        ) from error
    require(len(ids) > 0, f"{what} is empty; expected one or more token ids (end of text begins a document)")
    for token in (min(ids), max(ids)):
        require(0 <= token < vocab_size, f"{what}: token id {token} is outside the vocabulary 0..{vocab_size - 1}")
    return ids


def _seeds(seed: Any, rows: int) -> list[tuple[int, int]]:
    """The seed of each row's random numbers."""
    seeds = [whole(one, "seed") for one in several(seed, "seed", "a whole number, or one for each prompt")]
    for one in seeds:
        check_seed(one)
    if is_one(seed):
        return [(seeds[0], row) for row in range(rows)]
    require(len(seeds) == rows, f"{len(seeds)} seeds for {rows} prompts; give one for each, or one for all")
    return [(one, 0) for one in seeds]


def _check_finite(largest: Float[Tensor, "B"]) -> None:
    if not all(map(math.isfinite, largest.tolist())):
        raise InputError("the model's logits are NaN or infinite, so no token can be chosen; its weights are damaged")
