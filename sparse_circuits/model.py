"""The transformer: decoder-only, pre-norm, GPT-2 blocks, with AbsTopK on activations (paper, section 2 and appendix A).

There is one forward pass, and everything that looks at or changes activations goes through its `tap`:
1. embed the tokens (and add positions, where they are added);
2. per block: norm, q/k/v, causal attention, output projection, add; norm, MLP, add; with AbsTopK at the configured
   sites and the tap called after it;
3. final norm, unembedding, the logit bias and the bigram table's row of each token.

Parameter names are those of the released checkpoints without their `transformer.` and `attn_imp.` parts.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from sparse_circuits.activations import (
    Entering,
    Positionwise,
    Prefixed,
    finish,
    joined,
    kept_count,
    normed,
    picked,
    tapped,
)
from sparse_circuits.cache import Cache, LayerCache
from sparse_circuits.config import GPTConfig
from sparse_circuits.errors import InputError
from sparse_circuits.generation import generate
from sparse_circuits.kernels import decode
from sparse_circuits.kernels.attention import attention
from sparse_circuits.kernels.fused import add_rows
from sparse_circuits.linear import Embedding, Holder, Linear
from sparse_circuits.sites import FINAL_SITE, Record, Tap, compose, match_sites
from sparse_circuits.sparsity import abs_topk
from sparse_circuits.tokenizer import Tokenizer


@dataclass
class Run:
    """What `GPT.run` returns."""

    logits: Float[Tensor, "B T V"]
    sites: dict[str, Tensor]
    """Recorded activations [B, T, channels] by site name, as the forward pass used them."""


class GPT(Holder):
    """A weight-sparse (or dense) transformer.

    `tokenizer` is set on models that come with one, `folder` on those loaded from or written to a folder. Where
    `standing_tap` is set, it acts in every forward pass, before the tap that is given (steering a generation, say).
    """

    def __init__(self, config: GPTConfig, seed: int = 0):
        """Make a model with fresh weights: N(0, 0.02), output projections scaled down by sqrt(2 * layers)."""
        super().__init__()
        self.config = config = config.resolved()
        self.tokenizer: Tokenizer | None = None
        self.folder: Path | None = None
        self.standing_tap: Tap | None = None
        self.wte = Embedding(config.vocab_size, config.d_model)
        if config.positions != "none":
            width = config.d_model if config.positions == "learned" else config.d_position
            self.wpe = nn.Embedding(config.block_size, width)
            self.wpe.weight.requires_grad_(config.positions != "sinusoidal_concat")
        self.h = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.ln_f = _norm(config, config.d_model)
        self.lm_head = Linear(config.d_model, config.vocab_size, bias=False)
        if config.tied_embeddings:
            self.lm_head.weight = self.wte.weight
        self.register_buffer("final_logits_bias", torch.zeros(config.vocab_size))
        if config.bigram_table == "learned":
            self.bigram_table = nn.Parameter(torch.zeros(config.vocab_size, config.vocab_size))
        elif config.bigram_table == "fixed":
            self.register_buffer("bigram_table", torch.zeros(config.vocab_size, config.vocab_size))
        if not self.wte.weight.is_meta:  # else its weights are on their way
            self._initialise(seed)

    @property
    def blocks(self) -> "list[Block]":
        """The blocks, first to last."""
        return list(cast("Any", self.h))

    def _initialise(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if name == "bigram_table":
                    parameter.uniform_(0, 0.02, generator=generator)
                elif parameter.ndim == 2:
                    scale = 1 / math.sqrt(2 * self.config.n_layer) if name.endswith("c_proj.weight") else 1.0
                    parameter.normal_(0, 0.02 * scale, generator=generator)
                elif not name.endswith("weight"):
                    parameter.zero_()
            if self.config.positions == "sinusoidal_concat":
                self.wpe.weight.copy_(sinusoids(self.config.block_size, self.config.d_position))

    def forward(
        self,
        tokens: Int64[Tensor, "B T"],
        tap: Tap | None = None,
        at: Int64[Tensor, "B"] | None = None,
        cache: Cache | None = None,
        enter: Mapping[str, Tensor] | None = None,
    ) -> Float[Tensor, "B T V"] | Float[Tensor, "B V"]:
        """Logits of the next token.

        Args:
            tokens: token ids.
            tap: called at every site as `tap(site, activation)`; what it returns is used instead.
            at: one of `tokens` per sequence, by its index; logits are then computed there only and have shape [B, V].
            cache: `tokens` continue what it holds, as if that stood before them; see `Cache`. There are then no
                gradients.
            enter: residual streams [rows, T, d_model] by site (`sites.residual_sites`). So many of the last rows of
                `tokens`, in the order of the sites, do not start at the embedding: they join the pass there with that
                stream, and nothing before it is computed for them. A tap sees the rows that are there by then.

        Raises:
            InputError: wrong shape or dtype, ids outside the vocabulary, more positions than the block size or the
                cache has room for, a cache of another model, `at` outside the positions, a tap that returns no
                tensor of the activation's shape, streams that do not fit, or streams together with a cache.
        """
        self.check(tokens, at)
        at = None if at is None else at.to(tokens.device)
        tap = compose(self.standing_tap, tap)
        if cache is None:
            entering = Entering(enter or {}, tokens, self.config)
            return self._logits(tokens, tap, at, None, slice(tokens.shape[1]), entering)
        if enter:
            raise InputError("rows that enter on the way have no keys and values before it; leave the cache out")
        with torch.no_grad():
            place = cache.begin(tokens, self.config)
            return self._logits(tokens, tap, at, cache, place, Entering({}, tokens, self.config))

    def residual(
        self,
        tokens: Int64[Tensor, "B T"],
        until: str,
        tap: Tap | None = None,
        enter: Mapping[str, Tensor] | None = None,
    ) -> Float[Tensor, "B T D"]:
        """The residual stream at the site `until`, where the pass ends; see `forward` for the rest.

        The tap has had its say there, so that what is returned can `enter` another pass at the same site.
        """
        self.check(tokens)
        entering = Entering(enter or {}, tokens, self.config, until)
        residual = self._stream(tokens, compose(self.standing_tap, tap), None, slice(tokens.shape[1]), entering, until)
        assert residual is not None  # every row starts somewhere before
        return residual

    def _logits(
        self,
        tokens: Tensor,
        tap: Tap | None,
        at: Tensor | None,
        cache: Cache | None,
        place: slice | Tensor,
        entering: Entering,
    ) -> Tensor:
        """The forward pass, of tokens at the positions `place`."""
        if cache is not None and tap is None and at is None:
            logits = decode.logits(self, tokens, cache)
            if logits is not None:
                return logits
        # Of the last block's MLP only the positions that are asked about matter, unless someone looks at the others.
        alone = cache is None and not entering.any and (tap is None or isinstance(tap, Positionwise))
        asked = at if at is not None and alone and not any(decode.hooks(self.blocks[-1], backward=True)) else None
        residual = self._stream(tokens, tap, cache, place, entering, asked=asked)
        assert residual is not None
        if at is not None:
            residual = picked(residual, at) if asked is None else residual
            residual, tokens = residual.squeeze(1), picked(tokens, at).squeeze(1)
        return self.unembed(residual, tokens)

    def unembed(self, residual: Float[Tensor, "*rows D"], tokens: Int64[Tensor, "*rows"]) -> Float[Tensor, "*rows V"]:
        """Logits from the residual stream after the last block, at `tokens`."""
        logits = self.lm_head(normed(self.ln_f, residual))
        if self.config.bigram_table == "none":
            return logits + self.final_logits_bias
        return add_rows(logits, cast(Tensor, self.bigram_table), tokens, cast(Tensor, self.final_logits_bias))

    def _stream(
        self,
        tokens: Tensor,
        tap: Tap | None,
        cache: Cache | None,
        place: slice | Tensor,
        entering: Entering,
        until: str = FINAL_SITE,
        asked: Tensor | None = None,
    ) -> Tensor | None:
        """The residual stream at `until`, from the embedding and from where rows enter; only at `asked` if given."""
        residual, position_channels = None, None
        if entering.own or not len(tokens):
            residual = self.wte(tokens[: entering.own])
            if self.config.positions == "learned":
                residual = residual + self.wpe.weight[place]
        if self.config.positions.endswith("_concat"):
            position_channels = self.wpe.weight[place]
        for layer, block in enumerate(self.blocks):
            parts = entering.layer(layer)
            if residual is None and not parts:
                continue
            layer_tap = None if tap is None else Prefixed(tap, layer)
            end = until.removeprefix(f"{layer}.")
            layer_cache = None if cache is None else cache.layers[layer]
            last = asked if layer == len(self.blocks) - 1 else None
            residual = block(residual, position_channels, layer_tap, layer_cache, parts, end, last)
            if end in ("resid_in", "resid_mid"):
                return residual
        residual = joined(residual, entering.last())
        return residual if tap is None or residual is None else tapped(tap, FINAL_SITE, residual)

    def run(self, tokens: Int64[Tensor, "B T"], record: str | Sequence[str] = (), tap: Tap | None = None) -> Run:
        """Logits together with the activations of the sites that match `record`, e.g. "*.attn.q".

        `tap` acts before recording, so what is recorded is what was used.
        """
        recorder = Record(match_sites(self.config, record) if record else [])
        logits = self(tokens, tap=compose(tap, recorder))
        return Run(logits, recorder.sites)

    def sparsify(self) -> "GPT":
        """A frozen twin with sparse matrices: same logits to rounding, same sites (see `inference.sparsify`)."""
        from sparse_circuits.inference import sparsify

        return sparsify(self)

    generate = generate

    def check(self, tokens: Tensor, at: Tensor | None = None) -> None:
        """Refuse what the forward pass cannot read; InputError as there."""
        if tokens.ndim != 2 or tokens.dtype != torch.int64 or tokens.shape[1] == 0:
            raise InputError(
                f"tokens have shape {tuple(tokens.shape)} and dtype {tokens.dtype}; "
                "expected int64 [batch, positions] with at least one position"
            )
        if tokens.shape[1] > self.config.block_size:
            raise InputError(
                f"{tokens.shape[1]} positions, but the model reads at most {self.config.block_size}; "
                "shorten the text or train with a larger block_size"
            )
        # On a GPU this look would wait for all queued work; its own device assert catches bad ids there.
        if tokens.device.type == "cpu" and len(tokens) and not torch.compiler.is_compiling():
            low, high = map(int, tokens.aminmax())
            if low < 0 or high >= self.config.vocab_size:
                raise InputError(
                    f"token id {low if low < 0 else high} is outside the vocabulary 0..{self.config.vocab_size - 1}"
                )
        if at is not None:
            _check_at(at, tokens)


class Block(Holder):
    """One attention and one MLP sublayer, each reading the normed residual stream and adding to it."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.config = config
        self.ln_1 = _norm(config, config.d_model)
        self.attn = Attention(config)
        self.ln_2 = _norm(config, config.d_model)
        self.mlp = MLP(config)
        if config.d_position:
            self.ln_p1 = _norm(config, config.d_position)
            self.ln_p2 = _norm(config, config.d_position)

    def forward(
        self,
        residual: Tensor | None,
        positions: Tensor | None,
        tap: Prefixed | None,
        cache: LayerCache | None = None,
        enter: Mapping[str, Tensor] | None = None,
        until: str = "",
        asked: Tensor | None = None,
    ) -> Tensor | None:
        """The stream after the block, or at `until` inside it; rows `enter` at its two residual sites.

        With `asked`, one position for each row, nothing else is computed after attention, and the stream is [B, 1, D].
        """
        enter = enter or {}
        for site in ("resid_in", "resid_mid"):
            residual = joined(residual, enter.get(site))
            if residual is None:
                continue
            residual = residual if tap is None else tap(site, residual)
            if until == site:
                return residual
            if site == "resid_in":
                x = self._read(residual, self.ln_1, positions, "ln_p1", "attn", tap)
                delta = self.attn(x, tap, cache, asked)
                if asked is not None:
                    residual = picked(residual, asked)
                    positions = None if positions is None else positions[asked].unsqueeze(1)
                residual = self._add(residual, delta, "resid_post_attn")
            else:
                x = self._read(residual, self.ln_2, positions, "ln_p2", "mlp", tap)
                residual = self._add(residual, self.mlp(x, tap), "resid_post_mlp")
        return residual

    def _read(
        self,
        residual: Tensor,
        norm: nn.Module,
        positions: Tensor | None,
        positions_norm: str,
        sublayer: str,
        tap: Prefixed | None,
    ) -> Tensor:
        """A sublayer's input: the normed stream, with the normed position channels beside it where there are any."""
        place, site = f"{sublayer}_in", f"{sublayer}.act_in"
        channels = None if positions is None else normed(getattr(self, positions_norm), positions)
        if isinstance(norm, nn.RMSNorm):
            return finish(residual, self.config, place, tap, site, norm, channels)
        x = norm(residual)
        if channels is not None:
            x = torch.cat([x, channels.to(x.dtype).expand(*x.shape[:2], -1)], dim=-1)
        return finish(x, self.config, place, tap, site)

    def _add(self, residual: Tensor, delta: Tensor, site: str) -> Tensor:
        residual = residual + delta
        if self.config.residual_activation == "relu":
            residual = F.relu(residual)
        return abs_topk(residual, kept_count(self.config, site, residual.shape[-1]))


class Attention(Holder):
    """Causal attention; q, k and v are numbered over all heads: head = channel // d_head."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.config = config
        self.c_attn = Linear(config.read_width, 3 * config.heads_width, bias=config.bias)
        self.c_proj = Linear(config.heads_width, config.d_model, bias=config.bias)
        self.sink_logit = nn.Parameter(torch.zeros(config.n_head)) if config.sink else None

    def forward(
        self,
        x: Float[Tensor, "B T R"],
        tap: Prefixed | None,
        cache: LayerCache | None = None,
        asked: Int64[Tensor, "B"] | None = None,
    ) -> Float[Tensor, "B rows D"]:
        """What attention writes, at all positions or, [B, 1, D], where `asked`."""
        q, k, v = (
            finish(channels, self.config, f"attn_{name}", tap, f"attn.{name}")
            for name, channels in zip("qkv", self.c_attn(x).chunk(3, dim=-1), strict=True)
        )
        dtype = v.dtype  # the cache's may be wider
        k, v, first = (k, v, asked) if cache is None else cache.extend(k, v)
        q = q if asked is None else picked(q, asked)
        y = attention(q, k, v, self.config.n_head, self.sink_logit, first).to(dtype)
        y = y if tap is None else tap("attn.y", y)
        return finish(self.c_proj(y), self.config, "attn_out", tap, "attn.resid_delta")


class MLP(Holder):
    """One hidden layer of neurons."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.config = config
        self.c_fc = Linear(config.read_width, config.mlp_width, bias=config.bias)
        self.c_proj = Linear(config.mlp_width, config.d_model, bias=config.bias)

    def forward(self, x: Float[Tensor, "B T R"], tap: Prefixed | None) -> Float[Tensor, "B T D"]:
        hidden = finish(self.c_fc(x), self.config, "mlp_neuron", tap, "mlp.post_act", self.config.activation)
        return finish(self.c_proj(hidden), self.config, "mlp_out", tap, "mlp.resid_delta")


def _norm(config: GPTConfig, width: int) -> nn.Module:
    return nn.RMSNorm(width) if config.norm == "rms" else nn.LayerNorm(width, bias=config.norm_bias)


def sinusoids(block_size: int, channels: int) -> Float[Tensor, "T C"]:
    """Sines then cosines of log-spaced periods from 4 to `block_size` positions; an odd last channel is zero."""
    periods = torch.logspace(math.log10(4), math.log10(max(4, block_size)), steps=max(1, channels // 2))
    angles = torch.arange(block_size).unsqueeze(1) * (2 * math.pi / periods)
    waves = torch.cat([angles.sin(), angles.cos()], dim=1)[:, :channels]
    return F.pad(waves, (0, channels - waves.shape[1]))


def _check_at(at: Tensor, tokens: Tensor) -> None:
    rows, positions = tokens.shape
    if at.shape != (rows,) or at.dtype != torch.int64:
        raise InputError(
            f"at has shape {tuple(at.shape)} and dtype {at.dtype}; expected int64 [{rows}], one position a sequence"
        )
    if (
        at.device.type == "cpu"
        and rows
        and not torch.compiler.is_compiling()
        and not 0 <= int(at.min()) <= int(at.max()) < positions
    ):
        raise InputError(f"at holds {at.tolist()}; expected positions 0..{positions - 1}")
