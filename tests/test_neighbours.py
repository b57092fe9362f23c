"""The pages on living with other libraries are run as they stand."""

import re
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from small_models import randomised, small

from sparse_circuits import checkpoint
from sparse_circuits.__main__ import main
from sparse_circuits.tokenizer import Tokenizer

pytestmark = pytest.mark.usefixtures("one_thread")

DOCS = Path(__file__).resolve().parent.parent / "docs"


def run_page(name: str, folder: Path) -> dict[str, Any]:
    """Run the Python of a page from top to bottom in `folder`; what it leaves behind, by name."""
    code = "\n\n".join(re.findall(r"```python\n(.*?)```", (DOCS / name).read_text(), re.DOTALL))
    path = folder / f"{Path(name).stem}_page.py"  # a file, since nnsight reads the source of what it traces
    path.write_text(code)
    return runpy.run_path(str(path))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder of its own, without a window for pictures."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def test_hugging_face(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = randomised(small(vocab_size=270, block_size=128), dtype=torch.float32)
    model.tokenizer = Tokenizer.train(["def square_sum(xs):\n    return sum(x * x for x in xs)\n"] * 3, 270)
    checkpoint.save(model, tmp_path / "runs" / "model")
    assert main(["export", "hf", "--model", "runs/model", "--out", "runs/hub"]) == 0
    left = run_page("huggingface.md", tmp_path)
    assert "def square_sum(xs):" in capsys.readouterr().out
    assert not torch.equal(left["changed"], left["model"](left["ids"]).logits)
    expected = left["ours"](left["ids"])
    for theirs in (left["theirs"], left["again"], left["model"]):
        torch.testing.assert_close(theirs(left["ids"]).logits, expected, rtol=1e-5, atol=1e-5)


def test_transformer_lens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    left = run_page("transformer_lens.md", tmp_path)
    assert "silencing blocks.2.mlp.hook_post in layer 2" in capsys.readouterr().out
    assert left["queries"].shape[2:] == (48, 16)
    assert all(name.startswith("blocks.1.") for name in left["cache"])
    assert not torch.equal(left["changed"], left["logits"])


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning")
def test_nnsight(tmp_path: Path) -> None:
    left = run_page("nnsight.md", tmp_path)  # the page compares with a tap of our own
    assert left["queries"].shape == (1, left["tokens"].shape[1], 768)


def test_notebook(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    left = run_page("notebook.md", tmp_path)
    assert re.search(r"largest change: \d+\.\d{3} nats", capsys.readouterr().out)
    assert not torch.equal(left["before"], left["after"])
    assert left["axes"].images


def test_activation_cache(tmp_path: Path) -> None:
    left = run_page("activation_cache.md", tmp_path)
    sites = left["model"].run(left["tokens"], record=["1.mlp.resid_delta", "2.attn.y"]).sites
    cache = left["cache"]
    assert cache.column_names == ["blocks.1.hook_mlp_out", "2.attn.y", "token_ids"]
    assert torch.equal(torch.as_tensor(cache["token_ids"][:]), left["tokens"])
    for name, site in (("blocks.1.hook_mlp_out", "1.mlp.resid_delta"), ("2.attn.y", "2.attn.y")):
        torch.testing.assert_close(torch.stack(list(cache[name])), sites[site])
