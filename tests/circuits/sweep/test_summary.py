"""Sizes, coverage and ratios by hand."""

import json
import math
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pytest

from sparse_circuits.circuits.sweep.plot import plot
from sparse_circuits.circuits.sweep.summary import LeftOut, Row, Series, Sweep, short
from sparse_circuits.circuits.sweep.table import print_sweep, to_json

SPARSE, DENSE = Series("sparse", "learned"), Series("dense", "learned")


def row(model: str, task: str, edges: int | None, target: float = 0.1, seed: int = 0, method: str = "learned") -> Row:
    status = "not reached" if edges is None else "found"
    return Row(model, task, method, target, seed, status, None, 0.05, edges, edges, 0.2, 1.0)


SMALL = Sweep(
    [
        row("sparse", "one", 10),
        row("sparse", "two", 0),
        row("sparse", "three", 7),
        row("sparse", "four", None),
        row("dense", "one", 40),
        row("dense", "two", 9),
        row("dense", "three", None),
        row("dense", "four", 5),
    ]
)


def test_the_mean_is_over_the_tasks_that_all_reach() -> None:
    sparse, dense = SMALL.size(SPARSE, 0.1), SMALL.size(DENSE, 0.1)
    assert sparse.edges.value == pytest.approx(math.sqrt(10 * 1))  # no edge counts as one
    assert dense.edges.value == pytest.approx(math.sqrt(40 * 9))
    assert (sparse.common, dense.common, sparse.reached, dense.reached) == (2, 2, 3, 3)
    assert sparse.edges.low == pytest.approx(1)
    assert sparse.edges.high == pytest.approx(10)


def test_the_ratio_is_taken_task_by_task() -> None:
    (ratio,) = SMALL.ratios
    assert ratio.times.value == pytest.approx(math.sqrt(4 * 9))
    assert (ratio.times.low, ratio.times.high) == pytest.approx((4, 9))
    assert str(ratio) == "sparse vs dense at 0.1 nats: 6 times smaller [4, 9], 2 of 4 tasks"
    assert str(SMALL.ratio(DENSE, SPARSE, 0.1)) == "dense vs sparse at 0.1 nats: 6 times larger [4, 9], 2 of 4 tasks"


def test_numbers_are_short_and_readable() -> None:
    assert [short(number) for number in (0.12345, 6.0, 31.26, 99.94, 123.4, 12345.6)] == [
        *("0.123", "6", "31.3", "99.9"),
        *("123", "12,346"),
    ]


def test_of_seeds_the_geometric_mean_counts() -> None:
    found = Sweep([row("m", "one", 4, seed=0), row("m", "one", 16, seed=1), row("m", "two", None, seed=0)])
    assert found.edges(found.series[0], 0.1) == {"one": pytest.approx(8)}
    assert found.left_out == []


def test_a_task_counts_with_all_its_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    """Of three seeds two diverged: the one that is left says nothing about the others' sizes."""
    diverged = [replace(row("a", "one", None, seed=seed), status="failed", reason="went to NaN") for seed in (1, 2)]
    found = Sweep(
        [
            *[row("a", "one", 10), *diverged],
            *[row("a", "two", 6, seed=seed) for seed in range(3)],
            *[row("a", "one", 40, seed=seed, method="random") for seed in range(3)],
            *[row("a", "two", 12, seed=seed, method="random") for seed in range(3)],
        ]
    )
    learned, random = found.series
    assert found.edges(learned, 0.1) == {"two": pytest.approx(6)}
    assert (found.size(learned, 0.1).reached, found.size(random, 0.1).reached) == (1, 2)
    assert str(found.ratios[0]) == "a vs a (random) at 0.1 nats: 2 times smaller, 1 of 2 tasks"
    assert found.left_out == [LeftOut(learned, 0.1, "one", found=1, seeds=3)]
    print_sweep(found)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines if line.split()[:1] == ["one"]] == [["one", "failed", "/", "40"]]
    assert lines[-3:-1] == [
        "failed a, one: went to NaN",
        "left out a, one at 0.1 nats: 1 of 3 seeds led to a circuit, and a task counts with all its seeds",
    ]
    (told,) = to_json(found)["left_out"]
    assert (told["task"], told["found"], told["seeds"]) == ("one", 1, 3)


def test_one_task_has_no_interval_and_none_no_mean() -> None:
    one = Sweep([row("sparse", "one", 4), row("dense", "one", 8)])
    assert str(one.ratios[0]) == "sparse vs dense at 0.1 nats: 2 times smaller, 1 of 1 tasks"
    assert math.isnan(one.size(SPARSE, 0.1).edges.low)
    same = Sweep([row(model, task, 4) for model in ("sparse", "dense") for task in ("one", "two")])
    assert str(same.ratios[0]) == "sparse vs dense at 0.1 nats: circuits of equal size, 2 of 2 tasks"
    none = Sweep([row("sparse", "one", 4), row("dense", "one", None)])
    assert str(none.ratios[0]) == "sparse vs dense at 0.1 nats: no task that both reach (0 of 1 tasks)"
    assert math.isnan(none.size(SPARSE, 0.1).edges.value)
    assert plot(none) == ""


def test_models_are_compared_by_each_method_and_methods_on_each_model() -> None:
    found = Sweep([row(model, "one", 1, method=way) for way in ("learned", "random") for model in ("a", "b", "c")])
    compared = {(str(ratio.first), str(ratio.other)) for ratio in found.ratios}
    assert compared == {
        ("a", "b"),
        ("a", "c"),
        ("a (random)", "b (random)"),
        ("a (random)", "c (random)"),
        ("a", "a (random)"),
        ("b", "b (random)"),
        ("c", "c (random)"),
    }


def test_it_is_told_as_tables_and_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    print_sweep(SMALL)
    out = capsys.readouterr().out
    (line,) = [line for line in out.splitlines() if line.split()[:4] == ["0.1", "2", "of", "4"]]
    assert "3.16 [1, 10] (3)" in line
    assert [line.split() for line in out.splitlines() if line.split()[:1] == ["three"]] == [["three", "7", "/", "-"]]
    assert out.splitlines()[-1] == str(SMALL.ratios[0])
    told = json.loads(json.dumps(to_json(SMALL), allow_nan=False))
    assert told["ratios"][0]["times"]["value"] == pytest.approx(6)
    assert [each["status"] for each in told["results"]].count("found") == 6


def test_the_plot_has_a_mark_for_each_size() -> None:
    targets = (0.3, 0.1, 0.03)
    rows = [row(m, t, n, target) for m, n in (("a", 3), ("<b>", 99)) for t in ("one", "two") for target in targets]
    drawn = ElementTree.fromstring(plot(Sweep(rows)))
    titles = [each.text for each in drawn.iter("{http://www.w3.org/2000/svg}title")]
    assert len(titles) == 6
    assert "<b> at 0.03: 99 edges over 2 tasks" in titles
    circles = [each for each in drawn.iter("{http://www.w3.org/2000/svg}circle") if len(each)]
    across = [float(each.get("cx", "")) for each in circles]
    assert across == sorted(across)  # smaller targets lie to the right
    squares = [each for each in drawn.iter("{http://www.w3.org/2000/svg}polygon") if len(each)]
    assert float(squares[0].get("points", "").split()[0].split(",")[1]) < float(circles[0].get("cy", ""))


def test_a_circuit_for_a_smaller_target_meets_a_larger_one_too(capsys: pytest.CaptureFixture[str]) -> None:
    """By seed: what counts at a target is the smallest found for it or below; what is found above it does not."""
    found = Sweep(
        [
            row("sparse", "one", 84, target=0.5),
            row("sparse", "one", 30, target=0.1),
            row("sparse", "one", 54, target=0.05),
            row("sparse", "two", 4, target=0.5),
            row("sparse", "two", 9, target=0.1),
            row("sparse", "two", None, target=0.05),
            row("dense", "one", 60, target=0.5),
            row("dense", "one", 60, target=0.1),
            replace(row("dense", "two", None, target=0.5), status="failed", reason="went to NaN"),
            row("dense", "two", 16, target=0.1),
        ]
    )
    assert found.edges(SPARSE, 0.5) == pytest.approx({"one": 30, "two": 4})
    assert found.edges(SPARSE, 0.1) == pytest.approx({"one": 30, "two": 9})
    assert found.edges(SPARSE, 0.05) == pytest.approx({"one": 54})
    assert found.edges(DENSE, 0.5) == pytest.approx({"one": 60, "two": 16})
    assert found.least[SPARSE, "one", 0, 0.5].target == 0.1
    assert found.least[DENSE, "one", 0, 0.5].target == 0.5  # among equals the one that was asked for
    assert found.ratio(SPARSE, DENSE, 0.5).times.value == pytest.approx(math.sqrt(60 / 30 * 16 / 4))
    print_sweep(found)
    lines = capsys.readouterr().out.splitlines()
    told = [line.split() for line in lines if line.split()[:1] in (["one"], ["two"])]
    assert told == [
        ["one", "30*", "/", "60", "30", "/", "60", "54", "/"],
        ["two", "4", "/", "16*", "9", "/", "16", "-", "/"],
    ]
    assert "*: found for a smaller target" in " ".join(" ".join(lines).split())
    assert [each["edges"] for each in to_json(found)["results"]][:3] == [84, 30, 54]  # as each was found


def test_seeds_do_not_lend_each_other_circuits() -> None:
    rows = [row("m", "one", edges, target, seed) for seed, target, edges in ((0, 0.5, 9), (0, 0.1, 3), (1, 0.5, 27))]
    found = Sweep([*rows, row("m", "one", None, 0.1, 1)])
    assert found.edges(found.series[0], 0.5) == {"one": pytest.approx(9)}
    assert found.edges(found.series[0], 0.1) == {}
