"""Point 3: the model without the circuit, against the model without random node sets of the same size per site.

Most nodes of a sparse model are silent on most prompts, and removing silent ones proves nothing. So random sets are
drawn, outside the circuit, among the nodes that vary over the prompts; where a site has too few of them, silent ones
fill up, and the circuit's own only where there are no others.
"""

import torch
from jaxtyping import Bool
from torch import Tensor

from sparse_circuits.circuits.report.internals import varying
from sparse_circuits.circuits.report.rows import Row
from sparse_circuits.circuits.report.subject import Subject
from sparse_circuits.circuits.report.thresholds import ABOVE_RANDOM, CHANCE, NECESSARY


def rows(subject: Subject) -> list[Row]:
    """One row for what is lost without the circuit, one for random sets beside it."""
    pairs = subject.losses(subject.logits("report", "complement"))
    value, (low, high) = float(pairs.mean()), subject.interval(pairs)
    model = subject.loss("model")
    room = CHANCE - model
    sets = random_sets(subject, "necessity")
    draws = [subject.losses(subject.measure(~each)) for each in sets]
    means = torch.stack([each.mean() for each in draws])
    lost = (value - model) / room if room > 0 else 0.0
    interval = ((low - model) / room, (high - model) / room) if room > 0 else (0.0, 0.0)
    first = Row(
        3,
        "necessity",
        "loss without the circuit",
        f"Without the circuit's nodes, all others alive, the model's loss goes from {model:.3f} to {value:.3f} nats"
        f"{'' if lost >= NECESSARY.bad else ': the model does the task without this circuit'}.",
        "fails" if room <= 0 else NECESSARY.judge(lost, interval),
        value,
        (low, high),
        "nats",
        decisive=True,
        data={"model": model, "random": means.tolist(), "chance": CHANCE},
    )
    hurt_less = int((means < value).sum())
    above = hurt_less / len(sets)
    by_draw = torch.stack([subject.weights("report") @ each for each in [*draws, pairs]])
    shares = (by_draw[:-1] < by_draw[-1]).double().mean(0)
    low_share, high_share = (float(shares.quantile(q)) for q in (0.025, 0.975))
    second = Row(
        3,
        "necessity_random",
        "against random sets",
        f"Without one of {len(sets)} random sets of other nodes, as many per site, that vary on these prompts, the "
        f"loss is {float(means.mean()):.3f} nats on average and {float(means.max()):.3f} at most; removing the circuit "
        f"hurts more than {'all' if hurt_less == len(sets) else hurt_less or 'none'} of them.",
        ABOVE_RANDOM.judge(above, (low_share, high_share)),
        above,
        (low_share, high_share),
        "share",
        decisive=True,
    )
    return [first, second]


def random_sets(subject: Subject, use: str) -> list[Bool[Tensor, "nodes"]]:
    """Random node sets with as many nodes at each site as the circuit has."""
    generator = subject.generator(use)
    # Which come first: varying ones outside the circuit, silent ones outside, the circuit's own.
    rank = torch.where(subject.kept, 2.0, torch.where(varying(subject), 0.0, 1.0))
    return [_random_set(subject, rank, generator) for _ in range(subject.budget.random_sets)]


def _random_set(subject: Subject, rank: Tensor, generator: torch.Generator) -> Tensor:
    chosen = torch.zeros_like(subject.kept)
    order = rank + torch.rand(len(rank), generator=generator)
    for part in subject.space.slices.values():
        count = int(subject.kept[part].sum())
        chosen[part.start + order[part].argsort()[:count]] = True
    return chosen
