"""What drawing a few sites a step costs and saves in bridge training, at equal tokens.

    python benchmarks/bridge_sites.py --corpus runs/corpus --steps 60

Trains from the shipped sparse model to the shipped dense one with the hybrid passes of all sites a step, of three and
of one, and prints seconds a step, the sparse model's loss, the mean and the worst loss of hybrid passes above the dense
model's, and the mean error of the maps, on held-out text.
"""

import argparse
import dataclasses
import tempfile
import time
from pathlib import Path

import torch

from sparse_circuits import presets
from sparse_circuits.bridges.check import check
from sparse_circuits.bridges.train import train_bridge
from sparse_circuits.corpus.packed import PackedCorpus


def main() -> None:
    """Run and print one row each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, default=Path("runs/corpus"))
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=8192, help="held-out tokens to check on")
    given = parser.parse_args()
    corpus = PackedCorpus.load(given.corpus)
    print(f"{given.steps} steps of {given.batch_size} windows, {torch.get_num_threads()} threads")
    print("sites  s/step  sparse  hybrid mean  hybrid worst  error f  error g")
    for sites in (None, 3, 1):
        with tempfile.TemporaryDirectory() as folder:
            usual = presets.small_bridge(given.corpus, Path(folder) / "run")
            loop = dataclasses.replace(usual.train.loop, steps=given.steps)
            train = dataclasses.replace(
                usual.train, loop=loop, batch_size=given.batch_size, eval_tokens=1024, eval_every=10**6
            )
            started = time.process_time()
            bridge = train_bridge(dataclasses.replace(usual, train=train, sites_per_step=sites), progress=False)
            seconds = (time.process_time() - started) / given.steps
        found = check(bridge, corpus, given.tokens, switches=0)
        losses = [loss.value - found.dense.value for s in found.sites for loss in (s.into_sparse, s.into_dense)]
        errors = [
            sum(getattr(s, name) for s in found.sites) / len(found.sites) for name in ("encode_nmse", "decode_nmse")
        ]
        print(
            f"{sites or 'all':>5}  {seconds:6.2f}  {found.sparse.value - found.dense.value:+6.3f}  "
            f"{sum(losses) / len(losses):+11.3f}  {max(losses):+12.3f}  {errors[0]:7.3f}  {errors[1]:7.3f}"
        )


if __name__ == "__main__":
    main()
