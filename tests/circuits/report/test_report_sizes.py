"""Verdicts on CMD are about sizes from the circuit's on; the curves are made to measure."""

import math

import pytest
import torch
from torch import Tensor

from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.circuits.report import Row, sizes
from sparse_circuits.circuits.report.subject import QUICK, Subject

EMPTY, FULL = math.log(2), 0.01


def judged(circuit: Circuit, monkeypatch: pytest.MonkeyPatch, below: float, beyond: float) -> dict[str, Row]:
    """The rows where f is `below` at all sizes under the circuit's, `beyond` from there on, 0 and 1 at the ends."""

    def odds(subject: Subject, order: Tensor, k: int) -> Tensor:
        f = {0: 0.0, len(order): 1.0}.get(k, below if k < subject.circuit.size else beyond)
        loss = EMPTY - f * (EMPTY - FULL)
        return torch.full((2 * len(subject.examples("report")),), -math.log(math.expm1(loss)), dtype=torch.float64)

    monkeypatch.setattr(sizes, "_odds", odds)
    return {row.key: row for row in sizes.rows(Subject(circuit, QUICK))}


@pytest.mark.parametrize("key", ["cmd", "cmd_log"])
@pytest.mark.parametrize(
    ("below", "beyond", "verdict"),
    [
        (0.0, 1.0, "holds"),
        (1.0, 1.0, "holds"),
        (-9.0, 1.0, "holds"),
        # On the last step to the whole model f rises to 1, so that the mean is somewhat less than 0.45 and 0.9.
        (1.0, 0.55, "weak"),
        (0.95, 0.55, "weak"),
        (1.0, 0.1, "fails"),
        (0.0, 0.1, "fails"),
    ],
)
def test_sizes_below_the_circuits_neither_help_nor_harm(
    circuit: Circuit, monkeypatch: pytest.MonkeyPatch, key: str, below: float, beyond: float, verdict: str
) -> None:
    row = judged(circuit, monkeypatch, below, beyond)[key]
    assert row.verdict == verdict
    assert f"from the circuit's 5 of {circuit.space.total} nodes on" in row.sentence
    assert row.data["beyond"] == judged(circuit, monkeypatch, 0.5, beyond)[key].data["beyond"]


def test_the_mean_beyond_is_that_of_the_curve(circuit: Circuit, monkeypatch: pytest.MonkeyPatch) -> None:
    """f is 0.6 at each size but the last, so |1 - f| falls from 0.4 to 0 on the last step alone."""
    rows = judged(circuit, monkeypatch, 1.0, 0.6)
    at, total = rows["faithfulness"].data["sizes"], circuit.space.total
    last, rest = total - at[-2], total - 5
    assert rows["cmd"].data["beyond"] == pytest.approx(0.4 * (1 - last / rest / 2))
    last, rest = math.log(total / at[-2]), math.log(total / 5)
    assert rows["cmd_log"].data["beyond"] == pytest.approx(0.4 * (1 - last / rest / 2))
    for key in ("cmd", "cmd_log"):
        # All pairs are alike, so that there is no spread.
        assert rows[key].data["beyond_interval"] == pytest.approx([rows[key].data["beyond"]] * 2)
