"""Point 7: do the kept nodes and heads do in the circuit what they do in the model, and is the stream as long?

1. For each kept node the correlation of its values in circuit and model, over all positions of the prompts.
2. For each head whose v channels the circuit reads, the KL from the model's attention pattern to the circuit's, at the
   last token. The sink counts as a key.
3. The ratio of what the final norm divides by: a pruned stream is shorter, and the norm amplifies what is left.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from sparse_circuits.circuits.logits import RowTap, final_scales, rows_by_length
from sparse_circuits.circuits.nodes import NodeSpace
from sparse_circuits.circuits.report.rows import Row
from sparse_circuits.circuits.report.statistics import Moments, by_pair, divergence, spread
from sparse_circuits.circuits.report.subject import Subject
from sparse_circuits.circuits.report.thresholds import ATTENTION, CORRELATION, NORM_SCALE
from sparse_circuits.sites import Tap, compose


@dataclass
class Inside:
    """What went on in the model and in the circuit on the same prompts."""

    moments: Moments
    """Of the kept nodes, x in the model and y in the circuit."""
    varying: Bool[Tensor, "nodes"]
    """Which nodes of the model are not the same at all positions."""
    heads: dict[tuple[int, int], tuple[Float[Tensor, "rows"], Float[Tensor, "rows"]]]
    """For each layer and head whose v channels are kept, KL(model || circuit) and KL(model || uniform)."""


class _Watch:
    """A tap that keeps, of the positions `valid` of each row, kept channels, queries, keys, and each node's range."""

    def __init__(self, space: NodeSpace, kept: Tensor, valid: Bool[Tensor, "B T"]):
        self._slices, self._valid = space.slices, valid
        self._channels = {site: list(channels) for site, channels in space.by_site(kept).items()}
        self.low = torch.full((space.total,), torch.inf)
        self.high = -self.low
        self.kept: list[Tensor] = []
        self.sites: dict[str, Tensor] = {}

    def __call__(self, site: str, activation: Tensor) -> Tensor:
        part = self._slices.get(site)
        if part is not None:
            values = activation[self._valid].float().cpu()
            self.low[part], self.high[part] = values.amin(0), values.amax(0)
            if site in self._channels:
                self.kept.append(values[:, self._channels[site]])
            if site.endswith((".q", ".k")):
                self.sites[site] = activation
        return activation


def inside(subject: Subject) -> Inside:
    """Run model and circuit side by side over the report prompts; measured once."""
    found = subject.__dict__.get("_inside")
    if found is None:
        found = subject.__dict__["_inside"] = _run(subject)
    return found


def varying(subject: Subject) -> Bool[Tensor, "nodes"]:
    """Which nodes of the model vary over the report prompts."""
    return inside(subject).varying


@torch.no_grad()
def _run(subject: Subject) -> Inside:
    examples, space = subject.examples("report"), subject.space
    moments = Moments(len(examples), subject.circuit.size)
    low = torch.full((space.total,), torch.inf)
    high = -low
    heads = {head: (torch.zeros(len(examples.last)), torch.zeros(len(examples.last))) for head in _heads(subject)}
    evaluate = subject.evaluator(edges=True)
    runs = ((subject.full, None), (evaluate.model, evaluate.tap(subject.kept)))
    for rows in rows_by_length(examples.last):
        last = examples.last[rows]
        tokens = examples.tokens[rows, : int(last.max()) + 1]
        valid = torch.arange(tokens.shape[1], device=tokens.device) <= last[:, None]
        watches = []
        for runner, before in runs:
            watch = _Watch(space, subject.kept, valid)
            here: Tap | None = before.at(rows, tokens.shape[1]) if isinstance(before, RowTap) else before
            runner(tokens, tap=compose(here, watch), at=last)
            watches.append(watch)
        model, circuit = watches
        low, high = torch.minimum(low, model.low), torch.maximum(high, model.high)
        if subject.circuit.size:
            numbers = (rows[:, None].expand_as(valid)[valid] % len(examples)).cpu()
            moments.add(numbers, torch.cat(model.kept, 1), torch.cat(circuit.kept, 1))
        for (layer, head), (kl, flat) in heads.items():
            patterns = [_pattern(subject, watch.sites, layer, head, last) for watch in watches]
            seen = patterns[0] > -torch.inf
            uniform = torch.where(seen, -seen.sum(1, keepdim=True).double().log(), -torch.inf)
            kl[rows.cpu()] = divergence(*patterns).float().cpu()
            flat[rows.cpu()] = divergence(patterns[0], uniform).float().cpu()
    return Inside(moments, high > low, heads)


def _heads(subject: Subject) -> list[tuple[int, int]]:
    d_head = subject.full.config.d_head
    assert d_head is not None
    return sorted(
        {
            (int(site.split(".")[0]), channel // d_head)
            for site, channels in subject.circuit.nodes.items()
            if site.endswith(".v")
            for channel in channels
        }
    )


def _pattern(subject: Subject, sites: dict[str, Tensor], layer: int, head: int, last: Tensor) -> Tensor:
    config = subject.full.config
    assert config.d_head is not None
    channels = slice(head * config.d_head, (head + 1) * config.d_head)
    q, k = (sites[f"{layer}.attn.{name}"][..., channels] for name in "qk")
    sink = subject.full.blocks[layer].attn.sink_logit
    return log_pattern(q[torch.arange(len(q), device=q.device), last], k, last, None if sink is None else sink[head])


def log_pattern(
    q: Float[Tensor, "B C"], k: Float[Tensor, "B T C"], last: Int64[Tensor, "B"], sink: Tensor | None
) -> Float[Tensor, "B S"]:
    """Logarithms of one head's attention weights from each row's last token, in float64.

    Returns:
        S = T keys, or T + 1 with the sink in the last place; minus infinity for keys behind `last`.
    """
    scores = torch.einsum("bc,btc->bt", q.double(), k.double()) * q.shape[1] ** -0.5
    scores = scores.masked_fill(torch.arange(k.shape[1], device=k.device) > last[:, None], -torch.inf)
    if sink is not None:
        scores = torch.cat([scores, sink.detach().double().expand(len(q), 1)], dim=1)
    return scores.log_softmax(-1)


def rows(subject: Subject) -> list[Row]:
    """One row each for nodes, heads and the final norm."""
    return [_nodes(subject), _attention(subject), _norm(subject)]


def _nodes(subject: Subject) -> Row:
    key, name = "correlation", "nodes' values as in the model"
    found = inside(subject)
    alive = found.varying[subject.kept]
    if not alive.any():
        return Row(7, key, name, "No kept node varies over the prompts.", "fails", unit="r")
    # Of a node that the circuit holds still where the model moves it, nothing is as in the model.
    each = found.moments.correlations()[0].nan_to_num(0)
    draws = found.moments.correlations(subject.weights("report"))[:, alive].nan_to_num(0).mean(1)
    value, interval = float(each[alive].mean()), spread(draws)
    nodes = [subject.space.name(node) for node in subject.kept.nonzero().squeeze(1).tolist()]
    data: list[dict[str, Any]] = [
        {"site": site, "channel": channel, "r": float(r) if live else None}
        for (site, channel), r, live in zip(nodes, each, alive.tolist(), strict=True)
    ]
    worst = min((node for node in data if node["r"] is not None), key=lambda node: node["r"])
    still = int((~alive).sum())
    sentence = (
        f"Over all positions the kept nodes' values correlate with those in the model by {value:.2f} on average, "
        f"{worst['site']}:{worst['channel']} least ({worst['r']:.2f})."
        f"{f' {still} of {len(nodes)} nodes never change on these prompts.' if still else ''}"
    )
    return Row(7, key, name, sentence, CORRELATION.judge(value, interval), value, interval, "r", data={"nodes": data})


def _attention(subject: Subject) -> Row:
    key, name = "attention", "attention patterns as in the model"
    heads = inside(subject).heads
    if not heads:
        sentence = "The circuit keeps no v channel, so it uses no attention pattern."
        return Row(7, key, name, sentence, "not measured", unit="nats")
    pairs = torch.stack([by_pair(kl) for kl, _ in heads.values()]).mean(0)
    value, interval = float(pairs.mean()), subject.interval(pairs)
    data = [
        {"layer": layer, "head": head, "kl": float(kl.mean()), "uniform": float(flat.mean())}
        for (layer, head), (kl, flat) in heads.items()
    ]
    worst = max(data, key=lambda each: each["kl"])
    flat_mean = sum(each["uniform"] for each in data) / len(data)
    sentence = (
        f"In the {len(data)} head{'s' * (len(data) > 1)} whose v channels it keeps, the circuit's attention from the "
        f"last token is {value:.3f} nats (KL) from the model's (a uniform pattern: {flat_mean:.3f}); head "
        f"{worst['head']} of layer {worst['layer']} is furthest ({worst['kl']:.3f})."
    )
    return Row(7, key, name, sentence, ATTENTION.judge(value, interval), value, interval, "nats", data={"heads": data})


def _norm(subject: Subject) -> Row:
    examples = subject.examples("report")
    evaluate = subject.evaluator(edges=True)
    scales = final_scales(evaluate.model, examples, evaluate.tap(subject.kept))
    ratio = scales / final_scales(subject.full, examples)
    logs = by_pair(ratio.log())
    low, high = subject.interval(logs)
    value = math.exp(float(logs.mean()))
    ends = sorted((abs(low), abs(high)))
    verdict = NORM_SCALE.judge(abs(math.log(value)), (ends[0], ends[1]))
    sentence = (
        f"At the last token the circuit's residual stream is {value:.2f} times as long as the model's, so the final "
        f"norm {'amplifies' if value < 1 else 'shrinks'} what is left by {max(value, 1 / value):.2f}."
    )
    return Row(
        7, "norm_scale", "final norm's scale", sentence, verdict, value, (math.exp(low), math.exp(high)), "ratio"
    )
