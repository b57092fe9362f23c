"""Size against target loss as one SVG file, both axes logarithmic, with a band for each curve's interval."""

import math

from sparse_circuits.circuits.report.svg import Number, drawing, line, linear, logarithmic, mark, path, text
from sparse_circuits.circuits.sweep.config import exact
from sparse_circuits.circuits.sweep.summary import Series, Size, Sweep, short

WIDTH, HEIGHT = 640, 400
LEFT, RIGHT, TOP, BOTTOM = 62, 18, 32, 56
# Colours by Okabe and Ito; curves differ by their marks too.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9", "#555555")
SHAPES = ("circle", "square", "diamond", "triangle")
STYLE = """
svg { background: #fff; font: 12px system-ui, "Liberation Sans", sans-serif; }
text { fill: #1b1f24; } .small { font-size: 11.5px; fill: #5b636d; }
.grid { stroke: #d9dde2; } .axis { stroke: #5b636d; }
"""


def plot(found: Sweep) -> str:
    """The drawing; targets fall from left to right. Empty where no circuit was found."""
    curves = {
        series: [size for size in found.sizes if size.series == series and size.common > 0] for series in found.series
    }
    ends = [end for sizes in curves.values() for size in sizes for end in _ends(size)]
    if not ends:
        return ""
    top_power = max(1, math.ceil(math.log10(max(ends)) - 1e-9))
    high_target, low_target = found.targets[0], found.targets[-1]
    across = logarithmic(low_target, high_target, WIDTH - RIGHT - 20, LEFT + 20)
    along = linear(0, top_power, HEIGHT - BOTTOM, TOP)

    def up(edges: Number) -> float:
        return along(math.log10(max(1, edges)))

    parts = [text(14, TOP - 16, "edges (geometric mean over tasks)", kind="small")]
    for power in range(top_power + 1):
        parts += [
            line(LEFT, up(10**power), WIDTH - RIGHT, up(10**power), "grid"),
            text(LEFT - 6, up(10**power) + 4, f"{10**power:,}", "end", "small"),
        ]
    base = HEIGHT - BOTTOM
    for target in found.targets:
        parts += [
            line(across(target), base, across(target), base + 4, "axis"),
            text(across(target), base + 17, exact(target), "middle", "small"),
        ]
    parts += [text((LEFT + WIDTH) / 2, base + 34, "target loss in nats", "middle", "small")]
    styles = []
    for number, (series, sizes) in enumerate(curves.items()):
        points = [(across(size.target), size) for size in sizes]
        styles.append(_style(number))
        parts += _curve(number, points, up) + _name(number, series)
    drawn = drawing(WIDTH, HEIGHT, "Circuit size by target loss", parts)
    return standalone(WIDTH, HEIGHT, drawn, "".join(styles))


def _ends(size: Size) -> list[float]:
    return [end for end in (size.edges.value, size.edges.high) if not math.isnan(end)]


def _curve(number: int, points: list[tuple[float, Size]], up) -> list[str]:  # type: ignore[no-untyped-def]
    banded = [(x, size.edges) for x, size in points if not math.isnan(size.edges.low)]
    parts = []
    if len(banded) > 1:
        outline = [(x, up(edges.high)) for x, edges in banded] + [(x, up(edges.low)) for x, edges in reversed(banded)]
        parts.append(path(outline, f"band{number}", closed=True))
    parts.append(path([(x, up(size.edges.value)) for x, size in points], f"curve{number}"))
    for x, size in points:
        told = f"{size.series} at {exact(size.target)}: {short(size.edges.value)} edges over {size.common} tasks"
        parts.append(mark(x, up(size.edges.value), SHAPES[number % len(SHAPES)], f"mark{number}", told))
    return parts


def _name(number: int, series: Series) -> list[str]:
    x, y = LEFT + 14, TOP + 14 + 17 * number
    return [mark(x, y - 4, SHAPES[number % len(SHAPES)], f"mark{number}"), text(x + 10, y, str(series), kind="small")]


def _style(number: int) -> str:
    colour = COLOURS[number % len(COLOURS)]
    return (
        f".mark{number} {{ fill: {colour}; }} .band{number} {{ fill: {colour}; opacity: .16; }} "
        f".curve{number} {{ fill: none; stroke: {colour}; stroke-width: 2; }}\n"
    )


def standalone(width: int, height: int, drawn: str, styles: str) -> str:
    """A drawing that has its page's styles as a file of its own."""
    opened = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
    head, _, rest = drawn.replace("<svg ", opened, 1).partition(">")
    return f"{head}><style>{STYLE}{styles}</style>{rest}\n"
