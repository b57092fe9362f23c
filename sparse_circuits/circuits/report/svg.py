"""Small drawings as SVG text: a frame with two axes, and marks in it. Colours are the page's CSS classes."""

import html
import math
from collections.abc import Callable, Sequence

Number = int | float
Scale = Callable[[Number], float]


def linear(low: Number, high: Number, start: Number, end: Number) -> Scale:
    """Maps low..high to start..end, and clips what is beyond."""
    span = (high - low) or 1.0
    return lambda value: start + (end - start) * min(1.0, max(0.0, (value - low) / span))


def logarithmic(low: Number, high: Number, start: Number, end: Number) -> Scale:
    """Maps low..high, both above 0, to start..end by their logarithm."""
    inner = linear(math.log(low), math.log(high), start, end)
    return lambda value: inner(math.log(max(value, low)))


def ticks(low: Number, high: Number, about: int = 5) -> list[float]:
    """Round numbers from low to high, some `about` of them."""
    span = high - low
    if not span > 0:
        return [low]
    raw = span / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw)
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 10) for number in range(first, math.floor(high / step + 1e-9) + 1)]


def text(x: Number, y: Number, words: str, anchor: str = "start", kind: str = "") -> str:
    """Words at a place."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">{html.escape(words)}</text>'


def line(x1: Number, y1: Number, x2: Number, y2: Number, kind: str) -> str:
    """A straight line."""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def path(points: Sequence[tuple[float, float]], kind: str, closed: bool = False) -> str:
    """A line through points, or the area they enclose."""
    steps = " ".join(f"{'M' if place == 0 else 'L'}{x:.1f} {y:.1f}" for place, (x, y) in enumerate(points))
    return f'<path d="{steps}{" Z" if closed else ""}" class="{kind}"/>'


def mark(x: Number, y: Number, shape: str, kind: str, told: str = "", size: Number = 4.5) -> str:
    """A mark that differs from others by its shape as well as its colour; `told` is shown on pointing at it."""
    title = f"<title>{html.escape(told)}</title>" if told else ""
    s = size
    if shape == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{s:.1f}" class="{kind}">{title}</circle>'
    corners = {
        "diamond": [(0, -1.3 * s), (1.3 * s, 0), (0, 1.3 * s), (-1.3 * s, 0)],
        "square": [(-s, -s), (s, -s), (s, s), (-s, s)],
        "triangle": [(0, -1.2 * s), (1.2 * s, s), (-1.2 * s, s)],
        "bar": [(-0.35 * s, -2 * s), (0.35 * s, -2 * s), (0.35 * s, 2 * s), (-0.35 * s, 2 * s)],
    }[shape]
    points = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners)
    return f'<polygon points="{points}" class="{kind}">{title}</polygon>'


def legend(x: Number, y: Number, entries: Sequence[tuple[str, str, str]], letter: Number = 6.3) -> str:
    """Shape, class and words of each entry, in one line."""
    parts = []
    for shape, kind, words in entries:
        parts += [mark(x + 5, y - 4, shape, kind), text(x + 14, y, words, kind="small")]
        x += 28 + letter * len(words)
    return "".join(parts)


def drawing(width: int, height: int, title: str, parts: Sequence[str]) -> str:
    """A whole drawing, which scales with its place on the page."""
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{html.escape(title, quote=True)}">'
        + "".join(parts)
        + "</svg>"
    )
