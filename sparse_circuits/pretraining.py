"""Pretraining as an objective of the loop: what is minimised, and how sparse the weights are at which step.

Source: Gao et al., section 2.1 and appendix; the released training script.

1. The loss: mean cross-entropy of the next token.
2. The projections: how many entries of each matrix stay after step s, on the way from dense to the final density.
3. The products: a matrix that has become sparse enough is multiplied sparsely (`Linear.matrix`), as measured by
   `kernels.products.worthwhile`. Its gradient stays dense, or, amortised, is dense every few steps and covers only the
   live entries in between, as in RigL (Evci et al., 2021).
"""

import math
from collections.abc import Collection

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sparse_circuits.config import SparsityConfig, TrainConfig
from sparse_circuits.corpus.packed import PackedCorpus
from sparse_circuits.distributed import ALONE, Group
from sparse_circuits.kernels.fused import cross_entropy
from sparse_circuits.kernels.products import SparseMatrix, worthwhile
from sparse_circuits.linear import Linear
from sparse_circuits.loop import Recordable, autocast
from sparse_circuits.model import GPT
from sparse_circuits.optimizer import Projection
from sparse_circuits.sparsity import density_at, nonzero_count, project_topk_


def next_token_loss(logits: Float[Tensor, "B T V"], targets: Int64[Tensor, "B T"]) -> Float[Tensor, ""]:
    """Mean cross-entropy in nats per token, in float32 whatever the logits are."""
    return cross_entropy(logits, targets)


class Pretraining:
    """The objective of pretraining: next-token loss with ever sparser weights."""

    def __init__(self, model: GPT, corpus: PackedCorpus, config: TrainConfig, group: Group = ALONE):
        """The loss of `model` on `corpus`, of which each process of `group` computes its share."""
        self.model, self.corpus, self.config, self.group = model, corpus, config, group
        self._rows = group.rows(config.batch_size)
        self._named = {name: p for name, p in model.named_parameters() if p.requires_grad}
        # What a layer reads in one step, by which it is judged whether its sparse products are faster.
        self.positions = config.batch_size // group.size * model.config.block_size
        self._layers = {f"{name}.weight": m for name, m in model.named_modules() if isinstance(m, Linear)}

    def parameters(self) -> dict[str, torch.nn.Parameter]:
        return self._named

    def problems(self) -> list[list[str]]:
        return [list(self._named)]

    def decays(self, name: str) -> bool:
        return self._named[name].ndim == 2 and name != "bigram_table"

    def loss_limit(self) -> float:
        return 3 * math.log(self.model.config.vocab_size) + 3

    def schedule(self, step: int) -> tuple[float, float]:
        return self.density(step), self.config.sparsity.density

    def density(self, step: int) -> float:
        """Density of the block matrices after step `step` (0-based)."""
        return annealed(self.config.sparsity, self.config.sparsity.density, self._progress(step))

    def _progress(self, step: int) -> float:
        return (step + 1) / self.config.loop.steps

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        total, found = self.loss_of(self.begin(step), step)
        # One wait for a GPU, not many.
        values = torch.stack([value.detach() for value in found.values()]).tolist() if found else []
        return total, {"density": self.density(step), **dict(zip(found, values, strict=True))}

    def recordable(self, step: int) -> Recordable | None:
        return Recordable(
            (), self.begin(step), lambda tokens: self.loss_of(tokens, step), {"density": self.density(step)}
        )

    def loss_of(self, tokens: Int64[Tensor, "B T1"], step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of step `step` on `tokens`, and what it is made of."""
        return next_token_loss(self.model(tokens[:, :-1]), tokens[:, 1:]), {}

    def begin(self, step: int) -> Int64[Tensor, "B T1"]:
        """The tokens of step `step`, for which the layers know what gradients are wanted."""
        size = self.model.config.block_size
        batch = self.corpus.batch("train", step, self.config.batch_size, size, self.config.loop.seed)[self._rows]
        live = self.live(step)
        for name, layer in self._layers.items():
            layer.weight_gradient = "live" if name in live else "dense"
        return torch.from_numpy(batch).to(next(self.model.parameters()).device)

    def projections(self, step: int) -> dict[str, Projection]:
        # While only live entries move, the same ones stay.
        live = self.live(step)
        found = projections(self.model, self.config.sparsity, self._progress(step))
        return {name: projection for name, projection in found.items() if name not in live}

    def live(self, step: int) -> Collection[str]:
        """The matrices whose gradient in step `step` covers their nonzeros only."""
        if self.config.dw == "dense" or step % self.config.dw_every == 0:
            return ()
        # A matrix loses entries in dense steps only, so the one that brings its final density is one, whatever its
        # number.
        before, now, last = (
            projections(self.model, self.config.sparsity, progress)
            for progress in (self._progress(step - 1), self._progress(step), 1.0)
        )
        arrives = {name for name in last if now.get(name) == last[name] != before.get(name)}
        return [name for name, layer in self._layers.items() if layer.matrix is not None and name not in arrives]

    def after_step(self, step: int) -> None:
        self.choose_products(step + 1)

    def choose_products(self, step: int) -> None:
        """Let the matrices that are sparse enough before step `step` be multiplied sparsely."""
        kept = projections(self.model, self.config.sparsity, step / self.config.loop.steps) if step else {}
        for name, layer in self._layers.items():
            weight = layer.weight
            faster = (
                self.config.products == "auto"
                and name in kept
                and weight.device.type == "cpu"
                and worthwhile(*layer.shape, kept[name].k / weight.numel(), self.positions, self.config.loop.precision)
            )
            layer.matrix = SparseMatrix.from_dense(weight.detach()) if faster else None

    def finish(self) -> None:
        """Leave a model like any other."""
        for layer in self._layers.values():
            layer.matrix, layer.weight_gradient = None, "dense"

    def validation_loss(self, max_tokens: int) -> float:
        """Mean loss in nats per token over the first `max_tokens` validation tokens."""
        size = self.model.config.block_size
        windows = torch.from_numpy(self.corpus.validation_windows(size, max_tokens))[self.group.rank :: self.group.size]
        device = next(self.model.parameters()).device
        total = 0.0
        with torch.no_grad(), autocast(self.config.loop.precision, device):
            # A process without a window has no batch: the mean over none would be NaN.
            for batch in windows.to(device).split(self.config.batch_size) if len(windows) else ():
                total += float(next_token_loss(self.model(batch[:, :-1]), batch[:, 1:])) * len(batch)
        total, count = self.group.total(total, float(len(windows)))
        return total / count


def annealed(sparsity: SparsityConfig, target: float, progress: float) -> float:
    """The density on its way from 1 to `target` at `progress` (0 to 1) of training."""
    return density_at(progress, target, sparsity.density_start, sparsity.density_end, sparsity.density_shape)


def project(model: GPT, sparsity: SparsityConfig, progress: float = 1.0) -> None:
    """Keep the largest weights of every matrix, as many as are due at `progress` (0 to 1) of training."""
    named = dict(model.named_parameters())
    for name, projection in projections(model, sparsity, progress).items():
        project_topk_(named[name], *projection)


def projections(model: GPT, sparsity: SparsityConfig, progress: float) -> dict[str, Projection]:
    """What stays of each parameter that loses entries, at `progress` (0 to 1) of training.

    Embedding and unembedding have their own density. Every MLP neuron keeps `min_nonzeros` inputs and outputs, every
    q, k and v channel as many inputs and every head channel as many outputs. The bigram table and norms stay dense.
    """
    embedding_target = sparsity.embedding_density
    if embedding_target is None:
        dense = sparsity.density == 1
        embedding_target = 1.0 if dense else min(1.0, sparsity.density * model.config.d_model / 256)
    density = annealed(sparsity, sparsity.density, progress)
    embedding = annealed(sparsity, embedding_target, progress)
    found = {}
    for name, parameter in model.named_parameters():
        if name == "bigram_table" or ".ln_" in name or name.startswith("ln_") or not parameter.requires_grad:
            continue
        size, per_row, per_column = parameter.numel(), 0, 0
        if parameter.ndim == 1:
            if not sparsity.sparse_biases or not name.endswith("bias"):
                continue
            k = nonzero_count(density, size)
        elif name in ("wte.weight", "wpe.weight", "lm_head.weight"):
            k = nonzero_count(embedding, size)
        else:
            k = nonzero_count(density, size)
            per_row = 0 if "c_proj" in name else sparsity.min_nonzeros
            per_column = sparsity.min_nonzeros if "c_proj" in name else 0
        if k < size:
            found[name] = Projection(k, per_row, per_column)
    return found
