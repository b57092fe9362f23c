"""Learning which nodes a task needs (paper, section 3 and appendix B).

One parameter tau per node, shared by all prompts and positions, weights frozen:
1. m = 1 where tau >= 0, else 0; the gradient passes as if m were sigmoid(tau / T), so it is scaled by its derivative;
2. each node becomes m * x + (1 - m) * held;
3. loss = task loss + k_coef * (number of kept nodes);
4. after every step tau is clamped to [-1, 1].
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sparse_circuits.circuits.nodes import NodeSpace, hold_each
from sparse_circuits.config import PruneConfig
from sparse_circuits.errors import InputError
from sparse_circuits.model import GPT
from sparse_circuits.optimizer import Projection
from sparse_circuits.tasks import Examples, Task, task_loss

POOL_BATCHES = 32
"""Distinct pairs that training draws on, in batches."""


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


class MaskLearning:
    """The objective of mask learning: one run, or several at once over the shared, frozen weights.

    Runs may differ in seed, price, temperature and start. They share each forward pass and nothing else: every run
    learns what it would have learnt alone.
    """

    def __init__(self, model: GPT, task: Task, held: Tensor, configs: PruneConfig | Sequence[PruneConfig]):
        self.model, self.task = model, task
        self.configs = [configs] if isinstance(configs, PruneConfig) else list(configs)
        self.space = NodeSpace(model.config)
        self.device = next(model.parameters()).device
        self.held = held.to(self.device)
        self.taus = [torch.nn.Parameter(self._initial(config).to(self.device)) for config in self.configs]
        if model.tokenizer is None:
            raise InputError("the model has no tokenizer, so a task cannot be put to it; set model.tokenizer")
        # Drawing pairs costs as much as a small model's step, so they are drawn once.
        seeds = {config.loop.seed for config in self.configs}
        self.pools = {seed: self._pool(seed) for seed in sorted(seeds)}

    def _initial(self, config: PruneConfig) -> Tensor:
        generator = torch.Generator().manual_seed(config.loop.seed)
        noise = torch.randn(self.space.total, generator=generator)
        return (noise * config.init_scale + config.init_bias).clamp(-1, 1)

    def _pool(self, seed: int) -> Examples:
        assert self.model.tokenizer is not None
        size = max(1, min(POOL_BATCHES * self.configs[0].batch_pairs, self.task.size("prune")))
        block_size = self.model.config.block_size
        pool = self.task.examples(self.model.tokenizer, "prune", size, seed=seed + 1, block_size=block_size)
        return pool.to(self.device)

    def _batch(self, step: int, config: PruneConfig) -> Examples:
        """The pairs of step `step`, without the padding that only others of the pool need."""
        pool = self.pools[config.loop.seed]
        generator = torch.Generator().manual_seed(config.loop.seed * 1_000_003 + step)
        pairs = torch.randperm(len(pool), generator=generator)[: config.batch_pairs].to(self.device)
        batch = pool.pick(pairs)
        return dataclasses.replace(batch, tokens=batch.tokens[:, : int(batch.last.max()) + 1])

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

    def loss_limit(self) -> float:
        return 1e6 + sum(config.k_coef for config in self.configs) * self.space.total

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        batches = [self._batch(step, config) for config in self.configs]
        masks = [step_function(tau, config.temperature) for tau, config in zip(self.taus, self.configs, strict=True)]
        width = max(batch.tokens.shape[1] for batch in batches)
        tokens = torch.cat([F.pad(batch.tokens, (0, width - batch.tokens.shape[1])) for batch in batches])
        last = torch.cat([batch.last for batch in batches])
        logits = self.model(tokens, tap=hold_each(self.space, masks, self.held), at=last)
        rows = [len(batch.last) for batch in batches]
        losses = [task_loss(part, batch) for part, batch in zip(logits.split(rows), batches, strict=True)]
        kept = [mask.sum() for mask in masks]
        prices = [config.k_coef * nodes for config, nodes in zip(self.configs, kept, strict=True)]
        return torch.stack(losses).sum() + torch.stack(prices).sum(), {
            "task_loss": float(torch.stack(losses).detach().mean()),
            "nodes": float(torch.stack(kept).detach().mean()),
        }

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        for tau in self.taus:
            tau.clamp_(-1, 1)
