"""The GPU kernels as this machine can run them, on its GPU or else in Triton's interpreter; and odd matrices."""

import os
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor

from sparse_circuits.kernels import gpu

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# Triton looks here when its modules are imported, some of them late: it stays set.
os.environ["TRITON_INTERPRET"] = "0" if DEVICE == "cuda" else "1"
pytest.importorskip("triton")
assert gpu._interpreted() == (DEVICE == "cpu"), "something has imported Triton before its interpreter was asked for"


def patch_once() -> None:
    """Let the interpreter replace Triton's functions once, not for each call of a function: half of its time."""
    from triton.runtime import interpreter

    patch, patched = interpreter._patch_lang, set()

    def once(function: Any) -> Any:
        modules = id(function.__globals__)
        if modules not in patched:
            patched.add(modules)
            patch(function)
        return SimpleNamespace(restore=lambda: None)

    interpreter._patch_lang = once


if DEVICE == "cpu":
    patch_once()

DTYPES = tuple(gpu.FORMATS)
UNITS = {torch.bool: torch.uint8, torch.float32: torch.int32, torch.bfloat16: torch.int16, torch.float16: torch.int16}


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces so small that a small matrix has many: tiles and programs, pieces of a row, parts of a strip."""
    monkeypatch.setattr(gpu, "TILE", 64)
    monkeypatch.setattr(gpu, "SHARES", 3)
    monkeypatch.setattr(gpu, "_multiprocessors", lambda device: 1)
    for name in ("LONGEST_ROW", "PIECE", "LARGEST_STRIP"):
        monkeypatch.setattr(gpu, name, 32)


def assert_same_bits(left: Tensor, right: Tensor) -> None:
    """Equal to the last bit: torch.equal would take -0.0 for 0.0 and find no NaN equal."""
    assert left.dtype == right.dtype
    assert left.shape == right.shape
    unit = UNITS[left.dtype]
    assert torch.equal(left.contiguous().view(unit), right.contiguous().view(unit))


@st.composite
def matrices(draw: st.DrawFn, rows: int, columns: int) -> Tensor:
    """Any bits at all (NaN of every kind, infinities, subnormals, both zeros), often few different ones (ties)."""
    dtype = draw(st.sampled_from(DTYPES))
    unit = np.dtype(np.int32 if dtype == torch.float32 else np.int16)
    shape = draw(st.integers(1, rows)), draw(st.integers(1, columns))
    size = shape[0] * shape[1]
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = np.frombuffer(random.bytes(size * unit.itemsize), unit)
    if draw(st.booleans()):
        special = torch.tensor([0.0, -0.0, 1.0, -1.0, float("inf"), float("-inf"), float("nan")], dtype=dtype)
        special_bits = special.view(UNITS[dtype]).numpy()
        # Not a number, with another payload and the other sign.
        others = special_bits[4:6] + np.array([1, 3], unit)
        choices = np.concatenate([values[:4], special_bits, others])
        values = random.choice(random.permutation(choices)[: draw(st.integers(1, len(choices)))], size)
    return torch.from_numpy(values.copy()).view(dtype).view(shape).to(DEVICE)
