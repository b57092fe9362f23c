"""`sparse-circuits bridge`: a dense model in, a sparse one tied to it by a bridge out, and how good the bridge is."""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sparse_circuits import presets
from sparse_circuits.bridges.config import BridgeConfig
from sparse_circuits.errors import InputError

if TYPE_CHECKING:
    from sparse_circuits.bridges.check import Checked


@dataclass(frozen=True)
class Command:
    """Train a sparse model together with the bridge that ties it to a dense one, and check it on held-out text."""

    config: BridgeConfig = field(default_factory=BridgeConfig)
    resume: bool = False
    """Continue the run in --out, with its own settings."""
    check: bool = False
    """Train nothing: check the bridge that is in --out, on --corpus or, if that is left out, on its own."""
    check_tokens: int = 65_536
    """Held-out tokens to check on, as far as there are so many."""
    switches: int = 8
    """Passes that switch between the models several times, at random, to check."""
    seed_switches: int = 0
    """Seeds those."""
    ship: Path | None = None
    """Then write the bridged model to this folder in the form that ships, check it there, and write its card."""
    json: bool = False
    """Print what the check found as JSON."""


PRESETS = {name: (lambda make=make: Command(make())) for name, make in presets.BRIDGE.items()}


def run(command: Command) -> None:
    """Train, check, save check.json and check.svg beside the bridge, and print."""
    from sparse_circuits import shipped
    from sparse_circuits.bridges.bridge import Bridge
    from sparse_circuits.bridges.check import check
    from sparse_circuits.bridges.ship import ship_bridge
    from sparse_circuits.bridges.tables import check_tables
    from sparse_circuits.bridges.train import train_bridge
    from sparse_circuits.circuits.experiment_tables import plain, show
    from sparse_circuits.circuits.means import training_corpus
    from sparse_circuits.commands import card
    from sparse_circuits.corpus.packed import PackedCorpus
    from sparse_circuits.fields import require
    from sparse_circuits.process import is_first

    require(command.check_tokens >= 1, f"check_tokens is {command.check_tokens}; it must be at least 1")
    require(command.switches >= 0, f"switches is {command.switches}; it must not be negative")
    out = command.config.train.out
    if command.check:
        if command.resume:
            raise InputError("--check trains nothing, --resume goes on training; give one of them")
        bridge = Bridge.load(out)
    else:
        bridge = train_bridge(_resumed(command.config) if command.resume else command.config, command.resume)
    if not is_first():
        return
    given = command.config.train.corpus
    # A run that is there says itself what it was trained on.
    own = (command.check or command.resume) and given == BridgeConfig().train.corpus
    folder = training_corpus(bridge.sparse, "checking a bridge needs") if own else given
    corpus = PackedCorpus.load(folder, bridge.sparse.tokenizer)
    if command.ship is not None:
        bridge, out = ship_bridge(out, corpus, command.ship), command.ship
    found = check(bridge, corpus, command.check_tokens, command.switches, command.seed_switches, progress=True)
    _save(command.ship or shipped.writable(shipped.locate(out)), found)
    if command.ship is not None:
        card.run(card.Command(command.ship, folder, out=command.ship / "card.md"))
    if command.json:
        print(json.dumps(plain(found), indent=2))
        return
    show(check_tables(out.name, found))
    print(
        f"{out}: the worst hybrid pass is {found.worst:.3f} nats above the dense model, the sparse model alone "
        f"{found.sparse.value - found.dense.value:.3f}"
    )


def _resumed(config: BridgeConfig) -> BridgeConfig:
    """What a resumed run goes on with: its own settings, which are in its folder; others must not be given."""
    usual = BridgeConfig()
    train = dataclasses.replace(config.train, out=usual.train.out, corpus=usual.train.corpus)
    if dataclasses.replace(config, train=train) != usual:
        raise InputError(f"the run in {config.train.out} keeps its settings; give --resume with --out alone")
    return config


def _save(folder: Path, found: "Checked") -> None:
    """check.json and check.svg beside the bridge, or where what belongs beside a shipped one goes."""
    from sparse_circuits import checkpoint
    from sparse_circuits.bridges.pictures import check_picture
    from sparse_circuits.circuits.experiment_tables import plain
    from sparse_circuits.files import atomic_write, write_json

    checkpoint.make_folder(folder)
    write_json(folder / "check.json", plain(found))
    atomic_write(folder / "check.svg", check_picture(found))
