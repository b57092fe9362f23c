"""Many questions about one circuit less this node or that: what comes before the node is computed once.

Cleaning asks for the loss of a set of nodes without each of them in turn, and the same of edges. When three questions
in a row turn out to be of one set, less something each, the residual streams of that set are kept, and a question
begins where it differs from it.
"""

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from sparse_circuits.circuits.folded import Folds
from sparse_circuits.circuits.twin import Link
from sparse_circuits.kernels.folded import Streams
from sparse_circuits.tasks import Examples

OFTEN = 2
"""Questions after the first that have to be of one set before its streams are kept: that costs as much as one."""


class _Choice:
    """Nodes that are kept and edges between them that are dropped."""

    def __init__(self, kept: Bool[Tensor, "nodes"], dropped: frozenset[Link]):
        self.kept, self.dropped = kept, dropped

    def joined(self, other: "_Choice") -> "_Choice":
        """The least that has everything either has."""
        return _Choice(self.kept | other.kept, self.dropped & other.dropped)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Choice) and self.dropped == other.dropped and torch.equal(self.kept, other.kept)

    __hash__ = None  # type: ignore[assignment]


class Nearby:
    """Remembers what the last questions had in common, for one model and one choice of examples."""

    def __init__(self, folds: Folds, examples: Examples):
        self._folds, self._examples = folds, examples
        self._sublayers = sublayers(folds)
        self._last: _Choice | None = None
        self._common: _Choice | None = None
        self._times = 0
        self._kept: tuple[_Choice, Streams] | None = None

    def begin(self, kept: Bool[Tensor, "nodes"], dropped: frozenset[Link]) -> tuple[Streams | None, int]:
        """From which streams the question can begin, and at which sublayer."""
        asked = _Choice(kept.clone(), dropped)
        self._note(asked)
        known = self._kept  # another thread may be here, too
        if known is None:
            return None, 0
        base, streams = known
        enter = streams.before(self._first_difference(asked, base))
        return (streams, enter) if enter else (None, 0)

    def _note(self, asked: _Choice) -> None:
        common = asked if self._last is None else asked.joined(self._last)
        self._times = self._times + 1 if self._common == common else 0
        self._last, self._common = asked, common
        known = self._kept is not None and self._kept[0] == common
        if self._times == OFTEN and not known:
            self._kept = None  # before there are others: they are large
            self._kept = common, self._folds.streams(common.kept, common.dropped, self._examples)

    def _first_difference(self, one: _Choice, other: _Choice) -> int:
        """The first sublayer in which two choices differ; the last one where they are the same."""
        nodes = self._sublayers[one.kept ^ other.kept]
        edges = [sublayer(target[0]) for _, target in one.dropped ^ other.dropped]
        return min([int(self._sublayers.max()), *nodes.tolist(), *edges])


def sublayer(site: str) -> int:
    """The sublayer a node site belongs to, attention and MLP of each layer in turn."""
    layer, part, _ = site.split(".")
    return 2 * int(layer) + (part == "mlp")


def sublayers(folds: Folds) -> Int64[Tensor, "nodes"]:
    """That of every node."""
    found = torch.empty(folds.space.total, dtype=torch.int64)
    for site, part in folds.space.slices.items():
        found[part] = sublayer(site)
    return found
