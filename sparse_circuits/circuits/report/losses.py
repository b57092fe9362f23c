"""Point 1: losses of model, circuit and empty circuit beside chance, on each split, calibrated and not."""

from sparse_circuits.circuits.report.rows import Row
from sparse_circuits.circuits.report.subject import Subject
from sparse_circuits.circuits.report.thresholds import CHANCE, EMPTY, LOSS, NO_GUESS

WORDS = {
    "report": "on templates and words it was not fitted to",
    "ood": "out of distribution",
    "calibrate": "on the pairs it was cut to size on",
    "prune": "on pairs of the kind its masks were learned on",
}


def rows(subject: Subject) -> list[Row]:
    """One row for `report`, calibrated and not, one out of distribution, one for the empty circuit."""
    table = {split: _losses(subject, split) for split in subject.splits}
    found = [_split(subject, "report", table, "circuit"), _split(subject, "report", table, "calibrated")]
    if "ood" in table:
        found.append(_split(subject, "ood", table, "circuit"))
    else:
        found.append(
            Row(1, "loss_ood", "loss out of distribution", "The task has no such split.", "not measured", unit="nats")
        )
    return [*found, _empty(subject)]


def _losses(subject: Subject, split: str) -> dict[str, list[float]]:
    """Mean and interval of each state's loss on `split`, calibrated where the split `calibrate` can be fitted."""
    pairs = {name: subject.losses(subject.logits(split, name), split) for name in ("model", "circuit", "empty")}
    if subject.calibration is not None:
        pairs["calibrated"] = subject.losses(subject.logits(split, "circuit"), split, calibration=subject.calibration)
    return {name: [float(each.mean()), *subject.interval(each, split)] for name, each in pairs.items()}


def _split(subject: Subject, split: str, table: dict[str, dict[str, list[float]]], what: str) -> Row:
    losses = table[split]
    key = f"loss_{split}" if what == "circuit" else f"loss_{split}_{what}"
    name = {"report": "loss on unseen pairs", "ood": "loss out of distribution"}[split]
    name += "" if what == "circuit" else ", calibrated"
    if what not in losses:
        return Row(1, key, name, "The task has no split to calibrate on.", "not measured", unit="nats")
    value, low, high = losses[what]
    model = losses["model"][0]
    bar = max(subject.config.target_loss, model)
    sentence = (
        f"{'The circuit' if what == 'circuit' else 'With its logits scaled and shifted the circuit'} has a loss of "
        f"{value:.3f} nats {WORDS[split]}; the model has {model:.3f}, the empty circuit"
        f"{'' if what == 'circuit' else ' as it is'} {losses['empty'][0]:.3f}, a "
        f"guess {CHANCE:.3f}. The target was {subject.config.target_loss:g}."
    )
    verdict = LOSS.judge(value / bar, (low / bar, high / bar))
    if value >= CHANCE:
        verdict, sentence = "fails", sentence + " That is no better than guessing."
    elif model > subject.config.target_loss and verdict == "holds":
        verdict, sentence = "weak", sentence + " The model itself misses the target here."
    decisive = split == "report" and what == ("calibrated" if subject.config.calibrated else "circuit")
    shown = {"splits": table, "chance": CHANCE, "target": subject.config.target_loss}
    data = shown if (split, what) == ("report", "circuit") else {}
    return Row(1, key, name, sentence, verdict, value, (low, high), "nats", decisive=decisive, data=data)


def _empty(subject: Subject) -> Row:
    calibration = subject.applied("empty")
    pairs = subject.losses(subject.logits("report", "empty"), calibration=calibration)
    value, (low, high) = float(pairs.mean()), subject.interval(pairs)
    target = subject.config.target_loss
    # A target near chance leaves no room for twice of it.
    bar = min(target, NO_GUESS * CHANCE / EMPTY.good)
    verdict = EMPTY.judge(value / bar, (low / bar, high / bar))
    scaled = "" if calibration is None else ", with the logits scaled and shifted to fit,"
    sentence = f"With every node removed{scaled} the loss is {value:.3f} nats."
    if value <= target:
        verdict = "fails"
        sentence += f" That meets the target of {target:g} already: such a target says nothing about any node."
    return Row(
        1, "loss_empty", "loss of the empty circuit", sentence, verdict, value, (low, high), "nats", decisive=True
    )
