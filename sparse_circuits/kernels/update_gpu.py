"""The update of all parameters of a model on a GPU, as launches that are the same in every step.

What changes from step to step (rates, the gradients' scale, how many entries stay) is written to one table on the
device before. So the launches can be a CUDA graph: one in place of some four hundred.
"""

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from sparse_circuits import sparsity
from sparse_circuits.kernels import gpu
from sparse_circuits.kernels.graphs import Recorder


class Due(NamedTuple):
    """What one parameter is due in this step."""

    rates: tuple[float, float, float, float]
    """As `gpu.rates_of` gives them."""
    k: int | None = None
    """How many entries stay; None, or all of them, for no projection."""
    min_per_row: int = 0
    min_per_column: int = 0


class Update:
    """AdamW and the projection after it, of fp32 parameters that stay where they are."""

    def __init__(
        self,
        parameters: Sequence[Float[Tensor, "..."]],
        exp_avg: Sequence[Float[Tensor, "..."]],
        exp_avg_sq: Sequence[Float[Tensor, "..."]],
        *,
        beta1: float,
        beta2: float,
        epsilon: float,
    ):
        self.tensors = list(zip(parameters, exp_avg, exp_avg_sq, strict=True))
        self.beta1, self.beta2, self.epsilon = beta1, beta2, epsilon
        # A row is 16 bytes of rates, 8 of k, and 8 more so that all begin where a GPU likes to read.
        shape, device = (len(self.tensors), 4), self.tensors[0][0].device
        self._table = torch.zeros(shape, dtype=torch.int64, device=device)
        self._filling = torch.zeros(shape, dtype=torch.int64, pin_memory=device.type == "cuda")
        rates, counts = self._table.view(torch.float32)[:, :4], self._table[:, 2]
        self._told = [gpu.Told(*each) for each in zip(rates, counts, strict=True)]
        self._recorder: Recorder[bool] = Recorder()

    def __call__(self, dues: Sequence[Due | None], gradients: Sequence[Tensor | None]) -> None:
        """One update of every parameter that is due one and has a gradient.

        Gradients must lie where they lay at the call before for this to be fast.
        """
        plan = [self._planned(number, due) for number, due in enumerate(dues)]
        self._tell(dues)
        addresses = tuple(None if g is None else g.data_ptr() for g in gradients)
        key: Hashable = (tuple(plan), addresses)
        if self._table.is_cuda:
            self._recorder(key, lambda: self._launch(plan, gradients))
            torch.autograd.graph.increment_version([t for each in self.tensors for t in each if not t.is_inference()])
        else:
            self._launch(plan, gradients)

    def _planned(self, number: int, due: Due | None) -> tuple[bool, int, int] | None:
        """Whether a parameter is projected, and with which minimums; None where it stays as it is."""
        if due is None:
            return None
        parameter = self.tensors[number][0]
        if due.k is None or due.k >= parameter.numel():
            return False, 0, 0
        if parameter.ndim != 2:
            return True, 0, 0
        rows, columns = parameter.shape
        return True, *sparsity._fitting_minimums(rows, columns, due.k, due.min_per_row, due.min_per_column)

    def _tell(self, dues: Sequence[Due | None]) -> None:
        if self._table.is_cuda:
            torch.cuda.current_stream(self._table.device).synchronize()  # the copy before may still be reading
        numbers = torch.tensor([(0.0,) * 4 if due is None else due.rates for due in dues])
        self._filling.view(torch.float32)[:, :4] = numbers
        self._filling[:, 2] = torch.tensor([0 if due is None or due.k is None else due.k for due in dues])
        self._table.copy_(self._filling, non_blocking=True)

    def _launch(self, plan: Sequence[tuple[bool, int, int] | None], gradients: Sequence[Tensor | None]) -> bool:
        for (parameter, exp_avg, exp_avg_sq), told, what, gradient in zip(
            self.tensors, self._told, plan, gradients, strict=True
        ):
            if what is None or gradient is None:
                continue
            projected, min_per_row, min_per_column = what
            gpu.adamw_project_(
                parameter,
                gradient,
                exp_avg,
                exp_avg_sq,
                told if projected else told._replace(k=None),
                beta1=self.beta1,
                beta2=self.beta2,
                epsilon=self.epsilon,
                min_per_row=min_per_row,
                min_per_column=min_per_column,
            )
        return True
