"""Memory is measured in processes of their own."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from small_models import randomised, small

from sparse_circuits import checkpoint
from sparse_circuits.bench import memory
from sparse_circuits.bench.plan import Plan


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A stored model that reads what the benchmark lets it read."""
    checkpoint.save(randomised(small(vocab_size=200, block_size=256), dtype=torch.float32), tmp_path / "model")
    return tmp_path / "model"


def test_the_peak_of_a_process_holds_what_it_once_held() -> None:
    program = (
        "from sparse_circuits.bench.memory import peak; before = peak(); held = bytearray(b'x' * 10**8); del held;"
        "print(before, peak())"
    )
    before, after = map(int, subprocess.run([sys.executable, "-c", program], capture_output=True).stdout.split())
    assert 10**6 < before < 10**8 < after < 3 * 10**8


@pytest.mark.parametrize("side", memory.SIDES)
def test_every_side_writes(side: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "ADDED", 2)
    dtype = torch.get_default_dtype()
    try:
        memory.generate(side, folder)
        assert (torch.get_default_dtype() == torch.bfloat16) == (side == "bf16")
    finally:
        torch.set_default_dtype(dtype)


def test_rows_compare_with_both_precisions(monkeypatch: pytest.MonkeyPatch) -> None:
    stored: list[Path] = []

    def measured(folder: Path) -> dict[str, int]:
        stored.extend(folder.iterdir())
        return {"ours": 100, "fp32": 600, "bf16": 300}

    monkeypatch.setattr(memory, "measured", measured)
    rows = memory.memory_rows(Plan(quick=True, talk=False))
    assert {"config.json", "model.safetensors"} <= {path.name for path in stored}
    assert [(row.against, row.ratio, row.target) for row in rows] == [
        ("dense, fp32", 6.0, None),
        ("dense, bf16", 3.0, None),
    ]
