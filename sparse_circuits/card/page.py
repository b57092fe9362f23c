"""The card as a page for people, in Markdown, from its data alone."""

from typing import Any


def card_page(card: dict[str, Any]) -> str:
    """The whole page."""
    model = card["model"]
    head = (
        f"# {card['name']}\n\n{model['layers']} layers, width {model['width']}, {model['heads']} heads, vocabulary "
        f"{model['vocabulary']}, {model['block_size']} positions, bigram table {model['bigram_table']}. Hash "
        f"{model['hash'][:16]}. Written by `sparse-circuits card`, data in card.json.\n"
    )
    sections = [_recipe(card), _losses(card), _tasks(card), _density(card), _neurons(card), _kurtosis(card)]
    if card.get("bridge") is not None:
        sections.append(_bridge(card["bridge"]))
    return "\n".join([head, *sections])


def _table(titles: list[str], rows: list[list[str]]) -> str:
    """A Markdown table whose first column is text and whose others are numbers."""
    rule = "|---|" + "---:|" * (len(titles) - 1)
    return "\n".join([_line(titles), rule, *(_line(row) for row in rows), ""])


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _recipe(card: dict[str, Any]) -> str:
    found = card["recipe"]
    if found is None:
        return "## Recipe\n\nNot known: the folder has no train.json.\n"
    tokens = "?" if found["tokens"] is None else f"{found['tokens']:,}"
    hours = "?" if found["hours"] is None else f"{found['hours']:.2f}"
    return (
        f"## Recipe\n\n```sh\n{found['command']}\n```\n\nSeed {found['seed']}, {found['steps']:,} steps, {tokens} "
        f"tokens, {hours} hours on {found['machine']}, torch {found['torch']}.\n\nCorpus: {_corpus(card['corpus'])}\n"
    )


def _corpus(corpus: dict[str, Any]) -> str:
    sources = ", ".join(f"{source['name']} ({source.get('tokens', 0):,} tokens)" for source in corpus["sources"])
    return f"{corpus['train_tokens']:,} training and {corpus['validation_tokens']:,} validation tokens of {sources}."


def _losses(card: dict[str, Any]) -> str:
    measured = [("validation split of the corpus", card["loss"])]
    if card["real"] is not None:
        measured.append(("real code", card["real"]["loss"]))
    rows = [
        [
            text,
            f"{loss['model']:.4f}",
            f"{loss['bigram']:.4f}",
            f"{loss['bigram'] - loss['model']:.4f}",
            f"{loss['tokens']:,} of {loss['of']:,}",
        ]
        for text, loss in measured
    ]
    lines = [
        "## Losses\n\nNats per token, in float32. The bigram model (Kneser-Ney) is counted on the training split of "
        "the corpus for every row: it is what a bigram table of this training knows. Both predict the same tokens, the "
        "first of the validation split.\n",
        _table(["held-out text", "model", "bigram", "below it", "tokens"], rows),
    ]
    if card["real"] is not None:
        lines.append(f"Real code: {_corpus(card['real'])}\n")
    if card["real"] is not None and card["real"].get("held_out") is False:
        lines.append(
            "Real code was NOT held out for certain: its corpus has another --seed or a larger --validation-fraction "
            "than the one trained on, so that its validation split may hold documents that were trained on.\n"
        )
    if card["corpus"]["trained_on"] is False:
        lines.append("The corpus is NOT the one the model was trained on: its hashes differ from train.json's.\n")
    return "\n".join(lines)


def _tasks(card: dict[str, Any]) -> str:
    rows = [
        [row["name"], *["skipped"] * 4]
        if "skipped" in row
        else [
            row["name"],
            f"{row['loss']:.3f}",
            f"{row['accuracy']:.1%}",
            f"{row['margin']:.2f}",
            "" if row["ood_loss"] is None else f"{row['ood_loss']:.3f}",
        ]
        for row in card["tasks"]
    ]
    solved = len(card["tasks"]) - len(card["above"])
    above = [
        f"- `{row['name']}`" + ("" if row["loss"] is None else f" ({row['loss']:.3f})") + f": {row['why']}."
        for row in card["above"]
    ]
    return "\n".join(
        [
            f"## Tasks\n\n{solved} of {len(card['tasks'])} have a report loss of at most 0.15 nats (chance on two "
            f"tokens 0.693). {card['pairs']} pairs of each split; the margin is the mean log-odds of the right answer "
            "in nats; ood: the out-of-distribution split.\n",
            _table(["task", "report loss", "right", "margin", "ood loss"], rows),
            *(["Above 0.15:\n", *above, ""] if above else []),
        ]
    )


def _density(card: dict[str, Any]) -> str:
    whole = card["density"]
    layers = range(card["model"]["layers"])
    by_place = {(m["kind"], m["layer"]): m for m in card["matrices"]}
    kinds = list(dict.fromkeys(m["kind"] for m in card["matrices"] if m["layer"] is not None))
    rows = [[kind, *(_count(by_place[kind, layer]) for layer in layers)] for kind in kinds]
    outside = [[m["kind"], _count(m)] for m in card["matrices"] if m["layer"] is None]
    return "\n".join(
        [
            f"## Density\n\nOver all matrices {whole['all']:.4f}, those of the blocks {whole['blocks']:.4f}, the "
            f"others {whole['embeddings']:.4f} (the bigram table is not counted). Nonzeros and, in parentheses, "
            "density:\n",
            _table(["matrix", *(f"layer {layer}" for layer in layers)], rows),
            _table(["matrix", "nonzeros"], outside),
        ]
    )


def _count(matrix: dict[str, Any]) -> str:
    return f"{matrix['nonzeros']:,} ({matrix['nonzeros'] / (matrix['rows'] * matrix['columns']):.4f})"


def _neurons(card: dict[str, Any]) -> str:
    dead = card["dead_neurons"]
    by_layer = ", ".join(f"{count} in layer {layer}" for layer, count in enumerate(dead["by_layer"]))
    return (
        f"## Dead neurons\n\nOf {dead['of']:,} neurons a layer, never nonzero over {dead['tokens']:,} validation "
        f"tokens: {by_layer}.\n"
    )


def _kurtosis(card: dict[str, Any]) -> str:
    rows = [[site, f"{value:.2f}"] for site, value in card["kurtosis"].items()]
    return (
        "## Kurtosis of the residual stream\n\nExcess kurtosis (0 for a normal distribution) over all channels and "
        "positions of the same tokens together.\n\n" + _table(["site", "excess kurtosis"], rows)
    )


def _bridge(bridge: dict[str, Any]) -> str:
    found = bridge["check"]
    dense, sparse = found["dense"]["value"], found["sparse"]["value"]
    rows = [
        [
            row["site"],
            f"{row['encode_nmse']:.3f}",
            f"{row['decode_nmse']:.3f}",
            f"{row['into_sparse']['value']:.3f} ({row['into_sparse']['value'] - dense:+.3f})",
            f"{row['into_sparse_floor']:.3f}",
            f"{row['into_dense']['value']:.3f} ({row['into_dense']['value'] - dense:+.3f})",
            f"{row['into_dense_floor']:.3f}",
        ]
        for row in found["sites"]
    ]
    titles = ["site", "error of f", "error of g", "dense, then sparse", "floor", "sparse, then dense", "floor"]
    switched = [plan["loss"] for plan in found["switched"]]
    several = ""
    if switched:
        several = (
            f"Passes that switch several times, {len(switched)} at random: from {min(switched):.3f} to "
            f"{max(switched):.3f}.\n"
        )
    return (
        f"## Bridge\n\nTo the dense model `{bridge['dense']}`, checked on {found['tokens']:,} held-out tokens: losses "
        f"in nats per token, in parentheses above the dense model's. Dense {dense:.3f}, sparse {sparse:.3f} "
        f"({sparse - dense:+.3f}); their losses on single tokens correlate at {found['correlation']:.3f}. A floor is "
        f"the later model with its stream at the mean.\n\n{_table(titles, rows)}\n{several}"
    )
