"""Places shown of a node lie in the part of all positions that they are said to."""

from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.viewer.texts import PARTS, PLACES, _seen, text_for

WIDTH = 16


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 20), st.floats(0, 0.9))
def test_samples_lie_in_their_part(seed: int, windows: int, zeros: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(windows * WIDTH, generator=generator)
    values[torch.rand(len(values), generator=generator) < zeros] = 0
    seen = _seen(values, WIDTH, {}, torch.Generator().manual_seed(0))
    assert seen["positions"] == len(values)
    assert sum(seen["counts"]) == int((values != 0).sum())
    assert len(seen["samples"]) == 2 * len(PARTS)
    for each in seen["samples"]:
        inside = max(1, int(each["part"] * len(values)))
        order = values.sort(descending=each["end"] == "top").values
        assert 1 <= len(each["places"]) <= PLACES
        for _, start, at, shown in each["places"]:
            value = shown[at - start]
            bound = float(order[inside - 1])
            assert value >= bound - 1e-5 if each["end"] == "top" else value <= bound + 1e-5
            assert 0 <= start <= at < start + len(shown) <= WIDTH


def test_what_is_shown_is_what_the_model_computes(made: dict[str, Any], circuit: Circuit) -> None:
    found = made["circuits"][0]
    for node in found["nodes"][:3]:
        window, start, _, shown = node["seen"]["samples"][0]["places"][0]
        tokens = torch.tensor([found["texts"][window]])
        values = circuit.full.run(tokens, record=node["site"]).sites[node["site"]][0, :, node["channel"]]
        assert torch.allclose(torch.tensor(shown).float(), values[start : start + len(shown)], rtol=1e-4, atol=1e-5)


def test_without_its_corpus_a_model_is_watched_on_text_of_its_kind(circuit: Circuit) -> None:
    text = text_for(circuit.model, None, 480)
    assert text.windows.shape == (20, 24)
    assert text.source == "generated programs and the Python standard library"
    assert torch.equal(text.windows, text_for(circuit.model, None, 480).windows)
