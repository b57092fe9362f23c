"""The optimiser's update on the CPU: AdamW and the projection in a single pass over memory, nearly always.

A projection needs the new values twice: to find the threshold, and to zero what is below. In one pass:
1. A sample of the new values, computed beforehand, tells two keys (`cpu`) between which the threshold is, all but
   surely: low and high.
2. The pass updates everything. New values below low become zero on the spot; those from low to high, the *window*, are
   written and listed; those from high on are counted, by row and by column.
3. A row or column with fewer of these than its minimum is looked at whole: what became zero in it is computed again,
   and the largest are *forced* to stay.
4. In the window the threshold is found, and what is below it becomes zero.

A value that became zero can be computed again from the moments if the parameter was zero before; if not it was listed
as *dropped*. So when the sample misled, everything comes back, and the plain projection (`cpu.project_topk_`) finishes
with the same result.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int32
from torch import Tensor

from sparse_circuits.kernels import cpu
from sparse_circuits.kernels.jobs import at, job_type, start
from sparse_circuits.kernels.kept import Loops
from sparse_circuits.kernels.sizes import CEILING, LANES, MAGNITUDE, SQUARES
from sparse_circuits.kernels.update import Rates

update_loops = Loops("update_loops")

_JOB = job_type(
    "p g m v live n size low high counters window window_keys dropped dropped_values room row_counts column_counts x y",
    "scale decay part part_of_square rate root epsilon",
)
_SQUARES = job_type("x sizes begin y")
# Entries that a thread claims at a time.
CLAIM = 1 << 15
# A sample consists of lines of LANES entries: as many as memory delivers at once.
LINES = 4096
# Smaller parameters stay in the caches, and several passes over them cost little.
SMALLEST = 1 << 17


class Tensors(NamedTuple):
    """A parameter, its gradient and its moments; contiguous."""

    p: Float[Tensor, "*shape"]
    g: Float[Tensor, "*shape"]
    m: Float[Tensor, "*shape"]
    v: Float[Tensor, "*shape"]

    @classmethod
    def of(cls, p: Tensor, g: Tensor, m: Tensor, v: Tensor) -> "Tensors":
        """The tensors without what autograd knows of them; g may be strided."""
        return cls(p.detach(), g.detach().contiguous(), m.detach(), v.detach())

    def changed(self) -> None:
        """Tell autograd."""
        for tensor in (self.p, self.m, self.v):
            if not tensor.is_inference():
                torch.autograd.graph.increment_version(tensor)


class Lists(NamedTuple):
    """What the pass notes down."""

    counters: np.ndarray
    """How long window and dropped would have to be."""
    window: np.ndarray
    window_keys: np.ndarray
    dropped: np.ndarray
    dropped_values: np.ndarray
    row_counts: np.ndarray
    """Of keys from high on."""
    column_counts: np.ndarray
    """The same; empty when columns have no minimum."""


def total_square(gradients: Sequence[Tensor]) -> float:
    """The sum of squares of all entries, the same for any number of threads."""
    kept = [gradient.detach().contiguous() for gradient in gradients]
    sizes = np.array([gradient.numel() for gradient in kept], np.int64)
    begin = np.concatenate([[0], np.cumsum(-(-sizes // SQUARES))])
    places = np.array([at(gradient) for gradient in kept], np.int64)
    sums = np.empty(begin[-1])
    job = _SQUARES(x=_there(places), sizes=_there(sizes), begin=_there(begin), y=_there(sums))
    job.total, job.claim = len(sums), 2
    start(update_loops.squares, job)
    return float(sums.sum())


def adamw_(tensors: Tensors, rates: Rates) -> None:
    """AdamW in place."""
    size = tensors.p.numel()
    job = _job(tensors, rates, n=CLAIM, size=size, total=-(-size // CLAIM), claim=1)
    start(update_loops.move, job)
    tensors.changed()


def adamw_project_(
    tensors: Tensors, rates: Rates, k: int, minimums: tuple[int, int], forced: int
) -> tuple[int, Int32[Tensor, "rows"] | None]:
    """AdamW and projection of a matrix in place.

    Returns:
        how many were forced, and the counts of nonzeros a row where they are known.
    """
    if tensors.p.numel() < SMALLEST:
        adamw_(tensors, rates)
        cpu.project_topk_(tensors.p, k, *minimums)
        return 0, None
    lists, job = _pass(tensors, rates, *_bounds(tensors, rates, k, forced), minimums[1] > 0)
    settled = _settle(tensors.p, lists, job, k, minimums)
    tensors.changed()
    if settled is None:
        threshold = np.array(cpu.project_topk_(tensors.p, k, *minimums), np.int32).view(np.float32)
        return k - int((tensors.p.abs() >= float(threshold)).sum()), None
    return settled


def _bounds(tensors: Tensors, rates: Rates, k: int, forced: int) -> tuple[int, int]:
    """Two keys between which the threshold is, all but surely: five standard deviations of a sample either way.

    That of k - forced entries, some more or less when the number of forced ones has changed since.
    """
    size = tensors.p.numel()
    # An odd stride meets every column of a matrix whose width is a power of two.
    stride = max(size // LANES // LINES, 8) | 1
    lines = -(-(size // LANES) // stride)
    keys = np.empty(lines * LANES, np.int32)
    job = _job(tensors, rates, room=stride, y=_there(keys), total=lines, claim=max(1, CLAIM // LANES // 16))
    start(update_loops.sample, job)
    rank = max(k - forced, 0) * keys.size / size
    margin = 5 * math.sqrt(rank) + 8 + forced * keys.size / size / 16
    (low, high), _ = _ranked(keys, [round(rank + margin), round(rank - margin)])
    return max(low, 1), min(max(high, 1), CEILING) + 1


def _ranked(keys: np.ndarray, ranks: list[int]) -> tuple[list[int], list[int]]:
    """For each rank the largest key that so many keys reach, and how many of those equal to it are needed (0: all).

    Ranks of 0 or less get a key above all others, those from the number of keys on 0.
    """
    inside = np.array([rank for rank in ranks if 0 < rank < len(keys)], np.int64)
    found = np.zeros((2, len(inside)), np.int64)
    if len(inside):
        job = _JOB(x=_there(inside), y=_there(found), window_keys=_there(keys), room=len(keys), n=len(inside))
        job.total = job.claim = 1
        start(update_loops.ranks, job)
    at_rank = dict(zip(inside.tolist(), found.T.tolist(), strict=True))
    pairs = [at_rank.get(rank, [CEILING + 1 if rank <= 0 else 0, 0]) for rank in ranks]
    return [key for key, _ in pairs], [needed for _, needed in pairs]


def _pass(tensors: Tensors, rates: Rates, low: int, high: int, by_column: bool) -> tuple[Lists, Any]:
    """The one pass over everything."""
    (rows, columns), size = tensors.p.shape, tensors.p.numel()
    room = size // 8
    lists = Lists(
        counters=np.zeros(2, np.int64),
        window=np.empty(room, np.int64),
        window_keys=np.empty(room, np.int32),
        dropped=np.empty(room, np.int64),
        dropped_values=np.empty(room, np.float32),
        row_counts=np.empty(rows, np.int64),
        column_counts=np.zeros(columns if by_column else 0, np.int64),
    )
    places = {name: _there(array) if array.size else 0 for name, array in lists._asdict().items()}
    job = _job(tensors, rates, n=columns, size=size, low=low, high=high, room=room, **places)
    job.total, job.claim = rows, max(1, CLAIM // columns)
    start(update_loops.move, job)
    return lists, job


def _settle(
    parameter: Float[Tensor, "rows columns"], lists: Lists, job: Any, k: int, minimums: tuple[int, int]
) -> tuple[int, Int32[Tensor, "rows"]] | None:
    """Zero what is below the threshold, and return what `adamw_project_` does; or None: what became zero is back."""
    p, counts = parameter.view(-1).numpy(), lists.row_counts
    found, dropped = lists.counters.tolist()
    fits = max(found, dropped) <= job.room
    above, forced = int(counts.sum()), np.empty(0, np.int64)
    window, keys = lists.window[:found], lists.window_keys[:found]
    if fits:
        forced = _force(p, lists, job, minimums)
        if len(forced):
            others = ~np.isin(window, forced)
            window, keys = window[others], keys[others]
    needed = k - above - len(forced)
    # From key 1 on means all that are not zero: then nothing has been dropped that could be missing.
    if not fits or needed < 0 or (needed > len(window) and job.low > 1):
        _restore(p, lists, job)
        return None
    (threshold,), (of_equal,) = _ranked(keys, [needed])
    last = len(p)
    if of_equal:
        last = int(np.sort(window[keys == threshold])[of_equal - 1])
    looking = _again(job, low=threshold, high=last, window=_there(window), window_keys=_there(keys))
    looking.total, looking.claim = len(window), 1 << 12
    start(update_loops.settle, looking)
    np.add.at(counts, forced[p[forced] != 0] // job.n, 1)
    below = int(np.count_nonzero(_keys(p[forced]) < threshold))
    return below, torch.from_numpy(counts.astype(np.int32))


class _Groups(NamedTuple):
    """The rows of a matrix, or its columns, and the kernels for them."""

    above: np.ndarray
    """How many keys of each are from high on."""
    minimum: int
    of: Callable[[np.ndarray], np.ndarray]
    """The numbers of the groups that places belong to."""
    again: Any
    force: Callable[[Tensor, int, Tensor], None]

    def short(self) -> bool:
        """Whether any has too few from high on."""
        return bool(self.minimum) and int(self.above.min()) < self.minimum


def _force(p: np.ndarray, lists: Lists, job: Any, minimums: tuple[int, int]) -> np.ndarray:
    """Write what rows and columns keep by their minimums, as far as it is below high; returns where it is."""
    n = job.n
    groups = (
        _Groups(lists.row_counts, minimums[0], lambda at: at // n, update_loops.rows_again, cpu.force_rows),
        _Groups(lists.column_counts, minimums[1], lambda at: at % n, update_loops.columns_again, cpu.force_columns),
    )
    window, dropped = (
        listed[:count] for listed, count in zip((lists.window, lists.dropped), lists.counters, strict=True)
    )
    values, parts = lists.dropped_values[: len(dropped)], [np.empty(0, np.int64)]
    written = []
    for group in groups:
        if not group.short():
            continue
        of_window = group.of(window)
        within = np.bincount(of_window, minlength=len(group.above))
        poor = group.above + within < group.minimum
        parts.append(_from_window(group, of_window, window, lists.window_keys, poor))
        if poor.any():
            theirs = poor[group.of(dropped)]
            p[dropped[theirs]] = values[theirs]
            written.append(_from_memory(group, np.flatnonzero(poor), lists, job))
            p[dropped[theirs]] = 0.0
    for places, kept in written:
        p[places] = kept
        parts.append(places)
    return np.unique(np.concatenate(parts))


def _from_window(
    group: _Groups, of_window: np.ndarray, window: np.ndarray, keys: np.ndarray, poor: np.ndarray
) -> np.ndarray:
    """What the groups that are not poor keep of the window by their minimum."""
    wanted = np.where(poor, 0, group.minimum - group.above)
    chosen = np.flatnonzero(wanted[of_window] > 0)
    # By group, in each by size, among equal ones by place.
    chosen = chosen[np.lexsort((window[chosen], -keys[: len(window)][chosen], of_window[chosen]))]
    members = of_window[chosen]
    first = np.searchsorted(members, members)
    return window[chosen[np.arange(len(chosen)) - first < wanted[members]]]


def _from_memory(group: _Groups, names: np.ndarray, lists: Lists, job: Any) -> tuple[np.ndarray, np.ndarray]:
    """What the named groups keep by their minimum, below high: where, and which values."""
    by_row = group.again is update_loops.rows_again
    shape = (len(names), job.n) if by_row else (len(lists.row_counts), len(names))
    again, mask = torch.empty(shape), torch.zeros(shape, dtype=torch.bool)
    looking = _again(
        job, x=_there(names), y=at(again), total=shape[0], claim=max(1, CLAIM // shape[1]), room=len(names)
    )
    start(group.again, looking)
    group.force(again, group.minimum, mask)
    row, column = np.nonzero(mask.numpy())
    kept = again.numpy()[row, column]
    places = names[row] * job.n + column if by_row else row * job.n + names[column]
    below = _keys(kept) < job.high
    return places[below], kept[below]


def _restore(p: np.ndarray, lists: Lists, job: Any) -> None:
    """Bring back the new values that became zero."""
    names = np.arange(len(lists.row_counts))
    start(update_loops.rows_again, _again(job, x=_there(names), y=job.p))
    listed = min(int(lists.counters[1]), job.room)
    p[lists.dropped[:listed]] = lists.dropped_values[:listed]


def _job(tensors: Tensors, rates: Rates, **fields: int) -> Any:
    return _JOB(
        **{name: at(tensor) for name, tensor in tensors._asdict().items()},
        **fields,
        live=rates.live,
        scale=rates.scale,
        decay=1 - rates.learning_rate * rates.weight_decay,
        part=1 - rates.beta1,
        part_of_square=1 - rates.beta2,
        rate=rates.learning_rate / (1 - rates.beta1**rates.step),
        root=1 / math.sqrt(1 - rates.beta2**rates.step),
        epsilon=rates.epsilon,
    )


def _again(job: Any, **fields: int) -> Any:
    """A copy of the job with other fields."""
    other = _JOB.from_buffer_copy(job)
    for name, value in fields.items():
        setattr(other, name, value)
    return other


def _keys(values: np.ndarray) -> np.ndarray:
    return np.minimum(values.view(np.int32) & MAGNITUDE, CEILING)


def _there(array: np.ndarray) -> int:
    return int(array.ctypes.data)
