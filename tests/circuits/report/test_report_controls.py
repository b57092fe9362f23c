"""Controls fail where the circuit is the model's own, and say in words where they succeed."""

import math
from collections import Counter
from dataclasses import replace

import pytest
import torch
from known_circuit import CONFIG
from torch import Tensor

from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.circuits.config import PruneConfig
from sparse_circuits.circuits.masks import MaskLearning
from sparse_circuits.circuits.means import node_means
from sparse_circuits.circuits.report import Card, Row, controls, report, seeds
from sparse_circuits.circuits.report.controls import Control, Relabelled, shuffle_weights
from sparse_circuits.circuits.report.subject import QUICK, Subject
from sparse_circuits.circuits.screen import screened
from sparse_circuits.model import GPT
from sparse_circuits.tasks import Task


@pytest.fixture
def full(circuit: Circuit) -> Card:
    return report(circuit, full=True)


def test_the_known_circuit_passes_all_of_them(full: Card) -> None:
    controls = [row for row in full.rows if row.control]
    assert [row.key for row in controls] == [
        "control_random", "control_nonsense", "control_exchanged", "control_shuffled",
    ]  # fmt: skip
    assert {row.verdict for row in full.rows if row.control} == {"holds"}
    assert full.warnings == []
    assert "not measured" not in {row.verdict for row in full.rows}
    assert full.row("control_nonsense").value > 0.5
    assert full.row("control_exchanged").value > 0.5
    # Every seed finds the three edges that there are.
    assert full.row("size_spread").value == 1.0
    assert full.row("size_spread").data["edges"] == [3, 3, 3]
    assert full.row("overlap").value == 1.0
    assert full.row("seed_answers").value == 1.0


def test_controls_that_succeed_are_told_in_words(echo: tuple[GPT, Task]) -> None:
    model, task = echo
    means = node_means(model, torch.tensor([model.tokenizer.encode("a[b]")]))  # type: ignore[union-attr]
    card = report(Circuit(model, task, {"0.attn.v": (0,)}, means, CONFIG), full=True)
    assert card.verdict == "fails"
    assert card.line.startswith("DO NOT BELIEVE")
    told = " ".join(card.warnings)
    assert "WARNING: a random circuit does nearly as well" in told
    assert "Shuffled weights: the same search reaches" in told
    assert "WARNING: pruning finds a low loss there too, so the circuit's low loss is no evidence" in told
    assert all(warning in str(card) for warning in card.warnings)
    assert "meets the target of 0.1 already" in card.row("loss_empty").sentence


def test_their_search_begins_with_as_many_nodes_as_the_circuits_own(circuit: Circuit, monkeypatch) -> None:
    """Which begins with more than `screen` says where those miss the target; a control's own loss is soon met."""
    total = circuit.space.total
    circuit.config = replace(circuit.config, screen=1 / total, loop=replace(circuit.config.loop, steps=1))
    own = int((screened(circuit.full, circuit.task, circuit.means, circuit.config) >= 0).sum())
    assert own > 4
    begun = []

    def learning(model: GPT, task: Task, held: Tensor, config: PruneConfig, starts: list[Tensor]) -> MaskLearning:
        begun.append(int((starts[0] >= 0).sum()))
        return MaskLearning(model, task, held, config, starts)

    monkeypatch.setattr(controls, "MaskLearning", learning)
    subject = Subject(circuit, QUICK)
    controls.rows(subject, subject, full=True)
    assert len(begun) == 3
    assert min(begun) >= own


def test_a_circuit_in_a_shuffled_model_is_not_believed(circuit: Circuit) -> None:
    shuffled = shuffle_weights(circuit.model, torch.Generator().manual_seed(0))
    card = report(Circuit(shuffled, circuit.task, circuit.nodes, circuit.means, CONFIG))
    assert card.verdict == "fails"
    assert card.line.startswith("DO NOT BELIEVE this circuit. What speaks against it: loss on unseen pairs")


@pytest.mark.parametrize("lot", [0, 1, None], ids=["lot 0", "lot 1", "exchanged"])
def test_a_circuit_for_nonsense_is_not_believed(circuit: Circuit, lot: int | None) -> None:
    task = Relabelled.of(circuit.task, lot)
    card = report(Circuit(circuit.model, task, circuit.nodes, circuit.means, CONFIG))
    assert card.row("loss_report").value > 0.6
    assert card.row("loss_report").verdict == "fails"
    assert card.line.startswith("DO NOT BELIEVE")


def test_shuffling_keeps_what_rows_hold(random_model) -> None:
    model = random_model()
    with torch.no_grad():
        for block in model.blocks:
            block.mlp.c_fc.weight[:, 3:] = 0
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    shuffled = shuffle_weights(model, torch.Generator().manual_seed(0))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    for name, tensor in shuffled.state_dict().items():
        if name.startswith("h.") and tensor.ndim == 2:
            assert not torch.equal(tensor, before[name])
            assert torch.equal(tensor.sort(1).values, before[name].sort(1).values)
        else:
            assert torch.equal(tensor, before[name])


def test_the_lot_falls_once_for_each_pair(circuit: Circuit) -> None:
    words = tuple(f"{a}{b}" for a in "abcdefgh" for b in "stuvwxyz")
    task = replace(circuit.task, words={**circuit.task.words, "report": {"word": words}})
    plain = circuit.model.tokenizer
    assert plain is not None
    true = task.examples(plain, "report", 64)
    drawn = Relabelled.of(task, 5).examples(plain, "report", 64)
    assert torch.equal(drawn.tokens, true.tokens)
    exchanged = drawn.targets != true.targets
    assert torch.equal(exchanged[:64], exchanged[64:])
    assert 20 < int(exchanged[:64].sum()) < 44
    assert torch.equal(drawn.others[exchanged], true.targets[exchanged])
    # In another draw the same pair has the same answer.
    again = Relabelled.of(task, 5).examples(plain, "report", 40, seed=9)
    answers = {tuple(row): int(target) for row, target in zip(drawn.tokens.tolist(), drawn.targets, strict=True)}
    assert all(answers[tuple(row)] == int(t) for row, t in zip(again.tokens.tolist(), again.targets, strict=True))
    assert Relabelled.of(task, 6).examples(plain, "report", 64).targets.tolist() != drawn.targets.tolist()
    opposite = Relabelled.of(task, None).examples(plain, "report", 64)
    assert torch.equal(opposite.targets, true.others)
    assert Counter(opposite.others.tolist()) == Counter(true.targets.tolist())


def test_seeds_that_cannot_be_tried_are_told(circuit: Circuit) -> None:
    circuit.config = replace(circuit.config, target_loss=0.001)
    rows = seeds.rows(Subject(circuit, QUICK), full=True)
    assert {row.verdict for row in rows} == {"not measured"}
    assert "Other seeds cannot be tried: the model's own loss on quotes" in rows[0].sentence


def learned(circuit: Circuit, monkeypatch: pytest.MonkeyPatch, pairs: list[float], fitted: float) -> Row:
    """The row of a nonsense task on which masks reach these losses; random circuits reach the same."""
    found = Control(torch.tensor(pairs, dtype=torch.float64), fitted, 3)
    monkeypatch.setattr(controls, "_search", lambda *rest: found)
    subject = Subject(circuit, QUICK)
    monkeypatch.setattr(subject, "losses", lambda *rest, **more: found.pairs)
    monkeypatch.setitem(vars(subject), "gain", 0.6)
    rows = {row.key: row for row in controls.rows(subject, subject, full=True)}
    assert rows["control_random"].interval == rows["control_nonsense"].interval
    return rows["control_nonsense" if fitted < math.inf else "control_random"]


@pytest.mark.parametrize("fitted", [2.0, math.inf], ids=["learned", "random"])
def test_controls_are_judged_by_their_intervals(
    circuit: Circuit, monkeypatch: pytest.MonkeyPatch, fitted: float
) -> None:
    """Of the gain of 0.6 three quarters are 0.45: a control that may have 0.243 nats may have succeeded."""
    sure = learned(circuit, monkeypatch, [0.65] * 4, fitted)
    assert sure.verdict == "holds"
    assert "WARNING" not in sure.sentence
    # The mean is that of a guess; but draws of the same pair again and again are among the thousand.
    unsure = learned(circuit, monkeypatch, [0.1, 0.1, 0.1, 2.4], fitted)
    assert unsure.value == pytest.approx(0.675)
    assert unsure.verdict == "weak"
    assert "WARNING: these are too few pairs to tell; it may get as far as 0.100." in unsure.sentence
    partly = learned(circuit, monkeypatch, [0.4] * 4, fitted)
    assert partly.verdict == "weak"
    assert "WARNING: it gets part of the way." in partly.sentence
    assert learned(circuit, monkeypatch, [0.2] * 4, fitted).verdict == "fails"


def test_a_guess_is_not_learned_by_heart(circuit: Circuit, monkeypatch: pytest.MonkeyPatch) -> None:
    circuit.config = replace(circuit.config, target_loss=0.5)
    guess = math.log(2)
    assert learned(circuit, monkeypatch, [guess] * 4, guess).verdict == "holds"
    heart = learned(circuit, monkeypatch, [guess] * 4, 0.6)
    assert heart.verdict == "weak"
    assert "learned on it has 0.600 nats: they can fit pairs by heart" in heart.sentence
    circuit.config = replace(circuit.config, target_loss=0.1)
    assert learned(circuit, monkeypatch, [guess] * 4, 0.6).verdict == "holds"
    assert learned(circuit, monkeypatch, [guess] * 4, 0.19).verdict == "weak"
