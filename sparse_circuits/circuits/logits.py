"""Logits where a task asks: at each row's last prompt token, in batches of like length, from the one forward.

The final norm divides the residual stream by its own scale, so that a circuit whose stream is small has what is left of
it amplified. With `scales` given, the logits are those with the norm's scale frozen there (the full model's on the
same prompts, `final_scales`). Both norms are y = gain * centred / scale + shift, so from live logits
W y + c the frozen ones are (W y + c - o) * live / frozen + o, with o = W shift + c what the scale does not touch.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import cast

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from sparse_circuits.errors import InputError
from sparse_circuits.model import GPT
from sparse_circuits.sites import FINAL_SITE, Record, Tap, compose
from sparse_circuits.tasks import Examples, Task, task_losses

ROWS_PER_BATCH = 64
"""Few enough that rows of one batch are of like length, and what is computed of them stays near the processor."""


class RowTap(ABC):
    """Taps that differ from row to row: one for each batch of the rows of some examples."""

    @abstractmethod
    def at(self, rows: Int64[Tensor, " some"], width: int) -> Tap:
        """The tap for the examples' `rows`, cut to their first `width` tokens."""


def pairs_for(model: GPT, task: Task, split: str, pairs: int, seed: int) -> Examples:
    """Pairs of a task as `model` reads them, where it is.

    Raises:
        InputError: the model has no tokenizer, or the task does not suit it.
    """
    if model.tokenizer is None:
        raise InputError("the model has no tokenizer, so a task cannot be put to it; set model.tokenizer")
    examples = task.examples(model.tokenizer, split, pairs, seed, model.config.block_size)
    return examples.to(next(model.parameters()).device)


def rows_by_length(last: Int64[Tensor, " rows"]) -> Sequence[Int64[Tensor, " some"]]:
    """Batches of row numbers; rows of like length together, so that short prompts do not pay for long ones."""
    return last.argsort(stable=True).split(ROWS_PER_BATCH)


def rows_of(examples: Examples, rows: Int64[Tensor, " some"]) -> Examples:
    """Some rows of `examples`, without the padding that only others need. They are no pairs any more."""
    width = int(examples.last[rows].max()) + 1
    return Examples(
        examples.tokens[rows, :width], examples.last[rows], examples.targets[rows], examples.others[rows], examples.loss
    )


def mean_loss(model: GPT, examples: Examples) -> float:
    """Mean task loss of a model in nats, without holding the logits of all rows."""
    batches = batches_of_logits(model, examples)
    return sum(float(task_losses(part, rows_of(examples, rows)).sum()) for rows, part in batches) / len(examples.last)


def last_logits(
    model: GPT,
    examples: Examples,
    tap: Tap | RowTap | None = None,
    scales: Float[Tensor, " rows"] | None = None,
) -> Float[Tensor, "rows V"]:
    """Logits at each row's last prompt token, in float32; with `scales` the final norm divides by those."""
    return gathered(batches_of_logits(model, examples, tap, scales), examples, model.config.vocab_size)


def gathered(batches: Iterable[tuple[Tensor, Tensor]], examples: Examples, vocabulary: int) -> Float[Tensor, "rows V"]:
    """The rows' logits, out of batches of them, in float32."""
    logits = torch.empty(len(examples.last), vocabulary, device=examples.tokens.device, dtype=torch.float32)
    for rows, part in batches:
        logits[rows] = part
    return logits


def batches_of_logits(
    model: GPT, examples: Examples, tap: Tap | RowTap | None = None, scales: Tensor | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """What `last_logits` returns, batch by batch: numbers of rows, and their logits."""
    for rows in rows_by_length(examples.last):
        width = int(examples.last[rows].max()) + 1
        tokens, last = examples.tokens[rows, :width], examples.last[rows]
        with torch.no_grad():
            part_tap = tap.at(rows, width) if isinstance(tap, RowTap) else tap
            frozen = None if scales is None else scales[rows]
            part = frozen_logits(model, tokens, last, part_tap, frozen).float()
        yield rows, part


def frozen_logits(
    model: GPT,
    tokens: Int64[Tensor, "B T"],
    last: Int64[Tensor, " B"],
    tap: Tap | None = None,
    scales: Float[Tensor, " B"] | None = None,
) -> Float[Tensor, "B V"]:
    """Logits at `last` with the final norm dividing by `scales`, or live where None. Differentiable through the tap."""
    if scales is None:
        return model(tokens, tap=tap, at=last)
    recorder = Record([FINAL_SITE])
    logits = model(tokens, tap=compose(tap, recorder), at=last)
    rows = torch.arange(len(tokens), device=tokens.device)
    ratio = norm_scale(model, recorder.sites[FINAL_SITE][rows, last]) / scales
    unscaled = _unscaled(model, tokens[rows, last])
    return (logits - unscaled) * ratio.unsqueeze(1) + unscaled


@torch.no_grad()
def final_scales(model: GPT, examples: Examples, tap: Tap | RowTap | None = None) -> Float[Tensor, " rows"]:
    """What the final norm divides by at each row's last prompt token (RMS, or a layer norm's standard deviation)."""
    scales = torch.empty(len(examples.last), device=examples.tokens.device)
    for rows in rows_by_length(examples.last):
        width = int(examples.last[rows].max()) + 1
        recorder = Record([FINAL_SITE])
        part_tap = tap.at(rows, width) if isinstance(tap, RowTap) else tap
        model(examples.tokens[rows, :width], tap=compose(part_tap, recorder), at=examples.last[rows])
        numbers = torch.arange(len(rows), device=rows.device)
        scales[rows] = norm_scale(model, recorder.sites[FINAL_SITE][numbers, examples.last[rows]]).float()
    return scales


def norm_scale(model: GPT, residual: Float[Tensor, "*rows D"]) -> Float[Tensor, "*rows"]:
    """What the final norm divides this residual stream by, in at least float32."""
    norm = cast("nn.RMSNorm | nn.LayerNorm", model.ln_f)
    x = residual if residual.dtype == torch.float64 else residual.float()
    epsilon = torch.finfo(residual.dtype).eps if norm.eps is None else norm.eps
    if isinstance(norm, nn.LayerNorm):
        x = x - x.mean(-1, keepdim=True)
    return (x.square().mean(-1) + epsilon).sqrt()


def _unscaled(model: GPT, tokens: Int64[Tensor, " B"]) -> Float[Tensor, "B V"]:
    """The part of the logits after `tokens` that does not go through the final norm's scale."""
    part = cast(Tensor, model.final_logits_bias).expand(len(tokens), -1)
    if model.config.bigram_table != "none":
        part = part + cast(Tensor, model.bigram_table)[tokens]
    shift = getattr(model.ln_f, "bias", None)
    if shift is not None:
        part = part + model.lm_head(shift.unsqueeze(0))
    return part
