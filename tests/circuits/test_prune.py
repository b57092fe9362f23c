"""Pruning finds the circuit that is known to be there, changes no weight, and says why when it cannot.

`quote_model` (conftest.py) attends to the quote and copies which of the two it was. What that needs:

- channels 0 (which quote) and 1 (a quote at all) of attention's input, k0, v0 and the delta's channel 3;
- q0, and channel 2 that it reads, only if removed nodes are held at zero: at its mean q0 asks the same question.
"""

import copy
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sparse_circuits import checkpoint
from sparse_circuits.circuits.calibration import calibrate
from sparse_circuits.circuits.circuit import Circuit, evaluator, fixed_examples
from sparse_circuits.circuits.config import PruneConfig
from sparse_circuits.circuits.evaluator import Evaluator
from sparse_circuits.circuits.means import Means
from sparse_circuits.circuits.nodes import NodeSpace
from sparse_circuits.circuits.prune import _Found, _Pruning, prune
from sparse_circuits.circuits.search import drop_unneeded
from sparse_circuits.circuits.table import print_circuit
from sparse_circuits.config import LoopConfig
from sparse_circuits.corpus.packed import PackedCorpus
from sparse_circuits.errors import InputError
from sparse_circuits.model import GPT
from sparse_circuits.tasks import Task, Template
from sparse_circuits.tokenizer import Tokenizer

CONFIG = PruneConfig(
    target_loss=0.1,
    price=0.1,
    k_rate=0.0,
    temperature=0.5,
    batch_pairs=5,
    eval_pairs=4,
    mean_tokens=2000,
    loop=LoopConfig(steps=15, learning_rate=0.05, epsilon=1e-8, gradient="clip"),
)
TRUE = {"0.attn.act_in": (0, 1), "0.attn.k": (0,), "0.attn.v": (0,), "0.attn.resid_delta": (3,)}
TRUE_AT_ZERO = TRUE | {"0.attn.act_in": (0, 1, 2), "0.attn.q": (0,)}


@pytest.mark.parametrize(
    ("ablation", "nodes", "edges"), [("mean", TRUE, 3), ("zero", TRUE_AT_ZERO, 4)], ids=["mean", "zero"]
)
def test_it_finds_the_known_circuit(
    quote_model, quote_task, quote_means, ablation: str, nodes: dict, edges: int
) -> None:
    circuit = prune(quote_model, quote_task, config=replace(CONFIG, ablation=ablation), means=quote_means)
    assert circuit.nodes == nodes
    assert len(circuit.edges) == edges
    for split in ("calibrate", "report", "ood"):
        losses = circuit.found["losses"][split]
        assert losses["model"] < 0.02
        assert losses["circuit"] == circuit.loss(split) < 0.02
        assert losses["calibrated"] == circuit.loss(split, calibrated=True) < 0.02
        assert losses["empty"] == pytest.approx(0.6931, abs=1e-3)
    # Each node alone is needed.
    costs = circuit.found["costs"]
    assert {site: len(each) for site, each in costs.items()} == {site: len(each) for site, each in nodes.items()}
    assert all(cost > 0.08 for each in costs.values() for cost in each)


def test_calibrated_measures_are_fitted_on_the_calibrate_split_alone(quote_model, quote_task, quote_means) -> None:
    circuit = prune(quote_model, quote_task, config=replace(CONFIG, calibrated=True), means=quote_means)
    nothing = torch.zeros_like(circuit.kept)
    pairs, asked = circuit.examples("calibrate"), circuit.examples("report")
    plain = evaluator(circuit.full, asked, circuit.means, CONFIG).without(circuit.dropped)
    fitted = calibrate(circuit.evaluator(pairs).logits(nothing), pairs)
    assert circuit.found["losses"]["report"]["empty"] == pytest.approx(
        float(fitted.losses(plain.logits(nothing), asked).mean())
    )
    scale = circuit.calibration
    assert scale is not None

    def loss(kept: torch.Tensor) -> float:
        return float(scale.losses(plain.logits(kept), asked).mean())

    assert circuit.found["losses"]["report"]["calibrated"] == pytest.approx(loss(circuit.kept))
    for site, costs in circuit.found["costs"].items():
        for channel, cost in zip(circuit.nodes[site], costs, strict=True):
            fewer = circuit.kept.clone()
            fewer[circuit.space.slices[site].start + channel] = False
            assert cost == pytest.approx(loss(fewer) - loss(circuit.kept), abs=1e-5)


def test_what_was_too_large_to_be_measured_is_measured_when_it_is_small(
    quote_model, quote_task, quote_means, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of all nodes none may be measured alone, of all but one each."""
    config = replace(CONFIG, exchange=False, drop_edges=False)
    evaluate = evaluator(quote_model, fixed_examples(quote_model, quote_task, "calibrate", config), quote_means, config)
    pruning = _Pruning(
        quote_model, quote_model, quote_task, config, quote_means, evaluate.examples, 0.0, None, None, False
    )
    monkeypatch.setattr("sparse_circuits.circuits.edge_search.MEASURED", evaluate.space.total - 1)
    # As if bisection found but one.
    monkeypatch.setattr(
        "sparse_circuits.circuits.prune.drop_unneeded",
        lambda measures, kept, target, progress, most: (
            drop_unneeded(measures, kept, target, progress, most)
            if most
            else kept & (torch.arange(len(kept)) < len(kept) - 1)
        ),
    )
    monkeypatch.setattr("sparse_circuits.circuits.prune.drop_unconnected", lambda evaluate, kept, target: kept)
    kept = pruning._clean(torch.ones(evaluate.space.total, dtype=torch.bool))
    assert 0 < int(kept.sum()) < 20
    for node in kept.nonzero().squeeze(1).tolist():
        fewer = kept.clone()
        fewer[node] = False
        assert evaluate(fewer) > config.target_loss


def test_a_looser_target_needs_no_attention(quote_model, quote_task, quote_means) -> None:
    """Averaged over all tokens the quote still shows: worse than 0.1, better than chance."""
    circuit = prune(quote_model, quote_task, 0.5, config=CONFIG, means=quote_means)
    assert circuit.nodes == {"0.attn.act_in": (0,), "0.attn.v": (0,), "0.attn.resid_delta": (3,)}
    assert 0.1 < circuit.loss("calibrate") <= 0.5
    assert circuit.config.target_loss == 0.5


def test_the_target_is_met_on_the_calibrate_split(quote_model, quote_task, quote_means) -> None:
    """Averaged over four tokens the quote shows well enough, over six to nine it does not; the search sees the four."""
    task = replace(quote_task, words={**quote_task.words, "calibrate": {"word": tuple("bcde")}})
    circuit = prune(quote_model, task, 0.15, config=CONFIG, means=quote_means)
    assert circuit.nodes == {"0.attn.act_in": (0,), "0.attn.v": (0,), "0.attn.resid_delta": (3,)}
    assert circuit.loss("calibrate") <= 0.15 < circuit.loss("report")
    assert circuit.loss("calibrate", calibrated=True) < circuit.loss("calibrate")


def test_without_cleaning_only_the_target_is_met(quote_model, quote_task, quote_means) -> None:
    config = replace(CONFIG, clean=False, loop=replace(CONFIG.loop, steps=1))
    circuit = prune(quote_model, quote_task, config=config, means=quote_means)
    sizes = circuit.found["sizes"]
    assert circuit.loss("calibrate") <= 0.1
    assert circuit.size == sizes["discretised"] >= 5
    assert len(circuit.edges) == sizes["discretised_edges"]
    assert set(sizes) == {"learned", "discretised", "discretised_edges"}


def test_no_single_node_of_the_result_can_go(quote_model: GPT, quote_task: Task) -> None:
    """Also where everything does a little, and a second head, of the decoys, could do the first one's work."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        quote_model.blocks[0].attn.c_attn.weight[8 + 2, 0] = quote_model.blocks[0].attn.c_proj.weight[3, 2] = 0.5
        for parameter in quote_model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    total = NodeSpace(quote_model.config).total
    circuit = prune(quote_model, quote_task, config=CONFIG, means=Means(torch.zeros(total), torch.zeros(total), 1))
    evaluate = circuit.evaluator(circuit.examples("calibrate"))
    assert evaluate(circuit.kept) == circuit.loss("calibrate") <= 0.1
    assert circuit.size > 3
    for node in circuit.kept.nonzero():
        fewer = circuit.kept.clone()
        fewer[node] = False
        assert evaluate(fewer) > 0.1
    sizes = circuit.found["sizes"]
    assert circuit.size <= sizes["connected"] <= sizes["discretised"]


def test_a_run_that_is_too_large_does_not_hide_one_that_is_not(
    quote_model: GPT, quote_task: Task, quote_means: Means, monkeypatch
) -> None:
    """Exchanging nodes may bring edges back, so that what was not cleaned can be the one with the fewest."""
    found = _Pruning._from_scores
    runs: list[_Found] = []

    def too_large_at_first(self: _Pruning, scores: torch.Tensor, most_edges: float) -> _Found:
        run = found(self, scores, most_edges)
        runs.append(run if runs else run._replace(sizes=run.sizes | {"connected_edges": 11}, edges=1))
        return runs[-1]

    monkeypatch.setattr(_Pruning, "_from_scores", too_large_at_first)
    circuit = prune(quote_model, quote_task, config=replace(CONFIG, runs=2), means=quote_means, most_edges=10)
    assert circuit.nodes == TRUE
    assert circuit.found["sizes"] == runs[1].sizes


def test_the_model_stays_as_it_was(quote_model: GPT, quote_task: Task, quote_means: Means) -> None:
    before = copy.deepcopy(quote_model.state_dict())
    quote_model.wte.weight.requires_grad_(False)
    prune(quote_model, quote_task, config=CONFIG, means=quote_means)
    assert all(torch.equal(value, before[name]) for name, value in quote_model.state_dict().items())
    trainable = {name for name, parameter in quote_model.named_parameters() if parameter.requires_grad}
    assert trainable == {name for name, _ in quote_model.named_parameters()} - {"wte.weight"}
    assert all(parameter.grad is None for parameter in quote_model.parameters())


def test_the_search_begins_with_what_masks_keep_and_for_other_scores_with_one(
    quote_model, quote_task, quote_means, monkeypatch
) -> None:
    begun = []

    def begin(evaluate: Evaluator, scores: torch.Tensor, target: float, known: int | None, start: int) -> None:
        begun.append((start, int((scores >= 0).sum())))
        raise KeyboardInterrupt

    monkeypatch.setattr("sparse_circuits.circuits.prune.discretise", begin)
    for rank in (None, lambda evaluate: torch.ones(evaluate.space.total)):
        with pytest.raises(KeyboardInterrupt):
            prune(quote_model, quote_task, config=CONFIG, means=quote_means, rank=rank)
    (start, kept), (other, total) = begun
    assert start == kept > 1
    assert other == 1 < total


def test_an_interrupted_run_leaves_the_model_trainable(quote_model, quote_task, quote_means, monkeypatch) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sparse_circuits.circuits.prune.discretise", interrupt)
    with pytest.raises(KeyboardInterrupt):
        prune(quote_model, quote_task, config=CONFIG, means=quote_means)
    assert all(parameter.requires_grad for parameter in quote_model.parameters())


def test_the_same_seed_gives_the_same_circuit(random_model, quote_task: Task, letter_corpus: PackedCorpus) -> None:
    model = random_model(n_layer=1)
    config = replace(CONFIG, target_loss=10.0, clean=False)
    scores = []
    for seed in (0, 0, 1):
        circuit = prune(
            model, quote_task, config=replace(config, loop=replace(config.loop, seed=seed)), text=letter_corpus
        )
        scores.append(circuit.scores)
    assert torch.equal(scores[0], scores[1])
    assert not torch.equal(scores[0], scores[2])
    assert circuit.means.tokens == 2000 // 24 * 24


def test_what_the_model_cannot_do_has_no_circuit(quote_model, quote_task, quote_means) -> None:
    with pytest.raises(
        InputError,
        match=r"own loss on quotes is 0\.0\d\d on the calibrate split, above the target 0\.001: no circuit",
    ):
        prune(quote_model, quote_task, 0.001, config=CONFIG, means=quote_means)
    with torch.no_grad():
        quote_model.wte.weight[0, 0] = torch.nan
        quote_model.lm_head.weight[0, 0] = torch.nan
        quote_model.blocks[0].mlp.c_proj.bias[3] = torch.nan
    with pytest.raises(InputError, match="the model's own loss on quotes is nan"):
        prune(quote_model, quote_task, config=CONFIG, means=quote_means)


def test_bad_questions_are_one_line(quote_model: GPT, quote_task: Task, quote_means: Means) -> None:
    with pytest.raises(InputError, match="no task 'single_duble_quote': did you mean 'single_double_quote'"):
        prune(quote_model, "single_duble_quote", means=quote_means)
    with pytest.raises(InputError, match="is not one token of this tokenizer"):
        prune(quote_model, "single_double_quote", means=quote_means)
    with pytest.raises(InputError, match="ablation means need held-out text"):
        prune(quote_model, quote_task, config=CONFIG)
    with pytest.raises(InputError, match="most_edges is nan"):
        prune(quote_model, quote_task, config=CONFIG, means=quote_means, most_edges=float("nan"))
    with pytest.raises(InputError, match="target_loss is 0"):
        prune(quote_model, quote_task, 0.0, means=quote_means)
    with pytest.raises(InputError, match=r"ablation means of shape \(9,\) for 48 nodes"):
        prune(quote_model, quote_task, config=CONFIG, means=Means(torch.zeros(9), torch.zeros(9), 1))
    quote_model.tokenizer = None
    with pytest.raises(InputError, match=r"no tokenizer.*set model\.tokenizer"):
        prune(quote_model, quote_task, means=quote_means)


@pytest.mark.parametrize("missing", ["prune", "calibrate", "report"])
def test_a_task_needs_its_three_splits(quote_model, quote_task: Task, quote_means, missing: str) -> None:
    fewer = replace(quote_task, templates={s: t for s, t in quote_task.templates.items() if s != missing})
    with pytest.raises(InputError, match=f"task 'quotes' has no '{missing}' split"):
        prune(quote_model, fewer, config=CONFIG, means=quote_means)


def test_a_one_token_question(quote_model: GPT, quote_means: Means) -> None:
    """A double quote, or anything but: the unasked tokens share what is left, so single quotes must be told apart."""
    task = Task(
        name="double",
        description="Close a double quote.",
        templates={
            split: (Template(split, f'{split[0]}("$word', f"{split[0]}('$word", '"'),)
            for split in ("prune", "calibrate", "report")
        },
        words={
            "prune": {"word": ("ox", "elk")},
            "calibrate": {"word": ("ant", "bee")},
            "report": {"word": ("cat", "cow")},
        },
    )
    with torch.no_grad():
        quote_model.lm_head.weight[:, 3] *= 3.2
    circuit = prune(quote_model, task, 0.2, config=replace(CONFIG, batch_pairs=2, eval_pairs=2), means=quote_means)
    assert circuit.nodes == TRUE
    assert circuit.calibration is not None
    assert circuit.calibration.shift.shape == (257,)
    losses = circuit.found["losses"]["calibrate"]
    assert losses["calibrated"] <= losses["circuit"] <= 0.2


def test_a_task_of_ones_own_on_a_model_that_knows_nothing(
    letter_corpus: PackedCorpus, letters: Tokenizer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Chance is ln 2 = 0.693, so at 0.70 the model passes and next to nothing of it is needed."""
    from sparse_circuits.config import GPTConfig

    model = GPT(GPTConfig(vocab_size=257, block_size=32, n_layer=1, d_model=16, n_head=4), seed=1)
    model.tokenizer = letters
    checkpoint.save(model, tmp_path / "model")
    pairs = [
        {"a": f"x{n} = [{n}", "b": f"x{n} = ({n}", "right_a": "]", "right_b": ")", "split": split}
        for n, split in enumerate(["prune"] * 6 + ["calibrate"] * 4 + ["report"] * 4)
    ]
    (tmp_path / "closing.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    circuit = prune(model, str(tmp_path / "closing.jsonl"), 0.70, config=CONFIG, text=letter_corpus, progress=True)
    assert circuit.loss("calibrate") <= 0.70
    assert circuit.size < 10
    assert set(circuit.found["losses"]) == {"calibrate", "report"}
    print_circuit(circuit)
    printed = capsys.readouterr()
    assert "closing: loss in nats" in printed.out
    assert "Traceback" not in printed.err
    circuit.save(tmp_path / "circuit")
    again = Circuit.load(tmp_path / "circuit", task=Task.from_jsonl(tmp_path / "closing.jsonl"))
    assert again.loss() == pytest.approx(circuit.loss(), abs=1e-6)
    assert (tmp_path / "model" / "means.safetensors").exists()
