"""The nodes of the quote model that are known to be right, and settings that find them."""

from sparse_circuits.circuits.config import PruneConfig
from sparse_circuits.config import LoopConfig

CONFIG = PruneConfig(
    target_loss=0.1,
    price=0.1,
    temperature=0.5,
    batch_pairs=5,
    eval_pairs=4,
    mean_tokens=2000,
    loop=LoopConfig(steps=15, learning_rate=0.05, epsilon=1e-8, gradient="clip"),
)
NODES = {"0.attn.act_in": (0, 1), "0.attn.k": (0,), "0.attn.v": (0,), "0.attn.resid_delta": (3,)}
