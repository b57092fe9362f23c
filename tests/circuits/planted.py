"""A tiny transformer whose weights are written out, so that its circuit for its task is known to the last edge.

The task: close the quote that is open. The model's way, with its residual channels:

1. Embedding: 0 is +1 at a double quote and -1 at a single one, 1 is 1 at either, 2 is 3 at every token.
2. Head 0 looks for the quote (key 0 reads channel 1) and copies which it was (value 0 reads channel 0) to channel 3.
3. Neuron 0 fires where channel 3 is positive and writes to channel 4, neuron 1 where it is negative and writes to 5.
4. The double quote's logit reads channel 4, the single one's channel 5.

Query 0 reads channel 2 and asks the same at every token, so held at its mean it asks the same: it is not part of the
circuit. Two weights inside the circuit do next to nothing: key 0 also reads channel 0, neuron 0 also writes to channel
5. Around it are decoys: head 1 with q and k but no v, value 1 that reads a channel nobody writes, neuron 2 that never
fires, neuron 3 that fires everywhere and writes where nobody reads.
"""

import torch

from sparse_circuits.circuits.config import PruneConfig
from sparse_circuits.circuits.means import Means, node_means
from sparse_circuits.config import GPTConfig, LoopConfig
from sparse_circuits.model import GPT
from sparse_circuits.tasks import Task, Template
from sparse_circuits.tokenizer import Tokenizer

NODES = {
    "0.attn.act_in": (0, 1),
    "0.attn.k": (0,),
    "0.attn.v": (0,),
    "0.attn.resid_delta": (3,),
    "0.mlp.act_in": (3,),
    "0.mlp.post_act": (0, 1),
    "0.mlp.resid_delta": (4, 5),
}
EDGES = {
    (("0.attn.act_in", 1), ("0.attn.k", 0)),
    (("0.attn.act_in", 0), ("0.attn.v", 0)),
    (("0.attn.v", 0), ("0.attn.resid_delta", 3)),
    (("0.mlp.act_in", 3), ("0.mlp.post_act", 0)),
    (("0.mlp.act_in", 3), ("0.mlp.post_act", 1)),
    (("0.mlp.post_act", 0), ("0.mlp.resid_delta", 4)),
    (("0.mlp.post_act", 1), ("0.mlp.resid_delta", 5)),
}
SUPERFLUOUS = {
    (("0.attn.act_in", 0), ("0.attn.k", 0)),
    (("0.mlp.post_act", 0), ("0.mlp.resid_delta", 5)),
}
"""Weights between those nodes that the task does not miss."""

WORDS = {
    "prune": "ox elk lynx hyena badger",
    "calibrate": "ant crow eagle falcon",
    "report": "bee wolf otter rabbit",
    "ood": "hippopotamus rhinoceros chameleon wildebeest",
}

CONFIG = PruneConfig(
    target_loss=0.1,
    price=0.1,
    k_rate=0.0,
    temperature=0.5,
    batch_pairs=5,
    eval_pairs=4,
    loop=LoopConfig(steps=15, learning_rate=0.05, epsilon=1e-8, gradient="clip"),
)
"""Settings for so small a model."""


def model() -> GPT:
    """The model, with the tokenizer that has a token for every byte (and end of text as 256)."""
    tokenizer = Tokenizer.train([], 257)
    config = GPTConfig(
        vocab_size=257,
        block_size=32,
        n_layer=1,
        d_model=8,
        n_head=2,
        d_head=2,
        d_mlp=4,
        sink=True,
        bigram_table="none",
        abs_topk=None,
        activation="relu",
    )
    made = GPT(config)
    double, single = tokenizer.encode("\"'")
    q, k, v = (4 * part for part in range(3))
    block = made.blocks[0]
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if "ln_" not in name:
                parameter.zero_()
        made.wte.weight[:, 2] = 3
        made.wte.weight[[double, single], 1] = 1
        made.wte.weight[double, 0], made.wte.weight[single, 0] = 1, -1
        heads, out = block.attn.c_attn.weight, block.attn.c_proj.weight
        heads[q, 2], heads[k, 1], heads[v, 0], out[3, 0] = 1, 3, 1, 1
        into, back = block.mlp.c_fc.weight, block.mlp.c_proj.weight
        into[0, 3], into[1, 3], back[4, 0], back[5, 1] = 2, -2, 1, 1
        made.lm_head.weight[double, 4], made.lm_head.weight[single, 5] = 3, 3
        # Superfluous weights, then decoys.
        heads[k, 0], back[5, 0] = 0.05, 0.02
        heads[q + 2, 2] = heads[k + 2, 1] = heads[v + 1, 7] = out[3, 1] = 1
        into[2, 2], back[4, 2], into[3, 2], back[6, 3] = -1, 1, 0.5, 0.1
    made.tokenizer = tokenizer
    return made.eval()


def task() -> Task:
    """Close the quote that is open."""
    return Task(
        name="planted quotes",
        description="Close the quote that is open.",
        templates={s: (Template(f"{s}/0", f'{s[0]}("$word', f"{s[0]}('$word", '"', "'"),) for s in WORDS},
        words={split: {"word": tuple(words.split())} for split, words in WORDS.items()},
    )


def means(made: GPT) -> Means:
    """Over as many double as single quotes, one in five tokens each time."""
    assert isinstance(made.tokenizer, Tokenizer)
    return node_means(made, torch.tensor([made.tokenizer.encode(text) for text in ('a("bc', "a('bc")]))
