"""Point 6: does the circuit do what the *model* does, right or wrong? KL and the same choice, of two and of all.

Answers are those that the circuit is judged by, scaled and shifted where its target was one of calibrated loss. Over
the vocabulary its logits are as they are: scale and shift are about the answers.
"""

from torch import Tensor

from sparse_circuits.circuits.report.rows import Row
from sparse_circuits.circuits.report.statistics import by_pair, divergence, spread, two_way
from sparse_circuits.circuits.report.subject import Subject
from sparse_circuits.circuits.report.thresholds import EXPLAINED, SAME_ANSWER


def rows(subject: Subject) -> list[Row]:
    """KL over the two answers and over the vocabulary; same answer on unseen pairs and out of distribution."""
    found = [_answer_kl(subject), _same_answer(subject, "report")]
    if "ood" in subject.task.splits:
        found.append(_same_answer(subject, "ood"))
    return [*found, _vocabulary_kl(subject)]


def _explained(
    subject: Subject, key: str, name: str, over: str, kls: tuple[Tensor, Tensor], decisive: bool, more: str
) -> Row:
    """KL(model || circuit), judged as a share of KL(model || empty circuit)."""
    circuit, empty = (by_pair(kl) for kl in kls)
    value, interval = float(circuit.mean()), subject.interval(circuit)
    weights = subject.weights("report")
    base = float(empty.mean())
    share = 1 - value / base if base > 0 else 0.0
    shares = spread(1 - (weights @ circuit) / (weights @ empty))
    sentence = (
        f"The circuit's {over} is {value:.3f} nats (KL) from the model's, the empty circuit's {base:.3f}: it takes "
        f"away {share:.0%} of that.{more}"
    )
    return Row(
        6, key, name, sentence, EXPLAINED.judge(share, shares), value, interval, "nats", decisive=decisive,
        data={"empty": base, "explained": share},
    )  # fmt: skip


def _answer_kl(subject: Subject) -> Row:
    model = two_way(subject.odds("report", "model"))
    kls = tuple(divergence(model, two_way(subject.odds("report", state))) for state in ("circuit", "empty"))
    return _explained(
        subject, "answer_kl", "KL from the model's answer", "choice between the answers", (kls[0], kls[1]), False, ""
    )


def _vocabulary_kl(subject: Subject) -> Row:
    logs = {
        state: subject.logits("report", state).double().log_softmax(-1).cpu() for state in ("model", "circuit", "empty")
    }
    same = (logs["model"].argmax(-1) == logs["circuit"].argmax(-1)).double()
    more = (
        f" Its likeliest token is the model's on {float(same.mean()):.0%} of the prompts. It was only asked for the "
        "answers."
    )
    kls = divergence(logs["model"], logs["circuit"]), divergence(logs["model"], logs["empty"])
    return _explained(
        subject, "vocabulary_kl", "KL over the vocabulary", "prediction over the whole vocabulary", kls, False, more
    )


def _same_answer(subject: Subject, split: str) -> Row:
    model, circuit = subject.odds(split, "model") > 0, subject.odds(split, "circuit") > 0
    pairs = by_pair((model == circuit).double())
    value, interval = float(pairs.mean()), subject.interval(pairs, split)
    wrong = ~model
    said = (
        f" Where the model is wrong ({int(wrong.sum())} prompts), so is the circuit on {int((wrong & ~circuit).sum())}."
    )
    where = "unseen prompts" if split == "report" else "prompts out of distribution"
    return Row(
        6,
        f"same_answer_{split}",
        "same answer as the model" + ("" if split == "report" else ", out of distribution"),
        f"Circuit and model choose the same answer on {value:.1%} of {2 * len(pairs)} {where}."
        f"{said if wrong.any() else ''}",
        SAME_ANSWER.judge(value, interval),
        value,
        interval,
        "share",
        decisive=split == "report",
        data={"model_right": float(model.double().mean()), "circuit_right": float(circuit.double().mean())},
    )
