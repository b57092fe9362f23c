"""Training a sparse model and its bridge to a dense one, by the loop of pretraining (paper, section 6).

1. The sparse model: fresh, or one that was trained before; the maps: fresh, or fitted to that one (`fit`). The dense
   model is frozen.
2. Each step: both models and the hybrid passes on the same batch (`passes.run_passes`), the sum of the terms, and an
   update of the sparse model, projected as in pretraining, and of the maps. Gradients are normalised in each of the two
   as if it were trained alone.
3. The folder is the sparse model's, with the bridge beside it; it resumes as a pretraining does.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from sparse_circuits import checkpoint
from sparse_circuits.bridges.bridge import Bridge, check_shapes
from sparse_circuits.bridges.config import BridgeConfig
from sparse_circuits.bridges.dense import load_dense
from sparse_circuits.bridges.fit import fit_maps_
from sparse_circuits.bridges.passes import loss_terms, run_passes
from sparse_circuits.bridges.scales import measure_scales
from sparse_circuits.config import TrainConfig
from sparse_circuits.corpus.packed import PackedCorpus
from sparse_circuits.distributed import ALONE, Group
from sparse_circuits.errors import InputError
from sparse_circuits.fields import from_json, to_json
from sparse_circuits.files import read_json
from sparse_circuits.loop import Recordable
from sparse_circuits.model import GPT
from sparse_circuits.pretraining import Pretraining
from sparse_circuits.train import Training, conduct, stored_config

MAPS = "bridge."
"""What the names of the maps' parameters begin with, beside the sparse model's."""


def train_bridge(config: BridgeConfig, resume: bool = False, progress: bool = True) -> Bridge:
    """Train the sparse model and the bridge `config` describes and write both to its `train.out`.

    Args:
        resume: continue the run there, whose own config is used.
        progress: show a progress bar on standard error.

    Raises:
        InputError: the models, the corpus or the folder cannot be used.
        Diverged: the loss went to NaN or far off.
        KeyboardInterrupt: Ctrl-C; a checkpoint of the last whole step is written first.
    """
    if resume:
        moved = config.train.corpus
        config = stored_bridge_config(config.train.out)
        if moved != TrainConfig().corpus:
            config = replace(config, train=replace(config.train, corpus=moved))
    dense = load_dense(config.dense)
    start = None if config.start is None else checkpoint.load(config.start)

    def make(train: TrainConfig, corpus: PackedCorpus, group: Group) -> BridgeTraining:
        return BridgeTraining(replace(config, train=train), dense, start, corpus, group, resume, progress)

    train = config.train if start is None else replace(config.train, model=start.config)
    return conduct(train, resume, make, "bridge").bridge


class BridgeTraining(Training):
    """One run that trains a sparse model and its bridge."""

    def __init__(
        self,
        config: BridgeConfig,
        dense: GPT,
        start: GPT | None,
        corpus: PackedCorpus,
        group: Group,
        resume: bool,
        progress: bool,
    ):
        """As `Training`, to the model `dense`, from the sparse model `start` where there is one.

        Raises:
            InputError: the corpus has another tokenizer, or the models do not fit.
        """
        self.bridging, self.dense, self.start, self.resumed = config, dense, start, resume
        if dense.tokenizer is not None and dense.tokenizer.hash != corpus.tokenizer.hash:
            raise InputError(
                f"the corpus {corpus.folder} was packed with another tokenizer than the dense model's; pack it with "
                f"`sparse-circuits corpus --tokenizer {dense.folder}`"
            )
        if resume and _stored(Path(config.train.out)).get("dense_hash") != checkpoint.model_hash(dense):
            raise InputError(f"{config.dense} is not the dense model that the run in {config.train.out} was begun with")
        super().__init__(config.train, corpus, group, resume, progress)

    def make_model(self) -> GPT:
        check_shapes(self.dense.config, self.config.model)
        self.dense.to(self.device)
        model = super().make_model() if self.start is None else self.start
        return model.train() if self.bridging.train_sparse else model.requires_grad_(False)

    def make_objective(self) -> "Bridging":
        self.bridge = Bridge(
            self.dense, self.model, encoder_topk=self.bridging.encoder_topk, seed=self.config.loop.seed
        )
        chosen = self.bridging.sites_per_step
        if chosen is not None and chosen > len(self.bridge.sites):
            raise InputError(f"sites_per_step is {chosen}, and there are {len(self.bridge.sites)} residual sites")
        if self.start is not None and self.bridging.fit_tokens and not self.resumed:
            fit_maps_(self.bridge, self._batches(self.bridging.fit_tokens))
        return Bridging(self.bridge, self.corpus, replace(self.bridging, train=self.config), self.group)

    def _batches(self, count: int) -> Iterator[Tensor]:
        """The training tokens that come first, at least `count`."""
        rows, size, seed = self.config.batch_size, self.config.model.block_size, self.config.loop.seed
        for step in range(-(-count // (rows * size))):
            batch = self.corpus.batch("train", step, rows, size, seed)[:, :-1]
            yield torch.from_numpy(batch).to(self.device)

    def describe(self) -> dict[str, Any]:
        dense, start = self.bridging.dense, self.bridging.start
        start = None if start is None else _found_anywhere(start)
        own = to_json(replace(self.bridging, dense=_found_anywhere(dense), start=start))
        del own["train"]
        return {"bridge": own | {"dense_hash": checkpoint.model_hash(self.dense)}}

    def opening(self) -> str:
        sparse, dense = pass_counts(len(self.bridge.sites), self.bridging)
        return (
            f"{super().opening()}; each step takes {sparse:.1f} passes of the sparse model and {dense:.1f} of the "
            "dense one, whose first is without gradient"
        )

    def write(self) -> None:
        super().write()
        self.bridge.scales = measure_scales(self.bridge, self.corpus, self.config.eval_tokens)
        self.bridge.save(self.out)


class Bridging(Pretraining):
    """The objective: all terms of the loss, with ever sparser weights of the sparse model."""

    def __init__(self, bridge: Bridge, corpus: PackedCorpus, config: BridgeConfig, group: Group = ALONE):
        """The loss of `bridge` on the text of `corpus`, both of whose models are there."""
        super().__init__(bridge.sparse, corpus, config.train, group)
        self.bridge, self.bridging = bridge, config
        self._maps = {MAPS + name: p for name, p in bridge.maps.named_parameters()}
        own = list(self._named)
        self._apart = [names for names in (own, list(self._maps)) if names]
        self._named |= self._maps
        self._matrices = set(own)
        self.positions *= 1 + self._sites_per_step

    @property
    def _sites_per_step(self) -> int:
        return self.bridging.sites_per_step or len(self.bridge.sites)

    def problems(self) -> list[list[str]]:
        return self._apart

    def decays(self, name: str) -> bool:
        return name in self._matrices and super().decays(name)

    def loss_limit(self) -> float:
        # Each term that compares outputs is no worse than a bad cross-entropy, errors start out near their targets'
        # spread; a wild map gives more than that, and finds back.
        return 1e6 * super().loss_limit()

    def sites(self, step: int) -> list[str]:
        """The sites whose hybrid passes step `step` runs."""
        count, every = self._sites_per_step, self.bridge.sites
        if count == len(every):
            return list(every)
        generator = torch.Generator().manual_seed((self.config.loop.seed << 32) + step)
        chosen = torch.randperm(len(every), generator=generator)[:count].tolist()
        return [every[number] for number in sorted(chosen)]

    def recordable(self, step: int) -> Recordable | None:
        # Other sites in each step are another loss in each step.
        return super().recordable(step) if self._sites_per_step == len(self.bridge.sites) else None

    def loss_of(self, tokens: Int64[Tensor, "B T1"], step: int) -> tuple[Tensor, dict[str, Tensor]]:
        terms, sites = self.bridging.terms, self.sites(step)
        passes = run_passes(
            self.bridge,
            tokens[:, :-1],
            sites if terms.encode_kl else [],
            sites if terms.decode_kl else [],
            encode_rest=terms.encode_nmse > 0,
            decode_rest=terms.decode_nmse > 0,
        )
        return loss_terms(passes, tokens[:, 1:], terms, len(self.bridge.sites) / len(sites))


def pass_counts(sites: int, config: BridgeConfig) -> tuple[float, float]:
    """How many passes of the sparse and of the dense model one step takes on average, their own included."""
    share = (config.sites_per_step or sites) / sites
    tails = share * sites / 2
    return 1 + tails * bool(config.terms.encode_kl), 1 + tails * bool(config.terms.decode_kl)


def stored_bridge_config(out: Path) -> BridgeConfig:
    """The config of the unfinished bridge run in `out`; InputError where there is none."""
    train = stored_config(Path(out), "bridge")
    own = {key: value for key, value in _stored(Path(out)).items() if key != "dense_hash"}
    return replace(from_json(BridgeConfig, own, str(Path(out) / "train.json")), train=train)


def _stored(out: Path) -> dict[str, Any]:
    """What `train.json` says of the bridge."""
    found = read_json(out / "train.json")["bridge"]
    if not isinstance(found, dict):
        raise InputError(f"{out / 'train.json'}: what it says of the bridge is damaged")
    return found


def _found_anywhere(source: Path) -> Path:
    """A folder by its whole path, a shipped model by its name."""
    return source.resolve() if source.is_dir() else source
