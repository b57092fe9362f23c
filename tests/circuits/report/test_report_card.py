"""The card on a model whose circuit is known by heart, and on wrong circuits of it.

The quote model's last residual is (0, 0, 1, a, 0, ...) with a = +-`answer(word)`, worked out in `test_circuit`.
"""

import io
import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from known_circuit import CONFIG
from rich.console import Console

from sparse_circuits.circuits.calibration import Calibration
from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.circuits.means import Means
from sparse_circuits.circuits.nodes import NodeSpace
from sparse_circuits.circuits.report import POINTS, Card, Row, identity, report
from sparse_circuits.circuits.report.build import fingerprint, known
from sparse_circuits.circuits.report.internals import inside, varying
from sparse_circuits.circuits.report.necessity import random_sets
from sparse_circuits.circuits.report.page import page
from sparse_circuits.circuits.report.subject import QUICK, Subject
from sparse_circuits.circuits.report.table import print_card
from sparse_circuits.errors import InputError
from sparse_circuits.model import GPT
from sparse_circuits.tasks import Task

EMPTY = math.log(2)


def answer(word: str) -> float:
    """What the head writes at the last token, with the query at its full size of root 8."""
    at_quote = math.sqrt(8 / 3)
    score = math.sqrt(8) * 3 * at_quote / math.sqrt(2)
    weight = math.exp(score) / (math.exp(score) + (3 + len(word) - 1) + 1)
    return weight * at_quote


def loss(word: str) -> float:
    a = answer(word)
    return math.log1p(math.exp(-2 * a / math.sqrt((1 + a * a) / 8)))


WORDS = ("bee", "wolf", "otter", "rabbit")


def test_every_point_has_a_sentence_and_a_verdict(card: Card) -> None:
    assert {row.point for row in card.rows} == set(POINTS)
    assert len({row.key for row in card.rows}) == len(card.rows)
    for row in card.rows:
        assert row.sentence.endswith(".")
        assert row.sentence[0].isupper()
        if row.verdict == "not measured":
            assert row.value is None
            continue
        assert row.value is not None
        assert row.interval is not None
        low, high = row.interval
        assert low <= row.value + 1e-9
        assert row.value <= high + 1e-9
    assert {row.point for row in card.rows if row.verdict == "not measured"} == {4, 5}


def test_the_true_circuit_is_believed(card: Card) -> None:
    # Held at zero, q0 no longer asks: a true dependence on the means, and the only doubt.
    assert [row.key for row in card.rows if row.verdict in ("weak", "fails")] == ["ablation_zero"]
    assert card.verdict == "weak"
    assert card.line.startswith("Believe this circuit with care. Weak: zero ablation.")
    assert "Not all measured: negative controls, seeds." in card.line
    assert card.warnings == []


def test_its_figures_are_those_worked_out_by_hand(card: Card) -> None:
    model = sum(map(loss, WORDS)) / 4
    row = card.row("loss_report")
    assert row.data["splits"]["report"]["model"][0] == pytest.approx(model, rel=1e-3)
    assert row.value == pytest.approx(model, rel=1e-2)  # q0 is held at its mean, which asks the same
    assert row.data["splits"]["report"]["empty"][0] == pytest.approx(EMPTY, abs=1e-6)
    assert card.row("necessity").value == pytest.approx(EMPTY, abs=1e-6)
    assert card.row("necessity_random").value == 1.0
    assert card.row("same_answer_report").value == 1.0
    assert card.row("answer_kl").value == pytest.approx(0, abs=1e-6)
    # The empty circuit says one half: KL = ln 2 - H(p).
    entropy = sum(-p * math.log(p) - (1 - p) * math.log(1 - p) for p in (math.exp(-loss(w)) for w in WORDS)) / 4
    assert card.row("answer_kl").data["empty"] == pytest.approx(EMPTY - entropy, rel=1e-3)
    assert card.row("all_masks_on").value == 0
    assert card.row("faithfulness").value == pytest.approx(1, abs=1e-2)
    assert card.row("correlation").value == pytest.approx(1, abs=1e-4)
    assert [head["head"] for head in card.row("attention").data["heads"]] == [0]


def test_the_norm_amplifies_what_is_left(circuit: Circuit, quote_means: Means) -> None:
    """Without v0 the stream at the last token is (0, 0, 1, 0), the model's (0, 0, 1, a)."""
    without = replace_nodes(circuit, {"0.attn.act_in": (0, 1)})
    row = report(without).row("norm_scale")
    expected = [0.5 * math.log(1 / (1 + answer(word) ** 2)) for word in WORDS]
    assert row.value == pytest.approx(math.exp(sum(expected) / 4), rel=1e-3)
    assert row.verdict == "weak"


def replace_nodes(circuit: Circuit, nodes: dict[str, tuple[int, ...]]) -> Circuit:
    return Circuit(circuit.model, circuit.task, nodes, circuit.means, circuit.config)


@pytest.mark.parametrize("nodes", [{}, {"0.mlp.act_in": (2,), "0.mlp.post_act": (0,)}], ids=["empty", "decoys"])
def test_a_circuit_that_does_nothing_is_not_believed(circuit: Circuit, nodes: dict[str, tuple[int, ...]]) -> None:
    card = report(replace_nodes(circuit, nodes))
    assert card.verdict == "fails"
    assert card.line.startswith("DO NOT BELIEVE this circuit. What speaks against it: loss on unseen pairs,")
    assert "no better than guessing" in card.row("loss_report").sentence
    assert "the model does the task without this circuit" in card.row("necessity").sentence
    assert card.row("faithfulness").value == pytest.approx(0, abs=1e-6)
    json.dumps(card.to_json(), allow_nan=False)
    assert "DO NOT BELIEVE" in str(card)


def test_a_target_that_nothing_meets_too_says_nothing(circuit: Circuit) -> None:
    circuit.config = replace(circuit.config, target_loss=0.7)
    row = report(circuit).row("loss_empty")
    assert row.verdict == "fails"
    assert "meets the target of 0.7 already" in row.sentence


def test_masked_and_plain_model_must_be_one(circuit: Circuit, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Subject.measure
    monkeypatch.setattr(Subject, "measure", lambda self, kept, *rest, **more: honest(self, kept, *rest, **more) + 0.01)
    card = report(circuit)
    assert card.row("all_masks_on").verdict == "fails"
    assert "not the same computation" in card.row("all_masks_on").sentence
    assert card.verdict == "fails"


@pytest.mark.parametrize("seed", [0, 1])
def test_with_every_mask_on_random_models_are_themselves(random_model, quote_task: Task, seed: int) -> None:
    model = random_model(seed)
    total = NodeSpace(model.config).total
    generator = torch.Generator().manual_seed(seed)
    means = Means(torch.randn(total, generator=generator), torch.zeros(total), 1)
    nodes = {"0.attn.v": (0, 3), "1.mlp.post_act": (5,), "1.attn.v": (9,)}
    subject = Subject(Circuit(model, quote_task, nodes, means, CONFIG), QUICK)
    assert identity.rows(subject)[0].value == 0
    assert list(inside(subject).heads) == [(0, 0), (1, 2)]


def test_random_sets_have_the_circuits_shape_and_none_of_its_nodes(random_model, quote_task: Task) -> None:
    model = random_model()
    total = NodeSpace(model.config).total
    means = Means(torch.zeros(total), torch.zeros(total), 1)
    nodes = {"0.attn.v": (0, 3), "1.mlp.post_act": (5,), "1.attn.act_in": tuple(range(14))}
    subject = Subject(Circuit(model, quote_task, nodes, means, CONFIG), QUICK)
    sets = random_sets(subject, "a")
    assert all(torch.equal(a, b) for a, b in zip(sets, random_sets(subject, "a"), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(sets, random_sets(subject, "b"), strict=True))
    for each in sets:
        assert {site: len(c) for site, c in subject.space.by_site(each).items()} == {
            site: len(c) for site, c in nodes.items()
        }
        # 14 of 16 channels are the circuit's: both others come, and 12 of its own for want of more.
        assert int((each & subject.kept).sum()) == 12
    assert inside(subject) is inside(subject)
    assert varying(subject).any()


def test_silent_nodes_come_last(circuit: Circuit) -> None:
    subject = Subject(circuit, QUICK)
    names = {subject.space.name(int(node)) for node in varying(subject).nonzero()}
    assert {("0.attn.act_in", 0), ("0.attn.act_in", 1), ("0.attn.act_in", 2), ("0.attn.v", 0)} <= names
    assert not any(site.startswith("0.mlp.post_act") or (site == "0.attn.v" and c == 1) for site, c in names)
    for each in random_sets(subject, "x"):
        assert 2 in subject.space.by_site(each)["0.attn.act_in"]


def test_it_comes_back_from_json(card: Card, circuit: Circuit, tmp_path) -> None:
    text = json.dumps(card.to_json(), allow_nan=False)
    again = Card.from_json(json.loads(text))
    assert again == card
    assert again.to_json() == card.to_json()
    card.save(tmp_path)
    assert Card.load(tmp_path) == card
    assert known(circuit, tmp_path) == card
    assert known(replace_nodes(circuit, {"0.attn.v": (0,)}), tmp_path) is None
    assert fingerprint(circuit) == card.about["circuit"]
    (tmp_path / "report.json").write_text(text.replace('"holds"', '"fine"'))
    with pytest.raises(InputError, match=r"report\.json is no report card"):
        Card.load(tmp_path)
    assert known(circuit, tmp_path) is None
    with pytest.raises(InputError, match="has format 7; this version reads format 1"):
        Card.from_json({"format": 7})


def test_a_card_is_known_by_all_that_decides_its_figures(circuit: Circuit, card: Card, tmp_path) -> None:
    ranked = replace(circuit, scores=torch.linspace(-1, 1, circuit.space.total), calibration=calibration(1.5, 0.25))
    others = [
        circuit,
        ranked,
        replace(ranked, scores=-ranked.scores),
        replace(ranked, calibration=calibration(1.5, 0.5)),
        replace(ranked, calibration=calibration(2.0, 0.25)),
        replace(ranked, calibration=None),
        replace(circuit, means=replace(circuit.means, values=circuit.means.values + 0.5)),
        *(
            replace(circuit, config=replace(circuit.config, **change))
            for change in ({"calibrated": True}, {"eval_pairs": 3}, {"target_loss": 0.2}, {"ablation": "zero"})
        ),
    ]
    assert len({fingerprint(each) for each in others}) == len(others)
    card.save(tmp_path)
    assert [known(each, tmp_path) is not None for each in others] == [True] + [False] * (len(others) - 1)
    # Settings that only searched, precision on disk and the way there change nothing.
    searched = replace(ranked, config=replace(ranked.config, runs=3, loop=replace(ranked.config.loop, seed=7)))
    assert fingerprint(searched) == fingerprint(ranked)
    ranked.save(tmp_path / "saved")
    assert fingerprint(Circuit.load(tmp_path / "saved", circuit.model, circuit.task)) == fingerprint(ranked)
    # Which pairs stand in for which is by the seed.
    resampled = replace(searched, config=replace(searched.config, ablation="resample"))
    seed = replace(resampled, config=replace(resampled.config, loop=ranked.config.loop))
    assert fingerprint(resampled) != fingerprint(seed)


def calibration(scale: float, shift: float) -> Calibration:
    return Calibration(scale, torch.tensor(shift))


@pytest.mark.parametrize(
    "damage",
    [
        {"interval": [1.0]},
        {"interval": "ab"},
        {"value": "big"},
        {"value": True},
        {"name": 5},
        {"decisive": "no"},
    ],
)
def test_a_row_of_another_shape_is_no_card(card: Card, damage: dict[str, object]) -> None:
    values = card.to_json()
    values["rows"][0] |= damage
    with pytest.raises(InputError, match="no report card"):
        Card.from_json(values)


@pytest.mark.parametrize(
    "damage",
    [
        lambda values: values["about"].pop("ablation"),
        lambda values: values["about"].update(nodes="many"),
        lambda values: values["rows"][0]["data"].update(splits=3),
        lambda values: values["rows"][0]["data"]["splits"]["report"].update(model=[1.0]),
        lambda values: values["rows"][0]["data"].pop("chance"),
    ],
)
def test_a_card_that_cannot_be_shown_is_none(card: Card, damage: Callable[[Any], object]) -> None:
    values = json.loads(json.dumps(card.to_json()))
    damage(values)
    with pytest.raises(InputError, match="no report card"):
        Card.from_json(values)


def test_ends_that_are_no_numbers_come_back_as_such(card: Card) -> None:
    row = replace(card.rows[0], value=math.inf, interval=(math.nan, math.nan))
    unsure = replace(card, rows=(row, *card.rows[1:]))
    again = Card.from_json(json.loads(json.dumps(unsure.to_json(), allow_nan=False)))
    assert again.to_json() == unsure.to_json()
    assert "[?, ?]" in str(again)
    assert "[?, ?]" in page(again)


def test_a_card_without_rows_does_not_hold(card: Card) -> None:
    for rows in ([], {}):
        with pytest.raises(InputError, match="no report card"):
            Card.from_json(card.to_json() | {"rows": rows})


def test_the_seed_decides(circuit: Circuit, card: Card) -> None:
    assert report(circuit).rows == card.rows
    first, second = (Subject(circuit, QUICK, seed) for seed in (0, 1))
    assert not torch.equal(first.weights("report"), second.weights("report"))
    assert first.generator("x").initial_seed() != second.generator("x").initial_seed()
    assert first.generator("x").initial_seed() != first.generator("y").initial_seed()


def test_a_folder_is_taken_too_and_another_model_refused(circuit: Circuit, random_model, tmp_path) -> None:
    circuit.save(tmp_path)
    with pytest.raises(InputError, match="a circuit can be judged only in its own"):
        report(circuit, random_model())
    with pytest.raises(InputError, match="belongs to the model"):
        report(tmp_path, random_model())


def test_without_a_split_to_report_on_there_is_no_card(quote_model: GPT, quote_task: Task, quote_means: Means) -> None:
    task = replace(quote_task, templates={"prune": quote_task.templates["prune"]})
    with pytest.raises(InputError, match="'quotes' has no 'report' split, so there are no unseen pairs"):
        report(Circuit(quote_model, task, {}, quote_means))


def test_few_splits_and_one_pair_are_enough(quote_model: GPT, quote_task: Task, quote_means: Means, circuit) -> None:
    task = replace(quote_task, templates={"report": quote_task.templates["report"]})
    config = replace(circuit.config, eval_pairs=1)
    card = report(Circuit(quote_model, task, circuit.nodes, quote_means, config), full=True)
    assert card.row("control_nonsense").sentence == "The task has no split to learn masks on."
    assert "has no 'prune' split" in card.row("overlap").sentence
    assert card.row("loss_ood").verdict == "not measured"
    assert card.row("loss_report_calibrated").verdict == "not measured"
    assert card.row("loss_report").interval == pytest.approx((card.row("loss_report").value,) * 2)
    assert not any(row.key == "ablation_resample" for row in card.rows)
    json.dumps(card.to_json(), allow_nan=False)


def rows(*verdicts: tuple[str, bool]) -> tuple[Row, ...]:
    return tuple(
        Row(1 + place % 9, f"k{place}", f"row {place}", f"Sentence {place}.", verdict, decisive=decisive)  # type: ignore[arg-type]
        for place, (verdict, decisive) in enumerate(verdicts)
    )


def test_the_overall_verdict() -> None:
    about = {"task": "t", "nodes": 1, "edges": 1, "pairs": 2}
    good = Card(about, rows(("holds", True), ("holds", False)))
    assert (good.verdict, good.line) == ("holds", "Nothing that was measured speaks against this circuit.")
    part = Card(about, rows(("holds", True), ("not measured", True)))
    assert part.verdict == "holds"
    assert part.line.endswith("Not all measured: other ablations.")
    assert part.point_verdict(2) == part.point_verdict(3) == "not measured"
    care = Card(about, rows(("weak", True), ("fails", False)))
    assert care.verdict == "weak"
    assert care.line == "Believe this circuit with care. Fails: row 1. Weak: row 0."
    bad = Card(about, rows(("fails", True), ("fails", False), ("weak", False)))
    assert bad.verdict == "fails"
    assert bad.line == ("DO NOT BELIEVE this circuit. What speaks against it: row 0. Fails: row 1. Weak: row 2.")
    with pytest.raises(KeyError, match="no row 'x'"):
        bad.row("x")


def test_a_target_of_calibrated_loss_is_judged_by_calibrated_loss(circuit: Circuit) -> None:
    """By a calibration that takes all confidence away, to tell which of the losses counts."""
    circuit.calibration = Calibration(1e-3, torch.zeros(()))
    assert report(circuit).row("loss_report").decisive
    circuit.config = replace(circuit.config, calibrated=True)
    card = report(circuit)
    calibrated, plain = card.row("loss_report_calibrated"), card.row("loss_report")
    assert (calibrated.verdict, calibrated.decisive) == ("fails", True)
    assert (plain.verdict, plain.decisive) == ("holds", False)
    assert card.verdict == "fails"
    for key in ("restored_10", "restored_50", "restored_worst", "frozen_norm"):
        assert card.row(key).value == pytest.approx(calibrated.value, rel=1e-3)


@pytest.mark.parametrize("width", [80, 140])
def test_sentences_are_legible_at_any_width(width: int) -> None:
    about = {"task": "t", "nodes": 3, "edges": 2, "pairs": 8}
    sentence = "With the removed nodes held at zero instead, the circuit's loss is no better than guessing."
    long = Row(2, "zero", "same answer as the model, out of distribution", sentence, "fails", 0.5, (0.25, 0.75), "nats")
    written = io.StringIO()
    print_card(Card(about, (long,)), Console(file=written, force_terminal=True, color_system=None, width=width))
    table, _, after = written.getvalue().partition("verdict: ")
    assert "…" not in table
    assert all(len(line) <= width for line in table.splitlines())
    # On a narrow terminal a column of sentences would be a few letters wide.
    assert (f"2 {long.name}: {sentence}" in " ".join(table.split())) == (width == 80)
    assert "WEAK" in after
