"""What is stored comes back to the bit, in little room; damaged parts are named."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sparse_circuits.corpus.bigram import bigram_log_probabilities
from sparse_circuits.errors import InputError
from sparse_circuits.storage import Sparse, pack, unpack

HERE = Path("model.safetensors")


def dense(stored: Tensor | Sparse) -> Tensor:
    return stored.dense() if isinstance(stored, Sparse) else stored


def same_bits(left: Tensor, right: Tensor) -> bool:
    return left.shape == right.shape and torch.equal(left.view(torch.int32), right.view(torch.int32))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_tensor_comes_back_to_the_bit(data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=3).map(tuple))
    random = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    tensor = torch.from_numpy(random.normal(size=shape).astype(np.float32))
    if data.draw(st.booleans()):
        tensor = tensor.half().float()
    tensor[torch.from_numpy(random.random(shape) < data.draw(st.sampled_from([0.0, 0.5, 0.9, 1.0])))] = 0.0
    special = torch.tensor([-0.0, torch.inf, -torch.inf, torch.nan, 1e-45, 70000.0])
    if data.draw(st.booleans()):
        places = torch.from_numpy(random.integers(0, tensor.numel(), 3))
        tensor.view(-1)[places] = special[torch.from_numpy(random.integers(0, len(special), 3))]
    packed = pack({"x": tensor, "y": tensor[:1]})
    back = unpack(packed, HERE)
    assert same_bits(dense(back["x"]), tensor)
    assert same_bits(dense(back["y"]), tensor[:1])


def test_gaps_wider_than_sixteen_bits() -> None:
    tensor = torch.zeros(2, 100_000)
    tensor[0, 3], tensor[1, 99_999] = 1.5, -0.0
    packed = pack({"x": tensor})
    assert packed["x:gaps"].tolist() == [3, 199_996]
    assert same_bits(dense(unpack(packed, HERE)["x"]), tensor)


@pytest.fixture(scope="module")
def table() -> Tensor:
    """A smoothed bigram table in half precision, of text in which most transitions never come, and some rows often."""
    random = np.random.default_rng(0)
    tokens = np.minimum(random.zipf(1.3, size=30_000), 512).astype(np.int64) - 1
    return torch.from_numpy(bigram_log_probabilities(tokens, 512)).half().float()


def test_a_bigram_table_takes_less_room_and_comes_back_to_the_bit(table: Tensor) -> None:
    packed = pack({"bigram_table": table})
    assert {name.partition(":")[2] for name in packed} == {"row", "column", "values", "gaps", "shape"}
    room = sum(tensor.numel() * tensor.element_size() for tensor in packed.values())
    assert room < 0.4 * 2 * table.numel()
    assert same_bits(dense(unpack(packed, HERE)["bigram_table"]), table)


def test_an_unrounded_or_random_matrix_has_no_background(table: Tensor) -> None:
    assert set(pack({"x": table + 1e-3})) == {"x"}
    assert set(pack({"x": torch.randn(300, 300).half().float()})) == {"x"}
    poisoned = table.clone()
    poisoned[3, 4] = torch.inf
    assert same_bits(dense(unpack(pack({"x": poisoned}), HERE)["x"]), poisoned)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x:row": torch.zeros(511)}, r"511,\) numbers of rows and \(512,\) of columns"),
        ({"x:row": torch.zeros(512, 1)}, "numbers of rows"),
        ({"x:column": None}, "damaged"),
        ({"x:column": torch.zeros(512, dtype=torch.float64)}, "x:column is stored as torch.float64"),
        ({"x:gaps": torch.tensor([2**62] * 3), "x:values": torch.ones(3)}, "exceed its shape"),
        ({"x:gaps": torch.tensor([1, -1]), "x:values": torch.ones(2)}, "do not rise"),
        ({"x:gaps": torch.tensor([512 * 512]), "x:values": torch.ones(1)}, "exceed its shape"),
        ({"x:gaps": torch.tensor([1.0]), "x:values": torch.ones(1)}, "no whole numbers"),
        ({"x:shape": torch.tensor([512, 513])}, "numbers of rows"),
        ({"x:shape": torch.tensor([2**40, 2**40])}, "shape"),
        ({"x:row": None}, "'x:row' is missing"),
        ({"x:row": torch.zeros(1 << 16), "x:column": torch.zeros(1 << 16)}, "numbers of rows"),
        (
            {"x:row": torch.zeros(1 << 14), "x:column": torch.zeros(1 << 14), "x:shape": torch.tensor([1 << 14] * 2)},
            "more entries than",
        ),
        ({"x:values": None}, "'x:values' is missing"),
    ],
)
def test_damaged_parts_are_named(table: Tensor, changes: dict[str, Tensor | None], message: str) -> None:
    damaged = {name: tensor for name, tensor in (pack({"x": table}) | changes).items() if tensor is not None}
    with pytest.raises(InputError, match=message) as refused:
        unpack(damaged, HERE)
    assert str(HERE) in str(refused.value)
