"""Our sites under the names TransformerLens gives its hooks, with hooks and caches called as there.

    logits, cache = run_with_cache(model, tokens)
    cache["blocks.3.attn.hook_q"]                                  # [B, T, heads, d_head]
    run_with_hooks(model, tokens, [("blocks.3.hook_mlp_out", lambda value, hook: value * 0)])

Code written for that library then needs no other names. Everything goes through the one forward pass, as a tap. What a
hook sees is the value after AbsTopK; `ln1.hook_normalized` and `ln2.hook_normalized` are what attention and MLP read,
the position channels included.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float, Int64
from torch import Tensor

from sparse_circuits.config import GPTConfig
from sparse_circuits.errors import InputError
from sparse_circuits.fields import nearest
from sparse_circuits.model import GPT
from sparse_circuits.sites import FINAL_SITE, Tap

_BLOCK = {
    "hook_resid_pre": "resid_in",
    "ln1.hook_normalized": "attn.act_in",
    "attn.hook_q": "attn.q",
    "attn.hook_k": "attn.k",
    "attn.hook_v": "attn.v",
    "attn.hook_z": "attn.y",
    "hook_attn_out": "attn.resid_delta",
    "hook_resid_mid": "resid_mid",
    "ln2.hook_normalized": "mlp.act_in",
    "mlp.hook_post": "mlp.post_act",
    "hook_mlp_out": "mlp.resid_delta",
}
_BY_HEAD = ("attn.hook_q", "attn.hook_k", "attn.hook_v", "attn.hook_z")

Names = str | Callable[[str], bool]


@dataclass(frozen=True)
class HookPoint:
    """What a hook gets as its `hook`."""

    name: str

    def layer(self) -> int:
        """The block's number."""
        return int(self.name.split(".")[1])


Hook = Callable[[Tensor, HookPoint], Tensor | None]
"""Called as `hook(value, hook=point)`; None leaves the value as it is."""


def hook_names(config: GPTConfig) -> dict[str, str]:
    """The site behind each name, in forward order.

    What leaves a block is what enters the next: `hook_resid_post` of one block and `hook_resid_pre` of the next are one
    site.
    """
    found: dict[str, str] = {}
    for layer in range(config.n_layer):
        found |= {f"blocks.{layer}.{name}": f"{layer}.{site}" for name, site in _BLOCK.items()}
        after = f"{layer + 1}.resid_in" if layer + 1 < config.n_layer else FINAL_SITE
        found[f"blocks.{layer}.hook_resid_post"] = after
    return found


def hook_tap(config: GPTConfig, fwd_hooks: Sequence[tuple[Names, Hook]]) -> Tap:
    """A tap that calls each hook at the names it is given for: one name, or those a function says yes to.

    Raises:
        InputError: a name that no site has, or a function that is true of none.
    """
    sites = hook_names(config)
    at: dict[str, list[tuple[HookPoint, Hook]]] = {}
    for names, hook in fwd_hooks:
        for name in _chosen(names, list(sites)):
            at.setdefault(sites[name], []).append((HookPoint(name), hook))

    def tap(site: str, activation: Tensor) -> Tensor:
        for point, hook in at.get(site, []):
            result: Any = hook(_spread(point.name, activation, config), hook=point)  # type: ignore[call-arg]
            if result is not None:
                activation = result.reshape(activation.shape) if isinstance(result, Tensor) else result
        return activation

    return tap


def run_with_hooks(
    model: GPT, tokens: Int64[Tensor, "B T"], fwd_hooks: Sequence[tuple[Names, Hook]]
) -> Float[Tensor, "B T V"]:
    """Logits with the hooks in place for this one call; errors as in `hook_tap`."""
    return model(tokens, tap=hook_tap(model.config, fwd_hooks))


def run_with_cache(
    model: GPT, tokens: Int64[Tensor, "B T"], names_filter: Names | Sequence[str] | None = None
) -> tuple[Float[Tensor, "B T V"], dict[str, Tensor]]:
    """Logits, and the activations by name: of all names, or of those that are one, among several, or said yes to.

    Raises:
        InputError: a name that no site has, or a function that is true of none.
    """
    every = list(hook_names(model.config))
    several = [names_filter] if isinstance(names_filter, str) or callable(names_filter) else names_filter
    wanted = every if several is None else [name for each in several for name in _chosen(each, every)]
    cache: dict[str, Tensor] = {}

    def keep(value: Tensor, hook: HookPoint) -> None:
        cache[hook.name] = value

    logits = run_with_hooks(model, tokens, [(name, keep) for name in dict.fromkeys(wanted)])
    return logits, {name: cache[name] for name in every if name in cache}


def _chosen(names: Names, every: list[str]) -> list[str]:
    if callable(names):
        found = [name for name in every if names(name)]
        if not found:
            raise InputError(f"the filter chooses none of the names, such as {every[0]!r}")
        return found
    if names not in every:
        raise InputError(f"no activation is called {names!r}; {nearest(names, every)}")
    return [names]


def _spread(name: str, activation: Tensor, config: GPTConfig) -> Tensor:
    """The activation with an axis for the heads, where that library has one."""
    if name.split(".", 2)[2] not in _BY_HEAD:
        return activation
    return activation.unflatten(-1, (config.n_head, config.head_width))
