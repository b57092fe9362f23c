"""Learning which nodes a task needs (paper, section 3 and appendix B).

One parameter tau per node, shared by all prompts and positions, weights frozen:
1. m = 1 where tau >= 0, else 0; the gradient passes as if m were sigmoid(tau / T), so it is scaled by its derivative;
2. each node becomes m * x + (1 - m) * held;
3. loss = task loss + price * (number of kept nodes);
4. after every step tau is clamped to [-1, 1], and the price, `k_coef` at first, rises where the task loss is below its
   aim and falls where it is above: price *= (aim / loss) ** k_rate. The aim is the model's own loss on the pairs it
   learns from, and a part (`aim`) of what the target allows beyond its own loss on the pairs that are to meet the
   target (less than all, for they are others).

Options: removed nodes take other prompts' values instead (`ablation`), some of them come back in every step
(`restore`), one mask serves channel c of q and of k (`tie_qk`), the final norm keeps the full model's scale
(`final_norm`), learning starts from given masks or stays among given nodes. Of a circuit that is to meet its target
with calibrated logits the masks are learned without: to nodes that cannot tell the answers apart no calibration suits
but a scale near zero, from where no gradient leads back.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sparse_circuits.circuits.ablation import Replace, counterparts
from sparse_circuits.circuits.config import PruneConfig
from sparse_circuits.circuits.logits import final_scales, frozen_logits, mean_loss, pairs_for
from sparse_circuits.circuits.nodes import NodeSpace, Shares, hold_each
from sparse_circuits.model import GPT
from sparse_circuits.optimizer import Projection
from sparse_circuits.sites import Tap
from sparse_circuits.tasks import Examples, Task, task_loss

POOL_BATCHES = 32
"""Distinct pairs that training draws on, in batches."""
LEAST_LOSS = 1e-9
"""Nats, of which a logarithm is taken."""
DEAREST = 1e6
"""The most that a node's price rises to: where no node is needed it would rise without end."""


class _Step(torch.autograd.Function):
    """Heaviside forward (1 at zero), sigmoid's derivative backward."""

    @staticmethod
    def forward(ctx: Any, tau: Tensor, temperature: float) -> Tensor:
        ctx.save_for_backward(tau)
        ctx.temperature = temperature
        return (tau >= 0).to(tau.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (tau,) = ctx.saved_tensors
        p = torch.sigmoid(tau / ctx.temperature)
        return gradients[0] * p * (1 - p) / ctx.temperature, None


def step_function(tau: Tensor, temperature: float) -> Tensor:
    """1 where tau >= 0, else 0; differentiable through the sigmoid of width `temperature`."""
    return _Step.apply(tau, temperature)


def initial(config: PruneConfig, nodes: int, chosen: Tensor | None = None) -> Tensor:
    """Mask parameters to begin with, N(init_bias, init_scale); the mean is -|init_bias| for nodes not `chosen`."""
    generator = torch.Generator().manual_seed(config.loop.seed)
    noise = torch.randn(nodes, generator=generator) * config.init_scale
    bias = torch.full((nodes,), config.init_bias)
    return noise + (bias if chosen is None else torch.where(chosen, bias, -bias.abs()))


class MaskLearning:
    """The objective of mask learning: one run, or several at once over the shared, frozen weights.

    Runs may differ in seed, price, temperature, target and start. They share each forward pass and nothing else: every
    run learns what it would have learnt alone. Their ablation, final norm and batch size are the first one's.

    Args:
        held: what each removed node is held at.
        starts: each run's mask parameters to begin with; drawn as its config says where None.
        within: the only nodes that may be kept.
        own_loss: the model's loss on the pairs that are to meet the target; on those to learn from where None.
    """

    def __init__(
        self,
        model: GPT,
        task: Task,
        held: Tensor,
        configs: PruneConfig | Sequence[PruneConfig],
        starts: Sequence[Tensor] | None = None,
        within: Tensor | None = None,
        own_loss: float | None = None,
    ):
        self.model, self.task = model, task
        self.configs = [configs] if isinstance(configs, PruneConfig) else list(configs)
        self.space = NodeSpace(model.config)
        self.device = next(model.parameters()).device
        self.held = held.to(self.device)
        starts = [initial(config, self.space.total) for config in self.configs] if starts is None else starts
        self.taus = [torch.nn.Parameter(start.clamp(-1, 1).to(self.device)) for start in starts]
        self.within = None if within is None else within.to(self.device)
        self.prices = [config.k_coef for config in self.configs]
        self._losses = [config.target_loss for config in self.configs]
        self._slopes: list[Tensor | None] = [None] * len(self.configs)
        # Drawing pairs costs as much as a small model's step, so they are drawn once.
        seeds = {config.loop.seed for config in self.configs}
        self.pools = {seed: self._pool(seed) for seed in sorted(seeds)}
        self.aims = self._aims(own_loss)
        frozen = self.configs[0].final_norm == "frozen"
        self._scales = {seed: final_scales(model, pool) for seed, pool in self.pools.items()} if frozen else {}
        self._tied = self._ties() if self.configs[0].tie_qk else None

    def _pool(self, seed: int) -> Examples:
        size = max(1, min(POOL_BATCHES * self.configs[0].batch_pairs, self.task.size("prune")))
        return pairs_for(self.model, self.task, "prune", size, seed + 1)

    def _aims(self, own_loss: float | None) -> list[float]:
        """The task loss that each run's price steers to; NaN where the price stays."""
        own: dict[int, float] = {}
        aims = []
        for config in self.configs:
            seed, target = config.loop.seed, config.target_loss
            if not config.k_rate:
                aims.append(math.nan)
                continue
            if seed not in own:
                own[seed] = mean_loss(self.model, self.pools[seed])
            room = target - (own[seed] if own_loss is None else own_loss)
            # Where the model itself misses the target (a control's may) there is no way from one to the other.
            aim = own[seed] + config.aim * room if room >= 0 else config.aim * target
            aims.append(max(aim, LEAST_LOSS))  # of a model that is sure of all answers nothing may be left
        return aims

    def _ties(self) -> Tensor:
        """For each node the one whose parameter it uses: for channel c of k, channel c of q."""
        owner = torch.arange(self.space.total, device=self.device)
        for site, part in self.space.slices.items():
            if site.endswith(".attn.k"):
                owner[part] = owner[self.space.slices[site[:-1] + "q"]]
        return owner

    def _batch(self, step: int, config: PruneConfig) -> tuple[Examples, Tensor | None]:
        """The pairs of step `step`, without the padding that only others of the pool need, and their norm's scales."""
        pool = self.pools[config.loop.seed]
        generator = torch.Generator().manual_seed(config.loop.seed * 1_000_003 + step)
        pairs = torch.randperm(len(pool), generator=generator)[: config.batch_pairs].to(self.device)
        batch = pool.pick(pairs)
        scales = self._scales.get(config.loop.seed)
        batch = dataclasses.replace(batch, tokens=batch.tokens[:, : int(batch.last.max()) + 1])
        return batch, None if scales is None else scales[torch.cat([pairs, pairs + len(pool)])]

    def scores(self, run: int) -> Tensor:
        """Every node's mask parameter of one run, as it counts: kept where it is not negative."""
        return self._effective(self.taus[run]).detach()

    def _effective(self, tau: Tensor) -> Tensor:
        tau = tau if self._tied is None else tau[self._tied]
        return tau if self.within is None else torch.where(self.within, tau, -1.0)

    def parameters(self) -> dict[str, torch.nn.Parameter]:
        return {f"tau.{number}": tau for number, tau in enumerate(self.taus)}

    def problems(self) -> list[list[str]]:
        return [[name] for name in self.parameters()]

    def decays(self, name: str) -> bool:
        return True

    def schedule(self, step: int) -> tuple[None, None]:
        return None, None

    def projections(self, step: int) -> dict[str, Projection]:
        return {}

    def live(self, step: int) -> tuple[str, ...]:
        return ()

    def recordable(self, step: int) -> None:
        return None

    def loss_limit(self) -> float:
        return 1e6 + sum(self.prices) * self.space.total

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        batches, scales = zip(*(self._batch(step, config) for config in self.configs), strict=True)
        masks = [
            step_function(self._effective(tau), config.temperature)
            for tau, config in zip(self.taus, self.configs, strict=True)
        ]
        width = max(batch.tokens.shape[1] for batch in batches)
        padded = [F.pad(batch.tokens, (0, width - batch.tokens.shape[1])) for batch in batches]
        last = torch.cat([batch.last for batch in batches])
        frozen = None if scales[0] is None else torch.cat(list(scales))
        tap = self._tap(step, [self._restored(step, run, mask) for run, mask in enumerate(masks)], batches, padded)
        logits = frozen_logits(self.model, torch.cat(padded), last, tap, frozen)
        rows = [len(batch.last) for batch in batches]
        losses = [task_loss(part, batch) for part, batch in zip(logits.split(rows), batches, strict=True)]
        kept = [mask.sum() for mask in masks]
        prices = [price * nodes for price, nodes in zip(self.prices, kept, strict=True)]
        self._losses = [float(loss.detach()) for loss in losses]
        return torch.stack(losses).sum() + torch.stack(prices).sum(), {
            "task_loss": float(torch.stack(losses).detach().mean()),
            "nodes": float(torch.stack(kept).detach().mean()),
        }

    def _tap(self, step: int, masks: list[Tensor], batches: Sequence[Examples], padded: list[Tensor]) -> Tap:
        if self.configs[0].ablation != "resample":
            return hold_each(self.space, masks, self.held)
        taps: list[Tap] = []
        for mask, batch, tokens in zip(masks, batches, padded, strict=True):
            examples = dataclasses.replace(batch, tokens=tokens)
            taps.append(Replace(self.space, mask, counterparts(self.model, examples, seed=step)))
        return taps[0] if len(taps) == 1 else Shares(self.space, taps)

    def _restored(self, step: int, run: int, mask: Tensor) -> Tensor:
        """`mask` with some of the removed nodes back; those get no gradient in this step."""
        config = self.configs[run]
        if config.restore == "none":
            return mask
        removed = mask.detach() == 0
        if config.restore == "random":
            generator = torch.Generator().manual_seed(config.loop.seed * 1_000_003 + step)
            harm = torch.rand(self.space.total, generator=generator).to(self.device)
        else:
            slopes = self._slopes[run]
            harm = torch.zeros_like(mask) if slopes is None or slopes.grad is None else slopes.grad
            # Only what raises the loss, as seen in the step before.
            removed &= harm > 0
        count = round(config.restore_fraction * int((mask.detach() == 0).sum()))
        back = harm.detach().masked_fill(~removed, -torch.inf).topk(min(count, int(removed.sum()))).indices
        restored = torch.zeros_like(mask).index_fill(0, back, 1.0)
        used = mask + (1 - mask) * restored
        if config.restore == "adversarial":
            used.retain_grad()
            self._slopes[run] = used
        return used

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        for tau in self.taus:
            tau.clamp_(-1, 1)
        for run, config in enumerate(self.configs):
            if not config.k_rate:
                continue
            ratio = self.aims[run] / max(self._losses[run], LEAST_LOSS)
            # One batch's loss says little: no more than a factor of e either way.
            change = config.k_rate * max(-1.0, min(1.0, math.log(ratio)))
            # Infinity times no nodes is no number.
            self.prices[run] = min(DEAREST, self.prices[run] * math.exp(min(change, math.log(DEAREST))))
