"""Pairs as tensors, ready for a forward pass.

Rows 0..n-1 are the A sides and rows n..2n-1 the B sides of the same pairs, in the same order. What is right
and what is wrong at a row's last position is said by two columns, `targets` and `others`; `ANY` in one of
them means "every token but the other column's":

| question               | side | targets | others | loss (see `task_losses`)            |
|------------------------|------|---------|--------|-------------------------------------|
| two_token              | A, B | right   | wrong  | −log p(right), softmax over the two |
| one_token ("t or not") | A    | t       | ANY    | −log p(t), full vocabulary          |
|                        | B    | ANY     | t      | −log(1 − p(t)), full vocabulary     |

So exchanging the columns of a row exchanges right and wrong, whatever the question.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sparse_circuits.errors import InputError
from sparse_circuits.tasks.pair import EncodedPair

Loss = Literal["two_token", "one_token"]


@dataclass(frozen=True)
class Examples:
    """n pairs as 2n rows.

    tokens: prompts, right-padded with the end-of-text token (a causal model does not see what is after
        `last`).
    last: index of each prompt's last token, where the completion is predicted.
    targets: the right completion, or `ANY`.
    others: the wrong completion, or `ANY`.
    loss: which question all rows ask.
    """

    tokens: Int64[Tensor, "rows T"]
    last: Int64[Tensor, " rows"]
    targets: Int64[Tensor, " rows"]
    others: Int64[Tensor, " rows"]
    loss: Loss

    def __len__(self) -> int:
        """The number of pairs, half the number of rows."""
        return self.tokens.shape[0] // 2

    def to(self, device: torch.device | str) -> "Examples":
        """The same examples on `device`."""
        return Examples(
            self.tokens.to(device),
            self.last.to(device),
            self.targets.to(device),
            self.others.to(device),
            self.loss,
        )

    def pick(self, pairs: Int64[Tensor, " m"]) -> "Examples":
        """The pairs with these numbers (0..n-1), for minibatches from a pool; padding stays as wide."""
        rows = torch.cat([pairs, pairs + len(self)])
        return Examples(self.tokens[rows], self.last[rows], self.targets[rows], self.others[rows], self.loss)

    def at_last(self, logits: Float[Tensor, "rows T V"]) -> Float[Tensor, "rows V"]:
        """The logits of each row's last prompt token."""
        return logits[torch.arange(len(self.last), device=self.last.device), self.last]


def collate(encoded: Sequence[EncodedPair], end_of_text: int, block_size: int, loss: Loss) -> Examples:
    """Stack encoded pairs, keeping the last `block_size - 1` tokens of each prompt.

    Raises:
        InputError: `block_size` is below 2, or truncation cuts off what makes the sides of a pair differ.
    """
    if block_size < 2:
        raise InputError(f"block_size is {block_size}: at least 2 are needed, a prompt token and its completion")
    keep = block_size - 1
    rows = [pair.prompt_a[-keep:] for pair in encoded] + [pair.prompt_b[-keep:] for pair in encoded]
    for number, (row_a, row_b) in enumerate(zip(rows[: len(encoded)], rows[len(encoded) :], strict=True)):
        if row_a == row_b:
            raise InputError(
                f"pair {number}: cut to their last {keep} tokens, both prompts are the same; the evidence"
                " lies further back: shorten the prompts or use a larger block_size"
            )
    width = max(len(row) for row in rows)
    right = [pair.right_a for pair in encoded] + [pair.right_b for pair in encoded]
    wrong = [pair.right_b for pair in encoded] + [pair.right_a for pair in encoded]
    return Examples(
        tokens=torch.tensor([row + [end_of_text] * (width - len(row)) for row in rows]),
        last=torch.tensor([len(row) - 1 for row in rows]),
        targets=torch.tensor(right),
        others=torch.tensor(wrong),
        loss=loss,
    )
