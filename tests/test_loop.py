"""One step is: loss, gradients at RMS 1, AdamW with decay where it is due, the objective's last word."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sparse_circuits.config import LoopConfig
from sparse_circuits.errors import Diverged, InputError
from sparse_circuits.loop import RMS_FLOOR, Loop, autocast
from sparse_circuits.optimizer import Projection

pytestmark = pytest.mark.usefixtures("one_thread")


class Linear:
    """The loss is the sum of parameters times fixed slopes, so the gradients are the slopes."""

    def __init__(self, slopes: dict[str, list[float]], start: dict[str, list[float]] | None = None):
        self.slopes = {name: torch.tensor(values) for name, values in slopes.items()}
        start = start or {name: [1.0] * len(values) for name, values in slopes.items()}
        self.named = {name: nn.Parameter(torch.tensor(values)) for name, values in start.items()}
        self.decayed = {"w"}
        self.densities: tuple[float | None, float | None] = (None, None)
        self.limit = 1e9
        self.apart: list[list[str]] = []
        self.kept: dict[str, Projection] = {}
        self.moving: Callable[[int], list[str]] = lambda step: []
        self.calls: list[tuple[str, int]] = []
        self.change: Callable[[int, Tensor], Tensor] = lambda step, loss: loss

    def parameters(self) -> dict[str, nn.Parameter]:
        return self.named

    def problems(self) -> list[list[str]]:
        return self.apart or [list(self.named)]

    def decays(self, name: str) -> bool:
        return name in self.decayed

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        self.calls.append(("loss", step))
        total = torch.stack([(self.named[name] * slope).sum() for name, slope in self.slopes.items()]).sum()
        return self.change(step, total), {"figure": float(step)}

    def projections(self, step: int) -> dict[str, Projection]:
        return self.kept

    def live(self, step: int) -> list[str]:
        return self.moving(step)

    def after_step(self, step: int) -> None:
        self.calls.append(("after_step", step))

    def schedule(self, step: int) -> tuple[float | None, float | None]:
        return self.densities

    def recordable(self, step: int) -> None:
        return None

    def loss_limit(self) -> float:
        return self.limit


def config(**changes: Any) -> LoopConfig:
    return LoopConfig(**{"steps": 10, "learning_rate": 0.1, "precision": "fp32", **changes})


def gradients(loop: Loop) -> list[float]:
    """What the first update used: Adam's mean gradient holds a tenth of it."""
    state = loop.state()
    return torch.cat(
        [state[f"exp_avg.{name}"] / (1 - loop.config.beta1) for name in loop.objective.parameters()]
    ).tolist()


def test_gradients_are_divided_by_their_rms_over_all_parameters_together() -> None:
    """Slopes 3, 0, 0, 4: the mean square is 25 / 4, the RMS 2.5."""
    objective = Linear({"w": [3.0, 0.0], "b": [0.0, 4.0]})
    loop = Loop(objective, config())
    assert next(iter(loop)).gradient_rms == pytest.approx(2.5)
    assert gradients(loop) == pytest.approx([3 / 2.50001, 0, 0, 4 / 2.50001], rel=1e-6)
    assert RMS_FLOOR == 1e-5


def test_problems_are_normalised_apart() -> None:
    objective = Linear({"w": [3.0, 0.0], "b": [0.0, 40.0]})
    objective.apart = [["w"], ["b"]]
    loop = Loop(objective, config())
    assert next(iter(loop)).gradient_rms == pytest.approx(math.sqrt((4.5 + 800) / 2))
    assert gradients(loop) == pytest.approx([math.sqrt(2), 0, 0, math.sqrt(2)], rel=1e-5)


def test_small_gradients_are_raised_too() -> None:
    objective = Linear({"w": [3e-3, 0.0], "b": [0.0, 4e-3]})
    loop = Loop(objective, config())
    assert next(iter(loop)).gradient_rms == pytest.approx(2.5e-3)
    assert gradients(loop) == pytest.approx([3 / 2.51, 0, 0, 4 / 2.51], rel=1e-5)


def test_no_gradient_at_all_moves_nothing() -> None:
    objective = Linear({"w": [0.0, 0.0], "b": [0.0]})
    objective.decayed = set()
    next(iter(Loop(objective, config())))
    assert objective.named["w"].tolist() == [1, 1]


@pytest.mark.parametrize(("scale", "expected"), [(1.0, [3 / 2.5, 0, 0, 4 / 2.5]), (0.1, [0.3, 0, 0, 0.4])])
def test_clipping_only_lowers(scale: float, expected: list[float]) -> None:
    objective = Linear({"w": [3 * scale, 0.0], "b": [0.0, 4 * scale]})
    loop = Loop(objective, config(gradient="clip"))
    next(iter(loop))
    assert gradients(loop) == pytest.approx(expected, rel=1e-6)


def test_none_leaves_gradients_alone() -> None:
    objective = Linear({"w": [3.0, 0.0], "b": [0.0, 4.0]})
    loop = Loop(objective, config(gradient="none"))
    next(iter(loop))
    assert gradients(loop) == pytest.approx([3, 0, 0, 4])


def adamw_by_hand(objective: Linear, settings: LoopConfig, steps: int) -> dict[str, list[float]]:
    """Decoupled decay, then Adam with bias correction (Loshchilov and Hutter 2019), one scalar at a time."""
    slopes = [(name, slope) for name, values in objective.slopes.items() for slope in values.tolist()]
    rms = math.sqrt(sum(slope**2 for _, slope in slopes) / len(slopes))
    values = [value for parameter in objective.named.values() for value in parameter.tolist()]
    mean, square = [0.0] * len(slopes), [0.0] * len(slopes)
    for step in range(1, steps + 1):
        progress = (step - 0.5) / settings.steps
        factor = progress / settings.warmup if progress < settings.warmup else (1 - progress) / (1 - settings.warmup)
        rate = settings.learning_rate * factor
        for i, (name, slope) in enumerate(slopes):
            gradient = slope / (rms + 1e-5)
            if name == "w":
                values[i] -= rate * settings.weight_decay * values[i]
            mean[i] = settings.beta1 * mean[i] + (1 - settings.beta1) * gradient
            square[i] = settings.beta2 * square[i] + (1 - settings.beta2) * gradient**2
            corrected = mean[i] / (1 - settings.beta1**step)
            root = math.sqrt(square[i] / (1 - settings.beta2**step))
            values[i] -= rate * corrected / (root + settings.epsilon)
    first = len(objective.slopes["w"])
    return {"w": values[:first], "b": values[first:]}


def test_steps_are_adamw_with_decay_on_named_parameters_only() -> None:
    objective = Linear({"w": [0.5, -2.0, 0.0], "b": [1.5, 0.0]}, {"w": [3.0, -1.0, 5.0], "b": [2.0, 7.0]})
    settings = config(steps=8, weight_decay=0.3, warmup=0.25)
    expected = adamw_by_hand(objective, settings, steps=5)
    for log in Loop(objective, settings):
        if log.step == 5:
            break
    for name, values in expected.items():
        assert objective.named[name].tolist() == pytest.approx(values, rel=1e-5), name
    assert objective.named["b"][1].item() == 7, "no gradient and no decay: it stays"
    assert objective.named["w"][2].item() < 5, "no gradient, but decay"


def test_what_the_objective_wants_sparse_is_projected_after_the_update() -> None:
    """All move by the same amount at first, so the start decides; the last step's choice holds."""
    objective = Linear({"w": [1.0, 1.0, 1.0], "b": [1.0]}, {"w": [0.5, -2.0, 1.0], "b": [3.0]})
    objective.kept = {"w": Projection(2)}
    list(Loop(objective, config(steps=3, learning_rate=1e-3)))
    assert (objective.named["w"] != 0).tolist() == [False, True, True]
    assert objective.named["b"].item() < 3


def test_in_live_steps_zeros_stay_and_the_last_whole_gradient_sets_the_scale() -> None:
    objective = Linear({"w": [3.0, 4.0]}, {"w": [0.0, 1.0]})
    objective.moving = lambda step: ["w"] if step else []
    objective.kept = {"w": Projection(1)}
    loop = iter(Loop(objective, config(steps=3, gradient="normalize")))
    assert next(loop).gradient_rms == pytest.approx(math.sqrt(12.5))
    objective.slopes["w"] = torch.tensor([0.0, 1.0])
    before = objective.named["w"].tolist()
    assert next(loop).gradient_rms == pytest.approx(math.sqrt(12.5))
    after = objective.named["w"].tolist()
    assert before[0] == after[0] == 0
    assert after[1] < before[1]


def test_the_learning_rate_rises_over_the_warmup_and_falls_to_zero() -> None:
    """Ten steps, two of them warm-up: the rate of a step is that of its middle."""
    logs = list(Loop(Linear({"w": [1.0]}), config(warmup=0.2)))
    expected = [0.25, 0.75, *((1 - middle) / 0.8 for middle in (0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85, 0.95))]
    assert [log.learning_rate for log in logs] == pytest.approx([0.1 * factor for factor in expected])


def test_the_learning_rate_is_held_down_while_the_weights_are_denser() -> None:
    """Density 1/4 on the way to 1/16: times sqrt(1/4)."""
    objective = Linear({"w": [1.0]})
    objective.densities = (1 / 4, 1 / 16)
    log = next(iter(Loop(objective, config(warmup=0.0))))
    assert log.learning_rate == pytest.approx(0.1 * 0.95 * 0.5)


def test_the_objective_has_the_last_word_in_every_step() -> None:
    objective = Linear({"w": [1.0]})
    logs = list(Loop(objective, config(steps=3)))
    assert objective.calls == [(what, step) for step in range(3) for what in ("loss", "after_step")]
    assert [log.step for log in logs] == [1, 2, 3]
    assert [log.figures for log in logs] == [{"figure": 0.0}, {"figure": 1.0}, {"figure": 2.0}]
    assert logs[0].loss == 1.0
    assert all(log.seconds > 0 for log in logs)


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_matrix_products_have_the_configured_precision_and_parameters_stay_float32(
    precision: Any, dtype: torch.dtype
) -> None:
    objective = Linear({"w": [1.0]})
    products: list[torch.dtype] = []

    def change(step: int, loss: Tensor) -> Tensor:
        products.append((torch.ones(2, 2) @ torch.ones(2, 2)).dtype)
        return loss

    objective.change = change
    list(Loop(objective, config(steps=1, precision=precision)))
    assert products == [dtype]
    assert objective.named["w"].dtype == torch.float32
    with autocast(precision, "cpu"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


# --- divergence ---


def diverges(objective: Linear, **changes: Any) -> str:
    with pytest.raises(Diverged) as stopped:
        list(Loop(objective, config(**changes)))
    assert "\n" not in str(stopped.value)
    return str(stopped.value)


def at_step(number: int, value: float) -> Callable[[int, Tensor], Tensor]:
    """The loss times `value` in one step (1-based)."""
    return lambda step, loss: loss * value if step == number - 1 else loss


def test_a_loss_that_is_not_finite_stops_the_run_before_the_update() -> None:
    objective = Linear({"w": [1.0]})
    objective.change = at_step(3, math.nan)
    message = diverges(objective)
    assert message.startswith("the loss is nan at step 3 though all parameters are finite")
    assert [what for what, _ in objective.calls] == ["loss", "after_step", "loss", "after_step", "loss"]
    assert objective.named["w"].isfinite().all()


def test_the_parameter_that_went_wrong_is_named() -> None:
    objective = Linear({"w": [1.0], "b": [1.0]})

    def poison(step: int) -> None:
        if step == 1:
            objective.named["b"].data[0] = math.inf

    objective.after_step = poison  # type: ignore[method-assign]
    assert diverges(objective).startswith("the loss is inf at step 3: b holds NaN or infinity")


def test_a_loss_over_the_objectives_limit_is_divergence() -> None:
    objective = Linear({"w": [1.0]}, {"w": [2.0]})
    objective.limit = 100.0
    objective.change = at_step(2, 1000.0)
    assert "at step 2, above the limit 100" in diverges(objective)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_is_named_and_not_applied(value: float) -> None:
    """A NaN times zero: the loss is finite and its slope is not."""
    objective = Linear({"w": [1.0], "b": [1.0]})

    class Bad(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, *gradient: Tensor) -> Tensor:
            return gradient[0] * value

    def change(step: int, loss: Tensor) -> Tensor:
        return loss + Bad.apply(objective.named["b"]).sum() if step == 1 else loss

    objective.change = change
    assert diverges(objective).startswith("the gradient of b is NaN or infinite at step 2")
    assert all(parameter.isfinite().all() for parameter in objective.named.values())
    assert objective.calls[-1] == ("loss", 1)


def test_gradients_too_large_to_square_in_float32_are_normalised_too() -> None:
    loop = Loop(Linear({"w": [1e30, -1e30]}), config())
    assert next(iter(loop)).gradient_rms == pytest.approx(1e30)
    assert gradients(loop) == pytest.approx([1, -1])


# --- going on ---


def test_a_run_continued_from_its_state_is_the_run_never_stopped() -> None:
    torch.manual_seed(0)
    slopes = {"w": torch.randn(50).tolist(), "b": torch.randn(7).tolist()}
    settings = config(weight_decay=0.2)

    def wavy(objective: Linear) -> Linear:
        objective.change = lambda step, loss: (loss * math.sin(step + 1)).square()
        return objective

    whole = wavy(Linear(slopes))
    losses = [log.loss for log in Loop(whole, settings)]
    parts = wavy(Linear(slopes))
    first = Loop(parts, settings)
    for log in first:
        if log.step == 4:
            break
    state = {name: tensor.clone() for name, tensor in first.state().items()}
    rest = wavy(Linear(slopes))
    second = Loop(rest, settings)
    second.load_state(state)
    later = list(second)
    assert [log.step for log in later] == [5, 6, 7, 8, 9, 10]
    assert [log.loss for log in later] == losses[4:]
    for name, parameter in whole.named.items():
        assert torch.equal(rest.named[name], parameter)
    assert second.state()["step"].item() == 10


def test_a_loaded_state_is_a_copy() -> None:
    first = Loop(Linear({"w": [1.0]}), config())
    next(iter(first))
    state = first.state()
    before = {name: tensor.clone() for name, tensor in state.items()}
    other = Loop(Linear({"w": [1.0]}), config())
    other.load_state(state)
    list(other)
    assert all(torch.equal(state[name], tensor) for name, tensor in before.items())


@pytest.mark.parametrize("slopes", [{"w": [1.0, 2.0], "b": [1.0]}, {"v": [1.0, 2.0]}, {"w": [1.0]}, {"w": [1.0] * 3}])
def test_the_state_of_another_model_is_refused(slopes: dict[str, list[float]]) -> None:
    first = Loop(Linear({"w": [1.0, 2.0]}), config())
    next(iter(first))
    with pytest.raises(InputError, match="another model's"):
        Loop(Linear(slopes), config()).load_state(first.state())


def test_a_state_with_more_parameters_is_another_models() -> None:
    first = Loop(Linear({"w": [1.0], "b": [1.0]}), config())
    next(iter(first))
    with pytest.raises(InputError, match="another model's"):
        Loop(Linear({"w": [1.0]}), config()).load_state(first.state())


def test_finite_parameters_are_worth_saving() -> None:
    objective = Linear({"w": [1.0], "b": [1.0]})
    loop = Loop(objective, config())
    assert loop.is_finite()
    objective.named["b"].data[0] = math.nan
    assert not loop.is_finite()


def test_a_config_is_not_changed_by_running() -> None:
    settings = config()
    before = dataclasses.asdict(settings)
    list(Loop(Linear({"w": [1.0]}), settings))
    assert dataclasses.asdict(settings) == before
