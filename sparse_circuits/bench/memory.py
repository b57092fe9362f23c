"""Peak resident memory of generation, each side in a process of its own.

    python -m sparse_circuits.bench.memory SIDE FOLDER

prints the peak in bytes. "ours" loads the sparsely stored model folder; "fp32" and "bf16" make the dense model in that
precision, which is less than loading it from a file would take.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from sparse_circuits.process import tune

if TYPE_CHECKING:
    from sparse_circuits.bench.plan import Plan
    from sparse_circuits.bench.timing import Row

PROMPT, ADDED = 192, 64
SIDES = ("ours", "fp32", "bf16")


def measured(folder: Path) -> dict[str, int]:
    """The peak of each side, in bytes."""

    def run(side: str) -> int:
        command = [sys.executable, "-m", "sparse_circuits.bench.memory", side, str(folder)]
        return int(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)

    run("ours")  # compiles the kernels, which takes memory of its own, once
    return {side: run(side) for side in SIDES}


def peak() -> int:
    """The most memory this process has had resident, in bytes."""
    import resource

    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def generate(side: str, folder: Path) -> None:
    """Load or make the model of `side` and let it write. The dense sides import nothing that they do not need."""
    import torch

    prompt = torch.arange(PROMPT)[None]
    if side == "ours":
        import sparse_circuits as sc

        sc.load(folder, sparse=True).generate(prompt, ADDED, temperature=0.0)
        return
    from sparse_circuits.bench.opponent import Dense
    from sparse_circuits.config import GPTConfig
    from sparse_circuits.fields import from_json

    described = json.loads((folder / "config.json").read_text())["model"]
    torch.set_default_dtype(torch.bfloat16 if side == "bf16" else torch.float32)
    dense = Dense(from_json(GPTConfig, described, str(folder))).requires_grad_(False)
    dense.generate(prompt, ADDED, keep=True)


def memory_rows(plan: "Plan") -> "list[Row]":
    """Ours against float32 and bfloat16."""
    from sparse_circuits import checkpoint
    from sparse_circuits.bench.shapes import Y, random_model
    from sparse_circuits.bench.timing import Row

    shape = plan.shape(Y)
    plan.say(f"memory: storing a model of shape {shape.name}")
    with tempfile.TemporaryDirectory() as folder:
        checkpoint.save(random_model(shape), folder)
        plan.say("memory: ours, fp32 and bf16, each in a process of its own")
        used = {side: float(size) for side, size in measured(Path(folder)).items()}
    what = f"{shape.name}, {ADDED} tokens after {PROMPT}"
    return [
        Row("memory", what, "dense, fp32", used["fp32"], used["ours"], "B", plan.target(5.0)),
        Row("memory", what, "dense, bf16", used["bf16"], used["ours"], "B"),
    ]


if __name__ == "__main__":
    tune()
    generate(sys.argv[1], Path(sys.argv[2]))
    print(peak())
