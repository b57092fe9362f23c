"""Every setting of the library: frozen dataclasses that are at once Python objects, command-line flags and JSON.

They live together, away from the code that obeys them, so that `--help` never waits for PyTorch to import. Each
checks itself when it is made, so a config that exists is one that can run. See `fields` for their way through JSON.
"""

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sparse_circuits.errors import InputError
from sparse_circuits.fields import require, require_choices

ABS_TOPK_SITES = (
    "attn_in",
    "attn_q",
    "attn_k",
    "attn_v",
    "attn_out",
    "mlp_in",
    "mlp_neuron",
    "mlp_out",
    "resid_post_attn",
    "resid_post_mlp",
)
"""Where AbsTopK can act, by the names of the released configs; the last two are on the residual stream."""

DEFAULT_ABS_TOPK_SITES = ABS_TOPK_SITES[:8]

LARGEST_SIZE = 1 << 24
"""A bound on every width and count of a model; beyond it PyTorch fails in its own words."""

Positions = Literal["none", "learned", "learned_concat", "sinusoidal_concat"]


def check_seed(seed: int) -> None:
    """Refuse a seed that random generators do not take."""
    require(0 <= seed < 1 << 32, f"seed is {seed}; it must be from 0 to 2**32 - 1")


@dataclass(frozen=True)
class GPTConfig:
    """The shape of a model (paper, section 2 and appendix A)."""

    vocab_size: int = 2048
    """Number of tokens; `train` takes it from the corpus."""
    block_size: int = 256
    """Most positions the model reads at once."""
    n_layer: int = 4
    """Number of blocks, each an attention and an MLP sublayer."""
    d_model: int = 256
    """Width of the residual stream."""
    n_head: int = 16
    """Attention heads per block."""
    d_head: int | None = None
    """Channels per head; d_model / n_head if not given."""
    d_mlp: int | None = None
    """Neurons per MLP; 4 * d_model if not given."""
    norm: Literal["rms", "layer"] = "rms"
    """RMSNorm keeps the meaning of zero; LayerNorm is for old checkpoints."""
    norm_bias: bool = False
    """A bias in LayerNorm (RMSNorm has none)."""
    bias: bool = True
    """Biases on all linear layers except the unembedding."""
    tied_embeddings: bool = False
    """Share one matrix between embedding and unembedding."""
    positions: Positions = "none"
    """How positions enter: not at all, added to the embedding, or as read-only channels beside the normed input."""
    d_position: int = 0
    """Number of position channels of the two `concat` schemes."""
    bigram_table: Literal["none", "learned", "fixed"] = "learned"
    """A dense vocab x vocab table whose row of the last token is added to the logits."""
    sink: bool = True
    """One learned logit per head in the softmax denominator, a key that is always visible and carries nothing."""
    activation: Literal["gelu", "relu", "gelu_tanh"] = "gelu"
    """The MLP's nonlinearity; gelu_tanh is GPT-2's approximation of gelu, slower here."""
    residual_activation: Literal["none", "relu"] = "none"
    """ReLU on the residual stream after every sublayer."""
    abs_topk: float | None = 0.25
    """Fraction of activations AbsTopK keeps at each of its sites; none turns it off."""
    abs_topk_sites: tuple[str, ...] = DEFAULT_ABS_TOPK_SITES
    """Where AbsTopK acts."""

    def __post_init__(self) -> None:
        require_choices(self)
        for name in ("vocab_size", "block_size", "n_layer", "d_model", "n_head", "d_head", "d_mlp"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"{name} is {value}; it must be at least 1")
            require(value is None or value <= LARGEST_SIZE, f"{name} is {value}; it must be at most {LARGEST_SIZE}")
        require(
            self.d_head is not None or self.d_model % self.n_head == 0,
            f"d_model {self.d_model} is not divisible by n_head {self.n_head}; change one, or give d_head",
        )
        require(
            self.norm == "layer" or not self.norm_bias,
            "norm_bias is on with norm=rms, which has none; turn it off, or choose norm=layer",
        )
        concatenated = self.positions.endswith("_concat")
        require(
            (self.d_position >= 1) == concatenated,
            f"d_position is {self.d_position} with positions={self.positions}; "
            "the concat schemes need at least 1 channel, the others 0",
        )
        require(self.d_position <= LARGEST_SIZE, f"d_position is {self.d_position}; it must be at most {LARGEST_SIZE}")
        if self.abs_topk is not None:
            require(
                0 < self.abs_topk <= 1,
                f"abs_topk is {self.abs_topk}; it must be above 0 and at most 1, or none",
            )
        for site in self.abs_topk_sites:
            if site not in ABS_TOPK_SITES:
                raise InputError(f"unknown AbsTopK site {site!r}; choose among {', '.join(ABS_TOPK_SITES)}")

    @property
    def head_width(self) -> int:
        """Channels per head."""
        return self.d_model // self.n_head if self.d_head is None else self.d_head

    @property
    def heads_width(self) -> int:
        """Channels of q, k, v and y: all heads side by side."""
        return self.n_head * self.head_width

    @property
    def mlp_width(self) -> int:
        """Neurons per MLP."""
        return 4 * self.d_model if self.d_mlp is None else self.d_mlp

    @property
    def read_width(self) -> int:
        """Channels a sublayer reads: the residual stream and any concatenated positions."""
        return self.d_model + self.d_position

    def resolved(self) -> "GPTConfig":
        """The same shape with `d_head` and `d_mlp` as numbers."""
        # Not done in __post_init__, or changing d_model of a config that exists would leave the old widths behind.
        return dataclasses.replace(self, d_head=self.head_width, d_mlp=self.mlp_width)


@dataclass(frozen=True)
class LoopConfig:
    """The optimisation loop that pretraining and mask learning share (paper, section 2.1)."""

    steps: int = 1000
    """Optimiser steps."""
    learning_rate: float = 2e-2
    """Peak learning rate."""
    warmup: float = 0.01
    """Fraction of the steps over which the learning rate rises from zero."""
    beta1: float = 0.9
    """Adam's decay of the mean gradient."""
    beta2: float = 0.95
    """Adam's decay of the mean squared gradient."""
    epsilon: float = 0.1
    """Adam's epsilon; 0.1 suits gradients that are normalised to RMS 1."""
    weight_decay: float = 0.1
    """Decoupled decay, on matrices only; in pruning on the masks."""
    gradient: Literal["normalize", "clip", "none"] = "normalize"
    """Divide all gradients by their common RMS, only do so when it is above 1, or leave them."""
    precision: Literal["bf16", "fp32"] = "bf16"
    """Matrix products in bfloat16 (autocast) or float32; parameters and losses are float32 either way."""
    seed: int = 0
    """Seeds initial weights, or masks, and the order of the data."""

    def __post_init__(self) -> None:
        check_seed(self.seed)
        require_choices(self)
        require(self.steps >= 1, f"steps is {self.steps}; it must be at least 1")
        for name in ("learning_rate", "epsilon"):
            value = getattr(self, name)
            require(0 < value < math.inf, f"{name} is {value}; it must be above 0 and finite")
        require(0 <= self.warmup < 1, f"warmup is {self.warmup}; it is a fraction of the steps, from 0 to below 1")
        for name in ("beta1", "beta2"):
            require(0 <= getattr(self, name) < 1, f"{name} is {getattr(self, name)}; it must be in [0, 1)")
        require(
            0 <= self.weight_decay < math.inf,
            f"weight_decay is {self.weight_decay}; it must be finite and not negative",
        )


@dataclass(frozen=True)
class SparsityConfig:
    """How many weights stay nonzero, and how fast the rest go (paper, section 2.1)."""

    density: float = 1 / 16
    """Final fraction of nonzero entries of every weight matrix; 1 trains a dense model."""
    embedding_density: float | None = None
    """The same for embedding and unembedding; density * d_model / 256 (at most 1) if not given; 1 in
    a dense model."""
    min_nonzeros: int = 4
    """Least nonzeros per MLP neuron, attention channel and head channel; lowered where it does not fit."""
    sparse_biases: bool = False
    """Project biases too, as the paper's text says; by default they stay dense."""
    density_start: float = 0.01
    """Fraction of the steps after which the density starts to fall from 1."""
    density_end: float = 0.5
    """Fraction of the steps at which the final density is reached."""
    density_shape: Literal["linear", "exponential"] = "exponential"
    """How the density falls: by equal ratios, or by equal differences as in the paper."""

    def __post_init__(self) -> None:
        require_choices(self)
        require(0 < self.density <= 1, f"density is {self.density}; it must be above 0 and at most 1 (1 is dense)")
        if self.embedding_density is not None:
            require(
                0 < self.embedding_density <= 1,
                f"embedding_density is {self.embedding_density}; it must be above 0 and at most 1",
            )
        require(self.min_nonzeros >= 0, f"min_nonzeros is {self.min_nonzeros}; it must not be negative")
        require(
            0 <= self.density_start <= self.density_end <= 1,
            f"density_start {self.density_start} and density_end {self.density_end} must satisfy "
            "0 <= start <= end <= 1",
        )


@dataclass(frozen=True)
class TrainConfig:
    """Train a weight-sparse transformer on a packed corpus."""

    corpus: Path = Path("runs/corpus")
    """Folder made by `sparse-circuits corpus`."""
    out: Path = Path("runs/model")
    """Folder for the model; must not hold one already, unless resuming."""
    model: GPTConfig = field(default_factory=GPTConfig)
    sparsity: SparsityConfig = field(default_factory=SparsityConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    batch_size: int = 32
    """Sequences of block_size tokens per step."""
    bigram_start: Literal["counts", "uniform"] = "counts"
    """What the bigram table starts from: log-probabilities counted on the training split, so that the blocks learn only
    what the last token does not tell, or uniform in [0, 0.02] as released."""
    products: Literal["auto", "dense"] = "auto"
    """Multiply by the nonzeros alone once a matrix is sparse enough for that to be faster, or never."""
    dw: Literal["dense", "amortized"] = "dense"
    """The gradient of the weights: dense at every step, or only every `dw_every` steps and for the live entries of
    sparsely multiplied matrices in between. Removed weights can come back at the dense steps only."""
    dw_every: int = 8
    """Steps from one dense weight gradient to the next, when amortized."""
    stop_after: int | None = None
    """Stop after so many steps, whatever is left of the schedules: when a model is as good as another one, say."""
    eval_every: int = 200
    """Steps between validation losses."""
    eval_tokens: int = 65_536
    """Validation tokens per measurement; the last one uses eight times as many."""
    checkpoint_seconds: float = 60.0
    """Seconds between checkpoints to resume from."""

    def __post_init__(self) -> None:
        require_choices(self)
        require(self.batch_size >= 1, f"batch_size is {self.batch_size}; it must be at least 1")
        require(self.dw_every >= 1, f"dw_every is {self.dw_every}; it must be at least 1")
        require(
            self.dw == "dense" or self.products == "auto",
            "dw is amortized with products=dense, but only matrices that are multiplied sparsely have live entries; "
            "choose products=auto, or dw=dense",
        )
        require(
            self.stop_after is None or 1 <= self.stop_after <= self.loop.steps,
            f"stop_after is {self.stop_after}; it must be from 1 to the {self.loop.steps} steps of the schedules",
        )
        arrived = self.sparsity.density == 1 or self.last_step >= self.sparsity.density_end * self.loop.steps
        require(
            arrived,
            f"stop_after is {self.stop_after}, before the density is down to {self.sparsity.density:g} at step "
            f"{math.ceil(self.sparsity.density_end * self.loop.steps)}; stop later, or lower density_end",
        )
        require(self.eval_every >= 1, f"eval_every is {self.eval_every}; it must be at least 1")
        require(self.eval_tokens >= 1, f"eval_tokens is {self.eval_tokens}; it must be at least 1")
        require(
            0 <= self.checkpoint_seconds < math.inf,
            f"checkpoint_seconds is {self.checkpoint_seconds}; it must be finite and not negative",
        )
        require(
            self.model.bigram_table != "fixed" or self.bigram_start == "counts",
            f"bigram_table is fixed with bigram_start={self.bigram_start}; choose bigram_start=counts, or "
            "bigram_table=learned",
        )

    @property
    def last_step(self) -> int:
        """The number of steps that are run."""
        return self.loop.steps if self.stop_after is None else self.stop_after

    @property
    def tokens(self) -> int:
        """Tokens seen in all steps."""
        return self.last_step * self.batch_size * self.model.block_size
