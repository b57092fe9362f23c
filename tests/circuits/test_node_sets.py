"""Sets of nodes mean what they say, and what they do not say is refused in one line."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparse_circuits.circuits.node_sets import jaccard, overlap, random_like, read_nodes
from sparse_circuits.circuits.nodes import NodeSpace
from sparse_circuits.config import GPTConfig
from sparse_circuits.errors import InputError

SPACE = NodeSpace(GPTConfig(vocab_size=9, n_layer=2, d_model=4, n_head=2, d_mlp=6))
"""Two layers of 4 * 7 + 6 = 34 nodes."""


def test_text() -> None:
    assert read_nodes(SPACE, "1.mlp.post_act:5,2") == {"1.mlp.post_act": (2, 5)}
    assert read_nodes(SPACE, ["0.attn.q:1-3", "0.attn.q:0", "1.attn.k:2"]) == {
        "0.attn.q": (0, 1, 2, 3),
        "1.attn.k": (2,),
    }
    assert read_nodes(SPACE, "*.mlp.post_act:*") == {f"{layer}.mlp.post_act": tuple(range(6)) for layer in range(2)}
    assert read_nodes(SPACE, "1.*.act_in:0") == {"1.attn.act_in": (0,), "1.mlp.act_in": (0,)}
    assert read_nodes(SPACE, []) == {}


def test_files(tmp_path: Path) -> None:
    channels = {"0.attn.q": [3, 1], "1.mlp.act_in": []}
    (tmp_path / "bare.json").write_text(json.dumps(channels))
    (tmp_path / "circuit.json").write_text(json.dumps({"format": 1, "nodes": channels}))
    for place in (tmp_path / "bare.json", tmp_path / "circuit.json", tmp_path):
        assert read_nodes(SPACE, str(place)) == {"0.attn.q": (1, 3)}
    assert read_nodes(SPACE, [str(tmp_path), "0.attn.q:0"]) == {"0.attn.q": (0, 1, 3)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0.attn.q", "cannot read the nodes '0.attn.q': write site:channels"),
        ("0.attn.r:1", "no site of nodes matches '0.attn.r'; did you mean '0.attn."),
        ("0.attn.y:1", "no site of nodes matches '0.attn.y'"),
        ("0.attn.q:4", "channels 4 of a site that has 0..3"),
        ("0.attn.q:2-9999999999999", "channels 2-9999999999999 of a site that has 0..3"),
        ("0.attn.q:3-2", "channels 3-2 of a site that has 0..3"),
        ("0.attn.q:", "cannot read the channels '' of '0.attn.q:'"),
        ("0.attn.q:-1", "cannot read the channels '-1'"),
        ("0.attn.q:1.5", "cannot read the channels '1.5'"),
        ("nowhere.json", "cannot read nowhere.json: No such file"),
    ],
)
def test_what_is_no_set_of_nodes(text: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        read_nodes(SPACE, text)
    assert message in str(error.value)


@pytest.mark.parametrize("content", [[1], {"nodes": 3}, {"0.attn.q": 3}, {"0.attn.q": ["1"]}, {"0.attn.q": [9]}])
def test_files_that_hold_no_nodes(tmp_path: Path, content: object) -> None:
    path = tmp_path / "nodes.json"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"nodes\.json"):
        read_nodes(SPACE, str(path))


@given(st.lists(st.booleans(), min_size=SPACE.total, max_size=SPACE.total), st.integers(0, 1000))
def test_random_sets_have_as_many_nodes_of_each_site(kept: list[bool], seed: int) -> None:
    chosen = torch.tensor(kept)
    drawn = random_like(SPACE, chosen, torch.Generator().manual_seed(seed))
    for part in SPACE.slices.values():
        assert drawn[part].sum() == chosen[part].sum()


def test_random_sets_are_spread_evenly() -> None:
    generator = torch.Generator().manual_seed(0)
    kept = SPACE.flat({"0.mlp.post_act": [0, 1]})
    counts = sum(random_like(SPACE, kept, generator).int() for _ in range(900))
    assert isinstance(counts, torch.Tensor)
    hit = counts[SPACE.slices["0.mlp.post_act"]]
    assert hit.sum() == 1800
    assert (hit - 300).abs().max() < 60


def test_overlap_by_hand() -> None:
    a = SPACE.flat({"0.attn.q": [0, 1], "0.attn.k": [2], "1.mlp.post_act": [0, 1, 2]})
    b = SPACE.flat({"0.attn.q": [1, 3], "1.mlp.post_act": [2, 3]})
    found = overlap(SPACE, a, b)
    assert set(found) == {"all", "0.attn.q", "0.attn.k", "1.mlp.post_act"}
    q = found["0.attn.q"]
    assert (q.first, q.second, q.shared, q.expected, q.jaccard) == (2, 2, 1, 1.0, 1 / 3)
    assert (found["0.attn.k"].shared, found["0.attn.k"].jaccard) == (0, 0.0)
    whole = found["all"]
    assert (whole.first, whole.second, whole.shared) == (6, 4, 2)
    assert whole.jaccard == 2 / 8
    assert whole.expected == pytest.approx(1 + 0 + 3 * 2 / 6)
    assert set(overlap(SPACE, a & ~a, a & ~a)) == {"all"}


masks = st.lists(st.booleans(), min_size=SPACE.total, max_size=SPACE.total).map(torch.tensor)


@given(masks, masks)
def test_jaccard_is_a_share(a: torch.Tensor, b: torch.Tensor) -> None:
    assert 0 <= jaccard(a, b) == jaccard(b, a) <= 1
    assert jaccard(a, a) == 1.0
    assert (jaccard(a, b) == 1.0) == torch.equal(a, b)
