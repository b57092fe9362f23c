"""A settings file holds all or some settings of pruning; flags change them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from sparse_circuits.__main__ import main
from sparse_circuits.circuits.config import PruneConfig
from sparse_circuits.commands import prune, sweep, tune
from sparse_circuits.errors import InputError
from sparse_circuits.fields import to_json
from sparse_circuits.settings import read_settings


def written(path: Path, values: object) -> Path:
    path.write_text(json.dumps(values))
    return path


def test_what_the_file_does_not_say_is_the_default(tmp_path: Path) -> None:
    default = PruneConfig()
    assert read_settings(written(tmp_path / "none.json", {})) == default
    some = read_settings(written(tmp_path / "some.json", {"price": 0.5, "loop": {"steps": 3}}))
    assert some == replace(default, price=0.5, loop=replace(default.loop, steps=3))
    assert read_settings(written(tmp_path / "all.json", to_json(some))) == some


def test_a_price_in_nats_is_read_as_a_part_of_its_target(tmp_path: Path) -> None:
    """Files of before said `k_coef`."""
    assert read_settings(written(tmp_path / "a.json", {"k_coef": 0.02, "target_loss": 0.5})).price == 0.04
    assert read_settings(written(tmp_path / "b.json", {"k_coef": 0.003})).price == 0.003 / PruneConfig().target_loss


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1], "expected a JSON object with settings of pruning"),
        ({"prise": 1.0}, "unknown key 'prise'; did you mean 'price'"),
        ({"loop": {"stepz": 1}}, "unknown key 'stepz'; did you mean 'steps'"),
        ({"loop": 3}, "expected a JSON object for LoopConfig"),
        ({"price": -1.0}, "price is -1.0"),
        ({"k_coef": -1.5}, "price is -10.0"),
        ({"k_coef": "cheap"}, "unknown key 'k_coef'"),
        ({"k_coef": True}, "unknown key 'k_coef'"),
        ({"k_coef": 10**400}, "unknown key 'k_coef'"),
        ({"k_coef": 0.1, "price": 0.2}, "unknown key 'k_coef'"),
        ({"k_coef": 0.1, "target_loss": 0.0}, "target_loss is 0.0"),
    ],
)
def test_anything_else_is_refused_with_the_files_name(values: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{tmp_path / 'bad.json'}.*{message}"):
        read_settings(written(tmp_path / "bad.json", values))


@pytest.mark.parametrize(
    ("command", "rest"),
    [
        (prune, ["prune", "--model", "m", "--task", "t"]),
        (sweep, ["sweep", "--models", "m", "--out", "o"]),
        (tune, ["tune", "--models", "m", "--tasks", "t", "--out", "o"]),
    ],
    ids=["prune", "sweep", "tune"],
)
def test_flags_change_what_the_file_says(command, rest: list[str], tmp_path: Path, monkeypatch) -> None:
    given: list = []
    monkeypatch.setattr(command, "run", given.append)
    file = written(tmp_path / "s.json", {"price": 0.5, "temperature": 2.0, "loop": {"steps": 3}})
    default = PruneConfig()
    assert main([*rest, "--settings", str(file), "--temperature", "0.3", "--learning-rate", "0.5"]) == 0
    assert main([*rest, f"--settings={file}"]) == 0
    assert main(rest) == 0
    file_says = replace(default, price=0.5, temperature=2.0, loop=replace(default.loop, steps=3))
    changed = replace(file_says, temperature=0.3, loop=replace(file_says.loop, learning_rate=0.5))
    assert [each.config for each in given] == [changed, file_says, default]
    assert [each.settings for each in given] == [file, file, None]
