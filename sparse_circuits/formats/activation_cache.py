"""Activations on disk as SAELens caches them, to train sparse autoencoders or probes on without running the model.

The cache is a Hugging Face `datasets` folder: one row a context, one column a site [context, channels], and the column
`token_ids` [context]. SAELens reads it with `use_cached_activations`, anybody with `datasets.load_from_disk`.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from sparse_circuits.errors import InputError
from sparse_circuits.fields import nearest, require
from sparse_circuits.hook_names import hook_names
from sparse_circuits.model import GPT
from sparse_circuits.sites import site_names, site_width


def write_activations(
    model: GPT,
    tokens: Int64[Tensor, "N T"],
    names: Sequence[str],
    out: str | Path,
    batch: int = 32,
) -> Any:
    """Run `model` over `tokens` and write the activations of some sites to the folder `out`, in float32.

    Args:
        tokens: one context a row.
        names: sites, by our names or TransformerLens's; the columns are called so. Heads lie side by side.
        batch: contexts read at a time; one batch is held in memory.

    Returns:
        the `datasets.Dataset`, memory-mapped.

    Raises:
        InputError: no contexts, a name that is no site, `out` exists and is not empty, or `datasets` is not installed.
    """
    try:
        import datasets
    except ModuleNotFoundError:
        raise InputError("datasets is not installed; pip install 'sparse-circuits[hub]'") from None
    require(len(tokens) > 0, "there are no contexts to run the model on")
    require(batch >= 1, f"batch is {batch}; it must be at least 1")
    out = Path(out)
    require(not out.exists() or not any(out.iterdir()), f"{out} is not empty; choose another folder")
    sites = _sites(model, names)
    contexts, length = tokens.shape
    columns: dict[str, Any] = {
        name: datasets.Array2D(shape=(length, site_width(model.config, site)), dtype="float32")
        for name, site in sites.items()
    }
    columns["token_ids"] = datasets.Sequence(datasets.Value("int32"), length=length)
    features = datasets.Features(columns)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.", suffix=".tmp") as temporary:
        shards = []
        for start in range(0, contexts, batch):
            rows = tokens[start : start + batch]
            with torch.no_grad():
                seen = model.run(rows, record=list(dict.fromkeys(sites.values()))).sites
            content: dict[str, Any] = {name: seen[site].float().cpu().numpy() for name, site in sites.items()}
            content["token_ids"] = rows.cpu().numpy()
            shard = Path(temporary) / str(start)
            datasets.Dataset.from_dict(content, features=features).save_to_disk(str(shard))
            shards.append(datasets.load_from_disk(str(shard)))
        whole = Path(temporary) / "whole"
        datasets.concatenate_datasets(shards).save_to_disk(str(whole))
        if out.exists():
            out.rmdir()
        whole.rename(out)
    return datasets.load_from_disk(str(out))


def _sites(model: GPT, names: Sequence[str]) -> dict[str, str]:
    """The site behind each name."""
    require(len(names) > 0, "there are no sites to record; name at least one")
    known = {site: site for site in site_names(model.config)} | hook_names(model.config)
    for name in names:
        if name not in known:
            raise InputError(f"no site is called {name!r}; {nearest(name, list(known))}")
    return {name: known[name] for name in names}
