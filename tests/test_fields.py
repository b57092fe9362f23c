"""Settings are read from JSON and checked; whatever is wrong is told in one line."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from sparse_circuits.config import GPTConfig, LoopConfig, TrainConfig
from sparse_circuits.errors import InputError
from sparse_circuits.fields import from_json, nearest, whole

JSON_REFUSED: list[tuple[type, Any, str]] = [
    (GPTConfig, [], "file: expected a JSON object for GPTConfig"),
    (GPTConfig, None, "file: expected a JSON object for GPTConfig"),
    (GPTConfig, {"n_layers": 2}, "file: unknown key 'n_layers'; did you mean 'n_layer'? choose among"),
    (GPTConfig, {"zzz": 2}, "file: unknown key 'zzz'; choose among abs_topk, "),
    (GPTConfig, {"n_layer": "2"}, "file: n_layer is '2'; expected int"),
    (GPTConfig, {"n_layer": 2.0}, "file: n_layer is 2.0; expected int"),
    (GPTConfig, {"n_layer": True}, "file: n_layer is True; expected int"),
    (GPTConfig, {"n_layer": None}, "file: n_layer is None; expected int"),
    (GPTConfig, {"bias": 1}, "file: bias is 1; expected bool"),
    (GPTConfig, {"d_head": 1.5}, "file: d_head is 1.5; expected int"),
    (GPTConfig, {"norm": "batch"}, "file: norm is 'batch'; choose among 'rms', 'layer'"),
    (GPTConfig, {"abs_topk_sites": "attn_in"}, "file: abs_topk_sites is 'attn_in'; expected a list"),
    (GPTConfig, {"abs_topk_sites": [1]}, "file: abs_topk_sites is 1; expected str"),
    (GPTConfig, {"abs_topk": True}, "file: abs_topk is True; expected float"),
    (GPTConfig, {"n_layer": 0}, "file: n_layer is 0; it must be at least 1"),
    (LoopConfig, {"learning_rate": 10**400}, "file: learning_rate is a number too large"),
    (TrainConfig, {"corpus": 1}, "file: corpus is 1; expected a path"),
    (TrainConfig, {"loop": 1}, "file: loop: expected a JSON object for LoopConfig"),
    (TrainConfig, {"loop": {"step": 1}}, "file: loop: unknown key 'step'; did you mean 'steps'?"),
    (TrainConfig, {"loop": {"steps": 0}}, "file: loop: steps is 0"),
]


@pytest.mark.parametrize(("kind", "values", "message"), JSON_REFUSED)
def test_json_that_is_no_config_is_refused_with_file_and_key(kind: type, values: Any, message: str) -> None:
    with pytest.raises(InputError) as refused:
        from_json(kind, values, "file")
    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)


def test_absent_keys_take_their_defaults_and_a_key_without_default_is_missed() -> None:
    assert from_json(LoopConfig, {"steps": 7}, "file") == LoopConfig(steps=7)

    @dataclasses.dataclass(frozen=True)
    class Needy:
        wanted: int

    with pytest.raises(InputError, match="file: the key 'wanted' is missing"):
        from_json(Needy, {}, "file")


def test_a_whole_number_serves_as_a_float() -> None:
    made = from_json(LoopConfig, {"learning_rate": 1}, "file")
    assert made.learning_rate == 1.0
    assert isinstance(made.learning_rate, float)


def test_nearest_names_the_closest_choice_and_lists_all() -> None:
    assert nearest("stpes", ["warmup", "steps"]) == "did you mean 'steps'? choose among steps, warmup"
    assert nearest("qqqq", ["warmup", "steps"]) == "choose among steps, warmup"


def test_whole_numbers_of_every_library() -> None:
    for value in (7, np.int64(7), np.uint8(7), torch.tensor(7)):
        assert type(whole(value, "count")) is int
        assert whole(value, "count") == 7
    for value, told in (
        (7.0, "7.0"),
        (None, "None"),
        ("7", "'7'"),
        (torch.zeros(9, 9), "tensor([[0., 0., 0., 0., 0., 0., 0., 0.,"),
    ):
        with pytest.raises(InputError) as refused:
            whole(value, "count")
        assert str(refused.value) == f"count is {told}; expected a whole number"
