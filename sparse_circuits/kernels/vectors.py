"""Vectors of floats in registers, for compiled code whose speed depends on what stays there.

LLVM makes vector code of simple loops, but it does not keep a tile of sums in registers while it walks over a long
dimension, and most of attention is such sums. So a vector is a Numba type here:
1. `Vector` values of LANES or HALF floats, whatever the machine's own width is: `load`, `store`, `splat`, +, -, *,
   `maximum`, `hide`, `power_of_two`.
2. `product`: a small matrix product whose result stays in registers until it is complete.
3. `transpose`, `inner_products`: what is done across the lanes of vectors.

Memory is given by addresses in bytes, strides by numbers of floats.
"""

import math
import operator
from collections.abc import Callable
from typing import Any, no_type_check

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

from sparse_circuits.kernels.exponential import emit_power_of_two

LANES, HALF = 16, 8
_FLOAT, _INDEX = ir.FloatType(), ir.IntType(64)
_FUSED = ("contract",)


class Vector(types.Type):
    """So many floats."""

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        super().__init__(name=f"Vector({lanes})")


@register_model(Vector)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Vector) -> None:
        super().__init__(manager, kind, ir.VectorType(_FLOAT, kind.lanes))


def _operator(function: Callable[..., Any], emit: str) -> None:
    """Teach Numba what `function` is of two vectors: the instruction `emit`."""
    cases = [signature(kind, kind, kind) for kind in (Vector(HALF), Vector(LANES))]
    infer_global(function)(type(f"Of{emit}", (ConcreteTemplate,), {"cases": cases}))

    @no_type_check
    def lowered(context, builder, signature, arguments):
        return getattr(builder, emit)(*arguments, flags=_FUSED)

    for case in cases:
        lower_builtin(function, *case.args)(lowered)


_operator(operator.add, "fadd")
_operator(operator.sub, "fsub")
_operator(operator.mul, "fmul")


def _at(builder: Any, address: Any, offset: Any = 0, width: int = 1) -> Any:
    """A pointer to `width` floats, `offset` floats after the address or pointer."""
    if not isinstance(address.type, ir.PointerType):
        address = builder.inttoptr(address, _FLOAT.as_pointer())
    place = builder.gep(address, [offset if isinstance(offset, ir.Value) else _INDEX(offset)])
    return place if width == 1 else builder.bitcast(place, ir.VectorType(_FLOAT, width).as_pointer())


def _splat(builder: Any, value: Any, width: int) -> Any:
    unknown = ir.Constant(ir.VectorType(value.type, width), ir.Undefined)
    first = builder.insert_element(unknown, value, ir.IntType(32)(0))
    return builder.shuffle_vector(first, unknown, ir.Constant(ir.VectorType(ir.IntType(32), width), [0] * width))


@intrinsic(prefer_literal=True)
@no_type_check
def load(context, address, lanes):
    """The LANES or HALF floats at the address."""
    count = lanes.literal_value

    def generate(context, builder, signature, arguments):
        return builder.load(_at(builder, arguments[0], 0, count), align=4)

    return Vector(count)(types.int64, lanes), generate


@intrinsic
@no_type_check
def store(context, address, value):
    """Write a vector to the address."""

    def generate(context, builder, signature, arguments):
        builder.store(arguments[1], _at(builder, arguments[0], 0, value.lanes), align=4)
        return context.get_dummy_value()

    return types.void(types.int64, value), generate


@intrinsic(prefer_literal=True)
@no_type_check
def splat(context, value, lanes):
    """The float32 in all lanes."""
    count = lanes.literal_value

    def generate(context, builder, signature, arguments):
        return _splat(builder, arguments[0], count)

    return Vector(count)(types.float32, lanes), generate


@intrinsic
@no_type_check
def maximum(context, left, right):
    """The larger of each pair; the right one where one of them is NaN."""

    def generate(context, builder, signature, arguments):
        return builder.select(builder.fcmp_ordered(">", *arguments), *arguments)

    return left(left, left), generate


@intrinsic
@no_type_check
def hide(context, value, count):
    """-inf in the first `count` lanes."""

    def generate(context, builder, signature, arguments):
        vector, count = arguments
        lanes = ir.VectorType(ir.IntType(32), value.lanes)
        order = ir.Constant(lanes, list(range(value.lanes)))
        bound = _splat(builder, builder.trunc(count, ir.IntType(32)), value.lanes)
        hidden = builder.icmp_signed("<", order, bound)
        return builder.select(hidden, ir.Constant(vector.type, [-math.inf] * value.lanes), vector)

    return value(value, types.int64), generate


@intrinsic
@no_type_check
def power_of_two(context, value):
    """`exponential.emit_power_of_two` of every lane."""

    def generate(context, builder, signature, arguments):
        return emit_power_of_two(builder, arguments[0])

    return value(value), generate


def product(rows: int, vectors: int, width: int = LANES) -> Any:
    """A compiled c = a b, or c += a b where `keep` is not 0, with c a tile of rows x (vectors * width) floats.

    Called with a, a_row, a_step, b, b_step, c, c_row, steps, keep: a[row, step] is at a + row * a_row + step * a_step,
    the rows of b and c are contiguous.
    """

    @intrinsic
    @no_type_check
    def multiply(context, a, a_row, a_step, b, b_step, c, c_row, steps, keep):
        return types.void(*[types.int64] * 9), generate

    @no_type_check
    def generate(context, builder, signature, arguments):
        a, a_row, a_step, b, b_step, c, c_row, steps, keep = arguments
        tile = ir.VectorType(_FLOAT, width)
        places = [(row, part) for row in range(rows) for part in range(vectors)]
        sums = {place: cgutils.alloca_once(builder, tile) for place in places}
        result = {
            (row, part): _at(builder, _at(builder, c, builder.mul(c_row, _INDEX(row))), part * width, width)
            for row, part in places
        }
        with builder.if_else(builder.icmp_signed("!=", keep, _INDEX(0))) as (kept, fresh):
            with kept:
                for place in places:
                    builder.store(builder.load(result[place], align=4), sums[place])
            with fresh:
                for place in places:
                    builder.store(ir.Constant(tile, None), sums[place])
        starts = [_at(builder, a, builder.mul(a_row, _INDEX(row))) for row in range(rows)]
        with cgutils.for_range(builder, steps) as loop:
            line = _at(builder, b, builder.mul(b_step, loop.index))
            right = [builder.load(_at(builder, line, part * width, width), align=4) for part in range(vectors)]
            step = builder.mul(a_step, loop.index)
            left = [_splat(builder, builder.load(_at(builder, start, step), align=4), width) for start in starts]
            for row, part in places:
                term = builder.fmul(left[row], right[part], flags=_FUSED)
                place = sums[row, part]
                builder.store(builder.fadd(builder.load(place), term, flags=_FUSED), place)
        for place in places:
            builder.store(builder.load(sums[place]), result[place], align=4)
        return context.get_dummy_value()

    return multiply


def _interleaved(builder: Any, left: Any, right: Any) -> list[Any]:
    """The lanes of two vectors in turn: first those of the lower halves, then those of the upper ones."""
    count = left.type.count
    order = ir.VectorType(ir.IntType(32), count)
    halves = (0, count // 2)
    places = [[lane // 2 + lane % 2 * count + half for lane in range(count)] for half in halves]
    return [builder.shuffle_vector(left, right, ir.Constant(order, place)) for place in places]


@intrinsic
@no_type_check
def transpose(context, source, source_row, target, target_row):
    """target[column, row] = source[row, column], for HALF rows and columns.

    Interleaving row i with row i + HALF / 2, three times over, brings every element to its place.
    """

    def generate(context, builder, signature, arguments):
        source, source_row, target, target_row = arguments
        starts = [_at(builder, source, builder.mul(source_row, _INDEX(row))) for row in range(HALF)]
        lines = [builder.load(_at(builder, start, 0, HALF), align=4) for start in starts]
        for _ in range(HALF.bit_length() - 1):
            pairs = zip(lines[: HALF // 2], lines[HALF // 2 :], strict=True)
            lines = [line for pair in pairs for line in _interleaved(builder, *pair)]
        for row, line in enumerate(lines):
            start = _at(builder, target, builder.mul(target_row, _INDEX(row)))
            builder.store(line, _at(builder, start, 0, HALF), align=4)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), generate


@intrinsic
@no_type_check
def inner_products(context, x, y, y_row, count):
    """The inner products of x with HALF rows y, of `count` floats each, a multiple of HALF.

    As in `transpose`, but what is interleaved is added up at once.
    """

    def generate(context, builder, signature, arguments):
        x, y, y_row, count = arguments
        kind = ir.VectorType(_FLOAT, HALF)
        sums = [cgutils.alloca_once_value(builder, ir.Constant(kind, None)) for _ in range(HALF)]
        starts = [_at(builder, y, builder.mul(y_row, _INDEX(row))) for row in range(HALF)]
        with cgutils.for_range(builder, builder.sdiv(count, _INDEX(HALF))) as loop:
            offset = builder.mul(loop.index, _INDEX(HALF))
            left = builder.load(_at(builder, x, offset, HALF), align=4)
            for total, start in zip(sums, starts, strict=True):
                term = builder.fmul(left, builder.load(_at(builder, start, offset, HALF), align=4), flags=_FUSED)
                builder.store(builder.fadd(builder.load(total), term, flags=_FUSED), total)
        lines = [builder.load(total) for total in sums]
        while len(lines) > 1:
            pairs = zip(lines[: len(lines) // 2], lines[len(lines) // 2 :], strict=True)
            lines = [builder.fadd(*_interleaved(builder, *pair)) for pair in pairs]
        return lines[0]

    return Vector(HALF)(*[types.int64] * 4), generate


@intrinsic
@no_type_check
def prefetch(context, address):
    """Ask for the memory at the address, which need not exist, to be brought into the second cache."""

    def generate(context, builder, signature, arguments):
        byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, word, word, word])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(function, [builder.inttoptr(arguments[0], byte), word(0), word(2), word(1)])
        return context.get_dummy_value()

    return types.void(types.int64), generate
