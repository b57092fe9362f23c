"""Point 2: the same circuit when what was removed is removed otherwise, frozen scales, and with some of it back.

A circuit that is the model's own way to the answer should not depend on what stands in for the rest of the model.
"""

import torch

from sparse_circuits.circuits.ablation import restored, worst_restored
from sparse_circuits.circuits.report.rows import Row
from sparse_circuits.circuits.report.subject import KINDS, Kind, Norm, Subject
from sparse_circuits.circuits.report.thresholds import CHANCE, KEPT_GAIN

RESTORED = (0.1, 0.5)
"""Shares of the removed nodes that come back, at random."""
WORST = 0.01
"""Share of the removed nodes that come back where it hurts most."""
TITLES: dict[Kind, str] = {
    "mean": "held at their means",
    "zero": "held at zero",
    "resample": "given the values of another pair's prompt",
}


def rows(subject: Subject) -> list[Row]:
    """One row for each kind of ablation, one for frozen scales, one for each restoration."""
    kinds: list[Kind] = [kind for kind in KINDS if kind != subject.kind]
    found = [_ablated(subject, kind) for kind in kinds if kind != "resample" or len(subject.examples("report")) > 1]
    found.append(_norm(subject))
    found += [_restored(subject, share) for share in RESTORED]
    return [*found, _worst(subject)]


def _row(subject: Subject, key: str, name: str, start: str, pairs: torch.Tensor, **more: object) -> Row:
    """A row from the losses of each pair; the verdict is on the share of the circuit's gain that is left."""
    value, (low, high) = float(pairs.mean()), subject.interval(pairs)
    gain = subject.gain
    if gain <= 0:
        return Row(2, key, name, f"{start} {value:.3f} nats; the circuit gains nothing over chance to begin with.",
                   "fails", value, (low, high), "nats", **more)  # type: ignore[arg-type]  # fmt: skip
    share = (CHANCE - value) / gain
    verdict = KEPT_GAIN.judge(share, ((CHANCE - high) / gain, (CHANCE - low) / gain))
    sentence = f"{start} {value:.3f} nats (as pruned {subject.loss('circuit'):.3f}), {_left(share)}."
    return Row(2, key, name, sentence, verdict, value, (low, high), "nats", **more)  # type: ignore[arg-type]


def _left(share: float) -> str:
    if share >= 1:
        return "no worse than the circuit itself"
    return f"{share:.0%} of its gain over guessing is left" if share > 0 else "no better than guessing"


def _ablated(subject: Subject, kind: Kind) -> Row:
    pairs = subject.losses(subject.measure(subject.kept, kind, edges=True), calibration=subject.applied("circuit"))
    empty = subject.losses(subject.measure(subject.state("empty"), kind))
    start = f"With the removed nodes {TITLES[kind]} instead, the circuit's loss is"
    return _row(subject, f"ablation_{kind}", f"{kind} ablation", start, pairs, data={"empty": float(empty.mean())})


def _norm(subject: Subject) -> Row:
    """The final norm the other way than in pruning."""
    norm: Norm = "live" if subject.norm == "frozen" else "frozen"
    pairs = subject.losses(subject.measure(subject.kept, norm=norm, edges=True), calibration=subject.applied("circuit"))
    by = {"frozen": "what it does in the model", "live": "the circuit's own scale"}[norm]
    start = f"With the final norm dividing by {by}, the circuit's loss is"
    return _row(subject, f"{norm}_norm", f"final norm {norm}", start, pairs)


def _restored(subject: Subject, share: float) -> Row:
    generator = subject.generator(f"restored {share}")
    draws = [
        subject.losses(
            subject.measure(restored(subject.kept, share, generator), edges=True),
            calibration=subject.applied("circuit"),
        )
        for _ in range(subject.budget.restorations)
    ]
    means = [float(each.mean()) for each in draws]
    start = (
        f"With {share:.0%} of the removed nodes back, drawn at random {len(draws)} times, the loss is at most "
        f"{max(means):.3f}, on average"
    )
    name = f"{share:.0%} restored at random"
    return _row(
        subject, f"restored_{round(100 * share)}", name, start, torch.stack(draws).mean(0), data={"draws": means}
    )


def _worst(subject: Subject) -> Row:
    """The search for harm looks at the split `calibrate` where there is one, so that the figure is no fit to noise."""
    count = max(1, round(WORST * int((~subject.kept).sum())))
    split = "calibrate" if "calibrate" in subject.task.splits else "report"
    kept = worst_restored(subject.evaluator(split, edges=True), subject.kept, count)
    back = int(kept.sum()) - int(subject.kept.sum())
    pairs = subject.losses(subject.measure(kept, edges=True), calibration=subject.applied("circuit"))
    start = (
        f"With up to {WORST:.0%} of the removed nodes back, chosen to do harm (a search took {back} of {count}), the "
        "loss is"
    )
    data = {"nodes": {site: list(channels) for site, channels in subject.space.by_site(kept & ~subject.kept).items()}}
    return _row(subject, "restored_worst", f"{WORST:.0%} restored to do harm", start, pairs, data=data)
