"""GPT-2's pair of files, as the published tokenizer comes: `encoder.json` (token to id) with `vocab.bpe` (merges).

Ids that no text encodes to are left out, and come back as what they were.
"""

import json
from pathlib import Path

from sparse_circuits.files import atomic_write, written_together
from sparse_circuits.tokenizer import Tokenizer, placeholder

VERSION_LINE = "#version: 0.2"
FILES = ("encoder.json", "vocab.bpe")


def read(folder: Path) -> Tokenizer:
    """The tokenizer of the pair in `folder`."""
    return Tokenizer.load(folder)


def write(tokenizer: Tokenizer, out: Path) -> list[str]:
    """Write the pair to the folder `out`."""
    vocabulary = {token: index for token, index in tokenizer.vocabulary.items() if token != placeholder(index)}
    lines = [VERSION_LINE, *(" ".join(merge) for merge in tokenizer.merges)]
    with written_together(out, FILES[0]) as folder:
        atomic_write(folder / "vocab.bpe", "\n".join(lines) + "\n")
        # Spelled in ASCII, as the published one is.
        atomic_write(folder / "encoder.json", json.dumps(vocabulary))
    return []
