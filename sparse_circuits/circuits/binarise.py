"""Binarised features: can each node of a circuit be no more than on or off? (paper, appendix C)

Every kept node x becomes low or high, by whether it reaches a threshold, the same for all prompts and positions:
1. observe the node over the `prune` split, in the circuit: its range, and the mean of what lies below and above
   thresholds at 1/4, 1/2 and 3/4 of that range; start from the one whose two means fit x best (least squares);
2. learn threshold, low and high through the one loop, on the task loss, with x -> a * x + (1 - a) * step(x) and
   a = (1 - progress)^5; the step's gradient is that of a sigmoid, as in mask learning;
3. measure with a = 0.

Threshold and levels are learnt in units of the node's range, so that one learning rate suits all.
"""

import dataclasses
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.circuits.config import BinariseConfig
from sparse_circuits.circuits.intervals import Measured, mean_interval
from sparse_circuits.circuits.logits import last_logits, pairs_for
from sparse_circuits.circuits.masks import step_function
from sparse_circuits.errors import InputError
from sparse_circuits.loop import Loop
from sparse_circuits.model import GPT
from sparse_circuits.optimizer import Projection
from sparse_circuits.progress import Bar
from sparse_circuits.sites import Tap, compose
from sparse_circuits.tasks import Examples, task_loss, task_losses

STARTS = (0.25, 0.5, 0.75)
ANNEALING = 5
POOL_PAIRS = 512
"""Distinct pairs of the `prune` split that ranges are observed on and training draws from."""


@dataclass
class Levels:
    """A two-level step for each node of a circuit, in the nodes' order by site and channel."""

    threshold: Float[Tensor, "kept"]
    low: Float[Tensor, "kept"]
    high: Float[Tensor, "kept"]


@dataclass
class Binarised:
    """A circuit whose nodes take two values each; `tap()` turns the model into it."""

    circuit: Circuit
    levels: Levels
    losses: dict[str, dict[str, Measured]] = field(default_factory=dict)
    """By split, in nats: the `circuit`, its nodes `fitted` with two levels, and `binarised` after learning."""

    def tap(self) -> Tap:
        """The tap that holds removed nodes and rounds kept ones to their two levels."""
        unit = torch.ones_like(self.levels.threshold)
        return _stepped(self.circuit, _Steps(self.circuit, torch.zeros_like(unit), unit, self.levels, 1.0, 0.0))

    def by_node(self) -> list[dict[str, float | str | int]]:
        """Site, channel, threshold, low and high of each node."""
        names = [(site, channel) for site, channels in self.circuit.nodes.items() for channel in channels]
        values = (self.levels.threshold.tolist(), self.levels.low.tolist(), self.levels.high.tolist())
        return [
            {"site": site, "channel": channel, "threshold": threshold, "low": low, "high": high}
            for (site, channel), threshold, low, high in zip(names, *values, strict=True)
        ]


def binarise(circuit: Circuit, config: BinariseConfig | None = None, progress: bool = False) -> Binarised:
    """Learn two levels for every node of `circuit` and measure what is lost.

    Raises:
        InputError: the circuit has no nodes, or its task no `prune` split.
    """
    config = config or BinariseConfig()
    if not circuit.size:
        raise InputError("the circuit has no nodes, so there is nothing to binarise")
    with _frozen(circuit.runner):
        objective = _Binarising(circuit, config)
        fitted = objective.natural()
        with Bar("binarise", config.loop.steps, progress) as bar:
            for log in Loop(objective, config.loop):
                bar.update(log.step, f"task loss {log.figures['task_loss']:.3f}")
        found = Binarised(circuit, objective.natural())
        for split in (split for split in ("calibrate", "report", "ood") if split in circuit.task.splits):
            examples = circuit.examples(split)
            taps = {"circuit": circuit.tap(), "fitted": Binarised(circuit, fitted).tap(), "binarised": found.tap()}
            found.losses[split] = {
                name: mean_interval(
                    task_losses(last_logits(circuit.runner, examples, tap), examples).unflatten(0, (2, -1)).mean(0)
                )
                for name, tap in taps.items()
            }
    return found


class _Steps:
    """A tap: the kept nodes x become share * x + (1 - share) * step(x)."""

    def __init__(
        self,
        circuit: Circuit,
        origin: Tensor,
        unit: Tensor,
        levels: Levels,
        temperature: float,
        share: float,
    ):
        """Levels are in multiples of `unit` above `origin`, one of each a kept node; temperature is in units."""
        device = next(circuit.model.parameters()).device
        parts = torch.stack([origin, unit, levels.threshold, levels.low, levels.high]).to(device)
        sizes = [len(channels) for channels in circuit.nodes.values()]
        self._parts = dict(zip(circuit.nodes, parts.split(sizes, dim=1), strict=True))
        self._channels = {site: torch.tensor(channels, device=device) for site, channels in circuit.nodes.items()}
        self._temperature, self._share = temperature, share

    def __call__(self, site: str, activation: Tensor) -> Tensor:
        if site not in self._channels:
            return activation
        channels = self._channels[site]
        origin, unit, threshold, low, high = self._parts[site]
        x = (activation[..., channels].to(unit.dtype) - origin) / unit
        stepped = low + (high - low) * step_function(x - threshold, self._temperature)
        mixed = origin + unit * (self._share * x + (1 - self._share) * stepped)
        return activation.index_copy(-1, channels, mixed.to(activation.dtype))


def _stepped(circuit: Circuit, steps: _Steps) -> Tap:
    tap = compose(circuit.tap(), steps)
    assert tap is not None
    return tap


class _Binarising:
    """The objective of learning thresholds and levels; parameters are in units of each node's range."""

    def __init__(self, circuit: Circuit, config: BinariseConfig):
        self.circuit, self.config = circuit, config
        model, task = circuit.model, circuit.task
        self.pool = pairs_for(model, task, "prune", min(POOL_PAIRS, task.size("prune")), config.loop.seed + 1)
        values = self._observed()
        self.origin = values.amin(0)
        spread = values.amax(0) - self.origin
        # A node that never varies keeps its value: both levels are where it is.
        self.unit = torch.where(spread > 0, spread, torch.ones_like(spread))
        self.levels = fit((values - self.origin) / self.unit)
        for name, value in vars(self.levels).items():
            setattr(self.levels, name, torch.nn.Parameter(value))

    @torch.no_grad()
    def _observed(self) -> Float[Tensor, "positions kept"]:
        """What the kept nodes are in the circuit, at every prompt token of the pool."""
        found: list[Tensor] = []
        for rows in torch.arange(len(self.pool.last)).split(256):
            tokens, last = self.pool.tokens[rows], self.pool.last[rows]
            seen: dict[str, Tensor] = {}

            def look(site: str, activation: Tensor, seen: dict[str, Tensor] = seen) -> Tensor:
                if site in self.circuit.nodes:
                    seen[site] = activation[..., list(self.circuit.nodes[site])]
                return activation

            self.circuit.runner(tokens, tap=compose(self.circuit.tap(), look), at=last)
            asked = torch.arange(tokens.shape[1], device=last.device) <= last.unsqueeze(1)
            found.append(torch.cat([seen[site][asked] for site in self.circuit.nodes], dim=1))
        return torch.cat(found).float()

    def natural(self) -> Levels:
        """The levels in the nodes' own units."""
        return Levels(
            *(
                (self.origin + self.unit * value.detach()).cpu()
                for value in (self.levels.threshold, self.levels.low, self.levels.high)
            )
        )

    def _batch(self, step: int) -> Examples:
        generator = torch.Generator().manual_seed(self.config.loop.seed * 1_000_003 + step)
        pairs = torch.randperm(len(self.pool), generator=generator)[: self.config.batch_pairs]
        batch = self.pool.pick(pairs.to(self.pool.last.device))
        return dataclasses.replace(batch, tokens=batch.tokens[:, : int(batch.last.max()) + 1])

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        batch = self._batch(step)
        share = (1 - (step + 1) / self.config.loop.steps) ** ANNEALING
        steps = _Steps(self.circuit, self.origin, self.unit, self.levels, self.config.temperature, share)
        logits = self.circuit.runner(batch.tokens, tap=_stepped(self.circuit, steps), at=batch.last)
        loss = task_loss(logits, batch)
        return loss, {"task_loss": float(loss.detach())}

    def parameters(self) -> dict[str, torch.nn.Parameter]:
        return dict(vars(self.levels))

    def problems(self) -> list[list[str]]:
        return [list(self.parameters())]

    def decays(self, name: str) -> bool:
        return False

    def schedule(self, step: int) -> tuple[None, None]:
        return None, None

    def projections(self, step: int) -> dict[str, Projection]:
        return {}

    def live(self, step: int) -> Collection[str]:
        return ()

    def recordable(self, step: int) -> None:
        return None

    def loss_limit(self) -> float:
        return 1e6

    def after_step(self, step: int) -> None:
        pass


def fit(values: Float[Tensor, "positions kept"]) -> Levels:
    """Of the thresholds 1/4, 1/2 and 3/4 of each node's range 0..1 the one whose means below and above fit best."""
    best: Levels | None = None
    least = torch.full_like(values[0], torch.inf)
    for start in STARTS:
        above = (values >= start).to(values.dtype)
        count = above.sum(0)
        high = (values * above).sum(0) / count.clamp(min=1)
        low = (values * (1 - above)).sum(0) / (len(values) - count).clamp(min=1)
        error = (values - torch.where(above > 0, high, low)).square().mean(0)
        threshold = torch.full_like(low, start)
        if best is None:
            best = Levels(threshold, low, high)
        for name, value in (("threshold", threshold), ("low", low), ("high", high)):
            setattr(best, name, torch.where(error < least, value, getattr(best, name)))
        least = torch.minimum(error, least)
    assert best is not None
    return best


@contextmanager
def _frozen(model: GPT) -> Iterator[None]:
    """The model's weights take no gradients meanwhile."""
    trained = [p for p in model.parameters() if p.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
