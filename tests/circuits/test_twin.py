"""A dropped edge carries what its source would be held at; everything else runs as it did."""

import pytest
import torch

from sparse_circuits.circuits.edges import edges
from sparse_circuits.circuits.nodes import NodeSpace, keep_only
from sparse_circuits.circuits.twin import place, without
from sparse_circuits.inference import sparsify
from sparse_circuits.model import GPT

TOKENS = torch.arange(40).view(4, 10)


def everything(model: GPT) -> dict[str, tuple[int, ...]]:
    return {site: tuple(range(width)) for site, width in NodeSpace(model.config).widths.items()}


def constants(model: GPT) -> torch.Tensor:
    return torch.randn(NodeSpace(model.config).total, generator=torch.Generator().manual_seed(4))


def test_every_edge_has_its_place(random_model) -> None:
    """The weight found there is the edge's own."""
    model: GPT = random_model(n_layer=2)
    found = edges(model, everything(model))
    for edge in found[:: len(found) // 200]:
        name, row = place(model, edge.target)
        assert float(model.get_submodule(name).weight.detach()[row, edge.source[1]]) == edge.weight
    assert {place(model, edge.target)[0] for edge in found} == {
        f"h.{layer}.{name}" for layer in (0, 1) for name in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    }


@pytest.mark.parametrize("bias", [True, False])
def test_a_dropped_edge_is_a_constant(random_model, bias: bool) -> None:
    model: GPT = random_model(n_layer=1, bias=bias, abs_topk=None)
    held = constants(model)
    space = NodeSpace(model.config)
    cut = (("0.mlp.post_act", 5), ("0.mlp.resid_delta", 2))
    twin = without(model, [cut], held)
    own, other = (m.run(TOKENS, record=["0.mlp.post_act", "0.mlp.resid_delta"]).sites for m in (twin, model))
    weight = float(model.blocks[0].mlp.c_proj.weight.detach()[2, 5])
    difference = weight * (float(held[space.slices["0.mlp.post_act"].start + 5]) - other["0.mlp.post_act"][..., 5])
    expected = other["0.mlp.resid_delta"].clone()
    expected[..., 2] += difference
    torch.testing.assert_close(own["0.mlp.resid_delta"], expected, rtol=1e-4, atol=1e-5)


SITES = ("0.attn.act_in", "0.mlp.act_in", "0.mlp.post_act", "1.attn.v")


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("site", SITES)
def test_a_node_without_edges_is_a_removed_node(random_model, site: str, sparse: bool) -> None:
    """All that a node feeds it feeds by its edges; those of a v channel too, where there is no sink."""
    model: GPT = random_model(sink=False)
    held, space = constants(model), NodeSpace(model.config)
    cut = [(e.source, e.target) for e in edges(model, everything(model)) if e.source == (site, 3)]
    kept = torch.ones(space.total, dtype=torch.bool)
    kept[space.slices[site].start + 3] = False
    removed = model(TOKENS, tap=keep_only(space, kept, held))
    twin = without(sparsify(model) if sparse else model, cut, held)
    torch.testing.assert_close(twin(TOKENS), removed, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(model(TOKENS), removed, rtol=1e-3, atol=1e-3)


def test_what_is_not_changed_is_shared_and_the_model_stays_as_it_was(random_model) -> None:
    model: GPT = random_model()
    before = model(TOKENS)
    held = constants(model)
    assert without(model, [], held) is model
    cuts = [(("1.mlp.act_in", 0), ("1.mlp.post_act", 3)), (("1.mlp.post_act", 0), ("1.mlp.resid_delta", 1))]
    twin = without(model, cuts, held)
    assert torch.equal(model(TOKENS), before)
    changed = {name for name, p in twin.named_parameters() if p is not dict(model.named_parameters()).get(name)}
    assert changed == {f"h.1.mlp.{name}.{kind}" for name in ("c_fc", "c_proj") for kind in ("weight", "bias")}
    assert twin.blocks[0] is model.blocks[0]
    # The order in which they are given does not matter, not even to the last bit.
    assert torch.equal(twin(TOKENS), without(model, cuts[::-1], held)(TOKENS))
