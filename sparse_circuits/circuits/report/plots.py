"""The card's four plots: losses, faithfulness by size, necessity against random sets, each node's correlation."""

import math
from typing import Any

from sparse_circuits.circuits.report.rows import Card, Row
from sparse_circuits.circuits.report.svg import (
    Number,
    Scale,
    drawing,
    legend,
    line,
    linear,
    logarithmic,
    mark,
    path,
    text,
    ticks,
)
from sparse_circuits.circuits.report.table import figure

WIDTH = 600
SPLITS = {"report": "unseen pairs", "ood": "out of distribution", "calibrate": "cut to size on", "prune": "learned on"}
STATES = (
    ("empty", "square", "empty", "empty circuit"),
    ("model", "circle", "model", "model"),
    ("calibrated", "diamond", "calibrated", "calibrated"),
    ("circuit", "circle", "circuit", "circuit"),
)


def plots(card: Card) -> list[tuple[str, str]]:
    """Title and drawing of each plot that the card has figures for."""
    made = (
        ("Loss by split and ablation", _losses(card)),
        ("Faithfulness by size", _faithfulness(card)),
        ("Necessity: removed, beside random sets", _necessity(card)),
        ("Each node's value: circuit against model", _correlations(card)),
    )
    return [(title, drawn) for title, drawn in made if drawn]


def _find(card: Card, key: str) -> Row | None:
    return next((row for row in card.rows if row.key == key), None)


def _across(x: Scale, low: Number, high: Number, top: Number, bottom: Number, title: str) -> list[str]:
    """A horizontal axis with its grid."""
    parts = []
    for tick in ticks(low, high, 6):
        parts += [
            line(x(tick), top, x(tick), bottom, "grid"),
            text(x(tick), bottom + 14, f"{tick:g}", "middle", "small"),
        ]
    return [*parts, text((x(low) + x(high)) / 2, bottom + 29, title, "middle", "small")]


def _references(x: Scale, top: Number, bottom: Number, marks: dict[str, Number | None]) -> list[str]:
    """Dashed lines with a name on top."""
    parts = []
    for name, value in marks.items():
        if value is not None:
            parts += [
                line(x(value), top, x(value), bottom, "reference"),
                text(x(value), top - 4, name, "middle", "small"),
            ]
    return parts


def _losses(card: Card) -> str:
    row = _find(card, "loss_report")
    if row is None or "splits" not in row.data:
        return ""
    lines: list[tuple[str, dict[str, list[float]]]] = [
        (SPLITS[split], losses) for split, losses in row.data["splits"].items()
    ]
    for other in card.rows:
        if other.point == 2 and other.value is not None and other.interval is not None:
            states = {"circuit": [other.value, *other.interval]}
            if other.data.get("empty") is not None:
                states["empty"] = [other.data["empty"]] * 3
            lines.append((other.name, states))
    shown = [value[0] for _, states in lines for value in states.values() if value[0] is not None]
    high = min(max([*shown, 0.75]) * 1.05, 2.5)
    top, left, step = 42, 158, 22
    bottom = top + step * len(lines)
    x = linear(0, high, left, WIDTH - 16)
    parts = _across(x, 0, high, top, bottom, "loss in nats (lower is better)")
    parts += _references(x, top, bottom, {"target": row.data["target"], "guess": row.data["chance"]})
    for place, (name, states) in enumerate(lines):
        y = top + step * (place + 0.5)
        if place == len(row.data["splits"]):
            parts.append(line(8, y - step / 2, WIDTH - 16, y - step / 2, "axis"))
        parts.append(text(left - 10, y + 4, name, "end", "small"))
        for state, shape, kind, words in STATES:
            if state in states and states[state][0] is not None:
                parts += _whiskered(x, y, states[state], shape, kind, f"{name}, {words}", high)
    parts.append(legend(left - 8, 14, [(shape, kind, words) for _, shape, kind, words in STATES]))
    return drawing(WIDTH, bottom + 36, "Loss by split and ablation", parts)


def _whiskered(x: Scale, y: Number, values: list[float], shape: str, kind: str, told: str, high: Number) -> list[str]:
    value, low_end, high_end = values
    told = f"{told}: {figure(value)} [{figure(low_end)}, {figure(high_end)}] nats"
    parts = [line(x(low_end), y, x(high_end), y, f"whisker {kind}-line"), mark(x(value), y, shape, kind, told)]
    if value > high and kind == "circuit":
        parts.append(text(x(value) - 10, y + 4, f"{value:.1f} →", "end", "small"))
    return parts


def _faithfulness(card: Card) -> str:
    row = _find(card, "faithfulness")
    if row is None or "sizes" not in row.data:
        return ""
    data: dict[str, Any] = row.data
    points = [
        (k, *values)
        for k, *values in zip(data["sizes"], data["f"], data["low"], data["high"], strict=True)
        if k > 0 and None not in values
    ]
    if not points:
        return ""
    total = points[-1][0]
    low = max(-2.0, min(0.0, *(point[1] for point in points))) - 0.1
    high = min(3.0, max(1.0, *(point[1] for point in points))) + 0.15
    left, top, bottom = 44, 46, 240
    x = logarithmic(1, max(total, 2), left, WIDTH - 20)
    y = linear(low, high, bottom, top)
    parts = []
    for tick in ticks(low, high, 5):
        parts += [
            line(left, y(tick), WIDTH - 20, y(tick), "grid"),
            text(left - 6, y(tick) + 4, f"{tick:g}", "end", "small"),
        ]
    other = _find(card, "faithfulness_odds")
    if other is not None and "f" in other.data:
        odds = [(k, f) for k, f in zip(other.data["sizes"], other.data["f"], strict=True) if k > 0 and f is not None]
        parts.append(path([(x(k), y(f)) for k, f in odds], "second"))
    for power in range(int(math.log10(total)) + 1):
        parts += [text(x(10**power), bottom + 14, f"{10**power:,}", "middle", "small"),
                  line(x(10**power), bottom, x(10**power), bottom + 4, "axis")]  # fmt: skip
    parts += [
        text((left + WIDTH - 20) / 2, bottom + 29, "nodes kept, best first (logarithmic)", "middle", "small"),
        line(left, y(1), WIDTH - 20, y(1), "reference"),
        text(WIDTH - 22, y(1) - 5, "the model", "end", "small"),
        path(
            [*((x(k), y(b)) for k, _, _, b in points), *((x(k), y(a)) for k, _, a, _ in reversed(points))], "band", True
        ),
        path([(x(k), y(f)) for k, f, _, _ in points], "curve"),
        line(left, 11, left + 22, 11, "curve"),
        text(left + 28, 15, "share of the loss recovered", kind="small"),
        line(left + 210, 11, left + 232, 11, "second"),
        text(left + 238, 15, "share of the log-odds", kind="small"),
        *(mark(x(k), y(f), "circle", "circuit", f"{k:,} nodes: f = {f:.3f}", 3) for k, f, _, _ in points),
    ]
    if data["size"] > 0 and row.value is not None:
        at = x(data["size"])
        parts += [
            line(at, top, at, bottom, "reference"),
            text(at, top - 6, f"the circuit: {data['size']:,} nodes", "middle", "small"),
            mark(at, y(row.value), "diamond", "calibrated", f"the circuit: f = {row.value:.3f}", 6),
        ]
    return drawing(WIDTH, bottom + 36, "Faithfulness by size", parts)


def _necessity(card: Card) -> str:
    row = _find(card, "necessity")
    if row is None or row.value is None or row.interval is None:
        return ""
    kept = _find(card, "control_random")
    own = _find(card, "loss_report")
    lines: list[tuple[str, list[float], list[float]]] = [("removed", row.data["random"], [row.value, *row.interval])]
    if kept is not None and own is not None and own.value is not None and own.interval is not None:
        lines.append(("kept alone", kept.data["draws"], [own.value, *own.interval]))
    values = [value for _, draws, ours in lines for value in [*draws, ours[0]]]
    high = min(max([*values, 0.75]) * 1.05, 3.0)
    left, top, step = 90, 42, 86
    bottom = top + step * len(lines)
    x = linear(0, high, left, WIDTH - 16)
    parts = _across(x, 0, high, top, bottom, "loss in nats on unseen pairs")
    parts += _references(x, top, bottom, {"guess": row.data["chance"], "model": row.data["model"]})
    for place, (name, draws, ours) in enumerate(lines):
        y = top + step * (place + 0.5)
        parts.append(text(left - 10, y + 4, name, "end", "small"))
        parts += _swarm(x, y, draws)
        parts += _whiskered(x, y, ours, "diamond", "circuit", f"the circuit {name}", high)
    parts.append(
        legend(
            left - 8,
            14,
            [("diamond", "circuit", "the circuit"), ("circle", "random", "random sets, as many nodes per site")],
        )
    )
    return drawing(WIDTH, bottom + 36, "Necessity against random sets", parts)


def _swarm(x: Scale, y: Number, values: list[float]) -> list[str]:
    """Dots in a row, those at nearly the same place beside each other."""
    columns: dict[int, int] = {}
    parts = []
    for value in sorted(values):
        column = round(x(value) / 5)
        level = columns.get(column, 0)
        columns[column] = level + 1
        lift = (level + 1) // 2 * 5 * (-1 if level % 2 else 1)
        parts.append(mark(x(value), y + max(-34, min(34, lift)), "circle", "random", f"{value:.3f} nats", 2.5))
    return parts


def _correlations(card: Card) -> str:
    row = _find(card, "correlation")
    nodes = [node for node in (row.data.get("nodes", []) if row else []) if node["r"] is not None]
    if not nodes:
        return ""
    left, top, bottom = 84, 20, 190
    low = -1.0 if min(node["r"] for node in nodes) < 0 else 0.0
    y = linear(low, 1, bottom, top)
    step = (WIDTH - 20 - left) / len(nodes)
    parts = []
    for tick in ticks(low, 1, 4):
        parts += [
            line(left, y(tick), WIDTH - 20, y(tick), "grid"),
            text(left - 6, y(tick) + 4, f"{tick:g}", "end", "small"),
        ]
    groups: list[tuple[str, float, float]] = []
    start = 0
    for place, node in enumerate(nodes):
        at = left + step * (place + 0.5)
        told = f"{node['site']}:{node['channel']}: r = {node['r']:.3f}"
        parts.append(line(at, y(0), at, y(node["r"]), "stem"))
        parts.append(mark(at, y(node["r"]), "circle", "circuit", told, max(1.5, min(4.0, step / 3))))
        if place + 1 == len(nodes) or nodes[place + 1]["site"] != node["site"]:
            groups.append((node["site"], left + step * start, left + step * (place + 1)))
            start = place + 1
    parts += _site_names(groups, bottom)
    return drawing(WIDTH, bottom + 92, "Each node's value: circuit against model", parts)


def _site_names(groups: list[tuple[str, float, float]], y: Number) -> list[str]:
    """A bracket and a slanting name under each group; the names of narrow groups make room for each other."""
    parts, limit = [], float(WIDTH)
    for site, begin, end in reversed(groups):
        x = min((begin + end) / 2 + 4, limit)
        limit = x - 18
        parts += [
            line(begin + 1, y + 5, end - 1, y + 5, "axis"),
            line((begin + end) / 2, y + 5, x, y + 12, "axis"),
            f'<g transform="translate({x:.1f} {y + 20:.1f}) rotate(-40)">{text(0, 0, site, "end", "small")}</g>',
        ]
    return parts
