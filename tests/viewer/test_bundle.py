"""Every number of a bundle is the library's."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from small_circuits import NODES, small_circuit

from sparse_circuits.circuits.calibration import Calibration, calibrate
from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.circuits.logits import last_logits
from sparse_circuits.circuits.report.internals import log_pattern
from sparse_circuits.errors import InputError
from sparse_circuits.tasks import task_losses
from sparse_circuits.viewer import bundle
from sparse_circuits.viewer.prompts import chosen_pairs
from sparse_circuits.viewer.sizes import curve


def close(found: object, expected: object) -> bool:
    """Equal to the six digits that are written."""
    return torch.allclose(torch.tensor(found).double(), torch.as_tensor(expected).double(), rtol=1e-5, atol=1e-6)


def test_nodes_have_their_means_costs_and_scores(made: dict[str, Any], circuit: Circuit) -> None:
    nodes = made["circuits"][0]["nodes"]
    assert [(node["site"], node["channel"]) for node in nodes] == [(s, c) for s, cs in NODES.items() for c in cs]
    assert close([node["mean"] for node in nodes], circuit.means.values[circuit.kept])
    assert close([node["held"] for node in nodes], circuit.held[circuit.kept])
    assert circuit.scores is not None
    assert close([node["score"] for node in nodes], circuit.scores[circuit.kept])
    costs = circuit.evaluator(circuit.examples("report")).costs(circuit.kept)[circuit.kept]
    assert close([node["cost"] for node in nodes], costs)


def test_edges_are_the_circuits_and_dropped_ones_stand_apart(made: dict[str, Any], circuit: Circuit) -> None:
    nodes = [(node["site"], node["channel"]) for node in made["circuits"][0]["nodes"]]
    found = {(nodes[a], nodes[b]): weight for a, b, weight in made["circuits"][0]["edges"]}
    assert set(found) == {(edge.source, edge.target) for edge in circuit.edges}
    assert all(close(found[edge.source, edge.target], edge.weight) for edge in circuit.edges)
    assert [(nodes[a], nodes[b]) for a, b, _ in made["circuits"][0]["dropped"]] == list(circuit.dropped)


def test_pairs_are_the_fixed_ones_with_their_losses(made: dict[str, Any], circuit: Circuit) -> None:
    chosen, _, examples = chosen_pairs(circuit)
    model = task_losses(last_logits(circuit.full, examples), examples)
    inside = task_losses(circuit.evaluator(examples).logits(circuit.kept), examples)
    pairs = made["circuits"][0]["pairs"]
    assert len(pairs) == len(chosen) == 4
    for pair, number in zip(pairs, chosen, strict=True):
        for side, row in zip(pair["sides"], (number, number + len(examples)), strict=True):
            assert side["tokens"] == examples.tokens[row, : int(examples.last[row]) + 1].tolist()
            assert (side["right"], side["wrong"]) == (int(examples.targets[row]), int(examples.others[row]))
            assert close(side["model"]["loss"], model[row])
            assert close(side["circuit"]["loss"], inside[row])
            assert close(
                side["model"]["loss"], -torch.tensor(side["model"]["right"] - side["model"]["wrong"]).sigmoid().log()
            )


def test_values_are_those_of_the_two_runs(made: dict[str, Any], circuit: Circuit) -> None:
    side = made["circuits"][0]["pairs"][1]["sides"][1]
    tokens = torch.tensor([side["tokens"]])
    for key, runner, tap in (("model", circuit.full, None), ("circuit", circuit.runner, circuit.tap())):
        run = runner.run(tokens, record=list(NODES), tap=tap)
        place = 0
        for site, channels in NODES.items():
            for channel in channels:
                assert close(side[key]["values"][place], run.sites[site][0, :, channel])
                place += 1


def test_attention_is_the_report_cards(made: dict[str, Any], circuit: Circuit) -> None:
    heads = made["circuits"][0]["heads"]
    assert [(head["layer"], head["head"]) for head in heads] == [(0, 0), (0, 1), (1, 0)]
    side = made["circuits"][0]["pairs"][0]["sides"][0]
    tokens = torch.tensor([side["tokens"]])
    last = len(side["tokens"]) - 1
    run = circuit.runner.run(tokens, record=["*.attn.q", "*.attn.k"], tap=circuit.tap())
    for head in heads:
        part = slice(4 * head["head"], 4 * head["head"] + 4)
        q, k = (run.sites[f"{head['layer']}.attn.{name}"][..., part] for name in "qk")
        sink = circuit.model.blocks[head["layer"]].attn.sink_logit
        assert sink is not None
        expected = log_pattern(q[:, last], k, torch.tensor([last]), sink[head["head"]]).exp()[0, :-1]
        flat = head["patterns"][0][0]["circuit"]
        assert torch.allclose(torch.tensor(flat[-last - 1 :]).double(), expected, atol=1e-4)
        assert len(flat) == (last + 1) * (last + 2) // 2


def test_the_curve_has_the_circuits_own_loss_at_its_size(made: dict[str, Any], circuit: Circuit) -> None:
    curve = made["circuits"][0]["curve"]
    place = curve["sizes"].index(circuit.size)
    assert close(curve["losses"][place], circuit.loss("report"))
    assert curve["edges"][place] == len(circuit.edges)
    everything = task_losses(last_logits(circuit.full, circuit.examples()), circuit.examples()).mean()
    assert curve["sizes"][-1] == circuit.space.total
    assert close(curve["losses"][-1], everything)
    first = {(site, channel) for site, channel in curve["order"][: circuit.size]}
    assert first == {(site, channel) for site, channels in NODES.items() for channel in channels}


def test_the_curve_of_a_calibrated_circuit_is_judged_as_on_its_card(circuit: Circuit) -> None:
    scaled = replace(
        circuit,
        config=replace(circuit.config, calibrated=True),
        calibration=Calibration(0.5, torch.tensor(0.75)),
    )
    found = curve(scaled)
    losses = dict(zip(found["sizes"], found["losses"], strict=True))
    assert close(losses[scaled.size], scaled.loss("report", calibrated=True))
    model = task_losses(last_logits(circuit.full, circuit.examples()), circuit.examples()).mean()
    assert close(losses[circuit.space.total], model)
    # What is fitted is fitted elsewhere than where it is judged.
    nothing = torch.zeros_like(circuit.kept)
    fixed, report = circuit.examples("calibrate"), circuit.examples("report")
    fit = calibrate(circuit.evaluator(fixed).logits(nothing), fixed)
    assert close(losses[0], fit.losses(circuit.evaluator(report).logits(nothing), report).mean())


def test_channels_name_what_writes_and_reads_them(made: dict[str, Any], circuit: Circuit) -> None:
    channels = {each["channel"]: each for each in made["circuits"][0]["channels"]}
    assert sorted(channels) == [0, 2, 3, 7, 17]
    assert channels[17]["position"]
    assert close(channels[17]["values"], circuit.model.wpe.weight[:, 1].detach())
    for token, weight in channels[3]["writes"]:
        assert close(weight, circuit.model.wte.weight[token, 3].detach())
    for token, weight in channels[3]["reads"]:
        assert close(weight, circuit.model.lm_head.weight[token, 3].detach())
    strongest = int(circuit.model.wte.weight[:, 3].abs().argmax())
    assert strongest in [token for token, _ in channels[3]["writes"]]
    quotes = circuit.model.tokenizer.encode("\"'")  # type: ignore[union-attr]
    assert set(quotes) <= {token for token, _ in channels[3]["reads"]}


def test_the_bigram_tables_largest_entries_are_named(made: dict[str, Any], circuit: Circuit) -> None:
    rows = made["models"][0]["bigram"]
    token, value = rows[65][0]
    assert token == int(circuit.model.bigram_table[65].detach().argmax())  # type: ignore[union-attr]
    assert value == pytest.approx(float(circuit.model.bigram_table[65].detach().max()), abs=1e-3)  # type: ignore[union-attr]


def test_two_circuits_of_a_model_share_it_and_have_their_own_titles(circuit: Circuit) -> None:
    other = small_circuit(nodes={"0.mlp.post_act": (4,)})
    found = bundle([circuit, other], text_tokens=512)
    assert len(found["models"]) == 1
    assert len({each["title"] for each in found["circuits"]}) == 2


def test_nothing_to_show_is_refused(circuit: Circuit) -> None:
    with pytest.raises(InputError, match="no circuit to show"):
        bundle([])
    with pytest.raises(InputError, match="2 cards for 1 circuits"):
        bundle(circuit, [None, None])


def test_a_one_token_question_says_so(circuit: Circuit) -> None:
    asked = small_circuit(one_token=True)
    found = bundle(asked, text_tokens=240)["circuits"][0]
    assert found["task"]["loss"] == "one_token"
    a, b = found["pairs"][0]["sides"]
    assert (a["wrong"], b["right"]) == (-1, -1)
    for side in (a, b):
        odds = torch.tensor(side["circuit"]["right"] - side["circuit"]["wrong"])
        assert close(side["circuit"]["loss"], -odds.sigmoid().log())
