"""The model computes what the paper says, shows every activation once, and uses what a tap returns instead.

`forward_by_hand` is the paper's forward pass in plain float64, written without the package's code.
"""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import randomised, small, some_tokens
from torch import Tensor

from sparse_circuits.circuits.nodes import NodeSpace, hold_each, keep_only
from sparse_circuits.config import ABS_TOPK_SITES, GPTConfig
from sparse_circuits.errors import InputError
from sparse_circuits.model import GPT, sinusoids
from sparse_circuits.sites import site_names, site_width

pytestmark = pytest.mark.usefixtures("one_thread")

See = Callable[[str, Tensor], Tensor]


def forward_by_hand(config: GPTConfig, weights: dict[str, Tensor], tokens: Tensor, see: See) -> Tensor:
    """Logits [B, T, V] in the dtype of `weights`; `see` gets each activation by name and returns the one to go on with.

    The weights go by their names in released checkpoints.
    """

    def norm(x: Tensor, name: str) -> Tensor:
        gain, bias = weights[f"{name}.weight"], weights.get(f"{name}.bias")
        if config.norm == "rms":
            return x / (x.square().mean(-1, keepdim=True) + torch.finfo(x.dtype).eps).sqrt() * gain
        centred = x - x.mean(-1, keepdim=True)
        x = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * gain
        return x if bias is None else x + bias

    def linear(x: Tensor, name: str) -> Tensor:
        y = x @ weights[f"{name}.weight"].T
        return y + weights[f"{name}.bias"] if config.bias else y

    def keep(x: Tensor, site: str) -> Tensor:
        if config.abs_topk is None or site not in config.abs_topk_sites:
            return x
        k = max(1, math.floor(config.abs_topk * x.shape[-1]))
        kept = x.abs().topk(k, dim=-1).indices
        return torch.zeros_like(x).scatter(-1, kept, x.gather(-1, kept))

    def attend(q: Tensor, k: Tensor, v: Tensor, layer: int) -> Tensor:
        length = q.shape[1]
        width = q.shape[-1] // config.n_head
        y = []
        for head in range(config.n_head):
            mine = slice(head * width, (head + 1) * width)
            scores = q[..., mine] @ k[..., mine].transpose(1, 2) / math.sqrt(width)
            e = scores.exp() * torch.ones(length, length, dtype=q.dtype).tril()
            total = e.sum(-1, keepdim=True)
            if config.sink:
                total = total + weights[f"h.{layer}.attn.sink_logit"][head].exp()
            y.append(e / total @ v[..., mine])
        return torch.cat(y, dim=-1)

    def read(x: Tensor, layer: int, number: int) -> Tensor:
        x = norm(x, f"h.{layer}.ln_{number}")
        if config.positions.endswith("concat"):
            channels = norm(weights["wpe.weight"][: x.shape[1]], f"h.{layer}.ln_p{number}")
            x = torch.cat([x, channels.expand(len(x), -1, -1)], dim=-1)
        return x

    def add(x: Tensor, delta: Tensor, site: str) -> Tensor:
        x = x + delta
        return keep(x.clamp(min=0) if config.residual_activation == "relu" else x, site)

    x = weights["wte.weight"][tokens]
    if config.positions == "learned":
        x = x + weights["wpe.weight"][: tokens.shape[1]]
    for layer in range(config.n_layer):
        x = see(f"{layer}.resid_in", x)
        inner = see(f"{layer}.attn.act_in", keep(read(x, layer, 1), "attn_in"))
        parts = linear(inner, f"h.{layer}.attn.c_attn").chunk(3, dim=-1)
        q, k, v = (
            see(f"{layer}.attn.{name}", keep(part, f"attn_{name}")) for name, part in zip("qkv", parts, strict=True)
        )
        y = see(f"{layer}.attn.y", attend(q, k, v, layer))
        delta = see(f"{layer}.attn.resid_delta", keep(linear(y, f"h.{layer}.attn.c_proj"), "attn_out"))
        x = see(f"{layer}.resid_mid", add(x, delta, "resid_post_attn"))
        inner = see(f"{layer}.mlp.act_in", keep(read(x, layer, 2), "mlp_in"))
        hidden = linear(inner, f"h.{layer}.mlp.c_fc")
        if config.activation == "relu":
            hidden = hidden.clamp(min=0)
        elif config.activation == "gelu_tanh":
            inner = math.sqrt(2 / math.pi) * (hidden + 0.044715 * hidden**3)
            hidden = hidden * (1 + torch.tanh(inner)) / 2
        else:
            hidden = hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2
        hidden = see(f"{layer}.mlp.post_act", keep(hidden, "mlp_neuron"))
        delta = see(f"{layer}.mlp.resid_delta", keep(linear(hidden, f"h.{layer}.mlp.c_proj"), "mlp_out"))
        x = add(x, delta, "resid_post_mlp")
    x = norm(see("final_resid", x), "ln_f")
    unembedding = weights["wte.weight" if config.tied_embeddings else "lm_head.weight"]
    logits = x @ unembedding.T + weights["final_logits_bias"]
    if config.bigram_table != "none":
        logits = logits + weights["bigram_table"][tokens]
    return logits


def assert_is_the_papers(config: GPTConfig, seed: int = 0) -> None:
    """Logits, every site and every gradient agree with the forward pass by hand."""
    model, tokens = randomised(config, seed), some_tokens(config, seed=seed + 1)
    seen: dict[str, Tensor] = {}

    def see(site: str, activation: Tensor) -> Tensor:
        seen[site] = activation
        return activation

    weights = {
        name: tensor.requires_grad_(tensor.requires_grad) for name, tensor in model.state_dict(keep_vars=True).items()
    }
    logits = forward_by_hand(config, weights, tokens, see)
    run = model.run(tokens, record="*")
    torch.testing.assert_close(run.logits, logits, rtol=1e-9, atol=1e-9)
    assert list(run.sites) == list(seen) == site_names(config)
    for site, activation in run.sites.items():
        assert activation.shape == (*tokens.shape, site_width(config, site))
        torch.testing.assert_close(activation, seen[site], rtol=1e-9, atol=1e-9)
    trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    direction = torch.randn(logits.shape, generator=torch.Generator().manual_seed(2), dtype=logits.dtype)
    found, expected = (
        torch.autograd.grad((result * direction).sum(), [parameter for _, parameter in trained])
        for result in (run.logits, logits)
    )
    for (name, _), mine, wanted in zip(trained, found, expected, strict=True):
        torch.testing.assert_close(mine, wanted, rtol=1e-7, atol=1e-8, msg=lambda text, name=name: f"{name}: {text}")


VARIANTS: list[dict[str, Any]] = [
    {},
    {"norm": "layer"},
    {"norm": "layer", "norm_bias": True},
    {"tied_embeddings": True},
    {"positions": "learned"},
    {"positions": "learned_concat", "d_position": 4},
    {"positions": "sinusoidal_concat", "d_position": 5},
    {"positions": "learned_concat", "d_position": 4, "norm": "layer", "norm_bias": True},
    {"bigram_table": "none"},
    {"bigram_table": "fixed"},
    {"sink": False},
    {"bias": False},
    {"activation": "relu"},
    {"activation": "gelu_tanh"},
    {"residual_activation": "relu"},
    {"d_head": 5},
    {"d_head": 1, "d_mlp": 7},
    {"abs_topk": None},
    {"abs_topk": 1.0},
    {"abs_topk": 0.125, "abs_topk_sites": tuple(s for s in ABS_TOPK_SITES if s not in ("attn_q", "attn_k"))},
    {"abs_topk": 0.01},
    {"abs_topk_sites": ()},
    {"abs_topk_sites": ABS_TOPK_SITES},
    *({"abs_topk_sites": (site,)} for site in ABS_TOPK_SITES),
    {"abs_topk_sites": ABS_TOPK_SITES, "residual_activation": "relu", "positions": "learned_concat", "d_position": 3},
]


@pytest.mark.parametrize("changes", VARIANTS, ids=lambda changes: "-".join(map(str, changes.values())) or "default")
def test_each_variant_is_the_papers(changes: dict[str, Any]) -> None:
    assert_is_the_papers(small(**changes))


@given(data=st.data(), seed=st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_variants_combine(data: st.DataObject, seed: int) -> None:
    positions = data.draw(st.sampled_from(["none", "learned", "learned_concat", "sinusoidal_concat"]))
    norm, norm_bias = data.draw(st.sampled_from([("rms", False), ("layer", False), ("layer", True)]))
    choices = {
        "tied_embeddings": st.booleans(),
        "bias": st.booleans(),
        "sink": st.booleans(),
        "bigram_table": st.sampled_from(["none", "learned", "fixed"]),
        "activation": st.sampled_from(["gelu", "relu", "gelu_tanh"]),
        "residual_activation": st.sampled_from(["none", "relu"]),
        "abs_topk": st.sampled_from([None, 0.125, 0.25, 0.5, 1.0]),
        "abs_topk_sites": st.lists(st.sampled_from(ABS_TOPK_SITES), unique=True).map(tuple),
        "d_head": st.sampled_from([None, 2, 5]),
        "n_layer": st.sampled_from([1, 2]),
    }
    drawn = data.draw(st.fixed_dictionaries(choices))
    d_position = 4 if positions.endswith("concat") else 0
    assert_is_the_papers(
        small(positions=positions, d_position=d_position, norm=norm, norm_bias=norm_bias, **drawn), seed
    )


def test_float32_differs_by_rounding_only() -> None:
    config = small(abs_topk=None, positions="learned_concat", d_position=4)
    model, tokens = randomised(config, dtype=torch.float32), some_tokens(config)
    exact = {name: tensor.double() for name, tensor in model.state_dict().items()}
    logits = forward_by_hand(config, exact, tokens, lambda site, activation: activation)
    torch.testing.assert_close(model(tokens).double(), logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("site", site_names(small()))
def test_what_a_tap_returns_is_what_the_model_goes_on_with(site: str) -> None:
    config = small(abs_topk_sites=ABS_TOPK_SITES)
    model, tokens = randomised(config), some_tokens(config)
    replacement = torch.randn(*tokens.shape, site_width(config, site), dtype=torch.float64)

    def replace(here: str, activation: Tensor) -> Tensor:
        return replacement if here == site else activation

    run = model.run(tokens, record=site, tap=replace)
    assert run.sites[site] is replacement
    weights = dict(model.state_dict())
    torch.testing.assert_close(run.logits, forward_by_hand(config, weights, tokens, replace), rtol=1e-9, atol=1e-9)
    assert not torch.allclose(run.logits, model(tokens))


@pytest.mark.parametrize("low", [False, True], ids=["float32", "autocast"])
@pytest.mark.parametrize(
    "changes", [{}, {"residual_activation": "relu", "positions": "learned_concat", "d_position": 4}]
)
def test_looking_on_and_keeping_all_nodes_change_no_bit(changes: dict[str, Any], low: bool) -> None:
    config = small(abs_topk_sites=ABS_TOPK_SITES, **changes)
    model, tokens = randomised(config, dtype=torch.float32), some_tokens(config)
    space = NodeSpace(config)
    keep_all = keep_only(space, torch.ones(space.total, dtype=torch.bool), torch.full((space.total,), torch.nan))
    with torch.autocast("cpu", torch.bfloat16, enabled=low):
        logits = model(tokens)
        others = [
            model(tokens, tap=lambda site, activation: activation),
            model(tokens, tap=lambda site, activation: activation.clone()),
            model.run(tokens, record="*").logits,
            model(tokens, tap=keep_all),
        ]
    for other in others:
        assert torch.equal(other.detach().view(torch.int32), logits.detach().view(torch.int32))


def test_a_tap_may_return_float32_under_autocast() -> None:
    model, tokens = randomised(small(), dtype=torch.float32), some_tokens(small())
    with torch.autocast("cpu", torch.bfloat16):
        for site in site_names(small()):
            widened = model(tokens, tap=lambda here, x, site=site: x.float() if here == site else x)
            torch.testing.assert_close(widened, model(tokens), rtol=0.1, atol=0.1)


def test_gradients_reach_what_a_tap_adds() -> None:
    model, tokens = randomised(small(abs_topk=None)), some_tokens(small())
    steering = torch.zeros(12, dtype=torch.float64, requires_grad=True)
    run = model.run(tokens, "0.resid_mid", tap=lambda site, x: x + steering if site == "0.resid_mid" else x)
    (gradient,) = torch.autograd.grad(run.logits.sum(), steering)
    step = 1e-6 * torch.eye(12, dtype=torch.float64)[0]
    moved = model(tokens, tap=lambda site, x: x + step if site == "0.resid_mid" else x)
    assert (moved - run.logits).sum().item() / 1e-6 == pytest.approx(gradient[0].item(), rel=1e-3)


@given(at=st.lists(st.integers(0, 6), min_size=3, max_size=3), seed=st.integers(0, 50), data=st.data())
@settings(max_examples=30, deadline=None)
@pytest.mark.parametrize("tapped", ["no tap", "held", "held in shares", "a tap of one's own"])
def test_logits_at_one_position_are_those_of_all_positions_there(
    tapped: str, at: list[int], seed: int, data: st.DataObject
) -> None:
    # Whether the last block computes the other positions or leaves them out; the masks' gradients too.
    positions: Any = data.draw(st.sampled_from(["none", "learned", "sinusoidal_concat"]))
    config = small(
        positions=positions,
        d_position=4 if positions.endswith("concat") else 0,
        norm=data.draw(st.sampled_from(["rms", "layer"])),
        sink=data.draw(st.booleans()),
        abs_topk=data.draw(st.sampled_from([None, 0.5])),
        residual_activation=data.draw(st.sampled_from(["none", "relu"])),
    )
    model, tokens = randomised(config, seed), some_tokens(config)
    space = NodeSpace(model.config)
    generator = torch.Generator().manual_seed(seed)
    held = torch.randn(space.total, generator=generator, dtype=torch.float64)
    mask = (torch.rand(space.total, generator=generator, dtype=torch.float64) > 0.3).double().requires_grad_()

    def tap() -> Any:
        if tapped == "held":
            return hold_each(space, [mask], held)
        if tapped == "held in shares":
            return hold_each(space, [mask, 1 - mask, mask.square()], held)
        own = hold_each(space, [mask], held)
        return None if tapped == "no tap" else lambda site, x: own(site, x) * (x.shape[1] / 7)

    found = model(tokens, at=torch.tensor(at), tap=tap())
    expected = model(tokens, tap=tap())[torch.arange(3), torch.tensor(at)]
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    if tapped != "no tap":
        slopes = [torch.autograd.grad(logits.square().sum(), mask)[0] for logits in (found, expected)]
        torch.testing.assert_close(*slopes, rtol=1e-7, atol=1e-7)


def test_hooks_see_all_positions() -> None:
    model, tokens = randomised(small()), some_tokens(small())
    seen: list[tuple[int, ...]] = []
    at = torch.tensor([0, 3, 6])
    plain = model(tokens, at=at)
    handle = model.blocks[-1].mlp.register_forward_hook(lambda module, given, found: seen.append(tuple(found.shape)))
    torch.testing.assert_close(model(tokens, at=at), plain)
    assert seen == [(*tokens.shape, model.config.d_model)]
    handle.remove()


@given(position=st.integers(1, 7), seed=st.integers(0, 50))
@settings(max_examples=8, deadline=None)
@pytest.mark.parametrize("positions", ["none", "learned", "sinusoidal_concat"])
def test_a_token_changes_nothing_before_it(positions: Any, position: int, seed: int) -> None:
    config = small(positions=positions, d_position=4 if positions.endswith("concat") else 0)
    model, tokens = randomised(config, seed), some_tokens(config, length=8, seed=seed)
    changed = tokens.clone()
    changed[:, position:] = (changed[:, position:] + 1) % config.vocab_size
    before, after = model.run(tokens, "*"), model.run(changed, "*")
    for site, activation in before.sites.items():
        torch.testing.assert_close(after.sites[site][:, :position], activation[:, :position], rtol=0, atol=1e-11)
    torch.testing.assert_close(after.logits[:, :position], before.logits[:, :position], rtol=0, atol=1e-11)
    torch.testing.assert_close(model(tokens[:, :position]), before.logits[:, :position], rtol=0, atol=1e-11)
    assert not torch.allclose(after.logits[:, position:], before.logits[:, position:])


def test_without_positions_order_enters_by_the_causal_mask_only() -> None:
    model, tokens = randomised(small(bigram_table="none", n_layer=1)), some_tokens(small())
    shuffled = torch.cat([tokens[:, :-1].flip(1), tokens[:, -1:]], dim=1)
    torch.testing.assert_close(model(shuffled)[:, -1], model(tokens)[:, -1])
    learned = randomised(small(bigram_table="none", n_layer=1, positions="learned"))
    assert not torch.allclose(learned(shuffled)[:, -1], learned(tokens)[:, -1])


@pytest.mark.usefixtures("unannotated")
@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (torch.zeros(1, 9, dtype=torch.int64), "9 positions, but the model reads at most 8"),
        (torch.tensor([[3, 11]]), r"token id 11 is outside the vocabulary 0\.\.10"),
        (torch.tensor([[-1, 3]]), "token id -1 is outside"),
        (torch.zeros(1, 0, dtype=torch.int64), "at least one position"),
        (torch.zeros(4, dtype=torch.int64), "expected int64"),
        (torch.zeros(1, 2, 3, dtype=torch.int64), "expected int64"),
        (torch.zeros(1, 4, dtype=torch.int32), "torch.int32; expected int64"),
        (torch.zeros(1, 4), "torch.float32; expected int64"),
    ],
)
def test_tokens_the_model_cannot_read_are_refused(tokens: Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        GPT(small())(tokens)


@pytest.mark.usefixtures("unannotated")
@pytest.mark.parametrize(
    "at", [torch.tensor([0, 7]), torch.tensor([-1, 0]), torch.tensor([0]), torch.tensor(0), torch.tensor([0.0, 1.0])]
)
def test_positions_outside_the_text_are_refused(at: Tensor) -> None:
    with pytest.raises(InputError, match=r"at h.*expected"):
        GPT(small())(torch.zeros(2, 7, dtype=torch.int64), at=at)


@pytest.mark.usefixtures("unannotated")
@pytest.mark.parametrize("site", ["0.attn.q", "1.mlp.act_in", "final_resid"])
@pytest.mark.parametrize("result", [None, torch.zeros(1), 3.0])
def test_a_tap_that_returns_no_activation_is_named(site: str, result: object) -> None:
    def tap(here: str, activation: Tensor) -> Any:
        return result if here == site else activation

    for call in (
        lambda: GPT(small())(some_tokens(small()), tap=tap),
        lambda: GPT(small()).run(some_tokens(small()), site, tap),
    ):
        with pytest.raises(
            InputError, match=rf"the tap returned .* at {site}; it must return a tensor of shape \(3, 7,"
        ):
            call()


def test_record_takes_patterns_and_refuses_what_matches_nothing() -> None:
    model, tokens = GPT(small()), some_tokens(small())
    assert list(model.run(tokens, record=["1.attn.[qk]", "final_resid"]).sites) == [
        "1.attn.q",
        "1.attn.k",
        "final_resid",
    ]
    assert model.run(tokens).sites == {}
    with pytest.raises(InputError, match="no site matches"):
        model.run(tokens, record="2.attn.q")


def test_an_empty_batch_is_an_empty_answer() -> None:
    assert GPT(small())(torch.zeros(0, 4, dtype=torch.int64)).shape == (0, 4, 11)


def test_fresh_weights_are_the_papers() -> None:
    config = GPTConfig(vocab_size=200, block_size=8, n_layer=2, d_model=128, n_head=8, positions="learned")
    state = GPT(config, seed=3).state_dict()
    for name, tensor in state.items():
        if name == "bigram_table":
            assert tensor.min() >= 0
            assert tensor.max() <= 0.02
            assert tensor.mean().item() == pytest.approx(0.01, rel=0.02)
        elif tensor.ndim == 2:
            spread = 0.02 / math.sqrt(2 * 2) if "c_proj" in name else 0.02
            assert tensor.std().item() == pytest.approx(spread, rel=0.1), name
            assert abs(tensor.mean().item()) < spread / 10, name
        else:
            assert torch.equal(tensor, torch.full_like(tensor, 1 if "ln_" in name else 0)), name
    again, other = GPT(config, seed=3).state_dict(), GPT(config, seed=4).state_dict()
    assert all(torch.equal(again[name], tensor) for name, tensor in state.items())
    assert not torch.equal(other["wte.weight"], state["wte.weight"])


def test_parameter_names_are_those_of_released_checkpoints() -> None:
    block = ["ln_1.weight", "ln_2.weight", "ln_p1.weight", "ln_p2.weight", "attn.sink_logit"]
    linear = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    block += [f"{name}.{part}" for name in linear for part in ("weight", "bias")]
    outer = ["wte.weight", "wpe.weight", "ln_f.weight", "lm_head.weight", "final_logits_bias", "bigram_table"]
    model = GPT(small(n_layer=1, positions="learned_concat", d_position=4))
    assert sorted(model.state_dict()) == sorted([f"h.0.{name}" for name in block] + outer)


def test_sinusoids_by_hand() -> None:
    """Periods 4 and 8 at block size 8: at position 1 a quarter and an eighth of a turn."""
    half = math.sqrt(0.5)
    expected = torch.tensor([[0, 0, 1, 1], [1, half, 0, half], [0, 1, -1, 0], [-1, half, 0, -half]])
    torch.testing.assert_close(sinusoids(8, 4)[:4], expected, rtol=0, atol=1e-6)
    assert sinusoids(8, 5)[:, 4].tolist() == [0] * 8
    torch.testing.assert_close(sinusoids(8, 1)[:, 0], torch.tensor([0, 1, 0, -1, 0, 1, 0, -1.0]), rtol=0, atol=1e-5)
    assert sinusoids(2, 4).isfinite().all()


def test_sinusoids_are_not_trained() -> None:
    model = GPT(small(positions="sinusoidal_concat", d_position=4))
    assert not model.wpe.weight.requires_grad
    torch.testing.assert_close(model.wpe.weight, sinusoids(8, 4))
