"""Controls fail where the circuit is the model's own, and say in words where they succeed."""

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
from sparse_circuits.circuits.report import Card, controls, report, seeds
from sparse_circuits.circuits.report.controls import Relabelled, shuffle_weights
from sparse_circuits.circuits.report.subject import QUICK, Subject
from sparse_circuits.circuits.screen import screened
from sparse_circuits.model import GPT
from sparse_circuits.tasks import Task, Template


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


@pytest.fixture
def echo(empty_model) -> tuple[GPT, Task]:
    """A model in which the last token alone decides, through embedding and unembedding: no block does anything."""
    model = empty_model()
    sides = model.tokenizer.encode("[]")
    with torch.no_grad():
        model.wte.weight[sides[0], 0], model.wte.weight[sides[1], 0] = 1, -1
        model.lm_head.weight[sides[0], 0], model.lm_head.weight[sides[1], 0] = 3, -3
    splits = {"prune": "ox elk", "calibrate": "ant crow", "report": "bee wolf", "ood": "hippo rhino"}
    task = Task(
        "echo",
        "Say the last token again.",
        {split: (Template(split, f"{split[0]}$word[", f"{split[0]}$word]", "[", "]"),) for split in splits},
        {split: {"word": tuple(words.split())} for split, words in splits.items()},
    )
    return model, task


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
