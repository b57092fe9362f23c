"""The one optimisation loop: pretraining and mask learning differ only in their `Objective` (paper, section 2.1).

Each step:
1. the objective computes its loss, matrix products in bfloat16 if so configured;
2. gradients are divided by their RMS over all parameters of a problem together (or clipped, or left); most objectives
   are one problem, but several mask learnings may share a forward pass;
3. AdamW with decoupled decay on the parameters the objective names, at the scheduled learning rate, and the projection
   of those the objective wants sparse;
4. the objective's `after_step`: the clamp of mask parameters, say.

All state is in `Loop.state()`: parameters, Adam's moments, the step and the last RMS. An objective derives all else
(data order, density) from the step and the seed, so a run that continues from a state is bit-identical to one never
stopped.
"""

import contextlib
import math
import time
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Int64
from torch import Tensor

from sparse_circuits.config import LoopConfig
from sparse_circuits.distributed import ALONE, Group
from sparse_circuits.errors import Diverged, InputError
from sparse_circuits.kernels.graphs import Recorder
from sparse_circuits.kernels.update import squares, total_square
from sparse_circuits.optimizer import AdamW, Projection
from sparse_circuits.sparsity import learning_rate_at

RMS_FLOOR = 1e-5
"""Added to the gradient RMS before dividing, as the released training script does."""


class Recordable(NamedTuple):
    """The loss of a step as a function of tensors alone, which a GPU can run as one graph."""

    key: Hashable
    """The function is the same as long as this is."""
    tokens: Int64[Tensor, "B T"]
    """Its argument in this step."""
    loss: Callable[[Tensor], tuple[Tensor, dict[str, Tensor]]]
    """The scalar loss, and scalars to log."""
    figures: dict[str, float]
    """Others to log."""


@runtime_checkable
class Objective(Protocol):
    """What a loop minimises."""

    def parameters(self) -> dict[str, torch.nn.Parameter]:
        """The trained parameters by name."""

    def problems(self) -> Sequence[Collection[str]]:
        """The parameters by problem: gradients are normalised within each, as if it were solved alone."""

    def decays(self, name: str) -> bool:
        """Whether weight decay applies to the parameter `name`."""

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """The scalar loss of step `step` (0-based), and figures to log."""

    def recordable(self, step: int) -> Recordable | None:
        """The same in another form, where it has one."""

    def projections(self, step: int) -> Mapping[str, Projection]:
        """What the update of step `step` keeps of which parameter."""

    def live(self, step: int) -> Collection[str]:
        """The parameters whose gradient in step `step` covers their nonzeros only."""

    def after_step(self, step: int) -> None:
        """Called after the update of step `step`."""

    def schedule(self, step: int) -> tuple[float | None, float | None]:
        """Density now and final density, which scale the learning rate; (None, None) where there is none."""

    def loss_limit(self) -> float:
        """A loss above this means the run has diverged."""


@dataclass
class StepLog:
    """What happened in one step."""

    step: int
    """1-based: the number of steps done."""
    loss: float
    learning_rate: float
    gradient_rms: float
    """RMS of the gradient before normalisation."""
    seconds: float
    figures: dict[str, float] = field(default_factory=dict)


def autocast(precision: str, device: torch.device | str, cache: bool = True) -> AbstractContextManager[object]:
    """The context in which matrix products have `precision` ("bf16" or "fp32").

    Args:
        cache: keep the rounded weights until the context ends.
    """
    if precision == "bf16":
        return torch.autocast(torch.device(device).type, dtype=torch.bfloat16, cache_enabled=cache)
    return contextlib.nullcontext()


class Loop:
    """Runs an objective: `for log in Loop(objective, config): ...`, one iteration a step."""

    def __init__(self, objective: Objective, config: LoopConfig, group: Group = ALONE):
        """Train what `objective` names, together with the other processes of `group`."""
        self.objective = objective
        self.group = group
        self.config = config
        self.step = 0
        self._parameters = objective.parameters()
        self._optimizer = AdamW(self._parameters, objective.decays, config)
        self._problems = [list(names) for names in objective.problems()]
        self._rms = [0.0] * len(self._problems)
        self._device = next(iter(self._parameters.values())).device
        self._recorder: Recorder[tuple[Tensor, list[Tensor | None], list[str]]] = Recorder()
        self._tokens: Tensor | None = None  # where a recorded step reads

    def __iter__(self) -> Iterator[StepLog]:
        while self.step < self.config.steps:
            yield self._run_step()

    def _run_step(self) -> StepLog:
        started = time.perf_counter()
        recordable = self.objective.recordable(self.step) if self._device.type == "cuda" else None
        value, figures, measured = self._differentiate() if recordable is None else self._replay(recordable)
        live = self.objective.live(self.step)
        # Gradients that lack most entries say little of the RMS of all of them; the last whole ones' does.
        self._rms = self._rms if live else measured
        scales = {
            name: self._gradient_scale(rms)
            for names, rms in zip(self._problems, self._rms, strict=True)
            for name in names
        }
        learning_rate = self._learning_rate()
        projections = self.objective.projections(self.step)
        self._optimizer.update(self.step + 1, learning_rate, scales, projections, live)
        self.objective.after_step(self.step)
        self.step += 1
        rms = math.sqrt(sum(value**2 for value in self._rms) / len(self._rms))
        return StepLog(self.step, value, learning_rate, rms, time.perf_counter() - started, figures)

    def _differentiate(self) -> tuple[float, dict[str, float], list[float]]:
        """The loss, figures to log and the gradient RMS of each problem; the gradients are in the parameters."""
        with autocast(self.config.precision, self._device):
            loss, figures = self.objective.loss(self.step)
        value, *others = self._averaged(float(loss.detach()), *figures.values())
        value = self._checked(value)
        for parameter in self._parameters.values():
            parameter.grad = None
        loss.backward()
        self.group.average_(self._gradients(self._parameters))
        totals = [total_square(self._gradients(names)) for names in self._problems]
        return value, dict(zip(figures, others, strict=True)), self._root_means(totals)

    def _averaged(self, *numbers: float) -> list[float]:
        """The means over all processes."""
        return [total / self.group.size for total in self.group.total(*numbers)]

    def _replay(self, recordable: Recordable) -> tuple[float, dict[str, float], list[float]]:
        """The same on a GPU, for which the host waits once: when the results are read."""
        tokens = recordable.tokens
        if self._tokens is None or self._tokens.shape != tokens.shape:
            self._tokens = tokens.clone()
        held = self._tokens.copy_(tokens)

        def differentiate() -> tuple[Tensor, list[Tensor | None], list[str]]:
            for parameter in self._parameters.values():
                parameter.grad = None
            # A recording must round the weights anew, as they will have changed.
            with autocast(self.config.precision, self._device, cache=False):
                loss, figures = recordable.loss(held)
            loss.backward()
            numbers = torch.stack([each.detach().double() for each in (loss, *figures.values())])
            return numbers, [parameter.grad for parameter in self._parameters.values()], list(figures)

        numbers, gradients, names = self._recorder((recordable.key, tuple(tokens.shape)), differentiate)
        for parameter, gradient in zip(self._parameters.values(), gradients, strict=True):
            parameter.grad = gradient
        self.group.average_([numbers])
        self.group.average_(self._gradients(self._parameters))
        totals = [torch.stack([squares(g) for g in self._gradients(names)]).sum() for names in self._problems]
        value, *others = torch.cat([numbers, torch.stack(totals)]).tolist()
        found = dict(zip(names, others, strict=False))
        return self._checked(value), recordable.figures | found, self._root_means(others[len(names) :])

    def _checked(self, loss: float) -> float:
        if not math.isfinite(loss) or loss > self.objective.loss_limit():
            raise Diverged(self._loss_trouble(loss))
        return loss

    def _learning_rate(self) -> float:
        density, final = self.objective.schedule(self.step)
        progress = (self.step + 0.5) / self.config.steps
        factor = learning_rate_at(progress, self.config.warmup, density, final)
        return self.config.learning_rate * factor

    def _gradients(self, names: Collection[str]) -> list[Tensor]:
        """The gradients of these parameters, of those that have one."""
        found = (self._parameters[name].grad for name in names)
        return [gradient for gradient in found if gradient is not None]

    def _root_means(self, totals: Sequence[float]) -> list[float]:
        """The gradient RMS of each problem, from its sum of squares."""
        counts = [sum(self._parameters[name].numel() for name in names) for names in self._problems]
        found = [math.sqrt(total / count) for total, count in zip(totals, counts, strict=True)]
        if not all(map(math.isfinite, found)):
            raise Diverged(self._gradient_trouble())
        return found

    def _gradient_scale(self, rms: float) -> float:
        """What the gradients are multiplied by."""
        if self.config.gradient == "normalize":
            return 1 / (rms + RMS_FLOOR)
        return 1 / rms if self.config.gradient == "clip" and rms > 1 else 1.0

    def _loss_trouble(self, value: float) -> str:
        where = f"the loss is {value:.4g} at step {self.step + 1}"
        bad = [name for name, p in self._parameters.items() if not p.detach().isfinite().all()]
        if bad:
            return f"{where}: {bad[0]} holds NaN or infinity; lower the learning rate"
        if math.isfinite(value):
            return f"{where}, above the limit {self.objective.loss_limit():.4g}; lower the learning rate"
        return f"{where} though all parameters are finite: an activation overflowed; lower the learning rate"

    def _gradient_trouble(self) -> str:
        bad = [name for name, p in self._parameters.items() if p.grad is not None and not p.grad.isfinite().all()]
        where = f"the gradient of {bad[0]}" if bad else "the norm of the gradient"
        return f"{where} is NaN or infinite at step {self.step + 1}; lower the learning rate"

    def state(self) -> dict[str, Tensor]:
        """Everything needed to continue: parameters, Adam's moments, the step. Tensors are not copied."""
        state = {"step": torch.tensor(self.step), "rms": torch.tensor(self._rms, dtype=torch.float64)}
        for name, parameter in self._parameters.items():
            state[f"parameter.{name}"] = parameter.detach()
            state[f"exp_avg.{name}"] = self._optimizer.exp_avg[name]
            state[f"exp_avg_sq.{name}"] = self._optimizer.exp_avg_sq[name]
        return state

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Continue from `state`.

        Raises:
            InputError: it belongs to another model.
        """
        parts = ("parameter", "exp_avg", "exp_avg_sq")
        expected = {"step", "rms"} | {f"{part}.{name}" for name in self._parameters for part in parts}
        if odd := sorted(expected ^ set(state)):
            verb = "has no" if odd[0] in expected else "has an unknown"
            raise InputError(f"the training state {verb} {odd[0]!r}: it is another model's")
        for name, parameter in self._parameters.items():
            for part in parts:
                shape = state[f"{part}.{name}"].shape
                if shape != parameter.shape:
                    raise InputError(
                        f"the training state's {name} has shape {tuple(shape)}, the model's {tuple(parameter.shape)}: "
                        "it is another model's"
                    )
        if (
            state["rms"].shape != (len(self._rms),)
            or state["step"].numel() != 1
            or not 0 <= int(state["step"]) <= self.config.steps
        ):
            raise InputError(f"the training state's step is none of 0..{self.config.steps}: it is damaged")
        self.step, self._rms = int(state["step"]), state["rms"].tolist()
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(state[f"parameter.{name}"])
                self._optimizer.exp_avg[name].copy_(state[f"exp_avg.{name}"])
                self._optimizer.exp_avg_sq[name].copy_(state[f"exp_avg_sq.{name}"])

    def is_finite(self) -> bool:
        """Whether every parameter is free of NaN and infinity, so that the state is worth saving."""
        return all(bool(p.detach().isfinite().all()) for p in self._parameters.values())
