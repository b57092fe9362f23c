"""The models that are measured have the sizes of the released ones."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparse_circuits.bench.shapes import M, S, Shape, Y, positions, random_model, random_tokens, with_layers
from sparse_circuits.config import GPTConfig
from sparse_circuits.model import GPT


def test_y_has_the_size_of_the_model_on_the_hub() -> None:
    with torch.device("meta"):
        count = sum(p.numel() for p in GPT(Y.config).parameters())
    assert count == pytest.approx(419e6, rel=0.01)


def test_all_shapes_have_heads_of_16_and_the_default_sites() -> None:
    for shape in (S, M, Y):
        assert (shape.config.head_width, shape.config.n_layer, shape.config.abs_topk) == (16, 8, 0.25)
        assert shape.config.sink
    assert with_layers(Y, 2).config.n_layer == 2
    assert with_layers(Y, 2).config.d_position == 32


@settings(deadline=None)
@given(st.integers(1, 500), st.data())
def test_positions_are_distinct_and_inside(total: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, total))
    found = positions(total, count, torch.Generator().manual_seed(count))
    assert len(set(found.tolist())) == count
    assert all(0 <= place < total for place in found.tolist())


def test_a_random_model_has_its_density_and_sane_activations() -> None:
    shape = Shape("tiny", GPTConfig(vocab_size=128, n_layer=3, d_model=128, n_head=8), 1 / 16)
    model = random_model(shape)
    for name, parameter in model.named_parameters():
        if name.endswith(("c_fc.weight", "c_proj.weight", "c_attn.weight")):
            assert int((parameter != 0).sum()) == parameter.numel() // 16
    assert int((model.lm_head.weight != 0).sum()) == model.lm_head.weight.numel() // 32
    with torch.no_grad():
        run = model.run(random_tokens(shape.config, 2, 40), record=("*.resid_mid", "*.mlp.post_act"))
    assert all(0.05 < float(site.square().mean().sqrt()) < 5 for site in run.sites.values())
    assert 0.3 < float(run.logits.std()) < 5


def test_the_same_seed_gives_the_same_model() -> None:
    shape = Shape("tiny", GPTConfig(vocab_size=16, n_layer=1, d_model=16, n_head=2), 1 / 4)
    first, second, other = random_model(shape), random_model(shape), random_model(shape, seed=1)
    assert all(map(torch.equal, first.parameters(), second.parameters()))
    assert not torch.equal(first.lm_head.weight, other.lm_head.weight)
