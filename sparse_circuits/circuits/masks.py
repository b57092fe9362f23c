"""Learning which nodes a task needs (paper, section 3 and appendix B).

One parameter tau per node, shared by all prompts and positions, weights frozen:
1. m = 1 where tau >= 0, else 0; the gradient passes as if m were sigmoid(tau / T), so it is scaled by its derivative;
2. each node becomes m * x + (1 - m) * held;
3. loss = task loss + k_coef * (number of kept nodes);
4. after every step tau is clamped to [-1, 1].
"""

import dataclasses
from typing import Any

import torch
from torch import Tensor

from sparse_circuits.circuits.nodes import NodeSpace, scale_nodes
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
    """The objective of mask learning."""

    def __init__(self, model: GPT, task: Task, held: Tensor, config: PruneConfig):
        self.model, self.task, self.config = model, task, config
        self.space = NodeSpace(model.config)
        self.device = next(model.parameters()).device
        self.held = held.to(self.device)
        generator = torch.Generator().manual_seed(config.loop.seed)
        initial = torch.randn(self.space.total, generator=generator) * config.init_scale + config.init_bias
        self.tau = torch.nn.Parameter(initial.clamp(-1, 1).to(self.device))

        if model.tokenizer is None:
            raise InputError("the model has no tokenizer, so a task cannot be put to it; set model.tokenizer")
        # Drawing pairs costs as much as a small model's step, so they are drawn once.
        self.pool = task.examples(
            model.tokenizer, "prune", self._pool_size(), seed=config.loop.seed + 1, block_size=model.config.block_size
        ).to(self.device)

    def _pool_size(self) -> int:
        return max(1, min(POOL_BATCHES * self.config.batch_pairs, self.task.size("prune")))

    def _batch(self, step: int) -> Examples:
        """The pairs of step `step`, without the padding that only others of the pool need."""
        generator = torch.Generator().manual_seed(self.config.loop.seed * 1_000_003 + step)
        pairs = torch.randperm(len(self.pool), generator=generator)[: self.config.batch_pairs].to(self.device)
        batch = self.pool.pick(pairs)
        return dataclasses.replace(batch, tokens=batch.tokens[:, : int(batch.last.max()) + 1])

    def parameters(self) -> dict[str, torch.nn.Parameter]:
        return {"tau": self.tau}

    def decays(self, name: str) -> bool:
        return True

    def schedule(self, step: int) -> tuple[None, None]:
        return None, None

    def projections(self, step: int) -> dict[str, Projection]:
        return {}

    def live(self, step: int) -> tuple[str, ...]:
        return ()

    def loss_limit(self) -> float:
        return 1e6 + self.config.k_coef * self.space.total

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        examples = self._batch(step)
        mask = step_function(self.tau, self.config.temperature)
        tap = scale_nodes(self.space, mask, self.held)
        task = task_loss(self.model(examples.tokens, tap=tap, at=examples.last), examples)
        kept = mask.sum()
        return task + self.config.k_coef * kept, {
            "task_loss": float(task.detach()),
            "nodes": float(kept.detach()),
        }

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        self.tau.clamp_(-1, 1)
