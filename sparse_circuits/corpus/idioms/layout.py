"""The plan of a program: which parts it has, in what order, and the blank lines between them."""

from sparse_circuits.corpus.idioms.author import Author
from sparse_circuits.corpus.idioms.statements import STATEMENTS


def compose(seed: int, index: int) -> str:
    """Write document `index` of the stream `seed`."""
    author = Author(seed, index)
    goal = author.between(8, 50)
    while len(author.lines) < goal:
        author.pick(STATEMENTS)(author, "")
        if author.random() < author.roomy:
            author.lines.append("")
    while not author.lines[-1]:
        author.lines.pop()
    return "\n".join(author.lines) + "\n"
