"""The model folder, and the only code that knows it.

- `config.json`: the GPTConfig and the format's version.
- `model.safetensors`: every tensor of the state dict, exact to the bit, as `storage` packs it.
- `tokenizer.json`: the tokenizer, in the Hugging Face `tokenizers` format.
- `train.json`, `progress.jsonl`: how it was trained (see `train`).
- `means.safetensors`: every node's mean (see `circuits.means`).

`model_hash` names a model by its config and weights, so that a circuit knows its own.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.overrides import TorchFunctionMode

from sparse_circuits import shipped
from sparse_circuits.config import GPTConfig
from sparse_circuits.errors import InputError
from sparse_circuits.fields import from_json, to_json
from sparse_circuits.files import atomic_write, locked, read_json, write_json
from sparse_circuits.kernels.products import SparseMatrix
from sparse_circuits.linear import Linear
from sparse_circuits.model import GPT
from sparse_circuits.storage import SPARSE_BELOW, Sparse, pack, unpack
from sparse_circuits.tokenizer import Tokenizer

if TYPE_CHECKING:
    from sparse_circuits.formats.registry import Format

FORMAT = 1


def save(model: GPT, folder: str | Path) -> None:
    """Write `model` (and its tokenizer, if it has one) to `folder`, which is made if it does not exist."""
    folder = Path(folder)
    make_folder(folder)
    if model.tokenizer is not None:
        model.tokenizer.save(folder / "tokenizer.json")
    write_tensors(folder / "model.safetensors", pack(_state(model)))
    write_json(folder / "config.json", {"format": FORMAT, "model": to_json(model.config)})
    model.folder = folder


def load(source: str | Path, device: str | torch.device = "cpu", sparse: bool | Literal["auto"] = False) -> GPT:
    """Read the model folder `source`, or the model of that name that ships with the package (`shipped`).

    A folder in another program's form (`formats.registry`) is read as well, and so is a released model by its name once
    it has been fetched (`formats.names`).

    Args:
        sparse: hold and multiply the matrices sparsely, as `GPT.sparsify` does; the dense ones are never made. "auto"
            does so where all of them are stored sparsely, on the CPU: on CUDA, where nothing has been measured, only
            True does.

    Raises:
        InputError: there is no such folder, or a file in it is missing, cut short, of a newer format or does not
            fit its config.
    """
    folder = locate(source)
    foreign = _foreign(folder)
    if foreign is not None:
        model = foreign.module.read(folder)
        if sparse == "auto":
            sparse = False
        return (model.sparsify() if sparse else model).to(device).eval()
    if not (folder / "config.json").is_file():
        raise InputError(
            f"no model at {folder}: expected a folder with config.json, model.safetensors and tokenizer.json "
            f"as `sparse-circuits train` writes it{shipped.hint(source)}{_fetching(source)}"
        )
    described = read_json(folder / "config.json")
    if not isinstance(described, dict) or described.get("format") != FORMAT:
        raise InputError(f"{folder / 'config.json'}: expected format {FORMAT}; it is another program's or newer")
    config = from_json(GPTConfig, described.get("model"), str(folder / "config.json"))
    tensors, _ = read_tensors(folder / "model.safetensors")
    # Before millions of layers are made for a config that is wrong.
    if (last := f"h.{config.n_layer - 1}.ln_1.weight") not in tensors:
        raise InputError(
            f"{folder / 'model.safetensors'}: the tensor {last!r} is missing; config.json describes another model"
        )
    model = empty_model(config, str(folder / "config.json"))
    if sparse == "auto" and torch.device(device).type != "cpu":
        sparse = False
    _load_exactly(model, unpack(tensors, folder / "model.safetensors"), folder / "model.safetensors", sparse)
    if (folder / "tokenizer.json").is_file():
        model.tokenizer = Tokenizer.load(folder / "tokenizer.json")
        if model.tokenizer.vocab_size > model.config.vocab_size:
            raise InputError(
                f"{folder}: the tokenizer has {model.tokenizer.vocab_size} tokens, "
                f"the model {model.config.vocab_size}; one of the two belongs elsewhere"
            )
    model.folder = folder
    return model.to(device).eval()


def locate(source: str | Path) -> Path:
    """The folder that `source` means: that folder, a model that ships, or a released one fetched before."""
    folder = shipped.locate(source)
    if folder.exists():
        return folder
    from sparse_circuits.formats import names

    return names.find(str(source)) or folder


def _fetching(source: str | Path) -> str:
    """What to say beside "no such folder" where `source` could be fetched."""
    from sparse_circuits.formats import names

    return names.hint(str(source)) if shipped.locate_circuit(source) == Path(source) else ""


def _foreign(folder: Path) -> "Format | None":
    """The format of a model folder that is not in our own form."""
    from sparse_circuits.formats.registry import recognise

    found = recognise(folder, "model")
    return None if found is None or found.name == "native" else found


@torch.no_grad()
def round_dense_(model: GPT) -> None:
    """Round the matrices that `save` stores densely to values that float16 holds, which halves the room they take.

    One with an entry beyond float16's range stays as it is.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.ndim >= 2 and int(tensor.count_nonzero()) >= SPARSE_BELOW * tensor.numel():
            rounded = tensor.half().to(tensor.dtype)
            if bool(rounded.isfinite().all()):
                tensor.copy_(rounded)


def empty_model(config: GPTConfig, where: str) -> GPT:
    """A model whose weights are about to come: they take neither memory nor random numbers yet.

    Raises:
        InputError: the sizes, which the file `where` gives, are beyond what PyTorch can name.
    """
    try:
        with torch.device("meta"), _Unfilled():
            return GPT(config)
    except (RuntimeError, OverflowError) as error:
        raise InputError(f"{where}: the sizes are too large together ({str(error).splitlines()[0][:80]})") from None


def model_hash(model: GPT) -> str:
    """SHA-256 over the config and every parameter and buffer, in hex."""
    digest = hashlib.sha256(json.dumps(to_json(model.config), sort_keys=True).encode())
    for name, tensor in sorted(_state(model).items()):
        digest.update(name.encode())
        # Adding zero makes a negative zero, which a sparse matrix does not keep, a positive one.
        digest.update((tensor.detach().cpu() + 0.0).contiguous().numpy().tobytes())
    return digest.hexdigest()


def make_folder(folder: Path) -> None:
    """Make `folder` and its parents; InputError where the disk refuses or a file is in the way."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {folder}: {error.strerror}") from error


@contextlib.contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Hold `folder` as `locked` does, made where it is missing; gone again if it was, and nothing came to be in it.

    Raises:
        InputError: another process holds it, or it cannot be made or written to.
    """
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    make_folder(folder)
    with locked(folder):
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # Windows does not remove a file that is open
                if made and [each.name for each in folder.iterdir()] == [".lock"]:
                    (folder / ".lock").unlink()
                    for each in made:
                        each.rmdir()


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file all at once."""
    owned = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}

    def write(temporary: Path) -> None:
        try:
            save_file(owned, temporary, metadata)
        except SafetensorError as error:
            raise OSError(None, str(error)) from error

    atomic_write(path, write)


def write_torch(path: Path, content: Any) -> None:
    """Write a `.pt` file all at once, of tensors and plain values in whatever is nested in whatever."""

    def write(temporary: Path) -> None:
        try:
            torch.save(content, temporary)
        except RuntimeError as error:  # what PyTorch makes of a full disk
            reason = " ".join(str(error.__context__ or error).split())[:80]
            raise OSError(None, f"PyTorch's writer fails ({reason})") from error

    atomic_write(path, write)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and metadata of a safetensors file; InputError if it is missing or damaged."""
    if path.exists() and not path.is_file():
        raise InputError(f"cannot read {path}: it is no ordinary file")  # a pipe would be waited for
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else f"{error}; it may be cut short"
        raise InputError(f"cannot read {path}: {reason}") from error


def _state(model: GPT) -> dict[str, Tensor]:
    """The state dict in float32 whatever the model computes in, a shared embedding under one name only."""
    state = {name: tensor.float() for name, tensor in model.state_dict().items()}
    if model.config.tied_embeddings:
        del state["lm_head.weight"]
    return state


class _Unfilled(TorchFunctionMode):
    """Layers that are made do not draw their weights; without memory that would import PyTorch's compiler (150 MB)."""

    def __torch_function__(
        self, function: Any, types: Any, arguments: tuple[Any, ...] = (), named: dict[str, Any] | None = None
    ) -> Any:
        named = named or {}
        if getattr(function, "__module__", None) == torch.nn.init.__name__:
            return named["tensor"] if "tensor" in named else arguments[0]
        return function(*arguments, **named)


def _load_exactly(model: GPT, state: dict[str, Tensor | Sparse], path: Path, sparse: bool | Literal["auto"]) -> None:
    """Give the model, so far without memory, its tensors; every mismatch is told in one line."""
    own = _state(model)
    for name, tensor in own.items():
        if name not in state:
            raise InputError(f"{path}: the tensor {name!r} is missing; config.json describes another model")
        if tuple(state[name].shape) != tuple(tensor.shape):
            raise InputError(
                f"{path}: {name} has shape {tuple(state[name].shape)}, config.json says {tuple(tensor.shape)}"
            )
    unknown = sorted(set(state) - set(own))
    if unknown:
        raise InputError(f"{path}: unknown tensor {unknown[0]!r}; config.json describes another model")
    if model.config.tied_embeddings:
        state = state | {"lm_head.weight": state["wte.weight"]}
    layers = {f"{name}.weight": module for name, module in model.named_modules() if isinstance(module, Linear)}
    if sparse == "auto":
        sparse = all(isinstance(state[name], Sparse) for name in layers)
    for name, layer in layers.items() if sparse else ():
        stored = state.pop(name)
        layer.freeze(stored.matrix if isinstance(stored, Sparse) else SparseMatrix.from_dense(stored))
    embedding = state["wte.weight"]
    if sparse and isinstance(embedding, Sparse):
        model.wte.freeze(embedding.matrix)
        if model.wte.is_frozen:  # not where another program has stored much of it so
            del state["wte.weight"]
    dense = {name: stored.dense() if isinstance(stored, Sparse) else stored for name, stored in state.items()}
    floats = {name: tensor.float() for name, tensor in dense.items()}
    torch.nn.Module.load_state_dict(model, floats, strict=False, assign=True)
    if model.config.tied_embeddings and not sparse:
        model.lm_head.weight = model.wte.weight
    if sparse:
        model.requires_grad_(False)
