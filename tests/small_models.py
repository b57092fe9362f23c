"""Models small enough for a test, with every weight drawn so that it matters."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparse_circuits import kernels
from sparse_circuits.config import GPTConfig
from sparse_circuits.corpus.build import pack_sources
from sparse_circuits.corpus.config import CorpusConfig
from sparse_circuits.corpus.idioms import program
from sparse_circuits.corpus.packed import PackedCorpus
from sparse_circuits.model import GPT
from sparse_circuits.tokenizer import Tokenizer


def small(**changes: Any) -> GPTConfig:
    return GPTConfig(**{"vocab_size": 11, "block_size": 8, "n_layer": 2, "d_model": 12, "n_head": 3, **changes})


def randomised(config: GPTConfig, seed: int = 0, dtype: torch.dtype = torch.float64) -> GPT:
    """A model whose every weight, bias, gain, sink and table matters."""
    model = GPT(config).to(dtype)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name != "wpe.weight" or config.positions != "sinusoidal_concat":
                noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
                tensor.copy_(0.5 * noise + (1 if "ln_" in name and name.endswith("weight") else 0))
    return model


def some_tokens(config: GPTConfig, rows: int = 3, length: int = 7, seed: int = 1) -> Tensor:
    return torch.randint(config.vocab_size, (rows, length), generator=torch.Generator().manual_seed(seed))


@contextmanager
def plainly() -> Iterator[None]:
    """The plain kernels, which need no compiling, on one thread: small models only wait for each other's threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with kernels.use("reference"):
        yield
    torch.set_num_threads(threads)


def packed_programs(out: Path, tokenizer: Tokenizer, count: int) -> PackedCorpus:
    """So many generated programs, packed in the folder `out`."""

    class Programs:
        name = "programs"
        left_out: dict[str, int] = {}  # noqa: RUF012

        def documents(self) -> Iterator[str]:
            return (program(0, index) for index in range(count))

    pack_sources(CorpusConfig(out=out, validation_fraction=0.3), [Programs()], tokenizer)
    return PackedCorpus.load(out)
