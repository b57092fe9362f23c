"""A model of which few nodes are alive, in one compiled call: what is held is folded into constants beforehand.

The blocks of `model`, under a tap that holds all but a few nodes, are its meaning; `circuits.folded` does the folding.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sparse_circuits.config import ABS_TOPK_SITES
from sparse_circuits.kernels import decode_table, folded_table
from sparse_circuits.kernels.decode import described, kept_at
from sparse_circuits.kernels.jobs import at, job_type, start
from sparse_circuits.kernels.kept import Loops

loops = Loops("folded_loops")
_JOB = job_type(
    "table kept tokens last wte wpe residuals layers d_model d_position heads d_head mlp width longest most_heads "
    "scheme centred gelu relu_stream rows places starts streams all_rows enter store",
    "epsilon",
)


class Streams:
    """The residual stream of one choice of nodes at the entry of sublayers (attention and MLP in turn), row by row."""

    def __init__(self, sublayers: int, rows: int, longest: int, d_model: int, most_bytes: int):
        """Kept are as many sublayers as `most_bytes` have room for, spread evenly; the first needs none."""
        count = min(sublayers - 1, most_bytes // (4 * rows * longest * d_model))
        chosen = [sublayers - 1 - i * (sublayers - 1) // max(1, count) for i in range(count)]
        self.places = torch.full((sublayers,), -1)
        for place, sublayer in enumerate(sorted(chosen)):
            self.places[sublayer] = place
        self.values = torch.empty(count, rows, longest, d_model)

    def before(self, sublayer: int) -> int:
        """The last sublayer up to this one at which one can begin."""
        return max((i for i in range(sublayer + 1) if self.places[i] >= 0), default=0)


@dataclass
class Table:
    """What is left of a model: the lines of `folded_table`, and the tensors whose addresses stand in them."""

    model: Any
    """The `GPT`."""
    wte: Float[Tensor, "V D"]
    wpe: Float[Tensor, "T D"] | None
    starts: Int64[Tensor, "rows"] | None = None
    """Where what is held differs from place to place: of each row of the examples the place of its first token."""
    lines: np.ndarray = field(init=False)
    owned: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        config = self.model.config
        self.lines = np.zeros((config.n_layer, folded_table.COLUMNS), np.int64)
        self.kept = np.array([kept_at(config, place) for place in ABS_TOPK_SITES])

    def put(self, layer: int, column: int, tensor: Tensor | None) -> None:
        """Note where a tensor lies, and keep it alive."""
        if tensor is not None:
            tensor = tensor.contiguous()
            self.owned.append(tensor)
        self.lines[layer, column] = at(tensor)

    def last_residuals(
        self,
        tokens: Int64[Tensor, "rows T"],
        last: Int64[Tensor, "rows"],
        streams: Streams | None = None,
        rows: Int64[Tensor, "rows"] | None = None,
        enter: int = 0,
        store: bool = False,
    ) -> Float[Tensor, "rows D"]:
        """The residual stream before the final norm at each row's `last` token.

        Args:
            streams: of all rows, from which to begin, or to which to write.
            rows: which of all rows these are; needed with `streams` and with `starts`.
            enter: the sublayer to begin at, with its stream among `streams`.
            store: write `streams`.
        """
        residuals = torch.empty(len(tokens), self.model.config.d_model)
        tokens, last = tokens.contiguous(), last.contiguous()
        job = _JOB(
            table=self.lines.ctypes.data,
            kept=self.kept.ctypes.data,
            tokens=at(tokens),
            last=at(last),
            wte=at(self.wte),
            wpe=at(self.wpe),
            residuals=at(residuals),
            rows=at(rows),
            starts=at(self.starts),
            places=at(None if streams is None else streams.places),
            streams=at(None if streams is None else streams.values),
            all_rows=0 if streams is None else streams.values.shape[1],
            enter=enter,
            store=int(store),
            width=tokens.shape[1],
            longest=int(last.max()) + 1 if streams is None else streams.values.shape[2],
            most_heads=max(1, int(self.lines[:, folded_table.HEADS].max())),
            scheme=decode_table.LEARNED if self.wpe is not None else decode_table.NO_POSITIONS,
            total=len(tokens),
            claim=1,
            **described(self.model),
        )
        run: Any = job
        start(loops.last_residuals, run)
        return residuals
