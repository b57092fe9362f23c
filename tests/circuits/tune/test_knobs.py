"""Knobs turn one setting each, and back to the bit."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparse_circuits.circuits.config import PruneConfig
from sparse_circuits.circuits.tune.config import TuneConfig
from sparse_circuits.circuits.tune.knobs import KNOBS, Knob, knobs, positions, turned
from sparse_circuits.errors import InputError
from sparse_circuits.fields import to_json

DEFAULT = PruneConfig()


@pytest.mark.parametrize("knob", KNOBS.values(), ids=KNOBS)
@settings(max_examples=8, deadline=None)
@given(share=st.floats(0, 1))
def test_a_knob_sets_its_setting_and_no_other(knob: Knob, share: float) -> None:
    position = knob.low + share * (knob.high - knob.low)
    position = round(position) if knob.whole else min(knob.high, position)
    config = knob.turned(DEFAULT, position)
    assert knob.value_in(config) == pytest.approx(1 - position if knob.from_one else position)
    assert knob.position(config) == pytest.approx(position)
    before, after = to_json(DEFAULT), to_json(config)
    before = before | before.pop("loop")
    after = after | after.pop("loop")
    assert {name for name in before if before[name] != after[name]} <= {knob.name}


@pytest.mark.parametrize("knob", KNOBS.values(), ids=KNOBS)
def test_the_default_lies_inside_the_range(knob: Knob) -> None:
    assert knob.low < (1 - knob.value_in(DEFAULT) if knob.from_one else knob.value_in(DEFAULT)) < knob.high or (
        knob.name == "runs" and knob.low == DEFAULT.runs
    )


def test_where_it_is_nothing_changes_to_the_bit() -> None:
    chosen = list(KNOBS.values())
    assert turned(chosen, DEFAULT, positions(chosen, DEFAULT)) == DEFAULT
    beyond = replace(DEFAULT, price=1.0, loop=replace(DEFAULT.loop, beta2=0.05))
    assert positions(chosen, beyond)["price"] == KNOBS["price"].high
    assert turned(chosen, beyond, positions(chosen, beyond)) == beyond


def test_wrong_choices_are_refused(tmp_path) -> None:
    with pytest.raises(InputError, match="no knob 'learning_rat' to tune; did you mean 'learning_rate'"):
        knobs(("learning_rat",))
    study = {"out": tmp_path, "models": ("x",), "tasks": ("y",)}
    for changes, message in (
        ({"knobs": ()}, "no knobs given"),
        ({"knobs": ("price", "price")}, "knobs has price twice"),
        ({"knobs": ("restore_fraction",)}, "does nothing where no node is restored; give --restore"),
        ({"trials": 0}, "trials is 0"),
        ({"minutes": 0.0}, "minutes is 0.0; it must be above 0"),
    ):
        with pytest.raises(InputError, match=message):
            TuneConfig(**study, **changes)
    assert TuneConfig(**study, knobs=("restore_fraction",), config=replace(DEFAULT, restore="random")).knobs
    assert TuneConfig(**study).budget == 64
    assert TuneConfig(**study, minutes=1.0).budget is None
    assert TuneConfig(**study, minutes=1.0, trials=3).budget == 3
