"""A bridge: linear maps between the residual streams of a dense and a sparse model (paper, section 6).

At each of the 2 * layers + 1 residual sites:
- encoder f: dense -> sparse, linear with a bias, then AbsTopK;
- decoder g: sparse -> dense, linear with a bias.

On disk it lies in the folder of its sparse model: `bridge.json` (which two models) and `bridge.safetensors` (the maps,
and how large both streams are on held-out text).
"""

import math
import operator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sparse_circuits import checkpoint, shipped
from sparse_circuits.bridges.dense import load_dense
from sparse_circuits.config import GPTConfig
from sparse_circuits.errors import InputError
from sparse_circuits.fields import nearest
from sparse_circuits.files import changed_together, read_json, write_json
from sparse_circuits.model import GPT
from sparse_circuits.sites import residual_sites
from sparse_circuits.sparsity import abs_topk

if TYPE_CHECKING:
    from sparse_circuits.bridges.steering import Change, Steering

FORMAT = 1


@dataclass(frozen=True)
class Scales:
    """Root mean squares of both residual streams over held-out text, one number a site."""

    dense: Float[Tensor, "sites"]
    sparse: Float[Tensor, "sites"]
    tokens: int
    """Positions they are taken over."""


class Maps(nn.Module):
    """The linear maps of a bridge, in the order of the sites."""

    def __init__(self, dense: int, sparse: int, sites: int, seed: int = 0):
        """Make maps between widths `dense` and `sparse`: N(0, 1 / inputs), biases zero."""
        super().__init__()
        self.encoders = nn.ModuleList(nn.Linear(dense, sparse) for _ in range(sites))
        self.decoders = nn.ModuleList(nn.Linear(sparse, dense) for _ in range(sites))
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if name.endswith("bias"):
                    parameter.zero_()
                else:
                    parameter.normal_(0, 1 / math.sqrt(parameter.shape[1]), generator=generator)


class Bridge:
    """A dense and a sparse model, and the maps between their residual streams."""

    def __init__(
        self,
        dense: GPT,
        sparse: GPT,
        maps: Maps | None = None,
        encoder_topk: float | None = 0.25,
        scales: Scales | None = None,
        seed: int = 0,
    ):
        """Tie `dense` to `sparse`, by fresh maps if none are given.

        Args:
            encoder_topk: fraction of the encoded channels that AbsTopK keeps; None keeps all.
            scales: of the streams; `check.measure_scales` finds them, and steering needs them.
            seed: seeds fresh maps.

        Raises:
            InputError: the models differ in depth, vocabulary or tokenizer, or the maps do not fit them.
        """
        check_shapes(dense.config, sparse.config)
        both = dense.tokenizer, sparse.tokenizer
        if both[0] is not None and both[1] is not None and both[0].hash != both[1].hash:
            raise InputError("the two models have different tokenizers; pack the corpus with the dense one's")
        self.dense, self.sparse, self.encoder_topk, self.scales = dense, sparse, encoder_topk, scales
        self.sites = residual_sites(sparse.config)
        widths = dense.config.d_model, sparse.config.d_model
        self.maps = Maps(*widths, len(self.sites), seed) if maps is None else maps
        self.maps.to(next(sparse.parameters()))
        self.kept = sparse.config.d_model if encoder_topk is None else max(1, int(encoder_topk * widths[1]))
        ways = (("encoders", widths), ("decoders", widths[::-1]))
        for kind, (inputs, outputs) in ways:
            shapes = [tuple(layer.weight.shape) for layer in getattr(self.maps, kind)]
            if shapes != [(outputs, inputs)] * len(self.sites):
                raise InputError(
                    f"the {len(shapes)} {kind} have shapes {sorted(set(shapes))}, expected {len(self.sites)} of "
                    f"{(outputs, inputs)}: the bridge is of another pair"
                )

    def __repr__(self) -> str:
        widths = f"{self.dense.config.d_model} dense <-> {self.sparse.config.d_model} sparse"
        return f"Bridge({widths}, {len(self.sites)} sites)"

    def number(self, site: str) -> int:
        """The place of `site` among the residual sites; InputError where it is none of them."""
        if site not in self.sites:
            raise InputError(f"{site!r} is no site of the residual stream; {nearest(site, self.sites)}")
        return self.sites.index(site)

    def encode(self, site: str, residual: Float[Tensor, "*rows D"]) -> Float[Tensor, "*rows S"]:
        """The sparse stream at `site` that stands for this dense one."""
        encoded: Tensor = self.maps.encoders[self.number(site)](residual)
        return abs_topk(encoded.to(residual.dtype), self.kept)

    def decode(self, site: str, residual: Float[Tensor, "*rows S"]) -> Float[Tensor, "*rows D"]:
        """The dense stream at `site` that stands for this sparse one."""
        decoded: Tensor = self.maps.decoders[self.number(site)](residual)
        return decoded.to(residual.dtype)

    def direction(self, site: str, channel: int) -> Float[Tensor, "D"]:
        """What one unit of the sparse stream's `channel` is in the dense stream: the channel's row of the decoder."""
        weight = cast(nn.Linear, self.maps.decoders[self.number(site)]).weight.detach()
        if not 0 <= channel < weight.shape[1]:
            raise InputError(f"the sparse stream has channels 0..{weight.shape[1] - 1}, not {channel}")
        return weight[:, channel]

    def steer(self, nodes: Any, change: "Change", strength: float = 1.0) -> "Steering":
        """An edit of the dense model that stands for `change` of the sparse `nodes`; see `steering.Steering`."""
        from sparse_circuits.bridges.steering import Steering

        return Steering(self, nodes, change, strength)

    def to(self, device: torch.device | str) -> "Bridge":
        """Move both models and the maps."""
        for module in (self.dense, self.sparse, self.maps):
            module.to(device)
        return self

    def save(self, folder: str | Path) -> None:
        """Write the bridge to `folder`, beside its sparse model where that lies there."""
        folder = Path(folder)
        checkpoint.make_folder(folder)
        tensors = {name: _compact(tensor) for name, tensor in self.maps.state_dict().items()}
        if self.scales is not None:
            tensors |= {"scales.dense": self.scales.dense, "scales.sparse": self.scales.sparse}
        beside = self.sparse.folder is not None and self.sparse.folder.resolve() == folder.resolve()
        described = {
            "format": FORMAT,
            "dense": _identity(self.dense),
            "sparse": _identity(self.sparse) | ({"folder": "."} if beside else {}),
            "encoder_topk": self.encoder_topk,
            "scale_tokens": None if self.scales is None else self.scales.tokens,
        }
        # A full disk leaves the bridge that was there, a kill between the two files none rather than half of each.
        with changed_together(folder, "bridge.json") as made:
            checkpoint.write_tensors(made / "bridge.safetensors", tensors)
            write_json(made / "bridge.json", described)

    @classmethod
    def load(cls, folder: str | Path, dense: GPT | None = None, sparse: GPT | None = None) -> "Bridge":
        """Read a bridge folder, or that of a shipped model by its name.

        Args:
            dense, sparse: its models; by default those it was made of, in their folders.

        Raises:
            InputError: no bridge there, damaged files, or models that are not its own.
        """
        folder = shipped.locate(folder)
        path = folder / "bridge.json"
        if not path.is_file():
            raise InputError(f"no bridge at {folder}: expected bridge.json, as `sparse-circuits bridge` writes it")
        described = read_json(path)
        tensors, _ = checkpoint.read_tensors(folder / "bridge.safetensors")
        try:
            if described["format"] != FORMAT:
                raise InputError(f"format {described['format']!r}; this version reads format {FORMAT}")
            dense = _own(described["dense"], dense, "dense", folder)
            sparse = _own(described["sparse"], sparse, "sparse", folder)
            maps = Maps(dense.config.d_model, sparse.config.d_model, len(residual_sites(sparse.config)))
            scales = _scales(tensors, described["scale_tokens"], len(maps.encoders))
            _fill(maps, {name: x for name, x in tensors.items() if not name.startswith("scales.")})
            topk = described["encoder_topk"]
            return cls(dense, sparse, maps, None if topk is None else float(topk), scales)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
            raise InputError(f"{path} is damaged ({type(error).__name__} {error}); train the bridge again") from error


def check_shapes(theirs: GPTConfig, ours: GPTConfig) -> None:
    """Refuse a dense and a sparse shape between which there can be no bridge.

    Raises:
        InputError: another depth or vocabulary, or a sparse model that reads more positions.
    """
    if ours.n_layer != theirs.n_layer:
        raise InputError(
            f"the dense model has {theirs.n_layer} layers, the sparse one {ours.n_layer}; a bridge ties site to site, "
            f"so the depths must be equal: give --n-layer {theirs.n_layer}"
        )
    if ours.vocab_size != theirs.vocab_size:
        raise InputError(
            f"the dense model has a vocabulary of {theirs.vocab_size} tokens, the sparse one of {ours.vocab_size}; "
            "train the sparse one on a corpus packed with the dense one's tokenizer (`corpus --tokenizer`)"
        )
    if ours.block_size > theirs.block_size:
        raise InputError(
            f"the sparse model reads {ours.block_size} positions, the dense one only {theirs.block_size}; give "
            f"--block-size {theirs.block_size}"
        )


def _compact(tensor: Tensor) -> Tensor:
    """`tensor` in half precision where that holds every value of it."""
    half = tensor.half()
    return half if torch.equal(half.float(), tensor.float()) else tensor.float()


def _identity(model: GPT) -> dict[str, Any]:
    folder = model.folder
    place = None if folder is None else shipped.name_of(folder) or str(folder.resolve())
    return {"hash": checkpoint.model_hash(model), "folder": place}


def _own(described: dict[str, Any], model: GPT | None, which: str, folder: Path) -> GPT:
    if model is None:
        if described["folder"] is None:
            raise InputError(f"it does not say where its {which} model is; pass it as {which}=")
        place = folder if described["folder"] == "." else Path(described["folder"])
        model = load_dense(place) if which == "dense" else checkpoint.load(place, sparse="auto")
    given = checkpoint.model_hash(model)
    if given != described["hash"]:
        raise InputError(
            f"it belongs to the {which} model {described['hash'][:12]}, the one given is {given[:12]}; "
            "a bridge ties only the pair it was trained on"
        )
    return model


def _fill(maps: Maps, tensors: dict[str, Tensor]) -> None:
    own = dict(maps.named_parameters())
    if odd := sorted(set(own) ^ set(tensors)):
        raise InputError(
            f"the bridge {'lacks' if odd[0] in own else 'has an unknown'} {odd[0]!r}: it is of another pair"
        )
    with torch.no_grad():
        for name, parameter in own.items():
            if tensors[name].shape != parameter.shape:
                raise InputError(f"{name} has shape {tuple(tensors[name].shape)}: it is of another pair")
            if not tensors[name].isfinite().all():
                raise InputError(f"{name} is not all finite numbers")
            parameter.copy_(tensors[name])


def _scales(tensors: dict[str, Tensor], tokens: Any, sites: int) -> Scales | None:
    if tokens is None:
        return None
    for name in ("scales.dense", "scales.sparse"):
        if tensors[name].shape != (sites,) or not tensors[name].isfinite().all() or (tensors[name] < 0).any():
            raise InputError(f"{name} is not one size a site: {sites} finite numbers, none negative")
    return Scales(tensors["scales.dense"], tensors["scales.sparse"], operator.index(tokens))
