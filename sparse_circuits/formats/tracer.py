"""A circuit on one prompt as the graph JSON of circuit-tracer, which its page and Neuronpedia draw.

Those graphs are of one prompt, with a node for each position where a feature is active. Here the features are the
circuit's nodes; one is drawn at every position where it is not zero. A link's weight is what its source brings to its
target, with norms and attention patterns as they are:
- inside a sublayer, weight times value; from a v channel to what attention adds, times the head's attention, from the
  position of the one to that of the other;
- over the residual stream, value times the norm's gain over its scale, from what writes a channel (tokens too) to what
  reads it, and to the logits.
Rows from below: tokens, then for each layer what attention reads, q, k and v, what it adds, and the same of the MLP.
"""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sparse_circuits.checkpoint import make_folder
from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.files import atomic_write
from sparse_circuits.formats.graph import node_name, residual_links
from sparse_circuits.sites import FINAL_SITE, Record, compose
from sparse_circuits.tasks import ANY

ROWS = {"attn.act_in": 0, "attn.q": 1, "attn.k": 1, "attn.v": 1, "attn.resid_delta": 2} | {
    "mlp.act_in": 3,
    "mlp.post_act": 4,
    "mlp.resid_delta": 5,
}
"""The row of a site among those of its layer."""

SCHEMA = 1

Place = tuple[str, int, int]
"""A node at a position: site, channel, position."""


@dataclass
class _Drawing:
    """What a circuit does on one prompt."""

    circuit: Circuit
    tokens: list[int]
    values: dict[str, Tensor]
    """[T, channels] by site."""
    logits: Tensor
    """At the last position, [V]."""
    links: list[dict[str, Any]] = field(default_factory=list)

    def is_drawn(self, place: Place) -> bool:
        site, channel, position = place
        return float(self.values[site][position, channel]) != 0

    def identity(self, place: Place) -> str:
        site, channel, position = place
        return f"{self.row(site)}_{self.feature(site, channel)}_{position}"

    def row(self, site: str) -> int:
        layer, _, kind = site.partition(".")
        return len(set(ROWS.values())) * int(layer) + ROWS[kind]

    def feature(self, site: str, channel: int) -> int:
        """Its number in its row: q, k and v stand in one, one after the other."""
        width = self.circuit.model.config.heads_width
        return channel + width * {"q": 0, "k": 1, "v": 2}.get(site.rsplit(".", 1)[1], 0)

    def link(self, source: str, target: str, weight: float) -> None:
        if weight and math.isfinite(weight):
            self.links.append({"source": source, "target": target, "weight": weight})


def graph(circuit: Circuit, pair: int = 0, side: str = "a", slug: str | None = None) -> dict[str, Any]:
    """What the file holds, for one side of one of the fixed pairs of the report split."""
    examples = circuit.examples("report")
    row = pair % len(examples) + (len(examples) if side == "b" else 0)
    tokens = examples.tokens[row, : int(examples.last[row]) + 1]
    answers = [int(t) for t in (examples.targets[row], examples.others[row]) if int(t) != ANY]
    drawing = _run(circuit, tokens)
    _inside(drawing)
    _over_the_stream(drawing)
    nodes = _token_nodes(drawing) + _feature_nodes(drawing) + _logit_nodes(drawing, answers)
    tokenizer = circuit.model.tokenizer
    assert tokenizer is not None  # examples were made with it
    return {
        "metadata": {
            "slug": slug or f"{circuit.task.name}-{pair}{side}",
            "scan": "sparse-circuits",
            "transcoder_list": [],
            "prompt_tokens": [tokenizer.decode([token]) for token in drawing.tokens],
            "prompt": tokenizer.decode(drawing.tokens),
            "node_threshold": None,
            "schema_version": SCHEMA,
        },
        "qParams": {"pinnedIds": [], "supernodes": [], "linkType": "both", "clickedId": "", "sg_pos": ""},
        "nodes": nodes,
        "links": drawing.links,
    }


def write(circuit: Circuit, out: Path) -> list[str]:
    """Write `circuit` on the first pair's A side to the file `out`."""
    make_folder(out.parent)
    atomic_write(out, json.dumps(graph(circuit, slug=out.stem), indent=1) + "\n")
    return ["it shows the circuit on one prompt; q and k have no links out, they decide where attention looks"]


def _run(circuit: Circuit, tokens: Tensor) -> _Drawing:
    """Execute the circuit and keep what is needed."""
    layers = range(circuit.model.config.n_layer)
    streams = [f"{layer}.{site}" for layer in layers for site in ("resid_in", "resid_mid")]
    recorder = Record([*circuit.space.slices, *streams, FINAL_SITE])
    with torch.no_grad():
        logits = circuit.runner(tokens.unsqueeze(0), tap=compose(circuit.tap(), recorder))[0, -1]
    values = {site: value[0].float().cpu() for site, value in recorder.sites.items()}
    return _Drawing(circuit, [int(token) for token in tokens.tolist()], values, logits.float().cpu())


def _positions(drawing: _Drawing, site: str, channel: int) -> list[int]:
    return [t for t in range(len(drawing.tokens)) if drawing.is_drawn((site, channel, t))]


def _inside(drawing: _Drawing) -> None:
    """Links along the circuit's edges."""
    circuit = drawing.circuit
    patterns: dict[tuple[int, int], Tensor] = {}
    for edge in circuit.edges:
        (source, a), (target, b) = edge.source, edge.target
        for t in _positions(drawing, target, b):
            if not source.endswith("attn.v"):
                if drawing.is_drawn((source, a, t)):
                    weight = edge.weight * float(drawing.values[source][t, a])
                    drawing.link(drawing.identity((source, a, t)), drawing.identity((target, b, t)), weight)
                continue
            layer, head = int(source.partition(".")[0]), a // circuit.model.config.head_width
            if (layer, head) not in patterns:
                patterns[layer, head] = _pattern(drawing, layer, head)
            for s in _positions(drawing, source, a):
                if s <= t:
                    weight = edge.weight * float(drawing.values[source][s, a] * patterns[layer, head][t, s])
                    drawing.link(drawing.identity((source, a, s)), drawing.identity((target, b, t)), weight)


def _pattern(drawing: _Drawing, layer: int, head: int) -> Tensor:
    """A head's attention [T, T], from row to column."""
    config = drawing.circuit.model.config
    part = slice(head * config.head_width, (head + 1) * config.head_width)
    q, k = (drawing.values[f"{layer}.attn.{name}"][:, part] for name in "qk")
    scores = q @ k.T / math.sqrt(config.head_width)
    later = torch.ones_like(scores, dtype=torch.bool).triu(1)
    scores = scores.masked_fill(later, -math.inf)
    sink = drawing.circuit.model.blocks[layer].attn.sink_logit
    if sink is not None:
        scores = torch.cat([scores, sink.detach()[head].float().cpu().expand(len(scores), 1)], dim=1)
    return scores.softmax(1)[:, : len(q)]


def _over_the_stream(drawing: _Drawing) -> None:
    """Links from what writes a channel of the residual stream to what reads it, tokens and logits included."""
    circuit = drawing.circuit
    model = circuit.model
    for (source, channel), (target, _) in residual_links(circuit):
        for t in _positions(drawing, target, channel):
            if drawing.is_drawn((source, channel, t)):
                weight = float(drawing.values[source][t, channel]) * _gain(drawing, target, channel, t)
                ends = (drawing.identity((source, channel, t)), drawing.identity((target, channel, t)))
                drawing.link(*ends, weight)
    embedded = model.wte.weight.detach()[torch.tensor(drawing.tokens, device=model.wte.weight.device)].float().cpu()
    for site, kept in circuit.nodes.items():
        for channel in kept if site.endswith("act_in") else ():
            if channel >= model.config.d_model:
                continue
            for t in _positions(drawing, site, channel):
                weight = float(embedded[t, channel]) * _gain(drawing, site, channel, t)
                drawing.link(f"E_{drawing.tokens[t]}_{t}", drawing.identity((site, channel, t)), weight)


def _gain(drawing: _Drawing, target: str, channel: int, position: int) -> float:
    """What the norm before `target` multiplies a channel by at a position."""
    layer, sublayer, _ = target.split(".")
    block = drawing.circuit.model.blocks[int(layer)]
    stream = drawing.values[f"{layer}.{'resid_in' if sublayer == 'attn' else 'resid_mid'}"][position]
    return _norm_gain(block.ln_1 if sublayer == "attn" else block.ln_2, stream, channel)


def _norm_gain(norm: nn.Module, stream: Tensor, channel: int) -> float:
    weight = float(norm.weight.detach()[channel])  # type: ignore[operator]
    if isinstance(norm, nn.RMSNorm):
        eps = torch.finfo(stream.dtype).eps if norm.eps is None else norm.eps
        return weight / math.sqrt(float(stream.square().mean()) + eps)
    return weight / math.sqrt(float(stream.var(correction=0)) + float(norm.eps))  # type: ignore[arg-type]


def _node(
    identity: str, script: str, layer: str, feature: int, position: int, kind: str, **more: Any
) -> dict[str, Any]:
    return {
        "node_id": identity,
        "jsNodeId": script,
        "layer": layer,
        "feature": feature,
        "ctx_idx": position,
        "feature_type": kind,
        "token_prob": 0.0,
        "is_target_logit": False,
        "run_idx": 0,
        "reverse_ctx_idx": 0,
        "clerp": "",
        "influence": None,
        "activation": None,
        **more,
    }


def _token_nodes(drawing: _Drawing) -> list[dict[str, Any]]:
    return [_node(f"E_{token}_{t}", f"E_{token}-{t}", "E", t, t, "embedding") for t, token in enumerate(drawing.tokens)]


def _feature_nodes(drawing: _Drawing) -> list[dict[str, Any]]:
    nodes = []
    for site, kept in drawing.circuit.nodes.items():
        row = drawing.row(site)
        for channel in kept:
            number = drawing.feature(site, channel)
            # The pages tell a feature's layer and number from this one number.
            paired = (row + number) * (row + number + 1) // 2 + number
            nodes += [
                _node(
                    drawing.identity((site, channel, t)),
                    f"{row}_{number}-0",
                    str(row),
                    paired,
                    t,
                    "cross layer transcoder",
                    clerp=node_name(site, channel),
                    activation=float(drawing.values[site][t, channel]),
                )
                for t in _positions(drawing, site, channel)
            ]
    return nodes


def _logit_nodes(drawing: _Drawing, answers: list[int]) -> list[dict[str, Any]]:
    """The answers, and links to them from what writes the channels they read."""
    circuit, last = drawing.circuit, len(drawing.tokens) - 1
    tokenizer = circuit.model.tokenizer
    assert tokenizer is not None
    row = len(set(ROWS.values())) * circuit.model.config.n_layer + 1
    chances = drawing.logits.softmax(0)
    unembedding = circuit.model.lm_head.weight.detach().float().cpu()
    nodes = []
    for number, token in enumerate(answers):
        identity, chance = f"{row}_{token}_{last}", float(chances[token])
        text = f'Output "{tokenizer.token(token)}" (p={chance:.3f})'
        more = {"token_prob": chance, "is_target_logit": number == 0, "clerp": text}
        nodes.append(_node(identity, f"L_{token}-{last}", str(row), token, last, "logit", **more))
        for site, kept in circuit.nodes.items():
            for channel in kept if site.endswith("resid_delta") else ():
                if drawing.is_drawn((site, channel, last)):
                    gain = _norm_gain(circuit.model.ln_f, drawing.values[FINAL_SITE][last], channel)
                    value = float(drawing.values[site][last, channel])
                    drawing.link(
                        drawing.identity((site, channel, last)),
                        identity,
                        value * gain * float(unembedding[token, channel]),
                    )
    return nodes
