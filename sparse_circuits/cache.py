"""The cache: keys and values of what a model has read, so that it reads on without reading that again.

Rows of a batch may differ in length. A query sees keys by their positions: those of its own row up to its own. So what
lies behind a row's kept positions is seen by nobody, and overwritten by what the row reads next: there is no mask.
"""

import dataclasses
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sparse_circuits.config import GPTConfig
from sparse_circuits.errors import InputError
from sparse_circuits.fields import is_one, require, several, shown, whole


class Cache:
    """Keys and values of what a model has read, so that it reads on without reading that again.

    `model(tokens, cache=cache)` reads `tokens` [B, T] as the continuation of each row and writes their keys and values
    behind the row's others; it is computed without gradients. `advance` then says how many of the T each row keeps:
    what is not kept (padding, a guess that was wrong) is overwritten by what is read next.

    Attributes:
        capacity: the most positions of a row.
        lengths: how many positions each row has kept, int64 [B]; `longest` is the largest.
        layers: where each layer writes.
        target: the rows and positions that are being written.
        fresh: the first position that no row had written to before what is being read.
    """

    def __init__(self, config: GPTConfig, rows: int, capacity: int | None = None):
        """An empty cache for `rows` rows of at most `capacity` positions, by default the block size.

        Raises:
            InputError: one of them is no whole number, `rows` is negative, or `capacity` outside 1..block_size.
        """
        rows = whole(rows, "rows")
        capacity = config.block_size if capacity is None else whole(capacity, "capacity")
        require(rows >= 0, f"a cache of {rows} rows; it needs 0 or more")
        require(
            1 <= capacity <= config.block_size,
            f"a cache of {capacity} positions; expected 1 to the model's block size, {config.block_size}",
        )
        self._config = config
        self.capacity = capacity
        self.lengths = torch.zeros(rows, dtype=torch.int64)
        self.layers = [LayerCache(self) for _ in range(config.n_layer)]
        # On the host, since asking a GPU for `lengths` would wait for it.
        self._filled = [0] * rows
        self.longest = 0
        self.target: tuple[slice | Tensor, slice | Tensor] = slice(None), slice(0)
        self.fresh = 0
        self._read = self._written = 0

    def begin(self, tokens: Int64[Tensor, "B T"], config: GPTConfig) -> slice | Int64[Tensor, "B T"]:
        """Say that a model of that config is about to read `tokens`.

        Returns:
            their positions: one slice, or one row for each row.

        Raises:
            InputError: the cache is for a model of another config, there are more or fewer rows than in the cache, or
                no room for so many positions.
        """
        if config is not self._config:
            self._check_config(config)
        rows, count = tokens.shape
        if rows != len(self._filled):
            raise InputError(f"tokens have {rows} rows and the cache {len(self._filled)}; they must have as many")
        if self.longest + count > self.capacity:
            raise InputError(
                f"the cache holds {self.longest} positions of at most {self.capacity}, so {count} more do not fit; "
                "make it larger, or read the last tokens without it"
            )
        self._read = count
        self.fresh, self._written = self._written, max(self._written, self.longest + count)
        if self.lengths.device != tokens.device:
            self.lengths = self.lengths.to(tokens.device)
        if all(filled == self.longest for filled in self._filled):
            self.target = slice(None), slice(self.longest, self.longest + count)
        else:
            steps = torch.arange(max(rows, count), device=tokens.device)
            self.target = steps[:rows, None], self.lengths[:, None] + steps[:count]
        return self.target[1]

    def _check_config(self, config: GPTConfig) -> None:
        """Refuse a config that is not the cache's own, and know it by its identity from then on."""
        ours, theirs = (dataclasses.asdict(each.resolved()) for each in (self._config, config))
        differing = [name for name, value in ours.items() if value != theirs[name]]
        if differing:
            made, reads = (", ".join(f"{name}={each[name]}" for name in differing) for each in (ours, theirs))
            raise InputError(
                f"the cache was made for a model with {made}, and this one has {reads}; "
                "make one with Cache(model.config, rows)"
            )
        self._config = config

    def advance(self, counts: int | Sequence[int]) -> None:
        """Keep that many of the positions last read, in each row or row by row.

        Raises:
            InputError: more than were read, or less than none; no whole numbers, or not one for each row.
        """
        if is_one(counts):
            each = [whole(counts, "count")] * len(self._filled)
        else:
            expected = "how many positions to keep, in each row or row by row"
            each = [whole(count, "a count") for count in several(counts, "count", expected)]
            require(
                len(each) == len(self._filled),
                f"{len(each)} counts for a cache of {len(self._filled)} rows; give one for each, or one for all",
            )
        if each and not 0 <= min(each) <= max(each) <= self._read:
            raise InputError(f"cannot keep {counts} positions: {self._read} were read; keep 0 to {self._read}")
        self._read = 0
        self._filled = [filled + count for filled, count in zip(self._filled, each, strict=True)]
        self.longest = max(self._filled, default=0)
        self.lengths = self.lengths + (counts if isinstance(counts, int) else torch.tensor(each).to(self.lengths))

    def full(self) -> set[int]:
        """The rows that have no room for one more position."""
        if self.longest < self.capacity:
            return set()
        return {row for row, filled in enumerate(self._filled) if filled == self.capacity}

    def take(self, rows: Sequence[int]) -> None:
        """Let row i be what row `rows[i]` was. To drop rows is cheap where each stays, or comes from beyond the end.

        Raises:
            InputError: `rows` are no rows of the cache.
        """
        require(not is_one(rows), f"rows is {shown(rows)}; expected a list of the rows to take")
        rows = [whole(row, "a row to take") for row in several(rows, "rows", "a list of the rows to take")]
        if rows and not 0 <= min(rows) <= max(rows) < len(self._filled):
            raise InputError(f"cannot take the rows {shown(rows)}: the cache has {len(self._filled)}, counted from 0")
        count = len(rows)
        moved = [(row, old) for row, old in enumerate(rows) if row != old]
        if count <= len(self._filled) and all(old >= count for _, old in moved):
            for layer in self.layers:
                layer.move(moved, count, self.longest)
        else:
            for layer in self.layers:
                layer.select(rows)
        self.lengths = self.lengths[torch.tensor(rows, dtype=torch.int64)]
        self._filled = [self._filled[row] for row in rows]
        self.longest = max(self._filled, default=0)


class LayerCache:
    """One layer's keys and values, [B, capacity, channels], made when the first are known.

    The keys lie row by row, or channel by channel where a step that reads them so has taken them over.

    Attributes:
        odd: where the keys lie channel by channel, whether one of them may be NaN or infinite, int64 [1]; else None.
    """

    def __init__(self, cache: Cache):
        self._cache = cache
        self._held: tuple[Tensor, Tensor] | None = None
        self.odd: Tensor | None = None

    @property
    def held(self) -> tuple[Float[Tensor, "B S C"], Float[Tensor, "B S C"]] | None:
        """Keys and values of all rows, for all positions there is room for."""
        return self._held

    def turn(self, room: int) -> None:
        """Lay the keys channel by channel, each with room for `room` of them and zeros behind, if they do not yet."""
        if self._held is None or self.odd is not None:
            return
        (keys, values), stop = self._held, self._cache.longest
        rows, capacity, channels = keys.shape
        # A sum is finite only where everything in it is.
        self.odd = (~keys[:, :stop].sum().isfinite()).long()[None]
        turned = keys.new_zeros(rows, channels, room)
        # A few keys at a time take a third of the time: what is read stays in the processor's cache.
        for start in range(0, stop, 16):
            part = slice(start, min(start + 16, stop))
            turned[..., part] = keys[:, part].transpose(1, 2)
        self._held = turned[..., :capacity].transpose(1, 2), values

    def extend(
        self, k: Float[Tensor, "B T C"], v: Float[Tensor, "B T C"]
    ) -> tuple[Float[Tensor, "B S C"], Float[Tensor, "B S C"], Int64[Tensor, "B"] | None]:
        """Write the keys and values of the tokens being read.

        Returns:
            all keys, all values, and how many of each row come before what is being read (None: none of any row).
        """
        cache = self._cache
        if self._held is None:
            # Not left as the memory was: a NaN there would outlast its weight of zero.
            self._held = (
                k.new_zeros(len(k), cache.capacity, k.shape[2]),
                v.new_zeros(len(v), cache.capacity, v.shape[2]),
            )
        elif self.odd is not None:
            self._held, self.odd = (self._held[0].contiguous(), self._held[1]), None
        # What was read under autocast is narrower than what is read without it.
        keys, values = self._held = _wide_enough(self._held[0], k), _wide_enough(self._held[1], v)
        keys[cache.target], values[cache.target] = k.to(keys.dtype), v.to(values.dtype)
        if cache.longest == 0:
            return k, v, None
        stop = cache.longest + k.shape[1]
        return keys[:, :stop], values[:, :stop], cache.lengths

    def move(self, moved: Sequence[tuple[int, int]], count: int, longest: int) -> None:
        """Copy rows onto others, then keep the first `count`."""
        if self._held is not None:
            for held in self._held:
                for row, old in moved:
                    held[row, :longest] = held[old, :longest]
            self._held = self._held[0][:count], self._held[1][:count]

    def select(self, rows: Sequence[int]) -> None:
        """The given rows in their order, any of them more than once."""
        if self._held is not None:
            keys, values = self._held
            index = torch.tensor(rows, dtype=torch.int64, device=keys.device)
            self._held, self.odd = (keys.index_select(0, index), values.index_select(0, index)), None


def _wide_enough(held: Tensor, new: Tensor) -> Tensor:
    """`held`, in a dtype that holds what `new` does."""
    return held.to(torch.promote_types(held.dtype, new.dtype))
