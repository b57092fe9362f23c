"""The command line on a card is one that trains the same model again."""

import dataclasses
import shlex
from pathlib import Path

import pytest

from sparse_circuits import presets
from sparse_circuits.__main__ import _parse, _take_preset
from sparse_circuits.card.recipe import command_line, recipe
from sparse_circuits.commands import train
from sparse_circuits.config import GPTConfig, LoopConfig, SparsityConfig, TrainConfig

CONFIGS = {
    "sparse-circuits train": TrainConfig(),
    "sparse-circuits train --preset demo --seed 3": dataclasses.replace(
        presets.demo_train(), loop=dataclasses.replace(presets.demo_train().loop, seed=3)
    ),
    "sparse-circuits train --out b --no-bias --abs-topk None --density 0.03125 --steps 7": TrainConfig(
        out=Path("b"),
        model=GPTConfig(vocab_size=77, bias=False, abs_topk=None),
        sparsity=SparsityConfig(density=1 / 32),
        loop=LoopConfig(steps=7),
    ),
    "sparse-circuits train --abs-topk-sites attn_q mlp_out": TrainConfig(
        model=GPTConfig(abs_topk_sites=("attn_q", "mlp_out"))
    ),
}


@pytest.mark.parametrize("line", CONFIGS)
def test_the_command_line_gives_the_config_again(line: str) -> None:
    config = CONFIGS[line]
    assert command_line(config) == line
    verb, *rest = shlex.split(line)[1:]
    preset, rest = _take_preset(rest, train.PRESETS)
    parsed = _parse(verb, train.Command, rest, train.PRESETS[preset]() if preset else None, train.PRESETS).config
    vocabulary = dataclasses.replace(parsed.model, vocab_size=config.model.vocab_size)  # the corpus says
    assert dataclasses.replace(parsed, model=vocabulary) == config


def test_a_folder_without_its_history_has_no_recipe(tmp_path: Path) -> None:
    assert recipe(tmp_path) is None
