"""Where a circuit's target was one of calibrated loss, it and all that it is compared with are judged calibrated."""

import math
from dataclasses import replace

import pytest
import torch
from known_circuit import CONFIG
from torch import Tensor

from sparse_circuits.circuits.calibration import Calibration
from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.circuits.means import node_means
from sparse_circuits.circuits.report import Row, agreement, controls, losses, seeds, sizes
from sparse_circuits.circuits.report.subject import QUICK, Subject
from sparse_circuits.model import GPT
from sparse_circuits.tasks import Task

ALWAYS_A, ALWAYS_B = (Calibration(1.0, torch.tensor(shift)) for shift in (30.0, -30.0))
"""Whatever the prompt: on half of them that is wrong, at a loss of nearly 30 nats."""


def by_key(found: list[Row]) -> dict[str, Row]:
    return {row.key: row for row in found}


def of(circuit: Circuit, calibrated: bool, calibration: Calibration | None = None) -> Circuit:
    config = replace(circuit.config, calibrated=calibrated)
    return Circuit(circuit.model, circuit.task, circuit.nodes, circuit.means, config, calibration=calibration)


@pytest.mark.parametrize("calibrated", [False, True])
def test_the_empty_circuit_has_a_calibration_of_its_own(echo: tuple[GPT, Task], calibrated: bool) -> None:
    """Its logits tell all answers apart, by next to nothing: scaled it meets the target, as it is it is a guess."""
    model, task = echo
    with torch.no_grad():
        model.lm_head.weight *= 1e-3
    means = node_means(model, torch.tensor([model.tokenizer.encode("a[b]")]))  # type: ignore[union-attr]
    config = replace(CONFIG, target_loss=0.4, eval_pairs=2, calibrated=calibrated)
    row = by_key(losses.rows(Subject(Circuit(model, task, {"0.attn.v": (0,)}, means, config), QUICK)))["loss_empty"]
    assert row.value is not None
    assert ("scaled and shifted to fit" in row.sentence) == calibrated
    if calibrated:
        # Two words, so four rows, are told apart: Platt's five in six.
        assert row.value == pytest.approx(-math.log(5 / 6), abs=1e-3)
        assert row.verdict == "fails"
        assert "meets the target of 0.4 already" in row.sentence
    else:
        assert row.value == pytest.approx(math.log(2), abs=0.03)
        assert row.verdict == "holds"


@pytest.mark.parametrize("calibrated", [False, True])
def test_answers_and_faithfulness_are_those_it_is_judged_by(circuit: Circuit, calibrated: bool) -> None:
    subject = Subject(of(circuit, calibrated, ALWAYS_A), QUICK)
    rows = by_key([*agreement.rows(subject), *sizes.rows(subject)])
    for key in ("same_answer_report", "same_answer_ood"):
        assert rows[key].value == (0.5 if calibrated else 1.0)
        assert rows[key].data["circuit_right"] == (0.5 if calibrated else 1.0)
    assert (rows["answer_kl"].verdict, rows["faithfulness"].verdict) == (
        ("fails",) * 2 if calibrated else ("holds",) * 2
    )
    if calibrated:
        # At nearly 15 nats, beside the ln 2 of a guess.
        assert rows["faithfulness"].value < -10
    assert rows["vocabulary_kl"] == by_key(agreement.rows(Subject(circuit, QUICK)))["vocabulary_kl"]


@pytest.mark.parametrize("calibrated", [False, True])
def test_seeds_answer_as_each_is_calibrated(
    circuit: Circuit, monkeypatch: pytest.MonkeyPatch, calibrated: bool
) -> None:
    others = [of(circuit, calibrated, each) for each in (ALWAYS_A, ALWAYS_B)]
    monkeypatch.setattr(seeds, "_others", lambda *rest: others)
    row = by_key(seeds.rows(Subject(others[0], QUICK), full=True))["seed_answers"]
    assert row.value == (0.0 if calibrated else 1.0)


@pytest.mark.parametrize("calibrated", [False, True])
def test_random_circuits_have_calibrations_of_their_own(
    circuit: Circuit, monkeypatch: pytest.MonkeyPatch, calibrated: bool
) -> None:
    """As good as the circuit, but for a fiftieth of its odds: a scale is all that they lack."""
    subject = Subject(of(circuit, calibrated, Calibration(1.0, torch.zeros(()))), QUICK)
    assert subject.gain > 0.6
    honest = Subject.measure

    def measure(self: Subject, kept: Tensor, kind: None = None, split: str = "report", **more: object) -> Tensor:
        return honest(self, self.kept, split=split) / 50

    monkeypatch.setattr(Subject, "measure", measure)
    row = controls.rows(subject, subject, full=False)[0]
    assert row.key == "control_random"
    assert row.verdict == ("fails" if calibrated else "holds")
    if calibrated:
        assert "a random circuit does nearly as well" in row.sentence


def test_fits_are_on_as_many_pairs_as_the_circuits_own(circuit: Circuit) -> None:
    whole, part = (Subject(of(circuit, True), QUICK, pairs=pairs) for pairs in (None, 2))
    assert len(part.examples("calibrate")) == 2
    for fit in (lambda subject: subject.calibration, lambda subject: subject.fitted(subject.kept)):
        assert fit(part) == fit(whole)
    assert Subject(of(circuit, False), QUICK).applied("circuit") is None
    assert Subject(of(circuit, False), QUICK).fitted(whole.kept) is None
    # A circuit that brings no calibration is judged with one that is fitted to it.
    assert whole.applied("circuit") is whole.calibration
    assert whole.applied("circuit") is not None
