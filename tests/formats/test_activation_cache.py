"""What an activation cache refuses, with `datasets` there or not."""

import sys
from pathlib import Path

import pytest
import torch
from small_models import randomised, small, some_tokens

from sparse_circuits.errors import InputError
from sparse_circuits.formats.activation_cache import write_activations


def test_without_datasets_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match=r"pip install 'sparse-circuits\[hub\]'"):
        write_activations(randomised(small()), some_tokens(small()), ["0.attn.q"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_batches_make_no_difference(tmp_path: Path) -> None:
    model, tokens = randomised(small(), dtype=torch.float32), some_tokens(small(), rows=5)
    names = ["0.attn.q", "blocks.0.attn.hook_q", "final_resid"]
    caches = [write_activations(model, tokens, names, tmp_path / str(batch), batch=batch) for batch in (2, 5)]
    for cache in caches:
        assert len(cache) == 5
        assert cache.with_format("numpy")[3]["0.attn.q"].shape == (7, 12)
    assert caches[0][:] == caches[1][:]
    assert caches[0]["0.attn.q"][2] == caches[0]["blocks.0.attn.hook_q"][2]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "5"], "nothing is left behind"


def test_refusals(tmp_path: Path) -> None:
    model, tokens = randomised(small()), some_tokens(small())
    with pytest.raises(InputError, match=r"did you mean '0\.attn\.q'"):
        write_activations(model, tokens, ["0.attn.qq"], tmp_path / "out")
    with pytest.raises(InputError, match="there are no sites"):
        write_activations(model, tokens, [], tmp_path / "out")
    with pytest.raises(InputError, match="there are no contexts"):
        write_activations(model, tokens[:0], ["0.attn.q"], tmp_path / "out")
    with pytest.raises(InputError, match="batch is 0"):
        write_activations(model, tokens, ["0.attn.q"], tmp_path / "out", batch=0)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(InputError, match="is not empty"):
        write_activations(model, tokens, ["0.attn.q"], tmp_path / "full")
