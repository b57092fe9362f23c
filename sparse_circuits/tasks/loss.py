"""How wrong a model is on a task.

Source: arXiv 2511.13653, the binary tasks: cross-entropy between the two completions, or between one token
and all others. Both are one formula:
1. the log-odds of being right, d = log Σ exp(logits of what is right) − log Σ exp(logits of what is wrong),
   where the sums run over one token, or over every token but one (`ANY`);
2. the loss of a side, −log σ(d), stable for any d;
3. the loss of the task, the mean over sides. (The published toolkit stores the sum of a pair's sides, twice
   this.)
Chance on two tokens is ln 2.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from sparse_circuits.tasks.examples import Examples
from sparse_circuits.tasks.pair import ANY


def log_odds(logits_last: Float[Tensor, "rows V"], examples: Examples) -> Float[Tensor, " rows"]:
    """Log-odds of the right answer against the wrong one; positive where the model is right.

    Computed in float32, or float64 if the logits are.
    """
    logits = logits_last if logits_last.dtype == torch.float64 else logits_last.float()
    right = logits.gather(1, examples.targets.clamp(min=0)[:, None])[:, 0]
    wrong = logits.gather(1, examples.others.clamp(min=0)[:, None])[:, 0]
    if examples.loss == "two_token":
        return right - wrong
    # One column of each row names the token, the other is ANY: the maximum is the token.
    token = torch.maximum(examples.targets, examples.others)
    rest = logits.scatter(1, token[:, None], -torch.inf).logsumexp(1)
    return torch.where(examples.others == ANY, right - rest, rest - wrong)


def task_losses(logits_last: Float[Tensor, "rows V"], examples: Examples) -> Float[Tensor, " rows"]:
    """−log p(right) of each row, in nats; `logits_last` are the logits at `examples.last`."""
    return -functional.logsigmoid(log_odds(logits_last, examples))


def task_loss(logits_last: Float[Tensor, "rows V"], examples: Examples) -> Float[Tensor, ""]:
    """Mean of −log p(right) over both sides of all pairs, in nats."""
    return task_losses(logits_last, examples).mean()
