"""Circuit files as they were released, small and random, and the published viewer's way through one."""

from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st
from small_models import randomised, small
from torch import Tensor

from sparse_circuits.formats.openai_config import to_released
from sparse_circuits.formats.viz_data import FRACTIONS
from sparse_circuits.model import GPT
from sparse_circuits.sites import FINAL_SITE, node_sites
from sparse_circuits.tokenizer import Tokenizer


def released(model: GPT, described: dict[str, Any], kept: int = 2, seed: int = 0, pairs: int = 3) -> dict[str, Any]:
    """The content of a released file with `kept` channels of every site of `model`."""
    generator = torch.Generator().manual_seed(seed)
    widths = {**node_sites(model.config), FINAL_SITE: model.config.d_model}
    circuit = {site: torch.randperm(width, generator=generator)[:kept].sort().values for site, width in widths.items()}
    length, rows = model.config.block_size, 2 * pairs
    # Printable characters but for token 0: with that at its end a prompt would seem shorter.
    tokens = torch.randint(1, min(94, model.config.vocab_size), (rows, length), generator=generator)
    for row in range(rows):
        tokens[row, length - row % 3 :] = 0

    def numbers(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator)

    def piece() -> tuple[Tensor, Tensor, int]:
        text = torch.randint(0, model.config.vocab_size, (length,), generator=generator)
        return text, numbers(length), int(torch.randint(length, (), generator=generator))

    def blocks() -> list[list[Any]]:
        found = []
        for layer in range(model.config.n_layer):
            ways = [(f"{layer}.attn.act_in", f"{layer}.attn.{name}") for name in "qkv"]
            ways += [(f"{layer}.attn.v", f"{layer}.attn.resid_delta"), (f"{layer}.mlp.act_in", f"{layer}.mlp.post_act")]
            ways += [(f"{layer}.mlp.post_act", f"{layer}.mlp.resid_delta")]
            for source, target in ways:
                sources: list[Any] = circuit[source].tolist()
                if source.endswith("post_act"):
                    sources.append("bias")
                targets = circuit[target].tolist()
                found.append([numbers(len(sources), len(targets)), sources, targets, (source, target)])
        return found

    activations = {site: {int(c): numbers(rows, length) for c in channels} for site, channels in circuit.items()}
    sublayers = [f"{layer}.{name}" for layer in range(model.config.n_layer) for name in ("attn", "mlp")]
    return {
        "circuit_data": circuit,
        "num_total_nodes": sum(widths.values()),
        "all_loss": [(step, float(numbers())) for step in range(3)],
        "prune_config": {"k_coef": 1e-3, "name": "prune_v2", "lrs": [0.1, None]},
        "samples": {
            site: {int(c): {f: ([piece() for _ in range(2)], [piece()]) for f in FRACTIONS} for c in channels}
            for site, channels in circuit.items()
        },
        "importances": {
            "beeg_model_config": described,
            "loss": float(numbers()),
            "interv_loss": float(numbers()),
            "ch_interv_losses": {site: numbers(len(channels)).tolist() for site, channels in circuit.items()},
            "layer_interv_losses": {name: float(numbers()) for name in sublayers},
            "loc_interv_losses": {site: float(numbers()) for site in circuit},
            "pair_data": blocks(),
            "pair_data_connections": blocks(),
            "task_samples": (tokens, activations),
            "task_samples_circuit": (tokens, activations),
        },
    }


def assert_same(one: Any, other: Any, where: str = "") -> None:
    """Equal to the bit, whatever is nested in whatever; a list is as good as a tuple."""
    if isinstance(one, Tensor):
        assert isinstance(other, Tensor), where
        assert torch.equal(one, other), where
    elif isinstance(one, dict):
        assert list(one) == list(other), where
        for key in one:
            assert_same(one[key], other[key], f"{where}/{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for number, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_same(a, b, f"{where}/{number}")
    else:
        assert one == other, where


def walk_as_the_viewer(content: dict[str, Any]) -> int:
    """Look up and compute what the published viewer does for every sublayer and node; how many nodes it draws."""
    importances, kept = content["importances"], content["circuit_data"]
    config = importances["beeg_model_config"]
    d_head, layers = config["d_head"], config["n_layer"]
    rows = {site: [loss / 2 for loss in losses] for site, losses in importances["ch_interv_losses"].items()}
    sublayers = [f"{layer}.{name}" for layer in range(layers) for name in ("attn", "mlp")]
    assert all(isinstance(importances["layer_interv_losses"][name], float) for name in sublayers)
    assert sum(each.numel() for each in kept.values()) >= 0
    blocks = importances["pair_data"]
    assert isinstance(blocks[0][0], Tensor)
    assert max([block[0].abs().max() if block[0].numel() else 0.0 for block in blocks]) >= 0
    names: dict[str, list[Any]] = {}
    for matrix, sources, targets, (source, target) in blocks:
        assert matrix.ndim == 2
        assert matrix.shape == (len(sources), len(targets))
        torch.where(matrix.abs() > 0.5, matrix, 0.0)
        for site, ids in ((source, sources), (target, targets)):
            names[site] = max(names.get(site, []), ids, key=len)
    drawn = 0
    for name in sublayers:
        parts = (
            ("act_in", "q", "k", "v", "resid_delta") if name.endswith("attn") else ("act_in", "post_act", "resid_delta")
        )
        # The viewer takes the rows of a sublayer in the order in which the file has them.
        assert [site for site in rows if site.startswith(name)] == [f"{name}.{part}" for part in parts]
        for part in parts:
            site = f"{name}.{part}"
            channels = [each for each in names[site] if each != "bias"]
            assert len(channels) == len(rows[site]) == len(kept[site])
            for channel in kept[site].tolist():
                assert channel // d_head >= 0
                docs = content["samples"][site][channel]
                shown = [each[1] for f in FRACTIONS for side in (0, 1) for each in docs[f][side][:5]]
                torch.stack(shown)
                for f in FRACTIONS:
                    for side in (0, 1):
                        for tokens, values, position in docs[f][side][:5]:
                            part_of = slice(max(0, position - 50), position + 50)
                            assert len(tokens.int()[part_of]) == len(values[part_of]) > 0
                tokens, activations = importances["task_samples"]
                assert len(tokens) % 2 == 0
                for row, values in zip(tokens, activations[site][channel], strict=True):
                    ends = [at for at in range(len(row)) if bool((row[at:] == 0).all())]
                    assert values[: min([*ends, len(row)])].numel()
                drawn += 1
    steps, losses = zip(*content["all_loss"], strict=True)
    assert all((step + 1) * 8 > 0 for step in steps)
    assert losses[-1] >= 0
    return drawn


SEEDS = st.integers(0, 10**6)

LETTERS = Tokenizer.train([], 257)


def made(seed: int = 0, **changes: Any) -> GPT:
    model = randomised(small(vocab_size=257, block_size=12, **changes), seed, torch.float32)
    model.tokenizer = LETTERS
    with torch.no_grad():
        model.final_logits_bias[94:] = -1e4  # printable answers only, which are tokens of their own
    return model


def content_of(model: GPT, **changes: Any) -> dict[str, Any]:
    return released(model, to_released(model.config), **changes)


def written(content: Any, folder: Path) -> Path:
    path = folder / "viz_data.pt"
    torch.save(content, path)
    return path
