"""AdamW with decoupled decay, and the weight projection that follows it (paper, section 2.1).

The update of one parameter: m and v are the running means of the scaled gradient and of its square, then
w <- w (1 - lr * decay) - lr * m' / (sqrt(v') + epsilon) with the bias-corrected m' and v', then the projection keeps
the k largest magnitudes of w. `kernels.update` does it in as few passes over memory as it takes.

A *live* update touches only entries that are not zero: weights that the projection has removed keep their moments and
stay away until the next full update. It goes with a gradient that is computed for those entries alone.
"""

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from sparse_circuits.config import LoopConfig
from sparse_circuits.kernels.update import adamw_, adamw_project_, on_gpu

if TYPE_CHECKING:
    from sparse_circuits.kernels.update_gpu import Update


class Projection(NamedTuple):
    """How many entries of a weight stay, and how many of each row and column at least."""

    k: int
    min_per_row: int = 0
    min_per_column: int = 0


class AdamW:
    """The optimiser of named parameters; moments are float32 and zero at the start."""

    def __init__(self, parameters: Mapping[str, Tensor], decays: Callable[[str], bool], config: LoopConfig):
        self.parameters = parameters
        self.config = config
        self.decay = {name: config.weight_decay if decays(name) else 0.0 for name in parameters}
        self.exp_avg = {name: torch.zeros_like(p) for name, p in parameters.items()}
        self.exp_avg_sq = {name: torch.zeros_like(p) for name, p in parameters.items()}
        self._forced: dict[str, int] = {}  # what `adamw_project_` told last time, which makes the next one quicker
        self._on_gpu: Update | None = None

    def update(
        self,
        step: int,
        learning_rate: float,
        scales: Mapping[str, float],
        projections: Mapping[str, Projection],
        live: Collection[str] = (),
    ) -> None:
        """One update of every parameter that has a gradient.

        Args:
            step: the number of the update, from 1.
            scales: what each parameter's gradient is multiplied by first.
            projections: what is kept of which parameter afterwards.
            live: parameters of which only the nonzeros move; their zeros keep their moments.
        """
        if not live and self.parameters and on_gpu(*self.parameters.values()):
            self._update_on_gpu(step, learning_rate, scales, projections)
            return
        for name, parameter in self.parameters.items():
            gradient = parameter.grad
            if gradient is None:
                continue
            tensors = (parameter, gradient, self.exp_avg[name], self.exp_avg_sq[name])
            rates: dict[str, Any] = {
                "step": step,
                "learning_rate": learning_rate,
                "beta1": self.config.beta1,
                "beta2": self.config.beta2,
                "epsilon": self.config.epsilon,
                "weight_decay": self.decay[name],
                "scale": scales[name],
                "live": name in live,
            }
            projection = projections.get(name)
            if projection is None:
                adamw_(*tensors, **rates)
            else:
                rates |= projection._asdict()
                told = adamw_project_(*tensors, **rates, forced=self._forced.get(name, 0))
                self._forced[name] = told.forced

    def _update_on_gpu(
        self, step: int, learning_rate: float, scales: Mapping[str, float], projections: Mapping[str, Projection]
    ) -> None:
        from sparse_circuits.kernels.gpu import rates_of
        from sparse_circuits.kernels.update_gpu import Due, Update

        beta1, beta2 = self.config.beta1, self.config.beta2
        if self._on_gpu is None:
            moments = list(self.exp_avg.values()), list(self.exp_avg_sq.values())
            self._on_gpu = Update(
                list(self.parameters.values()), *moments, beta1=beta1, beta2=beta2, epsilon=self.config.epsilon
            )
        dues = [
            Due(rates_of(step, learning_rate, beta1, beta2, self.decay[name], scales[name]), *projections.get(name, ()))
            for name in self.parameters
        ]
        self._on_gpu(dues, [parameter.grad for parameter in self.parameters.values()])
