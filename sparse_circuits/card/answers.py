"""A model's answers to many tasks at once, and what the answers to one say about why it fails.

The log-odds of being right at every prompt (`tasks.loss`) say all: with a and b the means over the A and the B sides of
a task with two completions, the evidence moves the answer by (a + b) / 2 towards what is right, the margin, and
(a - b) / 2 is how much the completion of side A is preferred whatever the evidence.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid, pad

from sparse_circuits.circuits.circuit import fixed_examples
from sparse_circuits.circuits.config import PruneConfig
from sparse_circuits.errors import InputError
from sparse_circuits.fields import require
from sparse_circuits.model import GPT
from sparse_circuits.progress import Bar
from sparse_circuits.tasks import SPLITS, Examples, Task, log_odds
from sparse_circuits.tasks.pair import settle

ROWS_PER_BATCH = 128


@dataclass(frozen=True)
class Answers:
    """The answers to the fixed pairs of one split."""

    odds: Float[Tensor, "rows"]
    """Log-odds of being right: rows 0 to n - 1 are the A sides, n to 2n - 1 the B sides of the same pairs."""
    asked: int | None = None
    """How many pairs were asked for, also where the split has fewer: their order depends on it."""

    @property
    def loss(self) -> float:
        """Mean of -log p(right), in nats."""
        return float(-logsigmoid(self.odds).mean())

    @property
    def accuracy(self) -> float:
        """The part of the answers that are right."""
        return float((self.odds > 0).float().mean())

    @property
    def margin(self) -> float:
        """Mean log-odds of being right, in nats."""
        return float(self.odds.mean())

    @property
    def sides(self) -> tuple[Tensor, Tensor]:
        """The log-odds of the A and of the B sides."""
        a, b = self.odds.chunk(2)
        return a, b

    @property
    def preference(self) -> float:
        """By how many nats the answer of side A is preferred whatever the evidence."""
        a, b = self.sides
        return float((a - b).mean()) / 2


def answer(
    model: GPT, tasks: Sequence[Task], pairs: int, splits: Sequence[str] = SPLITS, skip: bool = True
) -> tuple[dict[str, dict[str, Answers]], dict[str, str]]:
    """Ask `model`, which has a tokenizer, `pairs` pairs of each of `splits` of each task.

    Args:
        skip: leave a task out that the tokenizer cannot ask; else it is refused.

    Returns:
        the answers by task and split, and why tasks were left out.

    Raises:
        InputError: such a task where none is skipped, fewer than 1 pair, or a loss that is no number.
    """
    require(pairs >= 1, f"{pairs} pairs asked: ask for at least 1")
    config = PruneConfig(eval_pairs=pairs)
    asked: dict[tuple[str, str], Examples] = {}
    skipped: dict[str, str] = {}
    for task in tasks:
        chosen = [split for split in task.splits if split in splits]
        try:
            asked |= {(task.name, split): fixed_examples(model, task, split, config) for split in chosen}
        except InputError as error:
            if not skip:
                raise
            skipped[task.name] = str(error)
    found: dict[str, dict[str, Answers]] = {}
    for (name, split), odds in zip(asked, _log_odds(model, list(asked.values())), strict=True):
        found.setdefault(name, {})[split] = answers = Answers(odds, pairs)
        require(
            math.isfinite(answers.loss),
            f"the loss of {model.folder or 'the model'} on {name} is {answers.loss}; its weights are damaged",
        )
    return found, skipped


def _log_odds(model: GPT, asked: Sequence[Examples]) -> list[Tensor]:
    """The log-odds of being right of every row of each of them; rows of like length are computed together."""
    odds = [torch.empty(len(examples.last)) for examples in asked]
    for loss in ("two_token", "one_token"):
        chosen = [number for number, examples in enumerate(asked) if examples.loss == loss]
        if not chosen:
            continue
        sets = [asked[number] for number in chosen]
        width = max(examples.tokens.shape[1] for examples in sets)
        tokens = torch.cat([pad(examples.tokens, (0, width - examples.tokens.shape[1])) for examples in sets])
        last, targets, others = (
            torch.cat([getattr(examples, name) for examples in sets]) for name in ("last", "targets", "others")
        )
        found = torch.empty(len(last))
        with torch.no_grad(), Bar("tasks", len(last)) as bar:
            done = 0
            for rows in last.argsort(stable=True).split(ROWS_PER_BATCH):
                wide = int(last[rows].max()) + 1
                part = Examples(tokens[rows, :wide], last[rows], targets[rows], others[rows], loss)
                found[rows.cpu()] = log_odds(model(part.tokens, at=part.last), part).float().cpu()
                done += len(rows)
                bar.update(done)
        for number, part_odds in zip(chosen, found.split([len(examples.last) for examples in sets]), strict=True):
            odds[number] = part_odds
    return odds


def why(model: GPT, task: Task, answers: Mapping[str, Answers], split: str = "report") -> str:
    """What the answers to `split` tell of a high loss, as one line."""
    assert model.tokenizer is not None
    found = answers[split]
    a, b = found.sides
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there are fewer was told when they were put to the model
        pairs = task.pairs(model.tokenizer, split, found.asked or len(a), seed=0)
    reasons = [_tendency(task, found)]
    by_template: dict[str, list[float]] = {}
    for pair, loss_a, loss_b in zip(pairs, (-logsigmoid(a)).tolist(), (-logsigmoid(b)).tolist(), strict=True):
        by_template.setdefault(pair.template, []).append((loss_a + loss_b) / 2)
    means = {name: sum(losses) / len(losses) for name, losses in by_template.items()}
    worst, best = max(means, key=lambda name: means[name]), min(means, key=lambda name: means[name])
    if means[worst] > 2 * means[best]:
        reasons.append(
            f"by template ({len(means)} of them) the loss goes from {means[best]:.2f} ({best!r}) to {means[worst]:.2f} "
            f"({worst!r})"
        )
    drawn = [template.fill(task.words.get(split, {}), 0) for template in task.templates[split]]
    unjoined = sum(settle(pair, model.tokenizer) != pair for pair in drawn)
    if unjoined:
        reasons.append(
            f"the tokenizer lacks the joined tail of the completions of {unjoined} of {len(drawn)} templates, "
            "which are asked without it"
        )
    return "; ".join(reasons)


def last_tokens(model: GPT, task: Task, answers: Answers, split: str = "report") -> list[tuple[int, int]]:
    """The last token of both prompts of each pair of `split` that `answers` are to, A before B."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there are fewer was told when they were put to the model
        examples = fixed_examples(model, task, split, PruneConfig(eval_pairs=answers.asked or len(answers.odds) // 2))
    ends = examples.tokens[torch.arange(len(examples.last)), examples.last.cpu()].cpu()
    a, b = ends.chunk(2)
    return list(zip(a.tolist(), b.tolist(), strict=True))


def _tendency(task: Task, found: Answers) -> str:
    """What the answers depend on."""
    a, b = (float((side > 0).float().mean()) for side in found.sides)
    split = f"{a:.0%} of the A sides and {b:.0%} of the B sides are right"
    preference = found.preference
    if abs(preference) > max(found.margin, 0.1) and task.loss == "two_token":
        side = "A" if preference > 0 else "B"
        return (
            f"the completion of side {side} is preferred by {abs(preference):.2f} nats whatever the evidence, "
            f"which moves the answer by {found.margin:.2f} ({split})"
        )
    if found.margin < 0.25:
        return f"the evidence moves the answer by {found.margin:.2f} nats only, accuracy {found.accuracy:.0%} ({split})"
    if found.accuracy >= 0.95:
        return f"{found.accuracy:.0%} of the answers are right, but by {found.margin:.2f} nats only on average"
    return f"{found.accuracy:.0%} of the answers are right ({split}), by {found.margin:.2f} nats on average"
