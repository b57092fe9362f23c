"""Draws the density and learning-rate schedules as docs/figures/schedules.svg and schedules.png.

python docs/figures/schedules.py
"""

from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from sparse_circuits.sparsity import density_at, learning_rate_at

TARGET = 1 / 64
GRID = [i / 400 for i in range(401)]
SHAPES = {"linear": "#0072b2", "exponential": "#d55e00"}
GREY = "#777777"


def label(axes: Axes, text: str, place: tuple[float, float], color: str, above: float) -> None:
    """Name a curve beside it, in its colour, instead of in a legend."""
    axes.annotate(text, place, xytext=(7, above), textcoords="offset points", color=color, fontsize=9)


def draw_density(axes: Axes) -> None:
    for shape, color in SHAPES.items():
        axes.plot(GRID, [density_at(p, TARGET, shape=shape) for p in GRID], color=color)
    label(axes, "linear", (0.36, density_at(0.36, TARGET)), SHAPES["linear"], 2)
    label(axes, "exponential", (0.03, 1 / 12), SHAPES["exponential"], 0)
    label(axes, "1 in 64", (0.75, TARGET), GREY, 5)
    axes.set_yscale("log", base=2)
    axes.set_yticks([1, 1 / 4, 1 / 16, 1 / 64], ["1", "1/4", "1/16", "1/64"])
    axes.set_title("Density: fraction of nonzero weights", fontsize=10, loc="left")


def draw_learning_rate(axes: Axes) -> None:
    axes.plot(GRID, [learning_rate_at(p) for p in GRID], color=GREY, linestyle=":")
    for shape, color in SHAPES.items():
        densities = [density_at(p, TARGET, shape=shape) for p in GRID]
        axes.plot(
            GRID, [learning_rate_at(p, 0.01, d, TARGET) for p, d in zip(GRID, densities, strict=True)], color=color
        )
    label(axes, "warm-up and decay alone", (0.17, learning_rate_at(0.17)), GREY, 6)
    label(axes, "times √(final density / density)", (0.49, 0.49), "black", 6)
    axes.set_ylim(0, 1.05)
    axes.set_title("Learning rate: fraction of its peak", fontsize=10, loc="left")


if __name__ == "__main__":
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    draw_density(left)
    draw_learning_rate(right)
    for axes in (left, right):
        axes.set_xlim(0, 1)
        axes.set_xlabel("progress (steps done / steps in all)")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.2)
    for ending in ("svg", "png"):
        figure.savefig(
            Path(__file__).with_suffix(f".{ending}"), dpi=160, metadata={"Date": None} if ending == "svg" else None
        )
