"""Ablation means: what a removed node is held at (paper, section 3).

The mean of each node over all positions of held-out pretraining text, from the identical forward pass (AbsTopK, sink
and all), in float32, with the number of tokens and the standard error. A model folder caches them in
`means.safetensors`, keyed by the model's hash, the text and the number of tokens; a model that ships brings its own, so
that its corpus is not needed.
"""

import contextlib
import hashlib
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sparse_circuits import checkpoint, shipped
from sparse_circuits.circuits.nodes import NodeSpace
from sparse_circuits.corpus.packed import PackedCorpus
from sparse_circuits.errors import InputError
from sparse_circuits.files import read_json
from sparse_circuits.model import GPT
from sparse_circuits.progress import Bar

FILE = "means.safetensors"
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
    # Deviations from the first token's values: small where a node hardly varies, so that their squares keep its spread.
    start = torch.zeros(space.total, dtype=torch.float32, device=device)
    total = torch.zeros(space.total, dtype=torch.float64, device=device)
    squares = torch.zeros_like(total)
    seen = set[str]()

    def tap(site: str, activation: Tensor) -> Tensor:
        part = space.slices.get(site)
        if part is not None:
            if site not in seen:
                seen.add(site)
                start[part] = activation[0, 0]
            # Batches are small enough to sum in float32 without losing digits that matter; the total is float64.
            deviations = activation.flatten(0, 1).float() - start[part]
            total[part] += deviations.sum(0)
            squares[part] += deviations.square().sum(0)
        return activation

    batches = windows.split(max(1, TOKENS_PER_BATCH // windows.shape[1]))
    with torch.no_grad(), Bar("means", len(batches), progress) as bar:
        for number, batch in enumerate(batches):
            model(batch.to(device), tap=tap)
            bar.update(number + 1)
    count = windows.numel()
    mean = total / count
    variance = (squares / count - mean.square()).clamp(min=0)
    return Means((start + mean).float().cpu(), (variance / count).sqrt().float().cpu(), count)


def means_for(model: GPT, text: "PackedCorpus | Path | None", max_tokens: int, progress: bool = False) -> Means:
    """The means of `model`, from its folder's cache if they are there.

    Args:
        text: a packed corpus or its folder; None takes the corpus the model was trained on, as its folder says, or
            the means a shipped model brings, whatever the number of tokens.
        max_tokens: validation tokens to average over, as far as there are so many; at least one window.

    Raises:
        InputError: no text can be found, or it was packed with another tokenizer than the model's.
    """
    cache = shipped.writable(model.folder) / FILE if model.folder is not None else None
    if text is None:
        if model.folder is not None and shipped.name_of(model.folder) is not None:
            found = read_means(model.folder / FILE, checkpoint.model_hash(model))
            if found is not None:
                return found
        text = training_corpus(model)
    corpus = PackedCorpus.load(text.folder if isinstance(text, PackedCorpus) else text, model.tokenizer)
    size = model.config.block_size
    # A window of size tokens makes size - 1 predictions, and it is those that `validation_windows` counts.
    windows = torch.from_numpy(corpus.validation_windows(size - 1, max_tokens // size * (size - 1)))
    content = hashlib.sha256(windows.numpy().tobytes()).hexdigest()
    key = f"{checkpoint.model_hash(model)} {content}"
    found = read_means(cache, key)
    if found is not None:
        return found
    means = node_means(model, windows, progress)
    if cache is not None:
        try:
            checkpoint.make_folder(cache.parent)
            write_means(cache, means, key)
        except InputError as error:  # a shared model folder may be read-only
            warnings.warn(f"the means are not kept: {error}", stacklevel=2)
    return means


def write_means(path: Path, means: Means, key: str) -> None:
    """Write `means` to the file `path`; `key` starts with the hash of their model."""
    tensors = {"values": means.values, "standard_error": means.standard_error}
    checkpoint.write_tensors(path, tensors, {"key": key, "tokens": str(means.tokens)})


def read_means(path: Path | None, key: str) -> Means | None:
    """The means in the file `path`, if their key starts with the words `key`; a damaged file answers no question."""
    if path is None or not path.exists():
        return None
    with contextlib.suppress(InputError, KeyError, ValueError):
        tensors, metadata = checkpoint.read_tensors(path)
        # Whole words: 1000 tokens are not the first of 10000.
        if f"{metadata['key']} ".startswith(f"{key} "):
            return Means(tensors["values"], tensors["standard_error"], int(metadata["tokens"]))
    return None


def training_corpus(model: GPT, need: str = "ablation means need") -> Path:
    """The folder of the packed corpus that `model` was trained on, as its own folder says.

    Args:
        need: how the message begins where there is none.

    Raises:
        InputError: the folder does not say, or the corpus is gone.
    """
    described = model.folder / "train.json" if model.folder is not None else None
    if described is None or not described.exists():
        raise InputError(
            f"{need} held-out text, and this model does not say what it was trained on; "
            "give a packed corpus (--corpus, or text=)"
        )
    try:
        corpus = Path(read_json(described)["config"]["corpus"])
    except (KeyError, TypeError) as error:
        raise InputError(f"{described} does not say which corpus; give a packed one (--corpus, or text=)") from error
    if not (corpus / "manifest.json").exists():
        raise InputError(
            f"{need} held-out text, and the corpus the model was trained on is not in {corpus}; {_how(model)}"
        )
    # A shipped model was trained elsewhere, in a folder of a name that many have.
    other = read_json(corpus / "manifest.json")
    if model.tokenizer is not None and other.get("tokenizer_hash") != model.tokenizer.hash:
        raise InputError(f"{need} held-out text, and {corpus} is packed with another tokenizer; {_how(model)}")
    return corpus


def _how(model: GPT) -> str:
    """What to do for a corpus that `model` can read."""
    assert model.folder is not None
    return (
        "give one packed with the model's tokenizer (--corpus, or text=), as `sparse-circuits corpus --installed "
        f"--tokenizer {shipped.name_of(model.folder) or model.folder} --out FOLDER` packs it"
    )
