"""Settings of bridge training. Nothing here waits for PyTorch."""

import math
from dataclasses import dataclass, field, fields
from pathlib import Path

from sparse_circuits.config import GPTConfig, TrainConfig
from sparse_circuits.fields import require


@dataclass(frozen=True)
class Terms:
    """What the terms of the loss count (paper, section 6); a term of weight 0 is not computed."""

    ce: float = 1.0
    """Cross-entropy of the sparse model on the text."""
    kl: float = 1.0
    """KL(dense || sparse) between the outputs of the two whole models."""
    encode_nmse: float = 1.0
    """Normalised squared error of the encoded dense stream, summed over sites; it trains the encoders only."""
    decode_nmse: float = 1.0
    """The same of the decoded sparse stream; it trains the decoders and the sparse model before the site."""
    encode_kl: float = 1.0
    """KL(dense || sparse model from the encoded dense stream on), summed over sites."""
    decode_kl: float = 1.0
    """KL(dense || dense model from the decoded sparse stream on), summed over sites."""

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            require(0 <= value < math.inf, f"{item.name} is {value}; a weight must be finite and not negative")
        require(any(getattr(self, item.name) for item in fields(self)), "every term has weight 0: nothing is left")


@dataclass(frozen=True)
class BridgeConfig:
    """Train a sparse model together with the bridges that tie it to a dense one."""

    dense: Path = Path("small-dense")
    """The dense model, which stays as it is: a model folder, the name of a model that ships, or a folder with a
    Hugging Face GPT-2. The sparse model has its depth, vocabulary and tokenizer."""
    start: Path | None = None
    """Begin with the weights of this sparse model, whose shape is then used; fresh ones if not given."""
    train_sparse: bool = True
    """Train the sparse model too; else the bridges alone, to the model in --start."""
    fit_tokens: int = 32_768
    """With --start: tokens on which least squares fit the maps to begin with; 0 begins with random ones."""
    encoder_topk: float | None = 0.25
    """Fraction of the encoded channels that AbsTopK keeps; none keeps all."""
    sites_per_step: int | None = None
    """Residual sites, drawn anew each step, whose hybrid passes are run; all if not given. What they count is scaled
    up to all."""
    terms: Terms = field(default_factory=Terms)
    train: TrainConfig = field(default_factory=lambda: TrainConfig(model=GPTConfig(bigram_table="fixed")))

    def __post_init__(self) -> None:
        topk, chosen = self.encoder_topk, self.sites_per_step
        require(topk is None or 0 < topk <= 1, f"encoder_topk is {topk}; it must be above 0 and at most 1, or none")
        require(self.fit_tokens >= 0, f"fit_tokens is {self.fit_tokens}; it must not be negative")
        require(chosen is None or chosen >= 1, f"sites_per_step is {chosen}; it must be at least 1")
        require(
            self.train_sparse or self.start is not None,
            "train_sparse is off without a trained model to start from; give --start",
        )
