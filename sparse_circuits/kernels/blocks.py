"""Vector code for sparse products: blocks of 16 x 16 floats turned in registers, sums that stay in registers.

LLVM makes vector code of simple loops, but neither keeps sums in registers while a loop walks over nonzeros nor turns
rows into columns there. So these are written as its instructions:

1. `transpose`: a block from one place to another, rows become columns; `transpose_marking` notes NaN and infinity,
   `transpose_past_cache` writes around the cache. A loop over single floats would take longer than the products.
2. `accumulate`: the sum of some lines of 32 floats, each times a factor.
3. `multiply_lines`, `fold`: the dot products of 16 pairs of lines of 64 floats.
4. `nonzero_bits`, `bit_count`, `lowest_bit`: which of 16 floats are not zero, how many bits are set, which is first.

A block is turned in four stages. Each takes pairs of vectors, a certain distance apart, and makes two of each pair: one
of every other unit of both, and one of the rest; units are 1 and 2 floats inside each quarter of 4, then quarters.

Memory is given by addresses in bytes, strides by numbers of floats.
"""

from typing import Any, no_type_check

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from sparse_circuits.kernels.sizes import LANES, LINE, LONG_LINE

_INDEX = ir.IntType(64)
_FLOAT = ir.FloatType()
_VECTOR = ir.VectorType(_FLOAT, LANES)
_FUSED = ("contract",)


def _in_quarters(*lanes: int) -> list[int]:
    """The same choice of lanes in each quarter; 16 and above are the second vector's."""
    return [start + lane for start in range(0, LANES, 4) for lane in lanes]


def _of_quarters(*quarters: int) -> list[int]:
    return [4 * quarter + lane for quarter in quarters for lane in range(4)]


_STAGES = (
    (_in_quarters(0, 16, 1, 17), _in_quarters(2, 18, 3, 19)),
    (_in_quarters(0, 1, 16, 17), _in_quarters(2, 3, 18, 19)),
    (_of_quarters(0, 2, 4, 6), _of_quarters(1, 3, 5, 7)),
    (_of_quarters(0, 2, 4, 6), _of_quarters(1, 3, 5, 7)),
)


def _pick(builder: Any, left: Any, right: Any, lanes: list[int]) -> Any:
    return builder.shuffle_vector(left, right, ir.Constant(ir.VectorType(ir.IntType(32), LANES), lanes))


def _turned(builder: Any, rows: list[Any]) -> list[Any]:
    """The columns of 16 rows."""
    for stage, choices in enumerate(_STAGES):
        distance, merged = 1 << stage, list(rows)
        for row in range(LANES):
            if row & distance == 0:
                for place, lanes in zip((row, row + distance), choices, strict=True):
                    merged[place] = _pick(builder, rows[row], rows[row + distance], lanes)
        rows = merged
    # The first stage told columns 0 and 1 from 2 and 3, the second told 0 from 1.
    return [rows[group + place] for group in range(0, LANES, 4) for place in (0, 2, 1, 3)]


def _at(builder: Any, address: Any, count: Any, kind: Any = _VECTOR) -> Any:
    """A pointer to what lies `count` floats, a number or a value, after the address."""
    count = count if isinstance(count, ir.Value) else _INDEX(count)
    return builder.inttoptr(builder.add(address, builder.mul(count, _INDEX(4))), kind.as_pointer())


def _load(builder: Any, address: Any, count: Any = 0) -> Any:
    return builder.load(_at(builder, address, count), align=4)


def _store(builder: Any, value: Any, address: Any, count: Any = 0, align: int = 4) -> Any:
    return builder.store(value, _at(builder, address, count), align=align)


def _multiply_add(builder: Any, left: Any, right: Any, added: Any) -> Any:
    return builder.fadd(builder.fmul(left, right, flags=_FUSED), added, flags=_FUSED)


def _splat(builder: Any, value: Any) -> Any:
    first = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), value, ir.IntType(32)(0))
    return _pick(builder, first, first, [0] * LANES)


def _transpose(marks: bool, past_cache: bool) -> Any:
    """A compiled copy of a block, called with source, source_step, last, target, target_step, mark.

    Rows after row `last` are read as this one. `marks`: a column in which there is NaN or infinity turns its place in
    the vector at `mark` into NaN. `past_cache`: the target is aligned to 64 bytes and not needed soon.
    """

    @intrinsic
    @no_type_check
    def copy(context, source, source_step, last, target, target_step, mark):
        return types.void(*[types.int64] * 6), generate

    @no_type_check
    def generate(context, builder, signature, arguments):
        source, source_step, last, target, target_step, mark = arguments
        rows = []
        for row in map(_INDEX, range(LANES)):
            row = builder.select(builder.icmp_signed("<", row, last), row, last)
            rows.append(_load(builder, source, builder.mul(source_step, row)))
        columns = _turned(builder, rows)
        if marks:
            zero = ir.Constant(_VECTOR, [0.0] * LANES)
            # Four sums side by side: each addition waits for the one before.
            sums = [_load(builder, mark), zero, zero, zero]
            for number, column in enumerate(columns):
                sums[number % 4] = _multiply_add(builder, column, zero, sums[number % 4])
            _store(builder, builder.fadd(builder.fadd(*sums[:2]), builder.fadd(*sums[2:])), mark)
        for number, column in enumerate(columns):
            place = builder.mul(target_step, _INDEX(number))
            store = _store(builder, column, target, place, 64 if past_cache else 4)
            if past_cache:
                store.set_metadata("nontemporal", builder.module.add_metadata([ir.IntType(32)(1)]))
        return context.get_dummy_value()

    return copy


transpose = _transpose(False, False)
transpose_marking = _transpose(True, False)
transpose_past_cache = _transpose(False, True)


@intrinsic
@no_type_check
def accumulate(context, lines, number, factor, start, stop, begin, target):
    """target = begin + the sum of factor[entry] * line number[entry], for entries from start to stop.

    `number` are int32, `factor` and `begin` float32; lines and target are LINE floats each.
    """
    whole = types.int64

    def generate(context, builder, signature, arguments):
        lines, number, factor, start, stop, begin, target = arguments
        sums = [cgutils.alloca_once_value(builder, _splat(builder, begin)) for _ in range(0, LINE, LANES)]
        with cgutils.for_range_slice(builder, start, stop, _INDEX(1)) as (entry, _):
            which = builder.zext(builder.load(_at(builder, number, entry, ir.IntType(32))), _INDEX)
            line = builder.add(lines, builder.mul(which, _INDEX(4 * LINE)))
            weight = _splat(builder, builder.load(_at(builder, factor, entry, _FLOAT)))
            for part, place in enumerate(sums):
                added = _multiply_add(builder, _load(builder, line, part * LANES), weight, builder.load(place))
                builder.store(added, place)
        for part, place in enumerate(sums):
            _store(builder, builder.load(place), target, part * LANES)
        return context.get_dummy_value()

    return types.void(whole, whole, whole, whole, whole, types.float32, whole), generate


@intrinsic
@no_type_check
def multiply_lines(context, left, right, target):
    """A vector whose lanes sum up to the dot product of two lines of LONG_LINE floats."""

    def generate(context, builder, signature, arguments):
        left, right, target = arguments
        total = ir.Constant(_VECTOR, [0.0] * LANES)
        for part in range(0, LONG_LINE, LANES):
            total = _multiply_add(builder, _load(builder, left, part), _load(builder, right, part), total)
        _store(builder, total, target)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


@intrinsic
@no_type_check
def fold(context, vectors, target):
    """The sums of the lanes of each of 16 vectors, added to the 16 floats at the target."""

    def generate(context, builder, signature, arguments):
        vectors, target = arguments
        rows = [_load(builder, vectors, row * LANES) for row in range(LANES)]
        for choices in _STAGES:
            pairs = zip(rows[::2], rows[1::2], strict=True)
            rows = [builder.fadd(*(_pick(builder, *pair, lanes) for lanes in choices)) for pair in pairs]
        _store(builder, builder.fadd(_load(builder, target), rows[0]), target)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@intrinsic
@no_type_check
def nonzero_bits(context, address):
    """One bit for each of the 16 floats at the address, the first lowest: whether it is not zero. NaN is not."""

    def generate(context, builder, signature, arguments):
        floats = _load(builder, arguments[0])
        unequal = builder.fcmp_unordered("!=", floats, ir.Constant(_VECTOR, [0.0] * LANES))
        return builder.zext(builder.bitcast(unequal, ir.IntType(LANES)), _INDEX)

    return types.int64(types.int64), generate


@intrinsic
@no_type_check
def bit_count(context, bits):
    """How many bits of an int64 are set."""

    def generate(context, builder, signature, arguments):
        return builder.ctpop(arguments[0])

    return types.int64(types.int64), generate


@intrinsic
@no_type_check
def lowest_bit(context, bits):
    """The number of the lowest bit that is set; there is one."""

    def generate(context, builder, signature, arguments):
        return builder.cttz(arguments[0], ir.IntType(1)(1))

    return types.int64(types.int64), generate
