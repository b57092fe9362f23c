"""Released artifacts by name: where one lies on this machine, and how it is fetched when the user says so.

The cache (`SPARSE_CIRCUITS_CACHE`, else `sparse-circuits` in the user's cache folder) has the shape of the published
tree, so a mirror of that serves as one: `models/NAME/`, `viz/MODEL/TASK/SWEEP/K/viz_data.pt`. Models of the Hub,
`OWNER/NAME`, lie in `hub/OWNER/NAME/`, or where `huggingface_hub` keeps them. Nothing is fetched by looking.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from sparse_circuits.errors import InputError
from sparse_circuits.files import read_json
from sparse_circuits.formats.download import Fetched, Missing, Patience, fetch, fetched_before

PUBLISHED = "https://openaipublic.blob.core.windows.net/circuit-sparsity"
"""Where the artifacts were published; another address of a tree of the same shape does as well."""

_PART = r"[A-Za-z0-9_][A-Za-z0-9_.\-]*"
_RELEASED = re.compile(r"(csp|dense)\d*_[A-Za-z0-9_.\-]+")
_CIRCUIT = re.compile(rf"(viz/)?({_RELEASED.pattern})/{_PART}/{_PART}/{_PART}")
_HUB = re.compile(rf"{_PART}/{_PART}")

_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_BESIDE = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json")
_PAIRS = (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))
"""Where there is no `tokenizer.json`."""


@dataclass(frozen=True)
class Name:
    """What a name means."""

    kind: str
    """"model" (published checkpoint), "circuit" (published `viz_data.pt`) or "hub"."""
    place: str
    """Its folder under the cache, and of what is published also under the address."""


def parse(text: str) -> Name | None:
    """What `text` names; None where it can only be a path."""
    if _RELEASED.fullmatch(text):
        return Name("model", f"models/{text}")
    if _CIRCUIT.fullmatch(text):
        return Name("circuit", "viz/" + text.removeprefix("viz/"))
    return Name("hub", f"hub/{text}") if _HUB.fullmatch(text) else None


def cache_folder() -> Path:
    """Where fetched artifacts lie."""
    given = os.environ.get("SPARSE_CIRCUITS_CACHE")
    if given:
        return Path(given)
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "sparse-circuits"


def find(text: str) -> Path | None:
    """The folder (of a circuit: the file) that the name `text` has on this machine; None where there is none."""
    name = parse(text)
    if name is None:
        return None
    folder = cache_folder() / name.place
    if name.kind == "circuit":
        return folder / "viz_data.pt" if (folder / "viz_data.pt").is_file() else None
    marker = "beeg_config.json" if name.kind == "model" else "config.json"
    if (folder / marker).is_file():
        return folder
    return _in_hub_cache(text) if name.kind == "hub" else None


def hint(text: str) -> str:
    """What to say beside "no such model": how to fetch what `text` names; empty where it names nothing."""
    name = parse(text)
    if name is None or (name.kind == "hub" and Path(text).parent.exists()):
        return ""
    what = {"model": "a released model", "circuit": "a released circuit", "hub": "a model of the Hub"}[name.kind]
    return f"; if you mean {what}, `sparse-circuits import {text} --download --out FOLDER` fetches it"


def fetch_named(
    text: str, base: str | None = None, patience: Patience | None = None, progress: bool = False
) -> tuple[Path, dict[str, Fetched]]:
    """Fetch what `text` names into the cache.

    Args:
        base: the address to fetch from: by default `PUBLISHED`, for a name of the Hub the Hub's (`HF_ENDPOINT`).

    Returns:
        the folder (of a circuit: the file), and the files by name.

    Raises:
        InputError: it is no name, or a file cannot be had.
    """
    name = parse(text)
    if name is None:
        raise InputError(
            f"{text!r} is no name of anything released; expected one like csp_yolo2, owner/name of the Hub, or "
            "csp_yolo1/single_double_quote/prune_v2/k_optim"
        )
    folder = cache_folder() / name.place
    if name.kind == "hub":
        address = base or os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
        return folder, _fetch_hub(f"{address.rstrip('/')}/{text}/resolve/main", folder, patience, progress)
    address = f"{(base or PUBLISHED).rstrip('/')}/{name.place}"
    # What makes the folder a model comes last.
    wanted = ("viz_data.pt",) if name.kind == "circuit" else ("final_model.pt", "beeg_config.json")
    files = {
        each: fetched_before(folder / each) or fetch(f"{address}/{each}", folder / each, patience, progress)
        for each in wanted
    }
    return (folder / "viz_data.pt" if name.kind == "circuit" else folder), files


def _fetch_hub(address: str, folder: Path, patience: Patience | None, progress: bool) -> dict[str, Fetched]:
    """A model of the Hub: weights in one file or in shards, what belongs to its tokenizer, and its config last."""
    files: dict[str, Fetched] = {}

    def take(name: str) -> bool:
        try:
            files[name] = fetch(f"{address}/{name}", folder / name, patience, progress)
        except Missing:
            return False
        return True

    for weights in _WEIGHTS:
        if take(weights):
            break
        if take(f"{weights}.index.json"):
            for shard in _shards(folder / f"{weights}.index.json"):
                if not take(shard):
                    raise InputError(f"{address}: the shard {shard} is missing")
            break
    else:
        raise InputError(f"{address}: the server has none of {', '.join(_WEIGHTS)}")
    for name in _BESIDE:
        take(name)
    for one, other in () if "tokenizer.json" in files else _PAIRS:
        if take(one):
            take(other)
            break
    if not take("config.json"):
        raise InputError(f"{address}: the server has no config.json")
    return files


def _shards(index: Path) -> list[str]:
    content = read_json(index)
    files = content.get("weight_map") if isinstance(content, dict) else None
    names = sorted(set(map(str, files.values()))) if isinstance(files, dict) else []
    if not names or not all(re.fullmatch(_PART, name) for name in names):
        raise InputError(f"{index}: expected an object weight_map from tensors to files beside it")
    return names


def _in_hub_cache(text: str) -> Path | None:
    """The newest snapshot of a model where `huggingface_hub` keeps what it has fetched."""
    given = os.environ.get("HF_HUB_CACHE")
    root = Path(given) if given else Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface")) / "hub"
    folder = root / f"models--{text.replace('/', '--')}"
    try:
        revision = (folder / "refs" / "main").read_text(encoding="utf-8").strip()
    except (OSError, UnicodeError):
        return None
    snapshot = folder / "snapshots" / revision
    return snapshot if re.fullmatch(_PART, revision) and (snapshot / "config.json").is_file() else None
