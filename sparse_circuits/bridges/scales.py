"""How large the residual streams of both models are on held-out text: what steering is rescaled by."""

import torch
from torch import Tensor, nn

from sparse_circuits.bridges.bridge import Bridge, Scales
from sparse_circuits.bridges.passes import own_streams
from sparse_circuits.corpus.packed import PackedCorpus
from sparse_circuits.model import GPT

POSITIONS_PER_BATCH = 4096


@torch.no_grad()
def measure_scales(bridge: Bridge, corpus: PackedCorpus, max_tokens: int) -> Scales:
    """The root mean square of each stream at each site, over all channels and positions of validation text.

    What a layer norm subtracts before it divides is left out of its model's.
    """
    size = bridge.sparse.config.block_size
    windows = torch.from_numpy(corpus.validation_windows(size, max_tokens))[:, :-1]
    device = next(bridge.maps.parameters()).device
    squares = {which: torch.zeros(len(bridge.sites), dtype=torch.float64) for which in ("dense", "sparse")}
    for batch in windows.split(max(1, POSITIONS_PER_BATCH // size)):
        for which, model in (("dense", bridge.dense), ("sparse", bridge.sparse)):
            stream = own_streams(model, batch.to(device), bridge.sites)
            sums = [centred(model, stream[site]).double().square().sum() for site in bridge.sites]
            squares[which] += torch.stack(sums).cpu()
    tokens = windows.numel()
    means = (squares[name] / (tokens * model.config.d_model) for name, model in _models(bridge))
    dense, sparse = (mean.sqrt().float() for mean in means)
    return Scales(dense, sparse, tokens)


def centred(model: GPT, residual: Tensor) -> Tensor:
    """The stream as the model's norms divide it: without its mean over channels where they take that away."""
    return residual - residual.mean(-1, keepdim=True) if isinstance(model.ln_f, nn.LayerNorm) else residual


def _models(bridge: Bridge) -> list[tuple[str, GPT]]:
    return [("dense", bridge.dense), ("sparse", bridge.sparse)]
