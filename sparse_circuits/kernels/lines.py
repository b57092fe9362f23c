"""Lines of 64 bytes, as memory delivers them, for compiled code that is bound by memory.

LLVM makes vector code of simple loops, but by itself it neither turns comparisons into bits nor spares the cache.
A result that is too large for the caches is best written around them: through them its old contents are read first, and
what lies in them already is driven out. So these are written as LLVM's instructions, each for one line:

1. `keep_line`: what stays of a line of a row, and a bit an entry that tells which; `select_line`: a line by such bits.
2. `reaching`: which keys of a line reach a bound, as bits; `lowest_bit`, `bit_count` to walk over them. `any_reaching`:
   whether any of GROUP lines do.
3. `clear_line`: +0.0 around the cache. `prefetch`: have a line brought near, without waiting for it.

Memory is given by addresses in bytes; `past` says whether to write around the cache, which takes a place aligned to 64.
"""

from typing import Any, no_type_check

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from sparse_circuits.kernels.blocks import bit_count, lowest_bit
from sparse_circuits.kernels.sizes import CACHE_LINE as LINE
from sparse_circuits.kernels.sizes import GROUP

__all__ = [
    "GROUP",
    "LINE",
    "any_reaching",
    "bit_count",
    "clear_line",
    "keep_line",
    "lowest_bit",
    "prefetch",
    "reaching",
    "select_line",
]
_INDEX, _NUMBER = ir.IntType(64), ir.IntType(32)


def _vector(unit: Any) -> Any:
    """A line of integers of this type."""
    return ir.VectorType(unit, 8 * LINE // unit.width)


def _splat(builder: Any, value: Any) -> Any:
    kind = _vector(value.type)
    unknown = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(unknown, value, _NUMBER(0))
    return builder.shuffle_vector(first, unknown, ir.Constant(ir.VectorType(_NUMBER, kind.count), [0] * kind.count))


def _load(builder: Any, address: Any, unit: Any) -> Any:
    return builder.load(builder.inttoptr(address, _vector(unit).as_pointer()), align=1)


def _store(builder: Any, value: Any, address: Any, past: Any) -> None:
    place = builder.inttoptr(address, value.type.as_pointer())
    with builder.if_else(builder.icmp_signed("!=", past, _INDEX(0))) as (around, through):
        with around:
            store = builder.store(value, place, align=LINE)
            store.set_metadata("nontemporal", builder.module.add_metadata([_NUMBER(1)]))
        with through:
            builder.store(value, place, align=1)


def _keys(builder: Any, values: Any, magnitude: Any, ceiling: Any) -> Any:
    keys, top = builder.and_(values, _splat(builder, magnitude)), _splat(builder, ceiling)
    return builder.select(builder.icmp_signed("<", keys, top), keys, top)


def _marked(builder: Any, marks: Any, count: int) -> Any:
    """Which of so many bytes at the address are not 0, as an integer of a bit each."""
    kind = ir.VectorType(ir.IntType(8), count)
    there = builder.load(builder.inttoptr(marks, kind.as_pointer()), align=1)
    return builder.bitcast(builder.icmp_signed("!=", there, ir.Constant(kind, [0] * count)), ir.IntType(count))


@intrinsic
@no_type_check
def keep_line(context, x, y, bits, threshold, cut, magnitude, ceiling, past):
    """Copy the entries from x to y whose key is at least `threshold`, from entry `cut` on above it; +0.0 for others.

    Where there is an address `bits`, a bit an entry goes there; `cut` is from 0 to the entries of a line.
    """

    def generate(context, builder, signature, arguments):
        x, y, bits, threshold, cut, magnitude, ceiling, past = arguments
        values = _load(builder, x, threshold.type)
        kind = values.type
        order = ir.Constant(kind, list(range(kind.count)))
        before = builder.icmp_signed("<", order, _splat(builder, builder.trunc(cut, threshold.type)))
        least = _splat(builder, threshold)
        least = builder.select(before, least, builder.add(least, ir.Constant(kind, [1] * kind.count)))
        kept = builder.icmp_signed(">=", _keys(builder, values, magnitude, ceiling), least)
        _store(builder, builder.select(kept, values, ir.Constant(kind, [0] * kind.count)), y, past)
        with builder.if_then(builder.icmp_signed("!=", bits, _INDEX(0))):
            word = ir.IntType(kind.count)
            builder.store(builder.bitcast(kept, word), builder.inttoptr(bits, word.as_pointer()))
        return context.get_dummy_value()

    whole = types.int64
    return types.void(whole, whole, whole, threshold, whole, threshold, threshold, whole), generate


@intrinsic
@no_type_check
def select_line(context, x, y, bits, unit, past):
    """Copy the entries of the type of `unit` from x to y whose bit is set, +0.0 for the others."""

    def generate(context, builder, signature, arguments):
        x, y, bits, unit, past = arguments
        values = _load(builder, x, unit.type)
        kind = values.type
        word = builder.load(builder.inttoptr(bits, ir.IntType(kind.count).as_pointer()))
        kept = builder.bitcast(word, ir.VectorType(ir.IntType(1), kind.count))
        _store(builder, builder.select(kept, values, ir.Constant(kind, [0] * kind.count)), y, past)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, unit, types.int64), generate


@intrinsic
@no_type_check
def reaching(context, x, forced, bound, magnitude, ceiling):
    """Which keys of a line are at least `bound`: a bit an entry. Where `forced`, a byte an entry, is 1, any key is."""

    def generate(context, builder, signature, arguments):
        x, forced, bound, magnitude, ceiling = arguments
        keys = _keys(builder, _load(builder, x, bound.type), magnitude, ceiling)
        word = ir.IntType(keys.type.count)
        found = cgutils.alloca_once_value(
            builder, builder.bitcast(builder.icmp_signed(">=", keys, _splat(builder, bound)), word)
        )
        with builder.if_then(builder.icmp_signed("!=", forced, _INDEX(0))):
            builder.store(builder.or_(builder.load(found), _marked(builder, forced, word.width)), found)
        return builder.zext(builder.load(found), _INDEX)

    return types.int64(types.int64, types.int64, bound, bound, bound), generate


@intrinsic
@no_type_check
def any_reaching(context, x, forced, bound, magnitude):
    """Whether `reaching` is not 0 for any of GROUP lines; `bound` is at most the ceiling. One comparison for all."""

    def generate(context, builder, signature, arguments):
        x, forced, bound, magnitude = arguments
        largest = None
        for line in range(GROUP):
            values = _load(builder, builder.add(x, _INDEX(line * LINE)), bound.type)
            keys = builder.and_(values, _splat(builder, magnitude))
            larger = builder.icmp_signed(">", keys, keys if largest is None else largest)
            largest = keys if largest is None else builder.select(larger, keys, largest)
        count = largest.type.count
        bits = builder.bitcast(builder.icmp_signed(">=", largest, _splat(builder, bound)), ir.IntType(count))
        found = cgutils.alloca_once_value(builder, builder.icmp_signed("!=", bits, bits.type(0)))
        with builder.if_then(builder.icmp_signed("!=", forced, _INDEX(0))):
            marked = _marked(builder, forced, GROUP * count)
            marked = builder.icmp_signed("!=", marked, marked.type(0))
            builder.store(builder.or_(builder.load(found), marked), found)
        return builder.load(found)

    return types.boolean(types.int64, types.int64, bound, bound), generate


@intrinsic
@no_type_check
def clear_line(context, y, past):
    """+0.0 in a whole line."""

    def generate(context, builder, signature, arguments):
        kind = _vector(_NUMBER)
        _store(builder, ir.Constant(kind, [0] * kind.count), *arguments)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@intrinsic
@no_type_check
def prefetch(context, address):
    """Have the line at the address, which need not exist, brought into the second cache."""

    def generate(context, builder, signature, arguments):
        byte = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, _NUMBER, _NUMBER, _NUMBER])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        read, second_cache, data = _NUMBER(0), _NUMBER(2), _NUMBER(1)
        builder.call(function, [builder.inttoptr(arguments[0], byte), read, second_cache, data])
        return context.get_dummy_value()

    return types.void(types.int64), generate
