"""Nodes have one numbering, and a tap that keeps all of them changes nothing."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparse_circuits.circuits.nodes import Hold, NodeSpace, keep_only
from sparse_circuits.config import GPTConfig
from sparse_circuits.errors import InputError
from sparse_circuits.loop import autocast
from sparse_circuits.model import GPT
from sparse_circuits.sparsity import abs_topk

SHAPE = GPTConfig(
    vocab_size=257, n_layer=2, d_model=6, n_head=2, d_head=2, d_mlp=5, positions="learned_concat", d_position=3
)
# act_in reads 6 + 3 channels, q, k and v have 4, both deltas 6, the MLP 5 neurons.
WIDTHS = [9, 4, 4, 4, 6, 9, 5, 6]
ATTENTION_SITES = ["attn.act_in", "attn.q", "attn.k", "attn.v", "attn.resid_delta"]
SITES = [*ATTENTION_SITES, "mlp.act_in", "mlp.post_act", "mlp.resid_delta"]


def test_numbers_run_in_forward_order() -> None:
    space = NodeSpace(SHAPE)
    assert space.total == 2 * sum(WIDTHS) == 94
    assert list(space.widths.items()) == [
        (f"{layer}.{site}", width) for layer in (0, 1) for site, width in zip(SITES, WIDTHS, strict=True)
    ]
    assert space.slices["0.attn.q"] == slice(9, 13)
    assert space.slices["1.mlp.resid_delta"] == slice(88, 94)
    assert [space.name(node) for node in (0, 8, 9, 46, 47, 93)] == [
        ("0.attn.act_in", 0),
        ("0.attn.act_in", 8),
        ("0.attn.q", 0),
        ("0.mlp.resid_delta", 5),
        ("1.attn.act_in", 0),
        ("1.mlp.resid_delta", 5),
    ]
    with pytest.raises(IndexError):
        space.name(94)


@given(st.lists(st.booleans(), min_size=94, max_size=94))
def test_a_choice_of_nodes_survives_the_way_to_sites_and_back(choice: list[bool]) -> None:
    space = NodeSpace(SHAPE)
    kept = torch.tensor(choice)
    by_site = space.by_site(kept)
    assert torch.equal(space.flat(by_site), kept)
    assert sum(map(len, by_site.values())) == kept.sum()
    assert all(channels == tuple(sorted(channels)) and channels for channels in by_site.values())
    assert {space.name(int(node)) for node in kept.nonzero()} == {(s, c) for s, cs in by_site.items() for c in cs}


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ({"2.attn.q": [0]}, "'2.attn.q' is no site of this model's nodes"),
        ({"0.attn.y": [0]}, "'0.attn.y' is no site of this model's nodes"),
        ({"0.attn.q": [1, 4]}, r"0\.attn\.q has channels 0\.\.3, not 4"),
        ({"0.attn.q": [-1]}, r"0\.attn\.q has channels 0\.\.3, not -1"),
    ],
)
def test_unknown_nodes_are_refused(nodes: dict[str, list[int]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        NodeSpace(SHAPE).flat(nodes)


VARIANTS = {
    "sparse": {},
    "dense": {"abs_topk": None, "sink": False},
    "dense with sink": {"abs_topk": None},
    "positions": {"positions": "sinusoidal_concat", "d_position": 4, "activation": "relu"},
    "old": {"norm": "layer", "norm_bias": True, "positions": "learned", "tied_embeddings": True, "bias": False},
}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS)
def test_with_every_node_kept_the_logits_are_bit_equal(random_model, settings, precision: str) -> None:
    model = random_model(**settings)
    space = NodeSpace(model.config)
    tokens = torch.randint(257, (5, 19), generator=torch.Generator().manual_seed(0))
    held = torch.randn(space.total)
    with torch.no_grad(), autocast(precision, "cpu"):
        plain = model(tokens)
        kept = model(tokens, tap=keep_only(space, torch.ones(space.total, dtype=torch.bool), held))
        scaled = model(tokens, tap=Hold(space, torch.ones(space.total), held))
        fewer = model(tokens, tap=keep_only(space, torch.arange(space.total) != 3, held))
    assert torch.equal(kept, plain)
    assert torch.equal(scaled, plain)
    assert not torch.equal(fewer, plain)


def test_a_removed_node_is_held_after_abs_topk(random_model) -> None:
    """m * x + (1 - m) * held of what AbsTopK left: a held value can stand where AbsTopK would have put a zero."""
    model: GPT = random_model()
    space = NodeSpace(model.config)
    generator = torch.Generator().manual_seed(1)
    kept = torch.rand(space.total, generator=generator) < 0.5
    held = torch.randn(space.total, generator=generator)
    tokens = torch.randint(257, (3, 7), generator=generator)

    def by_hand(site: str, activation: torch.Tensor) -> torch.Tensor:
        part = space.slices.get(site)
        if part is None:
            return activation
        result = activation.clone()
        for channel, node in enumerate(range(part.start, part.stop)):
            if not kept[node]:
                result[:, :, channel] = float(held[node])
        return result

    with torch.no_grad():
        expected = model.run(tokens, record="*", tap=by_hand)
        soft = model.run(tokens, record="*", tap=Hold(space, kept.float(), held))
        hard = model.run(tokens, record="*", tap=keep_only(space, kept, held))
    for run in (soft, hard):
        torch.testing.assert_close(run.logits, expected.logits, rtol=0, atol=0)
        for site, values in expected.sites.items():
            torch.testing.assert_close(run.sites[site], values, rtol=0, atol=0)

    q = hard.sites["0.attn.q"]
    part = space.slices["0.attn.q"]
    untouched = torch.nn.functional.linear(
        hard.sites["0.attn.act_in"], model.blocks[0].attn.c_attn.weight[:16], model.blocks[0].attn.c_attn.bias[:16]
    )
    top = abs_topk(untouched, 4)
    torch.testing.assert_close(q, torch.where(kept[part], top, held[part]), rtol=1e-5, atol=1e-6)
    assert ((q != 0).sum(-1) > 4).any()  # more than AbsTopK alone would leave


def test_masks_between_the_two_mix(random_model) -> None:
    model = random_model()
    space = NodeSpace(model.config)
    mask, held = torch.rand(space.total), torch.randn(space.total)
    tap = Hold(space, mask, held)
    x = torch.randn(2, 3, 16)
    part = space.slices["1.attn.resid_delta"]
    expected = mask[part].double() * x.double() + (1 - mask[part].double()) * held[part].double()
    torch.testing.assert_close(tap("1.attn.resid_delta", x).double(), expected, rtol=1e-5, atol=1e-6)
    assert tap("1.attn.y", x) is x
    assert tap("final_resid", x) is x


@pytest.mark.usefixtures("unannotated")
def test_a_tap_for_another_models_nodes_is_told() -> None:
    other = NodeSpace(GPTConfig(vocab_size=257, n_layer=2, d_model=6, n_head=2, d_head=2, d_mlp=3))
    tap = keep_only(other, torch.ones(other.total, dtype=torch.bool), torch.zeros(other.total))
    with pytest.raises(InputError, match="mask has shape"):
        GPT(SHAPE)(torch.zeros(1, 3, dtype=torch.int64), tap=tap)


def test_a_tap_of_ones_own_may_have_a_method_called_holding() -> None:
    class Counting:
        def holding(self) -> bool:
            return True

        def __call__(self, site: str, activation: torch.Tensor) -> torch.Tensor:
            return activation

    model, tokens = GPT(SHAPE), torch.zeros(1, 3, dtype=torch.int64)
    assert torch.equal(model(tokens, tap=Counting()), model(tokens))
