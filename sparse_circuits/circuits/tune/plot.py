"""A study as one SVG file: the size of each trial's circuits and the smallest so far, and what each knob matters."""

import math

from sparse_circuits.circuits.report.svg import drawing, line, linear, mark, path, text, ticks
from sparse_circuits.circuits.sweep.plot import standalone
from sparse_circuits.circuits.tune.result import Tuned

WIDTH, HEIGHT = 760, 320
LEFT, MIDDLE, TOP, BOTTOM = 62, 450, 26, 52
STYLES = """
.trial { fill: #0072b2; opacity: .7; } .default { fill: #d55e00; } .best { fill: none; stroke: #0072b2;
stroke-width: 2; } .reference { stroke: #d55e00; stroke-dasharray: 4 3; } .bar { stroke: #0072b2; stroke-width: 9; }
"""


def plot(found: Tuned) -> str:
    """The drawing."""
    return standalone(WIDTH, HEIGHT, drawing(WIDTH, HEIGHT, "Tuning", [*_history(found), *_importances(found)]), STYLES)


def _history(found: Tuned) -> list[str]:
    """Size by trial, on a logarithmic scale."""
    complete = [(trial, trial.size) for trial in found.tried if trial.size is not None]
    low = math.floor(min(math.log10(size) for _, size in complete) * 5) / 5
    high = max(math.ceil(max(math.log10(size) for _, size in complete) * 5) / 5, low + 0.2)
    last = max(1, *(trial.number for trial, _ in complete))
    across = linear(0, last, LEFT + 10, MIDDLE - 30)
    along = linear(low, high, HEIGHT - BOTTOM, TOP)
    parts = [text(14, TOP - 10, "edges (geometric mean)", kind="small")]
    for tick in ticks(low, high, 5):
        parts += [
            line(LEFT, along(tick), MIDDLE - 20, along(tick), "grid"),
            text(LEFT - 6, along(tick) + 4, f"{10**tick:,.3g}", "end", "small"),
        ]
    for tick in {round(each) for each in ticks(0, last, 6)}:
        parts.append(text(across(tick), HEIGHT - BOTTOM + 17, f"{tick}", "middle", "small"))
    parts.append(text((LEFT + MIDDLE) / 2, HEIGHT - BOTTOM + 34, "trial", "middle", "small"))
    smallest, steps = math.inf, []
    for trial, size in complete:
        if size < smallest:
            steps += [(across(trial.number), along(math.log10(each))) for each in (smallest, size) if each < math.inf]
            smallest = size
    parts.append(path([*steps, (across(last), along(math.log10(smallest)))], "best"))
    for trial, size in complete:
        place = across(trial.number), along(math.log10(size))
        told = f"trial {trial.number}: {size:.4g}"
        if trial.default:
            parts.append(line(LEFT, place[1], MIDDLE - 20, place[1], "reference"))
            parts.append(mark(*place, "diamond", "default", f"{told}, the default settings"))
        else:
            parts.append(mark(*place, "circle", "trial", told, 3))
    return parts


def _importances(found: Tuned) -> list[str]:
    """A bar for each knob."""
    start = MIDDLE + 100
    across = linear(0, max([*found.importances.values(), 1e-9]), start, WIDTH - 50)
    parts = [text(MIDDLE + 10, TOP - 10, "what matters", kind="small")] if found.importances else []
    for place, (name, part) in enumerate(found.importances.items()):
        y = TOP + 12 + 20 * place
        parts += [
            text(start - 8, y + 4, name, "end", "small"),
            line(start, y, across(part), y, "bar"),
            text(across(part) + 6, y + 4, f"{part:.0%}", kind="small"),
        ]
    return parts
