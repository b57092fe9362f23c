"""What else steering does: to other tasks, and to plain text.

1. Other tasks, the same edit: the nodes' differences between the two prompts of *their* pairs, along the same
   directions. Nodes that say nothing of another task do not differ there, and nothing happens.
2. A push on plain text, where there is no other side: the nodes are moved everywhere by what they differ by in the
   steered task, at the token of each prompt where that is most, averaged over the prompts of one side. Both ways in
   turn, since the sides are moved apart in opposite ways. Beside it, random directions of equal norm.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sparse_circuits.bridges.bridge import Bridge
from sparse_circuits.bridges.check import POSITIONS_PER_BATCH, token_losses
from sparse_circuits.bridges.curves import node_deltas, pair_examples
from sparse_circuits.bridges.passes import Teacher
from sparse_circuits.bridges.steering import Edits, Nodes, add_to_stream, read_channels
from sparse_circuits.circuits.intervals import Measured, mean_interval
from sparse_circuits.circuits.logits import last_logits
from sparse_circuits.corpus.packed import PackedCorpus
from sparse_circuits.errors import InputError
from sparse_circuits.progress import Bar
from sparse_circuits.sites import Tap
from sparse_circuits.tasks import TASKS, Examples, Task, task_losses

Pushes = dict[str, Float[Tensor, "D"]]


@dataclass(frozen=True)
class OtherTask:
    """One task under the edit: losses of the dense model in nats."""

    task: str
    before: float | None
    after: float | None
    moved: Measured | None
    """How much the loss of each pair rises, on average."""
    skipped: str = ""
    """Why the task could not be put to the model."""


@dataclass(frozen=True)
class OnText:
    """Plain text under a push at every position, in nats per token."""

    push: str
    divergence: Measured
    """KL(model || pushed model), mean over tokens."""
    loss: Measured
    """Rise of the loss."""


@dataclass(frozen=True)
class SideEffects:
    """All that was found, at one strength."""

    strength: float
    tasks: list[OtherTask]
    text: list[OnText]
    text_tokens: int


def side_effects(
    bridge: Bridge,
    task: Task,
    nodes: Nodes,
    strength: float = 1.0,
    others: Iterable[Task] | None = None,
    corpus: PackedCorpus | None = None,
    pairs: int = 64,
    max_tokens: int = 16_384,
    seed: int = 0,
    progress: bool = False,
) -> SideEffects:
    """What steering by `nodes`, as for `task`, does to `others` (all registered tasks by default) and to text.

    Args:
        corpus: plain text, packed with the models' tokenizer; without it no text is measured.
        max_tokens: validation tokens of it.
        seed: of the random directions.
    """
    chosen = read_channels(bridge, nodes)
    tasks = [one for one in (TASKS.values() if others is None else others) if one.name != task.name]
    rows = []
    with Bar("tasks", len(tasks), progress) as bar:
        for number, other in enumerate(tasks):
            try:
                rows.append(_other_task(bridge, other, chosen, strength, pairs))
            except InputError as error:  # the tokenizer lacks a completion, say
                rows.append(OtherTask(other.name, None, None, None, str(error)))
            bar.update(number + 1, other.name)
    if corpus is None:
        return SideEffects(strength, rows, [], 0)
    pushes = typical_pushes(bridge, pair_examples(bridge, task, "prune", pairs), chosen)
    generator = torch.Generator().manual_seed(seed)
    alike = {site: _alike(vector, generator) for site, vector in pushes["towards B"].items()}
    pushes["random direction"] = alike
    windows = torch.from_numpy(corpus.validation_windows(bridge.sparse.config.block_size, max_tokens))
    text = _on_text(bridge, windows, pushes, strength, progress)
    return SideEffects(strength, rows, text, windows.shape[0] * (windows.shape[1] - 1))


def typical_pushes(bridge: Bridge, examples: Examples, nodes: Sequence[tuple[str, int]]) -> dict[str, Pushes]:
    """The mean edit of A's prompts ("towards B") and of B's, each at the token where it is largest, by site."""
    pushes: dict[str, Pushes] = {"towards B": {}, "towards A": {}}
    for site, delta in node_deltas(bridge, examples, nodes).items():
        most = delta.norm(dim=2).argmax(1)
        largest = delta[torch.arange(len(delta), device=delta.device), most]
        pushes["towards B"][site], pushes["towards A"][site] = (half.mean(0) for half in largest.chunk(2))
    return pushes


def push_tap(pushes: Pushes, strength: float) -> Tap:
    """The tap that adds a push at every position."""

    def push(site: str, x: Tensor) -> Tensor:
        vector = pushes.get(site)
        return x if vector is None else add_to_stream(x, (strength * vector).expand(*x.shape[:-1], -1))

    return push


def _other_task(bridge: Bridge, task: Task, nodes: Sequence[tuple[str, int]], strength: float, pairs: int) -> OtherTask:
    examples = pair_examples(bridge, task, "report", pairs)
    tap = Edits(node_deltas(bridge, examples, nodes), strength)
    before, after = (task_losses(last_logits(bridge.dense, examples, each), examples) for each in (None, tap))
    moved = (after - before).unflatten(0, (2, -1)).mean(0)
    return OtherTask(task.name, float(before.mean()), float(after.mean()), mean_interval(moved))


@torch.no_grad()
def _on_text(
    bridge: Bridge, windows: Tensor, pushes: dict[str, Pushes], strength: float, progress: bool
) -> list[OnText]:
    device = next(bridge.maps.parameters()).device
    divergences: dict[str, list[Tensor]] = {name: [] for name in pushes}
    rises: dict[str, list[Tensor]] = {name: [] for name in pushes}
    batches = windows.to(device).split(max(1, POSITIONS_PER_BATCH // windows.shape[1]))
    with Bar("text", len(batches), progress) as bar:
        for number, batch in enumerate(batches):
            tokens, targets = batch[:, :-1], batch[:, 1:]
            plain = bridge.dense(tokens)
            losses = token_losses(plain, targets).mean(1)
            for name, push in pushes.items():
                pushed = bridge.dense(tokens, tap=push_tap(push, strength))
                each = [Teacher(a).divergence(b) for a, b in zip(plain.split(1), pushed.split(1), strict=True)]
                divergences[name].append(torch.stack(each).cpu())
                rises[name].append((token_losses(pushed, targets).mean(1) - losses).cpu())
            bar.update(number + 1)
    return [
        OnText(name, mean_interval(torch.cat(divergences[name])), mean_interval(torch.cat(rises[name])))
        for name in pushes
    ]


def _alike(vector: Tensor, generator: torch.Generator) -> Tensor:
    drawn = torch.randn(vector.shape, generator=generator).to(vector)
    return drawn / drawn.norm() * vector.norm()
