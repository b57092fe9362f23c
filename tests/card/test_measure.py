"""The numbers of a card, against numbers worked out by hand on models small enough to do so."""

import math

import numpy as np
import pytest
import torch
from small_models import randomised, small, some_tokens
from torch import Tensor

from sparse_circuits.card.measure import activity, density, held_out_loss, matrices
from sparse_circuits.corpus.bigram import bigram_loss
from sparse_circuits.corpus.packed import PackedCorpus
from sparse_circuits.model import GPT

pytestmark = pytest.mark.usefixtures("one_thread")


def test_nonzeros_are_counted_by_matrix_and_layer() -> None:
    model = randomised(small(), dtype=torch.float32)
    with torch.no_grad():
        model.blocks[1].attn.c_attn.weight.zero_()
        model.blocks[1].attn.c_attn.weight[0, :5] = 1  # q is rows 0 to 11, k 12 to 23, v 24 to 35
        model.blocks[1].attn.c_attn.weight[12, :2] = 1
        model.blocks[1].attn.c_attn.weight[35, 7] = 1
        model.wte.weight[3] = 0
    counted = matrices(model)
    found = {(m["kind"], m["layer"]): m for m in counted}
    assert [found[f"attention {kind}", 1]["nonzeros"] for kind in "qkv"] == [5, 2, 1]
    assert found["embedding", None] == {"kind": "embedding", "layer": None, "rows": 11, "columns": 12, "nonzeros": 120}
    assert found["unembedding", None]["nonzeros"] == 132
    assert (found["mlp in", 0]["rows"], found["mlp in", 0]["columns"]) == (48, 12)
    # A layer has 3 * 144 + 144 + 2 * 576 = 1728 entries; the second has lost 3 * 144 - 8 of them.
    assert density(counted, inside=True) == pytest.approx((2 * 1728 - 424) / (2 * 1728))
    assert density(counted, inside=False) == pytest.approx(252 / 264)
    assert density(counted) == pytest.approx((2 * 1728 - 424 + 252) / (2 * 1728 + 264))
    assert matrices(model.sparsify()) == counted
    tied = {m["kind"] for m in matrices(GPT(small(tied_embeddings=True)))}
    assert "unembedding" not in tied


def silent() -> GPT:
    """A model whose blocks add nothing, and whose embedding is zero."""
    model = GPT(small())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.fill_(1 if name.endswith("weight") and parameter.ndim == 1 else 0)
    return model


def test_neurons_that_never_fire_are_dead() -> None:
    model = silent()
    windows = torch.tensor([[1, 2, 3, 4], [1, 2, 3, 5]])
    with torch.no_grad():
        model.blocks[0].mlp.c_fc.bias[:3] = 1.0  # always on
        model.wte.weight[5, 0] = 1.0
        model.blocks[1].mlp.c_fc.weight[7, 0] = 1.0  # on at token 5 only, the very last
    found = activity(model, windows)
    assert (found.neurons, found.tokens) == (48, 8)
    assert found.dead == [45, 47]
    assert activity(model, windows[:1]).dead == [45, 48]


def test_kurtosis_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """One entry of n is 1, the others 0: with p = 1/n the excess kurtosis is (1 - 6 p (1 - p)) / (p (1 - p))."""
    monkeypatch.setattr("sparse_circuits.card.measure.POSITIONS_PER_BATCH", 4)  # of two batches
    model = silent()
    with torch.no_grad():
        model.wte.weight[5, 0] = 1.0
        model.blocks[1].mlp.c_proj.bias.fill_(2.0)  # shifts everything, which changes no kurtosis
        model.blocks[0].attn.c_proj.bias[1] = 1.0  # now channel 1 is 1 everywhere too
    found = activity(model, torch.tensor([[1, 2, 3, 4], [1, 2, 3, 5]])).kurtosis
    assert list(found) == ["0.resid_in", "0.resid_mid", "1.resid_in", "1.resid_mid", "final_resid"]

    def of(ones: int) -> float:
        spread = ones / 96 * (1 - ones / 96)
        return (1 - 6 * spread) / spread

    assert found["0.resid_in"] == pytest.approx(of(1))
    for site in ("0.resid_mid", "1.resid_in", "1.resid_mid"):
        assert found[site] == pytest.approx(of(9))


def test_kurtosis_is_the_fourth_standardised_moment_less_three() -> None:
    model = randomised(small(), dtype=torch.float32)
    windows = some_tokens(model.config, rows=5)
    sites = model.run(windows, record=["*.resid_in", "*.resid_mid", "final_resid"]).sites
    for site, value in activity(model, windows).kurtosis.items():
        entries: Tensor = sites[site].detach().double().flatten()
        standard = (entries - entries.mean()) / entries.std(correction=0)
        assert value == pytest.approx(float(standard.pow(4).mean() - 3), rel=1e-9)
    assert activity(silent(), windows).kurtosis["final_resid"] == 0


def test_both_losses_are_of_the_same_tokens(packed_corpus: PackedCorpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sparse_circuits.card.measure.POSITIONS_PER_BATCH", 24)  # batches of three windows
    model = randomised(small(vocab_size=300), dtype=torch.float32)
    found = held_out_loss(model, packed_corpus, packed_corpus, max_tokens=60)
    assert (found["tokens"], found["of"]) == (56, len(packed_corpus.validation) - 1)
    start = torch.from_numpy(packed_corpus.validation[:57].astype(np.int64))
    with torch.no_grad():
        logits = model(start[:56].view(7, 8)).flatten(0, 1)
    assert found["model"] == pytest.approx(float(torch.nn.functional.cross_entropy(logits, start[1:])), rel=1e-5)
    assert found["bigram"] == bigram_loss(packed_corpus.train, packed_corpus.validation[:57], 300)
    whole = held_out_loss(model, packed_corpus, packed_corpus, max_tokens=10**9)
    assert whole["tokens"] == whole["of"] // 8 * 8


def test_a_model_that_knows_nothing_has_the_loss_of_chance(packed_corpus: PackedCorpus) -> None:
    model = GPT(small(vocab_size=300, bigram_table="none"))
    with torch.no_grad():
        model.lm_head.weight.zero_()
    assert held_out_loss(model, packed_corpus, packed_corpus, 800)["model"] == pytest.approx(math.log(300), rel=1e-6)
