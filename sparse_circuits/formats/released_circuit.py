"""A released circuit file and the model it came from as a `Circuit` that executes.

1. The kept channels become its nodes. Those of the final residual stream, which count as nodes there and not here, are
   recorded, and held in a second measurement.
2. The ablation means, which a file lacks, are taken over a packed corpus of the model's tokenizer, or, without one,
   over the pieces of pretraining text in the file (which were picked for high and low activations, so they are biased).
3. The task is made from the recorded prompts (`recorded_task`).
4. The losses of model, circuit and empty circuit on these prompts are put beside the recorded ones.
"""

import operator
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sparse_circuits.checkpoint import model_hash
from sparse_circuits.circuits.calibration import Calibration
from sparse_circuits.circuits.circuit import Circuit, evaluator
from sparse_circuits.circuits.config import PruneConfig
from sparse_circuits.circuits.logits import last_logits
from sparse_circuits.circuits.means import Means, node_means
from sparse_circuits.circuits.nodes import NodeSpace
from sparse_circuits.corpus.packed import PackedCorpus
from sparse_circuits.errors import InputError
from sparse_circuits.files import atomic_write
from sparse_circuits.formats.openai_config import RELEASED_DEFAULTS, to_released
from sparse_circuits.formats.recorded_task import Recorded, recorded_task, write_pairs
from sparse_circuits.formats.viz_data import OWN, VizData
from sparse_circuits.model import GPT
from sparse_circuits.settings import recorded
from sparse_circuits.sites import FINAL_SITE, Tap, compose
from sparse_circuits.tasks import TASKS, Task, task_losses

FINAL_TOKENS = 100_000
"""Text over which the mean of the final residual stream is taken."""


def save(circuit: Circuit, source: Path, folder: Path) -> None:
    """Write `circuit` to `folder`, with its pairs as a task file and the file `source` that it came from beside it."""
    circuit.save(folder)
    if circuit.task.name not in TASKS:
        write_pairs(circuit.task, folder / f"{circuit.task.name}.jsonl")
    if source.resolve() != (folder / "viz_data.pt").resolve():
        atomic_write(folder / "viz_data.pt", lambda path: shutil.copyfile(source, path))


@dataclass(frozen=True)
class Comparison:
    """Losses in nats, means over both sides of pairs."""

    recorded_model: float | None
    recorded_circuit: float | None
    model: float
    circuit: float
    circuit_and_final: float | None
    """The circuit with the final residual stream cut down as well, as it was when the file was made."""
    empty: float
    answers: str
    text: str
    """What the ablation means were taken over."""
    pairs: int
    """Those in the file, on which all but the recorded losses are measured; those may be of more."""

    def lines(self) -> list[str]:
        """For people."""

        def shown(value: float | None) -> str:
            return "" if value is None else f"{value:.4f}"

        final = self.circuit_and_final if self.circuit_and_final is not None else self.circuit
        return [
            "loss in nats, mean over both sides   recorded     here",
            f"model                              {shown(self.recorded_model):>10}{self.model:>9.4f}",
            f"circuit, as it was measured        {shown(self.recorded_circuit):>10}{final:>9.4f}",
            f"circuit, final residual whole      {'':>10}{self.circuit:>9.4f}",
            f"empty circuit                      {'':>10}{self.empty:>9.4f}",
            f"here: on the {self.pairs} pairs in the file; answers: {self.answers}; means over {self.text}",
        ]


def released_circuit(
    data: VizData,
    model: GPT,
    task_name: str,
    corpus: PackedCorpus | Path | None = None,
    max_tokens: int = 1_000_000,
    progress: bool = False,
) -> tuple[Circuit, Comparison]:
    """The circuit of a released file, executable, and how its losses compare.

    Args:
        data: the file.
        model: the model it was made with.
        task_name: its task; see `recorded_task`.
        corpus: text for the ablation means, packed with the model's tokenizer; None takes that in the file.
        max_tokens: of it.

    Raises:
        InputError: another model's file, no text for the means, no prompts or no answers.
    """
    check_model(data, model)
    if data.importances is None or data.importances.task is None:
        raise InputError("the file holds no task samples, so there is nothing to measure its circuit on")
    own = data.other.get(OWN)
    registered, answers = (None, None) if own is None else _own_task(own)
    recorded = recorded_task(
        data.importances.task, model, task_name, data.importances.model_loss, answers, registered is None
    )
    task = registered or recorded.task
    assert task is not None
    nodes = {site: kept for site, kept in data.nodes.items() if site != FINAL_SITE}
    final, text = None, "what the file says"
    if own is not None:
        circuit = _own(own, model, task, nodes)
    else:
        windows, text = _text(data, model, corpus, max_tokens)
        config = PruneConfig(eval_pairs=len(task.templates["report"]))
        circuit = Circuit(model, task, nodes, node_means(model, windows, progress), config)
        if FINAL_SITE in data.nodes:
            final = _final_mean(model, windows[: max(1, FINAL_TOKENS // windows.shape[1])])
    comparison = _compare(data, circuit, recorded, final, text)
    circuit.found = _found(data, circuit, comparison)
    return circuit, comparison


def check_model(data: VizData, model: GPT) -> None:
    """Refuse a file that was made with another model than `model`, as far as it says."""
    described = {} if data.importances is None else dict(data.importances.model_config)
    if "n_mlp" in described:
        described["d_mlp"] = described.pop("n_mlp")
    own = to_released(model.config)
    for name in RELEASED_DEFAULTS.keys() & described.keys():
        # What the weights decide may be said otherwise, and the name of a site may be left out.
        if name in ("sink", "afrac_loctypes", "ln_bias") or described[name] is None:
            continue
        if described[name] != own[name]:
            raise InputError(
                f"the circuit was made with a model of {name} {described[name]}, the one given has {own[name]}"
            )
    space = NodeSpace(model.config)
    space.flat({site: kept for site, kept in data.nodes.items() if site != FINAL_SITE})
    final = data.nodes.get(FINAL_SITE, ())
    if any(channel >= model.config.d_model for channel in final):
        raise InputError(f"{FINAL_SITE} has channels 0..{model.config.d_model - 1}, not {max(final)}")


def _text(
    data: VizData, model: GPT, corpus: PackedCorpus | Path | None, max_tokens: int
) -> tuple[Int64[Tensor, "n T"], str]:
    """Windows of text to average over, and what they are."""
    size = model.config.block_size
    if corpus is not None:
        packed = PackedCorpus.load(corpus.folder if isinstance(corpus, PackedCorpus) else corpus, model.tokenizer)
        windows = torch.from_numpy(packed.validation_windows(size - 1, max_tokens // size * (size - 1)))
        return windows, f"{windows.numel():,} tokens of {packed.folder}"
    pieces = {
        tuple(sample.tokens.tolist())
        for channels in data.samples.values()
        for fractions in channels.values()
        for sides in fractions.values()
        for side in sides
        for sample in side
    }
    lengths = sorted({len(piece) for piece in pieces})
    if not pieces:
        raise InputError("the file holds no text to take the ablation means over; give a packed corpus with --corpus")
    # Pieces of the commonest length; the released files have one length throughout.
    width = min(max(lengths, key=lambda n: sum(len(piece) == n for piece in pieces)), size)
    rows = sorted(piece[:width] for piece in pieces if len(piece) >= width)
    windows = torch.tensor(rows, dtype=torch.int64)
    if windows.numel() == 0 or int(windows.min()) < 0 or int(windows.max()) >= model.config.vocab_size:
        raise InputError("the text in the file has tokens that the model does not know")
    warnings.warn(
        "the ablation means are taken over the samples in the file, which were picked for high and low activations; "
        "--corpus gives better ones",
        stacklevel=3,
    )
    return windows, f"the {windows.numel():,} tokens of samples in the file"


def _own_task(given: Any) -> tuple[Task | None, list[tuple[int, int]]]:
    """The registered task of a file that this library wrote, if it is one, and the answers to its prompts."""
    try:
        found = TASKS.get(given["task"]["name"])
        registered = found if found is not None and found.fingerprint == given["task"]["fingerprint"] else None
        return registered, [(operator.index(a), operator.index(b)) for a, b in given["answers"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(error) from None


def _own(given: Any, model: GPT, task: Task, nodes: dict[str, tuple[int, ...]]) -> Circuit:
    """The circuit of a file that this library wrote: exactly as it was."""
    try:
        if given["model"] != model_hash(model):
            raise InputError("the circuit belongs to another model than the one given: their hashes differ")
        scale = given.get("calibration_scale")
        return Circuit(
            model,
            task,
            nodes,
            Means(given["means"], given["standard_error"], operator.index(given["mean_tokens"])),
            recorded(given["config"], OWN),
            given.get("scores"),
            None if scale is None else Calibration(float(scale), given["shift"]),
            dropped=[((a, operator.index(b)), (c, operator.index(d))) for a, b, c, d in given["dropped"]],
        )
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(error) from None


def _damaged(error: Exception) -> InputError:
    reason = " ".join(str(error).split())[:100]
    return InputError(f"what this library wrote into the file is damaged: {type(error).__name__} {reason}")


def _compare(
    data: VizData, circuit: Circuit, recorded: Recorded, final: Float[Tensor, "D"] | None, text: str
) -> Comparison:
    """Measure on the recorded prompts; `final` is the mean of the final residual stream, where that is cut down."""
    examples = recorded.examples
    evaluate = evaluator(circuit.full, examples, circuit.means, circuit.config).without(circuit.dropped)
    with_final = None
    if final is not None:
        tap = compose(circuit.tap(), _hold_final(data.nodes[FINAL_SITE], final))
        with_final = float(task_losses(last_logits(circuit.runner, examples, tap), examples).mean())
    importances = data.importances
    return Comparison(
        None if importances is None else importances.model_loss,
        None if importances is None else importances.circuit_loss,
        recorded.model_loss,
        circuit.on_its_scale(evaluate)(circuit.kept),
        with_final,
        evaluate.without([])(torch.zeros_like(circuit.kept)),
        recorded.answers,
        text,
        len(examples),
    )


def _hold_final(kept: tuple[int, ...], mean: Float[Tensor, "D"]) -> Tap:
    """A tap that holds the channels of the final residual stream outside `kept` at their means."""
    mask = torch.zeros(len(mean), dtype=torch.bool)
    mask[list(kept)] = True

    def tap(site: str, activation: Tensor) -> Tensor:
        if site != FINAL_SITE:
            return activation
        return torch.where(mask.to(activation.device), activation, mean.to(activation))

    return tap


def _final_mean(model: GPT, windows: Int64[Tensor, "n T"]) -> Float[Tensor, "D"]:
    device = next(model.parameters()).device
    total = torch.zeros(model.config.d_model, dtype=torch.float64, device=device)

    def tap(site: str, activation: Tensor) -> Tensor:
        if site == FINAL_SITE:
            total.add_(activation.flatten(0, 1).sum(0, dtype=torch.float64))
        return activation

    with torch.no_grad():
        for batch in windows.split(max(1, 8192 // windows.shape[1])):
            model(batch.to(device), tap=tap)
    return (total / windows.numel()).float().cpu()


def _found(data: VizData, circuit: Circuit, comparison: Comparison) -> dict[str, Any]:
    """What goes into `circuit.json`: the recorded numbers by what they are, and the measured ones."""
    found: dict[str, Any] = {
        "losses": {"report": {"model": comparison.model, "circuit": comparison.circuit, "empty": comparison.empty}},
        "means_text": comparison.text,
        "released": {
            "unit": "nats, means over both sides of all pairs",
            "losses": {"model": comparison.recorded_model, "circuit": comparison.recorded_circuit},
            "circuit_and_final_loss": comparison.circuit_and_final,
            "answers": comparison.answers,
            "total_nodes": data.total_nodes,
            "final_resid": list(data.nodes[FINAL_SITE]) if FINAL_SITE in data.nodes else None,
            "history": [list(each) for each in data.history],
            "prune_config": data.settings,
        },
    }
    importances = data.importances
    if importances is not None:
        found["released"]["layer_losses"] = importances.layer_losses
        found["released"]["site_losses"] = importances.site_losses
        costs = _costs(data, circuit)
        if costs is not None:
            found["costs"] = costs
    return found


def _costs(data: VizData, circuit: Circuit) -> dict[str, list[float]] | None:
    """By how much the recorded loss rises without each node, in the circuit's order; None where that is not said."""
    importances = data.importances
    assert importances is not None
    costs = {}
    for site, kept in circuit.nodes.items():
        losses = importances.node_losses.get(site, ())
        if len(losses) != len(kept):
            return None
        given = dict(zip(data.nodes[site], losses, strict=True))
        costs[site] = [given[channel] - importances.circuit_loss for channel in kept]
    return costs
