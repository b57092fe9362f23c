"""Reading other programs' tensor files without trusting them: `.pt`, `.bin`, safetensors, whole or in shards.

A `.pt` file is a zip archive whose `data.pkl` says which tensors there are. Before PyTorch reads one (weights only:
nothing in it is ever called but the rebuilding of tensors), it is looked through here:
1. every member is stored as it is, so that no few bytes swell to fill the memory, and all of them fit in the file;
2. the pickle names nothing but tensors, their storages and dtypes;
Afterwards no tensor may be larger than what the file holds of it: strides of zero make much out of nothing.

The form from before PyTorch 1.6, one pickle after the other, is refused: its header may ask for any amount of memory.
"""

import pickletools
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparse_circuits.errors import InputError
from sparse_circuits.files import read_json

LARGEST_PICKLE = 1 << 28
"""Bytes of `data.pkl`; that of a file of circuits takes some megabytes."""

VIEWS = 16
"""How many times its own size the tensors of a file may add up to, since several may show the same numbers."""

_GLOBALS = {
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_tensor",
    "torch._utils _rebuild_parameter",
    "torch Size",
    "torch.nn.parameter Parameter",
    "torch.storage UntypedStorage",
    "torch.storage TypedStorage",
} | {
    f"torch {kind}"
    for name in ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool", "Untyped")
    for kind in (f"{name}Storage",)
}
_DTYPES = {"float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"}
_GLOBALS |= {f"torch {name}" for name in _DTYPES}


def read_torch(path: Path) -> Any:
    """What a `.pt` or `.bin` file holds: tensors, numbers and text in dicts, lists and tuples, on the CPU.

    Raises:
        InputError: missing, cut short, damaged, or more than that in it.
    """
    try:
        _look_through(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
        _check_tensors(content, path.stat().st_size)
        return content
    except InputError as error:
        raise InputError(f"cannot read {path}: {error}") from None
    except FileNotFoundError:
        raise InputError(f"cannot read {path}: no such file") from None
    except Exception as error:  # a damaged pickle makes PyTorch raise nearly anything
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise InputError(f"cannot read {path}: {reason}; it is damaged or cut short") from None


def read_state(folder: Path, stems: Sequence[str]) -> tuple[dict[str, Tensor], Path]:
    """The state dict in `folder`, and the file (of several shards: the index) it came from.

    Args:
        stems: names without ending to look for, e.g. "final_model"; each as `.safetensors`, `.pt`, `.bin`, or shards
            listed in `<name>.index.json`.

    Raises:
        InputError: there is none, or one that cannot be read.
    """
    endings = (".pt", ".safetensors", ".bin")
    for stem in stems:
        for path in (folder / f"{stem}{ending}" for ending in endings):
            if path.is_file():
                return _read_file(path), path
            index = folder / f"{path.name}.index.json"
            if index.is_file():
                return _read_shards(index), index
    looked = ", ".join(f"{stem}{ending}" for stem in stems for ending in endings)
    raise InputError(f"no weights in {folder}; expected one of {looked}, or its shards with an .index.json")


def _read_file(path: Path) -> dict[str, Tensor]:
    """One file's tensors by name."""
    from sparse_circuits.checkpoint import read_tensors

    if path.suffix == ".safetensors":
        return read_tensors(path)[0]
    content = read_torch(path)
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not content:
        raise InputError(f"{path} holds a {type(content).__name__}; expected a state dict of tensors")
    for name, tensor in content.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise InputError(f"{path}: {str(name)[:60]!r} is no tensor; expected a state dict of tensors")
    return dict(content)


def _read_shards(index: Path) -> dict[str, Tensor]:
    """The tensors that an index spreads over files beside it."""
    described = read_json(index)
    files = described.get("weight_map") if isinstance(described, dict) else None
    if not isinstance(files, dict) or not all(isinstance(name, str) for name in files.values()):
        raise InputError(f"{index}: expected an object weight_map from tensors to files")
    state: dict[str, Tensor] = {}
    for name in sorted(set(files.values())):
        if not re.fullmatch(r"\w[\w.\-]{0,200}", name):
            raise InputError(f"{index}: names the file {name[:60]!r}; expected files beside it")
        shard = index.parent / name
        if not shard.is_file():
            raise InputError(f"{index}: the file {name!r} is missing; fetch it again")
        state |= _read_file(shard)
    if missing := sorted(files.keys() - state.keys()):
        raise InputError(f"{index}: {missing[0]!r} is in none of its files")
    return state


def _look_through(path: Path) -> None:
    """Refuse a file whose reading would take more than its own size, or call anything but what rebuilds tensors."""
    size = path.stat().st_size
    if not zipfile.is_zipfile(path):
        raise InputError(
            "it is no zip archive as torch.save writes them; save it anew with a PyTorch of the last years"
        )
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if any(each.compress_type != zipfile.ZIP_STORED for each in members):
            raise InputError("its members are compressed, which torch.save never does")
        if sum(each.file_size for each in members) > size:
            raise InputError("its members claim more than the file's size")
        pickles = [each for each in members if each.filename.endswith("data.pkl")]
        if len(pickles) != 1 or pickles[0].file_size > LARGEST_PICKLE:
            raise InputError("it has no single data.pkl of reasonable size")
        _check_pickle(archive.read(pickles[0]))


def _check_tensors(content: Any, size: int) -> None:
    """Refuse tensors that are larger than their storage, or views that add up to many times the file of `size` bytes.

    What is nested within itself is walked through once.
    """
    pending, seen, total = [content], set[int](), 0
    while pending:
        value = pending.pop()
        if isinstance(value, Tensor):
            length = value.numel() * value.element_size()
            total += length
            if value.layout != torch.strided or length > value.untyped_storage().nbytes() or total > VIEWS * size:
                raise InputError("a tensor in it is larger than what the file holds of it")
        elif isinstance(value, dict | list | tuple | set) and id(value) not in seen:
            seen.add(id(value))
            pending += [*value.keys(), *value.values()] if isinstance(value, dict) else value


def _check_pickle(content: bytes) -> None:
    """Refuse a pickle that names anything beyond tensors."""
    for code, argument, _ in pickletools.genops(content):
        if code.name in ("GLOBAL", "INST") and argument not in _GLOBALS:
            raise InputError(f"its pickle asks for {str(argument)[:60]!r}; only tensors and plain values are read")
        if code.name in ("STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4"):
            raise InputError(f"its pickle uses {code.name}, which torch.save never does")
