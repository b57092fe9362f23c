"""Random models, questions to them, and choices of nodes and edges, to be evaluated folded."""

from typing import Any

import torch
from hypothesis import strategies as st
from small_models import randomised, small
from torch import Tensor

from sparse_circuits import kernels
from sparse_circuits.circuits import edges
from sparse_circuits.circuits.folded import Folds
from sparse_circuits.circuits.logits import RowTap, last_logits
from sparse_circuits.circuits.nodes import NodeSpace
from sparse_circuits.circuits.twin import Link, without
from sparse_circuits.config import ABS_TOPK_SITES
from sparse_circuits.model import GPT
from sparse_circuits.sites import Tap
from sparse_circuits.tasks import Examples

positions = st.sampled_from(
    [
        {},
        {"positions": "learned"},
        {"positions": "learned_concat", "d_position": 4},
        {"positions": "sinusoidal_concat", "d_position": 5},
    ]
)
choices = st.builds(
    lambda places, **others: {"block_size": 10, **places, **others},
    positions,
    norm=st.sampled_from(["rms", "layer"]),
    bias=st.booleans(),
    sink=st.booleans(),
    n_layer=st.sampled_from([1, 3]),
    d_head=st.sampled_from([None, 5]),
    activation=st.sampled_from(["gelu", "relu"]),
    residual_activation=st.sampled_from(["none", "relu"]),
    bigram_table=st.sampled_from(["none", "learned", "fixed"]),
    tied_embeddings=st.booleans(),
    abs_topk=st.sampled_from([None, 0.3, 0.8]),
    abs_topk_sites=st.sets(st.sampled_from(ABS_TOPK_SITES)).map(lambda sites: tuple(sorted(sites))),
)


def made(choice: dict[str, Any], seed: int, sparse: bool) -> GPT:
    model = randomised(small(**choice), seed, torch.float32)
    if not sparse:
        return model
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if tensor.ndim == 2 and name.startswith(("h.", "lm_head", "wte")):
                tensor *= torch.rand(tensor.shape, generator=generator) < 0.5
    return model.sparsify()


def questions(model: GPT, seed: int) -> Examples:
    """Rows of unequal lengths, two sides of three pairs."""
    config, generator = model.config, torch.Generator().manual_seed(seed)
    tokens = torch.randint(config.vocab_size, (6, config.block_size), generator=generator)
    last = torch.randint(config.block_size, (6,), generator=generator)
    answers = torch.randint(config.vocab_size, (6,), generator=generator)
    return Examples(tokens, last, answers, answers.roll(3), "two_token")


def chosen(model: GPT, seed: int, part: float) -> tuple[Tensor, Tensor, list[Link]]:
    """Some nodes, what the others are held at, and edges to drop: some between kept nodes, some from removed ones."""
    space, generator = NodeSpace(model.config), torch.Generator().manual_seed(seed)
    kept = torch.rand(space.total, generator=generator) < part
    held = torch.randn(space.total, generator=generator)
    everything = space.by_site(torch.ones_like(kept))
    links = [(edge.source, edge.target) for edge in edges.edges(model, everything)]
    picked = torch.rand(len(links), generator=generator) < 0.1
    return kept, held, [link for link, is_cut in zip(links, picked.tolist(), strict=True) if is_cut]


def found_by(tables: Folds, kept: Tensor, dropped: list[Link], examples: Examples) -> Tensor:
    logits = torch.full((len(examples.last), tables.model.config.vocab_size), torch.nan)
    backwards = torch.arange(len(examples.last)).flip(0).split(4)
    for rows, part in tables.batches_of_logits(kept, dropped, examples, backwards):
        logits[rows] = part
    return logits


def assert_as_by_forward_pass(
    tables: Folds, kept: Tensor, dropped: list[Link], examples: Examples, tap: Tap | RowTap
) -> None:
    """Folded, the model gives the logits of its twin without the dropped edges, under the tap."""
    twin = without(tables.model, dropped, tables.held)
    expected = last_logits(twin, examples, tap)
    with kernels.use("reference"):
        plain = last_logits(twin, examples, tap)
    # AbsTopK turns rounding into choices: where two forward passes of the model differ, so may this one.
    if torch.allclose(expected, plain, rtol=1e-4, atol=1e-4):
        torch.testing.assert_close(found_by(tables, kept, dropped, examples), expected, rtol=1e-3, atol=1e-3)
