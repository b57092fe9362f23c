"""The formats, by name: what each holds, how to recognise one on disk, and the module that reads and writes it.

A format's module is imported when it is first used. It has, as far as its entry says:
- of a model: `read(folder) -> GPT` and `write(model, out) -> list[str]`;
- of a circuit: `write(circuit, out) -> list[str]`;
- of a tokenizer: `write(tokenizer, out) -> list[str]` and `read(path) -> Tokenizer`.

What `write` returns are sentences for the user: what the other program has to know, what it will not understand.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sparse_circuits.errors import InputError
from sparse_circuits.fields import nearest

Holds = Literal["model", "circuit", "tokenizer"]


@dataclass(frozen=True)
class Format:
    """One format, as `export NAME` and `convert --to NAME` call it."""

    name: str
    holds: Holds
    summary: str
    home: str
    """The module that reads and writes it."""
    recognises: Callable[[Path], bool] = lambda path: False
    """Whether `path` looks like one, without reading much of it; never where it only comes out."""

    @property
    def module(self) -> Any:
        """The imported module."""
        return importlib.import_module(self.home)


def _is_native(path: Path) -> bool:
    return (path / "config.json").is_file() and (path / "model.safetensors").is_file() and not _names_a_type(path)


def _is_released(path: Path) -> bool:
    return (path / "beeg_config.json").is_file()


def _is_hub(path: Path) -> bool:
    return _names_a_type(path) and importlib.import_module("sparse_circuits.formats.hub").recognises(path)


def _names_a_type(path: Path) -> bool:
    """Whether `config.json` is one of the Hub's: those name a `model_type`."""
    try:
        return '"model_type"' in (path / "config.json").read_text(encoding="utf-8")[: 1 << 20]
    except (OSError, UnicodeError):
        return False


def _is_viz_data(path: Path) -> bool:
    return path.suffix in (".pt", ".pkl") and path.is_file()


FORMATS = {
    each.name: each
    for each in (
        Format("native", "model", "our own model folder", "sparse_circuits.formats.native", _is_native),
        Format(
            "openai",
            "model",
            "a released checkpoint folder: beeg_config.json, final_model.pt",
            "sparse_circuits.formats.openai",
            _is_released,
        ),
        Format(
            "hf",
            "model",
            "a Hugging Face Hub folder that transformers runs, ours or the released one",
            "sparse_circuits.formats.hub",
            _is_hub,
        ),
        Format(
            "gpt2-tokenizer",
            "tokenizer",
            "a folder with encoder.json and vocab.bpe",
            "sparse_circuits.formats.gpt2_pair",
        ),
        Format("tiktoken", "tokenizer", "a .tiktoken file", "sparse_circuits.formats.tiktoken_ranks"),
        Format(
            "viz",
            "circuit",
            "viz_data.pt, which the published viewer opens",
            "sparse_circuits.formats.viz_measures",
            _is_viz_data,
        ),
        Format("graph", "circuit", "graph JSON of circuit-tracer and Neuronpedia", "sparse_circuits.formats.tracer"),
        Format("graphml", "circuit", "a GraphML file", "sparse_circuits.formats.graphml"),
        Format("csv", "circuit", "a folder with nodes.csv and edges.csv", "sparse_circuits.formats.tables"),
        Format(
            "parquet", "circuit", "a folder with nodes.parquet and edges.parquet", "sparse_circuits.formats.parquet"
        ),
        Format("mib", "circuit", "graph JSON of MIB and EAP-IG", "sparse_circuits.formats.mib"),
        Format("html", "circuit", "the viewer as one offline HTML file", "sparse_circuits.viewer.export"),
    )
}
"""Every format by its name; models are looked for in this order."""


def get_format(name: str, holds: Holds | None = None) -> Format:
    """The format called `name`; InputError with the choices where there is none, or it holds another thing."""
    choices = [each.name for each in FORMATS.values() if holds is None or each.holds == holds]
    if name not in choices:
        other = f" holds no {holds}" if name in FORMATS else " is no format"
        raise InputError(f"{name!r}{other}; {nearest(name, choices)}")
    return FORMATS[name]


def recognise(path: Path, holds: Holds) -> Format | None:
    """The format of what lies at `path`, or None."""
    return next((each for each in FORMATS.values() if each.holds == holds and each.recognises(path)), None)
