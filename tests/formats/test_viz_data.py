"""Released circuit files come in whole, of all their ages, and are written again as they were."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from viz_files import SEEDS, assert_same, content_of, made, written

from sparse_circuits.errors import InputError
from sparse_circuits.formats import viz_data


@settings(deadline=None, max_examples=8)
@given(seed=SEEDS, kept=st.integers(0, 4), pairs=st.integers(0, 3))
def test_what_is_read_is_written_again(seed: int, kept: int, pairs: int, tmp_path_factory: Any) -> None:
    content = content_of(made(n_layer=1), seed=seed, kept=kept, pairs=pairs)
    folder = tmp_path_factory.mktemp("viz")
    data = viz_data.read(written(content, folder))
    viz_data.write(data, folder / "again.pt")
    assert_same(torch.load(folder / "again.pt", weights_only=True), content)


def test_losses_are_halved_and_padding_is_gone(tmp_path: Path) -> None:
    content = content_of(made())
    content["importances"] |= {"loss": 0.5, "interv_loss": 0.25}
    content["all_loss"] = [(0, 3.0), (8, 0.5)]
    data = viz_data.read(written(content, tmp_path))
    found = data.importances
    assert found is not None
    assert found.task is not None
    assert (found.model_loss, found.circuit_loss, data.history) == (0.25, 0.125, ((0, 1.5), (8, 0.25)))
    site = "1.attn.k"
    assert [2 * loss for loss in found.node_losses[site]] == content["importances"]["ch_interv_losses"][site]
    assert {name: 2 * loss for name, loss in found.layer_losses.items()} == content["importances"][
        "layer_interv_losses"
    ]
    tokens, values = content["importances"]["task_samples"]
    assert [len(prompt) for prompt in found.task.prompts()] == [12, 11, 10, 12, 11, 10]
    for row, prompt in enumerate(found.task.prompts()):
        assert 0 not in prompt
        assert prompt == tokens[row, : len(prompt)].tolist()
    channel = data.nodes[site][1]
    for row, shown in enumerate(found.task.activations(site, channel)):
        assert torch.equal(shown, values[site][channel][row, : found.task.lengths[row]])
    low, high = data.samples[site][channel][0.01]
    assert (len(low), len(high)) == (2, 1)
    assert low[0].tokens.shape == low[0].activations.shape
    effects = {block.between: block for block in found.edge_effects}
    assert effects["0.mlp.post_act", "0.mlp.resid_delta"].sources[-1] == "bias"


def test_prompts_that_end_in_token_zero_keep_it_where_their_lengths_are_said(tmp_path: Path) -> None:
    content = content_of(made())
    tokens, _ = content["importances"]["task_samples"]
    assert viz_data.lengths_of(tokens)[2] == 10
    content["sparse_circuits"] = {"lengths": [12, 11, 11, 12, 11, 10]}
    found = viz_data.read(written(content, tmp_path)).importances
    assert found is not None
    assert found.task is not None
    assert found.task.prompts()[2][-1] == 0
    assert list(map(len, found.task.prompts())) == [12, 11, 11, 12, 11, 10]


AGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "masks": lambda c: c["circuit_data"].update({"0.attn.q": torch.tensor([True, False, True] + [False] * 9)}),
    "lists": lambda c: c["circuit_data"].update({"0.attn.q": [0, 2]}),
    "settings among the sites": lambda c: c["circuit_data"].update(prune_config=c.pop("prune_config")),
    "ranks": lambda c: c["importances"].update(
        pair_data=[c["importances"]["pair_data"][:5], c["importances"]["pair_data"][5:]]
    ),
    "channels as tensors": lambda c: c["samples"].update(
        {site: {torch.tensor(k): v for k, v in channels.items()} for site, channels in c["samples"].items()}
    ),
    "losses as tensors": lambda c: c["importances"].update(loss=torch.tensor(c["importances"]["loss"])),
    "positions as tensors": lambda c: c["samples"]["0.attn.q"].update(
        {0: {0.5: ([(torch.zeros(4), torch.zeros(4), torch.tensor(3))], [])}}
    ),
    "no importances": lambda c: c.pop("importances"),
    "no samples": lambda c: c.update(samples=None),
    "more": lambda c: c.update(zeta={"a": torch.zeros(2)}),
}


@pytest.mark.parametrize("change", AGES.values(), ids=AGES)
def test_files_of_all_ages_are_read(change: Callable[..., object], tmp_path: Path) -> None:
    content = content_of(made())
    content["circuit_data"]["0.attn.q"] = torch.tensor([0, 2])
    content["importances"]["loss"] = 0.5
    change(content)
    data = viz_data.read(written(content, tmp_path))
    assert data.nodes["0.attn.q"] == (0, 2)
    assert data.settings["name"] == "prune_v2"
    if data.importances is not None:
        assert len(data.importances.edge_effects) == 12
        assert data.importances.model_loss == 0.25
    assert set(data.other) == ({"zeta"} if "zeta" in content else set())
    viz_data.write(data, tmp_path / "again.pt")
    assert viz_data.read(tmp_path / "again.pt").nodes == data.nodes


DAMAGE: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "no circuit": (lambda c: c.pop("circuit_data"), "is no circuit file: it has no circuit_data"),
    "site": (lambda c: c["circuit_data"].update(nose=torch.tensor([1])), "'nose' is no site"),
    "negative": (lambda c: c["circuit_data"].update({"0.attn.q": torch.tensor([-1])}), "kept channels are negative"),
    "twice": (lambda c: c["circuit_data"].update({"0.attn.q": torch.tensor([1, 1])}), "or come twice"),
    "fractions": (lambda c: c["circuit_data"].update({"0.attn.q": torch.tensor([0.5])}), "are no whole numbers"),
    "loss": (lambda c: c["importances"].update(loss="low"), "is no circuit file as released: ValueError"),
    "loss gone": (lambda c: c["importances"].pop("loss"), "KeyError 'loss'"),
    "block": (lambda c: c["importances"]["pair_data"][0].pop(), "is no circuit file as released"),
    "block shape": (lambda c: c["importances"]["pair_data"][0].__setitem__(1, [1, 2, 3]), "the block 3 sources"),
    "block turned": (
        lambda c: c["importances"].update(
            pair_data=[[torch.arange(6.0).reshape(3, 2), [0, 1], [0, 1, 2], ("0.attn.act_in", "0.attn.q")]]
        ),
        r"has shape \(3, 2\), and the block 2 sources and 3 targets",
    ),
    "lengths": (lambda c: c.update(sparse_circuits={"lengths": [1, 2]}), "are not those of the task samples"),
    "bias": (lambda c: c["importances"]["pair_data"][0].__setitem__(1, ["bias", 1]), "is not its last source"),
    "odd rows": (
        lambda c: c["importances"].update(task_samples=(torch.ones(3, 4).long(), {})),
        "task samples of shape",
    ),
    "task shape": (
        lambda c: c["importances"]["task_samples"][1]["0.attn.q"].update({0: torch.ones(1, 1)}),
        "task samples of 0.attn.q:0 have shape",
    ),
    "sample": (
        lambda c: c["samples"]["0.attn.q"].update({0: {0.5: ([(torch.zeros(4), torch.zeros(4), 4)], [])}}),
        "do not fit each other",
    ),
    "list": (lambda c: c.update(circuit_data=[1]), "it has no circuit_data"),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE)
def test_damaged_files_are_told_in_one_line(damage: Callable[..., object], message: str, tmp_path: Path) -> None:
    content = content_of(made())
    damage(content)
    path = written(content, tmp_path)
    with pytest.raises(InputError, match=message) as refused:
        viz_data.read(path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_pickles_of_before_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "viz_data.pkl").write_bytes(b"")
    with pytest.raises(InputError, match="is a pickle, which can run anything"):
        viz_data.read(tmp_path / "viz_data.pkl")
