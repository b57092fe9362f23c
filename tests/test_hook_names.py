"""TransformerLens's names lead to our sites, and hooks and caches behave as they do there."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import randomised, small, some_tokens
from torch import Tensor

from sparse_circuits import kernels
from sparse_circuits.config import GPTConfig
from sparse_circuits.errors import InputError
from sparse_circuits.hook_names import HookPoint, hook_names, hook_tap, run_with_cache, run_with_hooks
from sparse_circuits.sites import compose, site_names

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def plain_kernels() -> Iterator[None]:
    """Kernels that need no compiling: the models are tiny."""
    with kernels.use("reference"):
        yield


CONFIG = small(n_layer=3, d_head=5, positions="learned_concat", d_position=4)
NAMES = hook_names(CONFIG)


def test_every_site_has_a_name_in_forward_order() -> None:
    assert list(dict.fromkeys(NAMES.values())) == site_names(CONFIG)
    assert list(NAMES)[:12] == [
        "blocks.0.hook_resid_pre",
        "blocks.0.ln1.hook_normalized",
        "blocks.0.attn.hook_q",
        "blocks.0.attn.hook_k",
        "blocks.0.attn.hook_v",
        "blocks.0.attn.hook_z",
        "blocks.0.hook_attn_out",
        "blocks.0.hook_resid_mid",
        "blocks.0.ln2.hook_normalized",
        "blocks.0.mlp.hook_post",
        "blocks.0.hook_mlp_out",
        "blocks.0.hook_resid_post",
    ]
    assert NAMES["blocks.0.hook_resid_post"] == NAMES["blocks.1.hook_resid_pre"] == "1.resid_in"
    assert NAMES["blocks.2.hook_resid_post"] == "final_resid"


def test_the_cache_is_what_the_sites_show() -> None:
    model, tokens = randomised(CONFIG), some_tokens(CONFIG)
    run = model.run(tokens, record="*")
    logits, cache = run_with_cache(model, tokens)
    assert torch.equal(logits, run.logits)
    assert list(cache) == list(NAMES)
    for name, value in cache.items():
        site = run.sites[NAMES[name]]
        by_head = name.endswith(("hook_q", "hook_k", "hook_v", "hook_z"))
        assert value.shape == (*site.shape[:2], 3, 5) if by_head else site.shape
        assert torch.equal(value.reshape(site.shape), site)


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ("blocks.1.hook_mlp_out", ["blocks.1.hook_mlp_out"]),
        (["blocks.1.attn.hook_q", "blocks.0.attn.hook_q"], ["blocks.0.attn.hook_q", "blocks.1.attn.hook_q"]),
        (lambda name: name.endswith("resid_pre"), [f"blocks.{layer}.hook_resid_pre" for layer in range(3)]),
        ([], []),
    ],
)
def test_the_cache_can_be_filtered(chosen: Any, expected: list[str]) -> None:
    _, cache = run_with_cache(randomised(CONFIG), some_tokens(CONFIG), chosen)
    assert list(cache) == expected


@settings(deadline=None, max_examples=25)
@given(st.sampled_from(list(NAMES)))
def test_a_hook_is_a_tap_at_its_site(name: str) -> None:
    model, tokens = randomised(CONFIG), some_tokens(CONFIG)

    def change(value: Tensor, hook: HookPoint) -> Tensor:
        assert hook.name == name
        assert hook.layer() == int(name.split(".")[1])
        return value * 0.5 + 0.1

    expected = model(tokens, tap=lambda site, x: x * 0.5 + 0.1 if site == NAMES[name] else x)
    assert torch.equal(run_with_hooks(model, tokens, [(name, change)]), expected)
    assert torch.equal(run_with_hooks(model, tokens, [(name, lambda value, hook: None)]), model(tokens))


def test_one_head_is_one_index() -> None:
    model, tokens = randomised(CONFIG), some_tokens(CONFIG)

    def silence(value: Tensor, hook: HookPoint) -> Tensor:
        value = value.clone()
        value[:, :, 1] = 0
        return value

    def by_channel(site: str, x: Tensor) -> Tensor:
        return x * torch.tensor([1.0] * 5 + [0.0] * 5 + [1.0] * 5) if site == "1.attn.y" else x

    hooked = run_with_hooks(model, tokens, [("blocks.1.attn.hook_z", silence)])
    torch.testing.assert_close(hooked, model(tokens, tap=by_channel))


def test_hooks_of_one_place_act_in_their_order_and_compose() -> None:
    model, tokens = randomised(CONFIG), some_tokens(CONFIG)
    add, double = (lambda value, hook: value + 1), (lambda value, hook: value * 2)
    hooks: Any = [("blocks.0.hook_resid_post", add), ("blocks.1.hook_resid_pre", double)]
    expected = model(tokens, tap=lambda site, x: (x + 1) * 2 if site == "1.resid_in" else x)
    assert torch.equal(run_with_hooks(model, tokens, hooks), expected)
    seen = []
    tap = compose(hook_tap(CONFIG, hooks), lambda site, x: seen.append(site) or x)
    assert torch.equal(model(tokens, tap=tap), expected)
    assert seen == site_names(CONFIG)


def refused(config: GPTConfig, names: Any) -> str:
    with pytest.raises(InputError) as error:
        hook_tap(config, [(names, lambda value, hook: None)])
    return str(error.value)


def test_names_that_are_none_are_refused(unannotated: None) -> None:
    assert "did you mean 'blocks.0.attn.hook_q'" in refused(small(n_layer=1), "blocks.0.attn.hook_qq")
    assert "no activation is called 'blocks.0.attn.hook_pattern'" in refused(CONFIG, "blocks.0.attn.hook_pattern")
    assert "chooses none of the names" in refused(CONFIG, lambda name: False)
    with pytest.raises(InputError, match="the tap returned"):
        run_with_hooks(randomised(CONFIG), some_tokens(CONFIG), [("blocks.0.attn.hook_q", lambda value, hook: 3)])  # type: ignore[list-item,return-value]
