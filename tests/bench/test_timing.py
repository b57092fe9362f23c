"""Turns, medians and verdicts."""

import time
from itertools import count

import pytest
import torch

from sparse_circuits.bench import timing
from sparse_circuits.bench.timing import Row, Timed, difference, interleaved


def test_sides_take_turns_after_a_first_run_that_does_not_count() -> None:
    order: list[str] = []
    sides = {name: lambda name=name: order.append(name) for name in "ab"}
    interleaved(sides, repeats=3, seconds=60.0, before=lambda: order.append("-"))
    assert "".join(order) == "-a-b" * 4


def test_a_slow_side_runs_twice_and_a_quick_one_as_often_as_asked() -> None:
    runs = {"slow": 0, "quick": 0}

    def slow() -> None:
        runs["slow"] += 1
        time.sleep(0.02)

    def quick() -> None:
        runs["quick"] += 1

    interleaved({"slow": slow, "quick": quick}, repeats=7, seconds=0.01)
    assert runs == {"slow": 1 + 2, "quick": 1 + 7}


def test_medians_and_what_the_first_call_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    durations = iter([9.0, 1.0, 5.0, 2.0])
    clock = [0.0]

    def side() -> None:
        clock[0] += next(durations)

    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])
    worked = count(0.0, 0.25)
    monkeypatch.setattr(timing.time, "process_time", lambda: next(worked))
    timed = interleaved({"side": side}, repeats=3, seconds=60.0)["side"]
    assert timed == Timed(first=9.0, median=2.0, mean=8 / 3, processor=0.25)
    assert timed.compiling == 7.0


def test_a_row_judges_itself() -> None:
    row = Row("case", "what", "against", 6.0, 2.0, "s", target=3.0)
    assert (row.ratio, row.met) == (3.0, True)
    assert Row("case", "what", "against", 6.0, 2.0, "s", target=3.1).met is False
    assert Row("case", "what", "against", 6.0, 2.0, "s").met is None
    assert Row("case", "what", "against", None, None, "s", target=3.0).met is None


def test_the_difference_is_relative_to_the_opponent() -> None:
    assert difference(torch.tensor([3.0, 5.0]), torch.tensor([3.0, 4.0])) == pytest.approx(1 / 5)


def test_the_machine_is_described() -> None:
    assert {"cpu", "cores", "threads", "gpu", "load", "torch"} <= set(timing.machine())
    timing.release()
