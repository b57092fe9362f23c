"""What `transformers` does with our folders: registration, generation in its modes, saving, tokenizers, pipelines."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import randomised, small
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, pipeline
from transformers.utils import logging as their_logging

import sparse_circuits as sc
from sparse_circuits.checkpoint import model_hash
from sparse_circuits.formats import hub
from sparse_circuits.formats.huggingface import to_transformers
from sparse_circuits.formats.modeling_sparse_circuits import SparseCircuitsForCausalLM
from sparse_circuits.model import GPT
from sparse_circuits.tokenizer import Tokenizer

PROMPTS = ["for x in range(10):", "x", "print(x)\nprint("]


@pytest.fixture(autouse=True, scope="module")
def no_bars() -> None:
    """Their progress bars and hints stay off the output."""
    their_logging.disable_progress_bar()
    their_logging.set_verbosity(logging.ERROR)


@pytest.fixture(scope="module")
def model() -> GPT:
    """A tiny model with a tokenizer and positions that matter."""
    ours = randomised(small(vocab_size=270, block_size=32, positions="learned_concat", d_position=4))
    ours = ours.float().eval()
    ours.tokenizer = Tokenizer.train(["for x in range(10):\n    print(x)\n"] * 3, 265)
    return ours


@pytest.fixture(scope="module")
def folder(model: GPT, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model as a Hub folder."""
    out = tmp_path_factory.mktemp("hub") / "mine"
    hub.write(model, out)
    return out


@pytest.fixture(scope="module")
def theirs(folder: Path) -> SparseCircuitsForCausalLM:
    """The model as `transformers` loads it."""
    return AutoModelForCausalLM.from_pretrained(folder, torch_dtype="auto")


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Any:
    """The tokenizer as `transformers` loads it."""
    return AutoTokenizer.from_pretrained(folder)


def test_no_remote_code_is_trusted_or_needed(theirs: SparseCircuitsForCausalLM, folder: Path, model: GPT) -> None:
    assert type(theirs) is SparseCircuitsForCausalLM
    assert type(AutoConfig.from_pretrained(folder)).__module__ == "sparse_circuits.formats.modeling_sparse_circuits"
    assert theirs.dtype == torch.float32
    assert not theirs.training
    tokens = torch.randint(270, (2, 9), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(theirs(tokens).logits, model(tokens), rtol=1e-5, atol=1e-5)


def read(tokenizer: Any, prompts: list[str]) -> dict[str, Tensor]:
    return dict(tokenizer(prompts, return_tensors="pt", padding=True))


def ours_greedy(model: GPT, prompt: str, count: int) -> list[int]:
    assert model.tokenizer is not None
    ids = model.tokenizer.encode(prompt)
    (row,) = model.generate([ids], count, temperature=0.0, stop=model.tokenizer.end_of_text)
    return row[len(ids) :]


def new_tokens(output: Tensor, width: int, end: int) -> list[list[int]]:
    rows = output[:, width:].tolist()
    return [row[: row.index(end) + 1] if end in row else row for row in rows]


@pytest.mark.parametrize("count", [8, 24], ids=["within the block", "beyond the block"])
@pytest.mark.parametrize("changes", [{}, {"use_cache": False}, {"cache_implementation": "static"}], ids=str)
def test_greedy_batches_are_our_own_rows(
    changes: dict[str, Any], count: int, model: GPT, theirs: SparseCircuitsForCausalLM, tokenizer: Any
) -> None:
    inputs = read(tokenizer, PROMPTS)
    width = inputs["input_ids"].shape[1]
    output = theirs.generate(**inputs, max_new_tokens=count, do_sample=False, **changes)
    expected = [ours_greedy(model, prompt, count) for prompt in PROMPTS]
    assert new_tokens(output, width, tokenizer.eos_token_id) == expected
    assert max(map(len, expected)) == count, "none of the rows tests all of it"


@pytest.mark.parametrize(
    "mode",
    [
        {"do_sample": True, "temperature": 0.8, "top_p": 0.95},
        {"do_sample": True, "top_k": 5, "num_return_sequences": 2},
        {"num_beams": 3, "do_sample": False},
        {"num_beams": 2, "do_sample": True},
        {"num_beams": 2, "do_sample": False, "num_return_sequences": 2, "length_penalty": 0.5},
    ],
    ids=str,
)
def test_a_cache_changes_no_mode(mode: dict[str, Any], theirs: SparseCircuitsForCausalLM, tokenizer: Any) -> None:
    inputs = read(tokenizer, PROMPTS)
    results = []
    for cached in (True, False):
        torch.manual_seed(0)
        results.append(theirs.generate(**inputs, max_new_tokens=12, use_cache=cached, **mode))
    assert torch.equal(*results)


OLDER = {
    "_contrastive_search": {"penalty_alpha": 0.6, "top_k": 4},
    "_group_beam_search": {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5},
    "_constrained_beam_search": {"num_beams": 3, "force_words_ids": [[70]]},
    "_dola_decoding": {"dola_layers": "low"},
}
"""By the method that versions before 4.57 have; later ones fetch such modes from the Hub."""


@pytest.mark.parametrize(("method", "mode"), OLDER.items(), ids=OLDER)
def test_modes_of_older_versions(
    method: str, mode: dict[str, Any], theirs: SparseCircuitsForCausalLM, tokenizer: Any
) -> None:
    if not hasattr(theirs, method):
        pytest.skip("this version of transformers has no such mode of its own")
    inputs = read(tokenizer, PROMPTS[:1])
    width = inputs["input_ids"].shape[1]
    output = theirs.generate(**inputs, max_new_tokens=8, do_sample=False, **mode)
    assert torch.equal(output[:, :width], inputs["input_ids"])
    assert output.shape[1] > width
    assert torch.equal(output, theirs.generate(**inputs, max_new_tokens=8, do_sample=False, **mode))


def test_beams_of_a_padded_batch_are_those_of_each_row(theirs: SparseCircuitsForCausalLM, tokenizer: Any) -> None:
    inputs = read(tokenizer, PROMPTS)
    width, end = inputs["input_ids"].shape[1], tokenizer.eos_token_id
    together = new_tokens(theirs.generate(**inputs, max_new_tokens=10, num_beams=3), width, end)
    for prompt, row in zip(PROMPTS, together, strict=True):
        one = read(tokenizer, [prompt])
        alone = theirs.generate(**one, max_new_tokens=10, num_beams=3)
        assert new_tokens(alone, one["input_ids"].shape[1], end) == [row]


def test_a_helper_model_changes_nothing(theirs: SparseCircuitsForCausalLM, tokenizer: Any) -> None:
    inputs = read(tokenizer, PROMPTS[:1])
    plain = theirs.generate(**inputs, max_new_tokens=12, do_sample=False)
    other = to_transformers(randomised(small(vocab_size=270, block_size=32), seed=5, dtype=torch.float32))
    for helper in (theirs, other):
        assert torch.equal(theirs.generate(**inputs, max_new_tokens=12, do_sample=False, assistant_model=helper), plain)
    assert torch.equal(theirs.generate(**inputs, max_new_tokens=12, do_sample=False, prompt_lookup_num_tokens=3), plain)


def test_prompts_longer_than_the_block_are_read_from_their_end(
    model: GPT, theirs: SparseCircuitsForCausalLM, tokenizer: Any
) -> None:
    prompts = [PROMPTS[0] * 8, PROMPTS[1]]
    inputs = read(tokenizer, prompts)
    width = inputs["input_ids"].shape[1]
    assert width > 32
    output = theirs.generate(**inputs, max_new_tokens=5, do_sample=False)
    expected = [ours_greedy(model, prompt, 5) for prompt in prompts]
    assert new_tokens(output, width, tokenizer.eos_token_id) == expected


def test_the_pipeline(model: GPT, folder: Path) -> None:
    generator = pipeline("text-generation", model=str(folder))
    (one,), (other,) = generator(PROMPTS[:2], max_new_tokens=6, do_sample=False, batch_size=2)
    for prompt, text in zip(PROMPTS[:2], (one, other), strict=True):
        assert model.tokenizer is not None
        ids = [each for each in ours_greedy(model, prompt, 6) if each != model.tokenizer.end_of_text]
        assert text["generated_text"] == prompt + model.tokenizer.decode(ids)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tied", [False, True])
def test_what_transformers_saves_we_load(tied: bool, dtype: torch.dtype, tmp_path: Path) -> None:
    ours = randomised(small(vocab_size=64, tied_embeddings=tied, positions="sinusoidal_concat", d_position=4))
    ours = ours.to(dtype).float()
    hub.write(ours, tmp_path / "one")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "one", torch_dtype=dtype)
    assert (loaded.lm_head.weight is loaded.wte.weight) == tied
    loaded.save_pretrained(tmp_path / "two", max_shard_size="10KB")
    assert (tmp_path / "two" / "model.safetensors.index.json").is_file()
    assert (tmp_path / "two" / hub.CODE.name).read_bytes() == hub.CODE.read_bytes()
    back = sc.load(tmp_path / "two")
    assert back.config == ours.config
    assert model_hash(back) == model_hash(ours)
    described = json.loads((tmp_path / "two" / "config.json").read_text())
    assert described["auto_map"]["AutoModelForCausalLM"].endswith("SparseCircuitsForCausalLM")


@pytest.mark.parametrize("changes", [{}, {"tied_embeddings": True, "bigram_table": "fixed", "norm": "layer"}], ids=str)
def test_what_was_trained_further_is_saved_and_read(changes: dict[str, Any], tmp_path: Path) -> None:
    ours = randomised(small(vocab_size=64, **changes), dtype=torch.float32)
    hub.write(ours, tmp_path / "one")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "one").train()
    tokens = torch.randint(64, (4, 8), generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.AdamW(theirs.parameters(), lr=1e-2)
    before = theirs(tokens, labels=tokens).loss
    before.backward()
    optimizer.step()
    theirs.eval().save_pretrained(tmp_path / "two")
    back, again = sc.load(tmp_path / "two"), AutoModelForCausalLM.from_pretrained(tmp_path / "two")
    with torch.no_grad():
        expected = theirs(tokens).logits
        assert torch.equal(again(tokens).logits, expected)
        torch.testing.assert_close(back(tokens), expected, rtol=1e-5, atol=1e-5)
        assert not torch.allclose(ours(tokens), expected, rtol=1e-3, atol=1e-3)
        assert float(theirs(tokens, labels=tokens).loss) < float(before)
    assert (back.lm_head.weight is back.wte.weight) == ours.config.tied_embeddings


def test_missing_weights_are_made_anew(tmp_path: Path) -> None:
    """As when a table is added to a model without one: the rest stays what the file holds."""
    ours = randomised(small(bigram_table="none"), dtype=torch.float32)
    hub.write(ours, tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"bigram_table": "learned"}))
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    low, high = (each.item() for each in loaded.bigram_table.detach().aminmax())
    assert 0 <= low < high <= 0.02
    for name, tensor in ours.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@settings(deadline=None, max_examples=60)
@given(text=TEXTS | st.lists(st.sampled_from(["<|endoftext|>", "x", " ", "\n", "é"])).map("".join))
def test_both_tokenizers_agree_on_any_text(text: str, model: GPT, tokenizer: Any) -> None:
    ours = model.tokenizer
    assert ours is not None
    ids = ours.encode(text)
    assert tokenizer(text, split_special_tokens=True)["input_ids"] == ids
    assert tokenizer.decode(ids) == text == ours.decode(ids)
    if "<|endoftext|>" not in text:
        assert tokenizer(text)["input_ids"] == ids


def test_special_tokens(tokenizer: Any, tmp_path: Path, model: GPT) -> None:
    end = 264
    assert (tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.pad_token_id) == (end, end, end)
    assert tokenizer("<|endoftext|>x")["input_ids"] == [end, *tokenizer("x")["input_ids"]]
    assert tokenizer.decode([end, *tokenizer("x")["input_ids"]], skip_special_tokens=True) == "x"
    batch = tokenizer(["x", "for x in"], padding=True)
    assert batch["attention_mask"][0][0] == 0, "padding is on the left"
    assert set(batch) == {"input_ids", "attention_mask"}
    tokenizer.save_pretrained(tmp_path)
    assert Tokenizer.load(tmp_path).hash == model.tokenizer.hash  # type: ignore[union-attr]
