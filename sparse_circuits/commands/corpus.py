"""`sparse-circuits corpus`: sources in, packed token files out."""

import json
import sys
from dataclasses import dataclass

from sparse_circuits import presets
from sparse_circuits.corpus.config import CorpusConfig


@dataclass(frozen=True)
class Command:
    """Pack Python source into token files to train on."""

    config: CorpusConfig
    json: bool = False
    """Print the manifest as JSON."""


PRESETS = {name: (lambda make=make: Command(make())) for name, make in presets.CORPUS.items()}


def run(command: Command) -> None:
    """Build the corpus and print what is in it."""
    from sparse_circuits.corpus.build import build_corpus

    manifest = build_corpus(command.config, progress=True)
    if command.json:
        json.dump(manifest, sys.stdout, indent=2)
        print()
        return
    print(f"{command.config.out}: {manifest['tokens']:,} tokens, vocabulary {manifest['vocab_size']}")
    for source in manifest["sources"]:
        licence = f", licence: {source['licence']}" if "licence" in source else ""
        left_out = "".join(f", {count} {why}" for why, count in source["left_out"].items())
        print(
            f"  {source['name']}: {source['documents']:,} documents, {source['characters']:,} characters, "
            f"{source['duplicates']:,} duplicates dropped{left_out}{licence}"
        )
    for split, counts in manifest["splits"].items():
        print(f"  {split}: {counts['documents']:,} documents, {counts['tokens']:,} tokens")
