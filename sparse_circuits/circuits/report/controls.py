"""Point 4: what the same search finds where there is nothing to find. A control that succeeds speaks against it.

- Random circuits: as many nodes at each site as the circuit has, drawn at random among others than its own that vary on
  the prompts (silent ones, then the circuit's own, only where a site has too few others); no search.
- Nonsense task: the same prompts, the right answer of each pair drawn by lot (by the pair's tokens and the seed, so
  that a pair always has the same answer), so that nothing in the prompt decides. Masks may fit the pairs they were
  learned on by heart; other pairs they cannot.
- Exchanged answers: the same prompts, every answer wrong. The evidence decides, but the model says the opposite: a
  circuit that answers wrongly on purpose is none of the model's.
- Shuffled weights: in every matrix of the blocks each row keeps its nonzeros' number and values, in random columns.
  Embeddings, norms, biases, sinks, the bigram table and the unembedding stay, so tokens still come in and go out.

The last three learn masks with the circuit's own settings, on the split `prune`, and begin with no fewer nodes; of the
sizes tried along the learned ranking the one with the lowest loss on `calibrate` is taken, whatever its size, and its
loss on `report` is the figure. That is more lenient than what a circuit has to pass. Where the circuit's target was one
of calibrated loss, every control has a scale and a shift of its own, fitted on `calibrate`.
"""

import copy
import hashlib
import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sparse_circuits.circuits.ablation import held
from sparse_circuits.circuits.calibration import calibrate
from sparse_circuits.circuits.circuit import evaluator, fixed_examples
from sparse_circuits.circuits.config import PruneConfig
from sparse_circuits.circuits.masks import MaskLearning
from sparse_circuits.circuits.means import Means, node_means
from sparse_circuits.circuits.report.necessity import random_sets
from sparse_circuits.circuits.report.rows import Row, Verdict
from sparse_circuits.circuits.report.statistics import Interval, by_pair
from sparse_circuits.circuits.report.subject import Subject
from sparse_circuits.circuits.report.thresholds import CHANCE, CONTROL_GAIN, NO_GUESS
from sparse_circuits.circuits.screen import screened
from sparse_circuits.circuits.search import first, ranked
from sparse_circuits.corpus.idioms import program
from sparse_circuits.inference import fastest
from sparse_circuits.loop import Loop
from sparse_circuits.model import GPT
from sparse_circuits.progress import Bar
from sparse_circuits.tasks import Examples, Task, task_losses
from sparse_circuits.tokenizer import Tokenizer

MEAN_WINDOWS = 64
"""Windows of generated programs over which the shuffled model's means are taken."""
SIZES_TRIED = 16


@dataclass(frozen=True)
class Relabelled(Task):
    """A task with the same prompts and other answers: drawn by lot for each pair, or all exchanged."""

    lot: int | None = 0
    """Seed of the lot; None exchanges every answer."""

    @classmethod
    def of(cls, task: Task, lot: int | None) -> "Relabelled":
        """`task` with its answers drawn by lot, or exchanged; under the same name, so that it draws the same pairs."""
        return cls(task.name, task.description, task.templates, task.words, task.version, lot)

    def examples(
        self, tokenizer: Tokenizer, split: str = "report", n: int = 64, seed: int = 0, block_size: int = 256
    ) -> Examples:
        """The task's own prompts, relabelled."""
        found = super().examples(tokenizer, split, n, seed, block_size)
        exchanged = torch.tensor([self._exchanged(found, pair) for pair in range(len(found))]).repeat(2)
        targets = torch.where(exchanged, found.others, found.targets)
        others = torch.where(exchanged, found.targets, found.others)
        return replace(found, targets=targets, others=others)

    def _exchanged(self, examples: Examples, pair: int) -> bool:
        if self.lot is None:
            return True
        prompt = examples.tokens[pair, : int(examples.last[pair]) + 1].tolist()
        return bool(hashlib.sha256(f"{self.lot}/{prompt}".encode()).digest()[0] & 1)


def rows(subject: Subject, wide: Subject, full: bool, progress: bool = False) -> list[Row]:
    """One row for each control; those that learn masks only where `full`, and on the pairs of `wide`."""
    found = [_random_circuits(subject)]
    learned = (
        ("nonsense", "nonsense task", "on a nonsense task, its answers drawn by lot"),
        ("exchanged", "exchanged answers", "for the opposite of every right answer"),
        ("shuffled", "shuffled weights", "in a model whose weights are shuffled"),
    )
    possible = "prune" in subject.task.splits
    why = "Learns masks anew: ask for it with --full." if possible else "The task has no split to learn masks on."
    config = _as_wide(wide, replace(wide.config, runs=1)) if full and possible else None
    for key, name, where in learned:
        if config is not None:
            model, means, task = _setting(wide, key)
            control = _search(config, model, means, task, name, progress)
            found.append(_learned_row(wide, key, name, where, control))
        else:
            found.append(Row(4, f"control_{key}", name, why, "not measured", unit="nats", control=True))
    return found


def shuffle_weights(model: GPT, generator: torch.Generator) -> GPT:
    """A copy of `model` in which each row of the blocks' matrices has its entries in random columns."""
    shuffled = copy.deepcopy(model)
    with torch.no_grad():
        for block in shuffled.blocks:
            for layer in (block.attn.c_attn, block.attn.c_proj, block.mlp.c_fc, block.mlp.c_proj):
                order = torch.rand(layer.weight.shape, generator=generator).argsort(1)
                layer.weight.copy_(layer.weight.gather(1, order.to(layer.weight.device)))
    shuffled.tokenizer, shuffled.folder = model.tokenizer, None
    return shuffled


def _setting(subject: Subject, key: str) -> tuple[GPT, Means, Task]:
    """Model, means and task of a control."""
    if key == "nonsense":
        return subject.full, subject.circuit.means, Relabelled.of(subject.task, subject.seed)
    if key == "exchanged":
        return subject.full, subject.circuit.means, Relabelled.of(subject.task, None)
    shuffled = fastest(shuffle_weights(subject.circuit.model, subject.generator("shuffled")))
    return shuffled, node_means(shuffled, _text(subject).to(subject.device)), subject.task


def _text(subject: Subject) -> Tensor:
    """Windows of generated programs: text that needs no corpus."""
    tokenizer, size = subject.full.tokenizer, subject.full.config.block_size
    assert tokenizer is not None
    tokens: list[int] = []
    number = 0
    while len(tokens) < MEAN_WINDOWS * size:
        tokens += [*tokenizer.encode(program(subject.seed, number)), tokenizer.end_of_text]
        number += 1
    return torch.tensor(tokens[: MEAN_WINDOWS * size]).view(MEAN_WINDOWS, size)


@dataclass(frozen=True)
class Control:
    """What a search found where there is nothing to find."""

    pairs: Tensor
    """Loss of each report pair."""
    fitted: float
    """Loss of the learned masks on pairs that they were learned on."""
    size: int


def _search(config: PruneConfig, model: GPT, means: Means, task: Task, name: str, progress: bool) -> Control:
    trained = [p for p in model.parameters() if p.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        constants = held(means, "zero" if config.ablation == "zero" else "mean")
        learning = MaskLearning(model, task, constants, config, [screened(model, task, means, config)])
        with Bar(name, config.loop.steps, progress) as bar:
            for log in Loop(learning, config.loop):
                bar.update(log.step, f"loss {log.figures['task_loss']:.3f}")
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
    scores = learning.scores(0).cpu()
    choose = "calibrate" if "calibrate" in task.splits else "prune"
    evaluate = evaluator(model, fixed_examples(model, task, choose, config), means, config)
    best = min(_candidates(scores), key=evaluate)
    report = evaluator(model, fixed_examples(model, task, "report", config), means, config)
    some = learning.pools[config.loop.seed]
    fitted = some.pick(torch.arange(min(len(some), config.eval_pairs), device=some.last.device))
    logits = report.logits(best)
    losses = task_losses(logits, report.examples)
    if config.calibrated:
        losses = calibrate(evaluate.logits(best), evaluate.examples).losses(logits, report.examples)
    return Control(
        by_pair(losses),
        evaluator(model, fitted, means, config)(scores >= 0),
        int(best.sum()),
    )


def _as_wide(subject: Subject, config: PruneConfig) -> PruneConfig:
    """`config`, beginning with no fewer nodes than the circuit's own search: that takes more where few miss the target.

    What a control's model does is soon done as badly by a few nodes.
    """
    begun = screened(subject.full, subject.task, subject.circuit.means, replace(config, init_scale=0.0, init_bias=1.0))
    return replace(config, screen=max(config.screen, float((begun > 0).float().mean())))


def _candidates(scores: Tensor) -> list[Tensor]:
    """Node sets along the ranking: the trained one, and sizes evenly spaced in the logarithm."""
    total, order = len(scores), ranked(scores)
    sizes = {round(math.exp(math.log(total) * i / (SIZES_TRIED - 1))) for i in range(SIZES_TRIED)}
    return [scores >= 0, *(first(order, size) for size in sorted(sizes))]


def _judged(subject: Subject, pairs: Tensor) -> tuple[float, Interval, Verdict, str]:
    """A control's loss from that of each pair, its interval, the verdict on its share of the gain, and the warning."""
    value, (low, high) = float(pairs.mean()), subject.interval(pairs)
    if subject.gain <= 0:
        return value, (low, high), "fails", " The circuit itself does no better than a guess."
    share, ends = ((CHANCE - value) / subject.gain, [(CHANCE - end) / subject.gain for end in (high, low)])
    verdict = CONTROL_GAIN.judge(share, (ends[0], ends[1]))
    warning = ""
    if verdict == "weak" and share > CONTROL_GAIN.good:
        warning = " WARNING: it gets part of the way."
    elif verdict == "weak":
        warning = f" WARNING: these are too few pairs to tell; it may get as far as {low:.3f}."
    return value, (low, high), verdict, warning


def _learned_row(subject: Subject, key: str, name: str, where: str, control: Control) -> Row:
    value, interval, verdict, warning = _judged(subject, control.pairs)
    sentence = f"{name.capitalize()}: the same search reaches {value:.3f} nats {where}; a guess has {CHANCE:.3f}."
    by_heart = control.fitted <= min(2 * subject.config.target_loss, NO_GUESS * CHANCE)
    if verdict == "fails" and subject.gain > 0:
        warning = (
            " WARNING: pruning finds a low loss there too, so the circuit's low loss is no evidence that the model "
            "works this way."
        )
    elif verdict != "fails" and by_heart:
        verdict = "weak"
        warning = (
            f" WARNING: on the pairs the masks were learned on it has {control.fitted:.3f} nats: they can fit pairs by "
            "heart, so only losses on other pairs count."
        )
    return Row(
        4,
        f"control_{key}",
        name,
        sentence + warning,
        verdict,
        value,
        interval,
        "nats",
        decisive=True,
        control=True,
        data={"fitted": control.fitted, "nodes": control.size},
    )


def _random_circuits(subject: Subject) -> Row:
    sets = random_sets(subject, "random circuits")
    draws = [subject.losses(subject.measure(each), calibration=subject.fitted(each)) for each in sets]
    means = torch.stack([each.mean() for each in draws])
    value, interval, verdict, warning = _judged(subject, draws[int(means.argmin())])
    if verdict == "fails" and subject.gain > 0:
        warning = " WARNING: a random circuit does nearly as well, so these nodes are nothing special."
    sentence = (
        f"Of {len(draws)} random circuits of other nodes, as many per site, that vary on these prompts, the best has "
        f"{value:.3f} nats, the mean is {float(means.mean()):.3f} (the circuit {subject.loss('circuit'):.3f})."
    )
    return Row(
        4,
        "control_random",
        "random circuits",
        sentence + warning,
        verdict,
        value,
        interval,
        "nats",
        decisive=True,
        control=True,
        data={"draws": means.tolist()},
    )
