"""Writes docs/idioms.md, the generated programs in numbers, beside the standard library of the Python it runs on."""

import argparse
import itertools
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

from sparse_circuits.corpus.idioms import programs
from sparse_circuits.corpus.sandbox import failures
from sparse_circuits.corpus.situations import SITUATIONS, count_situations
from sparse_circuits.corpus.sources import FolderSource
from sparse_circuits.corpus.statistics import CONSTRUCTS, describe

PAGE = Path(__file__).parent / "idioms.md"
HEAD = """# The generated programs in numbers

Written by `python docs/idioms.py` (a minute): {size:g} MB of each level of generated programs (seed 0), and of the
standard library of Python {version}, without its tests.

## Do they run?

Every program parses. The first {ran} of each level were each run in a process with limits on time, memory and files,
in an empty folder that held the input files the program names (`sparse_circuits/corpus/sandbox.py`). All are meant to
run; without an error ran {simple:.1%} of the simple level and {full:.1%} of the full level.
"""


def take(texts: Iterable[str], characters: int) -> Iterator[str]:
    """Documents until so many characters are reached."""
    taken = 0
    for text in texts:
        if taken >= characters:
            return
        taken += len(text)
        yield text


def row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    return [row(*head), row("---", *["---:"] * (len(head) - 1)), *(row(*cells) for cells in rows), ""]


def measures(samples: dict[str, list[str]]) -> list[str]:
    """Both tables of measures."""
    described = {name: describe(texts) for name, texts in samples.items()}
    head = tuple(samples)

    def rows(wanted: Iterable[str]) -> Iterator[tuple[str, ...]]:
        for name in wanted:
            values = [described[sample][name] for sample in head]
            yield name, *(f"{value:,.0f}" if value >= 100 else f"{value:.1f}" for value in values)

    plain = [name for name in next(iter(described.values())) if name not in CONSTRUCTS]
    return [
        "## Lines, nesting, names\n",
        *table(("", *head), rows(plain)),
        "A name is any identifier that is no keyword. A variable is read somewhere if its name is, in the same file.\n",
        "## Constructs in 1000 lines of code\n",
        "A line of code is one that is not blank and is not inside a string that began above.\n",
        *table(("", *head), rows(CONSTRUCTS)),
    ]


def situations(samples: dict[str, list[str]]) -> list[str]:
    """How often what the tasks ask about occurs in a megabyte, side A and side B."""
    counted = {name: (count_situations(texts), sum(map(len, texts)) / 1e6) for name, texts in samples.items() if texts}

    def rows() -> Iterator[tuple[str, ...]]:
        for situation in SITUATIONS:
            pairs = []
            for counts, size in counted.values():
                a, b = counts[situation.task]
                pairs.append(f"{a / size:,.0f} / {b / size:,.0f}")
            # A table's cells are parted by bars.
            yield f"`{situation.task}`: {situation.side_a} / {situation.side_b}", *pairs

    return [
        "## What the tasks ask about, in a megabyte\n",
        "How often a situation occurs in the form of side A / in the form of side B",
        "(`sparse_circuits/corpus/situations.py`).\n",
        *table(("", *counted), rows()),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=float, default=3.0, help="of each text")
    parser.add_argument("--run", type=int, default=1000, help="programs of each level to run")
    parser.add_argument("--print", action="store_true", help="print the page, write nothing")
    arguments = parser.parse_args()
    size = int(arguments.megabytes * 1e6)
    library = FolderSource(Path(sysconfig.get_paths()["stdlib"]), limit=size, tests=False)
    samples = {
        "simple": list(take(programs(0, level="simple"), size)),
        "full": list(take(programs(0, level="full"), size)),
        "standard library": list(take(library.documents(), size)),
    }
    shares = {}
    for level in ("simple", "full"):
        texts = list(itertools.islice(samples[level], arguments.run))
        shares[level] = 1 - len(failures(texts)) / len(texts)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    head = HEAD.format(size=arguments.megabytes, version=version, ran=arguments.run, **shares)
    page = "\n".join([head, *measures(samples), *situations(samples)]).rstrip("\n") + "\n"
    if arguments.print:
        print(page, end="")
    else:
        PAGE.write_text(page)


if __name__ == "__main__":
    main()
