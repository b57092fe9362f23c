"""Compiles for a GPU, without one, every kernel that the calls below would launch; prints one line a kernel.

    python tests/kernels/compile_gpu.py

Triton's interpreter accepts what its compiler refuses. Here `gpu.launch` compiles instead of launching, with the types,
constants and alignment that a launch on a GPU would find. A line: kernel, capability, registers, bytes spilled.
"""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

os.environ.pop("TRITON_INTERPRET", None)

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from sparse_circuits.kernels import gpu

TYPES = {
    torch.int32: "*i32",
    torch.int16: "*i16",
    torch.int64: "*i64",
    torch.uint8: "*u8",
    torch.float32: "*fp32",
    torch.bfloat16: "*bf16",
    torch.float16: "*fp16",
}
OBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"

_done: set[tuple[object, ...]] = set()


def compile_launch(kernel: Any, programs: int, *arguments: Any, **constants: Any) -> None:
    """What stands in for `gpu.launch`."""
    values = dict(zip(kernel.arg_names, arguments, strict=False)) | constants
    signature: dict[str, str] = {}
    fixed: dict[tuple[int], Any] = {}
    attributes: dict[tuple[int], list[list[object]]] = {}
    for place, parameter in enumerate(kernel.params):
        value = values.pop(parameter.name)
        specialized = not parameter.do_not_specialize
        if parameter.is_constexpr or value is None or (type(value) is int and value == 1 and specialized):
            signature[parameter.name] = "constexpr"
            fixed[(place,)] = value
        elif isinstance(value, Tensor):
            signature[parameter.name] = TYPES[value.dtype]
            attributes[(place,)] = [["tt.divisibility", 16]]
        elif isinstance(value, float):
            signature[parameter.name] = "fp32"
        else:
            signature[parameter.name] = "i32" if value < 2**31 else "i64"
            if value % 16 == 0 and specialized:
                attributes[(place,)] = [["tt.divisibility", 16]]
    kind = (kernel.__name__, str(signature), str(fixed), str(attributes), str(values))
    for key in ((90, *kind), (80, kernel.__name__)):
        if key not in _done:
            _done.add(key)
            target = GPUTarget("cuda", key[0], 32)
            options = {"enable_fp_fusion": True, **values}
            compiled = triton.compile(ASTSource(kernel, signature, fixed, attributes), target=target, options=options)
            report(kernel.__name__, target.arch, compiled)


def report(name: str, capability: int, compiled: Any) -> None:
    """Print what one program needs."""
    path = Path(os.environ["TRITON_CACHE_DIR"]) / "kernel.cubin"
    path.write_bytes(compiled.asm["cubin"])
    usage = subprocess.run([OBJDUMP, "--dump-resource-usage", path], capture_output=True, text=True, check=True).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+)", usage)
    assert found, usage
    print(name, capability, *found.groups(), flush=True)


def call_everything() -> None:
    """Sizes that reach every branch: short and long rows and strips, 32 and 16 bits, with and without each option."""
    single, half = torch.float32, torch.bfloat16
    gpu.masked(torch.empty(64, 2048, dtype=half), torch.empty(64, 2048, dtype=torch.bool))
    for n, dtype in ((2048, single), (250, half), (16384, half), (40000, single)):
        gpu.abs_topk(torch.empty(2, n, dtype=dtype), 1 + n // 4, True)
    gpu.project_topk_(torch.empty(2048, 8192), 20000, 1, 1)
    gpu._Search(torch.empty(50000, 20, dtype=half), 60000)._force_columns(1)
    state = [torch.empty(300, 16) for _ in range(4)]
    told = gpu.Told(torch.ones(4), torch.tensor(100))
    gpu._Search.finish = lambda *_: None  # type: ignore[method-assign]
    gpu.adamw_project_(*state, told, beta1=0.9, beta2=0.95, epsilon=0.1)
    start, column = torch.zeros(2049, dtype=torch.int32), torch.zeros(4096, dtype=torch.int32)
    for positions, dtype, bias in ((1, half, True), (9, half, False), (4096, half, True), (4096, single, False)):
        x, added = torch.empty(positions, 2048, dtype=dtype), torch.empty(2048, dtype=dtype) if bias else None
        gpu.multiply(start, column, torch.empty(4096, dtype=dtype), x, 2048, added)


if __name__ == "__main__":
    gpu.launch = compile_launch
    call_everything()
