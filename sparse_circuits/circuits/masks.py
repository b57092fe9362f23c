"""Learning which nodes a task needs (paper, section 3 and appendix B).

One parameter tau per node, shared by all prompts and positions, weights frozen:
1. m = 1 where tau >= 0, else 0; the gradient passes as if m were sigmoid(tau / T), so it is scaled by its derivative;
2. each node becomes m * x + (1 - m) * held;
3. loss = task loss + k_coef * (number of kept nodes);
4. after every step tau is clamped to [-1, 1].
"""

from typing import Any

import torch
from torch import Tensor

from sparse_circuits.circuits.nodes import NodeSpace, scale_nodes
from sparse_circuits.config import PruneConfig
from sparse_circuits.errors import InputError
from sparse_circuits.model import GPT
from sparse_circuits.tasks import Task, task_loss


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
        self.task_loss = float("nan")

    def parameters(self) -> dict[str, torch.nn.Parameter]:
        return {"tau": self.tau}

    def decays(self, name: str) -> bool:
        return True

    def schedule(self, step: int) -> tuple[None, None]:
        return None, None

    def loss_limit(self) -> float:
        return 1e6 + self.config.k_coef * self.space.total

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        if self.model.tokenizer is None:
            raise InputError("the model has no tokenizer, so a task cannot be put to it; set model.tokenizer")
        examples = self.task.examples(
            self.model.tokenizer,
            "prune",
            self.config.batch_pairs,
            seed=self.config.loop.seed * 1_000_003 + step + 1,
            block_size=self.model.config.block_size,
        ).to(self.device)
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
