"""A weight-sparse transformer for Hugging Face `transformers`, complete in this one file.

`sparse-circuits export hf` puts it into the folder it writes: `from_pretrained(folder, trust_remote_code=True)` then
needs `torch` and `transformers` (4.5x or 5.x) and nothing else. The model is that of Gao et al., "Weight-sparse
transformers have interpretable circuits" (arXiv 2511.13653, section 2 and appendix A):
1. embed the tokens (and add positions, where they are added);
2. per block: norm, q/k/v, causal attention with an optional sink, output projection, add; norm, MLP, add; AbsTopK at
   the places the config names;
3. final norm, unembedding, a bias, and the row of a bigram table that belongs to each token.

Every activation passes through a module that does nothing, `nn.Identity`, and is called by its site: `model.sites`
maps names such as "3.attn.q" to them. A forward hook there sees the activation the model uses, and what it returns is
used instead. The same modules are reached as `model.h[3].attn.q`.
"""

import dataclasses
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import DynamicCache, GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

BLOCK_SITES = (
    "resid_in",
    "attn.act_in",
    "attn.q",
    "attn.k",
    "attn.v",
    "attn.y",
    "attn.resid_delta",
    "resid_mid",
    "mlp.act_in",
    "mlp.post_act",
    "mlp.resid_delta",
)
"""The sites of one block, in the order the forward pass reaches them; `final_resid` follows the last block."""

CACHE_FIELD = next(
    field.name for field in dataclasses.fields(CausalLMOutputWithPast) if field.name in ("cache", "past_key_values")
)
"""What this version of `transformers` calls the keys and values of earlier tokens."""


class SparseCircuitsConfig(PretrainedConfig):
    """The shape of a model.

    Args:
        vocab_size: number of tokens.
        block_size: most positions the model reads at once.
        n_layer: number of blocks.
        d_model: width of the residual stream.
        n_head: attention heads per block.
        d_head: channels per head; d_model / n_head if not given.
        d_mlp: neurons per MLP; 4 * d_model if not given.
        norm: "rms" or "layer".
        norm_bias: a bias in LayerNorm.
        bias: biases on all linear layers except the unembedding.
        tied_embeddings: one matrix for embedding and unembedding.
        positions: "none", "learned" (added to the embedding), or "learned_concat" and "sinusoidal_concat" (read-only
            channels beside the normed input of each sublayer).
        d_position: number of position channels of the two latter.
        bigram_table: "none", "learned" or "fixed": a vocab x vocab table whose rows are added to the logits.
        sink: one learned logit per head in the softmax denominator.
        activation: "gelu", "gelu_tanh" (GPT-2's approximation of it) or "relu", the MLP's nonlinearity.
        residual_activation: "none" or "relu", after every sublayer.
        abs_topk: the fraction of activations that stay at each of `abs_topk_sites`; None for all.
        abs_topk_sites: where AbsTopK acts.
    """

    model_type = "sparse_circuits"
    keys_to_ignore_at_inference = ["past_key_values", "cache"]  # noqa: RUF012
    attribute_map = {  # noqa: RUF012
        "hidden_size": "d_model",
        "intermediate_size": "d_mlp",
        "num_hidden_layers": "n_layer",
        "num_attention_heads": "n_head",
        "head_dim": "d_head",
        "max_position_embeddings": "block_size",
    }

    def __init__(
        self,
        vocab_size: int = 2048,
        block_size: int = 256,
        n_layer: int = 4,
        d_model: int = 256,
        n_head: int = 16,
        d_head: int | None = None,
        d_mlp: int | None = None,
        norm: str = "rms",
        norm_bias: bool = False,
        bias: bool = True,
        tied_embeddings: bool = False,
        positions: str = "none",
        d_position: int = 0,
        bigram_table: str = "learned",
        sink: bool = True,
        activation: str = "gelu",
        residual_activation: str = "none",
        abs_topk: float | None = 0.25,
        abs_topk_sites: list[str] | tuple[str, ...] = (
            "attn_in",
            "attn_q",
            "attn_k",
            "attn_v",
            "attn_out",
            "mlp_in",
            "mlp_neuron",
            "mlp_out",
        ),
        **kwargs: Any,
    ):
        self.vocab_size = vocab_size
        self.block_size = block_size
        self.n_layer = n_layer
        self.d_model = d_model
        self.n_head = n_head
        self.d_head = d_model // n_head if d_head is None else d_head
        self.d_mlp = 4 * d_model if d_mlp is None else d_mlp
        self.norm = norm
        self.norm_bias = norm_bias
        self.bias = bias
        self.tied_embeddings = tied_embeddings
        self.positions = positions
        self.d_position = d_position
        self.bigram_table = bigram_table
        self.sink = sink
        self.activation = activation
        self.residual_activation = residual_activation
        self.abs_topk = abs_topk
        self.abs_topk_sites = list(abs_topk_sites)
        super().__init__(**{**kwargs, "tie_word_embeddings": tied_embeddings})


def abs_topk(x: Tensor, k: int) -> Tensor:
    """Keep the k entries of each row (last dimension) that are largest in magnitude, the first ones among equals."""
    if k >= x.shape[-1]:
        return x
    magnitude = x.detach().abs()
    threshold = magnitude.topk(k, dim=-1).values[..., -1:]
    kept = ~(magnitude <= threshold)  # so that a NaN stays visible
    equal = magnitude == threshold
    kept |= equal & (equal.cumsum(-1) <= k - kept.sum(-1, keepdim=True))
    return torch.where(kept, x, 0.0)


class Sinusoids(nn.Embedding):
    """A fixed table of sines, then cosines, of log-spaced periods from 4 to all its positions."""

    def refill(self) -> None:
        """Set the values that a checkpoint has, too; an odd last channel is zero."""
        length, channels = self.weight.shape
        periods = torch.logspace(math.log10(4), math.log10(max(4, length)), steps=max(1, channels // 2))
        angles = torch.arange(length).unsqueeze(1) * (2 * math.pi / periods)
        waves = torch.cat([angles.sin(), angles.cos()], dim=1)[:, :channels]
        with torch.no_grad():
            self.weight.copy_(F.pad(waves, (0, channels - waves.shape[1])))


class RMSNorm(nn.RMSNorm):
    """RMSNorm in float32 at least, with that precision's own epsilon."""

    def forward(self, x: Tensor) -> Tensor:
        wide = torch.promote_types(x.dtype, torch.float32)
        return F.rms_norm(x.to(wide), self.normalized_shape, self.weight.to(wide), self.eps).to(x.dtype)


def _norm(config: SparseCircuitsConfig, width: int) -> nn.Module:
    return RMSNorm(width) if config.norm == "rms" else nn.LayerNorm(width, bias=config.norm_bias)


class Output(nn.Linear):
    """A projection into the residual stream; the more layers add to that, the smaller it starts."""

    def __init__(self, config: SparseCircuitsConfig, inputs: int):
        super().__init__(inputs, config.d_model, bias=config.bias)
        self.start = 0.02 / math.sqrt(2 * config.n_layer)


class Part(nn.Module):
    """What holds sites, and keeps a share of their activations."""

    def __init__(self, config: SparseCircuitsConfig):
        super().__init__()
        self.config = config

    def keep(self, x: Tensor, place: str) -> Tensor:
        """x after AbsTopK where the config puts it at `place`."""
        fraction = self.config.abs_topk
        if fraction is None or place not in self.config.abs_topk_sites:
            return x
        return abs_topk(x, max(1, int(fraction * x.shape[-1])))


class Attention(Part):
    """Causal attention; q, k and v are numbered over all heads: head = channel // d_head."""

    def __init__(self, config: SparseCircuitsConfig, layer: int):
        super().__init__(config)
        self.layer = layer
        width = config.n_head * config.d_head
        self.c_attn = nn.Linear(config.d_model + config.d_position, 3 * width, bias=config.bias)
        self.c_proj = Output(config, width)
        self.sink_logit = nn.Parameter(torch.zeros(config.n_head)) if config.sink else None
        self.act_in, self.q, self.k, self.v, self.y, self.resid_delta = (nn.Identity() for _ in range(6))

    def forward(self, x: Tensor, mask: "Mask", cache: Any) -> tuple[Tensor, Tensor]:
        """What the sublayer adds [B, T, D], and the attention weights [B, H, T, S]."""
        q, k, v = (
            site(self.keep(channels, place))
            for site, channels, place in zip(
                (self.q, self.k, self.v),
                self.c_attn(self.act_in(x)).chunk(3, dim=-1),
                ("attn_q", "attn_k", "attn_v"),
                strict=True,
            )
        )
        q, k, v = (each.unflatten(-1, (self.config.n_head, self.config.d_head)).transpose(1, 2) for each in (q, k, v))
        dtype = v.dtype
        if cache is not None:
            k, v = cache.update(k, v, self.layer, {"cache_position": mask.places})
        wide = torch.promote_types(dtype, torch.float32)
        scores = q.to(wide) @ k.to(wide).transpose(2, 3) / math.sqrt(self.config.d_head) + mask.bias(k.shape[2], wide)
        if self.sink_logit is None:
            weights = scores.softmax(-1)
        else:
            sink = self.sink_logit.to(wide)[:, None, None].expand(*scores.shape[:3], 1)
            weights = torch.cat([scores, sink], dim=-1).softmax(-1)[..., :-1]
        y = (weights @ v.to(wide)).transpose(1, 2).flatten(2).to(dtype)
        return self.resid_delta(self.keep(self.c_proj(self.y(y)), "attn_out")), weights.to(dtype)


class MLP(Part):
    """One hidden layer of neurons."""

    def __init__(self, config: SparseCircuitsConfig):
        super().__init__(config)
        self.c_fc = nn.Linear(config.d_model + config.d_position, config.d_mlp, bias=config.bias)
        self.c_proj = Output(config, config.d_mlp)
        self.act_in, self.post_act, self.resid_delta = (nn.Identity() for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.c_fc(self.act_in(x))
        if self.config.activation == "relu":
            hidden = F.relu(hidden)
        else:
            hidden = F.gelu(hidden, approximate="tanh" if self.config.activation == "gelu_tanh" else "none")
        hidden = self.post_act(self.keep(hidden, "mlp_neuron"))
        return self.resid_delta(self.keep(self.c_proj(hidden), "mlp_out"))


class Block(Part):
    """One attention and one MLP sublayer, each reading the normed residual stream and adding to it."""

    def __init__(self, config: SparseCircuitsConfig, layer: int):
        super().__init__(config)
        self.ln_1 = _norm(config, config.d_model)
        self.attn = Attention(config, layer)
        self.ln_2 = _norm(config, config.d_model)
        self.mlp = MLP(config)
        if config.d_position:
            self.ln_p1 = _norm(config, config.d_position)
            self.ln_p2 = _norm(config, config.d_position)
        self.resid_in, self.resid_mid = nn.Identity(), nn.Identity()

    def forward(self, residual: Tensor, positions: Tensor | None, mask: "Mask", cache: Any) -> tuple[Tensor, ...]:
        """The residual stream as the block read it, as it leaves it, and the attention weights."""
        before = self.resid_in(residual)
        channels = None if positions is None else self.ln_p1(positions)
        delta, weights = self.attn(self._read(self.ln_1(before), channels, "attn_in"), mask, cache)
        middle = self.resid_mid(self._add(before, delta, "resid_post_attn"))
        channels = None if positions is None else self.ln_p2(positions)
        delta = self.mlp(self._read(self.ln_2(middle), channels, "mlp_in"))
        return before, self._add(middle, delta, "resid_post_mlp"), weights

    def _read(self, x: Tensor, channels: Tensor | None, place: str) -> Tensor:
        if channels is not None:
            x = torch.cat([x, channels.to(x.dtype).expand(*x.shape[:2], -1)], dim=-1)
        return self.keep(x, place)

    def _add(self, residual: Tensor, delta: Tensor, place: str) -> Tensor:
        residual = residual + delta
        return self.keep(F.relu(residual) if self.config.residual_activation == "relu" else residual, place)


class Mask:
    """Which keys a query sees: those up to its own that are no padding.

    A query that is padding itself sees its own key, so that nothing becomes NaN; nothing else sees that.

    Attributes:
        places: the columns of the queries, counted from the first one in the cache, int64 [T].
    """

    def __init__(self, places: Tensor, given: Tensor | None):
        """`given` is [B, columns], true or one where a token is none of padding; or [B, 1, T, columns], true where a
        query sees a key, or a number to add to the score."""
        self.places, self._given = places, given
        self._bias: Tensor | None = None

    def bias(self, keys: int, dtype: torch.dtype) -> Tensor:
        """What to add to the scores [B, H, T, keys]; the same for every layer."""
        if self._bias is None or self._bias.shape[-1] != keys or self._bias.dtype != dtype:
            self._bias = self._made(keys, dtype)
        return self._bias

    def _made(self, keys: int, dtype: torch.dtype) -> Tensor:
        given, columns = self._given, torch.arange(keys, device=self.places.device)
        if given is not None and given.ndim == 4 and given.is_floating_point():
            return given[..., :keys].to(dtype)
        if given is not None and given.ndim == 4:
            seen = given[..., :keys].bool()
        else:
            seen = (columns <= self.places[:, None])[None]
            if given is not None:
                real = F.pad(given.bool(), (0, max(0, keys - given.shape[1])), value=True)[:, None, :keys]
                seen = seen & real | (columns == self.places[:, None])
            seen = seen[:, None]
        lowest = torch.finfo(dtype).min
        return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, lowest)


class SparseCircuitsForCausalLM(PreTrainedModel, GenerationMixin):
    """The transformer with its unembedding. Parameters are named as in `sparse-circuits` model folders."""

    config_class = SparseCircuitsConfig
    base_model_prefix = ""
    main_input_name = "input_ids"
    _no_split_modules = ["Block"]  # noqa: RUF012
    # What `transformers` before 4.54 wants to be told.
    _supports_cache_class = True
    _supports_static_cache = True
    _tied_weights_keys = {"lm_head.weight": "wte.weight"}  # noqa: RUF012

    def __init__(self, config: SparseCircuitsConfig):
        super().__init__(config)
        self.wte = nn.Embedding(config.vocab_size, config.d_model)
        if config.positions != "none":
            width = config.d_model if config.positions == "learned" else config.d_position
            fixed = config.positions == "sinusoidal_concat"
            self.wpe = (Sinusoids if fixed else nn.Embedding)(config.block_size, width)
            self.wpe.weight.requires_grad_(not fixed)
        self.h = nn.ModuleList(Block(config, layer) for layer in range(config.n_layer))
        self.final_resid = nn.Identity()
        self.ln_f = _norm(config, config.d_model)
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        self.register_buffer("final_logits_bias", torch.zeros(config.vocab_size))
        if config.bigram_table == "learned":
            self.bigram_table = nn.Parameter(torch.zeros(config.vocab_size, config.vocab_size))
        elif config.bigram_table == "fixed":
            self.register_buffer("bigram_table", torch.zeros(config.vocab_size, config.vocab_size))
        self.post_init()

    @property
    def sites(self) -> dict[str, nn.Module]:
        """The module that each activation passes through, by the name of its site, in forward order."""
        names = [f"{layer}.{site}" for layer in range(self.config.n_layer) for site in BLOCK_SITES]
        return {name: self.h.get_submodule(name) for name in names} | {"final_resid": self.final_resid}

    def get_input_embeddings(self) -> nn.Module:
        """The embedding."""
        return self.wte

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        """Replace the embedding."""
        self.wte = value

    def get_output_embeddings(self) -> nn.Module:
        """The unembedding."""
        return self.lm_head

    def set_output_embeddings(self, value: nn.Linear) -> None:
        """Replace the unembedding."""
        self.lm_head = value

    def _init_weights(self, module: nn.Module) -> None:
        """Fresh weights, where a checkpoint has none: N(0, 0.02), less for output projections."""
        if isinstance(module, Sinusoids):
            module.refill()
        elif isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=module.start if isinstance(module, Output) else 0.02)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, (nn.RMSNorm, nn.LayerNorm)):
            nn.init.ones_(module.weight)
            bias = getattr(module, "bias", None)
            if isinstance(bias, Tensor):
                nn.init.zeros_(bias)
        for name, tensor in module.named_parameters(recurse=False):
            if name == "sink_logit":
                nn.init.zeros_(tensor)
            elif name == "bigram_table":
                nn.init.uniform_(tensor, 0, 0.02)
        for _, buffer in module.named_buffers(recurse=False):
            nn.init.zeros_(buffer)

    def prepare_inputs_for_generation(self, input_ids: Tensor, **kwargs: Any) -> dict[str, Any]:
        """The next call's arguments. A row that has filled the block is read anew from its last `block_size` tokens
        for each further one: what a key means depends on all tokens before it, so no cache can leave out the oldest."""
        block = self.config.block_size
        if input_ids.shape[1] <= block:
            return super().prepare_inputs_for_generation(input_ids, **kwargs)
        mask = kwargs.get("attention_mask")
        return {
            "input_ids": input_ids[:, -block:],
            "attention_mask": None if mask is None else mask[:, -block:],
            "use_cache": False,
            **{name: kwargs[name] for name in ("output_attentions", "output_hidden_states") if name in kwargs},
        }

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        past_key_values: Any = None,
        cache: Any = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Any,
    ) -> Any:
        """Logits of the next token.

        Args:
            input_ids: token ids [B, T].
            attention_mask: [B, columns], 0 where a column, of those in the cache and then of `input_ids`, is padding;
                or [B, 1, T, columns], true where a query sees a key, or what to add to its score.
            position_ids: [B, T]; counted without the padding if not given.
            inputs_embeds: [B, T, D], read instead of the embedding's rows; a bigram table needs `input_ids` too.
            past_key_values: keys and values of the tokens before; newer versions of `transformers` say `cache`.
            labels: token ids [B, T], -100 where there is none; the loss is that of predicting each from those before.
            use_cache: return keys and values; by default where the model is not training.
            output_attentions: return each layer's attention weights [B, H, T, keys], the sink's share left out.
            output_hidden_states: return the residual stream before each block, and after the last one's norm.
            logits_to_keep: logits of the last so many positions only (0: all), or of those at these indices.

        Raises:
            ValueError: more positions than the block size; neither token ids nor embeddings; no token ids for a table.
        """
        if input_ids is None and (inputs_embeds is None or self.config.bigram_table != "none"):
            raise ValueError("input_ids are missing; with inputs_embeds the bigram table still needs them")
        residual = self.wte(input_ids) if inputs_embeds is None else inputs_embeds
        cache = past_key_values if cache is None else cache
        use_cache = not self.training if use_cache is None else use_cache
        if use_cache and cache is None:
            cache = DynamicCache()
        places = self._places(residual.shape[1], cache, kwargs.get("cache_position"), attention_mask, residual.device)
        if position_ids is None:
            position_ids = places[None]
            if attention_mask is not None and attention_mask.ndim == 2:
                counted = attention_mask.long().cumsum(-1) - 1
                position_ids = counted.clamp(min=0)[:, -residual.shape[1] :]
        channels = None
        if self.config.positions == "learned":
            residual = residual + self.wpe(position_ids)
        elif self.config.positions != "none":
            channels = self.wpe(position_ids)
        with_weights = _wanted(output_attentions, self.config.output_attentions)
        mask, states, attentions = Mask(places, attention_mask), [], []
        for block in self.h:
            before, residual, weights = block(residual, channels, mask, cache)
            states.append(before)
            attentions += [weights] * with_weights
        states.append(self.ln_f(self.final_resid(residual)))
        logits = self._logits(states[-1], input_ids, logits_to_keep)
        loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.config.vocab_size, **kwargs)
        output = CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            hidden_states=tuple(states) if _wanted(output_hidden_states, self.config.output_hidden_states) else None,
            attentions=tuple(attentions) if with_weights else None,
            **{CACHE_FIELD: cache if use_cache else None},
        )
        return output if _wanted(return_dict, self.config.return_dict) else output.to_tuple()

    def _places(
        self, count: int, cache: Any, given: Tensor | None, mask: Tensor | None, device: torch.device
    ) -> Tensor:
        """The columns of the tokens being read, int64 [T]."""
        if given is not None:
            return given.to(device)
        past = 0 if cache is None else cache.get_seq_length()
        # Padding takes columns, not positions; to count it, a GPU has to be waited for.
        if isinstance(past, int) and past + count > self.config.block_size:
            padded = mask is not None and mask.ndim == 2
            positions = int(mask.sum(-1).max()) if padded else past + count  # type: ignore[union-attr]
            if positions > self.config.block_size:
                raise ValueError(
                    f"{positions} positions, but the model reads at most {self.config.block_size}; shorten the text"
                )
        return torch.arange(count, device=device) + past

    def _logits(self, x: Tensor, input_ids: Tensor | None, logits_to_keep: int | Tensor) -> Tensor:
        """The logits at the positions to keep, from what the last norm made."""
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(x[:, kept]) + self.final_logits_bias
        if self.config.bigram_table == "none" or input_ids is None:
            return logits
        return logits + F.embedding(input_ids[:, kept], self.bigram_table)


def _wanted(asked: bool | None, usual: bool | None) -> bool:
    return bool(usual if asked is None else asked)
