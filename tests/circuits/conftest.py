"""Models small enough to know by heart: random ones, empty ones to write weights into, and one that copies quotes."""

from collections.abc import Callable, Iterator

import pytest
import torch
from small_models import packed_programs, plainly

from sparse_circuits import kernels
from sparse_circuits.circuits.means import Means, node_means
from sparse_circuits.config import GPTConfig
from sparse_circuits.corpus.packed import PackedCorpus
from sparse_circuits.model import GPT
from sparse_circuits.tasks import Task, Template
from sparse_circuits.tokenizer import Tokenizer

ModelMaker = Callable[..., GPT]


@pytest.fixture(autouse=True)
def plain_kernels() -> Iterator[None]:
    """What is specified here must not depend on which kernel computes; the plain one needs no compiling.

    On one thread: models this small only wait for each other's threads on a busy machine.
    """
    with plainly():
        yield


@pytest.fixture
def compiled_kernels(plain_kernels: None) -> Iterator[None]:
    """The compiled kernels after all."""
    with kernels.use("auto"):
        yield


@pytest.fixture(scope="session")
def letters() -> Tokenizer:
    """The tokenizer without merges: every byte is a token, and end of text is token 256."""
    return Tokenizer.train([], 257)


@pytest.fixture(scope="session")
def random_model(letters: Tokenizer) -> ModelMaker:
    """Makes models of random weights large enough that every node matters."""

    def make(seed: int = 0, **settings: object) -> GPT:
        shape = {"vocab_size": 257, "block_size": 24, "n_layer": 2, "d_model": 16, "n_head": 4, "d_mlp": 24}
        model = GPT(GPTConfig(**(shape | settings)), seed=seed)  # type: ignore[arg-type]
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim == 2:
                    parameter.normal_(0, 0.4, generator=generator)
                else:
                    parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.2)
        model.tokenizer = letters
        return model.eval()

    return make


@pytest.fixture(scope="session")
def empty_model(letters: Tokenizer) -> ModelMaker:
    """Makes models whose matrices and biases are all zero, for weights written by hand."""

    def make(**settings: object) -> GPT:
        shape = {"vocab_size": 257, "block_size": 32, "n_layer": 1, "d_model": 8, "n_head": 2, "d_head": 2, "d_mlp": 4}
        plain = {"bigram_table": "none", "abs_topk": None, "activation": "relu"}
        model = GPT(GPTConfig(**(shape | plain | settings)))  # type: ignore[arg-type]
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if ".ln_" not in name and not name.startswith("ln_"):
                    parameter.zero_()
        model.tokenizer = letters
        return model.eval()

    return make


@pytest.fixture
def quote_model(empty_model: ModelMaker, letters: Tokenizer) -> GPT:
    """One head that looks for the quote and writes which of the two it was; see `test_prune` for what follows.

    Residual channels: 0 is +1 at a double quote and -1 at a single one, 1 is 1 at either, 2 is 1 at every token, 3
    takes the answer. The rest of the weights are decoys: a head with q and k but no v, a v that reads a channel
    nobody writes, a neuron that never fires.
    """
    model = empty_model(sink=True)
    double, single = letters.encode("\"'")
    q, k, v = (4 * part for part in range(3))
    block = model.blocks[0]
    with torch.no_grad():
        model.wte.weight[:, 2] = 1
        model.wte.weight[[double, single], 1] = 1
        model.wte.weight[double, 0], model.wte.weight[single, 0] = 1, -1
        block.attn.c_attn.weight[q + 0, 2] = 1
        block.attn.c_attn.weight[k + 0, 1] = 3
        block.attn.c_attn.weight[v + 0, 0] = 1
        block.attn.c_proj.weight[3, 0] = 1
        model.lm_head.weight[double, 3], model.lm_head.weight[single, 3] = 1, -1
        block.attn.c_attn.weight[q + 2, 2] = block.attn.c_attn.weight[k + 2, 1] = 1
        block.attn.c_attn.weight[v + 1, 7] = block.attn.c_proj.weight[3, 1] = 1
        block.mlp.c_fc.weight[0, 2] = -1
        block.mlp.c_proj.weight[3, 0] = 1
    return model


WORDS = {
    "prune": "ox elk lynx hyena badger",
    "calibrate": "ant crow eagle falcon",
    "report": "bee wolf otter rabbit",
    "ood": "hippopotamus rhinoceros chameleon wildebeest",
}


@pytest.fixture(scope="session")
def quote_task() -> Task:
    """Close the quote that is open."""
    return Task(
        name="quotes",
        description="Close the quote that is open.",
        templates={s: (Template(f"{s}/0", f'{s[0]}("$word', f"{s[0]}('$word", '"', "'"),) for s in WORDS},
        words={split: {"word": tuple(words.split())} for split, words in WORDS.items()},
    )


@pytest.fixture
def quote_means(quote_model: GPT, letters: Tokenizer) -> Means:
    """Over as many double as single quotes, one in five tokens each time."""
    return node_means(quote_model, torch.tensor([letters.encode(text) for text in ('a("bc', "a('bc")]))


@pytest.fixture(scope="session")
def letter_corpus(tmp_path_factory: pytest.TempPathFactory, letters: Tokenizer) -> PackedCorpus:
    """Generated programs, a token a byte."""
    return packed_programs(tmp_path_factory.mktemp("corpora") / "letters", letters, 40)
