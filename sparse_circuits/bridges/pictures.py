"""Pictures of what was measured of bridges and steering, as SVG files: lines over places or strengths."""

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sparse_circuits.bridges.check import Checked
from sparse_circuits.bridges.curves import Steered
from sparse_circuits.circuits.report.svg import Number, linear, ticks

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 56, 32, 34, 72
INK, RULE, SOFT = "#202020", "#dddddd", "#606060"


@dataclass(frozen=True)
class Curve:
    """One line: what it is, its points, and how it looks."""

    name: str
    points: Sequence[tuple[float, float]]
    colour: str
    dashed: bool = False
    spread: Sequence[tuple[float, float, float]] = ()
    """Places with a low and a high value each, shown as a band."""


def check_picture(found: Checked) -> str:
    """The losses of all hybrid passes that switch once, by the site of the switch."""
    last = float(len(found.sites) - 1)

    def level(value: float) -> list[tuple[float, float]]:
        return [(0.0, value), (last, value)]

    def by_site(losses: Iterable[float]) -> list[tuple[float, float]]:
        return [(float(place), loss) for place, loss in enumerate(losses)]

    curves = [
        Curve("dense, then sparse", by_site(site.into_sparse.value for site in found.sites), "#d55e00"),
        Curve("sparse, then dense", by_site(site.into_dense.value for site in found.sites), "#0072b2"),
        Curve("sparse from its mean", by_site(site.into_sparse_floor for site in found.sites), "#e6a56a", True),
        Curve("dense from its mean", by_site(site.into_dense_floor for site in found.sites), "#7fb2d6", True),
        Curve("dense model", level(found.dense.value), INK),
        Curve("sparse model", level(found.sparse.value), "#909090"),
    ]
    if found.bigram is not None:
        curves.append(Curve("bigram", level(found.bigram), "#b0b0b0", True))
    names = {float(place): site.site for place, site in enumerate(found.sites)}
    return picture("Hybrid passes by the site of the switch", "loss (nats per token)", curves, names)


COLOURS = {
    "nodes": "#d55e00",
    "random nodes": "#909090",
    "random rows": "#b09060",
    "random directions": "#60a080",
    "the whole read": "#0072b2",
}


def steering_picture(found: Steered) -> str:
    """The probability of the other side's answer by strength, with the intervals as bands."""
    curves = [
        Curve(
            curve.name,
            [(s, one.value) for s, one in zip(found.strengths, curve.both, strict=True)],
            COLOURS[curve.name],
            curve.name.startswith("random"),
            [(s, one.low, one.high) for s, one in zip(found.strengths, curve.both, strict=True)],
        )
        for curve in found.curves
    ]
    ends = [(end, found.ceiling.value) for end in (min(found.strengths), max(found.strengths))]
    curves.append(Curve("on the other prompt", ends, "#202020", True))
    nodes = ", ".join(f"{site}:{channel}" for site, channel in found.nodes)
    return picture(f"{found.task} steered by {nodes}", "P(other side's answer)", curves, below="strength")


def picture(
    title: str, axis: str, curves: Sequence[Curve], names: Mapping[float, str] | None = None, below: str = ""
) -> str:
    """Lines in one frame, as an SVG file.

    Args:
        axis: what is measured upwards.
        names: words at places across instead of numbers.
        below: what is measured across.
    """
    values = [value for curve in curves for _, value in curve.points if math.isfinite(value)]
    across = [place for curve in curves for place, _ in curve.points]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    margin = 0.05 * ((high - low) or 1.0)
    x = linear(min(across), max(across), LEFT, WIDTH - RIGHT)
    y = linear(low - margin, high + margin, HEIGHT - BOTTOM, TOP)
    parts = [_text(LEFT, 18, title, size=14)]
    for tick in ticks(low, high):
        parts.append(_line(LEFT, y(tick), WIDTH - RIGHT, y(tick), RULE))
        parts.append(_text(LEFT - 6, y(tick) + 4, f"{tick:g}", "end"))
    for place in names if names is not None else ticks(min(across), max(across), 8):
        words = names[place] if names is not None else f"{place:g}"
        parts.append(_text(x(place), HEIGHT - BOTTOM + 16, words, "middle"))
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - BOTTOM + 31, below, "middle"))
    middle = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(_text(14, middle, axis, "middle", turn=f"rotate(-90 14 {middle:.1f})"))
    for curve in curves:
        if curve.spread:
            edge = [(x(at), y(top)) for at, _, top in curve.spread]
            edge += [(x(at), y(bottom)) for at, bottom, _ in reversed(curve.spread)]
            corners = " ".join(f"{a:.1f},{b:.1f}" for a, b in edge)
            parts.append(f'<polygon points="{corners}" fill="{curve.colour}" opacity="0.15"/>')
        points = " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in curve.points if math.isfinite(value))
        dash = ' stroke-dasharray="5 3"' if curve.dashed else ""
        parts.append(f'<polyline points="{points}" fill="none" stroke="{curve.colour}" stroke-width="2"{dash}/>')
    parts += _legend(curves)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{html.escape(title, quote=True)}" font-family="sans-serif">'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>' + "".join(parts) + "</svg>\n"
    )


def _legend(curves: Sequence[Curve]) -> list[str]:
    parts = []
    at, line = float(LEFT), HEIGHT - 22.0
    for curve in curves:
        width = 30 + 6.2 * len(curve.name)
        if at + width > WIDTH - RIGHT:
            at, line = float(LEFT), line + 15
        dash = ' stroke-dasharray="5 3"' if curve.dashed else ""
        parts.append(
            f'<line x1="{at:.1f}" y1="{line - 4:.1f}" x2="{at + 18:.1f}" y2="{line - 4:.1f}" '
            f'stroke="{curve.colour}" stroke-width="2"{dash}/>'
        )
        parts.append(_text(at + 23, line, curve.name))
        at += width
    return parts


def _text(x: Number, y: Number, words: str, anchor: str = "start", size: int = 11, turn: str = "") -> str:
    turned = f' transform="{turn}"' if turn else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{INK if size > 11 else SOFT}"'
        f"{turned}>{html.escape(words)}</text>"
    )


def _line(x1: Number, y1: Number, x2: Number, y2: Number, colour: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'
