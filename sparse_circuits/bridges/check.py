"""How good a bridge is, on held-out text (paper, section 6).

1. Both models: their losses, and how alike they fail (correlation of the losses of single tokens).
2. Each site: the error of the maps both ways, and the loss of both hybrid passes that switch there; beside each the
   loss from there on with the stream at its mean, which tells nothing of the text but the last token (the floor).
3. Passes that switch several times at random (dense, sparse, dense, ...), which training only approximates.

The bigram model, counted on the training text, is the other floor: both models have its table or learn it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from sparse_circuits.bridges.bridge import Bridge
from sparse_circuits.bridges.passes import FLAT_SPREAD, Passes, own_streams, run_passes
from sparse_circuits.circuits.intervals import Measured, mean_interval
from sparse_circuits.corpus.bigram import LARGEST_VOCABULARY, bigram_loss
from sparse_circuits.corpus.packed import PackedCorpus
from sparse_circuits.fields import require
from sparse_circuits.model import GPT
from sparse_circuits.progress import Bar

POSITIONS_PER_BATCH = 1024
"""Hybrid passes make many rows of it."""
Which = Literal["dense", "sparse"]


@dataclass(frozen=True)
class SiteCheck:
    """One residual site. Losses are of the next token, in nats."""

    site: str
    encode_nmse: float
    """Squared error of the encoded dense stream over the sparse stream's squared deviation from its mean."""
    decode_nmse: float
    """The same of the decoded sparse stream."""
    into_sparse: Measured
    """Loss of the pass that is dense before the site and sparse after it."""
    into_sparse_floor: float
    """Loss of the sparse model with its stream at its mean at this site."""
    into_dense: Measured
    """Loss of the pass that is sparse before the site and dense after it."""
    into_dense_floor: float


@dataclass(frozen=True)
class Switched:
    """One pass that switches several times."""

    first: Which
    """The model it begins in."""
    sites: list[str]
    """Where it changes over."""
    loss: float


@dataclass(frozen=True)
class Checked:
    """What `check` found."""

    tokens: int
    dense: Measured
    sparse: Measured
    bigram: float | None
    """Of a bigram model of the training text; None where the vocabulary is too large to count all pairs."""
    correlation: float
    """Of both models' losses on the same tokens."""
    sites: list[SiteCheck]
    switched: list[Switched]

    @property
    def worst(self) -> float:
        """The largest loss of a hybrid pass that switches once, above the dense model's."""
        return max(max(s.into_sparse.value, s.into_dense.value) for s in self.sites) - self.dense.value


@torch.no_grad()
def check(
    bridge: Bridge,
    corpus: PackedCorpus,
    max_tokens: int = 65_536,
    switches: int = 8,
    seed: int = 0,
    progress: bool = False,
) -> Checked:
    """Measure `bridge` on the validation text of `corpus`.

    Args:
        max_tokens: tokens to predict, as far as there are so many; at least one window.
        switches: random passes that switch several times.
        seed: of these.

    Raises:
        InputError: a corpus too small, or fewer than no switches.
    """
    require(switches >= 0, f"{switches} random passes asked for; it must not be negative")
    size = bridge.sparse.config.block_size
    windows = torch.from_numpy(corpus.validation_windows(size, max_tokens))
    windows = windows.to(next(bridge.maps.parameters()).device)
    batches = windows.split(max(1, POSITIONS_PER_BATCH // size))
    plans = random_switches(bridge.sites, switches, seed)
    with Bar("check", 2 * len(batches), progress) as bar:
        spread = _Spread(bridge)
        for number, batch in enumerate(batches):
            spread.add(batch[:, :-1])
            bar.update(number + 1)
        tally = _Tally(bridge, spread, plans)
        for number, batch in enumerate(batches):
            tally.add(batch)
            bar.update(len(batches) + number + 1)
    bigram = None
    if bridge.sparse.config.vocab_size <= LARGEST_VOCABULARY:
        text = corpus.validation[: windows.shape[0] * size + 1]
        bigram = bigram_loss(corpus.train, text, corpus.tokenizer.vocab_size)
    return tally.result(bigram)


def random_switches(sites: Sequence[str], count: int, seed: int) -> list[tuple[Which, list[str]]]:
    """`count` ways to begin in either model and change over at two sites or more (at one, where there is one only)."""
    generator = torch.Generator().manual_seed(seed)

    def below(n: int) -> int:
        return int(torch.randint(n, (), generator=generator))

    plans: list[tuple[Which, list[str]]] = []
    for _ in range(count):
        times = min(len(sites), 2 + below(max(1, len(sites) - 1)))
        chosen = sorted(torch.randperm(len(sites), generator=generator)[:times].tolist())
        plans.append((("dense", "sparse")[below(2)], [sites[number] for number in chosen]))
    return plans


def switched_logits(
    bridge: Bridge, tokens: Int64[Tensor, "B T"], first: Which, sites: Sequence[str]
) -> Float[Tensor, "B T V"]:
    """The logits of a pass that begins in one model and changes over to the other at each of `sites`, in order."""
    enter: dict[str, Tensor] = {}
    dense = first == "dense"
    for site in sites:
        stream = (bridge.dense if dense else bridge.sparse).residual(tokens, site, enter=enter)
        enter = {site: bridge.encode(site, stream) if dense else bridge.decode(site, stream)}
        dense = not dense
    return (bridge.dense if dense else bridge.sparse)(tokens, enter=enter)


def token_losses(logits: Float[Tensor, "B T V"], targets: Int64[Tensor, "B T"]) -> Float[Tensor, "B T"]:
    """The loss of each token in nats."""
    return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="none").view(targets.shape)


class _Spread:
    """Mean and squared deviation of both streams at each site."""

    def __init__(self, bridge: Bridge):
        self._bridge = bridge
        self._sums: dict[tuple[str, str], tuple[Tensor, Tensor]] = {}
        self._count = 0

    def add(self, tokens: Tensor) -> None:
        self._count += tokens.numel()
        for which, model in (("dense", self._bridge.dense), ("sparse", self._bridge.sparse)):
            for site, x in own_streams(model, tokens, self._bridge.sites).items():
                x = x.double().flatten(0, 1)
                zero = x.new_zeros(x.shape[1])
                total, squares = self._sums.get((which, site), (zero, zero))
                self._sums[which, site] = total + x.sum(0), squares + x.square().sum(0)

    def mean(self, which: str, site: str) -> Tensor:
        return (self._sums[which, site][0] / self._count).float()

    def deviation(self, which: str, site: str) -> float:
        """The sum of squares around the mean, over channels and positions; little where there is none."""
        total, squares = self._sums[which, site]
        around = float((squares - total.square() / self._count).sum())
        return max(around, FLAT_SPREAD * float(squares.sum()), torch.finfo(torch.float32).tiny)


class _Tally:
    """Adds up what each batch of windows gives."""

    def __init__(self, bridge: Bridge, spread: _Spread, plans: list[tuple[Which, list[str]]]):
        self._bridge, self._spread, self._plans = bridge, spread, plans
        self._losses: dict[str, list[Tensor]] = {}
        self._errors: dict[tuple[str, str], float] = {}

    def add(self, windows: Int64[Tensor, "n T1"]) -> None:
        bridge, tokens, targets = self._bridge, windows[:, :-1], windows[:, 1:]
        passes = run_passes(bridge, tokens, bridge.sites, bridge.sites)
        self._add_errors(passes)
        found = {"dense": passes.dense, "sparse": passes.sparse}
        found |= {f"into_sparse/{site}": x for site, x in passes.into_sparse.items()}
        found |= {f"into_dense/{site}": x for site, x in passes.into_dense.items()}
        for name, logits in found.items():
            self._note(name, token_losses(logits, targets))
        for which, model in (("dense", bridge.dense), ("sparse", bridge.sparse)):
            for site in bridge.sites:
                self._note(f"{which}_floor/{site}", token_losses(self._floor(model, which, site, tokens), targets))
        for number, (first, sites) in enumerate(self._plans):
            self._note(f"switched/{number}", token_losses(switched_logits(bridge, tokens, first, sites), targets))

    def _note(self, name: str, losses: Tensor) -> None:
        self._losses.setdefault(name, []).append(losses.cpu())

    def _add_errors(self, passes: Passes) -> None:
        both = (("encode", passes.encoded, passes.sparse_stream), ("decode", passes.decoded, passes.dense_stream))
        for name, guesses, targets in both:
            for site, guess in guesses.items():
                error = float((guess.double() - targets[site].double()).square().sum())
                self._errors[name, site] = self._errors.get((name, site), 0.0) + error

    def _floor(self, model: GPT, which: str, site: str, tokens: Tensor) -> Tensor:
        mean = self._spread.mean(which, site).expand(*tokens.shape, -1)
        return model(tokens, enter={site: mean})

    def result(self, bigram: float | None) -> Checked:
        """All of it, averaged."""
        losses = {name: torch.cat(parts) for name, parts in self._losses.items()}

        def measured(name: str) -> Measured:
            return mean_interval(losses[name].mean(1))

        def mean(name: str) -> float:
            return float(losses[name].double().mean())

        sites = [
            SiteCheck(
                site,
                self._errors["encode", site] / self._spread.deviation("sparse", site),
                self._errors["decode", site] / self._spread.deviation("dense", site),
                measured(f"into_sparse/{site}"),
                mean(f"sparse_floor/{site}"),
                measured(f"into_dense/{site}"),
                mean(f"dense_floor/{site}"),
            )
            for site in self._bridge.sites
        ]
        switched = [
            Switched(first, chosen, mean(f"switched/{number}")) for number, (first, chosen) in enumerate(self._plans)
        ]
        both = torch.stack([losses["dense"].flatten(), losses["sparse"].flatten()]).double()
        correlation = float(torch.corrcoef(both)[0, 1]) if both.shape[1] > 1 else math.nan
        return Checked(
            losses["dense"].numel(), measured("dense"), measured("sparse"), bigram, correlation, sites, switched
        )
