"""What was measured of bridges and steering, as tables a person can read."""

from rich.table import Table

from sparse_circuits.bridges.ablations import Ablated
from sparse_circuits.bridges.check import Checked
from sparse_circuits.bridges.curves import Steered
from sparse_circuits.bridges.side_effects import SideEffects
from sparse_circuits.circuits.experiment_tables import new_table
from sparse_circuits.circuits.intervals import Measured

INTERVALS = "in brackets 95% intervals over"


def check_tables(name: str, found: Checked) -> list[Table]:
    """Both models and each site; then the passes that switch several times."""
    bigram = "not counted" if found.bigram is None else f"{found.bigram:.3f}"
    sites = new_table(
        f"{name}: hybrid passes by the site of the switch",
        ("site", "error of f", "error of g", "dense, then sparse", "floor", "sparse, then dense", "floor"),
        f"losses in nats per token, {INTERVALS} {found.tokens:,} tokens in windows; floor: the later model with its "
        f"stream at the mean; dense model {found.dense}, sparse model {found.sparse}, bigram {bigram}; correlation of "
        f"the two models' losses by token {found.correlation:.3f}",
    )
    for row in found.sites:
        sites.add_row(
            row.site,
            f"{row.encode_nmse:.3f}",
            f"{row.decode_nmse:.3f}",
            row.into_sparse.text(),
            f"{row.into_sparse_floor:.3f}",
            row.into_dense.text(),
            f"{row.into_dense_floor:.3f}",
        )
    if not found.switched:
        return [sites]
    several = new_table(
        f"{name}: passes that switch several times", ("begins", "loss", "switches"), "losses in nats per token"
    )
    for plan in found.switched:
        several.add_row(f"{plan.first}, switches at {', '.join(plan.sites)}", f"{plan.loss:.3f}", str(len(plan.sites)))
    return [sites, several]


def steered_table(found: Steered) -> Table:
    """The probability of the other side's answer, a row a kind of edit, a column a strength."""
    nodes = ", ".join(f"{site}:{channel}" for site, channel in found.nodes)
    table = new_table(
        f"{found.task} steered by {nodes}",
        ("edit", *(f"strength {strength:g}" for strength in found.strengths)),
        f"probability of the other side's answer, mean over both sides of {found.pairs} pairs of the {found.split} "
        f"split, {INTERVALS} pairs; on the prompts where they are right, the same answers have {found.ceiling}; "
        f"controls: mean of {found.samples} draws, in parentheses the largest",
    )
    for curve in found.curves:
        drawn = curve.name.startswith("random")
        texts = [
            _two_lines(one, f" ({largest:.3f})" if drawn else "")
            for one, largest in zip(curve.both, curve.largest, strict=True)
        ]
        table.add_row(curve.name, *texts)
    for side in ("a", "b"):
        words = "A towards B" if side == "a" else "B towards A"
        table.add_row(f"nodes, {words}", *(_small(one.value) for one in getattr(found.curve("nodes"), side)))
    table.add_row("nodes, of the two answers", *(_two_lines(one) for one in found.curve("nodes").choice))
    return table


def _two_lines(found: Measured, beside: str = "") -> str:
    """The number, and its interval in a line of its own: six of them in one line fit no usual terminal."""
    number, _, interval = found.text().partition(" ")
    return f"{number}{beside}\n{interval}"


def side_effect_tables(found: SideEffects) -> list[Table]:
    """Other tasks, then text."""
    tables = []
    if found.tasks:
        tasks = new_table(
            f"the same edit on the pairs of other tasks, strength {found.strength:g}",
            ("task", "loss", "steered", "rise"),
            f"losses of the dense model in nats, {INTERVALS} pairs",
        )
        for row in found.tasks:
            if row.moved is None:
                tasks.add_row(row.task, "", "", f"not asked: {row.skipped}")
            else:
                tasks.add_row(row.task, f"{row.before:.3f}", f"{row.after:.3f}", row.moved.text())
        tables.append(tasks)
    if found.text:
        text = new_table(
            f"a push at every token of plain text, strength {found.strength:g}",
            ("push", "KL from the model", "rise of the loss"),
            f"nats per token over {found.text_tokens:,} tokens, {INTERVALS} windows",
        )
        for push in found.text:
            text.add_row(push.push, push.divergence.text(), push.loss.text())
        tables.append(text)
    return tables


def ablated_table(found: Ablated) -> Table:
    """Losses of the dense model with the circuit's directions taken out."""
    taken = ", ".join(f"{count} at {site}" for site, count in found.directions.items())
    table = new_table(
        f"{found.task}: its circuit's directions taken out of the dense model",
        ("task", "dense model", "without them", "without random ones"),
        f"losses in nats, {INTERVALS} pairs; directions: {taken}; {found.left_out} nodes have none (no sublayer reads "
        "them from the stream); random: median and range of the draws",
    )
    for row in found.tasks:
        if row.whole is None or row.ablated is None:
            table.add_row(row.task, "", "", f"not asked: {row.skipped}")
            continue
        drawn = sorted(row.random)
        random = f"{drawn[len(drawn) // 2]:.3f} ({drawn[0]:.3f} to {drawn[-1]:.3f})"
        table.add_row(row.task, row.whole.text(), row.ablated.text(), random)
    return table


def _small(value: float) -> str:
    """A probability that may be tiny."""
    return f"{value:.3f}" if value >= 0.0995 else f"{value:.2g}"
