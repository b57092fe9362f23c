"""The residual channels of a circuit: which tokens write to each and which logits read it, and the bigram table."""

from collections.abc import Iterable
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.model import GPT
from sparse_circuits.viewer.numbers import number, numbers

STRONGEST = 24
"""Tokens named of each channel and end."""
FOLLOWERS = 8
"""Named of each token's row of the bigram table."""
LARGEST_VOCABULARY = 8192
"""Of which the bigram table's strongest entries are put in a bundle."""


def channels(circuit: Circuit, named: Iterable[int]) -> list[dict[str, Any]]:
    """Every residual or position channel that a kept node reads or writes.

    Args:
        named: tokens that are named whatever their weight, such as the task's completions.
    """
    width = circuit.model.config.d_model
    touched = sorted(
        {
            channel
            for site, kept in circuit.nodes.items()
            if site.endswith(("act_in", "resid_delta"))
            for channel in kept
        }
    )
    always = sorted({token for token in named if token >= 0})
    return [
        _residual(circuit.model, channel, always) if channel < width else _position(circuit.model, channel)
        for channel in touched
    ]


def _residual(model: GPT, channel: int, always: list[int]) -> dict[str, Any]:
    writes, reads = (matrix.weight.detach()[:, channel].float().cpu() for matrix in (model.wte, model.lm_head))
    return {
        "channel": channel,
        "position": False,
        "writes": strongest(writes, STRONGEST, always),
        "written": int(writes.count_nonzero()),
        "reads": strongest(reads, STRONGEST, always),
        "read": int(reads.count_nonzero()),
        "values": [],
    }


def _position(model: GPT, channel: int) -> dict[str, Any]:
    values = model.wpe.weight.detach()[:, channel - model.config.d_model].float().cpu()
    empty: list[list[float]] = []
    return {
        "channel": channel,
        "position": True,
        "writes": empty,
        "written": 0,
        "reads": empty,
        "read": 0,
        "values": numbers(values),
    }


def strongest(weights: Float[Tensor, "V"], count: int, always: list[int]) -> list[list[float | int]]:
    """The tokens of the largest weights and those of `always`, as far as they are not zero, largest first."""
    first = weights.abs().topk(min(count, len(weights))).indices.tolist()
    tokens = [token for token in {*first, *always} if float(weights[token]) != 0]
    return [[token, number(weights[token])] for token in sorted(tokens, key=lambda token: -float(weights[token]))]


def bigram(model: GPT) -> list[list[list[float | int]]] | None:
    """By token, what its row of the bigram table raises most; None where there is no table, or a very large one."""
    if model.config.bigram_table == "none" or model.config.vocab_size > LARGEST_VOCABULARY:
        return None
    table = cast(Tensor, model.bigram_table).detach().float().cpu()
    values, tokens = table.topk(min(FOLLOWERS, table.shape[1]), dim=1)
    rounded = torch.round(values, decimals=3)
    return [
        [[token, number(value)] for token, value in zip(*row, strict=True)]
        for row in zip(tokens.tolist(), rounded.tolist(), strict=True)
    ]
