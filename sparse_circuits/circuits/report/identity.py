"""Point 9: with every mask on the logits are the model's, so that masked and plain model are one."""

import torch

from sparse_circuits.circuits.report.rows import Row
from sparse_circuits.circuits.report.subject import KINDS, Subject
from sparse_circuits.circuits.report.thresholds import IDENTITY


def rows(subject: Subject) -> list[Row]:
    """One row: the largest difference under any kind of ablation, relative to the largest logit."""
    model = subject.logits("report", "model")
    every = subject.state("model")
    kinds = [kind for kind in KINDS if kind != "resample" or len(subject.examples("report")) > 1]
    differences = torch.stack(
        [(subject.measure(every, kind, norm="live") - model).abs().amax(1) for kind in kinds]
    ).amax(0)
    each = differences / model.abs().max().clamp(min=1e-30)
    value = float(each.max())
    equal = "bit for bit" if value == 0 else f"but for {value:.1e} of the largest"
    sentence = (
        f"With every node kept the logits equal the model's {equal}."
        if value <= IDENTITY.bad
        else f"With every node kept the logits differ from the model's by {value:.1e} of the largest: masked and plain "
        "model are not the same computation, and nothing else on this card means anything."
    )
    return [
        Row(
            9,
            "all_masks_on",
            "all masks on",
            sentence,
            IDENTITY.judge(value),
            value,
            (float(each.min()), value),  # of a maximum: the range over prompts
            "relative",
            decisive=True,
        )
    ]
