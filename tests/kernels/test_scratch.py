"""Scratch memory of compiled code: freed only when nothing points into it any more.

Numba frees an array after the last line that names it, though its address may be used further on. In a process whose C
library overwrites what is freed (glibc's MALLOC_PERTURB_), such a kernel computes nonsense.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
CODE = """
import torch
from sparse_circuits import kernels
from sparse_circuits.kernels import fused
from sparse_circuits.kernels.attention import attention
from sparse_circuits.kernels.products import SparseMatrix, multiply, trained_linear

def numbers(*shape):
    return torch.randn(*shape, generator=generator)

def both(function, *inputs):
    results = []
    for name in ("cpu", "reference"):
        leaves = [x.clone().requires_grad_() for x in inputs]
        with kernels.use(name):
            y = function(*leaves)
            gradients = torch.autograd.grad(y, leaves, torch.linspace(-1, 1, y.numel()).view(y.shape))
        results.append((y, *gradients))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)

generator = torch.Generator().manual_seed(0)
for d_head in (8, 16, 20):
    for queries in (3, 70, 300):
        q, k, v = (numbers(2, queries, 4 * d_head) for _ in range(3))
        both(lambda q, k, v, sink: attention(q, k, v, 4, sink), q, k, v, numbers(4))
x, weight, mask, held = numbers(70, 60), numbers(60), torch.rand(60, generator=generator).round(), numbers(60)
for keep in (fused.keep_gelu, fused.keep_relu):
    both(lambda x: keep(x, 15), x)
    both(lambda x, mask: keep(x, 15, mask, held), x, mask)
both(lambda x, mask: fused.keep_hold(x, 15, mask, held), x, mask)
both(lambda x, weight: fused.keep_norm(x, weight, 15), x, weight)
both(lambda x, weight, mask: fused.keep_norm(x, weight, 15, None, mask, held), x, weight, mask)
both(lambda x, weight, beside: fused.keep_norm(x, weight, 15, None, None, None, beside), x, weight, numbers(70, 6))
sparse = numbers(50, 60) * (torch.rand(50, 60, generator=generator) < 0.2)
matrix = SparseMatrix.from_dense(sparse)
for positions in (1, 3, 70):
    torch.testing.assert_close(multiply(matrix, x[:positions]), x[:positions] @ sparse.T)
for kind in ("dense", "live"):
    parameter = sparse.clone().requires_grad_()
    trained_linear(x, parameter, None, matrix, "fp32", kind).square().sum().backward()
    expected = 2 * (x @ sparse.T).T @ x
    torch.testing.assert_close(parameter.grad, expected if kind == "dense" else expected * (sparse != 0))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="MALLOC_PERTURB_ is glibc's")
@pytest.mark.parametrize("fill", ["85", "170"])  # freed memory becomes large numbers, or what is given out does
def test_kernels_do_not_read_what_is_freed(fill: str) -> None:
    environment = os.environ | {"MALLOC_PERTURB_": fill, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
