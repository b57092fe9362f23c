"""Words that fill the slots of templates.

Every word belongs to one split, so tasks built from them are disjoint by construction. A word may be of several
kinds; in one task it is of one.
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
_FIELDS = {
    "prune": "value count total index size item limit price number step speed weight",
    "calibrate": "depth height label age part b c j",
    "report": "result name key length line color distance",
    "ood": "level owner title text status year message note row word",
}
_INDICES = {
    "prune": "i index n step",
    "calibrate": "j offset",
    "report": "k key",
    "ood": "position pos spot",
}
_FLAGS = {
    "prune": "ready done empty waiting active running changed",
    "calibrate": "enabled started has_more is_set",
    "report": "valid found busy is_open",
    "ood": "visible locked pending blocked",
}
_GROWN = {
    "prune": "seen unique left letters known",
    "calibrate": "parts visited all_words",
    "report": "found used result line",
    "ood": "buffer message text total_text",
}
_CLASSES = {
    "prune": "Box Item Player Order Student",
    "calibrate": "Team Song Parcel",
    "report": "Book Robot Account",
    "ood": "Sensor Planet Vehicle Library",
}
_THINGS = {
    "prune": "order pet robot cat",
    "calibrate": "song boat bird",
    "report": "recipe plant fox",
    "ood": "planet whale sensor",
}
_ACTIONS = {
    "prune": "main run start",
    "calibrate": "execute finish",
    "report": "work launch",
    "ood": "perform manage",
}
_SHORTS = {
    "prune": "f g",
    "calibrate": "h o",
    "report": "t s",
    "ood": "d l",
}
_PATHS = {
    "prune": "file_name filename",
    "calibrate": "log_path input_path",
    "report": "path name",
    "ood": "full_path other_path base_path",
}
_HANDLES = {
    "prune": "f file",
    "calibrate": "h stream",
    "report": "handle fd",
    "ood": "fp out",
}
_READ = {
    "prune": "input data original given",
    "calibrate": "source names",
    "report": "old words raw",
    "ood": "config settings incoming",
}
_WRITTEN = {
    "prune": "output copy written",
    "calibrate": "target saved",
    "report": "new result",
    "ood": "summary report backup",
}
_WRITTEN_BY_KIND: Mapping[str, Mapping[str, str]] = {
    "name": _NAMES,
    "list": _LISTS,
    "call": _CALLS,
    "text": _TEXTS,
    "field": _FIELDS,
    "index": _INDICES,
    "flag": _FLAGS,
    "grown": _GROWN,
    "class": _CLASSES,
    "thing": _THINGS,
    "action": _ACTIONS,
    "short": _SHORTS,
    "path": _PATHS,
    "handle": _HANDLES,
    "read": _READ,
    "written": _WRITTEN,
}
KINDS = (*_WRITTEN_BY_KIND, "number")
"""`field`: names that are one token in small vocabularies, to be completions. `index`: names of counters. `grown`:
names of what is filled bit by bit. `read`, `written`: what a file of that use is called."""
_NUMBERS = tuple(str(number) for number in range(1, 101))


def _numbers(split: str) -> tuple[str, ...]:
    """Twice as many numbers for pruning as for each other split, dealt out at random."""
    dealt = random.Random("numbers").sample(_NUMBERS, len(_NUMBERS))
    first = 20 * (SPLITS.index(split) + 1) if split != "prune" else 0
    return tuple(sorted(dealt[first : first + (40 if split == "prune" else 20)], key=int))


def _of_kind(kind: str, split: str) -> tuple[str, ...]:
    """The words of one kind for one split."""
    return _numbers(split) if kind == "number" else tuple(_WRITTEN_BY_KIND[kind][split].split())


def words(*kinds: str) -> Mapping[str, Mapping[str, tuple[str, ...]]]:
    """The words of these kinds (of `KINDS`) for every split; a word of several of them goes to the first."""
    found: dict[str, dict[str, tuple[str, ...]]] = {}
    for split in SPLITS:
        taken: set[str] = set()
        found[split] = {}
        for kind in kinds:
            found[split][kind] = tuple(word for word in _of_kind(kind, split) if word not in taken)
            taken.update(found[split][kind])
    return found
