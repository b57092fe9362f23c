"""From a Python function to an image, by Numba and LLVM.

Numba would leave two things in the code that need its own libraries: printing of Python exceptions, and its memory
manager, by which `np.empty` gets memory. So

1. `entry`: a C function around the compiled one that only notes in the job whether it failed;
2. `_memory`: what the compiled code calls of the memory manager, over malloc and free.

Both are compiled together with the kernel, so that only calls of the C library remain.
"""

from collections.abc import Callable
from typing import Any

import numba
from llvmlite import binding, ir  # type: ignore[import-untyped]
from numba import types
from numba.core import ccallback, compiler, config, registry
from numba.core.compiler_lock import global_compiler_lock
from numba.core.runtime import nrtdynmod

from sparse_circuits.kernels.image import Image, Refused, link

_NAME = "sparse_circuits_kernel"
# The head of a block in Numba's memory manager: its count of references is first, the address of its data fourth.
_HEAD = "{i64, i8*, i8*, i8*, i64}"
_LINE = 64
_WORD, _BYTE = ir.IntType(64), ir.IntType(8).as_pointer()


class Compiler(ccallback._CFuncCompiler):  # type: ignore[name-defined]
    """As for C callbacks, but without the wrapper that they get."""

    def _customize_flags(self, flags: Any) -> Any:
        flags = super()._customize_flags(flags)
        flags.no_cfunc_wrapper = True
        return flags


@global_compiler_lock
def image_of(function: Callable[[Any], None], job: Any) -> Image:
    """`function`, whose argument is the address of a record of the NumPy dtype `job`, as an image.

    Raises:
        Refused: it needs more than the C library.
    """
    record = numba.from_dtype(job)
    target = registry.cpu_target
    result = Compiler(function, target, {}, {}, compiler.Compiler).compile((types.CPointer(record),), types.void)
    library, context = result.library, target.target_context
    library.add_ir_module(entry(context, result.fndesc, record.offset("failed"), _NAME))
    library.add_ir_module(_memory(context))
    # Its last step would have Numba's loader compile it, too.
    library._finalize_final_module = lambda: None
    library.finalize()
    codegen = library.codegen
    machine = binding.Target.from_triple(binding.get_process_triple()).create_target_machine(
        cpu=codegen._get_host_cpu_name(),
        features=codegen._get_host_cpu_features(),
        opt=int(config.OPT),  # type: ignore[attr-defined]
        reloc="pic",
        codemodel="small",
    )
    return link(machine.emit_object(library._final_module), _NAME)


def entry(context: Any, described: Any, failed: int, name: str) -> Any:
    """The C function of this name; `failed` is where in the job it notes that."""
    module = context.create_module("entry")
    kind = context.call_conv.get_function_type(described.restype, described.argtypes)
    callee = ir.Function(module, kind, described.llvm_func_name)
    of_job = context.get_value_type(described.argtypes[0])
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [of_job]), name)
    builder = ir.IRBuilder(function.append_basic_block())
    status, _ = context.call_conv.call_function(
        builder, callee, described.restype, described.argtypes, function.args, attrs=("noinline",)
    )
    with builder.if_then(status.is_error, likely=False):
        at = builder.add(builder.ptrtoint(function.args[0], _WORD), _WORD(failed))
        builder.store(_WORD(1), builder.inttoptr(at, _WORD.as_pointer()))
    builder.ret_void()
    return module


def _memory(context: Any) -> Any:
    """Blocks of memory with a head, data aligned to a line."""
    head = nrtdynmod._meminfo_struct_type
    if str(head) != _HEAD:
        raise Refused(f"Numba's memory manager has other heads: {head}")
    module = context.create_module("memory")
    malloc = ir.Function(module, ir.FunctionType(_BYTE, [_WORD]), "malloc")
    free = ir.Function(module, ir.FunctionType(ir.VoidType(), [_BYTE]), "free")

    kind = ir.FunctionType(_BYTE, [_WORD, ir.IntType(32)])
    allocate = ir.Function(module, kind, "NRT_MemInfo_alloc_aligned")
    builder = ir.IRBuilder(allocate.append_basic_block())
    size = allocate.args[0]
    block = builder.call(malloc, [builder.add(size, _WORD(2 * _LINE))])
    with builder.if_then(builder.icmp_unsigned("==", block, ir.Constant(_BYTE, None)), likely=False):
        builder.ret(block)
    data = builder.and_(builder.add(builder.ptrtoint(block, _WORD), _WORD(2 * _LINE - 1)), _WORD(-_LINE))
    nothing = ir.Constant(_BYTE, None)
    fields = [_WORD(1), nothing, nothing, builder.inttoptr(data, _BYTE), size]
    place = builder.bitcast(block, head.as_pointer())
    for number, value in enumerate(fields):
        builder.store(value, builder.gep(place, [ir.IntType(32)(0), ir.IntType(32)(number)]))
    builder.ret(block)

    release = ir.Function(module, ir.FunctionType(ir.VoidType(), [_BYTE]), "NRT_MemInfo_call_dtor")
    builder = ir.IRBuilder(release.append_basic_block())
    builder.call(free, release.args)
    builder.ret_void()
    return module
