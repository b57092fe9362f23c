"""The card as one HTML page: no script, no network, light and dark, and nothing told by colour alone."""

import html
import math

from sparse_circuits.circuits.report.plots import plots
from sparse_circuits.circuits.report.rows import POINTS, Card, Row, Verdict
from sparse_circuits.circuits.report.table import interval_text, value_text

SIGNS: dict[Verdict, str] = {"holds": "●", "weak": "◐", "fails": "✕", "not measured": "○"}

# Colours by Okabe and Ito, told apart by colour-blind eyes.
STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1b1f24; --soft: #5b636d; --rule: #d9dde2; --panel: #f6f7f9;
  --holds: #0072b2; --weak: #a86b00; --fails: #c04a00; --unmeasured: #5b636d;
  --circuit: #0072b2; --model: #1b1f24; --calibrated: #d98f00; --empty: #c04a00; --random: #8a929b; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171b; --ink: #e7eaee; --soft: #a2abb5; --rule: #343a42;
  --panel: #1c2026; --holds: #56b4e9; --weak: #e69f00; --fails: #ff8a4c; --unmeasured: #a2abb5;
  --circuit: #56b4e9; --model: #e7eaee; --calibrated: #e69f00; --empty: #ff8a4c; --random: #7d8792; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1240px; padding: 20px 24px 48px; background: var(--paper); color: var(--ink);
  font: 15px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; }
h1 { font-size: 22px; margin: 0; } h2 { font-size: 15px; margin: 0 0 6px; }
.facts { color: var(--soft); margin: 2px 0 12px; }
.overall { border: 1px solid var(--rule); border-left: 6px solid var(--tone); background: var(--panel);
  border-radius: 6px; padding: 10px 14px; font-size: 16px; }
.overall b { color: var(--tone); text-transform: uppercase; letter-spacing: .04em; margin-right: 6px; }
.overall p { margin: 6px 0 0; font-size: 14px; }
.holds { --tone: var(--holds); } .weak { --tone: var(--weak); } .fails { --tone: var(--fails); }
.unmeasured { --tone: var(--unmeasured); }
.points { display: grid; grid-template-columns: repeat(9, 1fr); gap: 6px; margin: 12px 0 16px; padding: 0;
  list-style: none; }
.points a { display: block; height: 100%; border: 1px solid var(--rule); border-top: 4px solid var(--tone);
  border-radius: 4px; padding: 5px 8px; color: inherit; text-decoration: none; font-size: 13px; line-height: 1.3; }
.points span, .verdict { color: var(--tone); font-weight: 600; white-space: nowrap; }
.plots { display: grid; grid-template-columns: 1fr 1fr; gap: 14px; }
figure { margin: 0; border: 1px solid var(--rule); border-radius: 6px; padding: 10px 12px; }
svg { width: 100%; height: auto; display: block; font: 12px system-ui, "Liberation Sans", sans-serif; }
svg text { fill: var(--ink); } svg .small { font-size: 11.5px; fill: var(--soft); }
.grid { stroke: var(--rule); stroke-width: 1; } .axis { stroke: var(--soft); stroke-width: 1; }
.reference { stroke: var(--soft); stroke-width: 1.2; stroke-dasharray: 4 3; }
.circuit { fill: var(--circuit); } .calibrated { fill: var(--calibrated); }
.random { fill: var(--random); opacity: .75; }
.model { fill: var(--paper); stroke: var(--model); stroke-width: 1.8; }
.empty { fill: var(--paper); stroke: var(--empty); stroke-width: 1.8; }
.whisker { stroke-width: 2; } .circuit-line { stroke: var(--circuit); } .calibrated-line { stroke: var(--calibrated); }
.model-line { stroke: var(--model); } .empty-line { stroke: var(--empty); }
.curve { fill: none; stroke: var(--circuit); stroke-width: 2; } .second { fill: none; stroke: var(--calibrated);
  stroke-width: 2; stroke-dasharray: 6 3; } .band { fill: var(--circuit); opacity: .18; }
.stem { stroke: var(--circuit); stroke-width: 1; opacity: .5; }
table { border-collapse: collapse; width: 100%; margin-top: 18px; font-size: 14px; }
th { text-align: left; font-weight: 600; color: var(--soft); border-bottom: 1px solid var(--rule); padding: 4px 8px; }
td { border-bottom: 1px solid var(--rule); padding: 6px 8px; vertical-align: top; }
td.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
td.name { min-width: 150px; } tr.point td { background: var(--panel); font-weight: 600; padding-top: 9px; }
footer { color: var(--soft); font-size: 13px; margin-top: 18px; }
@media (max-width: 900px) { .plots { grid-template-columns: 1fr; } .points { grid-template-columns: repeat(3, 1fr); } }
@media print { body { max-width: none; } figure, tr { break-inside: avoid; } }
"""


def page(card: Card) -> str:
    """The whole page."""
    about = card.about
    title = f"Report card: {about.get('task')}"
    figures = "".join(f"<figure><h2>{html.escape(name)}</h2>{drawn}</figure>" for name, drawn in plots(card))
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head><body>",
        f'<h1>{html.escape(title)}</h1><p class="facts">{html.escape(_facts(card))}</p>',
        _overall(card),
        _points(card),
        f'<div class="plots">{figures}</div>',
        _table(card),
        f"<footer>{html.escape(_foot(card))}</footer></body></html>\n",
    ]
    return "\n".join(parts)


def _class(verdict: Verdict) -> str:
    return "unmeasured" if verdict == "not measured" else verdict


def _facts(card: Card) -> str:
    about = card.about
    model = f"{about['model_folder']} ({about['model'][:12]})" if about.get("model_folder") else about["model"][:12]
    found = "nodes chosen by hand" if about["by_hand"] else f"pruned to a loss of {about['target_loss']:g} nats"
    return (
        f"{about['description']} Model {model}. {about['nodes']:,} of {about['all_nodes']:,} nodes, "
        f"{about['edges']:,} edges, {found}, {about['ablation']} ablation."
    )


def _overall(card: Card) -> str:
    warnings = "".join(f"<p>{html.escape(warning)}</p>" for warning in card.warnings)
    return (
        f'<div class="overall {_class(card.verdict)}"><b>{SIGNS[card.verdict]} {card.verdict}</b> '
        f"{html.escape(card.line)}{warnings}</div>"
    )


def _points(card: Card) -> str:
    items = []
    for point, name in POINTS.items():
        verdict = card.point_verdict(point)
        items.append(
            f'<li class="{_class(verdict)}"><a href="#point{point}">{point} {name}<br>'
            f"<span>{SIGNS[verdict]} {verdict}</span></a></li>"
        )
    return f'<ol class="points">{"".join(items)}</ol>'


def _table(card: Card) -> str:
    lines = [
        "<table><thead><tr><th>figure</th><th>value</th><th>interval</th><th>verdict</th><th>in words</th></tr></thead>"
    ]
    for point, name in POINTS.items():
        lines.append(f'<tbody id="point{point}"><tr class="point"><td colspan="5">{point}. {name}</td></tr>')
        lines += [_line(row) for row in card.rows if row.point == point]
        lines.append("</tbody>")
    return "\n".join([*lines, "</table>"])


def _line(row: Row) -> str:
    spans = "" if row.interval is None else f' title="{html.escape(row.spans, quote=True)}"'
    return (
        f'<tr class="{_class(row.verdict)}"><td class="name">{html.escape(row.name)}</td>'
        f'<td class="number">{html.escape(value_text(row))}</td>'
        f'<td class="number"{spans}>{html.escape(interval_text(row))}</td>'
        f'<td class="verdict">{SIGNS[row.verdict]} {row.verdict}</td><td>{html.escape(row.sentence)}</td></tr>'
    )


def _foot(card: Card) -> str:
    about = card.about
    return (
        f"{'Full' if about['full'] else 'Quick'} report on {about['pairs']} pairs in {about['seconds']:g} s, seed "
        f"{about['seed']}; points 2 to 4 and 7 to 9 look at {about['fewer_pairs']} of them. Losses in nats, means over "
        "both sides of all pairs; a guess that does not look at the prompt "
        f"has {math.log(2):.3f}. Intervals: 95% of bootstraps over pairs, unless pointing at one tells otherwise."
    )
