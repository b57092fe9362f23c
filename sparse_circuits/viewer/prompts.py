"""The task's pairs in model and circuit: answers, every kept node at every token, and where the heads look.

Losses and logits are those of the fixed pairs that the circuit is judged by, from the same evaluator.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.circuits.logits import RowTap, last_logits
from sparse_circuits.model import GPT
from sparse_circuits.sites import Record, Tap, compose, node_sites
from sparse_circuits.tasks import Examples, task_losses
from sparse_circuits.tasks.pair import ANY
from sparse_circuits.viewer.numbers import decimals, number, numbers

PAIRS = 12
TOP = 8
"""Next tokens named."""
MOST_NUMBERS = 400_000
"""Activations and attention weights in a bundle: larger circuits show fewer pairs."""


@dataclass(frozen=True)
class Side:
    """One run of some rows: what was computed there."""

    logits: Tensor
    losses: Tensor
    sites: dict[str, Tensor]


def chosen_pairs(circuit: Circuit, split: str = "report") -> tuple[list[int], list[str], Examples]:
    """Numbers of the pairs to show, the template of each, and all pairs: one a template, the hardest among them."""
    assert circuit.model.tokenizer is not None
    examples = circuit.examples(split)
    drawn = circuit.task.pairs(circuit.model.tokenizer, split, circuit.config.eval_pairs, seed=0)
    evaluate = circuit.evaluator(examples)
    losses = task_losses(evaluate.logits(circuit.kept), examples).unflatten(0, (2, -1)).mean(0)
    lengths = examples.last.unflatten(0, (2, -1)).amax(0)
    hardest = int(losses.argmax())
    short = [pair for pair in lengths.argsort(stable=True).tolist() if pair != hardest]
    first = {drawn[pair].template: pair for pair in reversed(short)}
    first.pop(drawn[hardest].template, None)
    order = [hardest, *(pair for pair in short if first.get(drawn[pair].template) == pair)]
    order += [n for n in short if n not in set(order)]
    heads = len(head_list(circuit))
    chosen: list[int] = []
    spent = 0
    for pair in order:
        tokens = int(lengths[pair]) + 1
        spent += 4 * (circuit.size * tokens + heads * tokens * tokens // 2)
        if len(chosen) >= 1 and (spent > MOST_NUMBERS or len(chosen) >= PAIRS):
            break
        chosen.append(pair)
    chosen = [*chosen[1:], chosen[0]]
    return chosen, [drawn[pair].template for pair in chosen], examples


def head_list(circuit: Circuit) -> list[tuple[int, int]]:
    """Layer and head of every head that has a kept q, k or v channel."""
    d_head = circuit.model.config.d_head
    assert d_head is not None
    return sorted(
        {
            (int(site.split(".")[0]), channel // d_head)
            for site, channels in circuit.nodes.items()
            if site.endswith((".q", ".k", ".v"))
            for channel in channels
        }
    )


def prompts(circuit: Circuit, split: str = "report") -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The `pairs` and the `heads` of the schema."""
    chosen, templates, examples = chosen_pairs(circuit, split)
    count = len(examples)
    rows = torch.tensor([*chosen, *(count + pair for pair in chosen)])
    evaluate = circuit.evaluator(examples)
    model = run(circuit.full, examples, rows, None, last_logits(circuit.full, examples))
    inside = run(circuit.runner, examples, rows, evaluate.tap(circuit.kept), evaluate.logits(circuit.kept))
    pairs = []
    for place, template in enumerate(templates):
        sides = [_side(circuit, examples, rows, place + side * len(chosen), model, inside) for side in (0, 1)]
        pairs.append({"template": template, "sides": sides})
    lengths = [int(examples.last[row]) + 1 for row in rows.tolist()]
    return pairs, [_head(circuit, layer, head, model, inside, lengths) for layer, head in head_list(circuit)]


@torch.no_grad()
def run(model: GPT, examples: Examples, rows: Tensor, tap: Tap | RowTap | None, logits: Tensor) -> Side:
    """Run `rows` of the examples once more and keep the sites of nodes; `logits` are those of all rows."""
    width = int(examples.last[rows].max()) + 1
    here = tap.at(rows, width) if isinstance(tap, RowTap) else tap
    recorder = Record(list(node_sites(model.config)))
    model(examples.tokens[rows, :width], tap=compose(here, recorder))
    return Side(logits[rows].float().cpu(), task_losses(logits, examples)[rows].cpu(), recorder.sites)


def _side(circuit: Circuit, examples: Examples, rows: Tensor, place: int, model: Side, inside: Side) -> dict[str, Any]:
    row = int(rows[place])
    length = int(examples.last[row]) + 1
    right, wrong = int(examples.targets[row]), int(examples.others[row])
    return {
        "tokens": examples.tokens[row, :length].tolist(),
        "right": right,
        "wrong": wrong,
        "model": _answer(circuit, model, place, length, right, wrong),
        "circuit": _answer(circuit, inside, place, length, right, wrong),
    }


def _answer(circuit: Circuit, side: Side, place: int, length: int, right: int, wrong: int) -> dict[str, Any]:
    logits = side.logits[place]
    return answer(logits, float(side.losses[place]), right, wrong) | {
        "values": [
            numbers(side.sites[site][place, :length, channel])
            for site, channels in circuit.nodes.items()
            for channel in channels
        ]
    }


def answer(logits: Tensor, loss: float, right: int, wrong: int) -> dict[str, Any]:
    """Loss, logits of the two answers and the most probable tokens, from the logits [V] at one place."""
    probabilities = logits.softmax(0)
    top = probabilities.topk(min(TOP, len(logits))).indices.tolist()
    return {
        "loss": number(loss),
        "right": number(_logit(logits, right, wrong)),
        "wrong": number(_logit(logits, wrong, right)),
        "top": [[token, number(probabilities[token])] for token in top],
    }


def _logit(logits: Tensor, token: int, other: int) -> Tensor:
    """The logit of `token`; of ANY, that of all tokens but the other together."""
    if token != ANY:
        return logits[token]
    rest = logits.clone()
    rest[other] = -torch.inf
    return rest.logsumexp(0)


def _head(circuit: Circuit, layer: int, head: int, model: Side, inside: Side, lengths: Sequence[int]) -> dict[str, Any]:
    config = circuit.model.config
    assert config.d_head is not None
    part = slice(head * config.d_head, (head + 1) * config.d_head)
    held = {name: circuit.held[circuit.space.slices[f"{layer}.attn.{name}"]][part] for name in "qk"}
    sink = circuit.model.blocks[layer].attn.sink_logit
    patterns = []
    count = len(lengths) // 2
    for pair in range(count):
        sides = []
        for row in (pair, count + pair):
            flat = [_flat(pattern(each.sites, layer, part, sink, head, row, lengths[row])) for each in (model, inside)]
            sides.append({"model": flat[0], "circuit": flat[1]})
        patterns.append(sides)
    return {
        "layer": layer,
        "head": head,
        "sink": None if sink is None else number(sink[head].detach()),
        "q_held": numbers(held["q"]),
        "k_held": numbers(held["k"]),
        "patterns": patterns,
    }


def pattern(
    sites: dict[str, Tensor], layer: int, part: slice, sink: Tensor | None, head: int, row: int, length: int
) -> Tensor:
    """Attention weights [T, T] of one head in one recorded row; what is missing to 1 goes to the sink."""
    q, k = (sites[f"{layer}.attn.{name}"][row, :length, part].double() for name in "qk")
    scores = q @ k.T / q.shape[1] ** 0.5
    scores = scores.masked_fill(torch.ones_like(scores).triu(1).bool(), -torch.inf)
    if sink is not None:
        scores = torch.cat([scores, sink[head].detach().double().expand(length, 1)], dim=1)
    return scores.softmax(1)[:, :length].cpu()


def _flat(weights: Tensor) -> list[float | int]:
    """The lower triangle, row by row."""
    return decimals(weights[torch.ones_like(weights).tril().bool()])
