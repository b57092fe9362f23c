"""Site names are the release's, in forward order, and taps compose."""

import pytest
import torch
from torch import Tensor

from sparse_circuits.config import GPTConfig
from sparse_circuits.errors import InputError
from sparse_circuits.sites import Record, compose, match_sites, node_sites, site_names, site_width

CONFIG = GPTConfig(
    n_layer=2, d_model=12, n_head=3, d_head=5, d_mlp=7, positions="learned_concat", d_position=4, vocab_size=9
)


def test_sites_in_forward_order() -> None:
    attention = [f"attn.{name}" for name in ("act_in", "q", "k", "v", "y", "resid_delta")]
    block = ["resid_in", *attention, "resid_mid", "mlp.act_in", "mlp.post_act", "mlp.resid_delta"]
    assert site_names(CONFIG) == [f"0.{s}" for s in block] + [f"1.{s}" for s in block] + ["final_resid"]


@pytest.mark.parametrize(
    ("site", "width"),
    [
        ("0.resid_in", 12),
        ("0.attn.act_in", 16),
        ("1.attn.q", 15),
        ("1.attn.k", 15),
        ("1.attn.v", 15),
        ("1.attn.y", 15),
        ("1.attn.resid_delta", 12),
        ("0.resid_mid", 12),
        ("0.mlp.act_in", 16),
        ("0.mlp.post_act", 7),
        ("0.mlp.resid_delta", 12),
        ("final_resid", 12),
    ],
)
def test_width_of_each_site(site: str, width: int) -> None:
    assert site_width(CONFIG, site) == width


def test_nodes_are_the_channels_of_eight_sites_a_layer() -> None:
    widths = {"act_in": 16, "q": 15, "k": 15, "v": 15, "resid_delta": 12}
    expected = {}
    for layer in (0, 1):
        expected |= {f"{layer}.attn.{name}": width for name, width in widths.items()}
        expected |= {f"{layer}.mlp.act_in": 16, f"{layer}.mlp.post_act": 7, f"{layer}.mlp.resid_delta": 12}
    assert node_sites(CONFIG) == expected
    assert list(node_sites(CONFIG)) == list(expected)


def test_patterns_match_in_forward_order_each_site_once() -> None:
    assert match_sites(CONFIG, "*.attn.q") == ["0.attn.q", "1.attn.q"]
    assert match_sites(CONFIG, ["final_resid", "1.attn.[qk]", "1.attn.q"]) == ["1.attn.q", "1.attn.k", "final_resid"]
    assert match_sites(CONFIG, "*") == site_names(CONFIG)


@pytest.mark.parametrize("patterns", ["2.attn.q", ["*.attn.q", "attn.q"], "", "*.ATTN.q"])
def test_a_pattern_without_a_site_is_refused(patterns: str | list[str]) -> None:
    with pytest.raises(InputError, match="no site matches"):
        match_sites(CONFIG, patterns)


def test_the_refusal_names_the_nearest_site() -> None:
    with pytest.raises(InputError, match=r"did you mean '0.attn.resid_delta'"):
        match_sites(CONFIG, "0.attn.resid_dleta")


def add(amount: float) -> object:
    return lambda site, activation: activation + amount


def test_taps_compose_in_order_and_none_is_no_tap() -> None:
    def double(site: str, activation: Tensor) -> Tensor:
        return activation * 2

    x = torch.tensor([1.0, 10.0])
    for taps, expected in [((add(1), double), [4.0, 22.0]), ((double, None, add(1)), [3.0, 21.0])]:
        tap = compose(*taps)  # type: ignore[arg-type]
        assert tap is not None
        assert tap("0.attn.q", x).tolist() == expected
    assert compose() is None
    assert compose(None, None) is None
    assert compose(None, double) is double


def test_record_keeps_wanted_sites_only_and_changes_nothing() -> None:
    record = Record(["0.attn.q"])
    x, y = torch.ones(2), torch.zeros(2)
    assert record("0.attn.q", x) is x
    assert record("0.attn.k", y) is y
    assert list(record.sites) == ["0.attn.q"]
    assert record.sites["0.attn.q"] is x
