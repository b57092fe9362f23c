"""The opponent's steps are those of our loop."""

import dataclasses

import torch
from conftest import sides
from hypothesis import given, settings
from hypothesis import strategies as st

from sparse_circuits.bench import ours, recipe
from sparse_circuits.bench.model_cases import Watched, same_training
from sparse_circuits.bench.opponent import dense_twin
from sparse_circuits.bench.shapes import Shape, random_model
from sparse_circuits.config import GPTConfig
from sparse_circuits.sites import node_sites
from sparse_circuits.sparsity import nonzero_count, project_topk

# Without AbsTopK, whose choice between two near equal activations bfloat16 may turn round.
TINY = Shape("tiny", GPTConfig(vocab_size=64, block_size=16, n_layer=2, d_model=32, n_head=4, abs_topk=None), 1 / 4)


@settings(deadline=None)
@given(
    st.integers(1, 8), st.integers(1, 8), st.integers(0, 1000), st.integers(0, 2), st.sampled_from([0, 1]), st.data()
)
def test_the_projection_is_ours_where_nothing_ties(
    rows: int, columns: int, seed: int, minimum: int, dimension: int, data: st.DataObject
) -> None:
    weight = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    minimum = min(minimum, weight.shape[dimension])
    least = max(1, minimum * weight.shape[1 - dimension])
    k = data.draw(st.integers(least, weight.numel()))
    expected = project_topk(weight, k, minimum if dimension == 1 else 0, minimum if dimension == 0 else 0)
    for ordered in (False, True):
        found = weight.clone()
        recipe.topk_projection_(found, k, minimum, dimension, ordered)
        assert torch.equal(found, expected)


def test_a_training_step_moves_the_weights_as_ours_does() -> None:
    config = ours.training_config(TINY, 4)
    text = ours.corpus(TINY, 2000)
    model, copied = random_model(TINY), random_model(TINY)
    steps = ours.training(model, text, config)
    theirs = recipe.Training(dense_twin(copied, TINY.config), TINY.density, TINY.embedding_density, config.loop)
    for step in range(3):
        tokens = torch.from_numpy(text.batch("train", step, 4, 16, config.loop.seed))
        loss = theirs.step(tokens)
        assert abs(next(steps).loss - loss) < 0.02 * loss
    others = dict(theirs.model.named_parameters())
    for name, mine in model.named_parameters():
        other = others[name]
        if name.endswith("c_fc.weight"):
            assert int((other != 0).sum()) == nonzero_count(TINY.density, other.numel())
            assert ((mine != 0) == (other != 0)).float().mean() > 0.98
        assert (mine - other).norm() < 0.1 * other.norm() + 0.01


def test_every_neuron_keeps_its_minimum() -> None:
    model, dense = sides(d_model=12, d_mlp=20)
    training = recipe.Training(dense, 0.4, 1.0, ours.training_config(TINY, 1).loop, min_nonzeros=3)
    with torch.no_grad():
        training.project()
    for block in model.blocks:
        assert ((block.mlp.c_fc.weight != 0).sum(1) >= 3).all()
        assert ((block.mlp.c_proj.weight != 0).sum(0) >= 3).all()
        assert ((block.attn.c_attn.weight != 0).sum(1) >= 3).all()
        assert ((block.attn.c_proj.weight != 0).sum(0) >= 3).all()
    assert (model.lm_head.weight != 0).all()


def test_a_pruning_step_moves_the_masks_as_ours_does() -> None:
    shape = TINY._replace(config=dataclasses.replace(TINY.config, block_size=64))
    learning = ours.mask_learning(random_model(shape), 4, "fp32")
    dense = dense_twin(random_model(shape), shape.config)
    theirs = recipe.Pruning(dense, node_sites(shape.config), learning.tau, learning.held, learning.config, "fp32")
    begun = learning.tau.detach().clone()
    for _ in range(3):
        loss = theirs.step(learning.examples.tokens, learning.examples.targets, learning.examples.others)
        assert abs(next(learning.steps).loss - loss) < 1e-3 * abs(loss)
    moved = learning.tau.detach() - begun
    assert moved.abs().max() > 1e-3
    assert (theirs.tau.detach() - begun - moved).norm() < 0.05 * moved.norm()


def test_training_that_does_not_move_the_weights_alike_is_noticed() -> None:
    model = random_model(TINY)
    weight = model.blocks[-1].mlp.c_proj.weight.data

    def moving(by: float) -> Watched:
        def step() -> float:
            weight.add_(by)
            return 2.0

        watched = Watched(model, step)
        watched()
        return watched

    assert same_training(moving(0.1), moving(0.1))[1]
    assert not same_training(moving(0.0), moving(0.1))[1]
    assert not same_training(moving(0.2), moving(0.1))[1]
