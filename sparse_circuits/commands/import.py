"""`sparse-circuits import`: a released checkpoint, a Hub folder or a released circuit in our own form."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tyro.conf import Positional

from sparse_circuits.errors import InputError

if TYPE_CHECKING:
    from sparse_circuits.formats.download import Fetched
    from sparse_circuits.formats.viz_data import VizData


@dataclass(frozen=True)
class Command:
    """Take in a model that another program wrote, or what was released, by its name; or a released circuit file."""

    source: Positional[str]
    """Its folder or file, or a name: csp_yolo2 (published models), openai/circuit-sparsity (the Hub),
    csp_yolo1/single_double_quote/prune_v2/k_optim (published circuits)."""
    out: Path
    """Folder for the model or circuit."""
    download: bool = False
    """Fetch what the name stands for, where it is not on this machine; an interrupted fetch goes on where it was."""
    base: str | None = None
    """Address to fetch from instead of where it was published."""
    tokenizer: Path | None = None
    """Folder or file of the model's tokenizer, where its folder has none."""
    model: Path | None = None
    """Of a circuit: the model it was made with."""
    task: str | None = None
    """Of a circuit: its task's name; by default what the file or its folders say."""
    corpus: Path | None = None
    """Of a circuit: packed corpus for the ablation means; by default the pieces of text in the file."""
    mean_tokens: int = 1_000_000
    """Of a circuit: tokens the means are taken over, as far as there are so many."""
    json: bool = False
    """Print what was read as JSON."""


def run(command: Command) -> None:
    """Find or fetch, read, write our own form, say what there is to know."""
    from sparse_circuits.formats.convert import convert
    from sparse_circuits.formats.download import as_json

    source, files = _find(command)
    if not command.json:
        for each in files.values():
            print(each.line())
    if source.is_file():
        described, lines = _circuit(command, source)
    else:
        done = convert(source, "native", command.out, command.tokenizer)
        described, lines = done.described(), done.lines()
    print(json.dumps({**described, "fetched": as_json(files)}, indent=2) if command.json else "\n".join(lines))


def _find(command: Command) -> "tuple[Path, dict[str, Fetched]]":
    """Where the source lies, and what was fetched for it."""
    from sparse_circuits import checkpoint
    from sparse_circuits.formats import names

    source = checkpoint.locate(command.source)
    if source.exists() or not command.download:
        return source, {}
    if names.parse(command.source) is None:
        raise InputError(f"there is no {command.source}, and it is no name of anything released; see docs/formats.md")
    return names.fetch_named(command.source, command.base, progress=True)


def _circuit(command: Command, source: Path) -> tuple[dict[str, Any], list[str]]:
    """Read a released circuit file and make it executable."""
    from dataclasses import asdict

    from sparse_circuits import checkpoint
    from sparse_circuits.formats import viz_data
    from sparse_circuits.formats.released_circuit import released_circuit, save
    from sparse_circuits.formats.tokenizers import fitting, read_tokenizer

    data = viz_data.read(source)
    if command.model is None:
        raise InputError(f"{source} is a circuit; name the model it was made with: --model")
    model = checkpoint.load(command.model)
    if command.tokenizer is not None:
        model.tokenizer = fitting(read_tokenizer(command.tokenizer), model.config.vocab_size, command.tokenizer)
    name = command.task or _task_name(data, source)
    circuit, comparison = released_circuit(data, model, name, command.corpus, command.mean_tokens, progress=True)
    save(circuit, source, command.out)
    described = {"circuit": circuit.description(), "comparison": asdict(comparison), "out": str(command.out)}
    first = f"wrote {command.out}: {circuit.size:,} nodes, {len(circuit.edges):,} edges, task {circuit.task.name}"
    return described, [first, *comparison.lines()]


def _task_name(data: "VizData", source: Path) -> str:
    """The task a file says it is of, or the folders it lies in: TASK/SWEEP/K/viz_data.pt."""
    for key in ("task", "task_name", "dataset_name"):
        if isinstance(data.settings.get(key), str):
            return str(data.settings[key]).removesuffix("_recorded")
    folders = source.resolve().parts
    name = folders[-4] if len(folders) >= 4 and source.name == "viz_data.pt" else source.stem
    return re.sub(r"_beeg\d*$", "", name)
