"""A circuit is a thing: executable, the same after saving, and refused where it does not belong."""

import json
import math
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file

from sparse_circuits import checkpoint
from sparse_circuits.circuits.calibration import Calibration, calibrate
from sparse_circuits.circuits.circuit import Circuit, last_logits, own_task
from sparse_circuits.circuits.config import PruneConfig
from sparse_circuits.circuits.means import Means, write_means
from sparse_circuits.circuits.table import notes, print_circuit
from sparse_circuits.errors import InputError
from sparse_circuits.files import read_json, write_json
from sparse_circuits.model import GPT
from sparse_circuits.tasks import SPLITS, Task, get_task
from sparse_circuits.tokenizer import Tokenizer

REPOSITORY = Path(__file__).parents[2]
NODES = {"0.attn.act_in": (0, 1), "0.attn.k": (0,), "0.attn.v": (0,), "0.attn.resid_delta": (3,)}
ROOT = math.sqrt(8)


def worked_loss(words: list[str], query: float) -> float:
    """The circuit's loss on paper; `query` is what q0 is at the last token.

    The norm divides by the root of the mean square over 8 channels. At the quote the residual is (+-1, 1, 1, 0, ...),
    elsewhere (0, 0, 1, 0, ...). The sink and every other token have score 0.
    """
    losses = []
    for word in words:
        at_quote = math.sqrt(8 / 3)
        score = query * 3 * at_quote / math.sqrt(2)
        weight = math.exp(score) / (math.exp(score) + (3 + len(word) - 1) + 1)
        answer = weight * at_quote
        difference = 2 * answer / math.sqrt((1 + answer**2) / 8)
        losses.append(math.log(1 + math.exp(-difference)))
    return sum(losses) / len(losses)


@pytest.fixture
def circuit(quote_model: GPT, quote_task: Task, quote_means: Means) -> Circuit:
    circuit = Circuit(quote_model, quote_task, NODES, quote_means, PruneConfig(eval_pairs=4))
    examples = circuit.examples("calibrate")
    circuit.calibration = calibrate(last_logits(quote_model, examples, circuit.tap()), examples)
    circuit.scores = torch.linspace(-1, 1, circuit.space.total)
    return circuit


@pytest.fixture
def saved(circuit: Circuit, tmp_path: Path) -> Circuit:
    checkpoint.save(circuit.model, tmp_path / "model")
    circuit.save(tmp_path / "circuit")
    return circuit


def test_its_loss_is_the_one_worked_out_on_paper(circuit: Circuit) -> None:
    # q0 is held at its mean over 'a("bc' and its twin: one quote in five tokens.
    held = (4 * ROOT + math.sqrt(8 / 3)) / 5
    assert circuit.loss("report") == pytest.approx(worked_loss(["bee", "wolf", "otter", "rabbit"], held), rel=1e-4)
    assert circuit.loss("calibrate") == pytest.approx(worked_loss(["ant", "crow", "eagle", "falcon"], held), rel=1e-4)
    # Surer than eight rows bear out.
    assert circuit.calibration == Calibration(1.0, torch.zeros(()))
    assert circuit.size == 5
    assert len(circuit.edges) == 3


def test_without_attention_to_the_quote_it_averages(circuit: Circuit) -> None:
    uniform = replace(circuit, nodes=NODES | {"0.attn.k": ()}, calibration=None)
    # k0 is held at its mean: every token has the same score, the sink has 0.
    expected = []
    held = (4 * ROOT + math.sqrt(8 / 3)) / 5
    score = held * (3 * math.sqrt(8 / 3) / 5) / math.sqrt(2)
    for tokens in (6, 7, 8, 9):
        answer = math.exp(score) / (tokens * math.exp(score) + 1) * math.sqrt(8 / 3)
        expected.append(math.log(1 + math.exp(-2 * answer / math.sqrt((1 + answer**2) / 8))))
    assert uniform.loss("report") == pytest.approx(sum(expected) / 4, rel=1e-4)


def test_its_tap_turns_the_model_into_it(circuit: Circuit) -> None:
    examples = circuit.examples()
    logits = examples.at_last(circuit.model(examples.tokens, tap=circuit.tap()).detach())
    torch.testing.assert_close(logits, last_logits(circuit.model, examples, circuit.tap()))
    run = circuit.model.run(examples.tokens, record=["*.attn.q", "*.mlp.resid_delta"], tap=circuit.tap())
    assert torch.equal(run.sites["0.attn.q"], circuit.means.values[circuit.space.slices["0.attn.q"]].expand(8, 9, 4))


def test_rows_of_different_lengths_are_computed_in_batches(random_model, quote_task: Task, monkeypatch) -> None:
    model = random_model()
    examples = quote_task.examples(model.tokenizer, "ood", 4, block_size=24)
    assert len(set(examples.last.tolist())) == 3
    expected = examples.at_last(model(examples.tokens).detach())
    monkeypatch.setattr("sparse_circuits.circuits.logits.ROWS_PER_BATCH", 3)
    torch.testing.assert_close(last_logits(model, examples), expected, rtol=1e-4, atol=1e-5)


def test_nodes_may_be_chosen_by_hand(circuit: Circuit) -> None:
    everything = {site: tuple(range(width)) for site, width in circuit.space.widths.items()}
    whole = replace(circuit, nodes=everything)
    assert whole.loss() == pytest.approx(worked_loss(["bee", "wolf", "otter", "rabbit"], ROOT), rel=1e-4)
    mixed = replace(circuit, nodes={"0.attn.v": (1, 0, 1), "0.attn.act_in": (2,)})
    assert mixed.nodes == {"0.attn.act_in": (2,), "0.attn.v": (0, 1)}
    assert mixed.size == 3


def test_the_empty_circuit_knows_nothing(circuit: Circuit, tmp_path: Path) -> None:
    empty = Circuit(circuit.model, circuit.task, {}, circuit.means, circuit.config)
    assert empty.loss() == pytest.approx(math.log(2), abs=1e-4)
    assert (empty.size, empty.edges, empty.nodes) == (0, [], {})
    empty.save(tmp_path / "empty")
    assert Circuit.load(tmp_path / "empty", circuit.model, circuit.task).loss() == empty.loss()


def test_removed_nodes_can_be_held_at_zero(circuit: Circuit) -> None:
    zero = replace(circuit, config=replace(circuit.config, ablation="zero"), calibration=None)
    # With q0 at zero every score is 0, the sink's too.
    answers = [math.sqrt(8 / 3) / (tokens + 1) for tokens in (6, 7, 8, 9)]
    expected = [math.log(1 + math.exp(-2 * a / math.sqrt((1 + a**2) / 8))) for a in answers]
    assert zero.loss() == pytest.approx(sum(expected) / 4, rel=1e-4)


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ({"0.attn.q": (4,)}, r"0\.attn\.q has channels 0\.\.3, not 4"),
        ({"1.attn.q": (0,)}, r"'1\.attn\.q' is no site"),
        ({"final_resid": (0,)}, "'final_resid' is no site"),
    ],
)
def test_nodes_the_model_does_not_have_are_refused(circuit: Circuit, nodes: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(circuit, nodes=nodes)


def test_what_cannot_be_measured_says_so(circuit: Circuit) -> None:
    with pytest.raises(InputError, match="no split 'test': the splits are prune, calibrate, report, ood"):
        circuit.loss("test")
    with pytest.raises(InputError, match="this circuit has no calibration"):
        replace(circuit, calibration=None).loss(calibrated=True)
    with pytest.raises(InputError, match=r"ablation means of shape \(40,\) for 48 nodes"):
        replace(circuit, means=Means(torch.zeros(40), torch.zeros(40), 1))
    circuit.model.tokenizer = None
    with pytest.raises(InputError, match=r"no tokenizer.*set model\.tokenizer"):
        circuit.loss()


@pytest.mark.parametrize("calibrated", [False, True])
@pytest.mark.parametrize("split", ["calibrate", "report", "ood"])
def test_saved_and_loaded_it_has_the_same_loss(saved: Circuit, tmp_path: Path, split: str, calibrated: bool) -> None:
    loaded = Circuit.load(tmp_path / "circuit", task=saved.task)
    assert loaded.model is not saved.model
    assert loaded.loss(split, calibrated) == pytest.approx(saved.loss(split, calibrated), abs=1e-6)


def test_saved_and_loaded_it_is_the_same(saved: Circuit, tmp_path: Path) -> None:
    loaded = Circuit.load(tmp_path / "circuit", saved.model, saved.task)
    assert loaded.description() == saved.description()
    assert loaded.nodes == saved.nodes
    assert loaded.config == saved.config
    assert loaded.means.tokens == saved.means.tokens
    for ours, theirs in (
        (loaded.means.values, saved.means.values),
        (loaded.means.standard_error, saved.means.standard_error),
        (loaded.scores, saved.scores),
    ):
        assert ours is not None
        assert theirs is not None
        assert torch.equal(ours, theirs)


def test_in_its_models_folder_it_can_leave_the_means_to_that(saved: Circuit, tmp_path: Path) -> None:
    model, folder = tmp_path / "model", tmp_path / "model" / "circuits" / "quotes"
    saved.save(folder, with_means=False)
    assert "means" not in load_file(folder / "circuit.safetensors")

    def load() -> Circuit:
        return Circuit.load(folder, saved.model, saved.task)

    with pytest.raises(InputError, match=r"leaves its means to its model's folder, and .*means.safetensors does not"):
        load()
    write_means(model / "means.safetensors", saved.means, "another model")
    with pytest.raises(InputError, match="does not hold them"):
        load()
    write_means(model / "means.safetensors", saved.means, checkpoint.model_hash(saved.model) + " text")
    again = load()
    assert torch.equal(again.means.values, saved.means.values)
    assert again.loss("report") == saved.loss("report")
    again.save(tmp_path / "elsewhere")
    assert torch.equal(load_file(tmp_path / "elsewhere" / "circuit.safetensors")["means"], saved.means.values)


def test_one_of_before_there_were_all_settings_says_what_it_was_found_with(saved: Circuit, tmp_path: Path) -> None:
    path = tmp_path / "circuit" / "circuit.json"
    described = read_json(path)
    for newer in ("screen", "aim"):
        del described["config"][newer]
    for k_coef, price in ((0.003, 0.003 / saved.config.target_loss), (None, 0.007)):
        described["config"] = {key: value for key, value in described["config"].items() if key != "price"}
        described["config"]["k_coef"] = k_coef  # nats, or left open
        write_json(path, described)
        found = Circuit.load(path.parent, saved.model, saved.task).config
        assert found == replace(saved.config, screen=1.0, aim=0.6, price=price)


def test_a_kill_between_its_files_leaves_no_mixture(saved: Circuit, tmp_path: Path, monkeypatch) -> None:
    replace_file = os.replace

    def kill(source: Path, target: Path) -> None:
        if Path(target) == tmp_path / "circuit" / "circuit.json":
            raise KeyboardInterrupt
        replace_file(source, target)

    monkeypatch.setattr(os, "replace", kill)
    with pytest.raises(KeyboardInterrupt):
        replace(saved, nodes={}).save(tmp_path / "circuit")
    with pytest.raises(InputError, match="no circuit at"):
        Circuit.load(tmp_path / "circuit", saved.model, saved.task)


@pytest.mark.parametrize("name", ["checkpoint.write_tensors", "write_json"])
def test_a_full_disk_leaves_the_circuit_that_was_there(saved: Circuit, tmp_path: Path, monkeypatch, name: str) -> None:
    def full(path: Path, *content: object) -> None:
        path.write_bytes(b"half of it")
        raise InputError(f"cannot write {path}: No space left on device")

    before = sorted((path.name, path.read_bytes()) for path in (tmp_path / "circuit").iterdir())
    monkeypatch.setattr(f"sparse_circuits.circuits.circuit.{name}", full)
    with pytest.raises(InputError, match=f"cannot write {tmp_path / 'circuit'}/circuit"):
        replace(saved, nodes={}).save(tmp_path / "circuit")
    assert sorted((path.name, path.read_bytes()) for path in (tmp_path / "circuit").iterdir()) == before


def test_circuit_json_says_what_a_reader_wants_to_know(saved: Circuit, tmp_path: Path) -> None:
    described = json.loads((tmp_path / "circuit" / "circuit.json").read_text())
    assert described["format"] == 2
    assert described["nodes"] == {site: list(channels) for site, channels in NODES.items()}
    assert described["sizes"] == {
        "nodes": 5,
        "edges": 3,
        "node_edges": 3,
        "embedding_edges": 4,
        "unembedding_edges": 2,
    }
    assert described["model"]["hash"] == checkpoint.model_hash(saved.model)
    assert described["task"]["name"] == "quotes"
    assert described["mean_tokens"] == 10
    assert described["config"]["eval_pairs"] == 4


def test_a_fresh_process_gets_the_same_loss(saved: Circuit, tmp_path: Path) -> None:
    # With a task of its own, from a file.
    lines = [
        {"a": f'x = f("{word}', "b": f"x = f('{word}", "right_a": '"', "right_b": "'", "split": split}
        for split, words in {"calibrate": "a bb ccc", "report": "dddd e ff"}.items()
        for word in words.split()
    ]
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, lines)))
    task = Task.from_jsonl(tmp_path / "mine.jsonl")
    circuit = replace(saved, task=task, config=replace(saved.config, eval_pairs=3))
    circuit.save(tmp_path / "mine")
    program = (
        "import sys; from sparse_circuits import Circuit, Task; folder = sys.argv[1];"
        "circuit = Circuit.load(f'{folder}/mine', task=Task.from_jsonl(f'{folder}/mine.jsonl'));"
        "print(circuit.loss('report'), circuit.loss('report', calibrated=True))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout
    expected = [circuit.loss("report"), circuit.loss("report", calibrated=True)]
    assert [float(number) for number in printed.split()] == pytest.approx(expected, abs=1e-6)


def test_another_model_is_refused(saved: Circuit, tmp_path: Path) -> None:
    with torch.no_grad():
        saved.model.wte.weight[77, 5] += 1e-3
    with pytest.raises(InputError, match="a circuit runs only on the model it was pruned from"):
        Circuit.load(tmp_path / "circuit", saved.model, saved.task)
    assert Circuit.load(tmp_path / "circuit", task=saved.task).size == 5  # the folder still has the right one
    checkpoint.save(saved.model, tmp_path / "model")
    with pytest.raises(InputError, match="a circuit runs only on the model it was pruned from"):
        Circuit.load(tmp_path / "circuit", task=saved.task)
    shutil.rmtree(tmp_path / "model")
    with pytest.raises(InputError, match="no model at"):
        Circuit.load(tmp_path / "circuit", task=saved.task)


def test_another_task_is_refused(saved: Circuit, tmp_path: Path) -> None:
    folder, task = tmp_path / "circuit", saved.task
    with pytest.raises(InputError, match="was pruned for quotes version 1; the task given is quotes version 2"):
        Circuit.load(folder, saved.model, replace(task, version=2))
    words = {**task.words, "ood": {"word": ("gorilla",)}}
    with pytest.raises(InputError, match="with other pairs: pass the task it was made with"):
        Circuit.load(folder, saved.model, replace(task, words=words))
    with pytest.raises(InputError, match=r"a task of your own, 'quotes': name its \.jsonl or \.py file with --task"):
        Circuit.load(folder, saved.model)


def test_a_task_of_ones_own_is_known_by_its_file(saved: Circuit, tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    lines = [
        {"a": f'x = ("{word}', "b": f"x = ('{word}", "right_a": '"', "right_b": "'", "split": split}
        for split, word in zip(SPLITS, ("ant", "bee", "cat", "dog"), strict=True)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    replace(saved, task=get_task(path)).save(tmp_path / "circuit")
    own = own_task(tmp_path / "circuit", get_task(path))
    assert own is not None
    assert own.name == "pairs"
    assert own_task(tmp_path / "circuit", saved.task) is None
    for given in (path, str(path), get_task(path)):
        assert Circuit.load(tmp_path / "circuit", saved.model, given).task.fingerprint == get_task(path).fingerprint
    with pytest.raises(InputError, match="no task 'pears'"):
        Circuit.load(tmp_path / "circuit", saved.model, "pears")
    (tmp_path / "circuit" / "circuit.json").write_text('{"task": []}')
    with pytest.raises(InputError, match="is damaged: it does not name its task"):
        own_task(tmp_path / "circuit", own)


def refusal(folder: Path, saved: Circuit) -> str:
    """The one line that loading a damaged folder gives."""
    with pytest.raises(InputError) as caught:
        Circuit.load(folder, saved.model, saved.task)
    message = str(caught.value)
    assert "\n" not in message
    assert str(folder) in message
    return message


def test_missing_and_cut_files_are_one_line(saved: Circuit, tmp_path: Path) -> None:
    assert "no circuit at" in refusal(tmp_path / "nowhere", saved)
    for name, reason in (("circuit.json", "not valid JSON"), ("circuit.safetensors", "may be cut short")):
        for keep in (0, 1, 0.5, 0.99):
            shutil.copytree(tmp_path / "circuit", tmp_path / "cut", dirs_exist_ok=True)
            whole = (tmp_path / "cut" / name).read_bytes()
            size = keep if isinstance(keep, int) else int(keep * len(whole.rstrip()))
            (tmp_path / "cut" / name).write_bytes(whole[:size])
            assert reason in refusal(tmp_path / "cut", saved)
    shutil.copytree(tmp_path / "circuit", tmp_path / "cut", dirs_exist_ok=True)
    (tmp_path / "cut" / "circuit.json").write_bytes(b"\xff\xfe{}")
    assert "not valid JSON" in refusal(tmp_path / "cut", saved)
    (tmp_path / "cut" / "circuit.safetensors").unlink()
    refusal(tmp_path / "cut", saved)


def test_every_wrong_value_in_circuit_json_is_one_line(saved: Circuit, tmp_path: Path) -> None:
    path = tmp_path / "circuit" / "circuit.json"
    whole = json.loads(path.read_text())
    keys = [(key,) for key in ("format", "task", "model", "nodes", "edges", "config", "calibration_scale")]
    keys += [("task", "fingerprint"), ("task", "version"), ("model", "hash"), ("nodes", "0.attn.k"), ("mean_tokens",)]
    for wrong in (None, "x", -1.5, [], {"x": 1}, [1.5], ["a"], [[0]], [10**30]):
        for key in keys:
            described = json.loads(json.dumps(whole))
            inside = described if len(key) == 1 else described[key[0]]
            fine = {"calibration_scale": (None, -1.5), "0.attn.k": ([],), "edges": ([],)}
            if wrong in fine.get(key[-1], ()):
                continue
            inside[key[-1]] = wrong
            path.write_text(json.dumps(described))
            refusal(tmp_path / "circuit", saved)
    for key in whole:
        if key != "sizes":
            path.write_text(json.dumps({name: value for name, value in whole.items() if name != key}))
            refusal(tmp_path / "circuit", saved)
    for described in ([], "x", 3, None, {}):
        path.write_text(json.dumps(described))
        refusal(tmp_path / "circuit", saved)
    path.write_text(json.dumps(whole | {"format": 3}))
    assert "format 3; this version reads format 2" in refusal(tmp_path / "circuit", saved)
    path.write_text(json.dumps(whole | {"nodes": {"0.attn.q": [7]}}))
    assert "0.attn.q has channels 0..3, not 7" in refusal(tmp_path / "circuit", saved)


@pytest.mark.parametrize("name", ["means", "standard_error", "scores", "shift"])
def test_wrong_tensors_are_one_line(saved: Circuit, tmp_path: Path, name: str) -> None:
    path = tmp_path / "circuit" / "circuit.safetensors"
    whole = load_file(path)
    wrong = [torch.zeros(7), torch.zeros(48, 2), torch.zeros(48, dtype=torch.int64), torch.full((48,), torch.nan)]
    for tensor in wrong:
        save_file(whole | {name: tensor}, path)
        refusal(tmp_path / "circuit", saved)
    if name != "scores":  # a circuit of hand-picked nodes has none
        save_file({key: value for key, value in whole.items() if key != name}, path)
        refusal(tmp_path / "circuit", saved)


def test_a_hand_made_circuit_prints_what_is_known(circuit: Circuit) -> None:
    out = StringIO()
    print_circuit(replace(circuit, calibration=None), Console(file=out, width=200))
    printed = out.getvalue()
    for site, channels in NODES.items():
        for channel in channels:
            assert f"{site}:{channel}" in printed
    assert "act_in:0 (+1.00)" in printed


def test_tokens_that_look_like_markup_are_printed_as_they_are(empty_model, quote_task: Task) -> None:
    """`[b ... ]` and `[/ ... ]` mean something to the library that draws the tables."""
    tokenizer = Tokenizer.train(["x[b] y[/1 " * 9], 262)
    model = empty_model(vocab_size=tokenizer.vocab_size)
    model.tokenizer = tokenizer
    opening, closing, bracket = (tokenizer.single_token(text) for text in ("[b", "[/", "]"))
    assert opening is not None
    assert closing is not None
    with torch.no_grad():
        model.wte.weight[[opening, bracket], 0] = torch.tensor([2.0, 1.0])
        model.lm_head.weight[[closing, bracket], 1] = torch.tensor([2.0, 1.0])
    means = Means(torch.zeros(48), torch.zeros(48), 1)
    circuit = Circuit(model, quote_task, {"0.attn.act_in": (0,), "0.mlp.resid_delta": (1,)}, means)
    out = StringIO()
    print_circuit(circuit, Console(file=out, width=200))
    assert "'[b' (+2.00), ']' (+1.00)" in out.getvalue()
    assert "'[/' (+2.00), ']' (+1.00)" in out.getvalue()


def test_what_speaks_against_a_circuit_is_said(circuit: Circuit) -> None:
    losses = {"model": 0.01, "circuit": 0.1, "calibrated": 0.1, "empty": 0.7}
    sound = replace(circuit, config=replace(circuit.config, target_loss=0.15), found={"losses": {"report": losses}})
    missing_k = {site: kept for site, kept in circuit.nodes.items() if not site.endswith((".q", ".k"))}
    assert notes(sound) == []
    assert any("no q or k node is kept" in note for note in notes(replace(sound, nodes=missing_k)))
    worse = {"report": losses, "ood": losses | {"circuit": 0.3}}
    assert any(
        "on the ood split the circuit's loss is 0.300 (the model's 0.010), above the target 0.15" in note
        for note in notes(replace(sound, found={"losses": worse}))
    )
    easy = {"report": losses | {"empty": 0.15}}
    assert any("empty circuit meets the target" in note for note in notes(replace(sound, found={"losses": easy})))
    assert repr(circuit) == "Circuit(quotes: 5 nodes, 3 edges)"


def test_it_runs_the_model_as_it_is_now(circuit: Circuit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the model runs as a sparse twin, whose weights are its own."""
    monkeypatch.setattr("sparse_circuits.inference.worthwhile", lambda *_: True)
    before = circuit.loss("report")
    assert circuit.runner is circuit.runner
    with torch.no_grad():
        circuit.model.lm_head.weight.zero_()
    assert circuit.loss("report") == pytest.approx(math.log(2))
    assert before < 0.6
