"""Ablation means are plain averages of what the model computes, and a cache of them is never stale."""

import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sparse_circuits import checkpoint
from sparse_circuits.circuits import means as means_module
from sparse_circuits.circuits.means import Means, means_for, node_means, read_means, write_means
from sparse_circuits.circuits.nodes import NodeSpace
from sparse_circuits.corpus.packed import PackedCorpus
from sparse_circuits.errors import InputError
from sparse_circuits.model import GPT
from sparse_circuits.tokenizer import Tokenizer


@pytest.mark.parametrize("settings", [{}, {"abs_topk": None, "positions": "sinusoidal_concat", "d_position": 5}])
def test_equal_to_an_average_of_recorded_activations(random_model, monkeypatch, settings) -> None:
    monkeypatch.setattr(means_module, "TOKENS_PER_BATCH", 64)  # several batches, the last one smaller
    model = random_model(**settings)
    windows = torch.randint(257, (11, 17), generator=torch.Generator().manual_seed(0))
    means = node_means(model, windows)
    recorded = model.run(windows, record="*").sites
    values = torch.cat([recorded[site] for site in NodeSpace(model.config).widths], dim=-1).flatten(0, 1).double()
    assert means.tokens == len(values) == 11 * 17
    torch.testing.assert_close(means.values.double(), values.mean(0), rtol=1e-5, atol=1e-6)
    spread = values.var(0, unbiased=False).sqrt() / math.sqrt(11 * 17)
    torch.testing.assert_close(means.standard_error.double(), spread, rtol=1e-3, atol=1e-6)


def test_standard_error_by_hand(empty_model, letters: Tokenizer) -> None:
    """Channel 0 of the embedding is 1 at "a" and 0 elsewhere, so act_in is sqrt(8) at a quarter of the tokens."""
    model: GPT = empty_model()
    with torch.no_grad():
        model.wte.weight[letters.encode("a")[0], 0] = 1
    means = node_means(model, torch.tensor([letters.encode("abcd"), letters.encode("xyza")]))
    # RMS of (1, 0, ..., 0) is 1 / sqrt(8). Variance 1/4 * 3/4 * 8 over 8 tokens.
    assert float(means.values[0]) == pytest.approx(math.sqrt(8) / 4, rel=1e-5)
    assert float(means.standard_error[0]) == pytest.approx(math.sqrt(3 / 16 * 8 / 8), rel=1e-5)
    assert means.tokens == 8
    assert means.values[1:8].eq(0).all()


def test_a_spread_far_below_the_mean_is_still_measured(empty_model, letters: Tokenizer) -> None:
    """Sums of squares lose the digits that a small spread around a large mean has."""
    model: GPT = empty_model()
    a, b = letters.encode("ab")
    with torch.no_grad():
        model.blocks[0].mlp.c_fc.bias[0] = 1000.0
        model.blocks[0].mlp.c_fc.weight[0, 0] = 0.01 / math.sqrt(8)
        model.wte.weight[a, 0], model.wte.weight[b, 0] = 1, -1  # the neuron is 1000 + 0.01 and 1000 - 0.01
    means = node_means(model, torch.tensor([[a, b] * 16] * 300))
    neuron = NodeSpace(model.config).slices["0.mlp.post_act"].start
    assert float(means.values[neuron]) == pytest.approx(1000, rel=1e-6)
    assert float(means.standard_error[neuron]) == pytest.approx(0.01 / math.sqrt(9600), rel=0.01)


@pytest.fixture
def saved(random_model: Callable[..., GPT], tmp_path: Path) -> GPT:
    model = random_model()
    checkpoint.save(model, tmp_path / "model")
    return checkpoint.load(tmp_path / "model")


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of tokens of each computation that was not answered from a cache."""
    calls: list[int] = []
    compute = means_module.node_means

    def node_means(model: GPT, windows: torch.Tensor, progress: bool = False) -> Means:
        calls.append(windows.numel())
        return compute(model, windows, progress)

    monkeypatch.setattr(means_module, "node_means", node_means)
    return calls


def test_the_cache_answers_the_same_question(saved: GPT, letter_corpus: PackedCorpus, counted: list[int]) -> None:
    first = means_for(saved, letter_corpus, 500)
    again = means_for(checkpoint.load(saved.folder), letter_corpus.folder, 500)
    assert counted == [first.tokens]
    assert again.tokens == first.tokens == 500 // 24 * 24
    assert torch.equal(again.values, first.values)
    assert torch.equal(again.standard_error, first.standard_error)


def test_the_cache_knows_another_model_text_or_count(
    saved: GPT, letter_corpus: PackedCorpus, counted: list[int], tmp_path: Path
) -> None:
    first = means_for(saved, letter_corpus, 500)
    longer = means_for(saved, letter_corpus, 900)
    assert longer.tokens > first.tokens
    with torch.no_grad():
        saved.wte.weight[:, 3] += 1
    changed = means_for(saved, letter_corpus, 900)
    assert not torch.equal(changed.values, longer.values)
    shutil.copytree(letter_corpus.folder, tmp_path / "other")
    tokens = (tmp_path / "other" / "validation.bin").read_bytes()
    (tmp_path / "other" / "validation.bin").write_bytes(tokens[200:] + tokens[:200])
    means_for(saved, tmp_path / "other", 900)
    assert counted == [first.tokens, longer.tokens, longer.tokens, longer.tokens]
    means_for(saved, tmp_path / "other", 900)
    assert len(counted) == 4


def test_a_key_is_read_by_whole_words(tmp_path: Path) -> None:
    kept = Means(torch.ones(2), torch.zeros(2), 10_000)
    write_means(tmp_path / "means.safetensors", kept, "model text 10000")
    for key, known in (("model text 10000", True), ("model", True), ("model text 1000", False), ("mod", False)):
        assert (read_means(tmp_path / "means.safetensors", key) is not None) == known, key


def test_a_damaged_cache_is_made_anew(saved: GPT, letter_corpus: PackedCorpus, counted: list[int]) -> None:
    first = means_for(saved, letter_corpus, 500)
    path = saved.folder / "means.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    assert torch.equal(means_for(saved, letter_corpus, 500).values, first.values)
    means_for(saved, letter_corpus, 500)
    assert len(counted) == 2


def test_a_folder_that_cannot_be_written_costs_only_the_cache(
    saved: GPT, letter_corpus: PackedCorpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise InputError("cannot write means.safetensors: Read-only file system")

    monkeypatch.setattr(checkpoint, "write_tensors", refuse)
    with pytest.warns(UserWarning, match="the means are not kept: cannot write means.safetensors"):
        assert 0 < means_for(saved, letter_corpus, 500).tokens <= 500


def test_another_corpus_in_its_place_counts_as_none(saved: GPT, tmp_path: Path) -> None:
    """The shipped models were trained from runs/corpus, which is where everybody packs their own."""
    other = tmp_path / "corpus"
    other.mkdir()
    (other / "manifest.json").write_text('{"tokenizer_hash": "another"}')
    (saved.folder / "train.json").write_text(f'{{"config": {{"corpus": "{other}"}}}}')
    with pytest.raises(InputError, match=r"packed with another tokenizer; give one .* --tokenizer .* --out FOLDER"):
        means_for(saved, None, 300)


def test_without_text_the_training_corpus_is_taken(saved: GPT, letter_corpus: PackedCorpus) -> None:
    described = f'{{"config": {{"corpus": "{letter_corpus.folder}"}}}}'
    (saved.folder / "train.json").write_text(described)
    assert torch.equal(means_for(saved, None, 300).values, means_for(saved, letter_corpus, 300).values)


@pytest.mark.parametrize(
    ("described", "message"),
    [
        (None, "this model does not say what it was trained on; give a packed corpus"),
        ('{"config": {"corpus": "nowhere"}}', "is not in nowhere; give one packed with the model's tokenizer"),
        ('{"config": ', "train.json is not valid JSON"),
        ('{"config": 3}', "train.json does not say which corpus"),
        ("[]", "train.json does not say which corpus"),
    ],
)
def test_without_any_text_one_line_says_so(saved: GPT, described: str | None, message: str) -> None:
    if described is not None:
        (saved.folder / "train.json").write_text(described)
    with pytest.raises(InputError, match=message) as caught:
        means_for(saved, None, 300)
    assert "\n" not in str(caught.value)


def test_text_of_another_tokenizer_is_refused(saved: GPT, letter_corpus: PackedCorpus) -> None:
    saved.tokenizer = Tokenizer.train(["a a a"], 258)
    for text in (letter_corpus, letter_corpus.folder):
        with pytest.raises(InputError, match="was packed with the tokenizer"):
            means_for(saved, text, 300)
