"""Ablation means: what a removed node is held at (paper, section 3).

The mean of each node over all positions of held-out pretraining text, from the identical forward pass (AbsTopK, sink
and all), in float32, with the number of tokens and the standard error. A model folder caches them in
`means.safetensors`, keyed by the model's hash, the text and the number of tokens.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sparse_circuits import checkpoint
from sparse_circuits.circuits.nodes import NodeSpace
from sparse_circuits.corpus.packed import PackedCorpus
from sparse_circuits.errors import InputError
from sparse_circuits.files import read_json
from sparse_circuits.model import GPT
from sparse_circuits.progress import Bar

TOKENS_PER_BATCH = 8192


@dataclass(frozen=True)
class Means:
    """Every node's mean over held-out text."""

    values: Float[Tensor, "nodes"]
    standard_error: Float[Tensor, "nodes"]
    """Standard deviation over positions divided by the root of their number (neighbours are not independent, so the
    true error is somewhat larger)."""
    tokens: int
    """Positions averaged over."""


def node_means(model: GPT, windows: Int64[Tensor, "n T"], progress: bool = False) -> Means:
    """Run the model over `windows` (each a sequence of its own) and average every node over all positions."""
    space = NodeSpace(model.config)
    device = next(model.parameters()).device
    total = torch.zeros(space.total, dtype=torch.float64, device=device)
    squares = torch.zeros_like(total)

    def tap(site: str, activation: Tensor) -> Tensor:
        part = space.slices.get(site)
        if part is not None:
            rows = activation.flatten(0, 1)
            # Batches are small enough to sum in float32 without losing digits that matter; the total is float64.
            total[part] += rows.sum(0)
            squares[part] += rows.square().sum(0)
        return activation

    batches = windows.split(max(1, TOKENS_PER_BATCH // windows.shape[1]))
    with torch.no_grad(), Bar("means", len(batches), progress) as bar:
        for number, batch in enumerate(batches):
            model(batch.to(device), tap=tap)
            bar.update(number + 1)
    count = windows.numel()
    mean = total / count
    variance = (squares / count - mean.square()).clamp(min=0)
    return Means(mean.float().cpu(), (variance / count).sqrt().float().cpu(), count)


def means_for(model: GPT, text: "PackedCorpus | Path | None", max_tokens: int, progress: bool = False) -> Means:
    """The means of `model`, from its folder's cache if they are there.

    Args:
        text: a packed corpus or its folder; None takes the corpus the model was trained on, as its folder says.
        max_tokens: validation tokens to average over, as far as there are so many.

    Raises:
        InputError: no text can be found, or the model has no tokenizer.
    """
    cache = model.folder / "means.safetensors" if model.folder is not None else None
    if text is None:
        text = _training_corpus(model)
    corpus = text if isinstance(text, PackedCorpus) else PackedCorpus.load(text, model.tokenizer)
    windows = torch.from_numpy(corpus.validation_windows(model.config.block_size - 1, max_tokens))
    content = hashlib.sha256(windows.numpy().tobytes()).hexdigest()
    key = f"{checkpoint.model_hash(model)} {content}"
    if cache is not None and cache.exists():
        tensors, metadata = checkpoint.read_tensors(cache)
        if metadata.get("key") == key:
            return Means(tensors["values"], tensors["standard_error"], int(metadata["tokens"]))
    means = node_means(model, windows, progress)
    if cache is not None:
        tensors = {"values": means.values, "standard_error": means.standard_error}
        checkpoint.write_tensors(cache, tensors, {"key": key, "tokens": str(means.tokens)})
    return means


def _training_corpus(model: GPT) -> Path:
    described = model.folder / "train.json" if model.folder is not None else None
    if described is None or not described.exists():
        raise InputError(
            "ablation means need held-out text, and this model does not say what it was trained on; "
            "give a packed corpus (--corpus, or text=)"
        )
    corpus = Path(read_json(described)["config"]["corpus"])
    if not (corpus / "manifest.json").exists():
        raise InputError(
            f"ablation means need held-out text, and the corpus the model was trained on is gone from {corpus}; "
            "give one packed with the same tokenizer (--corpus, or text=)"
        )
    return corpus
