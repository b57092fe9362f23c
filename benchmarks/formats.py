"""The sparse model folder beside the released checkpoint: size and loading time of a model of csp_yolo2's shape.

python benchmarks/formats.py [--layers 8] [--repeat 3]

Weights are random, 1 in 1024 of every matrix nonzero, so no file of it has any structure to gain from but its zeros.
On one thread, the best of the repeats, from the page cache and (Linux) with the file dropped from it before each:
- of the released file: its tensors alone, by PyTorch (weights only; mapped into memory, which reads nothing yet); a
  model as the published code makes one, built with its initial weights and then filled; ours, every tensor checked;
- of the sparse file: ours, into sparse matrices and into dense ones.
"""

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from sparse_circuits.process import tune

tune()

import torch

from sparse_circuits import checkpoint
from sparse_circuits.config import GPTConfig
from sparse_circuits.formats import openai
from sparse_circuits.formats.openai_weights import released_name
from sparse_circuits.model import GPT

DENSITY = 1 / 1024


def shape(layers: int) -> GPTConfig:
    """That of csp_yolo2, with so many layers."""
    return GPTConfig(
        vocab_size=2048,
        block_size=256,
        n_layer=layers,
        d_model=2048,
        n_head=128,
        d_head=16,
        positions="learned_concat",
        d_position=32,
    )


@torch.no_grad()
def sparse_model(layers: int) -> GPT:
    """Random weights, `DENSITY` of each matrix nonzero; the bigram table is dense."""
    model = GPT(shape(layers))
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2 and name != "bigram_table":
            kept = max(1, round(DENSITY * parameter.numel()))
            values = torch.randn(kept, generator=generator)
            places = torch.randint(parameter.numel(), (kept,), generator=generator)
            parameter.zero_().view(-1)[places] = values
    return model


def as_published(file: Path, layers: int) -> GPT:
    """A model built, initial weights and all, and then filled with the released tensors."""
    model = GPT(shape(layers))
    state = torch.load(file, weights_only=True)
    model.load_state_dict({name: state[released_name(name)] for name in model.state_dict()})
    return model


def best(repeat: int, work: Callable[[], object], drop: Path | None = None) -> float:
    """Seconds of the quickest of `repeat` runs, before each of which the file `drop` leaves the page cache."""
    times = []
    for _ in range(repeat):
        if drop is not None:
            with open(drop, "rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        released, native = Path(folder) / "released", Path(folder) / "native"
        model = sparse_model(arguments.layers)
        parameters = sum(tensor.numel() for tensor in model.parameters())
        table = 4 * model.config.vocab_size**2
        openai.write(model, released)
        checkpoint.save(model, native)
        del model
        file = released / "final_model.pt"
        sizes = [each.stat().st_size for each in (file, native / "model.safetensors")]
        print(f"{parameters:,} parameters, {platform.machine()}, torch {torch.__version__}")
        for name, size in zip(("final_model.pt", "model.safetensors"), sizes, strict=True):
            print(f"{name:32}{size / 1e6:>10.2f} MB{(size - table) / 1e6:>10.2f} MB without the bigram table")
        print(f"{'ratio':32}{sizes[0] / sizes[1]:>10.1f}   {(sizes[0] - table) / (sizes[1] - table):>10.1f}")
        ours = native / "model.safetensors"
        works: dict[str, tuple[Callable[[], object], Path]] = {
            "torch.load": (lambda: torch.load(file, weights_only=True), file),
            "torch.load, mapped": (lambda: torch.load(file, weights_only=True, mmap=True), file),
            "built, torch.load, filled": (lambda: as_published(file, arguments.layers), file),
            "load, released": (lambda: checkpoint.load(released), file),
            "load, ours, dense matrices": (lambda: checkpoint.load(native), ours),
            "load, ours, sparse matrices": (lambda: checkpoint.load(native, sparse=True), ours),
        }
        print(f"{'seconds':32}{'cached':>10}{'from disk':>12}")
        for name, (work, read) in works.items():
            times = [best(arguments.repeat, work)]
            if hasattr(os, "posix_fadvise"):
                times.append(best(arguments.repeat, work, read))
            print(f"{name:32}" + "".join(f"{each:>{10 + 2 * at}.3f}" for at, each in enumerate(times)))


if __name__ == "__main__":
    main()
