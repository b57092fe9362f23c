"""A circuit of our own as a released circuit file, with all that the published viewer shows.

Measured on the fixed pairs of the report split: the losses of model and circuit, the circuit's without each node, each
site, each sublayer and each edge, and what its nodes are on the prompts. The pieces of text on which a node is low or
high come from the model's training corpus where it is there, else from the prompts.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sparse_circuits import checkpoint
from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.circuits.edge_search import ends
from sparse_circuits.circuits.edges import matrices
from sparse_circuits.circuits.evaluator import Evaluator, Mask
from sparse_circuits.circuits.logits import last_logits
from sparse_circuits.circuits.means import training_corpus
from sparse_circuits.corpus.packed import PackedCorpus
from sparse_circuits.errors import InputError
from sparse_circuits.fields import to_json
from sparse_circuits.formats import viz_data as viz_file
from sparse_circuits.formats.openai_config import to_released
from sparse_circuits.formats.viz_data import FRACTIONS, OWN, Block, Importances, Sample, TaskSamples, VizData
from sparse_circuits.model import GPT
from sparse_circuits.progress import Bar
from sparse_circuits.sites import Record, compose, node_sites
from sparse_circuits.tasks import Examples, task_losses

SAMPLES = 5
"""Pieces of text from each end and fraction; the viewer shows so many."""

WINDOWS = 256
"""Pieces of text they are chosen from."""

PROMPTS = 16
"""Pairs whose activations are kept."""


def viz_data(circuit: Circuit, corpus: PackedCorpus | None = None, progress: bool = False) -> VizData:
    """Everything of `circuit` that a released circuit file holds.

    Args:
        corpus: text for the samples of each node; None takes the model's training corpus, if it is there.

    Raises:
        InputError: the released code cannot compute such a model.
    """
    released = to_released(circuit.model.config)
    examples = circuit.examples("report")
    importances = _importances(circuit, examples, released, progress)
    return VizData(
        nodes={site: circuit.nodes.get(site, ()) for site in node_sites(circuit.model.config)},
        total_nodes=circuit.space.total,
        history=((0.0, importances.circuit_loss),),
        settings={"task": circuit.task.name, "written_by": "sparse-circuits", **to_json(circuit.config)},
        samples=_samples(circuit, _windows(circuit, corpus, examples)),
        importances=importances,
        other={OWN: _own(circuit, _picked(examples))},
    )


def write(circuit: Circuit, out: Path, corpus: PackedCorpus | None = None) -> list[str]:
    """Write `circuit` as a released circuit file: to `out` if that ends in .pt, else to viz_data.pt in it."""
    path = out if out.suffix == ".pt" else out / "viz_data.pt"
    checkpoint.make_folder(path.parent)
    viz_file.write(viz_data(circuit, corpus, progress=True), path)
    notes = ["losses in it are sums over both sides, as the published viewer expects"]
    if circuit.dropped:
        notes.append(
            f"{len(circuit.dropped)} dropped edges have effect and weight 0 in it; what else reads it may use all "
            "weights between the nodes"
        )
    return notes


def _picked(examples: Examples) -> Examples:
    """The pairs whose prompts are recorded."""
    return examples.pick(torch.arange(min(PROMPTS, len(examples)), device=examples.last.device))


def _own(circuit: Circuit, prompts: Examples) -> dict[str, Any]:
    """What a released file has no place for, and an executable circuit needs."""
    pairs = len(prompts)
    described: dict[str, Any] = {
        "model": checkpoint.model_hash(circuit.model),
        "task": {"name": circuit.task.name, "fingerprint": circuit.task.fingerprint},
        "answers": torch.stack([prompts.targets[:pairs], prompts.targets[pairs:]], 1).tolist(),
        "lengths": (prompts.last + 1).tolist(),
        "means": circuit.means.values,
        "standard_error": circuit.means.standard_error,
        "mean_tokens": circuit.means.tokens,
        "dropped": [[*source, *target] for source, target in circuit.dropped],
        "config": to_json(circuit.config),
    }
    if circuit.scores is not None:
        described["scores"] = circuit.scores
    if circuit.calibration is not None:
        described |= {"calibration_scale": circuit.calibration.scale, "shift": circuit.calibration.shift}
    return described


def _importances(circuit: Circuit, examples: Examples, released: dict[str, Any], progress: bool) -> Importances:
    evaluate = circuit.on_its_scale(circuit.evaluator(examples))
    loss = evaluate(circuit.kept)
    groups = {site: _group(circuit, [site]) for site in circuit.space.slices}
    layers = {site.rsplit(".", 1)[0]: "" for site in groups}
    bars = circuit.size + len(circuit.edges)
    with Bar("importances", bars, progress) as bar:
        costs = evaluate.costs(circuit.kept, bar.update)
        effects = _edge_effects(circuit, evaluate, loss, bar)
    picked = _picked(examples)
    return Importances(
        model_loss=float(task_losses(last_logits(circuit.full, examples), examples).mean()),
        circuit_loss=loss,
        node_losses={
            site: tuple(loss + float(costs[circuit.space.slices[site].start + c]) for c in circuit.nodes.get(site, ()))
            for site in groups
        },
        layer_losses={
            name: evaluate(circuit.kept & ~_group(circuit, [site for site in groups if site.startswith(f"{name}.")]))
            for name in layers
        },
        site_losses={site: evaluate(circuit.kept & ~group) for site, group in groups.items()},
        edge_effects=_blocks(circuit, effects),
        connections=_blocks(circuit, {ends(edge): edge.weight for edge in circuit.edges}),
        model_config=released,
        task=_task_samples(circuit, circuit.full, picked, in_circuit=False),
        task_circuit=_task_samples(circuit, circuit.runner, picked, in_circuit=True),
    )


def _group(circuit: Circuit, sites: list[str]) -> Mask:
    """All nodes of `sites`."""
    found = torch.zeros_like(circuit.kept)
    for site in sites:
        found[circuit.space.slices[site]] = True
    return found


def _edge_effects(circuit: Circuit, evaluate: Evaluator, loss: float, bar: Bar) -> dict[Any, float]:
    """By how much the loss rises without each edge."""
    effects = {}
    for number, edge in enumerate(circuit.edges, circuit.size + 1):
        effects[ends(edge)] = evaluate.without([*circuit.dropped, ends(edge)])(circuit.kept) - loss
        bar.update(number)
    return effects


def _blocks(circuit: Circuit, values: Mapping[Any, float]) -> tuple[Block, ...]:
    """Numbers of edges as one matrix for each pair of sites that weights connect."""
    blocks = []
    for source, target, _ in matrices(circuit.model):
        sources, targets = circuit.nodes.get(source, ()), circuit.nodes.get(target, ())
        rows = [[values.get(((source, s), (target, t)), 0.0) for t in targets] for s in sources]
        matrix = torch.tensor(rows, dtype=torch.float32).reshape(len(sources), len(targets))
        blocks.append(Block(matrix, tuple(sources), tuple(targets), (source, target)))
    return tuple(blocks)


def _task_samples(circuit: Circuit, model: GPT, examples: Examples, in_circuit: bool) -> TaskSamples:
    """What the nodes are on `examples`."""
    recorder = Record(list(circuit.space.slices))
    with torch.no_grad():
        model(examples.tokens, tap=compose(circuit.tap() if in_circuit else None, recorder))
    lengths = (examples.last + 1).tolist()
    inside = torch.arange(examples.tokens.shape[1], device=examples.last.device) <= examples.last.unsqueeze(1)
    values = {
        site: {c: recorder.sites[site][..., c].float().cpu().clone() for c in circuit.nodes.get(site, ())}
        for site in circuit.space.slices
    }
    return TaskSamples((examples.tokens * inside).cpu(), tuple(lengths), values)


def _windows(circuit: Circuit, corpus: PackedCorpus | None, examples: Examples) -> Int64[Tensor, "n T"]:
    """Pieces of text of one length."""
    model = circuit.model
    try:
        found = corpus or PackedCorpus.load(training_corpus(model), model.tokenizer)
        size = model.config.block_size
        return torch.from_numpy(found.validation_windows(size - 1, WINDOWS * size))
    except InputError as error:
        warnings.warn(
            f"the samples of nodes come from the task's prompts, not from pretraining text: {error}", stacklevel=4
        )
        return examples.tokens.cpu()


def _samples(
    circuit: Circuit, windows: Int64[Tensor, "n T"]
) -> dict[str, dict[int, dict[float, tuple[list[Sample], list[Sample]]]]]:
    recorder = Record(list(circuit.nodes))
    parts: dict[str, list[Tensor]] = {site: [] for site in circuit.nodes}
    device = next(circuit.model.parameters()).device
    for batch in windows.split(max(1, 8192 // windows.shape[1])):
        with torch.no_grad():
            circuit.full(batch.to(device), tap=recorder)
        for site, kept in circuit.nodes.items():
            parts[site].append(recorder.sites[site][..., list(kept)].float().cpu())
    found: dict[str, dict[int, dict[float, tuple[list[Sample], list[Sample]]]]] = {}
    for site in circuit.space.slices:
        values = torch.cat(parts[site]) if site in parts else torch.empty(0)
        found[site] = {
            channel: _ends(values[..., place], windows) for place, channel in enumerate(circuit.nodes.get(site, ()))
        }
    return found


def _ends(
    values: Float[Tensor, "n T"], windows: Int64[Tensor, "n T"]
) -> dict[float, tuple[list[Sample], list[Sample]]]:
    """Pieces of text from the lowest and the highest part of a node's activations, spread evenly over that part."""
    order = values.flatten().argsort(stable=True)
    found = {}
    for fraction in FRACTIONS:
        part = max(1, int(fraction * len(order)))
        sides = []
        for end in (order[:part], order.flip(0)[:part]):
            places = end[torch.linspace(0, part - 1, min(SAMPLES, part)).long()].tolist()
            rows = [divmod(place, windows.shape[1]) for place in places]
            sides.append([Sample(windows[row].clone(), values[row].clone(), position) for row, position in rows])
        found[fraction] = (sides[0], sides[1])
    return found
