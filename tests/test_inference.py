"""A sparsified model is the same model: logits, sites, gradients of taps, identity; and no dense matrix is made."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sparse_circuits import checkpoint
from sparse_circuits.cache import Cache
from sparse_circuits.config import GPTConfig, SparsityConfig
from sparse_circuits.errors import InputError
from sparse_circuits.inference import sparsify
from sparse_circuits.kernels.products import SparseMatrix
from sparse_circuits.linear import Embedding, Linear
from sparse_circuits.model import GPT
from sparse_circuits.pretraining import project

pytestmark = pytest.mark.usefixtures("one_thread")
CONFIGS: list[dict[str, Any]] = [
    {},
    {"tied_embeddings": True, "bigram_table": "fixed"},
    {"positions": "learned_concat", "d_position": 5, "d_head": 3},
    {"positions": "sinusoidal_concat", "d_position": 4, "bias": False},
    {"positions": "learned", "norm": "layer", "norm_bias": True, "sink": False},
    {"abs_topk": None, "activation": "relu", "residual_activation": "relu", "bigram_table": "none"},
]


def model_of(changes: dict[str, Any], seed: int = 0, density: float = 0.1) -> GPT:
    """A small model whose weights are sparse, and large enough to matter."""
    model = GPT(GPTConfig(**{"vocab_size": 40, "block_size": 16, "n_layer": 2, "d_model": 24, "n_head": 4, **changes}))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
    project(model, SparsityConfig(density=density, min_nonzeros=1))
    return model.eval()


@torch.no_grad()
@settings(max_examples=40, deadline=None)
@given(st.sampled_from(CONFIGS), st.integers(0, 99), st.sampled_from([0.05, 0.3, 1.0]))
def test_logits_and_sites_are_the_models(changes: dict[str, Any], seed: int, density: float) -> None:
    # AbsTopK turns a rounding difference between near equals into another choice; without it all must agree.
    model = model_of({**changes, "abs_topk": None}, seed, density)
    tokens = torch.randint(0, 40, (3, 11), generator=torch.Generator().manual_seed(seed))
    exact = model.double().run(tokens, "*")
    dense, sparse = model.float().run(tokens, "*"), model.sparsify().run(tokens, "*")
    assert list(sparse.sites) == list(exact.sites)
    for site, expected in {**exact.sites, "logits": exact.logits}.items():
        error, rounding = (
            float((run.logits if site == "logits" else run.sites[site]).sub(expected).abs().max())
            for run in (sparse, dense)
        )
        assert error <= max(1e-5 * float(expected.abs().max()), 4 * rounding), site


@pytest.mark.parametrize("changes", CONFIGS)
def test_with_abs_topk_too(changes: dict[str, Any]) -> None:
    model = model_of(changes)
    tokens = torch.randint(0, 40, (2, 9), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(model.sparsify()(tokens), model(tokens), rtol=1e-4, atol=1e-4)


def test_gradients_reach_taps_and_no_weights() -> None:
    model = model_of({})
    tokens = torch.randint(0, 40, (2, 9), generator=torch.Generator().manual_seed(1))
    found = []
    for each in (model, model.sparsify()):
        scale = torch.ones(24, requires_grad=True)

        def tap(site: str, activation: Tensor, scale: Tensor = scale) -> Tensor:
            return activation * scale if site == "0.attn.act_in" else activation

        each(tokens, tap=tap).square().mean().backward()
        assert scale.grad is not None
        found.append(scale.grad)
    torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-4)
    assert not any(p.requires_grad for p in model.sparsify().parameters())
    assert all(p.requires_grad for p in model.parameters())


def test_it_is_the_same_model_to_a_circuit_and_shares_its_other_tensors(tmp_path: Path) -> None:
    model = model_of({})
    checkpoint.save(model, tmp_path)
    fast = sparsify(model)
    assert checkpoint.model_hash(fast) == checkpoint.model_hash(model)
    assert fast.folder == tmp_path
    assert fast.ln_f.weight.data_ptr() == model.ln_f.weight.data_ptr()
    assert sparsify(fast).lm_head.matrix is fast.lm_head.matrix
    checkpoint.save(fast, tmp_path / "again")
    assert checkpoint.model_hash(checkpoint.load(tmp_path / "again")) == checkpoint.model_hash(model)


@pytest.mark.parametrize("changes", CONFIGS)
@pytest.mark.parametrize("density", [0.1, 1.0])
def test_a_folder_loads_sparse(changes: dict[str, Any], density: float, tmp_path: Path) -> None:
    model = model_of(changes, density=density)
    checkpoint.save(model, tmp_path)
    loaded = checkpoint.load(tmp_path, sparse=True)
    layers = [module for module in loaded.modules() if isinstance(module, Linear)]
    assert len(layers) == 9
    assert all(layer.is_frozen for layer in layers)
    assert loaded.wte.is_frozen == model.sparsify().wte.is_frozen == (density < 1)
    assert loaded.wte.matrix is None or (loaded.wte.matrix is loaded.lm_head.matrix) == model.config.tied_embeddings
    assert not any(p.requires_grad for p in loaded.parameters())
    tokens = torch.randint(0, 40, (2, 9), generator=torch.Generator().manual_seed(1))
    assert torch.equal(loaded(tokens), model.sparsify()(tokens))
    assert checkpoint.model_hash(loaded) == checkpoint.model_hash(model)


@pytest.mark.parametrize(("density", "is_sparse"), [(0.1, True), (0.6, False)])
def test_auto_is_sparse_where_every_matrix_is_stored_so(density: float, is_sparse: bool, tmp_path: Path) -> None:
    checkpoint.save(model_of({}, density=density), tmp_path)
    assert checkpoint.load(tmp_path, sparse="auto").lm_head.is_frozen == is_sparse


def test_a_frozen_layer_shows_its_weight() -> None:
    layer = model_of({}).blocks[0].mlp.c_fc
    weight = layer.weight.detach().clone()
    layer.freeze()
    assert layer.is_frozen
    assert torch.equal(layer.weight, weight)
    assert layer.shape == weight.shape
    assert "weight" not in dict(layer.named_parameters())
    assert "density=" in repr(layer)


def test_a_frozen_embedding_is_the_dense_one() -> None:
    model = model_of({})
    frozen, tokens = model.sparsify().wte, torch.arange(40).view(4, 10).T
    assert frozen.is_frozen
    assert frozen.shape == (40, 24)
    assert dict(frozen.named_parameters()) == {}
    assert repr(frozen) == "Embedding(40, 24, density=0.009375)"
    assert torch.equal(frozen.weight, model.wte.weight)
    assert torch.equal(frozen(tokens), model.wte(tokens))
    assert frozen(tokens[:0]).shape == (0, 4, 24)
    for wrong in (-1, 40):
        with pytest.raises(InputError, match="expected numbers from 0 to 39 on cpu"):
            frozen(torch.tensor([0, wrong]))


@pytest.mark.parametrize(("nonzeros", "is_sparse"), [(15, True), (16, False)])
def test_an_embedding_that_is_not_sparse_stays_dense(nonzeros: int, is_sparse: bool) -> None:
    layer = Embedding(8, 6)
    with torch.no_grad():
        layer.weight.view(-1).copy_(torch.arange(48) < nonzeros)
    layer.freeze()
    assert layer.is_frozen == is_sparse
    assert torch.equal(layer(torch.arange(8)).view(-1), (torch.arange(48) < nonzeros).float())


def test_a_matrix_beside_it_does_not_hide_the_parameter() -> None:
    layer = model_of({}).blocks[0].mlp.c_fc
    parameter = layer.weight
    layer.matrix = SparseMatrix.from_dense(parameter.detach())
    assert layer.weight is parameter
    assert not layer.is_frozen
    layer(torch.ones(2, 24)).sum().backward()
    assert parameter.grad is not None
    assert parameter.grad.shape == parameter.shape


def test_another_dtype_is_refused() -> None:
    with pytest.raises(InputError, match=r"float32 on the CPU or CUDA, and the model is torch.float64"):
        model_of({}).double().sparsify()


@torch.no_grad()
def test_a_state_is_loaded_into_a_sparse_model() -> None:
    model, other = model_of({"abs_topk": None}, seed=0), model_of({"abs_topk": None}, seed=1)
    sparse, tokens = model.sparsify(), torch.arange(10).view(1, 10)
    before = {name: tensor.clone() for name, tensor in sparse.state_dict().items()}
    sparse.load_state_dict(before)
    assert torch.allclose(sparse(tokens), model(tokens), atol=1e-5)
    sparse.load_state_dict(other.state_dict())
    assert torch.allclose(sparse(tokens), other(tokens), atol=1e-5)
    for key in ("lm_head.weight", "wte.weight"):
        with pytest.raises(RuntimeError, match=rf"size mismatch for {key}"):
            sparse.load_state_dict(before | {key: torch.zeros(40, 23)})
        with pytest.raises(RuntimeError, match=rf"Missing key.*{key}"):
            sparse.load_state_dict({name: tensor for name, tensor in before.items() if name != key})


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.usefixtures("unannotated")
def test_torch_compile_takes_a_sparse_model() -> None:
    model, tokens = model_of({}).sparsify(), torch.randint(0, 40, (2, 9))
    compiled = torch.compile(model, backend="eager")
    for some in (tokens, tokens[:1], tokens):
        torch.testing.assert_close(compiled(some), model(some))
    cache = Cache(model.config, 2)
    torch.testing.assert_close(compiled(tokens[:, :5], cache=cache), model(tokens)[:, :5])
    cache.advance(5)
    torch.testing.assert_close(compiled(tokens[:, 5:6], cache=cache), model(tokens)[:, 5:6], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "change",
    [lambda m: m.double(), lambda m: m.half(), lambda m: m.to(torch.bfloat16), lambda m: m.to("meta")],
)
def test_what_a_sparse_model_cannot_become(change: Any) -> None:
    model = model_of({}).sparsify()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(InputError, match=r"a sparse model computes in float32 on the CPU or CUDA, so it cannot become"):
        change(model)
    assert {tensor.dtype for tensor in model.state_dict().values()} == {torch.float32}
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("part", [lambda m: m.blocks[0], lambda m: m.blocks[0].attn, lambda m: m.blocks[0].mlp])
def test_no_more_can_a_part_of_it(part: Any) -> None:
    model = model_of({}).sparsify()
    with pytest.raises(InputError, match="a sparse model computes in float32"):
        part(model).half()
    assert {tensor.dtype for tensor in model.state_dict().values()} == {torch.float32}


def test_what_leaves_a_sparse_model_as_it_is() -> None:
    model = model_of({}).sparsify()
    matrix = model.lm_head.matrix
    assert model.float().cpu().to("cpu", torch.float32).share_memory().lm_head.matrix is matrix


def test_a_matrix_beside_a_weight_goes_when_the_weight_changes() -> None:
    layer = model_of({}).blocks[0].mlp.c_fc
    layer.matrix = SparseMatrix.from_dense(layer.weight.detach())
    assert layer.float().matrix is not None
    assert layer.double().matrix is None
    assert layer(torch.ones(2, 24, dtype=torch.float64)).dtype == torch.float64


def test_a_frozen_layer_takes_a_matrix_and_no_weight() -> None:
    layer = model_of({}).blocks[0].mlp.c_fc
    weight = layer.weight.detach() * 2
    layer.freeze()
    for other in (weight, torch.nn.Parameter(weight)):
        with pytest.raises(InputError, match=r"this layer is frozen: .* assign layer.matrix = SparseMatrix"):
            layer.weight = other
    layer.matrix = SparseMatrix.from_dense(weight)
    assert torch.equal(layer.weight, weight)
