"""One training step and one pruning step of the published recipe, in plain PyTorch on the dense model.

Sources: Gao et al. (arXiv 2511.13653), section 2.1 and the released training script; section 3 and appendix B.

Training:
1. forward in bfloat16 autocast, cross-entropy in float32, backward;
2. all gradients divided by their RMS over all parameters together, plus 1e-5;
3. fused AdamW, decay on matrices only;
4. of every matrix the largest entries stay, at least some of each neuron's, by `torch.topk(..., sorted=False)`.
   (The script also recomputes activations in the backward pass to save memory; that costs time and is left out.)

Pruning: a parameter a node, all weights frozen;
1. masks are 1 where the parameter is at least 0, and the gradient passes as through a sigmoid;
2. every node becomes mask * x + (1 - mask) * mean;
3. task loss on the two answers, plus a price for each node kept; gradient clipped at RMS 1; AdamW; clamp to [-1, 1].
"""

import math
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from sparse_circuits.bench.opponent import Dense, Mask
from sparse_circuits.circuits.config import PruneConfig
from sparse_circuits.config import LoopConfig

NEURONS = {"c_attn.weight": 1, "c_fc.weight": 1, "c_proj.weight": 0}
"""Along which dimension each kind of matrix keeps a least number."""


class Training:
    """Sparse training at a density that stays."""

    def __init__(
        self,
        model: Dense,
        density: float,
        embedding_density: float,
        loop: LoopConfig,
        min_nonzeros: int = 4,
        compiled: bool = False,
    ):
        self.model = model.requires_grad_(True)
        self.forward: Any = torch.compile(model) if compiled else model
        self.density, self.embedding_density, self.min_nonzeros = density, embedding_density, min_nonzeros
        parameters = dict(model.named_parameters())
        self.parameters = list(parameters.values())
        decayed = [p for name, p in parameters.items() if p.ndim == 2 and name != "bigram_table"]
        others = [p for name, p in parameters.items() if p.ndim != 2 or name == "bigram_table"]
        self.optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": loop.weight_decay}, {"params": others, "weight_decay": 0.0}],
            lr=loop.learning_rate,
            betas=(loop.beta1, loop.beta2),
            eps=loop.epsilon,
            fused=True,
        )

    def step(self, tokens: Int64[Tensor, "B T"]) -> float:
        """One step on `tokens`, each but the first to be predicted; returns the loss before it."""
        with torch.autocast(tokens.device.type, dtype=torch.bfloat16):
            logits = self.forward(tokens[:, :-1])
        loss = F.cross_entropy(logits.float().flatten(0, 1), tokens[:, 1:].flatten())
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        _scale(self.parameters, only_above=None)
        self.optimizer.step()
        with torch.no_grad():
            self.project()
        return float(loss.detach())

    def project(self) -> None:
        """Keep the largest entries of every matrix that is sparse."""
        for name, parameter in self.model.named_parameters():
            if parameter.ndim == 1 or name == "bigram_table":
                continue
            of_tokens = name in ("wte.weight", "wpe.weight", "lm_head.weight")
            density = self.embedding_density if of_tokens else self.density
            dimension = next((d for ending, d in NEURONS.items() if name.endswith(ending)), None)
            minimum = 0 if dimension is None else self.min_nonzeros
            topk_projection_(parameter.data, max(1, round(density * parameter.numel())), minimum, dimension or 0)


class Pruning:
    """Mask learning; `held` and `tau` have one entry a node, in the order of `widths`."""

    def __init__(
        self,
        model: Dense,
        widths: dict[str, int],
        tau: Float[Tensor, " nodes"],
        held: Float[Tensor, " nodes"],
        config: PruneConfig,
        precision: str,
    ):
        self.model, self.widths, self.config, self.precision = model.requires_grad_(False), widths, config, precision
        self.held = held.split(list(widths.values()))
        self.tau = torch.nn.Parameter(tau.detach().clone())
        loop = config.loop
        self.optimizer = torch.optim.AdamW(
            [self.tau],
            lr=loop.learning_rate,
            betas=(loop.beta1, loop.beta2),
            eps=loop.epsilon,
            weight_decay=loop.weight_decay,
            fused=True,
        )

    def step(self, tokens: Int64[Tensor, "B T"], right: Int64[Tensor, " B"], wrong: Int64[Tensor, " B"]) -> float:
        """One step on prompts of equal length; returns the loss before it."""
        soft = torch.sigmoid(self.tau / self.config.temperature)
        keep = (self.tau >= 0).to(soft.dtype) + soft - soft.detach()
        parts = zip(keep.split(list(self.widths.values())), self.held, strict=True)
        masks = {site: Mask(*part) for site, part in zip(self.widths, parts, strict=True)}
        with torch.autocast(tokens.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16"):
            logits = self.model(tokens, last=True, masks=masks)
        odds = (logits.gather(1, right[:, None]) - logits.gather(1, wrong[:, None])).float()
        loss = -F.logsigmoid(odds).mean() + self.config.k_coef * keep.sum()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        _scale([self.tau], only_above=1.0)
        self.optimizer.step()
        with torch.no_grad():
            self.tau.clamp_(-1, 1)
        return float(loss.detach())


def _scale(parameters: list[torch.nn.Parameter], only_above: float | None) -> None:
    """Divide gradients by their common RMS; with `only_above` clip them there instead."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    count = sum(p.numel() for p in parameters)
    rms = float(torch.nn.utils.get_total_norm(gradients)) / math.sqrt(count)
    if only_above is None:
        torch._foreach_mul_(gradients, 1 / (rms + 1e-5))
    elif rms > only_above:
        torch._foreach_mul_(gradients, only_above / rms)


def topk_projection_(
    weight: Float[Tensor, "rows columns"], k: int, minimum: int = 0, dimension: int = 1, ordered: bool = False
) -> None:
    """Keep the k largest magnitudes in place, `minimum` along `dimension` at least; `ordered` is topk's default."""
    score = weight.abs()
    if minimum:
        best = score.topk(minimum, dim=dimension, sorted=ordered).indices
        score.scatter_(dimension, best, torch.inf)
    kept = score.view(-1).topk(k, sorted=ordered).indices
    flat = weight.view(-1)
    values = flat[kept]
    flat.zero_()
    flat[kept] = values
