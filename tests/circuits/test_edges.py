"""Edges are counted as on paper, and a node is on a path exactly when one can be walked."""

from itertools import pairwise

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sparse_circuits.circuits.edges import Edge, connected, edge_count, edges, embedding_edges
from sparse_circuits.circuits.nodes import NodeSpace
from sparse_circuits.model import GPT
from sparse_circuits.sites import node_sites

Nodes = dict[str, tuple[int, ...]]


def everything(model: GPT) -> Nodes:
    return {site: tuple(range(width)) for site, width in node_sites(model.config).items()}


@pytest.fixture
def drawn(empty_model) -> GPT:
    """Two layers, eight channels and three position channels (8, 9, 10) beside them; two heads of two.

    tokens -> 0 (3 weights), 2 (4 weights)
    layer 0  0 -> q1,  9 -> k1,  2 -> v0 -> 5,  2 -> v2 -> 6
             5 -> neuron 1,  10 -> neuron 1 -> 4
    layer 1  4 -> v3,  6 -> v3 -> 7
    logits   7 (2 weights), 5 (1 weight)
    """
    model = empty_model(n_layer=2, positions="learned_concat", d_position=3)
    first, second = model.blocks
    q, k, v = (4 * part for part in range(3))
    with torch.no_grad():
        model.wte.weight[:3, 0] = model.wte.weight[10:14, 2] = 0.5
        model.lm_head.weight[:2, 7] = model.lm_head.weight[5, 5] = -0.5
        first.attn.c_attn.weight[[q + 1, k + 1, v + 0, v + 2], [0, 9, 2, 2]] = torch.tensor([1.0, 2.0, 3.0, 4.0])
        first.attn.c_proj.weight[[5, 6], [0, 2]] = torch.tensor([5.0, 6.0])
        first.mlp.c_fc.weight[1, [5, 10]] = torch.tensor([7.0, 8.0])
        first.mlp.c_proj.weight[4, 1] = 9.0
        second.attn.c_attn.weight[v + 3, [4, 6]] = torch.tensor([10.0, 11.0])
        second.attn.c_proj.weight[7, 3] = 12.0
    return model


PATHS = {
    "0.attn.act_in": (0, 2, 9),
    "0.attn.q": (1,),
    "0.attn.k": (1,),
    "0.attn.v": (0, 2),
    "0.attn.resid_delta": (5, 6),
    "0.mlp.act_in": (5, 10),
    "0.mlp.post_act": (1,),
    "0.mlp.resid_delta": (4,),
    "1.attn.act_in": (4, 6),
    "1.attn.v": (3,),
    "1.attn.resid_delta": (7,),
}


def test_each_weight_is_an_edge_from_what_it_reads_to_what_it_makes(drawn: GPT) -> None:
    found = edges(drawn, everything(drawn))
    assert found == [
        Edge(("0.attn.act_in", 0), ("0.attn.q", 1), 1.0),
        Edge(("0.attn.act_in", 9), ("0.attn.k", 1), 2.0),
        Edge(("0.attn.act_in", 2), ("0.attn.v", 0), 3.0),
        Edge(("0.attn.act_in", 2), ("0.attn.v", 2), 4.0),
        Edge(("0.attn.v", 0), ("0.attn.resid_delta", 5), 5.0),
        Edge(("0.attn.v", 2), ("0.attn.resid_delta", 6), 6.0),
        Edge(("0.mlp.act_in", 5), ("0.mlp.post_act", 1), 7.0),
        Edge(("0.mlp.act_in", 10), ("0.mlp.post_act", 1), 8.0),
        Edge(("0.mlp.post_act", 1), ("0.mlp.resid_delta", 4), 9.0),
        Edge(("1.attn.act_in", 4), ("1.attn.v", 3), 10.0),
        Edge(("1.attn.act_in", 6), ("1.attn.v", 3), 11.0),
        Edge(("1.attn.v", 3), ("1.attn.resid_delta", 7), 12.0),
    ]
    assert edges(drawn, PATHS) == found


def test_an_edge_needs_both_its_ends(drawn: GPT) -> None:
    assert edges(drawn, {}) == []
    assert edges(drawn, {"0.attn.act_in": [2], "0.attn.q": [0, 1, 2, 3], "0.mlp.post_act": [1]}) == []
    assert [e.weight for e in edges(drawn, {"0.attn.act_in": [9, 2], "0.attn.v": [2, 1], "0.attn.k": [1]})] == [2, 4]


def test_a_count_is_that_of_the_list(drawn: GPT) -> None:
    assert edge_count(drawn, everything(drawn)) == len(edges(drawn, everything(drawn))) == 12
    assert edge_count(drawn, {"0.attn.act_in": (0,), "0.attn.q": (1, 2)}) == 1
    assert edge_count(drawn, {}) == 0


def test_embedding_and_unembedding_are_counted_beside(drawn: GPT) -> None:
    assert embedding_edges(drawn, everything(drawn)) == (7, 3)
    assert embedding_edges(drawn, PATHS) == (7, 3)
    # Two sites that read channel 0 share its weights; position channels and what is only written have none.
    assert embedding_edges(drawn, {"0.attn.act_in": [0, 9], "1.mlp.act_in": [0, 10]}) == (3, 0)
    assert embedding_edges(drawn, {"1.mlp.act_in": [2], "0.mlp.resid_delta": [5], "0.attn.resid_delta": [5]}) == (4, 1)
    assert embedding_edges(drawn, {"0.attn.q": [0], "0.mlp.post_act": [2]}) == (0, 0)


def test_nodes_without_a_path_are_told_apart(drawn: GPT) -> None:
    assert connected(drawn, everything(drawn)) == PATHS
    assert connected(drawn, {}) == {}


def test_without_its_v_a_head_is_off_every_path(drawn: GPT) -> None:
    """v0 was the only v of head 0 and the only way from the tokens to channel 5; neuron 1 still reads a position."""
    assert connected(drawn, PATHS | {"0.attn.v": (2,)}) == {
        "0.attn.act_in": (2,),
        "0.attn.v": (2,),
        "0.attn.resid_delta": (6,),
        "0.mlp.act_in": (10,),
        "0.mlp.post_act": (1,),
        "0.mlp.resid_delta": (4,),
        "1.attn.act_in": (4, 6),
        "1.attn.v": (3,),
        "1.attn.resid_delta": (7,),
    }


def test_what_nobody_reads_is_off_every_path(drawn: GPT) -> None:
    """Without v3 nobody reads channels 4 and 6; the logits read 5."""
    assert connected(drawn, PATHS | {"1.attn.v": ()}) == {
        "0.attn.act_in": (0, 2, 9),
        "0.attn.q": (1,),
        "0.attn.k": (1,),
        "0.attn.v": (0,),
        "0.attn.resid_delta": (5,),
    }


def test_a_layer_cannot_read_what_later_ones_write(drawn: GPT) -> None:
    with torch.no_grad():
        drawn.blocks[0].attn.c_attn.weight[8 + 1, 7] = 1  # v1 of layer 0 reads what layer 1 writes
    assert connected(drawn, everything(drawn)) == PATHS


def test_added_positions_reach_the_channels_they_write(empty_model) -> None:
    model = empty_model(positions="learned")
    with torch.no_grad():
        model.wpe.weight[4, 6] = 1
        model.blocks[0].mlp.c_fc.weight[2, 6] = 1
        model.blocks[0].mlp.c_proj.weight[1, 2] = 1
        model.lm_head.weight[0, 1] = 1
    path = {"0.mlp.act_in": (6,), "0.mlp.post_act": (2,), "0.mlp.resid_delta": (1,)}
    assert connected(model, everything(model)) == path
    with torch.no_grad():
        model.wpe.weight.zero_()
    assert connected(model, everything(model)) == {}


def test_tied_embeddings_are_both_ends(empty_model) -> None:
    model = empty_model(tied_embeddings=True)
    with torch.no_grad():
        model.wte.weight[[3, 4], 2] = 1
    assert embedding_edges(model, {"0.attn.act_in": [2], "0.mlp.resid_delta": [2]}) == (2, 2)


def test_a_dense_model_is_counted_the_same_way(random_model) -> None:
    model = random_model(abs_topk=None, positions="sinusoidal_concat", d_position=2)
    # Two layers: q, k, v and c_fc read 18 channels, both outputs write 16.
    assert len(edges(model, everything(model))) == 2 * (3 * 16 * 18 + 16 * 16 + 24 * 18 + 24 * 16)
    generator = torch.Generator().manual_seed(0)
    nodes = {
        site: tuple((torch.rand(width, generator=generator) < 0.2).nonzero().squeeze(1).tolist())
        for site, width in node_sites(model.config).items()
    }
    size = {site: len(channels) for site, channels in nodes.items()}
    expected = 0
    for layer in "01":
        read = size[f"{layer}.attn.act_in"]
        expected += read * sum(size[f"{layer}.attn.{part}"] for part in "qkv")
        expected += size[f"{layer}.attn.v"] * size[f"{layer}.attn.resid_delta"]
        expected += size[f"{layer}.mlp.act_in"] * size[f"{layer}.mlp.post_act"]
        expected += size[f"{layer}.mlp.post_act"] * size[f"{layer}.mlp.resid_delta"]
    assert len(edges(model, nodes)) == expected > 0
    assert connected(model, everything(model)) == everything(model)


def walk(model: GPT, kept: set[tuple[str, int]]) -> set[tuple[str, int]]:
    """The nodes on a path, by walking an explicit graph of single nodes."""
    width, d_head = model.config.d_model, model.config.d_head
    arrows = {(e.source, e.target) for e in edges(model, everything(model)) if e.source in kept and e.target in kept}
    order = [f"{layer}.{part}" for layer in range(model.config.n_layer) for part in ("attn", "mlp")]
    writes = [(("tokens", c), c, -1) for c in range(width) if model.wte.weight[:, c].any()]
    writes += [(n, n[1], order.index(n[0][: n[0].index(".", 2)])) for n in kept if n[0].endswith("resid_delta")]
    reads = [(n, n[1], order.index(n[0][: n[0].index(".", 2)])) for n in kept if n[0].endswith("act_in")]
    arrows |= {(a, b) for a, written, when in writes for b, read, then in reads if written == read and when < then}
    arrows |= {(("positions", 0), n) for n in kept if n[0].endswith("act_in") and n[1] >= width}
    arrows |= {(a, ("logits", 0)) for a, c, _ in writes if model.lm_head.weight[:, c].any()}
    # What q and k decide on is carried by any v of their head.
    for site, channel in kept:
        if site.endswith((".q", ".k")):
            head = {(f"{site[:-1]}v", channel // d_head * d_head + i) for i in range(d_head)}
            arrows |= {((site, channel), v) for v in head & kept}

    def spread(start: set[tuple[str, int]], pairs: set) -> set[tuple[str, int]]:
        seen = set(start)
        while new := {b for a, b in pairs if a in seen} - seen:
            seen |= new
        return seen

    # A v that is only decided on carries nothing: going forward q and k lead nowhere.
    forward = {(a, b) for a, b in arrows if not a[0].endswith((".q", ".k"))}
    reached = spread({w for w, _, _ in writes if w[0] == "tokens"} | {("positions", 0)}, forward)
    backward = {(b, a) for a, b in arrows if a in reached and b in reached}
    return spread({("logits", 0)}, backward) & reached & kept


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6), density=st.sampled_from([0.03, 0.1, 0.3]), share=st.sampled_from([0.3, 0.7, 1.0]))
def test_connected_is_what_can_be_walked(empty_model, seed: int, density: float, share: float) -> None:
    model = empty_model(n_layer=2, positions="learned_concat", d_position=2)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2:
                rate = density / 50 if name in ("wte.weight", "lm_head.weight") else density
                parameter.copy_((torch.rand(parameter.shape, generator=generator) < rate).float())
    space = NodeSpace(model.config)
    kept = torch.rand(space.total, generator=generator) < share
    found = connected(model, space.by_site(kept))
    expected = walk(model, {space.name(int(node)) for node in kept.nonzero()})
    assert {(site, c) for site, channels in found.items() for c in channels} == expected
    assert all(channels and all(a < b for a, b in pairwise(channels)) for channels in found.values())
    assert connected(model, found) == found
