"""One new position of each row through a whole frozen model, in one compiled call.

Reading a token with a cache is little arithmetic: a sparse model spends nearly all of the time between its operations.
`logits` does what `GPT` does for one token a row and no tap, from the embedding to the logits; the blocks of
`model` are its meaning. What zeros spare: columns of matrices whose input AbsTopK has dropped, and of the keys those
channels that the query has not. For the latter the cache is taken over: its keys then lie channel by channel.

1. `_Plan`: a table of addresses, once for each pair of a model and a cache; it holds while no part is exchanged.
2. `_Plan._take_over`: before the first step, and after the cache was written in another way or its rows copied.
3. `decode_loops.step`: rows in parallel, each on one thread.

Models it does not know (dense, not in float32, with hooks or modules of another kind) go the ordinary way.
"""

import operator
import weakref
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from sparse_circuits import kernels
from sparse_circuits.config import ABS_TOPK_SITES
from sparse_circuits.kernels import decode_table as layout
from sparse_circuits.kernels.jobs import at, job_type, refuses, start
from sparse_circuits.kernels.kept import Loops
from sparse_circuits.kernels.products import SparseMatrix
from sparse_circuits.kernels.sizes import LINE

loops = Loops("decode_loops")
_JOB = job_type(
    "table kept guesses tokens places wte wte_start wte_column wpe bias bigram logits layers d_model d_position heads "
    "d_head mlp vocab capacity room fresh scheme centred gelu relu_stream",
    "epsilon",
)
_SCHEMES = {"none": layout.NO_POSITIONS, "learned": layout.LEARNED}
_VERSION = operator.attrgetter("_version")
_plans: "weakref.WeakKeyDictionary[Any, _Plan]" = weakref.WeakKeyDictionary()


def logits(model: Any, tokens: Int64[Tensor, "B one"], cache: Any) -> Float[Tensor, "B one V"] | None:
    """The logits of a `GPT` after one token in each row, whose keys and values go into the cache; None: not this way.

    To be called between `cache.begin` and `cache.advance`.
    """
    if tokens.shape[1] != 1 or not len(tokens) or cache.longest == 0 or torch.is_autocast_enabled("cpu"):
        return None
    if any(layer.held is None for layer in cache.layers) or kernels.choose(model.ln_f.weight).name != "cpu":
        return None
    plan = _plans.get(cache)
    if plan is None or not plan.holds(model, cache):
        if not _knows(model, cache):
            return None
        plan = _plans[cache] = _Plan(model, cache)
    return plan.step(tokens, cache)


class _Plan:
    """The addresses of a model and a cache, and what steps leave behind."""

    def __init__(self, model: Any, cache: Any):
        config, embedding = model.config, model.wte.matrix
        parts = [] if embedding is None else [embedding.start, embedding.column, embedding.value]
        self._model, self._tensors = model, [*_tensors(model), *parts]
        self._addresses = list(map(Tensor.data_ptr, self._tensors))
        self._places, self._names = zip(*_things(model), strict=True)
        self._things = list(map(dict.get, self._places, self._names))
        self._hooks = hooks(model)
        self._room = -(-cache.capacity // LINE) * LINE
        self._table = np.zeros((config.n_layer + 1, layout.COLUMNS), np.int64)
        self._kept = np.array([kept_at(config, place) for place in ABS_TOPK_SITES])
        self._guesses = np.zeros((0, config.n_layer, layout.PLACES), np.int32)
        self._write_table(model)
        self._job = self._describe(model, cache)
        self._take_over(cache)

    def _write_table(self, model: Any) -> None:
        for line, block in zip(self._table, model.blocks, strict=False):
            norms = [(layout.NORM_1, block.ln_1), (layout.NORM_2, block.ln_2)]
            if model.config.d_position:
                norms += [(layout.NORM_P1, block.ln_p1), (layout.NORM_P2, block.ln_p2)]
            for column, norm in norms:
                line[column : column + 2] = _of_norm(norm)
            attention, mlp = block.attn, block.mlp
            for column, layer in [
                (layout.C_ATTN, attention.c_attn),
                (layout.ATTN_PROJ, attention.c_proj),
                (layout.C_FC, mlp.c_fc),
                (layout.MLP_PROJ, mlp.c_proj),
            ]:
                line[column : column + 5] = _of_matrix(layer)
            line[layout.SINK] = at(attention.sink_logit)
        self._table[-1, layout.NORM_1 : layout.NORM_1 + 2] = _of_norm(model.ln_f)
        self._table[-1, layout.C_ATTN : layout.C_ATTN + 5] = _of_matrix(model.lm_head)

    def _describe(self, model: Any, cache: Any) -> Any:
        """The job, but for what changes from step to step."""
        config, positions, embedding = model.config, model.config.positions, model.wte.matrix
        return _JOB(
            table=self._table.ctypes.data,
            kept=self._kept.ctypes.data,
            wte=at(model.wte.weight if embedding is None else embedding.value),
            wte_start=0 if embedding is None else at(embedding.start),
            wte_column=0 if embedding is None else at(embedding.column),
            wpe=0 if positions == "none" else at(model.wpe.weight),
            bias=at(model.final_logits_bias),
            bigram=0 if config.bigram_table == "none" else at(model.bigram_table),
            vocab=config.vocab_size,
            capacity=cache.capacity,
            room=self._room,
            scheme=_SCHEMES.get(positions, layout.CONCATENATED),
            claim=1,
            **described(model),
        )

    def holds(self, model: Any, cache: Any) -> bool:
        """Whether nothing of the model has been exchanged."""
        return (
            model is self._model
            and not any(self._hooks)
            # Hundreds of looks at every step: `map` takes half the time of a loop.
            and all(map(operator.is_, map(dict.get, self._places, self._names), self._things))
            and list(map(Tensor.data_ptr, self._tensors)) == self._addresses
        )

    def step(self, tokens: Int64[Tensor, "B one"], cache: Any) -> Float[Tensor, "B one V"]:
        """Read one token in each row."""
        job, rows = self._job, len(tokens)
        tokens, places = tokens.contiguous(), cache.lengths
        result = torch.empty(rows, 1, job.vocab)
        job.tokens, job.places, job.logits = at(tokens), at(places), at(result)
        if any(layer.odd is None for layer in cache.layers):
            self._take_over(cache)
        if len(self._guesses) < rows:
            self._guesses = np.zeros((rows, *self._guesses.shape[1:]), np.int32)
            job.guesses = self._guesses.ctypes.data
        job.fresh, job.total = cache.fresh, rows
        start(loops.step, job)
        return result

    def _take_over(self, cache: Any) -> None:
        """Have the keys channel by channel, and note where the cache lies."""
        for line, layer in zip(self._table, cache.layers, strict=False):
            layer.turn(self._room)
            line[layout.KEYS : layout.ODD + 1] = [*map(at, layer.held), at(layer.odd)]


def _knows(model: Any, cache: Any) -> bool:
    """Whether the model's forward pass is the compiled one, as it is now, and the cache is as large as it expects."""
    from sparse_circuits.linear import Linear

    config = model.config
    if not len(cache.layers) == len(model.blocks) == config.n_layer or cache.capacity > config.block_size:
        return False
    keys, values = zip(*(layer.held for layer in cache.layers), strict=True)
    shape = len(cache.lengths), cache.capacity, config.heads_width
    return (
        is_known(model)
        and all(module.is_frozen for module in model.modules() if isinstance(module, Linear))
        and all(tensor.dtype == torch.float32 and refuses(tensor) is None for tensor in [*values, *keys])
        and all(tensor.is_contiguous() for tensor in values)
        and all(held.shape == shape for held in [*keys, *values])
    )


def is_known(model: Any) -> bool:
    """Whether the model computes as its config says and nothing hangs on it, from float32 that compiled code reads."""
    from sparse_circuits.linear import Embedding, Linear
    from sparse_circuits.model import GPT, MLP, Attention, Block

    config = model.config
    norm = nn.RMSNorm if config.norm == "rms" else nn.LayerNorm
    kinds = {GPT, Block, Attention, MLP, Linear, Embedding, norm, nn.Embedding, nn.ModuleList}
    modules, tensors = list(model.modules()), _tensors(model)
    return (
        config.activation in ("gelu", "relu")
        and model.standing_tap is None
        and all(type(module) in kinds and "forward" not in vars(module) for module in modules)
        and all(module.config == config for module in modules if type(module) in (Block, Attention, MLP))
        and len({module.eps for module in modules if type(module) is norm}) == 1
        and all(tensor.dtype == torch.float32 and refuses(tensor) is None for tensor in tensors)
        and all(tensor.is_contiguous() for tensor in tensors)
        and not any(hooks(model))
    )


def _tensors(model: Any) -> list[Tensor]:
    """All parameters and buffers."""
    return [*model.parameters(), *model.buffers()]


def weights(model: Any) -> list[Tensor]:
    """All numbers that a model computes with, those of sparse matrices too."""
    matrices = [vars(module).get("matrix") for module in model.modules()]
    return [*_tensors(model), *(matrix.value for matrix in matrices if matrix is not None)]


class State:
    """A model's parts, where its weights lie and how often they have been written.

    Writes past autograd (into `weight.data`) leave no trace.
    """

    def __init__(self, model: Any):
        self._places, self._names = zip(*_things(model), strict=True)
        self._things = list(map(dict.get, self._places, self._names))
        self._hooks = hooks(model)
        self._weights = weights(model)
        # A parameter may be given other memory; while this is held, no other comes to lie there.
        self._memory = [tensor.detach() for tensor in self._weights]
        self._addresses = list(map(Tensor.data_ptr, self._weights))
        # What was made in inference mode has no count.
        self._counted = [tensor for tensor in self._weights if not tensor.is_inference()]
        self._counts = list(map(_VERSION, self._counted))

    def is_current(self) -> bool:
        """Whether the model is as it was, without a hook."""
        return (
            not any(self._hooks)
            and all(map(operator.is_, map(dict.get, self._places, self._names), self._things))
            and list(map(Tensor.data_ptr, self._weights)) == self._addresses
            and list(map(_VERSION, self._counted)) == self._counts
        )


def _things(model: Any) -> list[tuple[dict[str, Any], str]]:
    """Where a model's parts hang, and what changes how a module computes."""
    found: list[tuple[dict[str, Any], str]] = [(vars(model), "config")]
    for module in model.modules():
        for place in (module._parameters, module._buffers, module._modules):
            found += [(place, name) for name in place]
        found += [(vars(module), name) for name in ("matrix", "config", "eps") if name in vars(module)]
        found.append((vars(module), "forward"))
    return found


def hooks(model: Any, backward: bool = False) -> list[Any]:
    """What of a model, or a part of one, may hold functions that the ordinary way calls, there and, if asked, back."""
    everywhere = nn.modules.module
    kinds = ["forward_hooks", "forward_pre_hooks"] + ["backward_hooks", "backward_pre_hooks"] * backward
    found: list[Any] = [getattr(everywhere, f"_global_{kind}") for kind in kinds]
    return found + [getattr(module, f"_{kind}") for module in model.modules() for kind in kinds]


def described(model: Any) -> dict[str, Any]:
    """What jobs of compiled passes say about a model: its sizes, its norm and its nonlinearities."""
    config, epsilon = model.config, model.ln_f.eps
    return {
        "layers": config.n_layer,
        "d_model": config.d_model,
        "d_position": config.d_position,
        "heads": config.n_head,
        "d_head": config.head_width,
        "mlp": config.mlp_width,
        "centred": config.norm == "layer",
        "gelu": config.activation == "gelu",
        "relu_stream": config.residual_activation == "relu",
        "epsilon": torch.finfo(torch.float32).eps if epsilon is None else epsilon,
    }


def kept_at(config: Any, place: str) -> int:
    """How many entries AbsTopK keeps at a place."""
    from sparse_circuits.activations import kept_count

    heads, mlp = config.heads_width, config.mlp_width
    widths = {"attn_in": config.read_width, "mlp_in": config.read_width, "mlp_neuron": mlp}
    of_heads = ("attn_q", "attn_k", "attn_v")
    return kept_count(config, place, heads if place in of_heads else widths.get(place, config.d_model))


def _of_norm(norm: Any) -> list[int]:
    return [at(norm.weight), at(getattr(norm, "bias", None))]


def _of_matrix(layer: Any) -> list[int]:
    matrix: SparseMatrix = layer.matrix.transposed()
    return [at(matrix.start), at(matrix.column), at(matrix.value), int(matrix.finite), at(layer.bias)]
