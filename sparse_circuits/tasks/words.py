"""Words that fill the slots of templates.

Every word belongs to one split and one kind, so tasks built from them are disjoint by construction.
"""

import random
from collections.abc import Mapping

from sparse_circuits.tasks.task import SPLITS

_NAMES = {
    "prune": """x y a n i value count total index size item start score limit node price width first number
    step
        left user state code root speed rate mark weight""",
    "calibrate": "b c j flag depth offset amount height last target label age cost part rank hour",
    "report": """p q k m result name key length right line path time best factor volume color distance entry
        signal share""",
    "ood": "u v w z balance cursor budget token radius angle margin pressure counter battery ticket reward",
}
_LISTS = {
    "prune": "items rows values numbers pairs data users scores nodes prices",
    "calibrate": "points names parts costs groups labels",
    "report": "results keys lines grid table entries colors",
    "ood": "matrix tickets tokens records readings batches",
}
_CALLS = {
    "prune": "load build update read check find make get",
    "calibrate": "parse compute fetch merge count_all",
    "report": "create process convert select prepare collect",
    "ood": "resolve inspect transform measure gather",
}
_TEXTS = {
    "prune": """done ready hello open closed error yes north red apple cat monday finished waiting ok welcome
        empty small dog book""",
    "calibrate": "failed blue south large tuesday banana saved missing no bird house paper",
    "report": "passed green east medium friday orange loaded goodbye valid fox river chair new",
    "ood": "purple whale west huge sunday lemon blocked invalid planet bridge garden seven",
}
_NUMBERS = tuple(str(number) for number in range(1, 101))


def _numbers(split: str) -> tuple[str, ...]:
    """Twice as many numbers for pruning as for each other split, dealt out at random."""
    dealt = random.Random("numbers").sample(_NUMBERS, len(_NUMBERS))
    first = 20 * (SPLITS.index(split) + 1) if split != "prune" else 0
    return tuple(sorted(dealt[first : first + (40 if split == "prune" else 20)], key=int))


def words(*kinds: str) -> Mapping[str, Mapping[str, tuple[str, ...]]]:
    """The words of these kinds (`name`, `list`, `call`, `text`, `number`) for every split."""
    written = {"name": _NAMES, "list": _LISTS, "call": _CALLS, "text": _TEXTS}
    return {
        split: {kind: _numbers(split) if kind == "number" else tuple(written[kind][split].split()) for kind in kinds}
        for split in SPLITS
    }
