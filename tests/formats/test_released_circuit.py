"""A released circuit executes with the model it came from, and our own go out to the published viewer and come back."""

import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from small_models import packed_programs
from torch import Tensor
from variants import variants
from viz_files import LETTERS, SEEDS, assert_same, content_of, made, walk_as_the_viewer, written

from sparse_circuits import checkpoint
from sparse_circuits.__main__ import main
from sparse_circuits.circuits.calibration import Calibration
from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.circuits.config import PruneConfig
from sparse_circuits.circuits.means import node_means
from sparse_circuits.circuits.nodes import NodeSpace
from sparse_circuits.errors import InputError
from sparse_circuits.formats import viz_data, viz_measures
from sparse_circuits.formats.recorded_task import recorded_task, write_pairs
from sparse_circuits.formats.released_circuit import check_model, released_circuit, save
from sparse_circuits.model import GPT
from sparse_circuits.sites import FINAL_SITE
from sparse_circuits.tasks import TASKS, Task, Template, get_task


def circuit_of(model: GPT, content: dict[str, Any], folder: Path, **more: Any) -> tuple[Circuit, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return released_circuit(viz_data.read(written(content, folder)), model, "none", **more)


def test_a_released_circuit_executes(tmp_path: Path) -> None:
    model = made()
    content = content_of(model, kept=5)
    circuit, comparison = circuit_of(model, content, tmp_path)
    kept = {site: tuple(channels.tolist()) for site, channels in content["circuit_data"].items() if site != FINAL_SITE}
    assert circuit.nodes == kept
    # Its means are those over the pieces of text in the file.
    pieces = {
        tuple(text.tolist())
        for channels in content["samples"].values()
        for fractions in channels.values()
        for sides in fractions.values()
        for side in sides
        for text, _, _ in side
    }
    expected = node_means(model, torch.tensor(sorted(pieces)))
    torch.testing.assert_close(circuit.means.values, expected.values)
    assert circuit.loss("report") == pytest.approx(comparison.circuit, rel=1e-5)
    assert comparison.recorded_circuit == content["importances"]["interv_loss"] / 2
    assert comparison.circuit_and_final != comparison.circuit
    assert circuit.found["released"]["losses"]["model"] == content["importances"]["loss"] / 2
    assert circuit.found["released"]["final_resid"] == content["circuit_data"][FINAL_SITE].tolist()
    site = "1.mlp.post_act"
    losses = content["importances"]["ch_interv_losses"][site]
    assert circuit.found["costs"][site] == pytest.approx(
        [(x - content["importances"]["interv_loss"]) / 2 for x in losses]
    )
    assert any("circuit, as it was measured" in line for line in comparison.lines())
    assert comparison.lines()[-1].startswith(
        "here: on the 3 pairs in the file; answers: the model's answers; means over"
    )


def test_with_the_final_residual_whole_both_losses_agree(tmp_path: Path) -> None:
    model = made()
    content = content_of(model)
    content["circuit_data"][FINAL_SITE] = torch.arange(model.config.d_model)
    _, comparison = circuit_of(model, content, tmp_path)
    assert comparison.circuit_and_final == pytest.approx(comparison.circuit, rel=1e-5)


def test_with_every_node_kept_the_circuit_is_the_model(tmp_path: Path) -> None:
    model = made()
    content = content_of(model)
    content["circuit_data"] = {
        site: torch.arange(part.stop - part.start) for site, part in NodeSpace(model.config).slices.items()
    }
    _, comparison = circuit_of(model, content, tmp_path)
    assert comparison.circuit == pytest.approx(comparison.model, rel=1e-5)
    assert comparison.circuit_and_final is None


def test_a_saved_one_loads_with_its_pairs(tmp_path: Path) -> None:
    model = made()
    checkpoint.save(model, tmp_path / "model")
    circuit, _ = circuit_of(model, content_of(model), tmp_path)
    save(circuit, tmp_path / "viz_data.pt", tmp_path / "circuit")
    task = get_task(str(tmp_path / "circuit" / "none_recorded.jsonl"))
    assert task.fingerprint == circuit.task.fingerprint
    again = Circuit.load(tmp_path / "circuit", task=task)
    assert again.loss("report") == circuit.loss("report")
    assert again.found["released"]["prune_config"]["name"] == "prune_v2"
    assert (tmp_path / "circuit" / "viz_data.pt").read_bytes() == (tmp_path / "viz_data.pt").read_bytes()
    save(circuit, tmp_path / "circuit" / "viz_data.pt", tmp_path / "circuit")


def test_answers_are_those_under_which_the_model_has_the_recorded_loss() -> None:
    """A model that only looks at the last token, so that its answers are known."""
    model = made(bigram_table="fixed", sink=False)
    double, single = LETTERS.encode("\"'")
    task = Task("closing", "", {"report": (Template("t", 'a("$$x', "a('b", '"', "'"),)})
    rows = [LETTERS.encode('p("x$'), LETTERS.encode("p('yy")]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.final_logits_bias.zero_()
        table: Tensor = model.bigram_table  # type: ignore[assignment]
        table.zero_()
        table[rows[0][-1], double], table[rows[1][-1], single] = 3, 2
    samples = viz_data.TaskSamples(torch.tensor(rows), (5, 5), {})
    found = recorded_task(samples, model, "none", None)
    assert found.answers == "the model's answers"
    assert found.examples.targets.tolist() == [double, single]
    assert found.model_loss == pytest.approx(
        sum(torch.log1p(torch.exp(-torch.tensor(x))).item() for x in (3.0, 2.0)) / 2
    )
    TASKS["closing"] = task
    try:
        same = recorded_task(samples, model, "closing", found.model_loss)
        assert same.answers == "the registered task"
        other = recorded_task(samples, model, "closing", 2.6)
        assert other.answers == "the registered task, sides exchanged"
        assert other.examples.targets.tolist() == [double, single]
        assert other.examples.tokens.tolist() == [rows[1], rows[0]]
    finally:
        del TASKS["closing"]
    # Dollar signs and all.
    assert found.task is not None
    assert found.task.draw("report", 1)[0].prompt_a == 'p("x$'


def test_where_the_model_answers_alike_the_task_has_to_be_named(tmp_path: Path) -> None:
    model = made(bigram_table="none")
    with torch.no_grad():
        model.lm_head.weight.zero_()
    with pytest.raises(InputError, match="name the task with --task"):
        circuit_of(model, content_of(model), tmp_path)
    model.tokenizer = None
    with pytest.raises(InputError, match="give one with --tokenizer"):
        circuit_of(model, content_of(model), tmp_path)


MISMATCH: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "config": (
        lambda c: c["importances"]["beeg_model_config"].update(d_model=24),
        "made with a model of d_model 24, the one given has 12",
    ),
    "channel": (lambda c: c["circuit_data"].update({"0.attn.q": torch.tensor([99])}), r"0.attn.q has channels 0\.\.11"),
    "layer": (lambda c: c["circuit_data"].update({"7.attn.q": torch.tensor([1])}), "is no site of this model's nodes"),
    "final": (
        lambda c: c["circuit_data"].update({FINAL_SITE: torch.tensor([99])}),
        r"final_resid has channels 0\.\.11",
    ),
    "no prompts": (lambda c: c["importances"].pop("task_samples"), "holds no task samples"),
    "no text": (lambda c: c.update(samples={}), "give a packed corpus with --corpus"),
    "tokens": (
        lambda c: c.update(samples={"0.attn.q": {0: {0.5: ([(torch.full((12,), 999), torch.zeros(12), 1)], [])}}}),
        "tokens that the model does not know",
    ),
}


@pytest.mark.parametrize(("change", "message"), MISMATCH.values(), ids=MISMATCH)
def test_what_does_not_fit_the_model_is_refused(change: Callable[..., object], message: str, tmp_path: Path) -> None:
    content = content_of(made())
    change(content)
    with pytest.raises(InputError, match=message):
        circuit_of(made(), content, tmp_path)


def test_old_names_of_fields_fit(tmp_path: Path) -> None:
    content = content_of(made())
    config = content["importances"]["beeg_model_config"]
    config["n_mlp"] = config.pop("d_mlp")
    config["sink"] = not config["sink"]
    check_model(viz_data.read(written(content, tmp_path)), made())


# --- out ---


@pytest.fixture
def own() -> Circuit:
    """A circuit of our own with a dropped edge."""
    model = made()
    templates = {"report": tuple(Template(f"t{n}", f'x{n} ("a', f"x{n} ('a", '"', "'") for n in range(4))}
    means = node_means(model, torch.randint(257, (6, 12), generator=torch.Generator().manual_seed(3)))
    nodes = dict.fromkeys(NodeSpace(model.config).slices, (0, 3))
    circuit = Circuit(model, Task("quotes", "", templates), nodes, means, PruneConfig(eval_pairs=4))
    edge = circuit.node_edges[4]
    return Circuit(model, circuit.task, nodes, means, circuit.config, dropped=[(edge.source, edge.target)])


def test_our_own_opens_in_the_viewer_and_comes_back(own: Circuit, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="come from the task's prompts"):
        notes = viz_measures.write(own, tmp_path)
    assert any("1 dropped edges" in note for note in notes)
    content = torch.load(tmp_path / "viz_data.pt", weights_only=True)
    assert walk_as_the_viewer(content) == own.size
    importances = content["importances"]
    assert importances["interv_loss"] == pytest.approx(2 * own.loss("report"), rel=1e-5)
    everything = {site: range(part.stop - part.start) for site, part in own.space.slices.items()}
    full = Circuit(own.model, own.task, {s: tuple(c) for s, c in everything.items()}, own.means, own.config)
    assert importances["loss"] == pytest.approx(2 * full.loss("report"), rel=1e-5)
    # Without one node, the loss is that of the circuit without it.
    fewer = {**own.nodes, "1.mlp.resid_delta": (0,)}
    inside = [link for link in own.dropped if "1.mlp.resid_delta" not in (link[0][0], link[1][0])]
    expected = Circuit(own.model, own.task, fewer, own.means, own.config, dropped=inside).loss("report")
    assert importances["ch_interv_losses"]["1.mlp.resid_delta"][1] == pytest.approx(2 * expected, rel=1e-4)
    weights = {tuple(between): matrix for matrix, _, _, between in importances["pair_data_connections"]}
    assert sum(int(matrix.count_nonzero()) for matrix in weights.values()) == len(own.edges)
    data = viz_data.read(tmp_path / "viz_data.pt")
    circuit, comparison = released_circuit(data, own.model, "quotes")
    assert [(t.a, t.b, t.right_a, t.right_b) for t in circuit.task.templates["report"]] == [
        (pair.prompt_a, pair.prompt_b, pair.completion_a, pair.completion_b) for pair in own.task.draw("report", 4)
    ]
    assert comparison.circuit == pytest.approx(own.loss("report"), rel=1e-5)
    assert (comparison.model, comparison.circuit) == pytest.approx(
        (comparison.recorded_model, comparison.recorded_circuit)
    )
    assert (circuit.nodes, circuit.dropped) == (own.nodes, own.dropped)
    assert torch.equal(circuit.means.values, own.means.values)
    assert circuit.config == own.config
    assert comparison.text == "what the file says"
    with pytest.raises(InputError, match="belongs to another model"):
        released_circuit(data, made(seed=1), "quotes")
    for answers in ([[1, 2]], [[1, 257]] * 4, [[-2, 1]] * 4):
        data.other[viz_data.OWN]["answers"] = answers
        with pytest.raises(InputError, match="are no answers to the prompts in it"):
            released_circuit(data, own.model, "quotes")
    data = viz_data.read(tmp_path / "viz_data.pt")
    for key in ("answers", "means", "dropped"):
        data.other[viz_data.OWN].pop(key)
        with pytest.raises(InputError, match=f"is damaged: KeyError '{key}'"):
            released_circuit(data, own.model, "quotes")
        data = viz_data.read(tmp_path / "viz_data.pt")


def test_a_calibrated_one_has_the_models_own_loss_and_its_own_scale(own: Circuit, tmp_path: Path) -> None:
    config, scaled = replace(own.config, calibrated=True), Calibration(0.5, torch.tensor(0.25))
    circuit = replace(own, config=config, calibration=scaled)
    with pytest.warns(UserWarning, match="come from the task's prompts"):
        viz_measures.write(circuit, tmp_path)
    _, comparison = released_circuit(viz_data.read(tmp_path / "viz_data.pt"), own.model, "quotes")
    everything = {site: tuple(range(part.stop - part.start)) for site, part in own.space.slices.items()}
    models = Circuit(own.model, own.task, everything, own.means, own.config).loss("report")
    assert (comparison.recorded_model, comparison.model) == pytest.approx((models, models), rel=1e-5)
    expected = circuit.loss("report", calibrated=True)
    assert (comparison.recorded_circuit, comparison.circuit) == pytest.approx((expected, expected), rel=1e-5)


def logits_of(circuit: Circuit, tokens: Tensor) -> Tensor:
    with torch.no_grad():
        return circuit.runner(tokens, tap=circuit.tap())


@settings(deadline=None, max_examples=6)
@given(changes=variants(), seed=SEEDS, kept=st.integers(1, 2), data=st.data())
def test_circuits_of_every_kind_of_model_go_out_and_come_back(
    changes: dict[str, Any], seed: int, kept: int, data: st.DataObject, tmp_path_factory: Any
) -> None:
    """viz_data.pt -> ours -> viz_data.pt -> ours, over all released kinds of models; with dropped edges, too."""
    folder, model = tmp_path_factory.mktemp("kinds"), made(seed, **changes)
    content = content_of(model, seed=seed, kept=kept)
    try:
        first, _ = circuit_of(model, content, folder)
    except InputError as error:
        assume("name the task with --task" not in str(error))  # the model answers both sides alike
        raise
    edges = [(edge.source, edge.target) for edge in first.node_edges]
    dropped = data.draw(st.lists(st.sampled_from(edges), unique=True, max_size=3)) if edges else []
    first = replace(first, dropped=dropped)
    texts = torch.randint(257, (3, 12), generator=torch.Generator().manual_seed(seed))
    contents = []
    for number in range(2):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            viz_measures.write(first, folder / f"{number}.pt")
            second, comparison = released_circuit(viz_data.read(folder / f"{number}.pt"), model, first.task.name)
        contents.append(torch.load(folder / f"{number}.pt", weights_only=True))
        assert walk_as_the_viewer(contents[-1]) == first.size
        assert (second.nodes, second.dropped) == (first.nodes, first.dropped)
        torch.testing.assert_close(logits_of(second, texts), logits_of(first, texts), rtol=1e-5, atol=1e-5)
        assert comparison.circuit == pytest.approx(comparison.recorded_circuit, rel=1e-4, abs=1e-6)
        first = second
    for key in ("circuit_data", "num_total_nodes"):
        assert_same(contents[1][key], contents[0][key])
    for key in ("pair_data_connections", "beeg_model_config"):
        assert_same(contents[1]["importances"][key], contents[0]["importances"][key])


def test_a_prompt_of_our_own_that_ends_in_token_zero_comes_back_whole(own: Circuit, tmp_path: Path) -> None:
    assert own.model.tokenizer is not None
    zero = own.model.tokenizer.decode([0])
    templates = {"report": (Template("t", f"a{zero}", f"bc{zero}", '"', "'"),)}
    task = Task("ends", "", templates)
    circuit = Circuit(own.model, task, own.nodes, own.means, PruneConfig(eval_pairs=1))
    assert circuit.examples("report").tokens[0, 1] == 0
    with pytest.warns(UserWarning, match="come from the task's prompts"):
        viz_measures.write(circuit, tmp_path)
    again, comparison = released_circuit(viz_data.read(tmp_path / "viz_data.pt"), own.model, "ends")
    assert torch.equal(again.examples("report").tokens, circuit.examples("report").tokens)
    assert comparison.circuit == pytest.approx(circuit.loss("report"), rel=1e-5)


def test_samples_come_from_the_corpus_that_is_given(
    own: Circuit, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint.save(own.model, tmp_path / "model")
    write_pairs(own.task, tmp_path / "quotes.jsonl")
    task = get_task(str(tmp_path / "quotes.jsonl"))
    replace(own, model=checkpoint.load(tmp_path / "model"), task=task).save(tmp_path / "circuit")
    packed = packed_programs(tmp_path / "corpus", LETTERS, 12)
    arguments = ["--circuit", str(tmp_path / "circuit"), "--task", str(tmp_path / "quotes.jsonl")]
    arguments += ["--corpus", str(tmp_path / "corpus")]
    assert main(["export", "viz", *arguments, "--out", str(tmp_path / "viz.pt")]) == 0
    assert "warning" not in capsys.readouterr().err
    windows = packed.validation_windows(11, 10_000).tolist()
    (sample, *_), _ = viz_data.read(tmp_path / "viz.pt").samples["0.mlp.post_act"][3][0.5]
    assert sample.tokens.tolist() in windows
    assert main(["export", "csv", *arguments, "--out", str(tmp_path / "csv")]) == 2
    assert "--corpus is for viz; csv holds no text" in capsys.readouterr().err


def test_the_lowest_and_highest_pieces_are_the_samples(own: Circuit) -> None:
    windows = torch.randint(257, (40, 12), generator=torch.Generator().manual_seed(5))
    samples = viz_measures._samples(own, windows)["0.mlp.post_act"][3]
    values = own.model.run(windows, record="0.mlp.post_act").sites["0.mlp.post_act"][..., 3].detach()
    low, high = samples[0.001]
    assert float(low[0].activations[low[0].position]) == float(values.min())
    assert float(high[0].activations[high[0].position]) == float(values.max())
    quarter = values.flatten().sort().values
    for fraction, (low, high) in samples.items():
        part = max(1, int(fraction * values.numel()))
        assert all(float(each.activations[each.position]) <= float(quarter[part - 1]) for each in low)
        assert all(float(each.activations[each.position]) >= float(quarter[-part]) for each in high)


@pytest.mark.filterwarnings("default")
def test_the_commands(own: Circuit, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint.save(own.model, tmp_path / "model")
    write_pairs(own.task, tmp_path / "quotes.jsonl")
    path = tmp_path / "csp" / "some_task_beeg3" / "prune_v2" / "64"
    path.mkdir(parents=True)
    written(content_of(own.model), path)
    base = ["import", str(path / "viz_data.pt"), "--out", str(tmp_path / "circuit")]
    assert main(base) == 2
    assert "name the model it was made with: --model" in capsys.readouterr().err
    assert main([*base, "--model", str(tmp_path / "model")]) == 0
    out = capsys.readouterr().out
    assert "task some_task_recorded" in out
    assert "recorded     here" in out
    assert main([*base, "--model", str(tmp_path / "model"), "--json"]) == 0
    described = json.loads(capsys.readouterr().out)
    assert described["comparison"]["answers"] == "the model's answers"
    assert described["circuit"]["sizes"]["nodes"] == 32
