"""Every term of the loss has its value, trains what it should, and can be driven down alone."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_bridges import LETTERS, identity, model, tokens, unlike
from torch import Tensor
from torch.nn import functional as F

from sparse_circuits.bridges.bridge import Bridge
from sparse_circuits.bridges.config import BridgeConfig, Terms
from sparse_circuits.bridges.passes import Teacher, loss_terms, nmse, run_passes
from sparse_circuits.bridges.train import Bridging, pass_counts
from sparse_circuits.config import LoopConfig, SparsityConfig, TrainConfig
from sparse_circuits.corpus.packed import PackedCorpus
from sparse_circuits.loop import Loop
from sparse_circuits.sites import residual_sites

NAMES = ("ce", "kl", "encode_nmse", "decode_nmse", "encode_kl", "decode_kl")


def only(*names: str) -> Terms:
    return Terms(**{name: float(name in names) for name in NAMES})


def losses(bridge: Bridge, terms: Terms | None = None, batch: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor]]:
    batch = tokens() if batch is None else batch
    passes = run_passes(bridge, batch[:, :-1], bridge.sites, bridge.sites)
    return loss_terms(passes, batch[:, 1:], terms or Terms())


def test_where_the_sparse_model_is_the_dense_one_only_the_cross_entropy_is_left() -> None:
    bridge = identity(model())
    batch = tokens()
    total, found = losses(bridge, batch=batch)
    expected = F.cross_entropy(bridge.dense(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())
    assert len(found) == 2 + 4 * 5
    for name, value in found.items():
        wanted = expected if name == "ce" else torch.tensor(0.0)
        torch.testing.assert_close(value, wanted.detach(), atol=1e-5, rtol=1e-5, msg=name)
    torch.testing.assert_close(total, expected)


@torch.no_grad()
def test_each_term_is_what_the_paper_says() -> None:
    """Against whole passes with the stream exchanged, plain KL, and squares by hand."""
    bridge, batch = unlike(), tokens()
    inputs = batch[:, :-1]
    _, found = losses(bridge, batch=batch)
    dense, sparse = bridge.dense, bridge.sparse
    p = dense(inputs).flatten(0, 1).log_softmax(-1)

    def divergence(logits: Tensor) -> float:
        q = logits.flatten(0, 1).log_softmax(-1)
        return float(F.kl_div(q, p, log_target=True, reduction="batchmean"))

    def swapped(into: Any, site: str, stream: Tensor) -> Tensor:
        return into(inputs, tap=lambda name, x: stream if name == site else x)

    assert math.isclose(float(found["kl"]), divergence(sparse(inputs)), rel_tol=1e-4)
    for site in bridge.sites:
        h_d = dense.run(inputs, record=site).sites[site]
        h_s = sparse.run(inputs, record=site).sites[site]
        f, g = bridge.encode(site, h_d), bridge.decode(site, h_s)
        assert int((f != 0).sum(-1).max()) <= 6  # AbsTopK keeps half of twelve
        assert math.isclose(float(found[f"encode_kl/{site}"]), divergence(swapped(sparse, site, f)), rel_tol=1e-4)
        assert math.isclose(float(found[f"decode_kl/{site}"]), divergence(swapped(dense, site, g)), rel_tol=1e-4)
        for name, guess, target in (("encode", f, h_s), ("decode", g, h_d)):
            flat = target.flatten(0, 1)
            expected = (guess - target).square().sum() / (flat - flat.mean(0)).square().sum()
            assert math.isclose(float(found[f"{name}_nmse/{site}"]), float(expected), rel_tol=1e-4)


def test_terms_are_weighed_and_those_of_weight_zero_left_out() -> None:
    bridge = unlike()
    terms = Terms(ce=2.0, kl=0.0, encode_nmse=0.5, decode_nmse=0.0, encode_kl=0.0, decode_kl=3.0)
    total, found = losses(bridge, terms)
    assert {name.split("/")[0] for name in found} == {"ce", "encode_nmse", "encode_kl", "decode_kl"}
    expected = 2 * found["ce"]
    expected = expected + sum(0.5 * found[f"encode_nmse/{s}"] + 3 * found[f"decode_kl/{s}"] for s in bridge.sites)
    torch.testing.assert_close(total, expected)


@pytest.mark.parametrize(
    ("term", "maps", "sparse"),
    [
        ("ce", "", True),
        ("kl", "", True),
        ("encode_nmse", "encoders", False),
        ("decode_nmse", "decoders", True),
        ("encode_kl", "encoders", True),
        ("decode_kl", "decoders", True),
    ],
)
def test_gradients_reach_what_each_term_trains_and_nothing_else(term: str, maps: str, sparse: bool) -> None:
    bridge = unlike()
    losses(bridge, only(term))[0].backward()
    reached = {name.rsplit(".", 1)[0] for name, p in bridge.maps.named_parameters() if moved(p)}
    assert reached == ({f"{maps}.{n}" for n in range(5)} if maps else set())
    assert any(moved(p) for p in bridge.sparse.parameters()) == sparse
    assert not any(moved(p) for p in bridge.dense.parameters())


@pytest.mark.parametrize(("term", "before", "after"), [("decode_kl", True, False), ("encode_kl", False, True)])
def test_a_hybrid_pass_trains_the_sparse_model_on_its_own_side_of_the_site(
    term: str, before: bool, after: bool
) -> None:
    bridge, batch = unlike(), tokens()
    site = "1.resid_in"
    chosen = {"encode": [site] if before is False else [], "decode": [site] if before else []}
    passes = run_passes(bridge, batch[:, :-1], **chosen, encode_rest=False, decode_rest=False)
    loss_terms(passes, batch[:, 1:], only(term))[0].backward()
    assert moved(bridge.sparse.h[0].mlp.c_fc.weight) == before
    assert moved(bridge.sparse.wte.weight) == before
    assert moved(bridge.sparse.h[1].attn.c_attn.weight) == after
    assert moved(bridge.sparse.lm_head.weight) == after
    number = bridge.sites.index(site)
    kind = "encoders" if after else "decoders"
    assert {n.rsplit(".", 1)[0] for n, p in bridge.maps.named_parameters() if moved(p)} == {f"{kind}.{number}"}


def moved(parameter: Tensor) -> bool:
    return parameter.grad is not None and bool((parameter.grad != 0).any())


def test_the_error_is_one_for_the_mean_and_its_spread_is_not_trained() -> None:
    target = torch.randn(3, 4, 5, requires_grad=True)
    mean = target.detach().mean((0, 1)).expand(3, 4, 5)
    torch.testing.assert_close(nmse(mean, target.detach()), torch.tensor(1.0))
    guess = target.detach() + 0.1
    nmse(guess, target).backward()
    assert target.grad is not None
    spread = (target.detach() - mean).square().sum()
    torch.testing.assert_close(target.grad, 2 * (target.detach() - guess) / spread)  # as of a constant denominator
    still = torch.full((2, 2, 3), 4.0)
    assert float(nmse(still, still)) == 0.0
    assert math.isfinite(float(nmse(still + 1e-3, still)))


def test_the_divergence_is_that_of_the_whole_vocabulary_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = torch.randn(2, 3, 7, generator=torch.Generator().manual_seed(0))
    logits = torch.randn(2, 3, 7, generator=torch.Generator().manual_seed(1), requires_grad=True)
    monkeypatch.setattr("sparse_circuits.bridges.passes.CHUNK", 14)
    found = Teacher(teacher).divergence(logits)
    expected = F.kl_div(
        logits.flatten(0, 1).log_softmax(-1), teacher.flatten(0, 1).log_softmax(-1), log_target=True, reduction="sum"
    )
    torch.testing.assert_close(found, expected / 6)
    (3 * found).backward()
    (wanted,) = torch.autograd.grad(expected / 2, logits)
    torch.testing.assert_close(logits.grad, wanted)


class OneBatch(PackedCorpus):
    """A corpus that has nothing but one batch."""

    def batch(self, split: str, step: int, batch_size: int, block_size: int, seed: int) -> Any:
        return tokens(batch_size, block_size + 1, seed=3).numpy()


ONE_BATCH = OneBatch(Path(), LETTERS, np.zeros(1), np.zeros(1), {})


def objective(terms: Terms, bridge: Bridge | None = None, **changes: Any) -> Bridging:
    bridge = bridge or unlike()
    loop = LoopConfig(steps=60, learning_rate=0.03, warmup=0.0, epsilon=1e-3, weight_decay=0.0, precision="fp32")
    train = TrainConfig(
        model=dataclasses.replace(bridge.sparse.config, block_size=6),
        sparsity=SparsityConfig(density=1.0),
        loop=loop,
        batch_size=2,
    )
    made = Bridging(bridge, ONE_BATCH, BridgeConfig(terms=terms, train=train, **changes))
    made.model.config = dataclasses.replace(made.model.config, block_size=6)
    return made


@pytest.mark.parametrize("term", NAMES)
def test_each_term_alone_can_be_driven_down_on_one_batch(term: str) -> None:
    made = objective(only(term), unlike(layers=1))
    losses = [log.loss for log in Loop(made, made.config.loop)]
    assert losses[-1] < 0.15 * losses[0]  # the encoders' AbsTopK leaves an error


def test_the_cost_of_a_step_counts_the_blocks_that_run() -> None:
    """Sublayers run, counted by what they read, are what `pass_counts` says."""
    bridge, batch = unlike(), tokens(rows=1)
    rows = {"dense": 0, "sparse": 0}
    for name, of in (("dense", bridge.dense), ("sparse", bridge.sparse)):

        def count(site: str, x: Tensor, name: str = name) -> Tensor:
            rows[name] += len(x) * site.endswith("act_in")
            return x

        of.standing_tap = count
    run_passes(bridge, batch, bridge.sites, bridge.sites)
    sparse, dense = pass_counts(len(bridge.sites), BridgeConfig())
    assert (rows["sparse"] / 4, rows["dense"] / 4) == (sparse, dense) == (3.5, 3.5)
    assert pass_counts(5, BridgeConfig(terms=only("ce", "decode_kl"))) == (1.0, 3.5)
    assert pass_counts(5, BridgeConfig(sites_per_step=2)) == (2.0, 2.0)


def test_drawn_sites_are_scaled_up_and_each_comes_as_often() -> None:
    made = objective(only("encode_kl", "decode_kl"), sites_per_step=2)
    seen = [made.sites(step) for step in range(400)]
    assert seen == [made.sites(step) for step in range(400)]
    assert {len(chosen) for chosen in seen} == {2}
    for site in residual_sites(made.model.config):
        assert 0.3 < sum(site in chosen for chosen in seen) / 400 < 0.5
    loss, figures = made.loss(0)
    kls = sum(value for name, value in figures.items() if "_kl/" in name)
    assert math.isclose(float(loss.detach()), 5 / 2 * kls, rel_tol=1e-5)
    assert len([name for name in figures if "_kl/" in name]) == 4
