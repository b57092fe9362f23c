"""A circuit as the JSON of MIB's circuit track and of EAP-IG: heads, MLPs and the edges between them.

Source: arXiv 2504.13151 and the graph files of its evaluation. Those graphs are coarser than ours: a node is a whole
head or MLP, the input or the logits, and what is called a neuron there is one of the channels of the residual stream
that a node writes. So
- a head is in the graph when one of its v channels has an edge to what attention adds, an MLP when a neuron has;
- an edge from one to another, into q, k or v of a head, is in it when a channel of the residual stream that the one
  writes is read by a kept channel of the other; its score is the sum, over such ways, of the products of the weights'
  magnitudes.
- a node's neurons are the channels that it writes in the circuit, their scores how strongly: the summed magnitudes of
  its weights to each. The input has all of them, unscored, which its readers keep always.
Only what is in the graph is written of the edges: its readers take all others to be out of it.

Two forms are read there. In JSON the neurons of a layer's heads are one table [heads, d_model], which each of its heads
shows to the readers (they set those of the whole layer at once); it is written once a layer, at the last head. The form
`.pt` holds the same as tensors.
"""

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparse_circuits.checkpoint import make_folder, write_torch
from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.files import atomic_write

Strengths = dict[str, dict[int, float]]
"""By head or MLP: the channels of the residual stream, and how strongly."""


def graph(circuit: Circuit) -> dict[str, Any]:
    """What the file holds."""
    config = circuit.model.config
    written, read = _written(circuit), _read(circuit)
    order = [name for layer in range(config.n_layer) for name in (*_heads(layer, config.n_head), f"m{layer}")]
    edges: dict[str, dict[str, Any]] = {}
    for at, target in enumerate(["input", *order, "logits"]):
        for source in ["input", *order][: at + 1]:
            if source == target or _same_sublayer(source, target):
                continue
            for suffix, channels in _inputs(target, read):
                score = sum(out * channels[c] for c, out in written.get(source, {}).items() if c in channels)
                if score:
                    edges[f"{source}->{target}{suffix}"] = {"score": score, "in_graph": True}
    inside = {name.partition("->")[0] for name in edges} | {"logits"}
    nodes: dict[str, dict[str, Any]] = {name: {"in_graph": name in inside} for name in ["input", *order, "logits"]}
    nodes["input"]["neurons"] = [True] * config.d_model
    strengths = {name: written.get(name, {}) if name in inside else {} for name in order}
    for layer in range(config.n_layer):
        heads = [_row(strengths[name], config.d_model) for name in _heads(layer, config.n_head)]
        for name, scores in (
            (f"a{layer}.h{config.n_head - 1}", heads),
            (f"m{layer}", _row(strengths[f"m{layer}"], config.d_model)),
        ):
            nodes[name] |= {"neurons": _nonzero(scores), "neurons_scores": scores}
    return {
        "cfg": {
            "n_layers": config.n_layer,
            "n_heads": config.n_head,
            "parallel_attn_mlp": False,
            "d_model": config.d_model,
        },
        "nodes": nodes,
        "edges": edges,
    }


def tensors(described: dict[str, Any]) -> dict[str, Any]:
    """What the `.pt` form of the graph `described` holds: a row a source, a column a target, in its readers' order."""
    cfg = described["cfg"]
    layers, heads, width = cfg["n_layers"], cfg["n_heads"], cfg["d_model"]
    sources = [name for name in described["nodes"] if name != "logits"]
    rows = {name: row for row, name in enumerate(sources)}
    targets = [
        name
        for layer in range(layers)
        for name in (*(f"{head}<{letter}>" for letter in "qkv" for head in _heads(layer, heads)), f"m{layer}")
    ] + ["logits"]
    columns = {name: column for column, name in enumerate(targets)}
    scores = torch.zeros(len(sources), len(targets))
    for name, edge in described["edges"].items():
        source, _, target = name.partition("->")
        scores[rows[source], columns[target]] = edge["score"]
    neurons = torch.full((len(sources), width), torch.nan)
    for layer in range(layers):
        first, last = rows[f"a{layer}.h0"], rows[f"a{layer}.h{heads - 1}"]
        neurons[first : last + 1] = torch.tensor(described["nodes"][sources[last]]["neurons_scores"])
        neurons[last + 1] = torch.tensor(described["nodes"][f"m{layer}"]["neurons_scores"])
    return {
        "cfg": cfg,
        "src_nodes": sources,
        "dst_nodes": targets,
        "edges_scores": scores,
        "edges_in_graph": scores > 0,
        "nodes_in_graph": torch.tensor([described["nodes"][name]["in_graph"] for name in sources]),
        "neurons_in_graph": neurons != 0,  # of the input they are no number
        "neurons_scores": neurons,
    }


def write(circuit: Circuit, out: Path) -> list[str]:
    """Write `circuit` to the file `out`: as tensors if it ends in .pt, else as JSON."""
    make_folder(out.parent)
    described = graph(circuit)
    if out.suffix == ".pt":
        write_torch(out, tensors(described))
    else:
        atomic_write(out, json.dumps(described) + "\n")
    return [
        "its nodes are whole heads and MLPs, its neurons the channels of the residual stream they write: which q, k, v "
        "and MLP channels the circuit keeps is not in it"
    ]


def _row(found: Mapping[int, float], width: int) -> list[float]:
    """How strongly a node writes each channel of the residual stream, those that it does not included."""
    return [found.get(channel, 0.0) for channel in range(width)]


def _nonzero(scores: Any) -> Any:
    return [_nonzero(each) for each in scores] if isinstance(scores, list) else scores != 0


def _heads(layer: int, count: int) -> list[str]:
    return [f"a{layer}.h{head}" for head in range(count)]


def _same_sublayer(source: str, target: str) -> bool:
    """Whether both are heads of one layer, which do not read each other."""
    return source.startswith("a") and source.partition(".")[0] == target.partition(".")[0]


def _inputs(target: str, read: dict[str, dict[int, float]]) -> list[tuple[str, dict[int, float]]]:
    """The inputs of a node by the suffix of an edge into it."""
    suffixes = ["<q>", "<k>", "<v>"] if target.startswith("a") else [""]
    return [(suffix, read[target + suffix]) for suffix in suffixes if target + suffix in read]


def _written(circuit: Circuit) -> Strengths:
    """What each node writes."""
    found: Strengths = defaultdict(lambda: defaultdict(float))
    width = circuit.model.config.head_width
    for edge in circuit.edges:
        site, channel = edge.source
        layer, _, kind = site.partition(".")
        if kind == "attn.v":
            found[f"a{layer}.h{channel // width}"][edge.target[1]] += abs(edge.weight)
        elif kind == "mlp.post_act":
            found[f"m{layer}"][edge.target[1]] += abs(edge.weight)
    for channel, strength in enumerate(_largest(circuit.model.wte.weight)):
        if strength:
            found["input"][channel] = strength
    return found


def _read(circuit: Circuit) -> Strengths:
    """What each input of a node reads."""
    found: Strengths = defaultdict(lambda: defaultdict(float))
    width = circuit.model.config.head_width
    for edge in circuit.edges:
        site, channel = edge.target
        layer, _, kind = site.partition(".")
        if kind in ("attn.q", "attn.k", "attn.v"):
            found[f"a{layer}.h{channel // width}<{kind[-1]}>"][edge.source[1]] += abs(edge.weight)
        elif kind == "mlp.post_act":
            found[f"m{layer}"][edge.source[1]] += abs(edge.weight)
    kept = {c for site, channels in circuit.nodes.items() if site.endswith("resid_delta") for c in channels}
    for channel, strength in enumerate(_largest(circuit.model.lm_head.weight)):
        if strength and channel in kept:
            found["logits"][channel] = strength
    return found


def _largest(weight: Tensor) -> list[float]:
    """The largest magnitude of each column."""
    return [float(each) for each in weight.detach().abs().amax(0).tolist()]
