"""A study as one SVG file: the size of each trial's circuits and the smallest so far, and what each knob matters."""

import math

from sparse_circuits.circuits.report.svg import drawing, line, linear, mark, path, text, ticks
from sparse_circuits.circuits.sweep.plot import standalone
from sparse_circuits.circuits.sweep.summary import short
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
    low, high = (limit(math.log10(size) for _, size in complete) for limit in (min, max))
    low, high = low - 0.05, max(high, low + 0.2) + 0.05
    last = max(1, *(trial.number for trial, _ in complete))
    across = linear(0, last, LEFT + 10, MIDDLE - 30)
    along = linear(low, high, HEIGHT - BOTTOM, TOP)
    parts = [text(14, TOP - 10, "edges (geometric mean)", kind="small")]
    for tick in _sizes(10**low, 10**high):
        y = along(math.log10(tick))
        parts += [line(LEFT, y, MIDDLE - 20, y, "grid"), text(LEFT - 6, y + 4, short(tick), "end", "small")]
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
        told = f"trial {trial.number}: {short(size)}"
        if trial.default:
            parts.append(line(LEFT, place[1], MIDDLE - 20, place[1], "reference"))
            parts.append(mark(*place, "diamond", "default", f"{told}, the default settings"))
        else:
            parts.append(mark(*place, "circle", "trial", told, 3))
    return parts


def _sizes(low: float, high: float) -> list[float]:
    """Round numbers from low to high for a logarithmic axis."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7)):
        found = [step * 10.0**power for power in powers for step in steps if low <= step * 10.0**power <= high]
        if len(found) >= 3:
            break
    return found


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
