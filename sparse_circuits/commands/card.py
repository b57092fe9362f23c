"""`sparse-circuits card`: a model measured, as a page and as data; with --ship as it goes into the package."""

import json
from dataclasses import dataclass
from pathlib import Path

from sparse_circuits.fields import require


@dataclass(frozen=True)
class Command:
    """Measure a model and write its card: card.md for people, card.json with the same data beside it."""

    model: Path
    """Model folder, or the name of a model that ships (`sparse-circuits models`)."""
    corpus: Path
    """The packed corpus it was trained on."""
    real: Path | None = None
    """A corpus of real code, packed with the model's tokenizer (`corpus --tokenizer`), for a second loss."""
    out: Path | None = None
    """Where to write the card, a .md file; card.md in the model folder if not given, in runs/<name> for a model that
    ships."""
    ship: Path | None = None
    """First write the model to this folder in the form that ships (dense matrices rounded to half precision, ablation
    means added); the card is measured on that and goes there."""
    tokens: int = 1_000_000
    """Validation tokens to measure each loss on, as far as there are so many."""
    machine: str = ""
    """What it was trained on, in words; as train.json has it if not given."""
    json: bool = False
    """Print the card as JSON."""


def run(command: Command) -> None:
    """Measure, write and tell where."""
    from sparse_circuits import checkpoint, shipped
    from sparse_circuits.card.card import measure_card, ship
    from sparse_circuits.card.page import card_page
    from sparse_circuits.corpus.packed import PackedCorpus
    from sparse_circuits.files import atomic_write, write_json

    require(command.tokens >= 1, f"--tokens is {command.tokens}; it must be at least 1")
    require(
        command.out is None or command.out.suffix == ".md",
        f"--out is {command.out}; expected a file that ends in .md (the data go beside it, in .json)",
    )
    source = shipped.locate(command.model)
    model = checkpoint.load(source, sparse="auto")
    require(model.tokenizer is not None, f"{source} has no tokenizer.json, so it reads no text")
    corpus = PackedCorpus.load(command.corpus, model.tokenizer)
    real = None if command.real is None else PackedCorpus.load(command.real, model.tokenizer)
    folder = shipped.writable(source)
    if command.ship is not None:
        folder = command.ship
        ship(source, corpus, folder)
        model = checkpoint.load(folder, sparse="auto")
    out = command.out or folder / "card.md"
    checkpoint.make_folder(out.parent)  # before the work
    card = measure_card(model, corpus, real, command.tokens, command.machine)
    write_json(out.with_suffix(".json"), card)
    atomic_write(out, card_page(card))
    if command.json:
        print(json.dumps(card, indent=2))
        return
    solved = len(card["tasks"]) - len(card["above"])
    print(
        f"{out}: validation loss {card['loss']['model']:.3f} (bigram {card['loss']['bigram']:.3f}), density "
        f"{card['density']['all']:.4f}, {solved} of {len(card['tasks'])} tasks at most 0.15; data in "
        f"{out.with_suffix('.json')}"
    )
