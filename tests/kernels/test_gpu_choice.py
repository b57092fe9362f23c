"""When the GPU kernels are chosen, what they refuse, and that Triton's compiler takes them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from gpu_here import DEVICE, gpu
from torch import Tensor

from sparse_circuits import kernels
from sparse_circuits.errors import InputError

ROOT = Path(__file__).resolve().parent.parent.parent


class TestChoice:
    def test_on_the_cpu_only_when_forced(self) -> None:
        x = torch.zeros(1)
        assert kernels.choose(x).name == "cpu"
        if DEVICE == "cpu":
            with kernels.use("gpu"):
                assert kernels.choose(x).name == "gpu"

    @pytest.mark.skipif(DEVICE == "cpu", reason="takes a GPU")
    def test_first_on_a_gpu(self) -> None:
        for dtype in gpu.FORMATS:
            assert kernels.choose(torch.zeros(1, dtype=dtype, device=DEVICE)).name == "gpu"
        assert kernels.choose(torch.zeros(1, dtype=torch.float64, device=DEVICE)).name == "reference"

    def test_the_cpu_never_imports_triton(self) -> None:
        code = (
            "import sys, torch, sparse_circuits\n"
            "from sparse_circuits.sparsity import abs_topk, project_topk\n"
            "abs_topk(torch.randn(3, 8), 2), project_topk(torch.randn(3, 8), 5)\n"
            "sys.exit('triton' in sys.modules)"
        )
        assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


class TestRefusals:
    @pytest.mark.parametrize(
        ("tensor", "reason"),
        [
            (torch.zeros(1, dtype=torch.float64), "they know fp32, bf16 and fp16 and the tensor is torch.float64"),
            (torch.zeros(1, dtype=torch.complex64).conj().imag, "the tensor is a view that negates it"),
            (torch.zeros(1, device="meta"), "they run on CUDA and the tensor is on meta"),
        ],
    )
    def test_say_why(self, tensor: Tensor, reason: str) -> None:
        with kernels.use("gpu"), pytest.raises(InputError, match=reason):
            kernels.choose(tensor)

    def test_of_the_cpu_without_the_interpreter(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(gpu, "_interpreted", lambda: False)
        assert gpu.refuses(torch.zeros(1)) == "they run on CUDA and the tensor is on cpu"

    def test_without_triton(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(gpu, "_installed", lambda: False)
        assert gpu.refuses(torch.zeros(1)) == "Triton is not installed (pip install triton)"

    def test_of_an_old_gpu(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
        reason = gpu._too_old.__wrapped__(torch.device("cuda:0"))
        assert reason == "they need compute capability 8.0 and cuda:0 has 7.5"


class TestCompilation:
    def test_triton_compiles_every_kernel(self, tmp_path: Path) -> None:
        script = Path(__file__).with_name("compile_gpu.py")
        environment = os.environ | {"TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        lines = [line.split() for line in done.stdout.splitlines()]
        for capability in ("80", "90"):
            compiled = {name for name, found, *_ in lines if found == capability}
            assert compiled == {"rows", "masked", "columns", "count", "cut", "adamw", "wide", "narrow"}
        # Bytes of the stack: a program whose registers do not suffice is several times slower.
        assert max(int(stack) for *_, stack in lines) <= 16
